//! Every byte of a small vault, every sector of a larger one, every length that it can be cut to.

use std::collections::BTreeMap;
use std::ops::Range;

use tokenkeep_store::{Expected, FrameKind, SecretStore, StoreError, Vault, VaultFrame, VaultReport};

use crate::saved::{Values, names, newest, note, open, put, repair, salvage, vault};
use crate::scene::{Scene, key};

/// What is read of each entry: right, or `Corrupt`; anything else fails.
async fn read(vault: &Vault, values: &Values, what: &str) -> BTreeMap<&'static str, bool> {
    let mut right = BTreeMap::new();
    for (name, expected) in values {
        let read = match vault.get(&key(name)).await {
            Ok(Some(entry)) => {
                assert_eq!(entry.value.expose(), expected, "{what}: {name}: another state was served");
                true
            }
            Ok(None) => panic!("{what}: {name}: damage was taken for absence"),
            Err(StoreError::Corrupt { .. }) => false,
            Err(error) => panic!("{what}: {name}: {error}"),
        };
        right.insert(*name, read);
    }
    right
}

/// A vault in which `a` was written twice and has a note, `b` once, and `c` came and went.
async fn small() -> (Scene, Values, VaultReport) {
    let scene = vault().await;
    let mut values = Values::new();
    put(&scene, "c", "gone", &mut values).await;
    scene.vault.remove(&key("c"), Expected::Any).await.unwrap();
    values.remove("c");
    put(&scene, "a", "old a", &mut values).await;
    put(&scene, "b", "the b", &mut values).await;
    note(&scene, "a", "note of a").await;
    note(&scene, "b", "note of b").await;
    put(&scene, "a", "new a", &mut values).await;
    let report = scene.vault.verify(true).await.unwrap();
    assert!(report.is_whole());
    (scene, values, report)
}

fn range(frame: &VaultFrame) -> Range<usize> {
    usize::try_from(frame.offset).unwrap()..usize::try_from(frame.offset + frame.bytes).unwrap()
}

