//! Files that no writer leaves whole: what is a torn tail and what is not, and what an enemy puts into a vault.

use tokenkeep_store::Secret;

use super::*;

/// A vault with entries `a` and `b`; its bytes, and its frames.
async fn two_entries() -> (Scene, Vec<u8>, VaultReport) {
    let scene = Scene::in_memory().await;
    scene.vault.put(&key("b"), &value("the b"), Expected::Absent).await.unwrap();
    scene.vault.put(&key("a"), &value("the a"), Expected::Absent).await.unwrap();
    let report = scene.vault.verify(true).await.unwrap();
    let bytes = scene.bytes();
    (scene, bytes, report)
}

#[tokio::test]
async fn a_sector_of_zeros_is_a_torn_tail_in_the_last_frame_and_damage_in_any_other() {
    let scene = Scene::in_memory().await;
    let vault = &scene.vault;
    vault.put(&key("a"), &value("old a"), Expected::Absent).await.unwrap();
    vault.put(&key("a"), &Secret::new(vec![1; 2_000]), Expected::Any).await.unwrap();
    let bytes = scene.bytes();
    // The last whole sector.
    let sector = (bytes.len() / 512 - 1) * 512;
    let unwritten = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[sector..sector + 512].fill(0);
        bytes
    };
    scene.replace(&unwritten(&bytes));
    assert_eq!(reads(&scene.open().await, &key("a")).await, Reads::Value(b"old a".to_vec()));
    assert!(scene.open().await.verify(false).await.unwrap().torn_tail.is_some());
    // All but one byte of it.
    let mut almost = unwritten(&bytes);
    almost[sector + 1] = 1;
    scene.replace(&almost);
    assert_eq!(reads(&scene.open().await, &key("a")).await, Reads::Corrupt);

    scene.replace(&bytes);
    scene.open().await.put(&key("b"), &value("the b"), Expected::Absent).await.unwrap();
    scene.replace(&unwritten(&scene.bytes()));
    let damaged = scene.open().await;
    assert_eq!(reads(&damaged, &key("a")).await, Reads::Corrupt);
    // Written anew without `b`, it is the last frame, of which no older one is left.
    damaged.remove(&key("b"), Expected::Any).await.unwrap();
    for _ in 0..2 {
        let fresh = scene.open().await;
        assert_eq!(reads(&fresh, &key("a")).await, Reads::Corrupt);
        assert_eq!(fresh.verify(false).await.unwrap().torn_tail, None);
        // And so once more.
        fresh.put(&key("b"), &value("the b"), Expected::Absent).await.unwrap();
        fresh.remove(&key("b"), Expected::Any).await.unwrap();
    }
    scene.open().await.put(&key("a"), &value("again"), Expected::Any).await.unwrap();
    assert_eq!(reads(&scene.open().await, &key("a")).await, Reads::Value(b"again".to_vec()));
}

#[tokio::test]
async fn a_head_of_zeros_stays_damage_when_what_followed_it_is_gone() {
    let scene = Scene::in_memory().await;
    scene.vault.put(&key("a"), &value("the a"), Expected::Absent).await.unwrap();
    let start = scene.bytes().len();
    scene.vault.put(&key("lost"), &value("lost"), Expected::Absent).await.unwrap();
    let end = scene.bytes().len();
    scene.vault.put(&key("b"), &value("the b"), Expected::Absent).await.unwrap();
    let mut bytes = scene.bytes();
    bytes[start..end].fill(0);
    scene.replace(&bytes);
    let vault = scene.open().await;
    vault.remove(&key("b"), Expected::Any).await.unwrap();
    vault.remove(&key("a"), Expected::Any).await.unwrap();
    for _ in 0..2 {
        let fresh = scene.open().await;
        assert_eq!(reads(&fresh, &key("lost")).await, Reads::Corrupt);
        fresh.put(&key("b"), &value("the b"), Expected::Any).await.unwrap();
        fresh.remove(&key("b"), Expected::Any).await.unwrap();
    }
}

