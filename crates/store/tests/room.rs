//! Space: what is promised to a lease is there when the disk is full.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]
#![cfg(target_os = "linux")]

mod scene;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use scene::{RECIPIENT, again, identity, in_new_mounts, key, mount, told, value};
use tokenkeep_store::{Expected, NewWayIn, Note, Secret, SecretStore, StoreError, Vault};

/// A file system of `kib` KiB at `folder`, and a vault on it.
async fn small_disk(folder: &Path, kib: u32) -> Vault {
    mount(&[
        "-t".as_ref(),
        "tmpfs".as_ref(),
        "-o".as_ref(),
        format!("size={kib}k").as_ref(),
        "none".as_ref(),
        folder.as_os_str(),
    ]);
    Vault::create(folder.join("sessions.vault"), vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap()
}

/// Fills the disk to the last byte.
fn fill(folder: &Path) {
    let mut filler =
        std::fs::OpenOptions::new().create(true).append(true).open(folder.join("filler")).unwrap();
    for size in [64 * 1024, 4096, 1] {
        while filler.write_all(&vec![0xee; size]).is_ok() {}
    }
}

#[tokio::test]
async fn a_put_under_a_lease_finds_its_space_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(folder) = told("leased put") else {
        return in_new_mounts(again(
            "a_put_under_a_lease_finds_its_space_on_a_full_disk",
            "leased put",
            folder.path(),
        ));
    };
    let vault = small_disk(&folder, 6 * 1024).await;
    let (a, b) = (key("a"), key("b"));
    vault.put(&b, &value("b before"), Expected::Absent).await.unwrap();
    let lease = vault.lease(&a, Duration::ZERO).await.unwrap();
    fill(&folder);

    // Another session writes as long as that takes nothing from the room, then no more.
    let mut written = 0;
    let full = loop {
        match vault.put(&b, &Secret::new(vec![7; 50_000]), Expected::Any).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the disk never fills up");
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
    let b_before = vault.get(&b).await.unwrap().unwrap();
    let other = Vault::open(vault.path(), &identity()).await.unwrap();
    assert!(matches!(
        other.put(&b, &Secret::new(vec![7; 50_000]), Expected::Any).await,
        Err(StoreError::Full { .. })
    ));
    assert_eq!(other.get(&b).await.unwrap().unwrap().revision, b_before.revision, "nothing was written");

    // Under the lease: notes before and after, and the largest value that there is.
    let note = Note::new(vec![1; Note::MAX_BYTES]).unwrap();
    lease.set_note(&note).await.unwrap();
    lease.put(&Secret::new(vec![9; 1024 * 1024]), Expected::Absent).await.unwrap();
    assert_eq!(other.get(&a).await.unwrap().unwrap().value.len(), 1024 * 1024);
    assert_eq!(other.note(&a).await.unwrap(), Some(note));
    let report = other.verify(false).await.unwrap();
    assert_eq!((report.damaged().count(), report.torn_tail), (0, None));

    // The room is used up: nobody is promised it again before there is space.
    let second = other.lease(&b, Duration::ZERO).await;
    assert!(matches!(second, Err(StoreError::Full { .. })), "{second:?}");
    std::fs::remove_file(folder.join("filler")).unwrap();
    other.lease(&b, Duration::ZERO).await.unwrap().put(&value("b after"), Expected::Any).await.unwrap();
}

#[tokio::test]
async fn writing_anew_keeps_what_a_lease_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let Some(folder) = told("written anew") else {
        return in_new_mounts(again(
            "writing_anew_keeps_what_a_lease_was_promised",
            "written anew",
            folder.path(),
        ));
    };
    let vault = small_disk(&folder, 8 * 1024).await;
    let lease = vault.lease(&key("a"), Duration::ZERO).await.unwrap();
    vault.put(&key("b"), &value("b"), Expected::Absent).await.unwrap();
    // A new inode, by another handle; then the disk fills up.
    let other = Vault::open(vault.path(), &identity()).await.unwrap();
    other.remove(&key("b"), Expected::Any).await.unwrap();
    fill(&folder);
    lease.put(&Secret::new(vec![9; 1024 * 1024]), Expected::Absent).await.unwrap();
    assert_eq!(other.get(&key("a")).await.unwrap().unwrap().value.len(), 1024 * 1024);
}

#[tokio::test]
async fn two_leases_do_not_eat_each_others_room_while_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let Some(folder) = told("two leases") else {
        return in_new_mounts(again(
            "two_leases_do_not_eat_each_others_room_while_there_is_space",
            "two leases",
            folder.path(),
        ));
    };
    let vault = small_disk(&folder, 8 * 1024).await;
    let first = vault.lease(&key("a"), Duration::ZERO).await.unwrap();
    let second =
        Vault::open(vault.path(), &identity()).await.unwrap().lease(&key("b"), Duration::ZERO).await.unwrap();
    first.put(&Secret::new(vec![1; 1024 * 1024]), Expected::Absent).await.unwrap();
    fill(&folder);
    second.put(&Secret::new(vec![2; 1024 * 1024]), Expected::Absent).await.unwrap();
    assert_eq!(vault.get(&key("b")).await.unwrap().unwrap().value.len(), 1024 * 1024);
}

#[tokio::test]
async fn a_torn_tail_is_cut_on_a_full_disk_without_losing_the_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(folder) = told("torn tail") else {
        return in_new_mounts(again(
            "a_torn_tail_is_cut_on_a_full_disk_without_losing_the_room",
            "torn tail",
            folder.path(),
        ));
    };
    let vault = small_disk(&folder, 4 * 1024).await;
    vault.put(&key("b"), &value("b"), Expected::Absent).await.unwrap();
    let lease = vault.lease(&key("a"), Duration::ZERO).await.unwrap();
    fill(&folder);
    // What a killed writer leaves: the beginning of a frame, within the room.
    let end = std::fs::metadata(vault.path()).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(vault.path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"tkf\x02", end).unwrap();
    lease.put(&Secret::new(vec![9; 1024 * 1024]), Expected::Absent).await.unwrap();
    assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value.len(), 1024 * 1024);
    let report = vault.verify(false).await.unwrap();
    assert_eq!((report.damaged().count(), report.torn_tail), (0, None));
}

#[tokio::test]
async fn a_disk_without_space_for_a_vault_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let Some(folder) = told("no vault") else {
        return in_new_mounts(again("a_disk_without_space_for_a_vault_gets_none", "no vault", folder.path()));
    };
    mount(&[
        "-t".as_ref(),
        "tmpfs".as_ref(),
        "-o".as_ref(),
        "size=256k".as_ref(),
        "none".as_ref(),
        folder.as_os_str(),
    ]);
    let made = Vault::create(folder.join("v"), vec![NewWayIn::recipient(RECIPIENT)]).await;
    assert!(matches!(made, Err(StoreError::Full { .. })), "{made:?}");
    assert!(!folder.join("v").exists() && !folder.join("v.new").exists());
}

#[tokio::test]
async fn room_stands_past_the_end_and_is_not_part_of_the_file() {
    let scene = scene::Scene::new().await;
    let facts = std::fs::metadata(&scene.path).unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&facts) * 512;
    assert!(
        allocated >= facts.len() + 1024 * 1024,
        "{allocated} bytes are allocated for a file of {}",
        facts.len()
    );
    assert!(facts.len() < 4096);
    let status = scene.vault.status().await.unwrap();
    assert!(status.room_promised && status.room_bytes > 1024 * 1024);
}
