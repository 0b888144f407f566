//! Copies of a vault, made and brought back through the command.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;

use mock_auth0::MockAuth0;
use serde_json::Value;
use tokenkeep_tests::{Home, Ran, new_identity, write_private};

fn place(home: &Home, name: &str) -> PathBuf {
    home.folder.path().join(name)
}

/// Two sessions, and an export of both.
fn two_exported(mock: &MockAuth0) -> (Home, PathBuf) {
    let home = Home::signed_in(mock);
    home.sign_in_as(mock, "other").ends(0);
    let copy = place(&home, "sessions.age");
    home.run(&["vault", "export", "-o", copy.to_str().unwrap()]).ends(0);
    (home, copy)
}

/// A new key pair: the private one in a file, and the public one.
fn key_pair(home: &Home, name: &str) -> (PathBuf, String) {
    let text = new_identity();
    let file = place(home, name);
    write_private(&file, text.as_bytes());
    (file, text.trim().parse::<age::x25519::Identity>().unwrap().to_public().to_string())
}

fn outcomes(imported: &Value) -> Vec<(String, String, Value)> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let entry =
        |entry: &Value| (text(entry, "session"), text(entry, "outcome"), entry["stored_was_newer"].clone());
    imported["entries"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn a_vault_moves_to_another_machine_and_its_session_lives_on() {
    let mock = MockAuth0::start_blocking().unwrap();
    let (old, new) = (Home::signed_in(&mock), Home::new());
    old.sign_in_as(&mock, "other").ends(0);
    let (key, recipient) = key_pair(&new, "key.txt");
    let copy = place(&old, "sessions.age");
    let copy = copy.to_str().unwrap();
    let export = ["vault", "export", "--recipient", &recipient, "--output", copy, "--json"];
    let made = old.run(&export).ends(0).json();
    assert_eq!((&made["entries"], &made["encrypted"]), (&2.into(), &true.into()));
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(copy).unwrap()) & 0o777, 0o600);
    let bytes = std::fs::read(copy).unwrap();
    let token = old.stored_refresh_token().unwrap();
    assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()));
    // Never over a file that is there.
    old.run(&export).ends(1);
    assert_eq!(std::fs::read(copy).unwrap(), bytes);

    new.run(&["vault", "init"]).ends(0);
    new.run(&["vault", "import", copy]).ends(2);
    let import = ["vault", "import", copy, "--export-identity", key.to_str().unwrap(), "--json"];
    let imported = new.run(&import).ends(0).json();
    let stored = |session: &str| (session.to_owned(), "stored".to_owned(), Value::Null);
    assert_eq!(outcomes(&imported), [stored("default"), stored("other")]);
    assert_eq!(new.stored_record("default"), old.stored_record("default"));
    for session in ["default", "other"] {
        new.run(&["renew", "--session", session]).ends(0);
    }
    new.is_alive().ends(0);
}

#[test]
fn an_old_export_leaves_alone_what_was_renewed_since_and_is_not_put_in_its_place_unasked() {
    let mock = MockAuth0::start_blocking().unwrap();
    let (home, copy) = two_exported(&mock);
    let copy = copy.to_str().unwrap();
    home.run(&["renew"]).ends(0);
    let renewed = home.stored_record("default");
    let told = home.run(&["vault", "import", copy]).ends(0);
    assert!(told.stderr.contains("spent refresh token"), "{told:#?}");
    assert!(told.stdout.contains("session default: what is stored stays"), "{told:#?}");
    let imported = home.run(&["vault", "import", copy, "--json"]).ends(0).json();
    let outcome = |session: &str, outcome: &str, newer: bool| {
        (session.to_owned(), outcome.to_owned(), Value::Bool(newer))
    };
    assert_eq!(outcomes(&imported), [outcome("default", "kept", true), outcome("other", "same", false)]);
    assert_eq!(home.stored_record("default"), renewed);

    let replace = ["vault", "import", copy, "--replace"];
    let refused = home.run(&replace).ends(2);
    assert!(refused.stderr.contains("session default: what is stored here is newer"), "{refused:#?}");
    assert_eq!(home.stored_record("default"), renewed);
    // Another vault: told by when each was renewed.
    let other = Home::signed_in(&mock);
    write_private(&other.identity, &std::fs::read(&home.identity).unwrap());
    std::fs::remove_file(&other.vault).unwrap();
    other.sign_in(&mock);
    let imported = other.run(&["vault", "import", copy, "--json"]).ends(0).json();
    assert_eq!(outcomes(&imported)[0], outcome("default", "kept", true));

    home.run(&[&replace[..], &["--yes"]].concat()).ends(0);
    assert_ne!(home.stored_record("default"), renewed);
    home.is_alive().ends(3);
}

