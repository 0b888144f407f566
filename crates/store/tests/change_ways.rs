//! Adding ways in: what is refused, what stays, and that nobody waits for a passphrase to be made costly.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(feature = "vault")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

use std::sync::Arc;

use scene::{Chain, RECIPIENT, Scene, cheap, cheap_passphrase, identity, key, value};
use tokenkeep_store::{
    Costs, Expected, Keychain, NewWayIn, Opener, SecretStore, StoreError, Unlock, Vault, WayKind,
};

fn passphrase(text: &str) -> Unlock {
    Unlock::passphrase(value(text), "the test")
}

fn new_key() -> (String, String) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

#[tokio::test]
async fn every_kind_can_be_added_and_opens_the_same_vault_as_before() {
    let scene = Scene::new().await;
    let revision = scene.vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
    let old_handle = scene.open().await;
    let (secret, recipient) = new_key();
    let chain = Arc::new(Chain::default());
    let added = [
        NewWayIn::Passphrase { secret: value("p"), costs: cheap(), label: "ops".to_owned() },
        NewWayIn::Recipient { recipient: recipient.clone(), label: "recovery".to_owned() },
        NewWayIn::keychain(Arc::clone(&chain) as Arc<dyn Keychain>),
    ];
    for way in added {
        let way = scene.vault.add_way(way).await.unwrap();
        assert!(
            scene
                .vault
                .status()
                .await
                .unwrap()
                .ways
                .iter()
                .any(|listed| listed.id == way.id && !way.opened_by)
        );
    }
    let ways = scene.vault.status().await.unwrap().ways;
    let kinds: Vec<_> = ways.iter().map(|way| (way.kind, way.label.as_str())).collect();
    assert_eq!(
        kinds,
        [
            (WayKind::X25519, ""),
            (WayKind::Passphrase, "ops"),
            (WayKind::X25519, "recovery"),
            (WayKind::Keychain, "")
        ]
    );
    assert_eq!(ways[2].recipient.as_deref(), Some(&recipient[..]));
    let unlocks = [
        identity(),
        passphrase("p"),
        Unlock::identity(secret, "the test"),
        Unlock::new(Opener::Keychain(chain), "the keychain"),
    ];
    for unlock in unlocks {
        let vault = Vault::open(&scene.path, &unlock).await.unwrap();
        assert_eq!(vault.key_id(), scene.vault.key_id());
        assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().revision, revision);
    }
    assert_eq!(old_handle.get(&key("a")).await.unwrap().unwrap().value, value("kept"), "keys are the same");
    assert_eq!(scene.vault.verify(false).await.unwrap().damaged().count(), 0);
}

