//! What happens to a write when the disk fails it. The faults are made in [`super::disk`], beneath everything else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod new_vault;

use std::sync::Arc;
use std::sync::Mutex;

use tokenkeep_secret::Secret;

use super::disk::{Fault, Faults, Op};
use super::{NewWayIn, Unlock, Vault, VaultOptions};
use crate::{Expected, Key, SecretStore, StoreError};

const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

const ENOSPC: i32 = nix::libc::ENOSPC;
const EIO: i32 = nix::libc::EIO;
const EOPNOTSUPP: i32 = nix::libc::EOPNOTSUPP;

/// Fails the operations that are listed, each once or always, and remembers what was asked.
#[derive(Debug, Default)]
struct Script {
    once: Mutex<Vec<(Op, Fault)>>,
    always: Mutex<Vec<(Op, i32)>>,
    seen: Mutex<Vec<Op>>,
}

impl Faults for Script {
    fn before(&self, op: Op) -> Option<Fault> {
        self.seen.lock().unwrap().push(op);
        if let Some((_, errno)) = self.always.lock().unwrap().iter().find(|(listed, _)| *listed == op) {
            return Some(Fault::Errno(*errno));
        }
        let mut once = self.once.lock().unwrap();
        let at = once.iter().position(|(listed, _)| *listed == op)?;
        Some(once.remove(at).1)
    }
}

impl Script {
    fn once(&self, op: Op, fault: Fault) {
        self.once.lock().unwrap().push((op, fault));
    }

    fn always(&self, op: Op, errno: i32) {
        self.always.lock().unwrap().push((op, errno));
    }

    fn nothing_fails(&self) {
        self.once.lock().unwrap().clear();
        self.always.lock().unwrap().clear();
    }

    fn count(&self, op: Op) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| **seen == op).count()
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    script: Arc<Script>,
    vault: Vault,
    key: Key,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Arc::new(Script::default());
        let mut options = VaultOptions::new();
        options.disk.faults = Some(Arc::clone(&script) as Arc<dyn Faults>);
        let vault =
            options.create(folder.path().join("v"), vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
        Self { _folder: folder, script, vault, key: Key::new("k").unwrap() }
    }

    /// What another process finds.
    async fn stored(&self) -> Option<(Vec<u8>, crate::Revision)> {
        let other = Vault::open(self.vault.path(), &Unlock::identity(IDENTITY, "test")).await.unwrap();
        let entry = other.get(&self.key).await.unwrap();
        entry.map(|entry| (entry.value.expose().to_vec(), entry.revision))
    }

    fn inode(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(self.vault.path()).unwrap())
    }
}

fn value(text: &str) -> Secret {
    Secret::from(text.as_bytes())
}

#[tokio::test]
async fn after_a_failed_sync_the_file_is_written_anew() {
    let scene = Scene::new().await;
    let first = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    let before = scene.inode();
    scene.script.once(Op::SyncData, Fault::Errno(EIO));
    let second = scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await.unwrap();
    assert_ne!(scene.inode(), before, "the inode whose sync failed is still in use");
    assert_eq!(scene.stored().await, Some((b"two".to_vec(), second)));
}

#[tokio::test]
async fn a_failed_sync_that_cannot_be_made_good_is_unsynced_and_can_be_tried_again() {
    let scene = Scene::new().await;
    let first = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    let before = scene.inode();
    scene.script.once(Op::SyncData, Fault::Errno(EIO));
    scene.script.once(Op::SyncAll, Fault::Errno(EIO));
    let failed = scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await;
    assert!(matches!(failed, Err(StoreError::Unsynced { .. })), "{failed:?}");
    assert_eq!(scene.stored().await, Some((b"one".to_vec(), first)));
    // The next write does not trust the old inode either, though its syncs would succeed now.
    let second = scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await.unwrap();
    assert_ne!(scene.inode(), before);
    assert_eq!(scene.stored().await, Some((b"two".to_vec(), second)));
}

