//! Damage is not absence: what is cut off, flipped or overwritten is told, never read as nothing, and costs no other
//! entry anything.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

#[path = "damage/bits.rs"]
mod bits;
#[path = "damage/forged.rs"]
mod forged;
#[path = "damage/nobody.rs"]
mod nobody;
mod scene;
#[path = "damage/torn.rs"]
mod torn;
#[path = "damage/ways.rs"]
mod ways;

use std::collections::BTreeMap;

use scene::{Scene, key, value};
use tokenkeep_store::{
    Expected, FrameKind, FrameState, Key, NewWayIn, Note, SecretStore, StoreError, Unlock, Vault, VaultReport,
};

/// What each key reads as: its value, nothing, or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reads {
    Value(Vec<u8>),
    Nothing,
    Corrupt,
}

async fn reads(vault: &Vault, key: &Key) -> Reads {
    match vault.get(key).await {
        Ok(Some(entry)) => Reads::Value(entry.value.expose().to_vec()),
        Ok(None) => Reads::Nothing,
        Err(StoreError::Corrupt { .. }) => Reads::Corrupt,
        Err(other) => panic!("neither read nor corrupt: {other}"),
    }
}

/// A vault in which `a` was written twice, `b` once, and `c` came and went; its bytes, and its frames.
async fn small_vault() -> (Scene, Vec<u8>, VaultReport) {
    let scene = Scene::in_memory().await;
    let vault = &scene.vault;
    // `c` first: removing it writes the file anew, which would drop the older `a`.
    vault.put(&key("c"), &value("gone"), Expected::Absent).await.unwrap();
    vault.remove(&key("c"), Expected::Any).await.unwrap();
    vault.put(&key("a"), &value("old a"), Expected::Absent).await.unwrap();
    vault.put(&key("b"), &value("the b"), Expected::Absent).await.unwrap();
    let lease = vault.lease(&key("a"), std::time::Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(b"note of a".to_vec()).unwrap()).await.unwrap();
    lease.put(&value("new a"), Expected::Any).await.unwrap();
    let report = vault.verify(true).await.unwrap();
    assert_eq!(report.damaged().count(), 0);
    let bytes = scene.bytes();
    (scene, bytes, report)
}

fn last_frame_before(report: &VaultReport, end: usize, name: &str) -> Option<u64> {
    let whole = |frame: &&tokenkeep_store::VaultFrame| frame.offset + frame.bytes <= end as u64;
    let of_key = |frame: &&tokenkeep_store::VaultFrame| {
        frame.kind == Some(FrameKind::Put) && frame.key.as_ref().is_some_and(|key| key.as_str() == name)
    };
    report.frames.iter().filter(whole).filter(of_key).map(|frame| frame.seq).next_back()
}

async fn check_entries(vault: &Vault, expected: &[Reads; 3], what: &str) {
    for (name, expected) in ["a", "b", "c"].into_iter().zip(expected) {
        assert_eq!(reads(vault, &key(name)).await, *expected, "{what}: {name}");
    }
}
