//! What becomes of keys where changing them fails.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "the doubles of a test")]

use std::collections::HashMap;
use std::sync::Mutex;

use tokenkeep_secret::SecretString;

use super::super::disk::{Disk, Fault, Faults, Op};
use super::super::pin::KeyPin;
use super::super::pin_rule::PinRead;
use super::super::{Keychain, NewWayIn, RecoveryKey, Rekey, Unlock};
use super::*;

/// Fails one kind of operation with EIO.
#[derive(Debug, Default)]
struct Fails(Mutex<Option<Op>>);

impl Faults for Fails {
    fn before(&self, op: Op) -> Option<Fault> {
        (*self.0.lock().unwrap() == Some(op)).then_some(Fault::Errno(5))
    }
}

/// Renames the new file and says that it failed, as a server does whose answer is lost; or, told so, fails all reads
/// from the sync of the folder on.
#[derive(Debug, Default)]
struct AfterTheRename {
    path: std::path::PathBuf,
    renames: Mutex<bool>,
    /// Put in the file's place instead.
    other: Mutex<Option<Vec<u8>>>,
    reads: Mutex<[bool; 2]>,
}

impl Faults for AfterTheRename {
    fn before(&self, op: Op) -> Option<Fault> {
        let [mut told, mut fails] = *self.reads.lock().unwrap();
        if op == Op::Rename && std::mem::take(&mut *self.renames.lock().unwrap()) {
            std::fs::rename(self.path.with_extension("new"), &self.path).unwrap();
            if let Some(bytes) = self.other.lock().unwrap().take() {
                std::fs::write(&self.path, bytes).unwrap();
            }
            return Some(Fault::Errno(5));
        }
        if op == Op::SyncFolder && std::mem::take(&mut told) {
            fails = true;
            *self.reads.lock().unwrap() = [told, fails];
        }
        (op == Op::Read && fails).then_some(Fault::Errno(5))
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    fails: Arc<AfterTheRename>,
    chain: Arc<Chain>,
    pin: KeyPin,
    vault: Vault,
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    let fails = Arc::new(AfterTheRename { path: path.clone(), ..AfterTheRename::default() });
    let chain = Arc::new(Chain::default());
    let pin = KeyPin::in_folder(&folder.path().join("pins"), &path);
    let options = VaultOptions {
        disk: Disk { faults: Some(Arc::clone(&fails) as Arc<dyn Faults>), ..Disk::default() },
        pin: pin.clone(),
        ..VaultOptions::default()
    };
    let ways = vec![NewWayIn::keychain(Arc::clone(&chain) as Arc<dyn Keychain>)];
    let vault = options.create(&path, ways).await.unwrap();
    Scene { _folder: folder, fails, chain, pin, vault }
}

impl Scene {
    async fn rekey(&self) -> Result<Vault, StoreError> {
        let chain = Arc::clone(&self.chain) as Arc<dyn Keychain>;
        let plan = self.vault.plan_rekey(Rekey::new().keychain(chain)).await.unwrap();
        self.vault.rekey(plan).await
    }

