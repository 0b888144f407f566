//! Ways in: what opens a vault, what does not, and which error says so.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

mod scene;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use scene::{Chain, IDENTITY, RECIPIENT, Scene, cheap, cheap_passphrase, identity, key, value};
use tokenkeep_clock::ManualClock;
use tokenkeep_store::{
    Costs, Expected, FrameKind, Keychain, NewWayIn, Opener, SecretStore, StoreError, Unlock, Vault,
    VaultOptions, WayKind,
};

/// A key that opens nothing here.
const OTHER_IDENTITY: &str = "AGE-SECRET-KEY-184JMZMVQH3E6U0PSL869004Y3U2NYV7R30EU99CSEDNPH02YUVFSZW44VU";

fn passphrase(text: &str) -> Unlock {
    Unlock::passphrase(value(text), "TOKENKEEP_PASSPHRASE_FILE")
}

async fn open(scene: &Scene, unlock: &Unlock) -> Result<Vault, StoreError> {
    Vault::open(&scene.path, unlock).await
}

#[tokio::test]
async fn each_way_opens_the_same_vault() {
    let scene = Scene::with(vec![
        cheap_passphrase("first"),
        NewWayIn::recipient(RECIPIENT),
        cheap_passphrase("second"),
        cheap_passphrase("third"),
        cheap_passphrase("fourth"),
    ])
    .await;
    scene.vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
    for unlock in [passphrase("first"), passphrase("second"), passphrase("fourth"), identity()] {
        let vault = open(&scene, &unlock).await.unwrap();
        assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("kept"));
        let opened_by: Vec<_> = vault
            .status()
            .await
            .unwrap()
            .ways
            .iter()
            .enumerate()
            .filter(|(_, way)| way.opened_by)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(opened_by.len(), 1);
    }
}

#[tokio::test]
async fn a_passphrase_is_compared_byte_for_byte_and_a_wrong_one_is_said_to_be_wrong() {
    let scene = Scene::by_passphrase("correct horse").await;
    for wrong in ["correct horse ", "correct horse\n", "Correct horse", "c"] {
        let opened = open(&scene, &passphrase(wrong)).await;
        let Err(error @ StoreError::WrongPassphrase { .. }) = opened else { panic!("{wrong:?}: {opened:?}") };
        assert!(error.to_string().contains("TOKENKEEP_PASSPHRASE_FILE"), "{error}");
    }
    open(&scene, &passphrase("correct horse")).await.unwrap();
}

#[tokio::test]
async fn an_empty_passphrase_neither_opens_nor_makes_a_vault() {
    let scene = Scene::by_passphrase("p").await;
    let opened = open(&scene, &passphrase("")).await;
    assert!(
        matches!(&opened, Err(StoreError::UnlockSource { name, .. }) if name == "TOKENKEEP_PASSPHRASE_FILE"),
        "{opened:?}"
    );
    let made = Vault::create(scene.folder.path().join("other"), vec![cheap_passphrase("")]).await;
    assert!(matches!(made, Err(StoreError::Invalid { .. })), "{made:?}");
}

#[tokio::test]
async fn a_key_opens_what_is_wrapped_to_it_and_any_other_is_said_to_be_wrong() {
    let scene = Scene::new().await;
    let file =
        format!("# created: 2026-11-24\n# public key: {RECIPIENT}\n\n  {OTHER_IDENTITY}\r\n{IDENTITY}\n");
    open(&scene, &Unlock::identity(file, "a file")).await.unwrap();
    let opened = open(&scene, &Unlock::identity(OTHER_IDENTITY, "TOKENKEEP_IDENTITY")).await;
    let Err(error @ StoreError::WrongIdentity { .. }) = opened else { panic!("{opened:?}") };
    assert!(error.to_string().contains("TOKENKEEP_IDENTITY"), "{error}");
}

#[tokio::test]
async fn what_is_no_identity_file_is_unusable_and_is_not_shown() {
    let scene = Scene::new().await;
    let many = format!("{OTHER_IDENTITY}\n").repeat(17);
    let canary = "canary-0b5c";
    for text in ["", "# only a comment\n", canary, &format!("AGE-SECRET-KEY-1{canary}"), RECIPIENT, &many] {
        let opened = open(&scene, &Unlock::identity(text, "TOKENKEEP_IDENTITY")).await;
        let Err(error @ StoreError::UnlockSource { .. }) = opened else { panic!("{opened:?}") };
        assert!(!format!("{error} {error:?}").to_lowercase().contains(canary), "{error}");
    }
}