#[tokio::test]
async fn what_is_there_already_or_cannot_be_is_refused_and_changes_nothing() {
    let chain: Arc<dyn Keychain> = Arc::new(Chain::default());
    let scene = Scene::with(vec![
        NewWayIn::recipient(RECIPIENT),
        NewWayIn::keychain(Arc::clone(&chain)),
        cheap_passphrase("1"),
        cheap_passphrase("2"),
        cheap_passphrase("3"),
    ])
    .await;
    let kept = chain.load(scene.vault.key_id()).unwrap().unwrap();
    let costly = Costs::new(1024 * 1024, 1, 1).unwrap();
    let labelled = |label: &str| NewWayIn::Recipient { recipient: new_key().1, label: label.to_owned() };
    let before = scene.bytes();
    for (way, said) in [
        (NewWayIn::recipient(RECIPIENT), "opens this vault already"),
        (NewWayIn::recipient(format!(" {RECIPIENT}\n")), "opens this vault already"),
        (NewWayIn::keychain(Arc::clone(&chain)), "already"),
        (NewWayIn::recipient("age1nonsense"), "recipient"),
        (cheap_passphrase(""), "empty"),
        (NewWayIn::Passphrase { secret: value("p"), costs: costly, label: String::new() }, "cost too much"),
        (labelled("two\nlines"), "label"),
        (labelled(&"x".repeat(129)), "label"),
    ] {
        let added = scene.vault.add_way(way).await;
        let Err(error @ StoreError::Invalid { .. }) = added else { panic!("{said}: {added:?}") };
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    assert_eq!(scene.bytes(), before);
    assert_eq!(chain.load(scene.vault.key_id()).unwrap().unwrap(), kept, "the keychain's key opens still");
    scene.vault.add_way(cheap_passphrase("4")).await.unwrap();
    let fifth = scene.vault.add_way(cheap_passphrase("5")).await;
    assert!(matches!(fifth, Err(StoreError::Invalid { .. })), "{fifth:?}");

    // The same holds for a new vault.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub/v");
    for ways in [
        vec![NewWayIn::recipient(RECIPIENT), NewWayIn::recipient(format!("{RECIPIENT} "))],
        vec![NewWayIn::keychain(Arc::clone(&chain)), NewWayIn::keychain(Arc::clone(&chain))],
        vec![labelled("a\tb")],
    ] {
        let made = Vault::create(&path, ways).await;
        assert!(matches!(made, Err(StoreError::Invalid { .. })), "{made:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_add_the_keychain_at_once_one_does_and_its_key_opens() {
    let chain: Arc<dyn Keychain> = Arc::new(Chain::default());
    for _ in 0..5 {
        let scene = Scene::new().await;
        let other = scene.open().await;
        let (one, two) = tokio::join!(
            scene.vault.add_way(NewWayIn::keychain(Arc::clone(&chain))),
            other.add_way(NewWayIn::keychain(Arc::clone(&chain)))
        );
        assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
        let unlock = Unlock::new(Opener::Keychain(Arc::clone(&chain)), "the keychain");
        Vault::open(&scene.path, &unlock).await.unwrap();
    }
}

#[tokio::test]
async fn a_keychain_whose_way_in_was_not_written_keeps_no_key() {
    let chain = Arc::new(Chain::default());
    let scene = Scene::new().await;
    // The file cannot be written anew: something that is no file stands where the new one is to be.
    std::fs::create_dir(scene.path.with_file_name("sessions.vault.new")).unwrap();
    let added = scene.vault.add_way(NewWayIn::keychain(Arc::clone(&chain) as Arc<dyn Keychain>)).await;
    assert!(added.is_err());
    assert!(chain.kept.lock().unwrap().is_empty());
    assert_eq!(scene.open().await.status().await.unwrap().ways.len(), 1);
}

// On a runtime of one thread: a reader that had to wait for the change would keep it from ever being polled.
#[tokio::test]
async fn readers_and_writers_go_on_while_a_passphrase_is_made() {
    let scene = Scene::with(vec![NewWayIn::recipient(RECIPIENT), cheap_passphrase("old")]).await;
    let writer = scene.open().await;
    scene.vault.put(&key("a"), &value("0"), Expected::Absent).await.unwrap();
    let costs = Costs::new(128 * 1024, 6, 1).unwrap();
    let added = NewWayIn::Passphrase { secret: value("p"), costs, label: String::new() };
    let changes: [std::pin::Pin<Box<dyn Future<Output = ()>>>; 2] = [
        Box::pin(async { scene.vault.replace_passphrase(value("new"), Some(costs)).await.unwrap() }),
        Box::pin(async { scene.vault.add_way(added).await.map(drop).unwrap() }),
    ];
    for mut change in changes {
        let mut meanwhile = 0;
        loop {
            tokio::select! {
                biased;
                () = &mut change => break,
                () = tokio::task::yield_now() => {}
            }
            scene.vault.get(&key("a")).await.unwrap().unwrap();
            writer.put(&key("a"), &value("1"), Expected::Any).await.unwrap();
            meanwhile += 1;
        }
        assert!(meanwhile >= 5, "only {meanwhile} rounds while the passphrase was made");
    }
}

#[tokio::test]
async fn calibrated_costs_are_within_the_bounds_and_count_as_chosen() {
    let costs = Costs::calibrate(std::time::Duration::from_millis(1), &[cheap(), cheap()]).unwrap();
    assert!(costs.memory_kib() >= 19 * 1024 && costs.passes() >= 3);
    let scene = Scene::with(vec![
        NewWayIn::Passphrase { secret: value("p"), costs, label: String::new() },
        cheap_passphrase("q"),
    ])
    .await;
    let way = scene.vault.status().await.unwrap().ways.remove(0);
    assert_eq!((way.costs, way.costs_chosen), (Some(costs), true));
}

#[tokio::test]
async fn the_right_way_in_is_shown_as_the_one_that_opened() {
    let scene = Scene::with(vec![cheap_passphrase("p"), NewWayIn::recipient(RECIPIENT)]).await;
    let by_passphrase = Vault::open(&scene.path, &passphrase("p")).await.unwrap();
    by_passphrase.add_way(NewWayIn::recipient(new_key().1)).await.unwrap();
    let opened: Vec<_> = by_passphrase.status().await.unwrap().ways.iter().map(|way| way.opened_by).collect();
    assert_eq!(opened, [true, false, false]);
}
