//! A vault that is being made, on a disk that fails.

use std::sync::{Arc, Mutex};

use super::super::disk::{Fault, Faults, Op};
use super::super::{KeyId, Keychain, NewWayIn, VaultOptions};
use super::{EIO, RECIPIENT, Script};
use crate::StoreError;

#[tokio::test]
async fn the_names_of_the_folders_that_a_vault_is_made_in_are_made_durable_too() {
    let folder = tempfile::tempdir().unwrap();
    let script = Arc::new(Script::default());
    let mut options = VaultOptions::new();
    options.disk.faults = Some(Arc::clone(&script) as Arc<dyn Faults>);
    let path = folder.path().join("one/two/v");
    options.create(&path, vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
    assert_eq!(script.count(Op::SyncFolder), 3, "of the vault in two, of two in one, of one");
}

/// A keychain that remembers for which vaults it was given a key.
#[derive(Debug, Default)]
struct Chain(Mutex<Vec<KeyId>>);

impl Keychain for Chain {
    fn load(&self, _: KeyId) -> Result<Option<tokenkeep_secret::SecretString>, StoreError> {
        Ok(None)
    }

    fn save(&self, key_id: KeyId, _: &tokenkeep_secret::SecretString) -> Result<(), StoreError> {
        self.0.lock().unwrap().push(key_id);
        Ok(())
    }

    fn remove(&self, key_id: KeyId) -> Result<(), StoreError> {
        self.0.lock().unwrap().retain(|kept| *kept != key_id);
        Ok(())
    }
}

#[tokio::test]
async fn a_new_vault_that_fails_leaves_its_key_with_the_keychain_only_if_its_file_is_there() {
    let mut there = Vec::new();
    for op in [Op::Create, Op::Write, Op::SyncAll, Op::Rename, Op::SyncFolder] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        let script = Arc::new(Script::default());
        script.once(op, Fault::Errno(EIO));
        let mut options = VaultOptions::new();
        options.disk.faults = Some(Arc::clone(&script) as Arc<dyn Faults>);
        let chain = Arc::new(Chain::default());
        let ways = vec![NewWayIn::keychain(Arc::clone(&chain) as Arc<dyn Keychain>)];
        options.create(&path, ways).await.unwrap_err();
        assert_eq!(chain.0.lock().unwrap().len(), usize::from(path.exists()), "{op:?}");
        if path.exists() {
            there.push(op);
        }
    }
    assert_eq!(there, [Op::SyncFolder]);
}
