//! Making a vault that cannot be made leaves nothing behind: no folder, and no key with a keychain.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "vault", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use scene::RECIPIENT;
use tokenkeep_store::{KeyId, Keychain, NewWayIn, Opener, SecretString, StoreError, Unlock, Vault};

#[derive(Debug, Default)]
struct Chain {
    kept: Mutex<HashMap<KeyId, SecretString>>,
    refuses: bool,
}

impl Keychain for Chain {
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError> {
        Ok(self.kept.lock().unwrap().get(&key_id).cloned())
    }

    fn save(&self, key_id: KeyId, identity: &SecretString) -> Result<(), StoreError> {
        if self.refuses {
            return Err(StoreError::Keychain { reason: "it refuses".to_owned() });
        }
        self.kept.lock().unwrap().insert(key_id, identity.clone());
        Ok(())
    }

    fn remove(&self, key_id: KeyId) -> Result<(), StoreError> {
        self.kept.lock().unwrap().remove(&key_id);
        Ok(())
    }
}

fn by(chain: &Arc<Chain>) -> Vec<NewWayIn> {
    let chain: Arc<dyn Keychain> = Arc::clone(chain) as Arc<dyn Keychain>;
    vec![NewWayIn::recipient(RECIPIENT), NewWayIn::keychain(chain)]
}

#[tokio::test]
async fn a_keychain_that_keeps_nothing_leaves_not_even_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain { refuses: true, ..Chain::default() });
    let error = Vault::create(home.path().join("data/tokenkeep/v"), by(&chain)).await.unwrap_err();
    assert!(matches!(error, StoreError::Keychain { .. }), "{error}");
    assert!(!home.path().join("data").exists());
}

#[tokio::test]
async fn a_vault_that_cannot_be_written_leaves_no_key_with_the_keychain() {
    let home = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    let path = home.path().join("v");
    // In the way of the file that becomes the vault.
    std::fs::create_dir(home.path().join("v.new")).unwrap();
    Vault::create(&path, by(&chain)).await.unwrap_err();
    assert!(chain.kept.lock().unwrap().is_empty() && !path.exists());
    // Nor does one whose folder cannot be made.
    std::fs::write(home.path().join("file"), "").unwrap();
    Vault::create(home.path().join("file/folder/v"), by(&chain)).await.unwrap_err();
    assert!(chain.kept.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_make_one_at_once_the_keychain_has_the_key_of_the_one_that_is_there() {
    let home = tempfile::tempdir().unwrap();
    let chain = Arc::new(Chain::default());
    let path = home.path().join("v");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (path, ways) = (path.clone(), by(&chain));
            tokio::spawn(async move { Vault::create(path, ways).await })
        })
        .collect();
    let mut made = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(vault) => made.push(vault.key_id()),
            Err(error) => assert!(matches!(error, StoreError::Exists { .. }), "{error}"),
        }
    }
    assert_eq!(made.len(), 1);
    assert_eq!(chain.kept.lock().unwrap().keys().copied().collect::<Vec<_>>(), made);
    let chain: Arc<dyn Keychain> = chain;
    assert_eq!(
        Vault::open(&path, &Unlock::new(Opener::Keychain(chain), "test")).await.unwrap().key_id(),
        made[0]
    );
}
