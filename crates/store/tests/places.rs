//! Where a vault may stand: owners, permissions, links, mounts, and what is said where it may not.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]
#![cfg(target_os = "linux")]

mod scene;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use scene::{
    RECIPIENT, Scene, again, as_another_user, identity, in_new_mounts, key, mount, set_mode, told, value,
};
use tokenkeep_store::{Expected, NewWayIn, SecretStore, StoreError, Vault};

fn ways() -> Vec<NewWayIn> {
    vec![NewWayIn::recipient(RECIPIENT)]
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn it_is_made_for_its_owner_alone_and_stands_with_its_lock_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/sessions.vault");
    let vault = Vault::create(&path, ways()).await.unwrap();
    for name in ["x", "y"] {
        vault.put(&key(name), &value("1"), Expected::Any).await.unwrap();
    }
    drop(vault.lease(&key("x"), Duration::ZERO).await.unwrap());
    vault.remove(&key("x"), Expected::Any).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder.path().join("a")), 0o700);
    assert_eq!(mode(&folder.path().join("a/b")), 0o700);
    assert_eq!(names(&folder.path().join("a/b")), ["sessions.vault", "sessions.vault.lock"]);
    assert_eq!(mode(&vault.lock_path()), 0o600);
    assert_eq!(std::fs::metadata(vault.lock_path()).unwrap().len(), 0, "the lock file is never written");
}

#[tokio::test]
async fn nothing_is_ever_overwritten_by_making_a_vault() {
    let scene = Scene::new().await;
    scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    let before = scene.bytes();
    for content in [&before[..], b"", b"not a vault"] {
        scene.replace(content);
        assert!(Vault::exists(&scene.path).unwrap());
        let made = Vault::create(&scene.path, ways()).await;
        assert!(matches!(made, Err(StoreError::Exists { .. })), "{made:?}");
        assert_eq!(scene.bytes(), content);
    }
}

#[tokio::test]
async fn of_two_that_make_a_vault_at_once_one_does() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { Vault::create(&path, ways()).await })
            })
            .collect();
        let mut made = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(vault) => made.push(vault.key_id()),
                Err(StoreError::Exists { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(made.len(), 1);
        assert_eq!(Vault::open(&path, &identity()).await.unwrap().key_id(), made[0]);
    }
}

#[tokio::test]
async fn what_is_missing_is_missing_and_is_not_made_by_looking() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("v"), folder.path().join("no/such/folder/v")] {
        assert!(!Vault::exists(&path).unwrap());
        let opened = Vault::open(&path, &identity()).await;
        assert!(matches!(opened, Err(StoreError::Missing { .. })), "{opened:?}");
        assert!(matches!(Vault::probe(&path), Err(StoreError::Missing { .. })));
    }
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn a_vault_that_goes_away_is_missing_and_is_not_made_again() {
    let scene = Scene::new().await;
    scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    std::fs::remove_file(&scene.path).unwrap();
    assert!(matches!(scene.vault.get(&key("a")).await, Err(StoreError::Missing { .. })));
    assert!(matches!(scene.vault.revision(&key("a")).await, Err(StoreError::Missing { .. })));
    let put = scene.vault.put(&key("a"), &value("2"), Expected::Any).await;
    assert!(matches!(put, Err(StoreError::Missing { .. })), "{put:?}");
    assert!(matches!(scene.vault.clear().await, Err(StoreError::Missing { .. })));
    assert!(!scene.path.exists());
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sub = folder.path().join("sub");
    std::fs::create_dir(&sub).unwrap();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [&sub, &fifo, &file.join("below a file")] {
        let opened = Vault::open(path, &identity()).await;
        assert!(matches!(opened, Err(StoreError::Place { .. })), "{opened:?}");
    }
    let made = Vault::create(&sub, ways()).await;
    assert!(matches!(made, Err(StoreError::Place { .. })), "{made:?}");
}

#[tokio::test]
async fn a_symlink_is_followed_once_and_everything_stands_beside_the_real_file() {
    let scene = Scene::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link");
    symlink(&scene.path, &link).unwrap();
    let vault = Vault::open(&link, &identity()).await.unwrap();
    assert_eq!(vault.path(), scene.path);
    vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    // Both names lead to one lock.
    let lease = vault.lease(&key("a"), Duration::ZERO).await.unwrap();
    assert!(scene.vault.lease(&key("a"), Duration::ZERO).await.is_err());
    drop(lease);
    vault.remove(&key("a"), Expected::Any).await.unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink(), "writing anew replaced the link");
    assert_eq!(names(elsewhere.path()), ["link"]);

    let second = elsewhere.path().join("second");
    symlink("link", &second).unwrap();
    let opened = Vault::open(&second, &identity()).await;
    assert!(matches!(opened, Err(StoreError::Place { .. })), "{opened:?}");

    // A link that leads nowhere yet: missing, and made where it leads.
    let dangling = elsewhere.path().join("dangling");
    symlink("target", &dangling).unwrap();
    assert!(matches!(Vault::open(&dangling, &identity()).await, Err(StoreError::Missing { .. })));
    let made = Vault::create(&dangling, ways()).await.unwrap();
    assert_eq!(made.path(), elsewhere.path().join("target"));
    assert!(elsewhere.path().join("target.lock").exists());
}

