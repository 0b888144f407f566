//! What becomes of the ways in: only what the list names is kept, or what opened the vault where there is no list.

use std::time::Duration;

use tokenkeep_store::{
    Expected, FrameKind, NewWayIn, RepairPlan, SecretStore, StoreError, Unlock, Vault, VaultOptions, WayFate,
    WayKind,
};

use crate::saved::{OTHER_IDENTITY, Values, only, other_recipient, put, repair, salvage, vault};
use crate::scene::{IDENTITY, RECIPIENT, Scene, cheap_passphrase, identity, key, value};

fn fates(plan: &RepairPlan) -> Vec<(&'static str, &'static str)> {
    let fate = |fate| match fate {
        WayFate::Kept => "kept",
        WayFate::MadeAnew => "made anew",
        _ => "dropped",
    };
    plan.ways.iter().map(|way| (way.kind, fate(way.fate))).collect()
}

/// The bodies of the ways in, as they stand in the file.
async fn bodies(scene: &Scene) -> Vec<std::ops::Range<usize>> {
    let report = scene.vault.verify(false).await.unwrap();
    let at = |offset: u64| usize::try_from(offset).unwrap();
    let ways = report.frames.iter().filter(|frame| frame.kind == Some(FrameKind::WayIn));
    ways.map(|frame| at(frame.offset + 40)..at(frame.offset + frame.bytes)).collect()
}

#[tokio::test]
async fn a_damaged_way_in_is_made_again_for_its_public_key_and_a_passphrase_cannot_be() {
    let passphrase = cheap_passphrase("the passphrase");
    let ways = vec![passphrase, NewWayIn::recipient(RECIPIENT), NewWayIn::recipient(other_recipient())];
    let scene = Scene::within(Scene::memory(), ways).await;
    let mut values = Values::new();
    put(&scene, "a", "the a", &mut values).await;
    let mut broken = scene.bytes();
    for body in &bodies(&scene).await[..2] {
        broken[body.end - 1] ^= 1;
    }
    scene.replace(&broken);
    let salvage = salvage(&scene, "damaged ways in").await;
    let plan = salvage.plan(false);
    assert_eq!(fates(&plan), [("passphrase", "dropped"), ("x25519", "made anew"), ("x25519", "kept")]);
    let repaired = repair(&scene, &salvage, &plan, &values, "damaged ways in").await;
    let kinds: Vec<_> = repaired.report.ways.iter().map(|way| (way.kind, way.recipient.clone())).collect();
    let x25519 = |recipient: &str| (WayKind::X25519, Some(recipient.to_owned()));
    assert_eq!(kinds, [x25519(RECIPIENT), x25519(&other_recipient())]);
    for text in [IDENTITY, OTHER_IDENTITY] {
        let vault = Vault::open(&scene.path, &Unlock::identity(text, "test")).await.unwrap();
        assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("the a"));
    }
    let by_passphrase = Unlock::passphrase(value("the passphrase"), "test");
    assert!(Vault::open(&scene.path, &by_passphrase).await.is_err());
}

#[tokio::test]
async fn without_a_list_only_what_opened_the_vault_stays_a_way_in() {
    let scene = Scene::within(
        Scene::memory(),
        vec![cheap_passphrase("the passphrase"), NewWayIn::recipient(RECIPIENT)],
    )
    .await;
    let mut values = Values::new();
    put(&scene, "a", "the a", &mut values).await;
    let list = only(&scene.vault.verify(false).await.unwrap(), FrameKind::Ways);
    let bytes = scene.bytes();
    let mut damaged = bytes.clone();
    damaged[list.end - 1] ^= 1;
    let mut gone = bytes.clone();
    gone.drain(list.clone());
    let mut zeroed = bytes.clone();
    zeroed[list].fill(0);
    for (what, broken) in [("damaged", damaged), ("gone", gone), ("zeroed", zeroed)] {
        for by_key in [true, false] {
            scene.replace(&broken);
            let passphrase = Unlock::passphrase(value("the passphrase"), "test");
            let unlock = if by_key { identity() } else { passphrase };
            let salvage = VaultOptions::new().salvage(&scene.path, &unlock).await.unwrap();
            let plan = salvage.plan(false);
            let expected = match by_key {
                true => [("passphrase", "dropped"), ("x25519", "kept")],
                false => [("passphrase", "kept"), ("x25519", "dropped")],
            };
            assert_eq!((fates(&plan), plan.lost.len()), (expected.to_vec(), 0), "{what}");
            salvage.repair(&plan, Duration::from_secs(10)).await.unwrap();
            let vault = Vault::open(&scene.path, &unlock).await.unwrap();
            assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("the a"), "{what}");
            let status = vault.status().await.unwrap();
            assert_eq!(status.ways.len(), 1, "{what}");
            let way = &status.ways[0];
            // With its public key, so that keys can be changed without asking for it.
            let recipient = by_key.then(|| RECIPIENT.to_owned());
            assert_eq!(
                (&way.recipient, way.costs.is_some(), way.opened_by),
                (&recipient, !by_key, true),
                "{what}"
            );
            assert!(vault.verify(false).await.unwrap().is_whole(), "{what}");
        }
    }
}

