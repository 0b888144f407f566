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

mod scene;

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

#[tokio::test]
async fn a_vault_cut_off_at_any_byte_reads_what_is_whole_or_says_that_it_is_damaged() {
    let (scene, bytes, report) = small_vault().await;
    let list_end = report.frames.iter().find(|frame| frame.kind == Some(FrameKind::Ways)).unwrap();
    let list_end = usize::try_from(list_end.offset + list_end.bytes).unwrap();
    for len in 0..bytes.len() {
        scene.replace(&bytes[..len]);
        let opened = scene.try_open().await;
        if len < list_end {
            // A vault always holds its ways in and their list: less than that is never taken for an empty one.
            assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{len} bytes: {opened:?}");
            assert_eq!(scene.bytes(), &bytes[..len], "{len} bytes: it was changed");
            continue;
        }
        let vault = opened.unwrap_or_else(|error| panic!("{len} bytes: {error}"));
        for name in ["a", "b"] {
            let expected = last_frame_before(&report, len, name);
            let found = vault.revision(&key(name)).await.unwrap().map(|revision| revision.get());
            assert_eq!(found, expected, "{len} bytes, {name}");
        }
        // The next writer cuts the torn tail, and what was whole stays.
        let before = (reads(&vault, &key("a")).await, reads(&vault, &key("b")).await);
        vault.put(&key("d"), &value("new"), Expected::Absent).await.unwrap();
        let fresh = scene.open().await;
        assert_eq!((reads(&fresh, &key("a")).await, reads(&fresh, &key("b")).await), before, "{len} bytes");
        assert_eq!(reads(&fresh, &key("d")).await, Reads::Value(b"new".to_vec()));
        let after = fresh.verify(false).await.unwrap();
        assert_eq!((after.damaged().count(), after.torn_tail), (0, None), "{len} bytes");
    }
}

/// Flips each bit in `range` in turn and hands the opened vault, if it opens, to `check`.
async fn flip_each_bit<F>(scene: &Scene, bytes: &[u8], range: std::ops::Range<usize>, mut check: F)
where
    F: AsyncFnMut(usize, Result<Vault, StoreError>),
{
    for bit in range.start * 8..range.end * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        scene.replace(&flipped);
        let opened = scene.try_open().await;
        check(bit, opened).await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_header_is_damage() {
    let (scene, bytes, _) = small_vault().await;
    flip_each_bit(&scene, &bytes, 0..47, async |bit, opened| {
        assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "bit {bit}: {opened:?}");
    })
    .await;
}

#[tokio::test]
async fn a_flipped_bit_in_any_head_changes_no_entry_even_after_the_next_put() {
    let (scene, bytes, report) = small_vault().await;
    let untouched = [Reads::Value(b"new a".to_vec()), Reads::Value(b"the b".to_vec()), Reads::Nothing];
    for frame in &report.frames {
        let start = usize::try_from(frame.offset).unwrap();
        flip_each_bit(&scene, &bytes, start..start + 40, async |bit, opened| {
            let what = format!("bit {} of the head at byte {start} ({:?})", bit - start * 8, frame.kind);
            let vault = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            check_entries(&vault, &untouched, &what).await;
            vault.put(&key("d"), &value("new"), Expected::Absent).await.unwrap();
            let fresh = scene.open().await;
            check_entries(&fresh, &untouched, &what).await;
            assert_eq!(reads(&fresh, &key("d")).await, Reads::Value(b"new".to_vec()), "{what}");
            if bit % 7 != 0 {
                return;
            }
            // And after the file was written anew, with the head made whole again.
            fresh.remove(&key("d"), Expected::Any).await.unwrap();
            let fresh = scene.open().await;
            check_entries(&fresh, &untouched, &what).await;
            let report = fresh.verify(false).await.unwrap();
            assert!(report.frames.iter().all(|frame| frame.state == FrameState::Live), "{what}: {report:?}");
        })
        .await;
    }
}

