//! Every bit, and every length that a vault can be cut to.

use super::*;

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
