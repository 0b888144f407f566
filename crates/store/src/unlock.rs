//! Where the passphrase or key that opens a vault comes from, without a person if possible.
//!
//! The first source that is *set* decides. If it fails, that is the error and names the source: a passphrase file that
//! cannot be read is never passed over for a prompt, since that would hide what is broken until nobody is there.

#![allow(clippy::disallowed_methods, reason = "looks for what opens a vault, not at the vault")]

mod command;
mod descriptor;
mod for_new;
mod identity;
mod permissions;
mod read;
mod report;
mod source;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokenkeep_secret::Secret;

use self::permissions::Trust;
use self::read::Reason;
pub use self::report::{SourceReport, SourceState};
use self::source::ask;
pub use self::source::{KnownWays, Prompt, Question, Source};
#[cfg(feature = "plugin")]
use crate::vault::Plugins;
use crate::vault::keychain;
use crate::vault::{Keychain, Opener, Unlock};
use crate::{Environment, StoreError};

/// The variables that a child process must not inherit: they open the vault. `CREDENTIALS_DIRECTORY` is not among
/// them, since it is the service manager's and may hold credentials of the child's own.
pub const UNLOCK_VARIABLES: [&str; 5] =
    [IDENTITY, PASSPHRASE_FD, PASSPHRASE_FILE, PASSPHRASE_COMMAND, PASSPHRASE];

const IDENTITY: &str = "TOKENKEEP_IDENTITY";
const PASSPHRASE_FD: &str = "TOKENKEEP_PASSPHRASE_FD";
const PASSPHRASE_FILE: &str = "TOKENKEEP_PASSPHRASE_FILE";
const PASSPHRASE_COMMAND: &str = "TOKENKEEP_PASSPHRASE_COMMAND";
const PASSPHRASE: &str = "TOKENKEEP_PASSPHRASE";
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
const CREDENTIAL_IDENTITY: &str = "tokenkeep-identity";
const CREDENTIAL_PASSPHRASE: &str = "tokenkeep-passphrase";

/// How long a command may run, or a pipe may stay open.
const LIMIT: Duration = Duration::from_secs(30);

/// The places where a passphrase or key is looked for, in their order.
///
/// ```
/// use tokenkeep_store::{Environment, Source, Sources};
///
/// // What the environment says, and a file before it.
/// let sources = Sources::new(Environment::process())
///     .given("--passphrase-file", Source::PassphraseFile("/run/secrets/vault".into()));
/// # drop(sources);
/// ```
#[derive(Clone, Debug)]
pub struct Sources {
    given: Option<(String, Source)>,
    environment: Environment,
    config: Vec<(String, Source)>,
    keychain: Result<Arc<dyn Keychain>, String>,
    prompt: Result<Arc<dyn Prompt>, String>,
    limit: Duration,
}

impl Sources {
    /// Those that `environment` names, and no keychain or prompt.
    pub fn new(environment: Environment) -> Self {
        Self {
            given: None,
            environment,
            config: Vec::new(),
            keychain: Err("not in use here".into()),
            prompt: Err("nobody to ask".into()),
            limit: LIMIT,
        }
    }

    /// Puts `source` before all others. `name` says where it was given, such as `--identity`.
    #[must_use]
    pub fn given(mut self, name: impl Into<String>, source: Source) -> Self {
        self.given = Some((name.into(), source));
        self
    }

