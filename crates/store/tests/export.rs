//! A copy of a vault: exact, encrypted to whom it is for, and never more than was there.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(feature = "vault")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scene::{Chain, RECIPIENT, Scene, cheap_passphrase, identity, key, value};
use tokenkeep_store::{
    Expected, Export, ImportOutcome, Imported, Key, NewWayIn, Note, Revision, Secret, SecretStore, Seen,
    StoreError, Unlock, Vault,
};

const WAIT: Duration = Duration::from_secs(10);

/// Values and names that text and JSON could spoil, and notes.
async fn odd(vault: &Vault) -> Vec<(Key, Secret)> {
    let all: Vec<u8> = (0..=255).cycle().take(3001).collect();
    let entries = [
        ("session/default", all),
        ("empty", Vec::new()),
        ("a \"name\" with \\ and \u{1} and ünïcode 🔑", b"x".to_vec()),
        ("largest", vec![0xfe; 1024 * 1024]),
    ];
    let mut stored = Vec::new();
    for (name, bytes) in entries {
        let value = Secret::new(bytes);
        vault.put(&key(name), &value, Expected::Any).await.unwrap();
        stored.push((key(name), value));
    }
    let lease = vault.lease(&key("empty"), Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new((0..=255).collect()).unwrap()).await.unwrap();
    stored
}

/// Nothing is to be replaced.
fn nothing() -> BTreeMap<Key, Seen> {
    BTreeMap::new()
}

/// What whoever looks now sees of all that `export` holds.
async fn seen(vault: &Vault, export: &Export) -> BTreeMap<Key, Seen> {
    let mut seen = BTreeMap::new();
    for entry in &export.entries {
        let found = match vault.get(&entry.key).await {
            Ok(stored) => stored.map_or(Seen::Absent, |stored| Seen::At(stored.revision)),
            Err(StoreError::Corrupt { .. }) => Seen::Damaged,
            Err(error) => panic!("{error}"),
        };
        seen.insert(entry.key.clone(), found);
    }
    seen
}

fn outcomes(imported: Vec<Imported>) -> Vec<ImportOutcome> {
    imported.into_iter().map(|entry| entry.outcome).collect()
}

fn recipients(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test]
async fn a_copy_restores_every_entry_byte_for_byte_encrypted_or_not() {
    let scene = Scene::in_memory().await;
    let stored = odd(&scene.vault).await;
    let export = scene.vault.export().await.unwrap();
    assert_eq!(scene.vault.recipients().unwrap(), [RECIPIENT]);
    let plain = export.to_json().unwrap();
    let encrypted = Secret::new(export.encrypt(&recipients(&[RECIPIENT])).unwrap());
    assert!(Export::is_encrypted(&encrypted) && !Export::is_encrypted(&plain));
    assert!(!encrypted.expose().windows(15).any(|window| window == b"session/default"));
    for file in [&plain, &encrypted] {
        let target = Scene::in_memory().await;
        let read = target.vault.read_export(file.clone(), identity()).await.unwrap();
        assert_eq!(read.key_id, Some(scene.vault.key_id()));
        let imported = target.vault.import(&read, &nothing(), WAIT).await.unwrap();
        assert!(imported.iter().all(|entry| entry.outcome == ImportOutcome::Stored), "{imported:?}");
        assert_eq!(target.vault.keys().await.unwrap().len(), stored.len());
        for (key, value) in &stored {
            let there = target.vault.get(key).await.unwrap().unwrap();
            assert_eq!(there.value, *value);
            assert_eq!(target.vault.note(key).await.unwrap(), scene.vault.note(key).await.unwrap());
        }
        // Once more: nothing is written twice.
        let again = target.vault.import(&read, &seen(&target.vault, &read).await, WAIT).await.unwrap();
        assert!(again.iter().all(|entry| entry.outcome == ImportOutcome::Same), "{again:?}");
    }
}

#[tokio::test]
async fn the_format_is_what_is_documented() {
    let scene = Scene::in_memory().await;
    scene.vault.put(&key("k"), &value("value"), Expected::Any).await.unwrap();
    let json = scene.vault.export().await.unwrap().to_json().unwrap();
    let text = std::str::from_utf8(json.expose()).unwrap();
    let (start, end) = (text.find("\"exported_at\":").unwrap(), text.find(",\"key_id\"").unwrap());
    assert!(text[start + 14..end].parse::<u64>().unwrap() > 1_700_000_000);
    let expected = format!(
        "{{\"tokenkeep_export\":1,{},\"key_id\":\"{}\",\"entries\":[{{\"key\":\"k\",\"revision\":2,\"value\":\
         \"dmFsdWU=\",\"note\":null}}]}}\n",
        &text[start..end],
        scene.vault.key_id()
    );
    assert_eq!(text, expected);
    // Unknown fields are skipped, and those that may be missing may be missing.
    let other = br#"{"new":[1],"entries":[{"more":{},"key":"k","revision":7,"value":"dmFsdWU="}],"exported_at":0,"tokenkeep_export":1}"#;
    let read = Export::read(&Secret::from(&other[..]), None).unwrap();
    assert_eq!((read.key_id, read.entries[0].revision.get()), (None, 7));
    assert_eq!(read.entries[0].value, value("value"));
}