async fn check_entries(vault: &Vault, expected: &[Reads; 3], what: &str) {
    for (name, expected) in ["a", "b", "c"].into_iter().zip(expected) {
        assert_eq!(reads(vault, &key(name)).await, *expected, "{what}: {name}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_body_is_corrupt_for_its_key_alone_and_no_older_revision_is_served() {
    let (scene, bytes, report) = small_vault().await;
    for frame in report.frames.iter().filter(|frame| frame.kind != Some(FrameKind::WayIn)) {
        let start = usize::try_from(frame.offset).unwrap() + 40;
        let end = usize::try_from(frame.offset + frame.bytes).unwrap();
        let dead = frame.state == FrameState::Dead;
        let name = frame.key.as_ref().map(Key::as_str).unwrap_or_default();
        let hit = frame.kind == Some(FrameKind::Put) && !dead;
        let mut expected = [Reads::Value(b"new a".to_vec()), Reads::Value(b"the b".to_vec()), Reads::Nothing];
        for (reads, of) in expected.iter_mut().zip(["a", "b", "c"]) {
            if hit && of == name {
                *reads = Reads::Corrupt;
            }
        }
        flip_each_bit(&scene, &bytes, start..end, async |bit, opened| {
            let what = format!("bit {bit}, in the body at byte {start} ({:?})", frame.kind);
            let vault = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            check_entries(&vault, &expected, &what).await;
            if frame.kind == Some(FrameKind::Note) {
                assert_eq!(vault.note(&key("a")).await.unwrap(), None, "{what}: a damaged note is no note");
            }
            if bit % 8 != 0 {
                return;
            }
            // Appending and writing anew keep it so; putting the entry again heals it.
            vault.put(&key("d"), &value("new"), Expected::Absent).await.unwrap();
            check_entries(&scene.open().await, &expected, &what).await;
            vault.remove(&key("d"), Expected::Any).await.unwrap();
            let fresh = scene.open().await;
            check_entries(&fresh, &expected, &what).await;
            if hit {
                fresh.put(&key(name), &value("again"), Expected::Any).await.unwrap();
                assert_eq!(
                    reads(&scene.open().await, &key(name)).await,
                    Reads::Value(b"again".to_vec()),
                    "{what}"
                );
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_only_way_in_is_damage_not_a_wrong_key() {
    let (scene, bytes, report) = small_vault().await;
    let way = report.frames.iter().find(|frame| frame.kind == Some(FrameKind::WayIn)).unwrap();
    let start = usize::try_from(way.offset).unwrap() + 40;
    let end = usize::try_from(way.offset + way.bytes).unwrap();
    flip_each_bit(&scene, &bytes, start..end, async |bit, opened| {
        assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "bit {bit}: {opened:?}");
    })
    .await;
}

#[tokio::test]
async fn bytes_that_belong_to_nobody_known_make_doubtful_what_was_not_written_after_them() {
    let (scene, bytes, report) = small_vault().await;
    let put_of_b = report.frames.iter().find(|frame| frame.key == Some(key("b"))).unwrap();
    let start = usize::try_from(put_of_b.offset).unwrap();
    let mut broken = bytes.clone();
    broken[start..start + usize::try_from(put_of_b.bytes).unwrap()].fill(0x55);
    scene.replace(&broken);
    let vault = scene.open().await;
    // `a` was written later. `b` and a key that was never seen may have been in there.
    assert_eq!(reads(&vault, &key("a")).await, Reads::Value(b"new a".to_vec()));
    for name in ["b", "never seen"] {
        assert_eq!(reads(&vault, &key(name)).await, Reads::Corrupt, "{name}");
        assert!(matches!(vault.revision(&key(name)).await, Err(StoreError::Corrupt { .. })), "{name}");
        let swap = vault.put(&key(name), &value("x"), Expected::Absent).await;
        assert!(matches!(swap, Err(StoreError::Corrupt { .. })), "{name}: {swap:?}");
    }
    assert!(matches!(vault.keys().await, Err(StoreError::Corrupt { .. })));
    // Each heals by a write that expects nothing; the damage itself is never cut, not even by writing anew.
    let healed = vault.put(&key("b"), &value("b again"), Expected::Any).await.unwrap();
    assert!(healed.get() > last_frame_before(&report, bytes.len(), "a").unwrap());
    vault.remove(&key("never seen"), Expected::Any).await.unwrap();
    let fresh = scene.open().await;
    assert_eq!(reads(&fresh, &key("b")).await, Reads::Value(b"b again".to_vec()));
    assert_eq!(reads(&fresh, &key("never seen")).await, Reads::Nothing);
    assert_eq!(reads(&fresh, &key("another")).await, Reads::Corrupt);
    assert_eq!(fresh.status().unwrap().damaged, 1);
    // Clearing is asked for by name, and clears this too.
    fresh.clear().await.unwrap();
    assert_eq!(reads(&scene.open().await, &key("another")).await, Reads::Nothing);
}

#[tokio::test]
async fn what_an_append_left_behind_is_cut_and_anything_else_is_kept() {
    let (scene, bytes, _) = small_vault().await;
    // A head of which no copy is in the file.
    let mut head = bytes[47..107].to_vec();
    head[8..16].copy_from_slice(&77_u64.to_le_bytes());
    let crc = crc32c::crc32c(&head[..36]);
    head[36..40].copy_from_slice(&crc.to_le_bytes());
    let to_block = 4096 - bytes.len() % 4096;
    let torn: [(&str, Vec<u8>); 6] = [
        ("less than a head", vec![0x55; 39]),
        ("a head without its body", head),
        ("zeros up to a block", vec![0; to_block]),
        ("zeros up to the block after", vec![0; to_block + 4096]),
        ("zeros short of a block", vec![0; to_block - 1]),
        ("a head that was not written, and what follows it", [vec![0; to_block], vec![1; 50]].concat()),
    ];
    let damage: [(&str, Vec<u8>); 5] = [
        ("as much as a head", vec![0x55; 40]),
        ("no head before what was not written", [vec![0x55; 40], vec![0; 4096]].concat()),
        ("longer than any append", [vec![0; 4096], vec![1; 4 * 1024 * 1024]].concat()),
        ("damage that was there when the file was written anew", [vec![0; 600], vec![0xff; 40]].concat()),
        ("text", b"# vim: a line that an editor appended, longer than a head\n".to_vec()),
    ];
    for (is_torn, (what, tail)) in
        torn.into_iter().map(|tail| (true, tail)).chain(damage.into_iter().map(|tail| (false, tail)))
    {
        scene.replace(&[&bytes[..], &tail].concat());
        let vault = scene.open().await;
        let report = vault.verify(false).await.unwrap();
        assert_eq!(report.torn_tail.is_some(), is_torn, "{what}");
        assert_eq!(report.damaged().count(), usize::from(!is_torn), "{what}");
        vault.put(&key("d"), &value("new"), Expected::Any).await.unwrap();
        let after = scene.bytes();
        let kept = after.windows(tail.len()).any(|window| window == tail);
        assert_eq!(kept, !is_torn, "{what}: {}", if kept { "not cut" } else { "cut" });
        assert_eq!(reads(&scene.open().await, &key("d")).await, Reads::Value(b"new".to_vec()), "{what}");
    }
}

#[tokio::test]
async fn a_frame_that_is_cut_short_within_the_file_is_corrupt_for_its_key() {
    let (scene, bytes, report) = small_vault().await;
    let put_of_b = report.frames.iter().find(|frame| frame.key == Some(key("b"))).unwrap();
    let end = usize::try_from(put_of_b.offset + put_of_b.bytes).unwrap();
    // The last 10 bytes of `b` are gone, and all that follows is whole. The file is made to end within `b`'s length, so
    // that its head promises more than there is.
    let mut cut = bytes[..end - 10].to_vec();
    let c = bytes[end..].to_vec();
    let big_head_len = 4..8;
    let start = usize::try_from(put_of_b.offset).unwrap();
    cut[start..][big_head_len].copy_from_slice(&1_000_000_u32.to_le_bytes());
    let crc = crc32c::crc32c(&cut[start..start + 36]);
    cut[start + 36..start + 40].copy_from_slice(&crc.to_le_bytes());
    scene.replace(&[cut, c].concat());
    let vault = scene.open().await;
    let expected = [Reads::Value(b"new a".to_vec()), Reads::Corrupt, Reads::Nothing];
    check_entries(&vault, &expected, "before").await;
    vault.put(&key("d"), &value("new"), Expected::Absent).await.unwrap();
    vault.remove(&key("d"), Expected::Any).await.unwrap();
    check_entries(&scene.open().await, &expected, "written anew").await;
    vault.put(&key("b"), &value("again"), Expected::Any).await.unwrap();
    assert_eq!(reads(&scene.open().await, &key("b")).await, Reads::Value(b"again".to_vec()));
}

#[tokio::test]
async fn a_frame_that_is_copied_to_the_end_brings_nothing_back() {
    let (scene, bytes, report) = small_vault().await;
    let old_a = report.frames.iter().find(|frame| frame.key == Some(key("a"))).unwrap();
    assert_eq!(old_a.state, FrameState::Dead);
    let range = usize::try_from(old_a.offset).unwrap()..usize::try_from(old_a.offset + old_a.bytes).unwrap();
    scene.replace(&[&bytes[..], &bytes[range]].concat());
    let vault = scene.open().await;
    assert_eq!(reads(&vault, &key("a")).await, Reads::Value(b"new a".to_vec()));
}

#[tokio::test]
async fn an_entry_under_another_entrys_head_is_corrupt() {
    let (scene, bytes, report) = small_vault().await;
    // The head of `b`'s frame with its tag replaced by that of `a`, every checksum made right.
    let frame = |name: &str| {
        let mut of_key = report.frames.iter().filter(|frame| frame.key == Some(key(name)));
        usize::try_from(of_key.next_back().unwrap().offset).unwrap()
    };
    let (a, b) = (frame("a"), frame("b"));
    let mut forged = bytes.clone();
    forged.copy_within(a + 16..a + 32, b + 16);
    forged[b + 8..b + 16].copy_from_slice(&1_000_u64.to_le_bytes());
    let crc = crc32c::crc32c(&forged[b..b + 36]);
    forged[b + 36..b + 40].copy_from_slice(&crc.to_le_bytes());
    scene.replace(&forged);
    assert_eq!(reads(&scene.open().await, &key("a")).await, Reads::Corrupt, "another key's value was served");
}

#[tokio::test]
async fn damage_is_not_believed_before_the_file_was_opened_once_more() {
    let scene = Scene::in_memory().await;
    let before = scene.bytes().len();
    scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    scene.vault.put(&key("b"), &value("2"), Expected::Absent).await.unwrap();
    // The two frames change places, in the same file and at the same length: what the handle remembers is wrong.
    let bytes = scene.bytes();
    let (ways, frames) = bytes.split_at(before);
    let (a, b) = frames.split_at(frames.len() / 2);
    std::fs::write(&scene.path, [ways, b, a].concat()).unwrap();
    assert_eq!(reads(&scene.vault, &key("a")).await, Reads::Value(b"1".to_vec()));
    assert_eq!(reads(&scene.vault, &key("b")).await, Reads::Value(b"2".to_vec()));
}

#[tokio::test]
async fn a_newer_version_is_named_and_left_alone() {
    let (scene, bytes, report) = small_vault().await;
    let mut newer = bytes.clone();
    newer[17] = b'2';
    let crc = crc32c::crc32c(&newer[..43]);
    newer[43..47].copy_from_slice(&crc.to_le_bytes());
    let list = report.frames.iter().find(|frame| frame.kind == Some(FrameKind::Ways)).unwrap();
    let mut newer_frame = bytes.clone();
    let at = usize::try_from(list.offset + list.bytes).unwrap();
    newer_frame[at + 3] = 99;
    let crc = crc32c::crc32c(&newer_frame[at..at + 36]);
    newer_frame[at + 36..at + 40].copy_from_slice(&crc.to_le_bytes());
    for newer in [newer, newer_frame] {
        scene.replace(&newer);
        let opened = scene.try_open().await;
        assert!(matches!(opened, Err(StoreError::NewerVersion { .. })), "{opened:?}");
        assert_eq!(scene.bytes(), newer);
    }
}

#[tokio::test]
async fn a_damaged_list_of_ways_in_keeps_nobody_out_but_is_not_replaced() {
    let scene = Scene::by_passphrase("the passphrase").await;
    scene.vault.put(&key("a"), &value("the a"), Expected::Absent).await.unwrap();
    let report = scene.vault.verify(false).await.unwrap();
    let list = report.frames.iter().find(|frame| frame.kind == Some(FrameKind::Ways)).unwrap();
    let mut bytes = scene.bytes();
    bytes[usize::try_from(list.offset).unwrap() + 60] ^= 1;
    scene.replace(&bytes);
    let vault = Vault::open(&scene.path, &Unlock::passphrase(&b"the passphrase"[..], "test")).await.unwrap();
    assert_eq!(reads(&vault, &key("a")).await, Reads::Value(b"the a".to_vec()));
    assert!(matches!(vault.status(), Err(StoreError::Corrupt { .. })));
    let replaced = vault.replace_passphrase(value("new"), None).await;
    assert!(matches!(replaced, Err(StoreError::Corrupt { .. })), "{replaced:?}");
}

#[tokio::test]
async fn what_decoding_says_never_shows_what_is_stored() {
    let scene = Scene::in_memory().await;
    let canary = "canary-6f1d";
    scene.vault.put(&key(canary), &value(canary), Expected::Absent).await.unwrap();
    let bytes = scene.bytes();
    let mut said = BTreeMap::new();
    for at in 47..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x20;
        scene.replace(&broken);
        let text = match scene.try_open().await {
            Err(error) => format!("{error} {error:?}"),
            Ok(vault) => match vault.get(&key(canary)).await {
                Ok(_) => continue,
                Err(error) => format!("{error} {error:?}"),
            },
        };
        assert!(!text.contains(canary), "byte {at}: {text}");
        said.insert(text.split(" at byte").next().unwrap_or_default().to_owned(), at);
    }
    assert!(said.len() >= 2, "too few different errors were seen: {said:?}");
}

#[tokio::test]
async fn a_removal_that_does_not_open_takes_nothing_away() {
    let (scene, bytes, report) = small_vault().await;
    // What is written without a key: the head of a removal of `a`, every checksum made right, and a body of noise.
    let put_of_a = report.frames.iter().rfind(|frame| frame.key == Some(key("a"))).unwrap();
    let start = usize::try_from(put_of_a.offset).unwrap();
    let body = [0x55; 120];
    let mut head = bytes[start..start + 40].to_vec();
    head[3] = FrameKind::Removed.code();
    head[4..8].copy_from_slice(&120_u32.to_le_bytes());
    head[8..16].copy_from_slice(&1_000_u64.to_le_bytes());
    head[32..36].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    let crc = crc32c::crc32c(&head[..36]);
    head[36..40].copy_from_slice(&crc.to_le_bytes());
    scene.replace(&[&bytes[..], &head, &body].concat());
    let vault = scene.open().await;
    let expected = [Reads::Corrupt, Reads::Value(b"the b".to_vec()), Reads::Nothing];
    check_entries(&vault, &expected, "before").await;
    assert!(matches!(vault.revision(&key("a")).await, Err(StoreError::Corrupt { .. })));
    assert!(matches!(vault.keys().await, Err(StoreError::Corrupt { .. })));
    let swap = vault.put(&key("a"), &value("x"), Expected::Absent).await;
    assert!(matches!(swap, Err(StoreError::Corrupt { .. })), "{swap:?}");
    // It stays so when the file is written anew, and until it is asked for.
    vault.put(&key("d"), &value("new"), Expected::Absent).await.unwrap();
    vault.remove(&key("d"), Expected::Any).await.unwrap();
    check_entries(&scene.open().await, &expected, "written anew").await;
    vault.remove(&key("a"), Expected::Any).await.unwrap();
    assert_eq!(reads(&scene.open().await, &key("a")).await, Reads::Nothing);
    assert_eq!(scene.open().await.keys().await.unwrap(), [key("b")]);
}

#[tokio::test]
async fn clearing_a_vault_whose_list_of_ways_in_is_lost_does_not_shut_everyone_out() {
    let (scene, bytes, report) = small_vault().await;
    let list = report.frames.iter().find(|frame| frame.kind == Some(FrameKind::Ways)).unwrap();
    let start = usize::try_from(list.offset).unwrap();
    let mut broken = bytes.clone();
    broken[start..start + usize::try_from(list.bytes).unwrap()].fill(0x55);
    scene.replace(&broken);
    let vault = scene.open().await;
    let cleared = vault.clear().await;
    assert!(matches!(cleared, Err(StoreError::Corrupt { .. })), "{cleared:?}");
    assert_eq!(reads(&scene.open().await, &key("a")).await, Reads::Value(b"new a".to_vec()));
}

#[tokio::test]
async fn what_another_wrote_over_a_frame_that_was_cut_off_again_is_not_taken_for_damage_when_writing_anew() {
    let scene = Scene::in_memory().await;
    scene.vault.put(&key("b"), &value("the b"), Expected::Absent).await.unwrap();
    let before = scene.bytes().len() as u64;
    scene.vault.put(&key("a"), &value("unsynced"), Expected::Absent).await.unwrap();
    let reader = scene.open().await;
    assert!(reader.revision(&key("a")).await.unwrap().is_some());
    // As a writer leaves it whose sync failed and who could not write the file anew.
    std::fs::OpenOptions::new().write(true).open(&scene.path).unwrap().set_len(before).unwrap();
    let other = scene.open().await;
    other
        .put(&key("a"), &value("a value that is longer than the one before"), Expected::Absent)
        .await
        .unwrap();
    reader.put(&key("d"), &value("new"), Expected::Any).await.unwrap();
    reader.remove(&key("d"), Expected::Any).await.unwrap();
    let fresh = scene.open().await;
    assert_eq!(fresh.verify(false).await.unwrap().damaged().count(), 0);
    assert_eq!(reads(&fresh, &key("b")).await, Reads::Value(b"the b".to_vec()));
    let a = b"a value that is longer than the one before".to_vec();
    assert_eq!(reads(&fresh, &key("a")).await, Reads::Value(a));
}

#[tokio::test]
async fn a_damaged_way_in_stays_damaged_and_stays_there_when_a_passphrase_is_replaced() {
    let scene =
        Scene::with(vec![scene::cheap_passphrase("one"), NewWayIn::recipient(scene::RECIPIENT)]).await;
    let report = scene.vault.verify(false).await.unwrap();
    let way = report.frames.iter().rfind(|frame| frame.kind == Some(FrameKind::WayIn)).unwrap();
    let mut bytes = scene.bytes();
    bytes[usize::try_from(way.offset + way.bytes).unwrap() - 1] ^= 1;
    scene.replace(&bytes);
    for (old, new) in [("one", "two"), ("two", "three")] {
        let unlock = Unlock::passphrase(value(old), "test");
        let vault = Vault::open(&scene.path, &unlock).await.unwrap();
        vault.replace_passphrase(value(new), None).await.unwrap();
        let damaged =
            vault.verify(false).await.unwrap().damaged().map(|frame| frame.kind).collect::<Vec<_>>();
        assert_eq!(damaged, [Some(FrameKind::WayIn)], "{new}");
    }
}