    /// Adds a source from a configuration file, behind those added before. `name` says where it stands, such as
    /// `passphrase_file in /etc/tokenkeep/config.toml`.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, source: Source) -> Self {
        self.config.push((name.into(), source));
        self
    }

    /// Uses `keychain` where the vault has a way in of its kind.
    #[must_use]
    pub fn keychain(mut self, keychain: Arc<dyn Keychain>) -> Self {
        self.keychain = Ok(keychain);
        self
    }

    /// Uses no keychain, and says `reason` when nothing else serves.
    #[must_use]
    pub fn without_keychain(mut self, reason: impl Into<String>) -> Self {
        self.keychain = Err(reason.into());
        self
    }

    /// Asks a person by `prompt` where nothing else is set.
    #[must_use]
    pub fn prompt(mut self, prompt: Arc<dyn Prompt>) -> Self {
        self.prompt = Ok(prompt);
        self
    }

    /// Asks nobody, and says `reason` when nothing else serves: `no terminal`, `--no-input`.
    #[must_use]
    pub fn without_prompt(mut self, reason: impl Into<String>) -> Self {
        self.prompt = Err(reason.into());
        self
    }

    /// Waits at most `limit` for a command or a pipe, instead of 30 s.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// What opens the vault at `vault`. Reads the first source that is set, and only that: a descriptor is used up, a
    /// command runs. What ways in the vault has is asked for only where nothing is set but keychain and prompt.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnlockSource`] if that source cannot be used, [`StoreError::NoUnlockSource`] if none is set;
    /// [`StoreError::Keychain`] if only the keychain could serve and it cannot be reached; those of `ways`.
    pub fn unlock(
        &self,
        vault: &Path,
        ways: impl FnOnce() -> Result<KnownWays, StoreError>,
    ) -> Result<Unlock, StoreError> {
        let mut looked_at = self.candidates();
        if let Some((name, place)) = first_set(&looked_at) {
            return self.fetch(name, place, Question::Existing(vault));
        }
        let ways = ways()?;
        match self.kept_by_keychain(ways) {
            Ok(unlock) => return Ok(unlock),
            // The only way in may be the keychain's: what is wrong with it is the error.
            Err(NotKept::Unreachable(error)) if !ways.passphrase => return Err(error),
            Err(NotKept::Unreachable(error)) => looked_at.push(Candidate::not_set(KEYCHAIN, reason(&error))),
            Err(NotKept::Reason(reason)) => looked_at.push(Candidate::not_set(KEYCHAIN, reason)),
        }
        looked_at.push(self.prompt_candidate(ways.passphrase));
        match first_set(&looked_at) {
            Some((name, place)) => self.fetch(name, place, Question::Existing(vault)),
            None => Err(StoreError::NoUnlockSource { tried: report::tried(&looked_at) }),
        }
    }

    /// What is looked at to open a vault with ways in of these kinds, which source decides, and why those before it
    /// do not. Reads no secret and asks nobody. `None` is a vault that is still to be made.
    pub fn report(&self, ways: Option<KnownWays>) -> Vec<SourceReport> {
        let mut looked_at = self.candidates();
        // For a new vault both are open to be chosen.
        looked_at.push(match &self.keychain {
            _ if ways.is_some_and(|ways| !ways.public_key) => Candidate::not_set(KEYCHAIN, NO_SUCH_WAY),
            Ok(keychain) => Candidate::set(KEYCHAIN, Place::Keychain(Arc::clone(keychain))),
            Err(reason) => Candidate::not_set(KEYCHAIN, reason),
        });
        looked_at.push(self.prompt_candidate(ways.is_none_or(|ways| ways.passphrase)));
        report::of(&looked_at)
    }

    /// All sources but keychain and prompt, in their order.
    fn candidates(&self) -> Vec<Candidate> {
        let mut all = Vec::new();
        if let Some((name, source)) = &self.given {
            all.push(Candidate::set(name, Place::Source(source.clone(), Trust::Mode)));
        }
        // The agent takes its place here: behind what was given, before the environment.
        all.push(self.variable(IDENTITY, |path| Place::file(path, Source::IdentityFile)));
        all.extend(self.credentials());
        all.push(self.variable(PASSPHRASE_FD, Place::Descriptor));
        all.push(self.variable(PASSPHRASE_FILE, |path| Place::file(path, Source::PassphraseFile)));
        all.push(self.variable(PASSPHRASE_COMMAND, |command| {
            Place::Source(Source::PassphraseCommand(command), Trust::Mode)
        }));
        all.push(self.variable(PASSPHRASE, |value| Place::Value(Secret::new(value.into_encoded_bytes()))));
        for (name, source) in &self.config {
            all.push(Candidate::set(name, Place::Source(source.clone(), Trust::Mode)));
        }
        all
    }

    fn variable(&self, name: &'static str, place: impl FnOnce(OsString) -> Place) -> Candidate {
        match self.environment.var(name) {
            Some(value) => Candidate::set(name, place(value)),
            None => Candidate::not_set(name, "not set"),
        }
    }

    /// The credentials that a service manager passes by files in a folder.
    fn credentials(&self) -> Vec<Candidate> {
        let Some(folder) = self.environment.var(CREDENTIALS).filter(|folder| !folder.is_empty()) else {
            return vec![Candidate::not_set("$CREDENTIALS_DIRECTORY", "not set")];
        };
        let credential = |file: &str, source: fn(PathBuf) -> Source| {
            let name = format!("$CREDENTIALS_DIRECTORY/{file}");
            let path = Path::new(&folder).join(file);
            match path.symlink_metadata() {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    Candidate::not_set(&name, "not there")
                }
                // Reading it will tell what else is wrong.
                _ => Candidate::set(&name, Place::Source(source(path), Trust::ServiceManager)),
            }
        };
        vec![
            credential(CREDENTIAL_IDENTITY, Source::IdentityFile),
            credential(CREDENTIAL_PASSPHRASE, Source::PassphraseFile),
        ]
    }

    /// The key that the keychain holds for the vault. Whether one of its public keys is the keychain's is sealed in the
    /// vault, so the keychain has to be asked.
    fn kept_by_keychain(&self, ways: KnownWays) -> Result<Unlock, NotKept> {
        if !ways.public_key {
            return Err(NotKept::Reason(NO_SUCH_WAY.into()));
        }
        let keychain = self.keychain.as_ref().map_err(|reason| NotKept::Reason(reason.clone()))?;
        match keychain.load(ways.key_id) {
            Ok(Some(identity)) => Ok(Unlock::new(Opener::Identity(identity), KEYCHAIN)),
            Ok(None) => {
                Err(NotKept::Reason(format!("it holds no key for this vault; {}", keychain::DELETED)))
            }
            Err(error) => Err(NotKept::Unreachable(error)),
        }
    }

    fn prompt_candidate(&self, passphrase: bool) -> Candidate {
        match &self.prompt {
            _ if !passphrase => Candidate::not_set(PROMPT, "the vault has no way in by passphrase"),
            Ok(prompt) => Candidate::set(PROMPT, Place::Prompt(Arc::clone(prompt))),
            Err(reason) => Candidate::not_set(PROMPT, reason),
        }
    }

    /// The source that decides, if that is one and it reads standard input, which can be read once. Reads nothing.
    pub fn reads_standard_input(&self) -> Option<String> {
        let looked_at = self.candidates();
        let (name, place) = first_set(&looked_at)?;
        let reads = match place {
            Place::Descriptor(number) => descriptor::is_standard_input(number),
            Place::Source(Source::IdentityFile(path) | Source::PassphraseFile(path), _) => {
                read::is_standard_input(path)
            }
            _ => false,
        };
        reads.then(|| name.to_owned())
    }

    fn fetch(&self, name: &str, place: &Place, question: Question<'_>) -> Result<Unlock, StoreError> {
        // Before anything is started that would inherit it: a passphrase command now, an age plugin later.
        if let Some(number) = self.environment.var(PASSPHRASE_FD) {
            descriptor::withhold(&number);
        }
        let opener = match place {
            Place::Source(source, trust) => self.read(source, *trust),
            Place::Descriptor(number) => descriptor::contents(number, self.limit).map(Opener::Passphrase),
            Place::Value(value) => read::usable(value.clone(), read::MAX_BYTES).map(Opener::Passphrase),
            Place::Keychain(keychain) => Ok(Opener::Keychain(Arc::clone(keychain))),
            Place::Prompt(prompt) => ask(prompt.as_ref(), question).map(Opener::Passphrase),
        };
        match opener {
            Ok(opener) => Ok(self.unlocking(opener, name)),
            Err(reason) => Err(StoreError::UnlockSource { name: name.to_owned(), reason }),
        }
    }

    /// What opens a vault, with what its age plugins may need: where they are, whom to ask, how long to wait.
    fn unlocking(&self, opener: Opener, name: &str) -> Unlock {
        let unlock = Unlock::new(opener, name);
        #[cfg(feature = "plugin")]
        let unlock = unlock.plugins(Plugins {
            path: self.environment.var("PATH"),
            person: self.prompt.clone(),
            limit: self.limit,
        });
        unlock
    }

    fn read(&self, source: &Source, trust: Trust) -> Result<Opener, Reason> {
        match source {
            Source::Passphrase(passphrase) => {
                read::limits(passphrase.expose(), read::MAX_BYTES)?;
                Ok(Opener::Passphrase(passphrase.clone()))
            }
            Source::PassphraseFile(path) => {
                read::file(path, trust, read::MAX_BYTES, self.limit).map(Opener::Passphrase)
            }
            Source::PassphraseCommand(command) => {
                command::output(command, self.limit, &UNLOCK_VARIABLES).map(Opener::Passphrase)
            }
            Source::Identity(text) => {
                read::limits(text.expose().as_bytes(), read::MAX_KEY_BYTES)?;
                identity::text(&Secret::from(text.clone())).map(Opener::Identity)
            }
            Source::IdentityFile(path) => {
                let bytes = read::file(path, trust, read::MAX_KEY_BYTES, self.limit)?;
                identity::text(&bytes)
                    .map(Opener::Identity)
                    .map_err(|reason| format!("{}: {reason}", path.display()))
            }
            Source::Keychain(keychain) => Ok(Opener::Keychain(Arc::clone(keychain))),
        }
    }
}

