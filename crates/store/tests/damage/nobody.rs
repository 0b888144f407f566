//! Bytes that belong to nobody known, and what a killed append leaves behind.

use super::*;

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
    assert_eq!(fresh.status().await.unwrap().damaged, 1);
    // Clearing is asked for by name, and clears this too.
    fresh.clear().await.unwrap();
    assert_eq!(reads(&scene.open().await, &key("another")).await, Reads::Nothing);
}

#[tokio::test]
async fn what_an_append_left_behind_is_cut_and_anything_else_is_kept() {
    let (scene, bytes, report) = small_vault().await;
    // A head of which no copy is in the file.
    let mut head = bytes[47..107].to_vec();
    head[8..16].copy_from_slice(&77_u64.to_le_bytes());
    let crc = crc32c::crc32c(&head[..36]);
    head[36..40].copy_from_slice(&crc.to_le_bytes());
    let to_block = 4096 - bytes.len() % 4096;
    // The head of a put but for its last byte, zeros, and then what the append has in its other sectors.
    let last = report.frames.iter().rfind(|frame| frame.kind == Some(FrameKind::Put)).unwrap();
    let mut put = bytes[usize::try_from(last.offset).unwrap()..][..39].to_vec();
    for seq in 78_u64.. {
        put[8..16].copy_from_slice(&seq.to_le_bytes());
        let crc = crc32c::crc32c(&put[..36]).to_le_bytes();
        put[36..39].copy_from_slice(&crc[..3]);
        // Else zeros would make it whole.
        if crc[3] != 0 {
            break;
        }
    }
    let in_sector = 512 - (bytes.len() + 39) % 512;
    let mark = |zeros: usize| [&put[..], &vec![0; zeros], &[0x55; 600]].concat();
    let torn: [(&str, Vec<u8>); 7] = [
        ("a head that was cut to a mark, and what follows its sector", mark(in_sector)),
        ("less than a head", vec![0x55; 39]),
        ("a head without its body", head.clone()),
        ("zeros up to a block", vec![0; to_block]),
        ("zeros up to the block after", vec![0; to_block + 4096]),
        ("zeros short of a block", vec![0; to_block - 1]),
        ("a head that was not written, and what follows it", [vec![0; to_block], vec![1; 50]].concat()),
    ];
    let damage: [(&str, Vec<u8>); 6] = [
        ("a head without its last byte alone", mark(in_sector - 1)),
        ("as much as a head", vec![0x55; 40]),
        ("no head before what was not written", [vec![0x55; 40], vec![0; 4096]].concat()),
        ("longer than any append", [vec![0; 4096], vec![1; 4 * 1024 * 1024]].concat()),
        ("damage that was there when the file was written anew", [vec![0; 600], vec![0xff; 40]].concat()),
        ("text", b"# vim: a line that an editor appended, longer than a head\n".to_vec()),
    ];
    for (is_torn, (what, tail)) in
        torn.into_iter().map(|tail| (true, tail)).chain(damage.into_iter().map(|tail| (false, tail)))
    {
        if in_sector == 512 && what == "a head without its last byte alone" {
            // Then that byte is all of the head that is in its sector.
            continue;
        }
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
async fn what_is_put_behind_a_frame_that_was_cut_short_is_not_swallowed_by_it() {
    let scene = Scene::in_memory().await;
    scene.vault.put(&key("b"), &value(&"b".repeat(5000)), Expected::Absent).await.unwrap();
    scene.vault.put(&key("a"), &value("the a"), Expected::Absent).await.unwrap();
    let report = scene.vault.verify(true).await.unwrap();
    let put_of_b = report.frames.iter().find(|frame| frame.key == Some(key("b"))).unwrap();
    let bytes = scene.bytes();
    let start = usize::try_from(put_of_b.offset).unwrap();
    let end = start + usize::try_from(put_of_b.bytes).unwrap();
    // All but 60 bytes of the body are gone, so that the head reaches past the end, for now.
    scene.replace(&[&bytes[..start + 100], &bytes[end..]].concat());
    let vault = scene.open().await;
    vault.put(&key("d"), &value(&"d".repeat(6000)), Expected::Absent).await.unwrap();
    for vault in [vault, scene.open().await] {
        assert_eq!(reads(&vault, &key("d")).await, Reads::Value("d".repeat(6000).into_bytes()));
        assert_eq!(reads(&vault, &key("a")).await, Reads::Value(b"the a".to_vec()));
        assert_eq!(reads(&vault, &key("b")).await, Reads::Corrupt);
    }
}