#[tokio::test]
async fn what_is_no_export_is_refused_and_nothing_of_it_is_repeated() {
    let entry =
        |fields: &str| format!("{{\"tokenkeep_export\":1,\"exported_at\":1,\"entries\":[{{{fields}}}]}}");
    let cases = [
        "canary".to_owned(),
        "{\"tokenkeep_export\":\"canary\"}".to_owned(),
        "{\"tokenkeep_export\":1,\"exported_at\":1,\"entries\":\"canary\"}".to_owned(),
        entry("\"key\":\"canary\",\"revision\":\"canary\",\"value\":\"\""),
        entry("\"key\":\"canary\",\"revision\":1,\"value\":\"canary!\""),
        entry("\"key\":\"canary\",\"revision\":1,\"value\":\"dmFsdWU\""),
        entry("\"key\":\"\",\"revision\":1,\"value\":\"\""),
        entry("\"key\":\"canary\",\"revision\":1,\"value\":\"\\u0064mFsdWU=\""),
        entry(
            "\"key\":\"canary\",\"revision\":1,\"value\":\"\"},{\"key\":\"canary\",\"revision\":2,\"value\":\"\"",
        ),
        entry(&format!("\"key\":\"canary\",\"revision\":1,\"value\":\"\",\"note\":\"{}\"", "A".repeat(700))),
    ];
    for case in cases {
        let refused = Export::read(&Secret::from(case.as_bytes()), None);
        let Err(error @ StoreError::Invalid { .. }) = refused else { panic!("{case}: {refused:?}") };
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
    let newer = Export::read(&Secret::from(&b"{\"tokenkeep_export\":2}"[..]), None);
    assert!(matches!(newer, Err(StoreError::NewerVersion { .. })), "{newer:?}");
}

#[tokio::test]
async fn an_encrypted_copy_opens_for_its_recipients_alone_and_no_byte_of_it_can_change() {
    let scene = Scene::in_memory().await;
    scene.vault.put(&key("k"), &value("value"), Expected::Any).await.unwrap();
    let export = scene.vault.export().await.unwrap();
    assert!(export.encrypt(&[]).is_err());
    assert!(export.encrypt(&recipients(&["age1canary"])).is_err());
    let other = age::x25519::Identity::generate();
    let to_both = recipients(&[RECIPIENT, &other.to_public().to_string()]);
    let message = export.encrypt(&to_both).unwrap();
    let id = scene.vault.key_id();
    let other = Unlock::identity(
        age::secrecy::ExposeSecret::expose_secret(&other.to_string()).to_owned(),
        "the other",
    );
    let read = |message: &[u8], unlock: &Unlock| Export::read(&Secret::from(message), Some((unlock, id)));
    for unlock in [&identity(), &other] {
        assert_eq!(read(&message, unlock).unwrap().entries.len(), 1);
    }
    let one = export.encrypt(&recipients(&[RECIPIENT])).unwrap();
    let refused = read(&one, &other).unwrap_err().to_string();
    assert!(refused.contains("another key than that from the other"), "{refused}");
    let passphrase = Unlock::passphrase(value("x"), "a passphrase");
    assert!(matches!(read(&one, &passphrase), Err(StoreError::UnlockSource { .. })));
    assert!(Export::read(&Secret::from(&one[..]), None).is_err());
    for at in 0..one.len() {
        let mut changed = one.clone();
        changed[at] ^= 1;
        assert!(read(&changed, &identity()).is_err(), "byte {at}");
        assert!(read(&one[..at], &identity()).is_err(), "{at} bytes");
    }
}

#[tokio::test]
async fn what_is_there_stays_unless_it_is_to_be_replaced_and_nobody_renews_meanwhile() {
    let scene = Scene::in_memory().await;
    let vault = &scene.vault;
    for name in ["a", "b", "c"] {
        vault.put(&key(name), &value("exported"), Expected::Any).await.unwrap();
    }
    let export = vault.export().await.unwrap();
    let newer = vault.put(&key("a"), &value("renewed"), Expected::Any).await.unwrap();
    vault.remove(&key("b"), Expected::Any).await.unwrap();
    let imported = vault.import(&export, &nothing(), WAIT).await.unwrap();
    assert_eq!(imported[0].revision, Some(newer));
    assert_eq!(outcomes(imported), [ImportOutcome::Kept, ImportOutcome::Stored, ImportOutcome::Same]);
    assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("renewed"));

    // Damage is told, and is replaced when asked to.
    let report = vault.verify(true).await.unwrap();
    let a = report.entries().find(|frame| frame.key == Some(key("a"))).unwrap();
    let mut bytes = scene.bytes();
    bytes[usize::try_from(a.offset + a.bytes).unwrap() - 1] ^= 1;
    scene.replace(&bytes);
    let opened = scene.open().await;
    let same = ImportOutcome::Same;
    assert_eq!(
        outcomes(opened.import(&export, &nothing(), WAIT).await.unwrap()),
        [ImportOutcome::Damaged, same, same]
    );
    assert_eq!(
        outcomes(opened.import(&export, &seen(&opened, &export).await, WAIT).await.unwrap()),
        [ImportOutcome::Replaced, same, same]
    );
    let restored = opened.get(&key("a")).await.unwrap().unwrap();
    assert!(restored.value == value("exported") && restored.revision > newer);

    let lease = opened.lease(&key("c"), Duration::ZERO).await.unwrap();
    let waited = opened.import(&export, &nothing(), Duration::from_millis(30)).await;
    assert!(matches!(waited, Err(StoreError::LeaseHeld { .. })), "{waited:?}");
    drop(lease);
    assert!(opened.import(&export, &nothing(), WAIT).await.is_ok());
}