#[tokio::test]
async fn a_short_write_is_cut_back_and_full() {
    let scene = Scene::new().await;
    let first = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    let length = std::fs::metadata(scene.vault.path()).unwrap().len();
    for bytes in [0, 1, 39, 40, 41, 80] {
        scene.script.once(Op::Write, Fault::Short(bytes));
        let full = scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await;
        assert!(matches!(full, Err(StoreError::Full { .. })), "{bytes}: {full:?}");
        assert_eq!(
            std::fs::metadata(scene.vault.path()).unwrap().len(),
            length,
            "{bytes} bytes were left behind"
        );
        assert_eq!(scene.stored().await, Some((b"one".to_vec(), first)));
    }
    assert!(scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await.is_ok());
}

#[tokio::test]
async fn a_short_write_that_cannot_be_cut_back_is_a_torn_tail() {
    let scene = Scene::new().await;
    let first = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    scene.script.once(Op::Write, Fault::Short(60));
    scene.script.once(Op::Truncate, Fault::Errno(EIO));
    assert!(scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await.is_err());
    assert_eq!(scene.stored().await, Some((b"one".to_vec(), first)), "a torn tail is read");
    let second = scene.vault.put(&scene.key, &value("three"), Expected::At(first)).await.unwrap();
    assert_eq!(scene.stored().await, Some((b"three".to_vec(), second)));
    assert_eq!(scene.vault.verify(false).await.unwrap().torn_tail, None);
}

#[tokio::test]
async fn only_a_put_under_a_lease_uses_the_room() {
    let scene = Scene::new().await;
    let lease = scene.vault.lease(&scene.key, std::time::Duration::ZERO).await.unwrap();
    // Eats what is allocated beyond the room, so that every put has to ask.
    let filler = Key::new("filler").unwrap();
    for _ in 0..3 {
        scene.vault.put(&filler, &Secret::new(vec![1; 100_000]), Expected::Any).await.unwrap();
    }
    scene.script.always(Op::Allocate, ENOSPC);
    let full = scene.vault.put(&filler, &Secret::new(vec![2; 400_000]), Expected::Any).await;
    assert!(matches!(full, Err(StoreError::Full { .. })), "{full:?}");
    let leased = lease.put(&Secret::new(vec![3; 1024 * 1024]), Expected::Absent).await.unwrap();
    assert_eq!(scene.stored().await, Some((vec![3; 1024 * 1024], leased)));
    let other = scene.vault.lease(&filler, std::time::Duration::ZERO).await;
    assert!(matches!(other, Err(StoreError::Full { .. })), "{other:?}");
    scene.script.nothing_fails();
    scene.vault.lease(&filler, std::time::Duration::ZERO).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn where_the_file_system_cannot_promise_room_the_status_says_so() {
    let scene = Scene::new().await;
    scene.script.always(Op::Allocate, EOPNOTSUPP);
    assert!(scene.vault.status().await.unwrap().room_promised);
    scene.vault.lease(&scene.key, std::time::Duration::ZERO).await.unwrap().release().await.unwrap();
    assert!(!scene.vault.status().await.unwrap().room_promised);
    scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
}

#[tokio::test]
async fn a_compaction_without_space_is_put_off() {
    let scene = Scene::new().await;
    let mut revision = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    let before = scene.inode();
    scene.script.always(Op::Create, ENOSPC);
    for _ in 0..4 {
        let big = Secret::new(vec![7; 200_000]);
        revision = scene.vault.put(&scene.key, &big, Expected::At(revision)).await.unwrap();
    }
    assert_eq!(scene.inode(), before);
    let dead = scene.vault.status().await.unwrap().dead_bytes;
    assert!(dead > 500_000, "{dead} bytes are dead");
    // A removal is done even so; its old bytes go when they can.
    let filler = Key::new("filler").unwrap();
    scene.vault.put(&filler, &value("x"), Expected::Any).await.unwrap();
    scene.vault.remove(&filler, Expected::Any).await.unwrap();
    assert!(scene.vault.get(&filler).await.unwrap().is_none());
    scene.script.nothing_fails();
    let last = scene.vault.put(&scene.key, &value("two"), Expected::At(revision)).await.unwrap();
    assert_ne!(scene.inode(), before);
    assert_eq!(scene.vault.status().await.unwrap().dead_bytes, 0);
    assert_eq!(scene.stored().await, Some((b"two".to_vec(), last)));
}

#[tokio::test]
async fn nothing_is_left_behind_when_writing_anew_fails_at_any_step() {
    for (op, errno) in [
        (Op::Create, ENOSPC),
        (Op::Write, ENOSPC),
        (Op::Allocate, ENOSPC),
        (Op::SyncAll, EIO),
        (Op::Rename, EIO),
    ] {
        let scene = Scene::new().await;
        let first = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
        scene.script.always(op, errno);
        let failed = scene.vault.clear().await;
        let right_error = match op {
            Op::SyncAll => matches!(failed, Err(StoreError::Unsynced { .. })),
            Op::Rename => matches!(failed, Err(StoreError::Io { .. })),
            _ => matches!(failed, Err(StoreError::Full { .. })),
        };
        assert!(right_error, "{op:?}: {failed:?}");
        scene.script.nothing_fails();
        assert_eq!(scene.stored().await, Some((b"one".to_vec(), first)), "{op:?}");
        let names = std::fs::read_dir(scene.vault.path().parent().unwrap()).unwrap();
        assert_eq!(names.count(), 2, "{op:?}: more than the vault and its lock file");
    }
}

#[tokio::test]
async fn a_put_syncs_once_and_so_does_a_note() {
    let scene = Scene::new().await;
    let syncs = |scene: &Scene| scene.script.count(Op::SyncData) + scene.script.count(Op::SyncAll);
    let before = syncs(&scene);
    scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    assert_eq!(syncs(&scene), before + 1);
    let lease = scene.vault.lease(&scene.key, std::time::Duration::ZERO).await.unwrap();
    lease.set_note(&crate::Note::new(b"note".to_vec()).unwrap()).await.unwrap();
    assert_eq!(syncs(&scene), before + 2);
}

/// Lets another task look at the vault in the middle of a write: whatever is asked before an operation.
struct Looking {
    at: Op,
    errno: i32,
    vault: Mutex<Option<Vault>>,
    seen: Mutex<Vec<Option<crate::Revision>>>,
}

impl std::fmt::Debug for Looking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Looking")
    }
}