#[test]
fn a_session_that_is_renewed_while_the_question_is_open_is_left_alone() {
    use std::io::{Read as _, Write as _};
    let mock = MockAuth0::start_blocking().unwrap();
    let (home, copy) = two_exported(&mock);
    let copy = copy.to_str().unwrap();
    let exported = home.stored_record("other");
    for session in ["default", "other"] {
        home.run(&["renew", "--session", session]).ends(0);
    }
    // On a terminal of its own, which `script` makes.
    let import = format!("{} vault import {copy} --replace", tokenkeep_tests::binary("tokenkeep").display());
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--return", "--command", &import, "/dev/null"]).env_clear();
    script.envs(home.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let pipe = std::process::Stdio::piped;
    let mut asked = script.stdin(pipe()).stdout(pipe()).spawn().unwrap();
    let (mut answer, mut shown) = (asked.stdin.take().unwrap(), asked.stdout.take().unwrap());
    let mut told = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&told).contains("Replace them?") {
        assert_eq!(shown.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&told));
        told.push(byte[0]);
    }
    home.run(&["renew"]).ends(0);
    let renewed = home.stored_record("default");
    answer.write_all(b"yes\n").unwrap();
    shown.read_to_end(&mut told).unwrap();
    drop(answer);
    let told = String::from_utf8_lossy(&told);
    assert_eq!(asked.wait().unwrap().code(), Some(1), "{told}");
    assert!(told.contains("session default: it changed since it was looked at"), "{told}");
    assert!(told.contains("session other: put in the place"), "{told}");
    assert!(told.contains("1 changed meanwhile, and were left alone"), "{told}");
    assert_eq!(home.stored_record("default"), renewed);
    assert_eq!(home.stored_record("other"), exported);
    home.is_alive().ends(0);
}

#[test]
fn nothing_is_written_in_clear_unasked_and_nothing_is_left_half_written() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let plain = place(&home, "plain.json");
    let plain = plain.to_str().unwrap();
    for flags in [&["--plain"][..], &["--plain", "--no-input"], &["--plain", "--output", plain]] {
        let ran = home.run(&[&["vault", "export"], flags].concat()).ends(2);
        assert_eq!(ran.stdout, "", "{flags:?}");
    }
    home.run(&["vault", "export", "--recipient", "age1canary", "--output", plain]).ends(2);
    assert!(!std::path::Path::new(plain).exists());
    // A vault that opens by passphrase alone has no public key to encrypt to.
    let by_passphrase = |arguments: &[&str]| {
        let mut command = home.bare_command(arguments);
        let vault = place(&home, "by-passphrase.vault");
        Ran::from(command.env("TOKENKEEP_PASSPHRASE", "x").env("TOKENKEEP_VAULT", vault).output().unwrap())
    };
    by_passphrase(&["vault", "init"]).ends(0);
    let refused = by_passphrase(&["vault", "export"]).ends(2);
    assert!(refused.stderr.contains("no way in by public key"), "{refused:#?}");
}

#[test]
fn a_person_who_says_yes_gets_it_in_clear_and_it_comes_back_exactly() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let plain = place(&home, "plain.json");
    let export = format!(
        "{} vault export --plain --output {}",
        tokenkeep_tests::binary("tokenkeep").display(),
        plain.display()
    );
    // On a terminal of its own, which `script` makes.
    let on_terminal = |answer: &str| {
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &export, "/dev/null"]).env_clear();
        script.envs(home.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ran::with_input(script.stdout(std::process::Stdio::piped()), answer.as_bytes())
    };
    on_terminal("no\n").ends(1);
    assert!(!plain.exists());
    on_terminal("yes\n").ends(0);
    let text = std::fs::read_to_string(&plain).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["entries"][0]["key"], "session/default");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&plain).unwrap()) & 0o777, 0o600);
    let record = home.stored_record("default");
    home.run(&["logout", "--local", "--forget"]).ends(0);
    Ran::with_input(&mut home.command(&["vault", "import", "-"]), text.as_bytes()).ends(0);
    assert_eq!(home.stored_record("default"), record);
    home.run(&["renew"]).ends(0);
}

#[test]
fn compacting_says_what_it_gained() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    for _ in 0..5 {
        home.run(&["renew"]).ends(0);
    }
    let before = std::fs::metadata(&home.vault).unwrap().len();
    let done = home.run(&["vault", "compact", "--json"]).ends(0).json();
    let after = std::fs::metadata(&home.vault).unwrap().len();
    assert_eq!((&done["bytes_before"], &done["bytes_after"]), (&before.into(), &after.into()));
    assert!(after < before && done["gained"] == before - after, "{done}");
    home.run(&["vault", "compact"]).ends(0);
    home.is_alive().ends(0);
}