#[tokio::test]
async fn a_hard_link_is_refused() {
    let scene = Scene::new().await;
    let other = scene.folder.path().join("other name");
    std::fs::hard_link(&scene.path, &other).unwrap();
    for path in [&scene.path, &other] {
        let opened = Vault::open(path, &identity()).await;
        assert!(
            matches!(&opened, Err(StoreError::Place { reason, .. }) if reason.contains("hard link")),
            "{opened:?}"
        );
    }
    std::fs::remove_file(&other).unwrap();
    scene.open().await;
}

#[tokio::test]
async fn permissions_for_others_are_refused_with_the_fix_and_those_of_the_group_are_not() {
    let scene = Scene::new().await;
    for open in [0o604, 0o602, 0o606, 0o644, 0o666] {
        set_mode(&scene.path, open);
        let opened = scene.try_open().await;
        let fix = format!("chmod 600 {}", scene.path.display());
        assert!(
            matches!(&opened, Err(error @ StoreError::Place { .. }) if error.to_string().contains(&fix)),
            "{opened:?}"
        );
    }
    for fine in [0o600, 0o400, 0o640, 0o660] {
        set_mode(&scene.path, fine);
        scene.open().await;
    }
    set_mode(&scene.path, 0o600);
    set_mode(scene.folder.path(), 0o777);
    let opened = scene.try_open().await;
    assert!(
        matches!(&opened, Err(error @ StoreError::Place { .. }) if error.to_string().contains("chmod o-w")),
        "{opened:?}"
    );
    for fine in [0o700, 0o755, 0o1777] {
        set_mode(scene.folder.path(), fine);
        scene.open().await;
    }
}