fn overlaps(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

#[tokio::test]
async fn a_byte_that_changed_is_named_costs_its_own_entry_alone_and_is_repaired() {
    let (scene, values, report) = small().await;
    let bytes = scene.bytes();
    let newest = newest(&report);
    let dead = |at: usize| {
        report
            .frames
            .iter()
            .any(|frame| range(frame).contains(&at) && (!frame.counts || frame.kind == Some(FrameKind::Note)))
    };
    for at in 0..bytes.len() {
        for broken in [bytes[at] ^ 1 << (at % 8), !bytes[at]] {
            let what = format!("byte {at} is {broken:#04x}");
            let mut changed = bytes.clone();
            changed[at] = broken;
            scene.replace(&changed);
            // In everyday use.
            if let Some(vault) = open(&scene).await {
                let hit = |name: &str| (newest[name].start + 40..newest[name].end).contains(&at);
                let expected = values.keys().map(|name| (*name, !hit(name))).collect();
                assert_eq!(read(&vault, &values, &what).await, expected, "{what}");
            } else {
                assert!(at < 47, "{what}: it does not open");
            }
            // And repaired.
            let salvage = salvage(&scene, &what).await;
            let found = salvage.report();
            assert!(!found.is_whole(), "{what}: it is not named");
            assert_eq!(found.is_sound(), dead(at), "{what}: {found:?}");
            let plan = salvage.plan(false);
            let lost: Vec<_> = newest
                .iter()
                .filter(|(_, range)| (range.start + 40..range.end).contains(&at))
                .map(|(name, _)| name.clone())
                .collect();
            assert_eq!((names(&plan.lost), names(&plan.doubtful)), (lost, Vec::new()), "{what}");
            assert!(plan.needed, "{what}");
            // What is repaired does not depend on what the byte became.
            if broken == !bytes[at] {
                repair(&scene, &salvage, &plan, &values, &what).await;
            }
        }
    }
}

/// Seven entries of some hundred bytes, a third of them written twice.
async fn larger() -> (Scene, Values, VaultReport) {
    const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
    let scene = vault().await;
    let mut values = Values::new();
    for (number, name) in NAMES.into_iter().enumerate() {
        put(&scene, name, &format!("{name} first").repeat(3 + number * 7), &mut values).await;
    }
    for name in NAMES.into_iter().step_by(3) {
        put(&scene, name, &format!("{name} second").repeat(5), &mut values).await;
        note(&scene, name, "a note").await;
    }
    let report = scene.vault.verify(true).await.unwrap();
    (scene, values, report)
}

#[tokio::test]
async fn a_sector_of_zeros_hides_nothing_that_is_whole_but_by_the_rule_and_is_repaired() {
    let (scene, values, report) = larger().await;
    let bytes = scene.bytes();
    let newest = newest(&report);
    let ways: Vec<_> =
        report.frames.iter().filter(|frame| frame.kind == Some(FrameKind::WayIn)).map(range).collect();
    let mut doubted = 0;
    for size in [64, 512] {
        for start in (0..bytes.len()).step_by(size) {
            let what = format!("{size} zeros at byte {start}");
            let sector = start..(start + size).min(bytes.len());
            let mut changed = bytes.clone();
            changed[sector.clone()].fill(0);
            scene.replace(&changed);
            if ways.iter().all(|way| overlaps(way, &sector)) {
                // Nothing is left that opens.
                continue;
            }
            let salvage = salvage(&scene, &what).await;
            let found = salvage.report();
            if let Some((offset, _)) = found.torn_tail {
                // What cannot be told from an append that was never written: no head stands behind the zeros.
                assert!(report.frames.iter().all(|frame| frame.offset < sector.end as u64), "{what}");
                assert!(overlaps(&(usize::try_from(offset).unwrap()..bytes.len()), &sector), "{what}");
                let vault = open(&scene).await.unwrap();
                let untouched =
                    |range: &Range<usize>| range.end as u64 <= offset && !overlaps(range, &sector);
                for (name, _) in newest.iter().filter(|(_, range)| untouched(range)) {
                    let entry = vault.get(&key(name)).await.unwrap().unwrap();
                    assert_eq!(entry.value.expose(), values[name.as_str()], "{what}: {name}");
                }
                continue;
            }
            assert!(!found.is_whole(), "{what}: it is not named");
            let plan = salvage.plan(false);
            let lost = names(&plan.lost);
            let doubtful = names(&plan.doubtful);
            let last_unknown =
                found.frames.iter().filter(|frame| frame.kind.is_none()).map(|frame| frame.offset).max();
            // An entry whose newest state is gone without a trace, and an older one is there.
            let mut older = false;
            for (name, range) in &newest {
                let hit = overlaps(range, &sector);
                // What is whole is lost to nobody, and doubtful only where damage that is nobody's stands behind it.
                assert!(hit || !lost.contains(name), "{what}: {name} was not touched");
                let behind = last_unknown.is_some_and(|offset| offset > range.start as u64);
                assert!(hit || doubtful.contains(name) == behind, "{what}: {name}: {found:?}");
                older |= hit && doubtful.contains(name);
            }
            if let Some(vault) = open(&scene).await {
                let mut expected: BTreeMap<&'static str, bool> = BTreeMap::new();
                for name in values.keys() {
                    let whole = !overlaps(&newest[*name], &sector) || plan_keeps(&salvage, name);
                    expected.insert(name, whole && !doubtful.contains(&(*name).to_owned()));
                }
                assert_eq!(read(&vault, &values, &what).await, expected, "{what}");
            }
            doubted += usize::from(!doubtful.is_empty());
            repair(&scene, &salvage, &plan, &values, &what).await;
            if older {
                continue;
            }
            // And once more, keeping what may be outdated: none of it is, here.
            scene.replace(&changed);
            let plan = salvage.plan(true);
            assert_eq!(names(plan.gone()), lost, "{what}");
            repair(&scene, &salvage, &plan, &values, &what).await;
        }
    }
    assert!(doubted > 10, "too few sectors made anything doubtful: {doubted}");
}

/// Whether the newest state of an entry can be read in spite of the damage: its head alone was hit.
fn plan_keeps(salvage: &tokenkeep_store::Salvage, name: &str) -> bool {
    salvage.report().entries().any(|frame| {
        frame.key.as_ref().is_some_and(|key| key.as_str() == name)
            && matches!(
                frame.state,
                tokenkeep_store::FrameState::Live | tokenkeep_store::FrameState::HeadRebuilt
            )
    })
}

#[tokio::test]
async fn a_vault_that_was_cut_to_any_length_is_read_as_far_as_it_goes_and_repaired() {
    let (scene, _, report) = larger().await;
    let bytes = scene.bytes();
    let first_way = report.frames.iter().find(|frame| frame.kind == Some(FrameKind::WayIn)).unwrap();
    let opens_from = usize::try_from(first_way.offset + first_way.bytes).unwrap();
    let list = report.frames.iter().find(|frame| frame.kind == Some(FrameKind::Ways)).unwrap();
    let whole_from = usize::try_from(list.offset + list.bytes).unwrap();
    let whole = scene.vault.clone();
    for len in opens_from..bytes.len() {
        let what = format!("cut to {len} bytes");
        scene.replace(&bytes[..len]);
        let salvage = salvage(&scene, &what).await;
        let found = salvage.report();
        let plan = salvage.plan(false);
        assert_eq!(plan.needed, len < whole_from, "{what}: {found:?}");
        assert_eq!((plan.lost.len(), plan.doubtful.len()), (0, 0), "{what}");
        // The newest frame of each entry before the cut.
        let mut expected = BTreeMap::new();
        for frame in report.frames.iter().filter(|frame| frame.kind == Some(FrameKind::Put)) {
            if frame.offset + frame.bytes <= len as u64 {
                expected.insert(frame.key.as_ref().unwrap().as_str().to_owned(), frame.seq);
            }
        }
        let read: BTreeMap<_, _> = found
            .entries()
            .map(|frame| (frame.key.as_ref().unwrap().as_str().to_owned(), frame.seq))
            .collect();
        assert_eq!(read, expected, "{what}");
        if len < whole_from {
            repair(&scene, &salvage, &plan, &Values::new(), &what).await;
        }
    }
    drop(whole);
}
