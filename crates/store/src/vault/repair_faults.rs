//! A repair that the disk fails at any step leaves the damaged vault or the repaired one, never less.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokenkeep_secret::Secret;

use super::disk::{Disk, Fault, Faults, Op};
use super::{NewWayIn, Unlock, Vault, VaultOptions};
use crate::{Expected, Key, SecretStore};

const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

/// Fails one operation: that which is asked for after so many others.
#[derive(Debug)]
struct FailsAt {
    left: AtomicUsize,
    errno: i32,
}

impl Faults for FailsAt {
    fn before(&self, _op: Op) -> Option<Fault> {
        let left = self.left.load(Ordering::SeqCst);
        self.left.store(left.wrapping_sub(1), Ordering::SeqCst);
        (left == 0).then_some(Fault::Errno(self.errno))
    }
}

#[tokio::test]
async fn whatever_step_of_a_repair_the_disk_fails_the_vault_is_the_damaged_or_the_repaired_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    let unlock = Unlock::identity(IDENTITY, "the test");
    let vault = Vault::create(&path, vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
    for name in ["a", "b", "c"] {
        let value = Secret::from(name.as_bytes());
        vault.put(&Key::new(name).unwrap(), &value, Expected::Any).await.unwrap();
    }
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[48] ^= 1;
    *damaged.last_mut().unwrap() ^= 1;
    for errno in [nix::libc::EIO, nix::libc::ENOSPC] {
        let (mut failed, mut step) = (0, 0);
        loop {
            for left in std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
                if left != path && left != vault.lock_path() {
                    std::fs::remove_file(left).unwrap();
                }
            }
            // In its place, so that it has one name and its own mode.
            std::fs::write(&path, &damaged).unwrap();
            let faults = Arc::new(FailsAt { left: AtomicUsize::new(usize::MAX), errno });
            let options = VaultOptions {
                disk: Disk { faults: Some(Arc::clone(&faults) as Arc<dyn Faults>), ..Disk::default() },
                ..VaultOptions::new()
            };
            let salvage = options.salvage(&path, &unlock).await.unwrap();
            let plan = salvage.plan(false);
            faults.left.store(step, Ordering::SeqCst);
            let repaired = salvage.repair(&plan, Duration::from_secs(10)).await;
            let reached = faults.left.load(Ordering::SeqCst) > step;
            let is_damaged = std::fs::read(&path).unwrap() == damaged;
            let what = format!("step {step}, errno {errno}: {repaired:?}");
            assert!(is_damaged == repaired.is_err() || reached && !is_damaged, "{what}");
            if !is_damaged {
                let kept = |path: std::path::PathBuf| {
                    path.to_str().unwrap().contains(".damaged-") && std::fs::read(path).unwrap() == damaged
                };
                let mut beside = std::fs::read_dir(folder.path()).unwrap();
                assert!(beside.any(|entry| kept(entry.unwrap().path())), "{what}");
                let opened = Vault::open(&path, &unlock).await.unwrap();
                assert!(opened.verify(false).await.unwrap().is_whole(), "{what}");
                assert_eq!(opened.keys().await.unwrap().len(), 2, "{what}");
            }
            assert!(!folder.path().join("v.new").exists(), "{what}");
            if !reached {
                assert!(repaired.is_ok(), "{what}");
                break;
            }
            failed += usize::from(repaired.is_err());
            step += 1;
        }
        assert!(failed > 10, "too few steps failed: {failed}");
    }
}
