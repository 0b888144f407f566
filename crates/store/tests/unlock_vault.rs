//! Finding, opening and making the vault by the first source that is set.
#![cfg(all(feature = "vault", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::expect_used, missing_docs)] // A failed step fails its test.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use age::secrecy::ExposeSecret;
use tempfile::TempDir;
use tokenkeep_store::{
    Costs, Environment, Expected, Key, KeyId, Keychain, Opening, Prompt, Question, Secret, SecretString,
    Source, SourceState, Sources, StoreError, WayKind,
};

fn identity() -> String {
    age::x25519::Identity::generate().to_string().expose_secret().to_owned()
}

/// A folder for a vault, and for files of ours.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        Self(folder)
    }

    fn vault(&self) -> PathBuf {
        self.0.path().join("vault/sessions.vault")
    }

    fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Opens by these variables alone.
    fn opening(&self, variables: &[(&str, &str)]) -> Opening {
        let vault = self.vault();
        let place = ("TOKENKEEP_VAULT".to_owned(), vault.to_str().unwrap().to_owned());
        let others = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: Environment = others.chain([place]).collect();
        let sources = Sources::new(environment.clone()).without_prompt("--no-input");
        // Guessing is not what these tests are about.
        Opening::new(environment).sources(sources).costs(Costs::new(64, 1, 1).unwrap())
    }

    fn by(&self, name: &str, source: Source) -> Opening {
        let sources = Sources::new(Environment::empty()).given(name, source);
        self.opening(&[]).sources(sources)
    }
}

/// A keychain in memory, or one that cannot be reached.
#[derive(Debug, Default)]
struct Chain {
    keys: Mutex<HashMap<KeyId, SecretString>>,
    unreachable: bool,
}

impl Keychain for Chain {
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError> {
        self.reached()?;
        Ok(self.keys.lock().unwrap().get(&key_id).cloned())
    }

    fn save(&self, key_id: KeyId, identity: &SecretString) -> Result<(), StoreError> {
        self.reached()?;
        self.keys.lock().unwrap().insert(key_id, identity.clone());
        Ok(())
    }
}

impl Chain {
    fn reached(&self) -> Result<(), StoreError> {
        if self.unreachable { Err(StoreError::Keychain { reason: "there is no bus".into() }) } else { Ok(()) }
    }
}

/// Types the same passphrase whenever it is asked.
#[derive(Debug)]
struct Types(&'static str);

impl Prompt for Types {
    fn ask(&self, _: Question<'_>) -> io::Result<Secret> {
        Ok(Secret::from(self.0.as_bytes()))
    }
}

fn bare() -> Sources {
    Sources::new(Environment::empty())
}

#[tokio::test]
async fn what_one_source_makes_the_same_source_opens() {
    let folder = Folder::new();
    let key = folder.file("identity", &identity());
    let passphrase = folder.file("passphrase", "correct horse\n");
    for (variable, value, kind) in [
        ("TOKENKEEP_IDENTITY", key.to_str().unwrap(), WayKind::X25519),
        ("TOKENKEEP_PASSPHRASE_FILE", passphrase.to_str().unwrap(), WayKind::Passphrase),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "echo correct horse", WayKind::Passphrase),
        ("TOKENKEEP_PASSPHRASE", "correct horse", WayKind::Passphrase),
    ] {
        let folder = Folder::new();
        let opening = folder.opening(&[(variable, value)]);
        let made = opening.open_or_make().await.unwrap();
        assert_eq!(made.made.as_deref(), Some(variable));
        assert_eq!((made.place.path, made.place.from.as_str()), (folder.vault(), "TOKENKEEP_VAULT"));
        let session = Key::new("session").unwrap();
        made.store.put(&session, &Secret::from(&b"value"[..]), Expected::Absent).await.unwrap();

        let store = opening.open().await.unwrap();
        assert_eq!(store.get(&session).await.unwrap().unwrap().value.expose(), b"value");
        assert_eq!(opening.open_or_make().await.unwrap().made, None);
        let vault = opening.open_vault().await.unwrap();
        let kinds: Vec<WayKind> = vault.status().await.unwrap().ways.iter().map(|way| way.kind).collect();
        assert_eq!(kinds, [kind]);
        assert!(matches!(opening.make_vault().await, Err(StoreError::Exists { .. })));
    }
}