#[tokio::test]
async fn what_has_changed_since_somebody_looked_is_left_alone() {
    let scene = Scene::in_memory().await;
    let vault = &scene.vault;
    let names = ["absent", "added", "changed", "gone", "mended", "same", "unchanged"];
    for name in names {
        vault.put(&key(name), &value("exported"), Expected::Any).await.unwrap();
    }
    let export = vault.export().await.unwrap();
    for name in names {
        vault.put(&key(name), &value("newer"), Expected::Any).await.unwrap();
    }
    for name in ["absent", "added"] {
        vault.remove(&key(name), Expected::Any).await.unwrap();
    }
    let report = vault.verify(true).await.unwrap();
    let mended = report.entries().find(|frame| frame.key == Some(key("mended"))).unwrap();
    let mut bytes = scene.bytes();
    bytes[usize::try_from(mended.offset + mended.bytes).unwrap() - 1] ^= 1;
    scene.replace(&bytes);
    let vault = scene.open().await;
    let shown = seen(&vault, &export).await;
    assert_eq!((shown[&key("absent")], shown[&key("mended")]), (Seen::Absent, Seen::Damaged));

    // A renewal, under its lease, while the import waits for leases.
    let lease = vault.lease(&key("changed"), Duration::ZERO).await.unwrap();
    let importing = {
        let (vault, export, shown) = (scene.open().await, export.clone(), shown.clone());
        tokio::spawn(async move { vault.import(&export, &shown, WAIT).await })
    };
    vault.put(&key("added"), &value("renewed"), Expected::Absent).await.unwrap();
    vault.put(&key("mended"), &value("renewed"), Expected::Any).await.unwrap();
    vault.put(&key("same"), &value("exported"), Expected::Any).await.unwrap();
    vault.remove(&key("gone"), Expected::Any).await.unwrap();
    let renewed = lease.put(&value("renewed"), Expected::At(revision(&shown, "changed"))).await.unwrap();
    assert!(!importing.is_finished());
    lease.release().await.unwrap();
    let imported = importing.await.unwrap().unwrap();
    assert_eq!((imported[2].revision, imported[3].revision), (Some(renewed), None));
    use ImportOutcome::{Changed, Replaced, Same, Stored};
    assert_eq!(outcomes(imported), [Stored, Changed, Changed, Changed, Changed, Same, Replaced]);
    for (name, expected) in names.into_iter().zip([
        Some("exported"),
        Some("renewed"),
        Some("renewed"),
        None,
        Some("renewed"),
        Some("exported"),
        Some("exported"),
    ]) {
        let stored = vault.get(&key(name)).await.unwrap().map(|entry| entry.value);
        assert_eq!(stored, expected.map(value), "{name}");
    }
}

fn revision(seen: &BTreeMap<Key, Seen>, name: &str) -> Revision {
    let Seen::At(revision) = seen[&key(name)] else { panic!("{name}: {seen:?}") };
    revision
}

