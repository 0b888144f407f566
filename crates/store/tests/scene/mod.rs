//! A vault in a folder of its own, and what the tests do to its file.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;

use tokenkeep_store::{Costs, Key, NewWayIn, Secret, StoreError, Unlock, Vault};

/// A key pair made for these tests.
pub(crate) const IDENTITY: &str =
    "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
pub(crate) const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

pub(crate) fn value(text: &str) -> Secret {
    Secret::from(text.as_bytes())
}

pub(crate) fn identity() -> Unlock {
    Unlock::identity(IDENTITY, "the test")
}

/// Costs next to nothing: for tests that are not about passphrases but need one.
pub(crate) fn cheap() -> Costs {
    Costs::new(64, 1, 1).unwrap()
}

pub(crate) fn cheap_passphrase(text: &str) -> NewWayIn {
    NewWayIn::Passphrase { secret: value(text), costs: cheap(), label: String::new() }
}

pub(crate) struct Scene {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) path: PathBuf,
    pub(crate) vault: Vault,
}

impl Scene {
    /// A vault that the tests' age identity opens.
    pub(crate) async fn new() -> Self {
        Self::with(vec![NewWayIn::recipient(RECIPIENT)]).await
    }

    pub(crate) async fn by_passphrase(text: &str) -> Self {
        Self::with(vec![cheap_passphrase(text)]).await
    }

    pub(crate) async fn with(ways: Vec<NewWayIn>) -> Self {
        Self::within(tempfile::tempdir().unwrap(), ways).await
    }

    /// In memory where there is such a file system: for tests that write thousands of times and are not about disks.
    pub(crate) async fn in_memory() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self::within(folder, vec![NewWayIn::recipient(RECIPIENT)]).await
    }

    async fn within(folder: tempfile::TempDir, ways: Vec<NewWayIn>) -> Self {
        let folder = Arc::new(folder);
        let path = folder.path().join("sessions.vault");
        let vault = Vault::create(&path, ways).await.unwrap();
        Self { folder, path, vault }
    }

    pub(crate) async fn open(&self) -> Vault {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Vault, StoreError> {
        Vault::open(&self.path, &identity()).await
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// Puts a file with these bytes in the vault's place.
    pub(crate) fn replace(&self, bytes: &[u8]) {
        let new = self.folder.path().join("replacement");
        std::fs::write(&new, bytes).unwrap();
        set_mode(&new, 0o600);
        std::fs::rename(&new, &self.path).unwrap();
    }
}

pub(crate) fn set_mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}