/// What is in the file at `path`, of at most `longest` bytes and without one newline at its end: a secret that is not
/// what opens the vault now, from a file that is judged as those that do. `name` says where the path was given, such as
/// `--new-passphrase-file`. A pipe is given 30 s to be filled.
///
/// # Errors
///
/// [`StoreError::UnlockSource`] if it cannot be read, is empty or too long, or if others can read or change it.
pub fn read_secret_file(name: &str, path: &Path, longest: usize) -> Result<Secret, StoreError> {
    read::file(path, Trust::Mode, longest, LIMIT)
        .map_err(|reason| StoreError::UnlockSource { name: name.to_owned(), reason })
}

/// Whether `path` is one of the system's names for standard input, which can be read once.
pub fn is_standard_input(path: &Path) -> bool {
    read::is_standard_input(path)
}

const KEYCHAIN: &str = "the OS keychain";
const PROMPT: &str = "the terminal";
const NO_SUCH_WAY: &str = "the vault has no way in of its kind";

/// Why the keychain does not serve.
enum NotKept {
    Reason(Reason),
    Unreachable(StoreError),
}

/// What is wrong, without the advice that comes with it.
fn reason(error: &StoreError) -> Reason {
    match error {
        StoreError::Keychain { reason } => reason.clone(),
        other => other.to_string(),
    }
}

/// A source, and whether it is set.
#[derive(Debug)]
struct Candidate {
    name: String,
    /// Where to fetch it, or why it is not set.
    place: Result<Place, Reason>,
}

impl Candidate {
    fn set(name: &str, place: Place) -> Self {
        Self { name: name.to_owned(), place: Ok(place) }
    }

    fn not_set(name: &str, reason: impl Into<Reason>) -> Self {
        Self { name: name.to_owned(), place: Err(reason.into()) }
    }
}

/// Where a source that is set is fetched from.
#[derive(Debug)]
enum Place {
    Source(Source, Trust),
    Descriptor(OsString),
    Value(Secret),
    /// Whether it serves shows only when it is asked.
    Keychain(Arc<dyn Keychain>),
    Prompt(Arc<dyn Prompt>),
}

impl Place {
    fn file(path: OsString, source: fn(PathBuf) -> Source) -> Self {
        Self::Source(source(path.into()), Trust::Mode)
    }
}

fn first_set(looked_at: &[Candidate]) -> Option<(&str, &Place)> {
    looked_at.iter().find_map(|candidate| Some((candidate.name.as_str(), candidate.place.as_ref().ok()?)))
}
