//! Pieces of other files in the middle, seqs that nobody used, and who else is at the vault while it is repaired.

use std::time::Duration;

use tokenkeep_store::{Expected, FrameKind, FrameState, SecretStore, StoreError, VaultOptions, WayState};

use crate::saved::{Values, files, names, note, only, put, repair, salvage, vault};
use crate::scene::{Scene, key, value};

async fn two_entries() -> (Scene, Values, usize) {
    let scene = vault().await;
    let mut values = Values::new();
    put(&scene, "a", "the a", &mut values).await;
    let between = scene.bytes().len();
    put(&scene, "b", "the b", &mut values).await;
    (scene, values, between)
}

#[tokio::test]
async fn a_piece_of_another_vault_in_the_middle_hides_nothing() {
    let (scene, values, between) = two_entries().await;
    let (theirs, _, their_between) = two_entries().await;
    theirs.vault.put(&key("x"), &value(&"long ".repeat(900)), Expected::Any).await.unwrap();
    let list = only(&theirs.vault.verify(false).await.unwrap(), FrameKind::Ways);
    let (ours, theirs) = (scene.bytes(), theirs.bytes());
    for (what, piece, lost) in [
        ("whole frames", &theirs[list.end..], 3),
        ("their list of ways in too", &theirs[list.start..], 3),
        ("half a frame", &theirs[their_between + 50..], 1),
        ("all of their vault", &theirs[..], 3),
    ] {
        scene.replace(&[&ours[..between], piece, &ours[between..]].concat());
        let salvage = salvage(&scene, what).await;
        let plan = salvage.plan(true);
        // Theirs are entries of unknown name; ours are all there.
        assert_eq!(names(&plan.lost), vec!["?"; lost], "{what}");
        assert_eq!(plan.kept, 2, "{what}");
        repair(&scene, &salvage, &plan, &values, what).await;
    }
}

#[tokio::test]
async fn text_in_the_middle_makes_doubtful_what_stands_before_it_and_both_ways_out_are_there() {
    let (scene, values, between) = two_entries().await;
    let bytes = scene.bytes();
    let text = b"a line that an editor left here, longer than a head, and then some more\n";
    let broken = [&bytes[..between], text, &bytes[between..]].concat();
    scene.replace(&broken);
    let opened = salvage(&scene, "text").await;
    let frames = opened.report().frames;
    let state = |name: &str| {
        frames.iter().find(|frame| frame.key == Some(key(name))).map(|frame| frame.state).unwrap()
    };
    assert!(matches!(state("a"), FrameState::Unreadable(_)), "{:?}", state("a"));
    assert_eq!(state("b"), FrameState::Live);
    for (keep, kept, gone) in [(false, 1, vec!["a".to_owned()]), (true, 2, vec![])] {
        scene.replace(&broken);
        let plan = opened.plan(keep);
        assert_eq!((names(plan.gone()), plan.kept, plan.unknown.len()), (gone, kept, 1));
        repair(&scene, &opened, &plan, &values, "text").await;
    }
}

#[tokio::test]
async fn a_seq_that_nobody_can_have_used_does_not_use_up_the_revisions() {
    let (scene, values, _) = two_entries().await;
    let bytes = scene.bytes();
    // What is written without a key: the head of an entry, every checksum right, with the highest seq there is.
    let mut head = bytes[only(&scene.vault.verify(false).await.unwrap(), FrameKind::Ways)][..40].to_vec();
    head[3] = FrameKind::Put.code();
    head[4..8].copy_from_slice(&60_u32.to_le_bytes());
    head[8..16].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
    head[16..32].fill(7);
    let crc = crc32c::crc32c(&head[..36]);
    head[36..40].copy_from_slice(&crc.to_le_bytes());
    scene.replace(&[&bytes[..], &head, &[0x55; 60]].concat());
    let salvage = salvage(&scene, "forged seq").await;
    let plan = salvage.plan(true);
    assert_eq!((names(&plan.lost), plan.unknown.len()), (Vec::new(), 1));
    let repaired = salvage.repair(&plan, Duration::from_secs(10)).await.unwrap();
    let vault = scene.open().await;
    let revision = vault.put(&key("c"), &value("c"), Expected::Absent).await.unwrap();
    assert!((1 << 32..1 << 40).contains(&revision.get()), "{revision}");
    assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value.expose(), values["a"]);
    assert!(repaired.damaged.to_str().unwrap().contains("sessions.vault.damaged-2"));
}

#[tokio::test]
async fn what_was_cut_off_does_not_make_revisions_come_twice() {
    let scene = vault().await;
    let mut values = Values::new();
    let list_end = scene.bytes().len();
    let bytes_of_list = scene.bytes();
    for _ in 0..20 {
        put(&scene, "a", "again", &mut values).await;
    }
    let last = scene.vault.revision(&key("a")).await.unwrap().unwrap();
    // All entries are cut off, and the header says that no seq above 2 was ever used; it is damaged besides.
    let mut cut = bytes_of_list[..list_end].to_vec();
    cut[40] ^= 1;
    scene.replace(&cut);
    let salvage = salvage(&scene, "cut").await;
    let plan = salvage.plan(false);
    salvage.repair(&plan, Duration::from_secs(10)).await.unwrap();
    let vault = scene.open().await;
    assert!(vault.put(&key("a"), &value("new"), Expected::Absent).await.unwrap() > last);
}