#[tokio::test]
async fn a_wrong_passphrase_or_key_names_its_source_and_the_vault() {
    let folder = Folder::new();
    folder.opening(&[("TOKENKEEP_PASSPHRASE", "right")]).make_vault().await.unwrap();
    let wrong = folder.file("passphrase", "canary\n");
    let other = folder.file("identity", &identity());
    let error =
        folder.opening(&[("TOKENKEEP_PASSPHRASE_FILE", wrong.to_str().unwrap())]).open().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::WrongPassphrase { .. }), "{text}");
    assert!(text.contains("TOKENKEEP_PASSPHRASE_FILE") && text.contains("sessions.vault"), "{text}");
    assert!(!format!("{text} {error:?}").contains("canary"));
    let error =
        folder.opening(&[("TOKENKEEP_IDENTITY", other.to_str().unwrap())]).open_or_make().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::WrongIdentity { source_name, .. } if source_name == "TOKENKEEP_IDENTITY")
    );
}

#[tokio::test]
async fn a_missing_vault_is_found_out_before_any_secret_is_read() {
    let folder = Folder::new();
    let marker = folder.0.path().join("ran");
    let command = format!("echo ran >> '{}'; echo pw", marker.display());
    let opening = folder.opening(&[("TOKENKEEP_PASSPHRASE_COMMAND", &command)]);
    assert!(matches!(opening.open().await, Err(StoreError::Missing { path }) if path == folder.vault()));
    assert!(!marker.exists() && !folder.vault().exists());
    // Making one reads it once.
    opening.open_or_make().await.unwrap();
    assert_eq!(fs::read_to_string(marker).unwrap(), "ran\n");
}

