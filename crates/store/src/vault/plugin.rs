//! Keys that age plugins hold (<https://c2sp.org/age-plugin>): programs named `age-plugin-NAME` on the PATH.
//!
//! The age crate has a client for them, which is not used here: it hands the plugin every variable of this process, the
//! vault's passphrase among them, waits for it without end, and never reaps it.

mod dialogue;
mod process;
mod wire;

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use age::{DecryptError, EncryptError};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::bech32_decode;
use age_core::secrecy::ExposeSecret;
use tokenkeep_secret::SecretString;

use self::dialogue::{Dialogue, Machine};
use super::unwrap::may_be_a_plugins;
use crate::Prompt;

/// What a plugin did wrong, in words that begin with its program's name or are to be put behind it.
pub(crate) type Reason = String;

/// How long a plugin may take, but for the time in which a person answers it.
const LIMIT: Duration = Duration::from_secs(30);
const RECIPIENT_PREFIX: &str = "age1";
const IDENTITY_PREFIX: &str = "AGE-PLUGIN-";

/// Where plugins are found, whom they may ask, and how long they may take.
#[derive(Clone)]
pub(crate) struct Plugins {
    /// The folders to look in, as in `PATH`.
    pub(crate) path: Option<OsString>,
    /// Who answers, or why nobody does.
    pub(crate) person: Result<Arc<dyn Prompt>, Reason>,
    pub(crate) limit: Duration,
}

impl Default for Plugins {
    /// Those on this process's PATH, with nobody to ask.
    fn default() -> Self {
        Self { path: std::env::var_os("PATH"), person: Err("nobody to ask".into()), limit: LIMIT }
    }
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugins").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Plugins {
    /// The program of the plugin `name`. Folders of the PATH that are relative are passed over: what stands in the
    /// current folder is not what was installed.
    fn find(&self, name: &str) -> Result<PathBuf, Reason> {
        let program = program(name);
        std::env::split_paths(self.path.as_deref().unwrap_or_default())
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(&program))
            .find(|candidate| is_executable(candidate))
            .ok_or_else(|| format!("{program} is not on the PATH: install it there, for this user too"))
    }

    /// The file key that `stanza` wraps, if it is wrapped to one of `identities`, which are all of one plugin.
    pub(super) fn unwrap<'a>(
        &self,
        identities: &[&Identity],
        stanza: &'a Stanza,
    ) -> Result<Option<Unwrapped<'a>>, Reason> {
        let Some(first) = identities.first() else { return Ok(None) };
        let mut talk = Dialogue::start(self, &first.name, Machine::Identity)?;
        for identity in identities {
            talk.send("add-identity", &[identity.text.expose()], &[]);
        }
        let args: Vec<_> =
            ["0", stanza.tag.as_str()].into_iter().chain(stanza.args.iter().map(String::as_str)).collect();
        talk.send("recipient-stanza", &args, &stanza.body);
        talk.send("done", &[], &[]);

        let mut file_key = None;
        while let Some(command) = talk.next()? {
            match (command.tag(), command.args()) {
                ("file-key", [file]) if file == "0" && file_key.is_none() => {
                    if command.body.len() != FILE_KEY_BYTES {
                        return Err(talk.nonsense());
                    }
                    file_key = Some(FileKey::init_with_mut(|key| key.copy_from_slice(&command.body)));
                    talk.send("ok", &[], &[]);
                }
                ("file-key", _) => return Err(talk.nonsense()),
                _ => talk.unsupported(),
            }
        }
        match file_key {
            Some(key) => {
                let program = talk.program().to_owned();
                Ok(Some(Unwrapped { program, stanza, key: RefCell::new(Some(key)) }))
            }
            None => talk.failure().map_or(Ok(None), Err),
        }
    }

    /// The one stanza that wraps `file_key` to `target`, and its labels.
    fn wrap(&self, target: &Target, file_key: &FileKey) -> Result<(Stanza, HashSet<String>), Reason> {
        let mut talk = Dialogue::start(self, target.name(), Machine::Recipient)?;
        match target {
            Target::Recipient(recipient) => talk.send("add-recipient", &[&recipient.text], &[]),
            Target::Identity(identity) => talk.send("add-identity", &[identity.text.expose()], &[]),
        }
        talk.send("extension-labels", &[], &[]);
        talk.send("wrap-file-key", &[], file_key.expose_secret());
        talk.send("done", &[], &[]);

        let (mut stanzas, mut labels) = (Vec::new(), None);
        while let Some(command) = talk.next()? {
            match (command.tag(), command.args()) {
                ("recipient-stanza", [file, tag, args @ ..]) if file == "0" => {
                    stanzas.push(Stanza {
                        tag: tag.clone(),
                        args: args.to_vec(),
                        body: command.body.to_vec(),
                    });
                    talk.send("ok", &[], &[]);
                }
                ("labels", all) if labels.is_none() => {
                    labels = Some(all.iter().cloned().collect());
                    talk.send("ok", &[], &[]);
                }
                ("recipient-stanza" | "labels", _) => return Err(talk.nonsense()),
                _ => talk.unsupported(),
            }
        }
        if let Some(failure) = talk.failure().filter(|_| stanzas.is_empty() || talk.reported()) {
            return Err(failure);
        }
        let program = talk.program();
        // One stanza a way in, so that taking a way in away takes away one key.
        let made = stanzas.len();
        let (Some(stanza), 1) = (stanzas.pop(), made) else {
            return Err(format!("{program} made {made} stanzas for one key, and a way in holds exactly one"));
        };
        if !may_be_a_plugins(&stanza.tag) {
            return Err(format!("{program} made a stanza of a kind that is not a plugin's"));
        }
        Ok((stanza, labels.unwrap_or_default()))
    }
}

