//! Vaults that open by a server's own SSH key or by a key that an age plugin holds, through the command.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use mock_auth0::MockAuth0;
use tokenkeep_tests::{Home, Ran, set_mode, told_as_untested, write_private};

/// The folder of the test's own age plugin.
fn plugins() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_age-plugin-testkey")).parent().unwrap().to_owned()
}

fn path_with_plugins() -> OsString {
    std::env::join_paths([plugins(), "/usr/bin".into(), "/bin".into()]).unwrap()
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        told_as_untested(&format!("there is no {program}"));
    }
    found
}

/// The bodies of the ways in, which come first in the file.
fn ways_in(file: &[u8]) -> Vec<&[u8]> {
    let mut rest = &file[47..];
    let mut ways = Vec::new();
    while rest[3] == 1 {
        let length = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        ways.push(&rest[40..40 + length]);
        rest = &rest[40 + length..];
    }
    ways
}

/// What stock `age` makes of the way in at `index`.
fn opened_by_age(home: &Home, index: usize, identity: &Path) -> Vec<u8> {
    let body = home.folder.path().join("body");
    std::fs::write(&body, ways_in(&std::fs::read(&home.vault).unwrap())[index]).unwrap();
    let mut age = Command::new("age");
    age.arg("-d").arg("-i").arg(identity).arg(&body).env("PATH", path_with_plugins());
    let out = age.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn kinds(ran: Ran) -> Vec<String> {
    let ran = ran.ends(0);
    let status: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    status["ways"].as_array().unwrap().iter().map(|way| way["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_server_opens_by_its_own_host_key_and_the_recovery_key_opens_without_it() {
    if !has("ssh-keygen") || !has("age") {
        return;
    }
    let mock = MockAuth0::start_blocking().unwrap();
    let mut home = Home::new();
    let recovery = std::mem::replace(&mut home.identity, home.folder.path().join("ssh_host_ed25519_key"));
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "root@server", "-f"]).arg(&home.identity);
    assert!(keygen.status().unwrap().success());

    let recipient = recipient_of(&recovery);
    home.run(&["vault", "init", "--recipient", &recipient]).ends(0);
    home.sign_in(&mock);
    assert!(!home.token().is_empty());
    // The order of the ways in is that in which they were named.
    assert_eq!(kinds(home.run(&["vault", "status", "--json"])), ["ssh-ed25519", "x25519"]);
    let closed = Ran::from(home.bare_command(&["vault", "status", "--json"]).output().unwrap());
    assert_eq!(kinds(closed), ["ssh-ed25519", "x25519"], "seen without a key");
    assert_eq!(opened_by_age(&home, 0, &home.identity).len(), 32);

    let other = home.folder.path().join("recovered");
    std::fs::rename(&home.identity, &other).unwrap();
    let told = home.run(&["token", "--json"]).ends(4).error();
    assert!(told.message.contains("TOKENKEEP_IDENTITY") && told.message.contains("no such file"), "{told:?}");
    home.identity = recovery;
    assert!(!home.token().is_empty());

    set_mode(&other, 0o644);
    home.identity = other;
    let told = home.run(&["token", "--json"]).ends(4).error();
    assert!(told.message.contains("chmod 600"), "{told:?}");
}

/// The public key of an age identity file.
fn recipient_of(identity: &Path) -> String {
    let text = std::fs::read_to_string(identity).unwrap();
    let line = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    line.parse::<age::x25519::Identity>().unwrap().to_public().to_string()
}

#[test]
fn a_key_that_a_plugin_holds_makes_a_vault_and_opens_it() {
    let mock = MockAuth0::start_blocking().unwrap();
    let mut home = Home::new();
    let key = home.folder.path().join("held by the plugin");
    let made = Command::new(env!("CARGO_BIN_EXE_age-plugin-testkey")).arg(&key).output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# recipient: ")).unwrap().to_owned();
    home.identity = home.folder.path().join("plugin-identity");
    write_private(&home.identity, text.as_bytes());
    let run = |home: &Home, arguments: &[&str]| {
        Ran::from(home.command(arguments).env("PATH", path_with_plugins()).output().unwrap())
    };

    // By the identity, for which the plugin finds the recipient; and by the recipient's text.
    run(&home, &["vault", "init", "--recipient", &recipient]).ends(0);
    let tokens = mock.seed_session().unwrap();
    let client = mock.client_id();
    let mut login =
        home.command(&["login", "--issuer", mock.issuer(), "--client-id", &client, "--refresh-token-stdin"]);
    login.env("PATH", path_with_plugins());
    Ran::with_input(&mut login, tokens.refresh_token().as_bytes()).ends(0);
    let token = run(&home, &["token"]).ends(0);
    assert!(!token.stdout.trim().is_empty());
    assert_eq!(kinds(run(&home, &["vault", "status", "--json"])), ["plugin", "plugin"]);
    if has("age") {
        let by_identity = opened_by_age(&home, 0, &home.identity);
        assert_eq!((by_identity.len(), by_identity), (32, opened_by_age(&home, 1, &home.identity)));
    }

    // Without the plugin; with the plugin and without the key; and with another key.
    let told = home.run(&["token", "--json"]).ends(4).error();
    assert_eq!(told.code, "unlock_source");
    assert!(told.message.contains("age-plugin-testkey is not on the PATH"), "{told:?}");
    let secret = std::fs::read_to_string(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let told = run(&home, &["token", "--json"]).ends(4).error();
    assert!(told.message.contains("no key in"), "{told:?}");
    let other = Command::new(env!("CARGO_BIN_EXE_age-plugin-testkey")).arg(&key).output().unwrap();
    assert!(other.status.success());
    let told = run(&home, &["token", "--json"]).ends(4).error();
    assert_eq!(told.code, "wrong_identity", "{told:?}");
    std::fs::write(&key, secret).unwrap();
    run(&home, &["token"]).ends(0);
}
