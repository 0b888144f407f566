//! Changing the keys: what stays, what is lost and said to be, who is locked out, and that no crash loses anything.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(feature = "vault")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

use std::sync::Arc;
use std::time::Duration;

use scene::{Chain, RECIPIENT, Scene, cheap, cheap_passphrase, identity, key, value};
use tokenkeep_store::{
    Expected, Keychain, NewWayIn, Note, Opener, Rekey, SecretStore, StoreError, Unlock, Vault, WayKind,
};

fn passphrase(text: &str) -> Unlock {
    Unlock::passphrase(value(text), "the test")
}

async fn rekeyed(vault: &Vault, rekey: Rekey) -> Result<Vault, StoreError> {
    vault.rekey(vault.plan_rekey(rekey).await?).await
}

#[tokio::test]
async fn everything_is_there_under_the_new_keys_and_the_old_ones_open_nothing() {
    let scene = Scene::new().await;
    let others = [scene.open().await, scene.vault.clone()];
    let mut revisions = Vec::new();
    for name in ["a", "b", "c", "gone"] {
        let size = if name == "b" { 300_000 } else { 10 };
        let value = value(&name.repeat(size));
        revisions.push(scene.vault.put(&key(name), &value, Expected::Absent).await.unwrap());
    }
    scene.vault.remove(&key("gone"), Expected::Any).await.unwrap();
    let lease = scene.vault.lease(&key("c"), Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(b"a note".to_vec()).unwrap()).await.unwrap();
    lease.release().await.unwrap();
    let next = scene.vault.status().await.unwrap().next_revision;
    let (old_id, old_bytes) = (scene.vault.key_id(), scene.bytes());
    let listed = scene.vault.status().await.unwrap().ways.remove(0);

    let vault = rekeyed(&scene.vault, Rekey::new()).await.unwrap();
    assert_ne!(vault.key_id(), old_id);
    for vault in [&vault, &scene.open().await] {
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            let entry = vault.get(&key(name)).await.unwrap().unwrap();
            assert_eq!(entry.revision, revisions[at], "{name}");
            assert_eq!(&entry.value.expose()[..1], name.as_bytes());
        }
        assert_eq!(vault.get(&key("gone")).await.unwrap().map(|entry| entry.revision), None);
        assert_eq!(vault.keys().await.unwrap(), [key("a"), key("b"), key("c")]);
        assert_eq!(vault.note(&key("c")).await.unwrap().unwrap().as_bytes(), b"a note");
        assert_eq!(vault.note(&key("a")).await.unwrap(), None);
        assert_eq!(vault.verify(false).await.unwrap().damaged().count(), 0);
        assert!(vault.status().await.unwrap().next_revision >= next);
        let way = vault.status().await.unwrap().ways.remove(0);
        assert!(way.opened_by);
        assert_eq!((way.kind, way.created, way.label), (listed.kind, listed.created, listed.label.clone()));
    }
    // Nothing of the old file is in the new one: no frame, no tag.
    let new_bytes = scene.bytes();
    for window in old_bytes[47..].windows(40) {
        if window.starts_with(b"tkf") && window[16..32] != [0; 16] {
            assert!(!new_bytes.windows(16).any(|tag| tag == &window[16..32]), "a tag of the old keys");
        }
    }

    // Who has the old keys is refused, and writes nothing.
    let a = key("a");
    for old in &others {
        let changed = |result: Result<(), StoreError>| {
            assert!(matches!(result, Err(StoreError::KeysChanged { .. })), "{result:?}")
        };
        changed(old.get(&a).await.map(drop));
        changed(old.put(&a, &value("2"), Expected::Any).await.map(drop));
        changed(old.remove(&a, Expected::Any).await);
        changed(old.clear().await);
        changed(old.lease(&a, Duration::ZERO).await.map(drop));
        changed(old.add_way(cheap_passphrase("p")).await.map(drop));
        changed(rekeyed(old, Rekey::new()).await.map(drop));
    }
    assert_eq!(scene.bytes(), new_bytes);
    // And the handle that has the new ones goes on.
    let after = vault.put(&a, &value("2"), Expected::At(revisions[0])).await.unwrap();
    assert!(after.get() >= next, "{after:?} came before");
    let lease = vault.lease(&a, Duration::ZERO).await.unwrap();
    lease.put(&value("3"), Expected::At(after)).await.unwrap();
    let again = rekeyed(&vault, Rekey::new().leases_wait(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(again, StoreError::KeysInUse { .. }), "a lease is held: {again}");
}