impl Faults for Looking {
    fn before(&self, op: Op) -> Option<Fault> {
        if op != self.at {
            return None;
        }
        let vault = self.vault.lock().unwrap().take()?;
        let seen = vault.shared.revision(&Key::new("k").unwrap()).unwrap();
        self.seen.lock().unwrap().push(seen);
        Some(Fault::Errno(self.errno))
    }
}

#[tokio::test]
async fn a_reader_in_the_middle_of_a_failed_sync_does_not_keep_the_file_from_being_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let looking =
        Arc::new(Looking { at: Op::SyncData, errno: EIO, vault: Mutex::default(), seen: Mutex::default() });
    let mut options = VaultOptions::new();
    options.disk.faults = Some(Arc::clone(&looking) as Arc<dyn Faults>);
    let vault = options.create(folder.path().join("v"), vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
    *looking.vault.lock().unwrap() = Some(vault.clone());
    let key = Key::new("k").unwrap();
    let revision = vault.put(&key, &value("one"), Expected::Absent).await.unwrap();
    assert_eq!(*looking.seen.lock().unwrap(), [Some(revision)], "nobody looked");
    let other = Vault::open(vault.path(), &Unlock::identity(IDENTITY, "test")).await.unwrap();
    assert_eq!(other.get(&key).await.unwrap().unwrap().value.expose(), b"one");
}

#[tokio::test]
async fn the_revision_of_a_write_whose_sync_failed_is_not_given_to_another() {
    let scene = Scene::new().await;
    let first = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    scene.script.once(Op::SyncData, Fault::Errno(EIO));
    scene.script.once(Op::Create, Fault::Errno(ENOSPC));
    assert!(scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await.is_err());
    // Whoever read meanwhile may have seen it at the next revision.
    let second = scene.vault.put(&scene.key, &value("three"), Expected::At(first)).await.unwrap();
    assert!(second.get() > first.get() + 1, "{second} may have been seen with another value");
}