    fn pinned(&self) -> Vec<KeyId> {
        match &self.pin.read()[..] {
            [PinRead { said: Said::Ids(ids), .. }] => ids.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The key id of the file in place, and how many are pinned and in the keychain.
    fn kept(&self) -> (Option<KeyId>, usize, usize) {
        let there = pin::key_id_at(&Disk::default(), &self.vault.shared.place);
        (there, self.pinned().len(), self.chain.0.lock().unwrap().len())
    }
}

#[tokio::test]
async fn new_keys_are_taken_back_only_where_the_file_in_place_has_the_old_ones() {
    // It says that it is not renamed, and is.
    let scene = scene().await;
    *scene.fails.renames.lock().unwrap() = true;
    let failed = scene.rekey().await;
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
    let (there, pinned, kept) = scene.kept();
    let there = there.unwrap();
    assert_ne!(there, scene.vault.key_id());
    assert_eq!((pinned, kept), (2, 2), "the only key to the file in place is gone");
    assert!(scene.pinned().contains(&there) && scene.chain.load(there).unwrap().is_some());
}

#[tokio::test]
async fn new_keys_are_not_taken_back_where_nobody_can_tell_which_file_is_in_place() {
    let scene = scene().await;
    *scene.fails.renames.lock().unwrap() = true;
    *scene.fails.other.lock().unwrap() = Some(b"tokenkeep-vault-v1, of which the rest is lost".to_vec());
    scene.rekey().await.unwrap_err();
    assert_eq!(scene.kept(), (None, 2, 2));
}

#[tokio::test]
async fn new_keys_with_which_the_vault_then_is_not_read_are_said_to_be_perhaps_in_use() {
    let scene = scene().await;
    let old = scene.vault.key_id();
    *scene.fails.reads.lock().unwrap() = [true, false];
    let failed = scene.rekey().await;
    *scene.fails.reads.lock().unwrap() = [false, false];
    let Err(error @ StoreError::Unsynced { .. }) = failed else { panic!("{failed:?}") };
    assert!(error.to_string().contains("the keys may be the new ones"), "{error}");
    let (there, ..) = scene.kept();
    assert_ne!(there.unwrap(), old);
    assert_eq!(scene.pinned(), [there.unwrap()]);
    assert!(scene.chain.load(there.unwrap()).unwrap().is_some());
}

#[derive(Debug, Default)]
struct Chain(Mutex<HashMap<KeyId, SecretString>>);

impl Keychain for Chain {
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError> {
        Ok(self.0.lock().unwrap().get(&key_id).cloned())
    }

    fn save(&self, key_id: KeyId, identity: &SecretString) -> Result<(), StoreError> {
        self.0.lock().unwrap().insert(key_id, identity.clone());
        Ok(())
    }

    fn remove(&self, key_id: KeyId) -> Result<(), StoreError> {
        self.0.lock().unwrap().remove(&key_id);
        Ok(())
    }
}

#[tokio::test]
async fn until_the_new_file_is_durable_pin_and_keychain_serve_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    let fails = Arc::new(Fails::default());
    let chain = Arc::new(Chain::default());
    let key = RecoveryKey::generate().unwrap();
    let pin = KeyPin::in_folder(&folder.path().join("pins"), &path);
    let options = VaultOptions {
        disk: Disk { faults: Some(Arc::clone(&fails) as Arc<dyn Faults>), ..Disk::default() },
        pin: pin.clone(),
        ..VaultOptions::default()
    };
    let ways = vec![
        NewWayIn::recipient(key.recipient()),
        NewWayIn::keychain(Arc::clone(&chain) as Arc<dyn Keychain>),
    ];
    let vault = options.create(&path, ways).await.unwrap();
    let old = vault.key_id();
    let open = || async { options.open(&path, &Unlock::identity(key.identity().clone(), "the test")).await };
    let change = |fails_at: Option<Op>| {
        let (vault, fails, chain) = (vault.clone(), Arc::clone(&fails), Arc::clone(&chain));
        async move {
            let plan = vault.plan_rekey(Rekey::new().keychain(chain)).await.unwrap();
            *fails.0.lock().unwrap() = fails_at;
            let changed = vault.rekey(plan).await;
            *fails.0.lock().unwrap() = None;
            changed
        }
    };
    let kept = || chain.0.lock().unwrap().len();
    let pinned = || match &pin.read()[..] {
        [PinRead { said: Said::Ids(ids), .. }] => ids.clone(),
        other => panic!("{other:?}"),
    };

    // Before the rename: the old keys, as if nothing had been tried.
    for op in [Op::Create, Op::Write, Op::SyncAll, Op::Rename] {
        assert!(change(Some(op)).await.is_err(), "{op:?}");
        assert_eq!((pinned(), kept()), (vec![old], 1), "{op:?}");
        assert_eq!(open().await.unwrap().key_id(), old);
    }
    // After it: a power cut may bring the old file back.
    let failed = change(Some(Op::SyncFolder)).await;
    assert!(matches!(failed, Err(StoreError::Unsynced { .. })), "{failed:?}");
    assert_eq!((pinned().len(), kept()), (2, 2));
    assert_eq!(pinned()[0], old);
    *fails.0.lock().unwrap() = Some(Op::SyncFolder);
    open().await.unwrap();
    assert_eq!(pinned().len(), 2, "it still may");
    *fails.0.lock().unwrap() = None;
    let new = open().await.unwrap().key_id();
    assert_ne!(new, old);
    assert_eq!(pinned(), [new]);
    assert!(chain.load(new).unwrap().is_some());
}