#[tokio::test]
async fn passphrases_are_kept_if_they_are_given_and_the_plan_says_which_are_not() {
    let scene = Scene::with(vec![
        cheap_passphrase("one"),
        NewWayIn::recipient(RECIPIENT),
        NewWayIn::Passphrase { secret: value("two"), costs: cheap(), label: "second".to_owned() },
        cheap_passphrase("three"),
    ])
    .await;
    scene.vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
    let vault = Vault::open(&scene.path, &passphrase("one")).await.unwrap();
    let wrong = vault.plan_rekey(Rekey::new().passphrase(value("four"))).await;
    assert!(matches!(wrong, Err(StoreError::WrongPassphrase { .. })), "{wrong:?}");

    let rekey = Rekey::new().passphrase(value("two")).opened_by(passphrase("one"));
    let before = scene.bytes();
    let plan = vault.plan_rekey(rekey).await.unwrap();
    assert_eq!(scene.bytes(), before, "a plan does nothing");
    let labels = |ways: Vec<tokenkeep_store::WayIn>| {
        ways.into_iter().map(|way| (way.kind, way.label)).collect::<Vec<_>>()
    };
    assert_eq!(labels(plan.dropped()), [(WayKind::Passphrase, String::new())]);
    assert_eq!(plan.kept().len(), 3);
    let vault = vault.rekey(plan).await.unwrap();
    let ways = vault.status().await.unwrap().ways;
    assert_eq!(
        labels(ways.clone()),
        [
            (WayKind::Passphrase, String::new()),
            (WayKind::X25519, String::new()),
            (WayKind::Passphrase, "second".to_owned())
        ]
    );
    assert_eq!((ways[0].opened_by, ways[0].costs), (true, Some(cheap())));
    for unlock in [passphrase("one"), passphrase("two"), identity()] {
        let vault = Vault::open(&scene.path, &unlock).await.unwrap();
        assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("kept"));
    }
    let dropped = Vault::open(&scene.path, &passphrase("three")).await;
    assert!(matches!(dropped, Err(StoreError::WrongPassphrase { .. })), "{dropped:?}");
}

#[tokio::test]
async fn a_way_in_is_removed_with_the_keys_and_the_last_one_is_not() {
    let scene = Scene::with(vec![NewWayIn::recipient(RECIPIENT), cheap_passphrase("p")]).await;
    scene.vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
    let ways = scene.vault.status().await.unwrap().ways;
    // What is left would be a passphrase that nobody has given.
    let refused = scene.vault.plan_rekey(Rekey::new().without(ways[0].id)).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid { what }) if what.contains("no way in")),
        "{refused:?}"
    );
    let all = Rekey::new().without(ways[0].id).without(ways[1].id);
    assert!(matches!(scene.vault.plan_rekey(all).await, Err(StoreError::Invalid { .. })));

    // By the way in that is removed, too: its handle goes on, its key opens nothing any more.
    let by_key = scene.open().await;
    let rekey = Rekey::new().without(ways[0].id).passphrase(value("p"));
    let plan = by_key.plan_rekey(rekey).await.unwrap();
    assert_eq!((plan.removed()[0].id, plan.removed().len(), plan.dropped().len()), (ways[0].id, 1, 0));
    let vault = by_key.rekey(plan).await.unwrap();
    assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("kept"));
    assert!(vault.status().await.unwrap().ways.iter().all(|way| !way.opened_by));
    let shut_out = scene.try_open().await;
    assert!(matches!(shut_out, Err(StoreError::WrongIdentity { .. })), "{shut_out:?}");
    Vault::open(&scene.path, &passphrase("p")).await.unwrap();
    // An id of the old keys means nothing now.
    let stale = vault.plan_rekey(Rekey::new().without(ways[0].id).passphrase(value("p"))).await;
    assert!(matches!(&stale, Err(StoreError::Invalid { what }) if what.contains("vault ways")), "{stale:?}");
}

#[tokio::test]
async fn a_plan_that_is_out_of_date_is_not_carried_out() {
    let scene = Scene::new().await;
    let plan = scene.vault.plan_rekey(Rekey::new()).await.unwrap();
    scene.vault.add_way(cheap_passphrase("p")).await.unwrap();
    let before = scene.bytes();
    let refused = scene.vault.rekey(plan).await;
    assert!(
        matches!(&refused, Err(StoreError::Invalid { what }) if what.contains("meanwhile")),
        "{refused:?}"
    );
    assert_eq!(scene.bytes(), before);
}

