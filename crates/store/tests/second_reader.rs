//! The reader in `second_reader/reader.py`, written from `docs/vault-format.md` alone, reads what the store reads.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "vault", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod scene;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use scene::{IDENTITY, RECIPIENT, Scene, cheap_passphrase, key, value};
use tokenkeep_store::{
    Expected, FrameKind, NewWayIn, Note, SecretStore, StoreError, Unlock, Vault, VaultReport,
};

const PASSPHRASE: &str = "correct horse";
/// Keys that a case may be about; `never` is in none.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "ключ", "never"];

/// A Python that has what the reader imports.
static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let runs = |python: &PathBuf| {
        let check = Command::new(python).arg(reader()).arg("--check").output();
        check.is_ok_and(|output| output.status.success())
    };
    ["python3", "/usr/bin/python3"].map(PathBuf::from).into_iter().find(runs)
});

fn reader() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/second_reader/reader.py")
}

/// Whether `test` can run; where it cannot, it says so, and in CI it fails.
fn can_run(test: &str) -> bool {
    let missing = "no python3 has what reader.py needs (packages python3-cryptography and python3-argon2)";
    assert!(
        PYTHON.is_some() || std::env::var_os("TOKENKEEP_REQUIRE_SUITES").is_none(),
        "{missing}, and TOKENKEEP_REQUIRE_SUITES says that every suite must run"
    );
    if PYTHON.is_none() {
        eprintln!("{test} is skipped: {missing}");
    }
    PYTHON.is_some()
}

async fn made() -> Scene {
    Scene::with(vec![cheap_passphrase(PASSPHRASE), NewWayIn::recipient(RECIPIENT)]).await
}

async fn put(scene: &Scene, name: &str, content: &str) {
    scene.vault.put(&key(name), &value(content), Expected::Any).await.unwrap();
}

async fn note(scene: &Scene, name: &str, content: &str) {
    let lease = scene.vault.lease(&key(name), Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(content.as_bytes().to_vec()).unwrap()).await.unwrap();
}

/// Entries that were replaced and removed, and notes.
async fn lived_in() -> Scene {
    let scene = made().await;
    put(&scene, "c", "gone").await;
    note(&scene, "c", "gone too").await;
    scene.vault.remove(&key("c"), Expected::Any).await.unwrap();
    put(&scene, "a", "old a").await;
    put(&scene, "b", &"b".repeat(5000)).await;
    note(&scene, "a", "old note").await;
    put(&scene, "ключ", "a key that is not ASCII").await;
    note(&scene, "a", "a note").await;
    put(&scene, "a", "new a").await;
    note(&scene, "d", "a note without an entry").await;
    scene
}

fn read_by_python(scene: &Scene, how: &str, secret: &str, names: &[&str]) -> Output {
    let file = scene.folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let mut python = Command::new(PYTHON.as_ref().unwrap());
    python.env("PYTHONIOENCODING", "utf-8").env("PYTHONUTF8", "1");
    python.arg(reader()).arg(&scene.path).arg(how).arg(file).args(names).output().unwrap()
}

/// What the store reads, as the other reader prints it.
async fn read_by_store(vault: &Vault) -> String {
    let mut names = NAMES;
    names.sort_unstable();
    let mut lines = String::new();
    for name in names {
        let quoted = |bytes: &[u8]| format!("\"{}\"", BASE64.encode(bytes));
        let (state, revision, content) = match vault.get(&key(name)).await {
            Ok(Some(entry)) => ("entry", entry.revision.to_string(), quoted(entry.value.expose())),
            Ok(None) => ("none", "null".to_owned(), "null".to_owned()),
            Err(StoreError::Corrupt { .. }) => ("damaged", "null".to_owned(), "null".to_owned()),
            Err(error) => panic!("{error}"),
        };
        let note = vault.note(&key(name)).await.unwrap();
        let note = note.map_or("null".to_owned(), |note| quoted(note.as_bytes()));
        let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        lines += &format!(
            "{{\"key\": \"{hex}\", \"state\": \"{state}\", \"revision\": {revision}, \"value\": {content}, \
             \"note\": {note}}}\n"
        );
    }
    lines
}

/// Both readers, by both ways in, say the same of the file that stands there now; and so many keys have a state each.
async fn compare(scene: &Scene, what: &str, [entry, none, damaged]: [usize; 3]) {
    let passphrase = Unlock::passphrase(PASSPHRASE.as_bytes(), "test");
    for (unlock, how, secret) in
        [(scene::identity(), "--identity", IDENTITY), (passphrase, "--passphrase", PASSPHRASE)]
    {
        let vault = Vault::open(&scene.path, &unlock).await.unwrap();
        let expected = read_by_store(&vault).await;
        let states =
            ["entry", "none", "damaged"].map(|state| expected.matches(&format!("\"{state}\"")).count());
        assert_eq!(states, [entry, none, damaged], "{what}, {how}:\n{expected}");
        let output = read_by_python(scene, how, secret, &NAMES);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}, {how}: {error}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{what}, {how}");
        if how == "--identity" && damaged == 0 {
            // Without being told their names.
            let listed = read_by_python(scene, how, secret, &[]).stdout;
            let is_entry = |line: &&str| line.contains("\"entry\"");
            let entries: String = expected.split_inclusive('\n').filter(is_entry).collect();
            assert_eq!(String::from_utf8_lossy(&listed), entries, "{what}");
        }
    }
}