#[tokio::test]
async fn a_file_that_lost_only_what_failed_is_not_taken_for_an_older_one() {
    let went_back = |scene: &Scene| scene.vault.shared.went_back.load(std::sync::atomic::Ordering::SeqCst);
    for (what, fails) in [
        ("a torn tail", &[(Op::Write, Fault::Short(60)), (Op::Truncate, Fault::Errno(EIO))][..]),
        ("a failed sync", &[(Op::SyncData, Fault::Errno(EIO))]),
        (
            "a failed sync on a full disk",
            &[(Op::SyncData, Fault::Errno(EIO)), (Op::Create, Fault::Errno(ENOSPC))],
        ),
    ] {
        let scene = Scene::new().await;
        let backup = std::fs::read(scene.vault.path()).unwrap();
        let first = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
        fails.iter().for_each(|(op, fault)| scene.script.once(*op, *fault));
        let second = scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await;
        assert!(!went_back(&scene), "{what}");
        scene.script.nothing_fails();
        let third = scene.vault.put(&scene.key, &value("three"), Expected::Any).await.unwrap();
        assert!(!went_back(&scene), "{what}, and the next put");
        assert!(second.unwrap_or(first) < third);
        // And a real one is noticed all the same.
        let replacement = scene.vault.path().with_extension("backup");
        std::fs::write(&replacement, &backup).unwrap();
        std::fs::set_permissions(&replacement, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(&replacement, scene.vault.path()).unwrap();
        assert!(scene.vault.get(&scene.key).await.unwrap().is_none());
        assert!(went_back(&scene), "{what}, and then a backup");
        let last = scene.vault.put(&scene.key, &value("four"), Expected::Absent).await.unwrap();
        assert!(last > third, "{what}");
    }
}

#[tokio::test]
async fn after_a_file_was_written_anew_nothing_is_distrusted_any_more() {
    let scene = Scene::new().await;
    let first = scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    scene.script.once(Op::SyncData, Fault::Errno(EIO));
    scene.vault.put(&scene.key, &value("two"), Expected::At(first)).await.unwrap();
    // With a file to distrust, taking a lease is a write, and waits for the writer. The inode of the file that is gone may
    // be that of any file that comes later.
    let shared = &scene.vault.shared;
    let writer =
        super::lock::Held::try_take(&shared.disk, &shared.place.lock, &[super::lock::WRITER]).unwrap();
    let written = [Op::Create, Op::SyncData, Op::SyncAll].map(|op| scene.script.count(op));
    let lease = scene.vault.lease(&scene.key, std::time::Duration::ZERO).await.unwrap();
    assert_eq!([Op::Create, Op::SyncData, Op::SyncAll].map(|op| scene.script.count(op)), written);
    drop(writer);
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_file_whose_name_may_not_be_durable_is_not_trusted_with_the_next_write() {
    let scene = Scene::new().await;
    scene.vault.put(&scene.key, &value("one"), Expected::Absent).await.unwrap();
    scene.script.once(Op::SyncFolder, Fault::Errno(EIO));
    // Removed, and the file written anew; but after a power cut the folder may name the old one.
    scene.vault.remove(&scene.key, Expected::Any).await.unwrap();
    let renamed = scene.inode();
    let synced = scene.script.count(Op::SyncFolder);
    let second = scene.vault.put(&scene.key, &value("two"), Expected::Absent).await.unwrap();
    assert!(scene.script.count(Op::SyncFolder) > synced, "appended to a file whose name may be lost");
    assert_ne!(scene.inode(), renamed);
    assert_eq!(scene.stored().await, Some((b"two".to_vec(), second)));
    let inode = scene.inode();
    scene.vault.put(&scene.key, &value("three"), Expected::At(second)).await.unwrap();
    assert_eq!(scene.inode(), inode, "written anew though nothing failed");
}
