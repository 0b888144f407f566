//! The vault's main job: make, open, write, read, renew under a lease.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

use std::time::Duration;

use tokenkeep_store::{Expected, Key, NewWayIn, Note, Secret, SecretStore, StoreError, Unlock, Vault};

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
