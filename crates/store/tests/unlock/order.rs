//! Which source decides, and what is said of the others.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokenkeep_store::{
    Environment, Keychain, KnownWays, Prompt, Secret, Source, SourceState, Sources, StoreError,
};

use crate::doubles::{Answers, Chain, Folder, VAULT, any, found, identity};

/// Everything set at once, so that taking the first away shows the next.
struct Everything {
    folder: Folder,
    variables: Vec<(&'static str, OsString)>,
    given: Option<Source>,
    config: Vec<(&'static str, Source)>,
    ways: KnownWays,
    keychain: Arc<Chain>,
    prompt: Arc<Answers>,
}

impl Everything {
    fn new() -> Self {
        let folder = Folder::new();
        let credentials = folder.0.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        folder.file("credentials/tokenkeep-identity", identity(), 0o440);
        folder.file("credentials/tokenkeep-passphrase", "by credential\n", 0o444);
        let descriptor = folder.file("descriptor", "unused", 0o600);
        let variables = vec![
            ("TOKENKEEP_IDENTITY", folder.file("identity", identity(), 0o600).into()),
            ("CREDENTIALS_DIRECTORY", credentials.into()),
            // A number that nobody opens: which source decides is seen by its failure too.
            ("TOKENKEEP_PASSPHRASE_FD", "54321".into()),
            ("TOKENKEEP_PASSPHRASE_FILE", folder.file("passphrase", "by file\n", 0o600).into()),
            ("TOKENKEEP_PASSPHRASE_COMMAND", "echo by command".into()),
            ("TOKENKEEP_PASSPHRASE", "by variable".into()),
        ];
        fs::remove_file(descriptor).unwrap();
        Self {
            given: Some(Source::Passphrase(Secret::from(&b"by flag"[..]))),
            config: vec![
                (
                    "identity in config.toml",
                    Source::IdentityFile(folder.file("configured", identity(), 0o600)),
                ),
                (
                    "passphrase_file in config.toml",
                    Source::PassphraseFile(folder.file("p", "by config", 0o600)),
                ),
                (
                    "passphrase_command in config.toml",
                    Source::PassphraseCommand("echo by configured command".into()),
                ),
            ],
            folder,
            variables,
            ways: any(),
            keychain: Arc::new(Chain::Untouched),
            prompt: Answers::of(&["by hand"]),
        }
    }

    fn sources(&self) -> Sources {
        let mut sources = Sources::new(self.variables.iter().cloned().collect())
            .keychain(Arc::clone(&self.keychain) as Arc<dyn Keychain>)
            .prompt(Arc::clone(&self.prompt) as Arc<dyn Prompt>);
        if let Some(given) = &self.given {
            sources = sources.given("--passphrase-file", given.clone());
        }
        for (name, source) in &self.config {
            sources = sources.config(*name, source.clone());
        }
        sources
    }

    fn unset(&mut self, name: &str) {
        self.variables.retain(|(variable, _)| *variable != name);
    }

    /// The name of the source that decides, by what unlocking says and by what the report says, which must agree.
    fn decides(&self) -> String {
        let sources = self.sources();
        let reported: Vec<String> = sources
            .report(Some(self.ways))
            .into_iter()
            .filter(|source| matches!(source.state, SourceState::Decides | SourceState::Maybe))
            .map(|source| source.name)
            .collect();
        let name = match sources.unlock(Path::new(VAULT), || Ok(self.ways)) {
            Ok(unlock) => unlock.source,
            Err(StoreError::UnlockSource { name, .. }) => name,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(reported.first(), Some(&name));
        name
    }
}

#[test]
fn the_first_source_that_is_set_decides() {
    let mut all = Everything::new();
    let mut order = Vec::new();
    let mut take = |all: &Everything| order.push(all.decides());

    take(&all);
    all.given = None;
    take(&all);
    all.unset("TOKENKEEP_IDENTITY");
    take(&all);
    fs::remove_file(all.folder.0.path().join("credentials/tokenkeep-identity")).unwrap();
    take(&all);
    all.unset("CREDENTIALS_DIRECTORY");
    for name in ["TOKENKEEP_PASSPHRASE_FD", "TOKENKEEP_PASSPHRASE_FILE", "TOKENKEEP_PASSPHRASE_COMMAND"] {
        take(&all);
        all.unset(name);
    }
    take(&all);
    all.unset("TOKENKEEP_PASSPHRASE");
    while !all.config.is_empty() {
        take(&all);
        all.config.remove(0);
    }
    all.keychain = Arc::new(Chain::Holds(identity().into()));
    take(&all);
    all.ways.public_key = false;
    take(&all);

    assert_eq!(
        order,
        [
            "--passphrase-file",
            "TOKENKEEP_IDENTITY",
            "$CREDENTIALS_DIRECTORY/tokenkeep-identity",
            "$CREDENTIALS_DIRECTORY/tokenkeep-passphrase",
            "TOKENKEEP_PASSPHRASE_FD",
            "TOKENKEEP_PASSPHRASE_FILE",
            "TOKENKEEP_PASSPHRASE_COMMAND",
            "TOKENKEEP_PASSPHRASE",
            "identity in config.toml",
            "passphrase_file in config.toml",
            "passphrase_command in config.toml",
            "the OS keychain",
            "the terminal",
        ]
    );
    // The prompt came last, and was asked only then.
    assert_eq!(all.prompt.asked(), [format!("Existing({VAULT:?})")]);
}

#[test]
fn nothing_set_says_what_was_tried() {
    let sources =
        Sources::new(Environment::empty()).without_keychain("not in this build").without_prompt("--no-input");
    let Err(StoreError::NoUnlockSource { tried }) = sources.unlock(Path::new(VAULT), || Ok(any())) else {
        panic!()
    };
    assert_eq!(
        tried,
        "TOKENKEEP_IDENTITY, $CREDENTIALS_DIRECTORY, TOKENKEEP_PASSPHRASE_FD, TOKENKEEP_PASSPHRASE_FILE, \
         TOKENKEEP_PASSPHRASE_COMMAND, TOKENKEEP_PASSPHRASE (not set), the OS keychain (not in this build), \
         the terminal (--no-input)"
    );
    // What could serve, but not for this vault.
    let sources =
        Sources::new(Environment::empty()).keychain(Arc::new(Chain::Untouched)).prompt(Answers::of(&[]));
    let ways = KnownWays { passphrase: false, public_key: false, ..any() };
    let Err(StoreError::NoUnlockSource { tried }) = sources.unlock(Path::new(VAULT), || Ok(ways)) else {
        panic!()
    };
    assert!(tried.contains("the OS keychain (the vault has no way in of its kind)"), "{tried}");
    assert!(tried.contains("the terminal (the vault has no way in by passphrase)"), "{tried}");
}

#[test]
fn the_keychain_serves_if_it_holds_a_key_for_the_vault() {
    let unlock = |chain, passphrase, prompt: &Arc<Answers>| {
        Sources::new(Environment::empty())
            .keychain(Arc::new(chain))
            .prompt(Arc::clone(prompt) as Arc<dyn Prompt>)
            .unlock(Path::new(VAULT), || Ok(KnownWays { passphrase, ..any() }))
    };
    let (key, prompt) = (identity(), Answers::of(&["by hand", "by hand"]));
    let holds = unlock(Chain::Holds(key.as_str().into()), true, &prompt).unwrap();
    assert_eq!(found(&holds), ("identity", key.into_bytes(), "the OS keychain"));
    // The public key may be a recovery key: the person who has the passphrase is asked.
    for chain in [Chain::Empty, Chain::Unreachable] {
        assert_eq!(found(&unlock(chain, true, &prompt).unwrap()).2, "the terminal");
    }
    // Nobody has a passphrase: the keychain is the error, in one way or the other.
    let Err(StoreError::Keychain { reason }) = unlock(Chain::Unreachable, false, &prompt) else { panic!() };
    assert_eq!(reason, "there is no bus");
    let Err(StoreError::NoUnlockSource { tried }) = unlock(Chain::Empty, false, &prompt) else { panic!() };
    assert!(
        tried.contains("the OS keychain (it holds no key for this vault; if it did, the item was deleted"),
        "{tried}"
    );
    assert_eq!(prompt.asked().len(), 2);
}

#[test]
fn the_report_reads_no_secret_and_asks_nobody() {
    let mut all = Everything::new();
    all.unset("TOKENKEEP_IDENTITY");
    let (marker, command) = {
        let marker = all.folder.0.path().join("ran");
        let command = format!("touch '{}'; echo pw", marker.display());
        (marker, command)
    };
    all.given = Some(Source::PassphraseCommand(command.into()));
    let report = all.sources().report(Some(any()));
    assert_eq!(report[0].state, SourceState::Decides);
    assert_eq!(report[1].name, "TOKENKEEP_IDENTITY");
    assert_eq!(report[1].state, SourceState::NotSet { reason: "not set".into() });
    assert!(report[2..].iter().all(|source| source.state == SourceState::Behind), "{report:?}");
    assert!(!marker.exists() && all.prompt.asked().is_empty());
    // Nothing set: the keychain may serve, else the prompt does.
    let sources = Sources::new(Environment::empty()).keychain(Arc::new(Chain::Untouched)).prompt(all.prompt);
    for ways in [Some(any()), None] {
        let report = sources.report(ways);
        let states: Vec<_> = report[report.len() - 2..].iter().map(|source| &source.state).collect();
        assert_eq!(states, [&SourceState::Maybe, &SourceState::Decides]);
    }
}
