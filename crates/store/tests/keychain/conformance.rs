//! The conformance suite on vaults whose keys a real Secret Service keeps.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use tokenkeep_store::conformance::{Subject, act};
use tokenkeep_store::{NewWayIn, Opener, SecretStore, Unlock, Vault};

use crate::patient;
use crate::session::{Service, in_session};

/// What a child of the suite is told, in this variable: path and task.
const CHILD: &str = "TOKENKEEP_CONFORMANCE_CHILD";

struct ByKeychain {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl ByKeychain {
    async fn fresh() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.vault");
        Vault::create(&path, vec![NewWayIn::keychain(Arc::new(patient()))]).await.unwrap();
        Self { _folder: folder, path }
    }
}

async fn open(path: &Path) -> Arc<dyn SecretStore> {
    let unlock = Unlock::new(Opener::Keychain(Arc::new(patient())), "the suite");
    Arc::new(Vault::open(path, &unlock).await.unwrap())
}

#[async_trait]
impl Subject for ByKeychain {
    async fn handle(&self) -> Arc<dyn SecretStore> {
        open(&self.path).await
    }

    fn child(&self, task: &str) -> Option<Command> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "conformance::child_of_the_suite", "--nocapture"])
            .env(CHILD, format!("{}\n{task}", self.path.display()));
        Some(command)
    }

    fn hands_over_leases(&self) -> bool {
        true
    }
}

/// Not a test of its own: the suite starts this executable again to have another process.
#[tokio::test]
async fn child_of_the_suite() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (path, task) = told.split_once('\n').unwrap();
    act(open(Path::new(path)).await, task).await;
}

#[test]
fn a_vault_by_keychain_keeps_what_every_store_promises() {
    in_session("conformance::a_vault_by_keychain_keeps_what_every_store_promises", Service::Unlocked, || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            tokenkeep_store::store_conformance!(in turn: ByKeychain::fresh().await);
        });
    });
}