/// A file key that a plugin unwrapped, for age.
pub(super) struct Unwrapped<'a> {
    program: String,
    stanza: &'a Stanza,
    key: RefCell<Option<FileKey>>,
}

impl Unwrapped<'_> {
    pub(super) fn program(&self) -> &str {
        &self.program
    }
}

impl age::Identity for Unwrapped<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza == self.stanza { self.key.borrow_mut().take().map(Ok) } else { None }
    }
}

/// What a plugin wraps to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Recipient(Recipient),
    /// The recipient of this identity, which the plugin knows.
    Identity(Identity),
}

impl Target {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Recipient(recipient) => &recipient.name,
            Self::Identity(identity) => &identity.name,
        }
    }
}

/// A recipient that a plugin wraps to, for age.
pub(super) struct Wrapping<'a> {
    plugins: &'a Plugins,
    target: &'a Target,
    /// What went wrong, since age's error cannot carry it.
    failure: RefCell<Option<Reason>>,
}

impl<'a> Wrapping<'a> {
    pub(super) fn new(plugins: &'a Plugins, target: &'a Target) -> Self {
        Self { plugins, target, failure: RefCell::new(None) }
    }

    pub(super) fn failure(self) -> Option<Reason> {
        self.failure.into_inner()
    }
}

impl age::Recipient for Wrapping<'_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        match self.plugins.wrap(self.target, file_key) {
            Ok((stanza, labels)) => Ok((vec![stanza], labels)),
            Err(reason) => {
                *self.failure.borrow_mut() = Some(reason);
                Err(EncryptError::Io(std::io::Error::other("the plugin failed")))
            }
        }
    }
}

/// `age1NAME1…`
#[derive(Clone, Debug)]
pub(super) struct Recipient {
    name: String,
    text: String,
}

impl Recipient {
    /// Reads a recipient, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let name = name_in(text, |prefix| Some(prefix.strip_prefix(RECIPIENT_PREFIX)?.to_owned()))?;
        Ok(Self { name, text: text.to_owned() })
    }

    /// As it was given.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// `AGE-PLUGIN-NAME-1…`, which may be a secret or only name one.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    name: String,
    text: SecretString,
}

impl Identity {
    /// Reads an identity, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let name = name_in(text, |prefix| {
            Some(prefix.strip_prefix(IDENTITY_PREFIX)?.strip_suffix('-')?.to_lowercase())
        })?;
        Ok(Self { name, text: SecretString::from(text) })
    }

    /// The plugin's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The program of the plugin `name`.
pub(super) fn program(name: &str) -> String {
    format!("age-plugin-{name}")
}

/// The plugin's name in what stands before the last `1` of `text`, whose checksum must be right.
fn name_in(text: &str, name: impl Fn(&str) -> Option<String>) -> Result<String, Reason> {
    let valid = |name: &str| {
        let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
        !name.is_empty() && name.bytes().all(may_be)
    };
    bech32_decode(
        text,
        |_| "its checksum is wrong: a character is missing or mistyped".to_owned(),
        |_| Ok(()),
        // What it says is the plugin's to read.
        |prefix, _| {
            let named = name(prefix.as_str()).filter(|name| valid(name));
            named.ok_or_else(|| "it names no age plugin".to_owned())
        },
    )
}

#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "looks for a program, not at the vault")]
fn is_executable(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &std::path::Path) -> bool {
    path.is_file()
}
