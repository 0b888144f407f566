//! Damage of the ways in and of their list.

use super::*;

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
    assert!(matches!(vault.status().await, Err(StoreError::Corrupt { .. })));
    let replaced = vault.replace_passphrase(value("new"), None).await;
    assert!(matches!(replaced, Err(StoreError::Corrupt { .. })), "{replaced:?}");
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

#[tokio::test]
async fn a_way_in_that_would_not_survive_the_next_writing_anew_does_not_open() {
    let (scene, bytes, report) = small_vault().await;
    let range = |kind| {
        let frame = report.frames.iter().find(|frame| frame.kind == Some(kind)).unwrap();
        usize::try_from(frame.offset).unwrap()..usize::try_from(frame.offset + frame.bytes).unwrap()
    };
    let (way, list) = (range(FrameKind::WayIn), range(FrameKind::Ways));
    let mut moved = [&bytes[..47], &bytes[list.clone()], &bytes[way], &bytes[list.end..]].concat();
    // A whole list in front of the way in, and then one that shows what it is only to who has the keys.
    scene.replace(&moved);
    assert!(matches!(scene.try_open().await, Err(StoreError::WrongIdentity { .. })));
    moved[47 + 20] ^= 1;
    scene.replace(&moved);
    let opened = scene.try_open().await;
    assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
    assert_eq!(scene.bytes(), moved);
}