#[tokio::test]
async fn a_source_of_the_wrong_kind_is_told_from_a_wrong_secret() {
    let by_key = Scene::new().await;
    let opened = open(&by_key, &passphrase("p")).await;
    assert!(
        matches!(&opened, Err(StoreError::UnlockSource { reason, .. }) if reason.contains("no way in by passphrase")),
        "{opened:?}"
    );
    let by_passphrase = Scene::by_passphrase("p").await;
    let opened = open(&by_passphrase, &identity()).await;
    assert!(matches!(opened, Err(StoreError::WrongIdentity { .. })), "{opened:?}");
}

#[tokio::test]
async fn ways_in_that_cannot_be_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub/v");
    let five = (0..5).map(|_| cheap_passphrase("p")).collect();
    let costly = || NewWayIn::Passphrase {
        secret: value("p"),
        costs: Costs::new(600 * 1024, 1, 1).unwrap(),
        label: String::new(),
    };
    for ways in [
        Vec::new(),
        five,
        vec![costly(), costly()],
        vec![NewWayIn::recipient("age1nonsense")],
        vec![NewWayIn::recipient(IDENTITY)],
        vec![NewWayIn::recipient("ssh-ed25519 AAAA")],
    ] {
        let made = Vault::create(&path, ways).await;
        let Err(error @ StoreError::Invalid { .. }) = made else { panic!("{made:?}") };
        assert!(!error.to_string().contains("AGE-SECRET-KEY"), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_default_costs_are_those_of_rfc_9106_and_chosen_ones_are_said_to_be() {
    let scene = Scene::with(vec![NewWayIn::passphrase(value("p")), cheap_passphrase("q")]).await;
    open(&scene, &passphrase("p")).await.unwrap();
    let ways = scene.vault.status().await.unwrap().ways;
    assert_eq!((ways[0].costs, ways[0].costs_chosen), (Some(Costs::default()), false));
    assert_eq!((ways[1].costs, ways[1].costs_chosen), (Some(cheap()), true));
    let probed = Vault::probe(&scene.path).unwrap().ways;
    assert_eq!(
        probed.iter().map(|way| way.costs).collect::<Vec<_>>(),
        [Some(Costs::default()), Some(cheap())]
    );
}

#[tokio::test]
async fn a_file_that_asks_for_too_much_work_is_refused_before_any_is_done() {
    let scene = Scene::with(vec![cheap_passphrase("p"), cheap_passphrase("q")]).await;
    let report = scene.vault.verify(false).await.unwrap();
    let whole = scene.bytes();
    // Each of the two asks for a bit more than half of what all may ask for together: no header is exceeded alone.
    let mut costly = whole[..47].to_vec();
    for frame in &report.frames {
        let range =
            usize::try_from(frame.offset).unwrap()..usize::try_from(frame.offset + frame.bytes).unwrap();
        let frame_bytes = &whole[range];
        if frame.kind != Some(FrameKind::WayIn) {
            costly.extend_from_slice(frame_bytes);
            continue;
        }
        let body = &frame_bytes[40..];
        let at = body.windows(8).position(|window| window == b" 64 1 1\n").unwrap();
        let body = [&body[..at], b" 600000 9 9\n", &body[at + 8..]].concat();
        let mut head = frame_bytes[..40].to_vec();
        head[4..8].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        head[32..36].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        let crc = crc32c::crc32c(&head[..36]);
        head[36..40].copy_from_slice(&crc.to_le_bytes());
        costly.extend_from_slice(&[head, body].concat());
    }
    scene.replace(&costly);
    let opened = open(&scene, &passphrase("p")).await;
    assert!(matches!(&opened, Err(StoreError::Corrupt { what }) if what.contains("more work")), "{opened:?}");
    // Alone, such a stanza is within bounds, and fails only once it was tried: its header is authenticated.
    assert_eq!(Vault::probe(&scene.path).unwrap().ways[0].costs.map(Costs::memory_kib), Some(600_000));
}

#[tokio::test]
async fn a_way_in_is_an_age_message_that_any_age_opens_and_holds_the_master_key_alone() {
    let scene = Scene::new().await;
    let bytes = scene.bytes();
    let report = scene.vault.verify(false).await.unwrap();
    let way = &report.frames[0];
    assert_eq!(way.kind, Some(FrameKind::WayIn));
    let body = &bytes[47 + 40..47 + usize::try_from(way.bytes).unwrap()];
    let identity: age::x25519::Identity = IDENTITY.parse().unwrap();
    assert_eq!(age::decrypt(&identity, body).unwrap().len(), 32);
}

#[tokio::test]
async fn a_passphrase_is_replaced_and_nothing_else_changes() {
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    let options = VaultOptions::new().clock(Arc::new(clock.clone()));
    let ways = vec![
        NewWayIn::Passphrase { secret: value("old"), costs: cheap(), label: "ops".to_owned() },
        NewWayIn::Recipient { recipient: RECIPIENT.to_owned(), label: "recovery".to_owned() },
    ];
    let vault = options.create(&path, ways).await.unwrap();
    let revision = vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
    let by_key = Vault::open(&path, &identity()).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    vault.replace_passphrase(value("new"), None).await.unwrap();

    let open = |text: &str| {
        let (path, unlock) = (path.clone(), passphrase(text));
        async move { Vault::open(&path, &unlock).await }
    };
    let opened = open("old").await;
    assert!(matches!(opened, Err(StoreError::WrongPassphrase { .. })), "{opened:?}");
    for vault in
        [&vault, &by_key, &open("new").await.unwrap(), &Vault::open(&path, &identity()).await.unwrap()]
    {
        let entry = vault.get(&key("a")).await.unwrap().unwrap();
        assert_eq!((entry.value, entry.revision), (value("kept"), revision));
    }
    let shown = vault.status().await.unwrap().ways;
    assert_eq!(shown.len(), 2);
    let [passphrase_way, key_way] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((passphrase_way.kind, passphrase_way.label.as_str()), (WayKind::Passphrase, "ops"));
    assert_eq!(passphrase_way.created, UNIX_EPOCH + Duration::from_secs(1_700_003_600));
    assert_eq!(passphrase_way.costs, Some(cheap()));
    assert!(passphrase_way.opened_by && !key_way.opened_by);
    assert_eq!((key_way.kind, key_way.recipient.as_deref()), (WayKind::X25519, Some(RECIPIENT)));
    assert_eq!(
        (key_way.label.as_str(), key_way.created),
        ("recovery", UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    );

    // Opened by key, the only passphrase is the one that is meant.
    by_key.replace_passphrase(value("newer"), Some(Costs::new(128, 1, 1).unwrap())).await.unwrap();
    open("newer").await.unwrap();
    assert!(open("new").await.is_err());
    assert_eq!(by_key.status().await.unwrap().ways[0].costs.map(Costs::memory_kib), Some(128));
}

#[tokio::test]
async fn which_passphrase_is_replaced_is_never_guessed() {
    let scene =
        Scene::with(vec![cheap_passphrase("one"), cheap_passphrase("two"), NewWayIn::recipient(RECIPIENT)])
            .await;
    let by_key = open(&scene, &identity()).await.unwrap();
    let replaced = by_key.replace_passphrase(value("new"), None).await;
    assert!(matches!(replaced, Err(StoreError::Invalid { .. })), "{replaced:?}");
    let by_two = open(&scene, &passphrase("two")).await.unwrap();
    assert!(matches!(by_two.replace_passphrase(value(""), None).await, Err(StoreError::Invalid { .. })));
    by_two.replace_passphrase(value("new"), None).await.unwrap();
    open(&scene, &passphrase("one")).await.unwrap();
    open(&scene, &passphrase("new")).await.unwrap();
    assert!(open(&scene, &passphrase("two")).await.is_err());
    let none = Scene::new().await;
    let replaced = none.vault.replace_passphrase(value("new"), None).await;
    assert!(matches!(replaced, Err(StoreError::Invalid { .. })), "{replaced:?}");
}

#[tokio::test]
async fn a_way_in_that_is_not_listed_opens_nothing() {
    // The old passphrase's frame, put back after the passphrase was replaced.
    let scene = Scene::with(vec![cheap_passphrase("old"), NewWayIn::recipient(RECIPIENT)]).await;
    let old_bytes = scene.bytes();
    let report = scene.vault.verify(false).await.unwrap();
    let old_frame = &old_bytes[47..47 + usize::try_from(report.frames[0].bytes).unwrap()];
    scene.vault.replace_passphrase(value("new"), None).await.unwrap();
    let new_bytes = scene.bytes();
    scene.replace(&[&new_bytes[..47], old_frame, &new_bytes[47..]].concat());
    let opened = open(&scene, &passphrase("old")).await;
    assert!(matches!(opened, Err(StoreError::WrongPassphrase { .. })), "{opened:?}");
    let vault = open(&scene, &passphrase("new")).await.unwrap();
    // And it does not outlive the next change of the ways in.
    vault.replace_passphrase(value("newer"), None).await.unwrap();
    assert_eq!(Vault::probe(&scene.path).unwrap().ways.len(), 2);
}

#[tokio::test]
async fn a_keychain_keeps_a_key_under_the_vaults_id() {
    let keychain = Arc::new(Chain::default());
    let scene = Scene::with(vec![NewWayIn::keychain(Arc::clone(&keychain) as Arc<dyn Keychain>)]).await;
    scene.vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
    let unlock = Unlock::new(Opener::Keychain(Arc::clone(&keychain) as Arc<dyn Keychain>), "the keychain");
    let vault = open(&scene, &unlock).await.unwrap();
    assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("kept"));
    let ways = vault.status().await.unwrap().ways;
    assert_eq!((ways.len(), ways[0].kind), (1, WayKind::Keychain));

    // Not to be reached, without a key, and with another key: an error each, never an empty store.
    *keychain.broken.lock().unwrap() = true;
    assert!(matches!(open(&scene, &unlock).await, Err(StoreError::Keychain { .. })));
    *keychain.broken.lock().unwrap() = false;
    let kept = std::mem::take(&mut *keychain.kept.lock().unwrap());
    assert!(matches!(open(&scene, &unlock).await, Err(StoreError::Keychain { .. })));
    keychain.kept.lock().unwrap().insert(vault.key_id(), IDENTITY.into());
    assert!(matches!(open(&scene, &unlock).await, Err(StoreError::WrongIdentity { .. })));
    *keychain.kept.lock().unwrap() = kept;
    open(&scene, &unlock).await.unwrap();
}

#[tokio::test]
async fn a_keychain_that_takes_no_key_makes_no_vault() {
    let keychain = Arc::new(Chain::default());
    *keychain.broken.lock().unwrap() = true;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v");
    let made = Vault::create(&path, vec![NewWayIn::keychain(keychain)]).await;
    assert!(matches!(made, Err(StoreError::Keychain { .. })), "{made:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn changed_keys_lock_out_handles_that_have_the_old_ones_and_nothing_is_written() {
    let scene = Scene::new().await;
    let revision = scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    let lease = scene.vault.lease(&key("a"), Duration::ZERO).await.unwrap();
    // Another vault takes this one's place, as one whose keys were changed would.
    let other = Scene::new().await;
    let bytes = other.bytes();
    scene.replace(&bytes);
    let a = key("a");
    let changed = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::KeysChanged { .. })), "{result:?}")
    };
    for _ in 0..2 {
        changed(scene.vault.get(&a).await.map(drop));
        changed(scene.vault.revision(&a).await.map(drop));
        changed(scene.vault.keys().await.map(drop));
        changed(scene.vault.note(&a).await.map(drop));
        changed(scene.vault.put(&a, &value("2"), Expected::Any).await.map(drop));
        changed(scene.vault.remove(&a, Expected::At(revision)).await);
        changed(scene.vault.clear().await);
        changed(lease.put(&value("2"), Expected::Any).await.map(drop));
        changed(scene.vault.lease(&key("b"), Duration::ZERO).await.map(drop));
    }
    assert_eq!(scene.bytes(), bytes);
}

#[tokio::test]
async fn a_restored_backup_is_noticed_and_no_revision_comes_twice() {
    let scene = Scene::new().await;
    let first = scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    let backup = scene.bytes();
    let second = scene.vault.put(&key("a"), &value("2"), Expected::At(first)).await.unwrap();
    assert!(!scene.vault.status().await.unwrap().went_back);
    scene.replace(&backup);
    assert_eq!(scene.vault.revision(&key("a")).await.unwrap(), Some(first));
    assert!(scene.vault.status().await.unwrap().went_back);
    let third = scene.vault.put(&key("a"), &value("3"), Expected::At(first)).await.unwrap();
    assert!(third > second, "{third} was used before");
}

#[tokio::test]
async fn a_copy_from_before_the_vault_was_cleared_is_noticed_too() {
    let scene = Scene::new().await;
    scene.vault.put(&key("a"), &value("1"), Expected::Absent).await.unwrap();
    let backup = scene.bytes();
    scene.vault.clear().await.unwrap();
    assert!(!scene.vault.status().await.unwrap().went_back);
    scene.replace(&backup);
    assert!(scene.vault.status().await.unwrap().went_back);
}
