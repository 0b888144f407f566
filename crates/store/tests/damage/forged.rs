//! What is put into a file that was not written there: copies, heads without keys, a newer version, another's bytes.

use super::*;

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
