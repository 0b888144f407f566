//! The conformance suite on this crate's stores: memory, a vault by age identity, a vault by passphrase.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]
#![cfg(all(feature = "conformance", feature = "vault"))]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use tokenkeep_store::conformance::{Subject, act};
use tokenkeep_store::{Costs, MemoryStore, NewWayIn, Opener, Secret, SecretStore, Unlock, Vault};

const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
const PASSPHRASE: &[u8] = b"correct horse battery staple";

/// What a child of the suite is told, in this variable: way in, path, task.
const CHILD: &str = "TOKENKEEP_CONFORMANCE_CHILD";

struct Memory(MemoryStore);

#[async_trait]
impl Subject for Memory {
    async fn handle(&self) -> Arc<dyn SecretStore> {
        Arc::new(self.0.clone())
    }
}

struct VaultFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
    way: &'static str,
}

impl VaultFile {
    async fn fresh(way: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.vault");
        let new = match way {
            "identity" => NewWayIn::recipient(RECIPIENT),
            // Cheap, and chosen so here: the suite opens the vault dozens of times and is not about passphrases.
            _ => NewWayIn::Passphrase {
                secret: Secret::from(PASSPHRASE),
                costs: Costs::new(1024, 1, 1).unwrap(),
                label: String::new(),
            },
        };
        Vault::create(&path, vec![new]).await.unwrap();
        Self { _folder: folder, path, way }
    }
}

async fn open(way: &str, path: &Path) -> Arc<dyn SecretStore> {
    let opener = match way {
        "identity" => Opener::Identity(IDENTITY.into()),
        _ => Opener::Passphrase(PASSPHRASE.into()),
    };
    Arc::new(Vault::open(path, &Unlock::new(opener, "the suite")).await.unwrap())
}

#[async_trait]
impl Subject for VaultFile {
    async fn handle(&self) -> Arc<dyn SecretStore> {
        open(self.way, &self.path).await
    }

    fn child(&self, task: &str) -> Option<Command> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child_of_the_suite", "--nocapture"])
            .env(CHILD, format!("{}\n{}\n{task}", self.way, self.path.display()));
        Some(command)
    }

    fn hands_over_leases(&self) -> bool {
        cfg!(target_os = "linux")
    }
}

/// Not a test of its own: the suite starts this executable again to have another process.
#[tokio::test]
async fn child_of_the_suite() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [way, path, task] = told.split('\n').collect::<Vec<_>>().try_into().unwrap();
    act(open(way, Path::new(path)).await, task).await;
}

mod memory {
    tokenkeep_store::store_conformance!(super::Memory(tokenkeep_store::MemoryStore::new()));
}

mod vault_by_identity {
    tokenkeep_store::store_conformance!(super::VaultFile::fresh("identity").await);
}

mod vault_by_passphrase {
    tokenkeep_store::store_conformance!(super::VaultFile::fresh("passphrase").await);
}
