//! `tokenkeep vault …`: ways in, what is shown without opening, another passphrase, damage.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod support;

use support::{Ran, World, exists, finish, identity, run_with_input};

const PASSPHRASE: &str = "correct horse";

/// Runs with the passphrase in a file.
fn open(world: &World, args: &[&str]) -> Ran {
    finish(world.command(args).env("TOKENKEEP_PASSPHRASE_FILE", "passphrase").spawn().unwrap())
}

fn made() -> World {
    let world = World::new();
    world.file("passphrase", PASSPHRASE);
    open(&world, &["vault", "init"]).ends(0);
    world
}

#[test]
fn a_vault_is_made_with_a_passphrase_and_a_recovery_key_and_either_opens_it() {
    let world = World::new();
    world.file("passphrase", PASSPHRASE);
    let (secret, recipient) = identity();
    world.file("recovery", &secret);
    let made = open(&world, &["vault", "init", "--recipient", &recipient, "--json"]).ends(0).json();
    assert_eq!(made["vault"].as_str().unwrap(), world.vault().to_str().unwrap());
    assert_eq!(made["opened_by"], "TOKENKEEP_PASSPHRASE_FILE");
    let kinds: Vec<_> =
        made["ways"].as_array().unwrap().iter().map(|way| way["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["passphrase", "x25519"]);
    open(&world, &["list"]).ends(0);
    world.run(&["list", "--identity", "recovery"]).ends(0);
    run_with_input(&mut world.command(&["list", "--passphrase-file", "-"]), "correct horse\n").ends(0);

    let (code, _, help) = open(&world, &["vault", "init", "--json"]).ends(1).error();
    assert_eq!((code.as_str(), help.as_str()), ("vault_exists", "tokenkeep vault status"));
}

#[test]
fn a_recipient_alone_makes_a_vault_without_passphrase() {
    let world = World::new();
    let (secret, recipient) = identity();
    world.file("key", &secret);
    let init = ["vault", "init", "--recipient", &recipient, "--no-input", "--json"];
    let made = world.run(&init).ends(0).json();
    assert_eq!((&made["opened_by"], &made["ways"][0]["kind"]), (&serde_json::Value::Null, &"x25519".into()));
    world.run(&["list", "--no-input"]).ends(4);
    finish(world.command(&["list"]).env("TOKENKEEP_IDENTITY", "key").spawn().unwrap()).ends(0);

    let other = World::new();
    let ran = other.run(&["vault", "init", "--recipient", "age1canary", "--no-input"]);
    assert!(ran.code != 0 && !exists(&other.vault()), "{ran:#?}");
}

#[test]
fn status_needs_no_passphrase_and_says_more_with_one() {
    let world = made();
    let locked = world.run(&["vault", "status", "--json"]).ends(0).json();
    assert_eq!((&locked["opens"], &locked["locked"]["code"]), (&false.into(), &"no_unlock_source".into()));
    assert_eq!(
        (&locked["ways"][0]["kind"], &locked["ways"][0]["memory_kib"]),
        (&"passphrase".into(), &65536.into())
    );
    assert_eq!(locked["key_id"].as_str().unwrap().len(), 32);
    assert!(locked["bytes"].as_u64().unwrap() > 100);
    assert!(locked["sources"].as_array().unwrap().iter().any(|source| source["state"] == "not_set"));

    let opened = open(&world, &["vault", "status", "--json"]).ends(0).json();
    assert_eq!((&opened["opens"], &opened["locked"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(opened["ways"][0]["opened"], true);
    assert!(opened["room_bytes"].as_u64().unwrap() > 0);
    assert!(open(&world, &["vault", "status"]).ends(0).stdout.contains("64 MiB, 3 passes, 4 lanes"));
}

#[test]
fn another_passphrase_replaces_the_old_one() {
    let world = made();
    world.file("new", "another one\n");
    open(&world, &["vault", "passphrase", "--new-passphrase-file", "new"]).ends(0);
    let (code, _, help) = open(&world, &["list", "--json"]).ends(4).error();
    assert_eq!(code, "wrong_passphrase");
    assert!(help.contains("TOKENKEEP_PASSPHRASE_FILE"), "{help}");
    world.run(&["list", "--passphrase-file", "new"]).ends(0);
    // Where nobody can be asked, the new one has to be given.
    open(&world, &["vault", "passphrase"]).ends(2);
    let from_stdin = ["vault", "passphrase", "--passphrase-file", "new", "--new-passphrase-file", "-"];
    run_with_input(&mut world.command(&from_stdin), &format!("{PASSPHRASE}\n")).ends(0);
    open(&world, &["list"]).ends(0);
}

#[test]
fn damage_is_reported_by_place_and_is_6() {
    let world = made();
    let whole = open(&world, &["vault", "verify", "--json"]).ends(0).json();
    assert_eq!((&whole["damaged"], &whole["torn_tail"]), (&serde_json::json!([]), &serde_json::Value::Null));

    let mut bytes = std::fs::read(world.vault()).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(world.vault(), bytes).unwrap();
    let hurt = open(&world, &["vault", "verify", "--json"]).ends(6);
    let places = hurt.json()["damaged"].clone();
    assert_eq!(places.as_array().unwrap().len(), 1, "{places}");
    assert!(
        places[0]["offset"].as_u64().unwrap() > 0 && places[0]["reason"].as_str().unwrap().len() > 5,
        "{places}"
    );
    assert_eq!(hurt.error().0, "damaged");
}

#[test]
fn an_empty_file_is_no_vault_and_is_not_replaced_by_one() {
    let world = World::new();
    world.file("passphrase", PASSPHRASE);
    world.file("data/tokenkeep/sessions.vault", "");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = world.vault().parent().unwrap().to_owned();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    open(&world, &["login", "--domain", "tenant.example", "--client-id", "id"]).ends(6);
    assert_eq!(std::fs::read(world.vault()).unwrap(), b"");
}