#[tokio::test]
async fn a_vault_of_another_owner_is_refused_to_root_too() {
    let scene = Scene::new().await;
    let (path, owner) = match scene::is_root() {
        true => {
            std::os::unix::fs::chown(&scene.path, Some(12_345), None).unwrap();
            (scene.path.clone(), 12_345)
        }
        // Any file of root's does: the owner is looked at before anything else.
        false => ("/etc/passwd".into(), 0),
    };
    let opened = Vault::open(&path, &identity()).await;
    assert!(matches!(opened, Err(StoreError::AnotherOwner { owner: of, .. }) if of == owner), "{opened:?}");
    assert!(matches!(Vault::probe(&path), Err(StoreError::AnotherOwner { .. })));
    // Nor is a lock file that another user could lock for ever.
    if scene::is_root() {
        let scene = Scene::new().await;
        std::os::unix::fs::chown(scene.vault.lock_path(), Some(12_345), None).unwrap();
        let lease = scene.vault.lease(&key("a"), Duration::ZERO).await;
        assert!(matches!(lease, Err(StoreError::AnotherOwner { .. })), "{lease:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_can_be_read() {
    let Some(folder) = told("read-only") else {
        let scene = Scene::new().await;
        scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
        let lease = scene.vault.lease(&key("a"), Duration::ZERO).await.unwrap();
        lease.set_note(&tokenkeep_store::Note::new(b"n".to_vec()).unwrap()).await.unwrap();
        lease.release().await.unwrap();
        std::fs::remove_file(scene.vault.lock_path()).unwrap();
        set_mode(&scene.path, 0o400);
        set_mode(scene.folder.path(), 0o500);
        // Root ignores modes.
        as_another_user(
            again("what_cannot_be_written_can_be_read", "read-only", scene.folder.path()),
            scene.folder.path(),
        );
        set_mode(scene.folder.path(), 0o700);
        return;
    };
    let vault = Vault::open(folder.join("sessions.vault"), &identity()).await.unwrap();
    assert_only_reads(&vault).await;
}

async fn assert_only_reads(vault: &Vault) {
    let a = key("a");
    let revision = vault.get(&a).await.unwrap().unwrap().revision;
    assert_eq!(vault.revision(&a).await.unwrap(), Some(revision));
    assert_eq!(vault.keys().await.unwrap(), std::slice::from_ref(&a));
    assert_eq!(vault.note(&a).await.unwrap().unwrap().as_bytes(), b"n");
    vault.status().await.unwrap();
    let not_writable = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::NotWritable { .. })), "{result:?}");
    };
    not_writable(vault.put(&a, &value("2"), Expected::Any).await.map(drop));
    not_writable(vault.remove(&a, Expected::Any).await);
    not_writable(vault.clear().await);
    not_writable(vault.lease(&a, Duration::ZERO).await.map(drop));
    assert_eq!(vault.get(&a).await.unwrap().unwrap().revision, revision);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_though_its_folder_can_is_not_writable() {
    let Some(folder) = told("read-only-file") else {
        let scene = Scene::new().await;
        scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
        set_mode(&scene.path, 0o400);
        as_another_user(
            again(
                "a_file_that_cannot_be_written_though_its_folder_can_is_not_writable",
                "read-only-file",
                scene.folder.path(),
            ),
            scene.folder.path(),
        );
        return;
    };
    let path = folder.join("sessions.vault");
    let vault = Vault::open(&path, &identity()).await.unwrap();
    let before = std::fs::metadata(&path).unwrap().ino();
    let put = vault.put(&key("a"), &value("2"), Expected::Any).await;
    assert!(matches!(put, Err(StoreError::NotWritable { .. })), "{put:?}");
    let lease = vault.lease(&key("a"), Duration::ZERO).await;
    assert!(matches!(lease, Err(StoreError::NotWritable { .. })), "{lease:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), before);
    // Made writable again, the same handle writes.
    set_mode(&path, 0o600);
    vault.put(&key("a"), &value("2"), Expected::Any).await.unwrap();
}

#[tokio::test]
async fn a_place_that_cannot_be_reached_is_not_missing() {
    let Some(folder) = told("unreachable") else {
        let scene = Scene::new().await;
        as_another_user(
            again("a_place_that_cannot_be_reached_is_not_missing", "unreachable", scene.folder.path()),
            scene.folder.path(),
        );
        return;
    };
    let locked = folder.join("locked");
    std::fs::create_dir(&locked).unwrap();
    set_mode(&locked, 0o000);
    let path = locked.join("v");
    for result in [Vault::open(&path, &identity()).await, Vault::create(&path, ways()).await] {
        assert!(matches!(result, Err(StoreError::Place { .. })), "{result:?}");
    }
    set_mode(&locked, 0o500);
    let made = Vault::create(&path, ways()).await;
    assert!(matches!(made, Err(StoreError::NotWritable { .. })), "{made:?}");
    let made = Vault::create(locked.join("sub/v"), ways()).await;
    assert!(matches!(made, Err(StoreError::NotWritable { .. })), "{made:?}");
    set_mode(&locked, 0o700);
}

#[tokio::test]
async fn a_mounted_single_file_is_refused_and_a_mounted_folder_is_fine() {
    let Some(folder) = told("mounted") else {
        let scene = Scene::new().await;
        in_new_mounts(again(
            "a_mounted_single_file_is_refused_and_a_mounted_folder_is_fine",
            "mounted",
            scene.folder.path(),
        ));
        return;
    };
    let path = folder.join("sessions.vault");
    let single = folder.join("single");
    std::fs::create_dir(&single).unwrap();
    let target = single.join("v");
    std::fs::write(&target, "").unwrap();
    mount(&["--bind".as_ref(), path.as_os_str(), target.as_os_str()]);
    let opened = Vault::open(&target, &identity()).await;
    let says = |error: &StoreError| error.to_string().contains("mount the folder");
    assert!(matches!(&opened, Err(error @ StoreError::Place { .. }) if says(error)), "{opened:?}");

    let mounted = tempfile::tempdir().unwrap();
    mount(&["--bind".as_ref(), folder.as_os_str(), mounted.path().as_os_str()]);
    let vault = Vault::open(mounted.path().join("sessions.vault"), &identity()).await.unwrap();
    vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    vault.remove(&key("a"), Expected::Any).await.unwrap();
}

#[tokio::test]
async fn a_read_only_file_system_can_be_read() {
    let Some(folder) = told("read-only-mount") else {
        let scene = Scene::new().await;
        scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
        let lease = scene.vault.lease(&key("a"), Duration::ZERO).await.unwrap();
        lease.set_note(&tokenkeep_store::Note::new(b"n".to_vec()).unwrap()).await.unwrap();
        lease.release().await.unwrap();
        in_new_mounts(again("a_read_only_file_system_can_be_read", "read-only-mount", scene.folder.path()));
        return;
    };
    mount(&["--bind".as_ref(), folder.as_os_str(), folder.as_os_str()]);
    mount(&["-o".as_ref(), "remount,bind,ro".as_ref(), folder.as_os_str()]);
    let vault = Vault::open(folder.join("sessions.vault"), &identity()).await.unwrap();
    assert_only_reads(&vault).await;
}
