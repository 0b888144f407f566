//! Stand-ins for a person, a keychain and a folder of secret files.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use age::secrecy::ExposeSecret;
use tempfile::TempDir;
use tokenkeep_store::{
    KeyId, Keychain, KnownWays, Opener, Prompt, Question, Secret, SecretString, StoreError, Unlock,
};

pub(crate) const VAULT: &str = "/somewhere/sessions.vault";

/// A vault with every kind of way in.
pub(crate) fn any() -> KnownWays {
    KnownWays { key_id: KeyId::new([7; 16]), passphrase: true, public_key: true }
}

pub(crate) fn identity() -> String {
    age::x25519::Identity::generate().to_string().expose_secret().to_owned()
}

/// What was found, for comparison: kind, value and name.
pub(crate) fn found(unlock: &Unlock) -> (&'static str, Vec<u8>, &str) {
    match &unlock.opener {
        Opener::Passphrase(passphrase) => ("passphrase", passphrase.expose().to_vec(), &unlock.source),
        Opener::Identity(text) => ("identity", text.expose().as_bytes().to_vec(), &unlock.source),
        _ => ("keychain", Vec::new(), &unlock.source),
    }
}

/// Why a source that is set cannot be used.
pub(crate) fn failure(result: Result<Unlock, StoreError>) -> (String, String) {
    match result {
        Err(StoreError::UnlockSource { name, reason }) => (name, reason),
        Err(other) => panic!("another error: {other}"),
        Ok(unlock) => panic!("it was used: {:?}", found(&unlock).0),
    }
}

/// A folder with secret files of ours.
pub(crate) struct Folder(pub(crate) TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

/// Answers by what it was told to, and remembers what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    answers: Mutex<Vec<io::Result<Secret>>>,
    asked: Mutex<Vec<String>>,
}

impl Answers {
    pub(crate) fn of(answers: &[&str]) -> Arc<Self> {
        let answers = answers.iter().rev().map(|answer| Ok(Secret::from(answer.as_bytes()))).collect();
        Arc::new(Self { answers: Mutex::new(answers), ..Self::default() })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Prompt for Answers {
    fn ask(&self, question: Question<'_>) -> io::Result<Secret> {
        self.asked.lock().unwrap().push(format!("{question:?}"));
        self.answers.lock().unwrap().pop().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// A keychain that holds a key, holds none, cannot be reached, or must not be asked.
#[derive(Debug)]
pub(crate) enum Chain {
    Holds(SecretString),
    Empty,
    Unreachable,
    Untouched,
}

impl Keychain for Chain {
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError> {
        assert_eq!(key_id, any().key_id);
        match self {
            Self::Holds(identity) => Ok(Some(identity.clone())),
            Self::Empty => Ok(None),
            Self::Unreachable => Err(StoreError::Keychain { reason: "there is no bus".into() }),
            Self::Untouched => panic!("asked"),
        }
    }

    fn save(&self, _: KeyId, _: &SecretString) -> Result<(), StoreError> {
        panic!("written to")
    }
}
