//! What the tests of this suite do: break a file, look at it, repair it, and look again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokenkeep_store::{
    Expected, FrameKind, Key, NewWayIn, Note, RepairPlan, Repaired, Salvage, SecretStore, StoreError, Unlock,
    Vault, VaultOptions, VaultReport,
};

use crate::scene::{IDENTITY, RECIPIENT, Scene, key, value};

/// Another key pair made for these tests: the other way in.
pub(crate) const OTHER_IDENTITY: &str =
    "AGE-SECRET-KEY-1ANN5UU0RG6TZE9C7KGC278GYQV0H2UYLRVMT4GTDU0M4MTHYSR2Q5H5YA7";

/// What each entry of a vault holds.
pub(crate) type Values = BTreeMap<&'static str, Vec<u8>>;

/// A vault that two keys open, in memory.
pub(crate) async fn vault() -> Scene {
    let ways = vec![NewWayIn::recipient(RECIPIENT), NewWayIn::recipient(other_recipient())];
    Scene::within(Scene::memory(), ways).await
}

pub(crate) fn other_recipient() -> String {
    let identity: age::x25519::Identity = OTHER_IDENTITY.parse().unwrap();
    identity.to_public().to_string()
}

pub(crate) async fn put(scene: &Scene, name: &'static str, text: &str, values: &mut Values) {
    scene.vault.put(&key(name), &value(text), Expected::Any).await.unwrap();
    values.insert(name, text.as_bytes().to_vec());
}

pub(crate) async fn note(scene: &Scene, name: &str, text: &str) {
    let lease = scene.vault.lease(&key(name), Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(text.as_bytes().to_vec()).unwrap()).await.unwrap();
}

/// Opens the file in spite of its damage, by one key or the other.
pub(crate) async fn salvage(scene: &Scene, what: &str) -> Salvage {
    let mut refusals = Vec::new();
    for identity in [IDENTITY, OTHER_IDENTITY] {
        match VaultOptions::new().salvage(&scene.path, &Unlock::identity(identity, "the test")).await {
            Ok(salvage) => return salvage,
            Err(error @ StoreError::Corrupt { .. } | error @ StoreError::WrongIdentity { .. }) => {
                refusals.push(error.to_string());
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    panic!("{what}: neither key opens it: {refusals:?}");
}

/// Opens the vault as everyday use does, by one key or the other.
pub(crate) async fn open(scene: &Scene) -> Option<Vault> {
    for identity in [IDENTITY, OTHER_IDENTITY] {
        if let Ok(vault) = Vault::open(&scene.path, &Unlock::identity(identity, "the test")).await {
            return Some(vault);
        }
    }
    None
}

/// Where the newest state of each entry stands, in a vault that is whole.
pub(crate) fn newest(report: &VaultReport) -> BTreeMap<String, std::ops::Range<usize>> {
    let at = |offset: u64| usize::try_from(offset).unwrap();
    report
        .entries()
        .map(|frame| {
            (
                frame.key.as_ref().unwrap().as_str().to_owned(),
                at(frame.offset)..at(frame.offset + frame.bytes),
            )
        })
        .collect()
}

/// The names of these entries, sorted. One whose name is not known is `?`.
pub(crate) fn names<'a>(
    entries: impl IntoIterator<Item = &'a tokenkeep_store::AffectedEntry>,
) -> Vec<String> {
    let name =
        |entry: &tokenkeep_store::AffectedEntry| entry.key.as_ref().map_or("?", Key::as_str).to_owned();
    let mut names: Vec<_> = entries.into_iter().map(name).collect();
    names.sort();
    names
}

/// Repairs the vault, and checks all that a repair promises: the damaged file is kept byte for byte, the vault is whole,
/// has its key id, holds what the plan keeps and nothing else, and no revision comes twice.
pub(crate) async fn repair(
    scene: &Scene,
    salvage: &Salvage,
    plan: &RepairPlan,
    values: &Values,
    what: &str,
) -> Repaired {
    let before = scene.bytes();
    let highest = salvage.report().frames.iter().map(|frame| frame.seq).max().unwrap_or(0);
    let repaired =
        salvage.repair(plan, Duration::from_secs(10)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(std::fs::read(&repaired.damaged).unwrap(), before, "{what}: the damaged file is kept");
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&repaired.damaged).unwrap()) & 0o777,
        0o600
    );
    let vault = open(scene).await.unwrap_or_else(|| panic!("{what}: the repaired vault does not open"));
    let report = vault.verify(true).await.unwrap();
    assert!(report.is_whole() && report.torn_tail.is_none(), "{what}: {report:?}");
    assert_eq!(vault.key_id(), scene.vault.key_id(), "{what}");
    vault.status().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let gone = names(plan.gone());
    let kept: Vec<_> = vault.keys().await.unwrap().iter().map(|key| key.as_str().to_owned()).collect();
    assert_eq!(kept.len(), plan.kept, "{what}");
    for name in kept {
        assert!(!gone.contains(&name), "{what}: {name} was said to be lost");
        let read = vault.get(&key(&name)).await.unwrap().unwrap();
        assert_eq!(read.value.expose(), values[name.as_str()], "{what}: {name}");
    }
    for name in gone.iter().filter(|name| *name != "?") {
        assert_eq!(
            vault.get(&key(name)).await.unwrap().map(|_| ()),
            None,
            "{what}: {name} was said to be lost"
        );
        assert_eq!(vault.note(&key(name)).await.unwrap(), None, "{what}: a note of {name}, which is lost");
    }
    let new = vault.put(&key("new"), &value("new"), Expected::Any).await.unwrap();
    assert!(new.get() > highest && highest < 1 << 50, "{what}: {new} after {highest}");
    std::fs::remove_file(&repaired.damaged).unwrap();
    repaired
}

/// The files in the vault's folder.
pub(crate) fn files(scene: &Scene) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(scene.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The frame of this kind in a report, of which there is one.
pub(crate) fn only(report: &VaultReport, kind: FrameKind) -> std::ops::Range<usize> {
    let mut found = report.frames.iter().filter(|frame| frame.kind == Some(kind));
    let frame = found.next().unwrap();
    assert!(found.next().is_none());
    usize::try_from(frame.offset).unwrap()..usize::try_from(frame.offset + frame.bytes).unwrap()
}