#[tokio::test]
async fn a_lost_entry_is_told_by_its_older_record_and_that_is_not_brought_back() {
    let (scene, mut values, _) = two_entries().await;
    let older = scene.bytes().len();
    put(&scene, "a", "the newest a", &mut values).await;
    let bytes = scene.bytes();
    let mut body_damaged = bytes.clone();
    let last = bytes.len() - 1;
    body_damaged[last] ^= 1;
    // The head of a removal, every checksum right, over a body of noise.
    let mut removal = bytes[older..older + 40].to_vec();
    let body = [0x55; 120];
    removal[3] = FrameKind::Removed.code();
    removal[4..8].copy_from_slice(&120_u32.to_le_bytes());
    removal[8..16].copy_from_slice(&1000_u64.to_le_bytes());
    removal[32..36].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    let crc = crc32c::crc32c(&removal[..36]);
    removal[36..40].copy_from_slice(&crc.to_le_bytes());
    let removed = [&bytes[..], &removal, &body].concat();
    for (what, broken, revision) in [("put", body_damaged, 4), ("removal", removed, 1000)] {
        scene.replace(&broken);
        let salvage = salvage(&scene, what).await;
        let plan = salvage.plan(true);
        let lost: Vec<_> = plan.lost.iter().map(|lost| (lost.key.clone(), lost.revision)).collect();
        assert_eq!(lost, [(Some(key("a")), revision)], "{what}");
        repair(&scene, &salvage, &plan, &values, what).await;
        assert!(scene.open().await.get(&key("a")).await.unwrap().is_none(), "{what}");
    }
}

#[tokio::test]
async fn a_repair_waits_for_leases_and_refuses_to_lose_more_than_it_said() {
    let (scene, mut values, _) = two_entries().await;
    note(&scene, "b", "a note").await;
    let mut broken = scene.bytes();
    let list = only(&scene.vault.verify(false).await.unwrap(), FrameKind::Ways);
    broken[list.start + 5] ^= 1;
    scene.replace(&broken);
    let salvage = salvage(&scene, "a damaged head").await;
    let plan = salvage.plan(false);
    let lease = scene.vault.lease(&key("b"), Duration::ZERO).await.unwrap();
    let waited = salvage.repair(&plan, Duration::from_millis(50)).await;
    assert!(matches!(waited, Err(StoreError::LeaseHeld { .. })), "{waited:?}");
    assert_eq!(scene.bytes(), broken, "it was changed under a lease");
    lease.release().await.unwrap();
    // Another write while the person is asked is kept; more damage is not accepted unseen.
    put(&scene, "d", "meanwhile", &mut values).await;
    let with_d = scene.bytes();
    let mut worse = with_d.clone();
    let last = worse.len() - 1;
    worse[last] ^= 1;
    scene.replace(&worse);
    let refused = salvage.repair(&plan, Duration::from_secs(10)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    assert_eq!(scene.bytes(), worse);
    assert_eq!(files(&scene).len(), 2, "nothing was left behind: {:?}", files(&scene));
    scene.replace(&with_d);
    let repaired = salvage.repair(&plan, Duration::from_secs(10)).await.unwrap();
    assert_eq!(repaired.report.entries().count(), 3);
    let vault = scene.open().await;
    assert_eq!(vault.get(&key("d")).await.unwrap().unwrap().value.expose(), values["d"]);
    // And once more: the first damaged file is still there, untouched.
    scene.replace(&broken);
    let again = salvage.repair(&plan, Duration::from_secs(10)).await.unwrap();
    assert_ne!(again.damaged, repaired.damaged);
    assert_eq!(std::fs::read(&again.damaged).unwrap(), broken);
    assert_eq!(std::fs::read(&repaired.damaged).unwrap(), with_d);
}

#[tokio::test]
async fn without_keys_checksums_tell_what_they_can() {
    let (scene, _, between) = two_entries().await;
    let bytes = scene.bytes();
    let whole = VaultOptions::new().verify(&scene.path, None).await.unwrap();
    assert!(whole.is_whole() && !whole.opened);
    assert_eq!(whole.key_id, Some(scene.vault.key_id()));
    assert_eq!(whole.entries().map(|frame| frame.key.clone()).collect::<Vec<_>>(), [None, None]);
    assert!(whole.ways.iter().all(|way| way.state == WayState::Whole));
    let mut broken = bytes.clone();
    broken[between - 1] ^= 1;
    broken[3] ^= 1;
    scene.replace(&broken);
    let found = VaultOptions::new().verify(&scene.path, None).await.unwrap();
    assert!(found.header.is_some() && found.key_id.is_none() && !found.is_sound());
    let damaged: Vec<_> = found.damaged().map(|frame| (frame.kind, frame.counts)).collect();
    assert_eq!(damaged, [(Some(FrameKind::Put), true)]);
}