#[tokio::test]
async fn the_note_of_an_entry_is_replaced_with_it_and_put_where_an_import_was_stopped_before_it() {
    let scene = Scene::in_memory().await;
    let vault = &scene.vault;
    let note = |text: &str| Note::new(text.as_bytes().to_vec()).unwrap();
    let set = async |name: &str, text: &str| {
        let lease = vault.lease(&key(name), Duration::ZERO).await.unwrap();
        lease.set_note(&note(text)).await.unwrap();
        lease.release().await.unwrap();
    };
    let put = async |name: &str, text: &str| {
        vault.put(&key(name), &value(text), Expected::Any).await.unwrap();
    };
    let noted = async |name: &str| vault.note(&key(name)).await.unwrap();
    for name in ["newer", "noted", "stopped", "stopped anew"] {
        put(name, "exported").await;
        set(name, "exported").await;
    }
    put("none", "exported").await;
    put("stopped, none", "exported").await;
    put("untouched", "exported").await;
    let export = vault.export().await.unwrap();

    // The export's note, or none, comes with its value.
    for name in ["noted", "none"] {
        put(name, "local").await;
        set(name, "local").await;
    }
    // As an import leaves it that is killed between the value and the note: over what had none, and what had another.
    vault.remove(&key("stopped"), Expected::Any).await.unwrap();
    put("stopped", "exported").await;
    for name in ["stopped anew", "stopped, none"] {
        set(name, "local").await;
        put(name, "exported").await;
    }
    // What the same value met since.
    set("newer", "local").await;
    let before = scene.bytes().len();
    let imported = vault.import(&export, &seen(vault, &export).await, WAIT).await.unwrap();
    let replaced: Vec<_> = imported
        .iter()
        .filter(|entry| entry.outcome == ImportOutcome::Replaced)
        .map(|entry| &entry.key)
        .collect();
    assert_eq!(replaced, [&key("none"), &key("noted")]);
    for name in ["noted", "stopped", "stopped anew"] {
        assert_eq!(noted(name).await, Some(note("exported")), "{name}");
    }
    for name in ["none", "stopped, none"] {
        assert_eq!(noted(name).await, Some(note("")), "{name}");
    }
    assert_eq!(noted("newer").await, Some(note("local")));
    assert_eq!(noted("untouched").await, None);

    // Once more: nothing is written.
    let after = scene.bytes();
    assert!(after.len() > before);
    vault.import(&export, &seen(vault, &export).await, WAIT).await.unwrap();
    assert!(scene.bytes() == after);
}

#[tokio::test]
async fn a_copy_is_for_no_key_that_opens_nothing_elsewhere() {
    let keychain = || NewWayIn::Keychain { keychain: Arc::new(Chain::default()), label: String::new() };
    let scene = Scene::within(Scene::memory(), vec![keychain(), NewWayIn::recipient(RECIPIENT)]).await;
    let ways = scene.vault.status().await.unwrap().ways;
    assert!(ways.iter().all(|way| way.recipient.is_some()) && ways.len() == 2, "{ways:?}");
    assert_eq!(scene.vault.recipients().unwrap(), [RECIPIENT]);
}

#[tokio::test]
async fn a_vault_with_passphrases_alone_has_nobody_to_encrypt_to() {
    let scene = Scene::within(Scene::memory(), vec![cheap_passphrase("one")]).await;
    assert_eq!(scene.vault.recipients().unwrap(), Vec::<String>::new());
    let both = vec![cheap_passphrase("one"), NewWayIn::recipient(RECIPIENT)];
    let scene = Scene::within(Scene::memory(), both).await;
    assert_eq!(scene.vault.recipients().unwrap(), [RECIPIENT]);
}

#[tokio::test]
async fn compacting_drops_what_was_replaced_and_says_how_much() {
    let scene = Scene::in_memory().await;
    for number in 0..20 {
        let text = format!("{number}").repeat(400);
        scene.vault.put(&key("a"), &value(&text), Expected::Any).await.unwrap();
    }
    let before = scene.bytes().len() as u64;
    let revision = scene.vault.revision(&key("a")).await.unwrap();
    let done = scene.vault.compact().await.unwrap();
    assert_eq!((done.before, done.after), (before, scene.bytes().len() as u64));
    assert!(done.after < before / 5, "{done:?}");
    assert_eq!(scene.vault.status().await.unwrap().dead_bytes, 0);
    let fresh = scene.open().await;
    assert_eq!(fresh.revision(&key("a")).await.unwrap(), revision);
    assert_eq!(fresh.get(&key("a")).await.unwrap().unwrap().value, value(&"19".repeat(400)));
}