#[tokio::test]
async fn the_keychain_is_given_the_new_key_before_and_loses_the_old_one_after() {
    let chain = Arc::new(Chain::default());
    let keychain = || Arc::clone(&chain) as Arc<dyn Keychain>;
    let scene = Scene::with(vec![NewWayIn::keychain(keychain()), NewWayIn::recipient(RECIPIENT)]).await;
    let old = scene.vault.key_id();
    let none = scene.vault.plan_rekey(Rekey::new()).await;
    assert!(matches!(&none, Err(StoreError::Invalid { what }) if what.contains("keychain")), "{none:?}");

    // One that takes no key: nothing has changed.
    *chain.broken.lock().unwrap() = true;
    let before = scene.bytes();
    let refused = rekeyed(&scene.vault, Rekey::new().keychain(keychain())).await;
    assert!(matches!(refused, Err(StoreError::Keychain { .. })), "{refused:?}");
    assert_eq!(scene.bytes(), before);
    *chain.broken.lock().unwrap() = false;
    // A file that cannot be written: the new key is taken out again.
    let in_the_way = scene.path.with_file_name("sessions.vault.new");
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(rekeyed(&scene.vault, Rekey::new().keychain(keychain())).await.is_err());
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!((chain.ids(), scene.bytes()), (vec![old], before));

    let vault = rekeyed(&scene.vault, Rekey::new().keychain(keychain())).await.unwrap();
    assert_eq!(chain.ids(), [vault.key_id()]);
    let unlock = Unlock::new(Opener::Keychain(keychain()), "the keychain");
    let by_keychain = Vault::open(&scene.path, &unlock).await.unwrap();
    assert!(by_keychain.status().await.unwrap().ways[0].opened_by);
    // Removed, it keeps nothing.
    let way = vault.status().await.unwrap().ways[0].id;
    rekeyed(&vault, Rekey::new().without(way).keychain(keychain())).await.unwrap();
    assert_eq!(chain.ids(), []);
    scene.open().await;
}

#[tokio::test]
async fn damage_is_named_and_mended_first() {
    let scene = Scene::new().await;
    scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    scene.vault.put(&key("b"), &value("2"), Expected::Absent).await.unwrap();
    let whole = scene.bytes();
    let report = scene.vault.verify(true).await.unwrap();
    let entry = report.frames.iter().find(|frame| frame.key == Some(key("a"))).unwrap();
    let at = usize::try_from(entry.offset).unwrap();
    // In the body, in the head with the body, and in the list of ways in.
    let list = usize::try_from(report.frames[1].offset).unwrap();
    for hurt in [&[at + 50][..], &[at, at + 50], &[list + 50]] {
        let mut bytes = whole.clone();
        hurt.iter().for_each(|at| bytes[*at] ^= 1);
        scene.replace(&bytes);
        let vault = scene.open().await;
        let refused = rekeyed(&vault, Rekey::new()).await;
        let Err(error @ StoreError::Corrupt { .. }) = refused else { panic!("{hurt:?}: {refused:?}") };
        assert!(error.to_string().contains("byte"), "{error}");
        assert_eq!(scene.bytes(), bytes, "nothing was written");
    }
    scene.replace(&whole);
    rekeyed(&scene.open().await, Rekey::new()).await.unwrap();
}

#[tokio::test]
async fn a_renewal_under_way_is_waited_for_and_no_longer_than_told() {
    let scene = Scene::new().await;
    scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    let lease = scene.open().await.lease(&key("a"), Duration::ZERO).await.unwrap();
    let before = scene.bytes();
    let hasty = Rekey::new().leases_wait(Duration::from_millis(50));
    let refused = rekeyed(&scene.vault, hasty).await;
    let Err(error @ StoreError::KeysInUse { .. }) = refused else { panic!("{refused:?}") };
    #[cfg(target_os = "linux")]
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(scene.bytes(), before);

    let patient = tokio::spawn({
        let vault = scene.vault.clone();
        async move { rekeyed(&vault, Rekey::new()).await }
    });
    // Who renews comes to its end while the keys wait for it.
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        lease.put(&value(&round.to_string()), Expected::Any).await.unwrap();
    }
    assert!(!patient.is_finished());
    lease.release().await.unwrap();
    let vault = patient.await.unwrap().unwrap();
    assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("19"));
}