#[tokio::test]
async fn a_source_that_fails_makes_no_vault() {
    let folder = Folder::new();
    let error = folder.opening(&[("TOKENKEEP_PASSPHRASE", "")]).open_or_make().await.unwrap_err();
    assert!(matches!(error, StoreError::UnlockSource { .. }), "{error}");
    assert!(!folder.vault().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_make_it_at_once_one_does_and_the_others_open_it() {
    let folder = Folder::new();
    let opening = folder.by("here", Source::Identity(identity().into()));
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let opening = opening.clone();
            tokio::spawn(async move {
                let opened = opening.open_or_make().await.unwrap();
                let key = Key::new(format!("session {number}")).unwrap();
                opened.store.put(&key, &Secret::from(&b"value"[..]), Expected::Absent).await.unwrap();
                opened.made.is_some()
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.unwrap());
    }
    assert_eq!(made, 1);
    assert_eq!(opening.open().await.unwrap().keys().await.unwrap().len(), 12);
}

#[tokio::test]
async fn with_nothing_set_the_keychain_keeps_the_key() {
    let folder = Folder::new();
    let chain = Arc::new(Chain::default());
    let sources =
        bare().keychain(Arc::clone(&chain) as Arc<dyn Keychain>).prompt(Arc::new(Types("not asked")));
    let opening = folder.opening(&[]).sources(sources);
    assert_eq!(opening.open_or_make().await.unwrap().made.as_deref(), Some("the OS keychain"));
    assert_eq!(chain.keys.lock().unwrap().len(), 1);
    let vault = opening.open_vault().await.unwrap();
    assert_eq!(vault.status().await.unwrap().ways[0].kind, WayKind::Keychain);

    // Deleted behind our back: an error, not an empty store, and no second vault.
    let bytes = fs::read(folder.vault()).unwrap();
    chain.keys.lock().unwrap().clear();
    for error in [opening.open().await.unwrap_err(), opening.open_or_make().await.unwrap_err()] {
        let StoreError::NoUnlockSource { tried } = error else { panic!("{error}") };
        assert!(
            tried
                .contains("the OS keychain (it holds no key for this vault; if it did, the item was deleted"),
            "{tried}"
        );
    }
    let explicit = folder.by("--keychain", Source::Keychain(chain));
    assert!(matches!(explicit.open().await, Err(StoreError::Keychain { .. })));
    // Not reachable any more: another error.
    let chain = Arc::new(Chain { unreachable: true, ..Chain::default() });
    let opening = folder.opening(&[]).sources(bare().keychain(chain));
    assert!(matches!(opening.open_or_make().await, Err(StoreError::Keychain { .. })));
    assert_eq!(fs::read(folder.vault()).unwrap(), bytes);
}

#[tokio::test]
async fn where_the_keychain_cannot_be_used_a_person_is_asked_or_told() {
    let folder = Folder::new();
    let unreachable = || Arc::new(Chain { unreachable: true, ..Chain::default() });
    let told = folder.opening(&[]).sources(bare().keychain(unreachable()).without_prompt("--no-input"));
    let error = told.open_or_make().await.unwrap_err();
    let StoreError::NoUnlockSource { tried } = &error else { panic!("{error}") };
    assert!(tried.contains("the OS keychain (there is no bus), the terminal (--no-input)"), "{tried}");
    assert!(error.to_string().contains("TOKENKEEP_PASSPHRASE_FILE"), "{error}");
    assert!(!folder.vault().exists());

    let asked = folder.opening(&[]).sources(bare().keychain(unreachable()).prompt(Arc::new(Types("typed"))));
    assert_eq!(asked.open_or_make().await.unwrap().made.as_deref(), Some("the terminal"));
    assert_eq!(asked.open_or_make().await.unwrap().made, None);
    folder.opening(&[("TOKENKEEP_PASSPHRASE", "typed")]).open().await.unwrap();
}

#[tokio::test]
async fn a_recovery_key_opens_a_vault_that_was_made_with_its_recipient() {
    let folder = Folder::new();
    let recovery = age::x25519::Identity::generate();
    let opening = folder
        .opening(&[("TOKENKEEP_PASSPHRASE", "correct horse")])
        .recipient(recovery.to_public().to_string(), "in the safe");
    let (vault, source) = opening.make_vault().await.unwrap();
    assert_eq!(source.as_deref(), Some("TOKENKEEP_PASSPHRASE"));
    let labels: Vec<String> = vault.status().await.unwrap().ways.into_iter().map(|way| way.label).collect();
    assert_eq!(labels, ["", "in the safe"]);
    folder
        .by("--identity", Source::Identity(recovery.to_string().expose_secret().into()))
        .open()
        .await
        .unwrap();
    // With both kinds of way in and nothing set, the passphrase can be typed.
    let chain = Arc::new(Chain::default());
    let sources = bare().keychain(chain).prompt(Arc::new(Types("correct horse")));
    folder.opening(&[]).sources(sources).open().await.unwrap();
}

#[tokio::test]
async fn the_report_knows_what_ways_in_the_vault_has() {
    let folder = Folder::new();
    let last_two = |opening: &Opening| {
        let mut report = opening.report().unwrap();
        report.split_off(report.len() - 2).into_iter().map(|source| source.state).collect::<Vec<_>>()
    };
    let sources = bare().keychain(Arc::new(Chain::default())).prompt(Arc::new(Types("not asked")));
    let opening = folder.opening(&[]).sources(sources);
    assert_eq!(last_two(&opening), [SourceState::Maybe, SourceState::Decides]);
    folder.opening(&[("TOKENKEEP_PASSPHRASE", "pw")]).make_vault().await.unwrap();
    let reason = "the vault has no way in of its kind".to_owned();
    assert_eq!(last_two(&opening), [SourceState::NotSet { reason }, SourceState::Decides]);
}

#[test]
fn it_opens_without_a_runtime_too() {
    let folder = Folder::new();
    let key = folder.file("identity", &identity());
    let opening = folder.opening(&[("TOKENKEEP_IDENTITY", key.to_str().unwrap())]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(opening.open_or_make()).unwrap();
    let mut open = std::pin::pin!(opening.open());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(open.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(_))));
}
