//! The vault's main job: make, open, write, read, renew under a lease.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

use std::time::Duration;

use tokenkeep_store::{
    Costs, Expected, FrameKind, FrameState, Key, NewWayIn, Note, Secret, SecretStore, StoreError, Unlock,
    Vault, WayKind,
};

/// A key pair made for these tests by `age-keygen`.
const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

#[tokio::test]
async fn what_one_handle_writes_another_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.vault");
    let vault = Vault::create(&path, vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
    let key = Key::new("session").unwrap();
    assert!(vault.get(&key).await.unwrap().is_none());
    let first = vault.put(&key, &Secret::from(&b"one"[..]), Expected::Absent).await.unwrap();
    let lease = vault.lease(&key, Duration::ZERO).await.unwrap();
    let second = lease.put(&Secret::from(&b"two"[..]), Expected::At(first)).await.unwrap();
    lease.set_note(&Note::new(b"done".to_vec()).unwrap()).await.unwrap();

    let other = Vault::open(&path, &Unlock::identity(IDENTITY, "the test")).await.unwrap();
    let entry = other.get(&key).await.unwrap().unwrap();
    assert_eq!((entry.value.expose(), entry.revision), (&b"two"[..], second));
    assert_eq!(other.note(&key).await.unwrap().unwrap().as_bytes(), b"done");
    assert!(matches!(other.lease(&key, Duration::ZERO).await, Err(StoreError::LeaseHeld { .. })));
    lease.release().await.unwrap();
    drop(other.lease(&key, Duration::ZERO).await.unwrap());
    other.remove(&key, Expected::At(second)).await.unwrap();
    assert!(vault.get(&key).await.unwrap().is_none());
    assert!(vault.put(&key, &Secret::from(&b"three"[..]), Expected::Absent).await.unwrap() > second);
    assert_eq!(vault.keys().await.unwrap(), vec![key]);
}

#[tokio::test]
async fn a_vault_says_what_it_is_like_with_and_without_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.vault");
    let costs = Costs::new(64, 1, 1).unwrap();
    let secret = Secret::from(&b"p"[..]);
    let ways = vec![
        NewWayIn::recipient(RECIPIENT),
        NewWayIn::Passphrase { secret, costs, label: "night shift".to_owned() },
    ];
    let vault = Vault::create(&path, ways).await.unwrap();
    let (a, b) = (Key::new("a").unwrap(), Key::new("b").unwrap());
    for key in [&a, &b, &a] {
        vault.put(key, &Secret::new(vec![1; 1000]), Expected::Any).await.unwrap();
    }
    let lease = vault.lease(&a, Duration::ZERO).await.unwrap();
    for text in ["sent", "done"] {
        lease.set_note(&Note::new(text.into()).unwrap()).await.unwrap();
    }

    let probe = Vault::probe(&path).unwrap();
    let status = vault.status().await.unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    let counts: Vec<_> = probe.frames.iter().filter(|(_, count)| *count > 0).copied().collect();
    let expected = [(FrameKind::WayIn, 2), (FrameKind::Put, 3), (FrameKind::Note, 2), (FrameKind::Ways, 1)];
    assert_eq!(counts, expected);
    assert_eq!(
        probe.ways.iter().map(|way| way.kind).collect::<Vec<_>>(),
        [WayKind::X25519, WayKind::Passphrase]
    );
    assert_eq!((probe.key_id, probe.bytes, probe.entries, probe.damaged), (vault.key_id(), bytes, 2, 0));
    assert_eq!((status.key_id, status.bytes, status.entries, status.damaged), (vault.key_id(), bytes, 2, 0));
    // One replaced put of a thousand bytes, one replaced note.
    assert!((1000..1400).contains(&probe.dead_bytes), "{}", probe.dead_bytes);
    assert_eq!(probe.live_bytes + probe.dead_bytes, bytes);
    assert_eq!((status.live_bytes, status.dead_bytes), (probe.live_bytes, probe.dead_bytes));
    assert_eq!((status.ways[1].label.as_str(), status.next_revision), ("night shift", 7));

    let named = vault.verify(true).await.unwrap();
    let dead = |frame: &&tokenkeep_store::VaultFrame| frame.state == FrameState::Dead;
    assert_eq!(named.frames.iter().filter(dead).count(), 2);
    assert_eq!(named.frames.iter().filter(|frame| frame.key.as_ref() == Some(&a)).count(), 4);
    let nameless = vault.verify(false).await.unwrap();
    assert!(nameless.frames.iter().all(|frame| frame.key.is_none()));
    assert_eq!(nameless.frames.iter().map(|frame| frame.bytes).sum::<u64>() + 47, bytes);
}
