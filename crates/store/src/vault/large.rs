//! A vault of a hundred thousand entries: what it takes of memory, however it is used.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokenkeep_secret::Secret;

use super::frame::FrameKind;
use super::{NewWayIn, Unlock, Vault};
use crate::{Expected, Key, SecretStore};

const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

const ENTRIES: u64 = 100_000;
/// An open vault of so many entries takes less than 64 MiB beyond Argon2id (`cargo xtask bench vault`); two handles that
/// both write, beside sixteen readers, not much more.
const LIMIT: u64 = 96 * 1024 * 1024;
/// Where the process finds the vault that it is to use.
const PLACE: &str = "TOKENKEEP_TEST_LARGE_VAULT";

fn key(number: u64) -> Key {
    Key::new(format!("key/{number}")).unwrap()
}

/// Written by hand: a put for each entry would sync a hundred thousand times.
async fn written_by_hand(path: &Path) {
    let vault = Vault::create(path, vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
    let mut bytes = Vec::new();
    let first = vault.shared.lock_seen().log.next_seq;
    for number in 0..ENTRIES {
        let key = key(number);
        let tag = vault.shared.keys.tag_of(key.as_str());
        let frame = vault.shared.sealed(FrameKind::Put, first + number, key.as_str(), tag, &[7; 64]);
        bytes.extend_from_slice(&frame.unwrap());
    }
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&bytes).unwrap();
    assert_eq!(vault.status().await.unwrap().entries as u64, ENTRIES);
}

fn in_bytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Everything that a process does with a vault, and several times what costs memory each time.
async fn used(path: &Path) {
    for number in 0..3 {
        let vault = Vault::open(path, &Unlock::identity(IDENTITY, "test")).await.unwrap();
        assert!(vault.get(&key(number)).await.unwrap().is_some());
        vault.put(&key(number), &Secret::new(vec![8; 64]), Expected::Any).await.unwrap();
        vault.remove(&key(number + 1_000), Expected::Any).await.unwrap();
        // The file that another handle writes anew is scanned once, however many readers find it.
        let other = Vault::open(path, &Unlock::identity(IDENTITY, "test")).await.unwrap();
        other.remove(&key(number + 2_000), Expected::Any).await.unwrap();
        drop(other);
        let readers = (0..16).map(|reader| {
            let vault = vault.clone();
            tokio::spawn(async move { vault.get(&key(reader)).await.unwrap() })
        });
        for reader in readers.collect::<Vec<_>>() {
            assert!(reader.await.unwrap().is_some());
        }
        assert!(vault.revision(&key(number + 2_000)).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_of_a_process_that_uses_a_large_vault_is_bounded() {
    if let Some(path) = std::env::var_os(PLACE) {
        let before = in_bytes("VmHWM:");
        used(&PathBuf::from(path)).await;
        println!("\nmore {}", in_bytes("VmHWM:") - before);
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("v");
    written_by_hand(&path).await;
    let name = "vault::large::the_memory_of_a_process_that_uses_a_large_vault_is_bounded";
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]).env(PLACE, &path);
    let out = again.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let more = text.lines().find_map(|line| line.strip_prefix("more ")).expect("nothing was said");
    let more = more.parse::<u64>().unwrap();
    // Less than the index alone takes would be no measurement.
    assert!((ENTRIES * 32..LIMIT).contains(&more), "{more} bytes more");
}