#[tokio::test]
async fn a_way_in_that_is_not_listed_is_named_and_dropped() {
    let scene = vault().await;
    let mut values = Values::new();
    put(&scene, "a", "the a", &mut values).await;
    // A way in for another key, with another master key: of a vault that somebody else made.
    let theirs = Scene::within(Scene::memory(), vec![NewWayIn::recipient(RECIPIENT)]).await;
    let body = bodies(&theirs).await[0].clone();
    let foreign = theirs.bytes()[body.start - 40..body.end].to_vec();
    let bytes = scene.bytes();
    let first = bodies(&scene).await[0].start - 40;
    let mut broken = [&bytes[..first], &foreign, &bytes[first..]].concat();
    // And something to repair.
    let at = broken.len() - 1;
    broken[at] ^= 1;
    scene.replace(&broken);
    let salvage = salvage(&scene, "foreign way in").await;
    let plan = salvage.plan(false);
    assert_eq!(fates(&plan), [("x25519", "kept"), ("x25519", "kept"), ("x25519", "dropped")]);
    values.clear();
    repair(&scene, &salvage, &plan, &values, "foreign way in").await;
}

#[tokio::test]
async fn a_damaged_header_does_not_let_another_vaults_way_in_decide() {
    // Put before the true one, for the same public key; and the header that told them apart is damaged.
    let scene = vault().await;
    let mut values = Values::new();
    put(&scene, "a", "the a", &mut values).await;
    let theirs = Scene::within(Scene::memory(), vec![NewWayIn::recipient(RECIPIENT)]).await;
    let body = bodies(&theirs).await[0].clone();
    let foreign = theirs.bytes()[body.start - 40..body.end].to_vec();
    let bytes = scene.bytes();
    for damage in [20..21, 0..47] {
        let mut broken = [&bytes[..47], &foreign, &bytes[47..]].concat();
        broken[damage.clone()].iter_mut().for_each(|byte| *byte ^= 0x55);
        scene.replace(&broken);
        let salvage = salvage(&scene, "foreign way in, header damaged").await;
        assert_eq!(salvage.report().key_id, Some(scene.vault.key_id()), "{damage:?}");
        let plan = salvage.plan(false);
        assert_eq!(plan.kept, 1, "{damage:?}");
        repair(&scene, &salvage, &plan, &values, "foreign way in, header damaged").await;
    }
}

#[tokio::test]
async fn what_is_no_vault_and_what_opens_for_nobody_is_refused_and_left_alone() {
    let scene = vault().await;
    scene.vault.put(&key("a"), &value("the a"), Expected::Any).await.unwrap();
    let bytes = scene.bytes();
    let mut headless = bytes.clone();
    let last = bodies(&scene).await[1].end;
    headless[..last].fill(0);
    let mut newer = bytes.clone();
    newer[17] = b'2';
    let crc = crc32c::crc32c(&newer[..43]);
    newer[43..47].copy_from_slice(&crc.to_le_bytes());
    let text = b"This is a letter, not a vault.\n".repeat(20);
    for (what, file) in [("no ways in", headless), ("newer", newer), ("text", text), ("empty", Vec::new())] {
        scene.replace(&file);
        let opened = VaultOptions::new().salvage(&scene.path, &identity()).await;
        match what {
            "newer" => assert!(matches!(opened, Err(StoreError::NewerVersion { .. })), "{what}: {opened:?}"),
            _ => assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{what}: {opened:?}"),
        }
        assert_eq!(scene.bytes(), file, "{what}");
    }
    scene.replace(&bytes);
    let stranger = Unlock::passphrase(value("nobody's"), "test");
    assert!(VaultOptions::new().salvage(&scene.path, &stranger).await.is_err());
}
