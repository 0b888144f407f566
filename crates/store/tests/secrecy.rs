//! Nothing that is secret, and no name, is found in the file, in `Debug` or in an error; what was planted is found.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

mod scene;

use std::time::Duration;

use scene::{IDENTITY, RECIPIENT, cheap, key, value};
use tokenkeep_store::{Expected, NewWayIn, Note, Secret, SecretStore, Unlock, Vault};

/// Each is looked for as it is, and in the spellings in which bytes leak.
const CANARIES: [&str; 5] = [
    "session-canary-alice",
    "value-canary-5c31",
    "note-canary-77aa",
    "pass-canary-1e2f",
    "label-canary-0d0d",
];

fn spellings(canary: &str) -> [Vec<u8>; 3] {
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{:?}", canary.as_bytes());
    [canary.as_bytes().to_vec(), hex.into_bytes(), list.trim_matches(['[', ']']).as_bytes().to_vec()]
}

fn found(text: &[u8]) -> Vec<&'static str> {
    let has = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    CANARIES.into_iter().filter(|canary| spellings(canary).iter().any(|spelling| has(spelling))).collect()
}

#[tokio::test]
async fn no_name_and_no_secret_is_in_the_file_or_in_anything_that_is_printed() {
    let [name, secret, note, passphrase, label] = CANARIES;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.vault");
    let ways = vec![
        NewWayIn::Passphrase { secret: value(passphrase), costs: cheap(), label: label.to_owned() },
        NewWayIn::recipient(RECIPIENT),
    ];
    let mut printed = format!("{:?}", ways[0]).replace(label, "");
    let vault = Vault::create(&path, ways).await.unwrap();
    let name = key(name);
    let revision = vault.put(&name, &value(secret), Expected::Absent).await.unwrap();
    let lease = vault.lease(&name, Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(note.as_bytes().to_vec()).unwrap()).await.unwrap();
    lease.put(&Secret::from(secret.repeat(100).as_bytes()), Expected::At(revision)).await.unwrap();

    let unlocks = [Unlock::passphrase(value(passphrase), "test"), Unlock::identity(IDENTITY, "test")];
    printed += &format!("{unlocks:?} {vault:?} {vault:#?} {lease:?} {:?}", vault.get(&name).await.unwrap());
    printed += &format!("{:?} {:?}", vault.note(&name).await.unwrap(), vault.keys().await.unwrap());
    // What a way in is called is shown to who opens the vault.
    printed += &format!("{:?}", vault.verify(true).await.unwrap()).replace(label, "");
    let errors = [
        vault.put(&name, &value(secret), Expected::Absent).await.map(drop),
        vault.put(&name, &Secret::from(secret.repeat(100_000).as_bytes()), Expected::Any).await.map(drop),
        vault.lease(&name, Duration::ZERO).await.map(drop),
        Vault::open(&path, &Unlock::passphrase(value(&format!("{passphrase}x")), "test")).await.map(drop),
        Vault::open(&path, &Unlock::identity(passphrase, "test")).await.map(drop),
    ];
    for error in errors {
        let error = error.unwrap_err();
        printed += &format!("{error} {error:?}");
    }
    assert_eq!(found(printed.as_bytes()), Vec::<&str>::new(), "{printed}");
    assert!(!printed.contains(&IDENTITY[20..40]), "{printed}");

    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert_eq!(found(&bytes), Vec::<&str>::new());
        assert!(!bytes.windows(14).any(|window| window == b"AGE-SECRET-KEY"));
    }

    // The same scan finds what was planted, in each spelling.
    for canary in CANARIES {
        for spelling in spellings(canary) {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend_from_slice(&spelling);
            assert_eq!(found(&bytes), [canary]);
        }
    }
}

#[tokio::test]
async fn what_was_removed_is_gone_from_the_file_sealed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.vault");
    let vault = Vault::create(&path, vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
    vault.put(&key("kept"), &value("kept"), Expected::Absent).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    vault.put(&key("gone"), &value("old"), Expected::Absent).await.unwrap();
    let with_it = std::fs::read(&path).unwrap();
    let sealed = &with_it[before.len() + 40..];
    assert!(sealed.len() > 32);
    vault.remove(&key("gone"), Expected::Any).await.unwrap();
    let after = std::fs::read(&path).unwrap();
    assert!(!after.windows(sealed.len()).any(|window| window == sealed), "its sealed bytes are still there");
    assert_eq!(after.len(), before.len());
}