/// Where the last frame of this kind, and of this key if it has one, stands.
fn range(report: &VaultReport, kind: FrameKind, name: Option<&str>) -> std::ops::Range<usize> {
    let frame = report.frames.iter().rfind(|frame| frame.kind == Some(kind) && frame.key == name.map(key));
    let frame = frame.unwrap_or_else(|| panic!("no {kind:?} of {name:?}"));
    usize::try_from(frame.offset).unwrap()..usize::try_from(frame.offset + frame.bytes).unwrap()
}

#[tokio::test]
async fn both_read_what_was_written() {
    if !can_run("both_read_what_was_written") {
        return;
    }
    let scene = made().await;
    compare(&scene, "empty", [0, 6, 0]).await;
    let scene = lived_in().await;
    compare(&scene, "lived in", [3, 3, 0]).await;
    // Enough to be written anew on the way.
    for round in 0..8 {
        put(&scene, "d", &format!("{round}").repeat(100_000)).await;
    }
    assert!(scene.bytes().len() < 700_000, "it was never compacted");
    compare(&scene, "compacted", [4, 2, 0]).await;
    scene.vault.clear().await.unwrap();
    compare(&scene, "cleared", [0, 6, 0]).await;
}

#[tokio::test]
async fn both_tell_torn_tails_from_damage_and_find_heads_again() {
    if !can_run("both_tell_torn_tails_from_damage_and_find_heads_again") {
        return;
    }
    let scene = lived_in().await;
    let report = scene.vault.verify(true).await.unwrap();
    let bytes = scene.bytes();
    let a = range(&report, FrameKind::Put, Some("a"));
    let b = range(&report, FrameKind::Put, Some("b"));
    let list = range(&report, FrameKind::Ways, None);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        changed
    };
    let cases: [(&str, Vec<u8>, [usize; 3]); 13] = [
        ("cut within the last body", bytes[..bytes.len() - 10].to_vec(), [3, 3, 0]),
        ("cut within a head", bytes[..a.start + 20].to_vec(), [3, 3, 0]),
        ("zeros up to a block", with(&|file| file.resize(file.len().next_multiple_of(4096), 0)), [3, 3, 0]),
        ("noise behind the last frame", with(&|file| file.extend([0x55; 100])), [0, 0, 6]),
        ("a head without its checksum", with(&|file| file[a.start + 37] ^= 1), [3, 3, 0]),
        ("a head without its length, before a whole one", with(&|file| file[b.start + 4] ^= 1), [3, 3, 0]),
        ("a list's head", with(&|file| file[list.start + 9] ^= 1), [3, 3, 0]),
        ("a way in's head", with(&|file| file[47 + 5] ^= 1), [3, 3, 0]),
        ("a list's body", with(&|file| file[list.end - 1] ^= 1), [3, 3, 0]),
        ("a body", with(&|file| file[a.end - 1] ^= 1), [2, 3, 1]),
        ("a whole frame", with(&|file| file[b.clone()].fill(0x55)), [2, 0, 4]),
        ("a body cut short", [&bytes[..b.start + 60], &bytes[b.end..]].concat(), [2, 3, 1]),
        ("an old frame at the end", with(&|file| file.extend_from_within(b.clone())), [3, 3, 0]),
    ];
    for (what, changed, states) in cases {
        scene.replace(&changed);
        compare(&scene, what, states).await;
    }
}

#[tokio::test]
async fn both_read_on_after_a_write_behind_damage() {
    if !can_run("both_read_on_after_a_write_behind_damage") {
        return;
    }
    let scene = lived_in().await;
    let report = scene.vault.verify(true).await.unwrap();
    let mut bytes = scene.bytes();
    bytes[range(&report, FrameKind::Put, Some("b"))].fill(0x55);
    scene.replace(&bytes);
    let vault = scene.open().await;
    vault.put(&key("c"), &value("written behind it"), Expected::Any).await.unwrap();
    compare(&scene, "appended", [3, 0, 3]).await;
    vault.remove(&key("d"), Expected::Any).await.unwrap();
    compare(&scene, "written anew", [3, 1, 2]).await;
}

#[tokio::test]
async fn neither_opens_what_is_not_theirs() {
    if !can_run("neither_opens_what_is_not_theirs") {
        return;
    }
    let scene = lived_in().await;
    assert!(!read_by_python(&scene, "--passphrase", "wrong horse", &NAMES).status.success());
    let mut newer = scene.bytes();
    newer[17] = b'2';
    let crc = crc32c::crc32c(&newer[..43]);
    newer[43..47].copy_from_slice(&crc.to_le_bytes());
    scene.replace(&newer);
    assert!(matches!(scene.try_open().await, Err(StoreError::NewerVersion { .. })));
    let output = read_by_python(&scene, "--identity", IDENTITY, &NAMES);
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("Newer:") && !output.status.success());
}
