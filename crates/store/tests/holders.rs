//! Which locks are held and by whom, as the system tells it.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "vault", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use scene::{Scene, again, key, told, value};
use tokenkeep_store::{Expected, LockedPart, RoomState, SecretStore, Vault, VaultLock};

fn held(locks: &[VaultLock]) -> Vec<(&LockedPart, &[u32])> {
    locks.iter().map(|lock| (&lock.what, lock.pids.as_slice())).collect()
}

/// Locks one byte of the vault's lock file, as a writer or whoever changes the keys does.
fn lock(vault: &Vault, byte: i64) -> std::fs::File {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(vault.lock_path()).unwrap();
    let range = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&range)).unwrap();
    file
}

/// A process that is being started holds copies of its maker's locks for a moment, and is told then.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn each_lock_is_told_with_its_process_and_a_lease_with_the_name_of_its_entry() {
    let _alone = ALONE.lock().await;
    let scene = Scene::new().await;
    let vault = &scene.vault;
    assert_eq!(vault.locks().await.unwrap(), []);
    vault.put(&key("a"), &value("the a"), Expected::Any).await.unwrap();
    vault.put(&key("b"), &value("the b"), Expected::Any).await.unwrap();
    let me = std::process::id();
    let leases = [
        vault.lease(&key("a"), Duration::ZERO).await.unwrap(),
        vault.lease(&key("absent"), Duration::ZERO).await.unwrap(),
    ];
    let mut locks = vault.locks().await.unwrap();
    locks.sort_by_key(|lock| lock.what != LockedPart::Lease(Some(key("a"))));
    let named = LockedPart::Lease(Some(key("a")));
    assert_eq!(held(&locks), [(&named, &[me][..]), (&LockedPart::Lease(None), &[me])]);
    let unnamed = Vault::probe_locks(&scene.path).unwrap();
    assert_eq!(held(&unnamed), [(&LockedPart::Lease(None), &[me][..]), (&LockedPart::Lease(None), &[me])]);
    drop(leases);
    let writer = lock(vault, 0);
    let keys = lock(vault, 1);
    let locks = vault.locks().await.unwrap();
    assert_eq!(held(&locks), [(&LockedPart::Writer, &[me][..]), (&LockedPart::Keys, &[me])]);
    drop((writer, keys));
    assert_eq!(vault.locks().await.unwrap(), []);
    assert_eq!(vault.check_room().await.unwrap(), RoomState::Promised);
}

#[tokio::test]
async fn another_process_is_named_and_its_end_is_seen() {
    if let Some(place) = told("hold the lease of a") {
        let vault = Vault::open(place, &scene::identity()).await.unwrap();
        let lease = vault.lease(&key("a"), Duration::ZERO).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nholds it").and_then(|()| out.flush()).unwrap();
        std::io::stdin().lines().count();
        drop(lease);
        return;
    }
    let _alone = ALONE.lock().await;
    let scene = Scene::new().await;
    scene.vault.put(&key("a"), &value("the a"), Expected::Any).await.unwrap();
    let mut command =
        again("another_process_is_named_and_its_end_is_seen", "hold the lease of a", &scene.path);
    let mut other = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(other.stdout.take().unwrap());
    assert!(said.lines().map_while(Result::ok).any(|line| line == "holds it"));
    let named = LockedPart::Lease(Some(key("a")));
    assert_eq!(held(&scene.vault.locks().await.unwrap()), [(&named, &[other.id()][..])]);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(scene.vault.locks().await.unwrap(), []);
}