#[tokio::test]
async fn damage_that_was_there_when_the_file_was_written_anew_is_not_cut_with_an_append_that_was_not_written()
{
    let scene = Scene::in_memory().await;
    let bytes = scene.bytes();
    // As a rewrite leaves damage that begins with zeros; then an append of which nothing but the length was written.
    scene.replace(&[&bytes[..], &[0; 600], &[0xff; 40], &[0; 300]].concat());
    let vault = scene.open().await;
    assert_eq!(reads(&vault, &key("lost")).await, Reads::Corrupt);
    vault.put(&key("b"), &value("the b"), Expected::Any).await.unwrap();
    vault.remove(&key("b"), Expected::Any).await.unwrap();
    assert_eq!(reads(&scene.open().await, &key("lost")).await, Reads::Corrupt);
}

/// A frame whose head says so, around a body that nobody sealed.
fn forged(seq: u64, tag: &[u8]) -> Vec<u8> {
    let body = [0x55; 60];
    let mut head = b"tkf\x02\x3c\0\0\0".to_vec();
    head.extend(seq.to_le_bytes());
    head.extend(tag);
    head.extend(crc32c::crc32c(&body).to_le_bytes());
    let crc = crc32c::crc32c(&head);
    head.extend(crc.to_le_bytes());
    [&head[..], &body].concat()
}

#[tokio::test]
async fn a_forged_revision_near_the_end_of_all_makes_doubtful_and_leaves_the_vault_writable() {
    for seq in [u64::MAX, u64::MAX - 1, 1 << 50] {
        let (scene, bytes, report) = two_entries().await;
        let of_a = report.frames.iter().rfind(|frame| frame.key == Some(key("a"))).unwrap();
        let tag = usize::try_from(of_a.offset).unwrap() + 16;
        scene.replace(&[&bytes[..], &forged(seq, &bytes[tag..tag + 16])].concat());
        let vault = scene.open().await;
        for name in ["a", "b", "c"] {
            assert_eq!(
                reads(&vault, &key(name)).await,
                Reads::Corrupt,
                "{seq}: {name} may have been in there"
            );
        }
        let revision = vault.put(&key("a"), &value("again"), Expected::Any).await.unwrap();
        assert!(revision.get() > of_a.seq && revision.get() < of_a.seq + 100, "{revision}");
        vault.put(&key("b"), &value("again"), Expected::Any).await.unwrap();
        let fresh = scene.open().await;
        assert_eq!(reads(&fresh, &key("a")).await, Reads::Value(b"again".to_vec()), "{seq}");
        assert_eq!(reads(&fresh, &key("b")).await, Reads::Value(b"again".to_vec()), "{seq}");
        // One that is near is that of any frame: damage for its key.
        scene.replace(&[&bytes[..], &forged(of_a.seq + 9, &bytes[tag..tag + 16])].concat());
        let vault = scene.open().await;
        assert_eq!(reads(&vault, &key("a")).await, Reads::Corrupt);
        assert_eq!(reads(&vault, &key("b")).await, Reads::Value(b"the b".to_vec()));
    }
}

#[tokio::test]
async fn ways_in_beyond_any_number_or_length_are_passed_over() {
    let (scene, bytes, report) = two_entries().await;
    let way = report.frames.iter().find(|frame| frame.kind == Some(FrameKind::WayIn)).unwrap();
    let (start, end) = (47, usize::try_from(way.offset + way.bytes).unwrap());
    let way = |body: &[u8]| {
        let mut head = b"tkf\x01".to_vec();
        head.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        head.extend([0; 24]);
        head.extend(crc32c::crc32c(body).to_le_bytes());
        let crc = crc32c::crc32c(&head);
        head.extend(crc.to_le_bytes());
        [&head[..], body].concat()
    };
    // A long one first: it does not keep the next from being looked at.
    let long = way(&vec![b'x'; 4 * 1024 * 1024]);
    scene.replace(&[&bytes[..start], &long, &bytes[start..]].concat());
    let vault = scene.open().await;
    assert_eq!(reads(&vault, &key("b")).await, Reads::Value(b"the b".to_vec()));
    assert_eq!(Vault::probe(&scene.path).unwrap().ways.len(), 1);
    // Many: no more are looked at than there can be.
    let many = way(b"age-encryption.org/v1\n").repeat(300);
    scene.replace(&[&bytes[..end], &many, &bytes[end..]].concat());
    assert_eq!(reads(&scene.open().await, &key("b")).await, Reads::Value(b"the b".to_vec()));
    assert_eq!(Vault::probe(&scene.path).unwrap().ways.len(), 256);
}
