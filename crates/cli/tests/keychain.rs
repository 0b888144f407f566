//! The command where the OS keychain is the only thing that could open the vault, and cannot.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a test may panic"
)]

#[path = "../../store/tests/keychain/session.rs"]
#[allow(dead_code, reason = "the store's own tests use the rest")]
mod session;
mod support;

use std::process::Command;

use session::{Service, in_session};
use support::{Ran, World, exists, finish, identity};
use tokenkeep::store::{Keychain as _, SystemKeychain};

/// Runs with the session bus at `bus`, or with nothing of a desktop session at all, as in cron.
fn run(world: &World, bus: Option<&str>, args: &[&str]) -> Ran {
    let mut command: Command = world.command(args);
    match bus {
        Some(bus) => command.env("DBUS_SESSION_BUS_ADDRESS", bus),
        None => command.env_remove("DBUS_SESSION_BUS_ADDRESS"),
    };
    finish(command.spawn().unwrap())
}

const LOGIN: [&str; 6] = ["login", "--domain", "nobody.invalid", "--client-id", "id", "--json"];

#[test]
fn where_there_is_no_keychain_nothing_is_made_and_what_was_tried_is_said() {
    let world = World::new();
    let dead = format!("unix:path={}", world.path("bus").display());
    for bus in [None, Some("nonsense"), Some(dead.as_str())] {
        // Whoever runs this may have a bus of their own at the usual place.
        if bus.is_none() && exists(format!("/run/user/{}/bus", nix::unistd::geteuid()).as_ref()) {
            eprintln!("not tested without an address: this user has a session bus at its usual place");
            continue;
        }
        for args in [&["vault", "init", "--json"][..], &LOGIN] {
            let (code, message, help) = run(&world, bus, args).ends(4).error();
            assert_eq!(code, "no_unlock_source", "{message}");
            assert!(
                message.contains("the OS keychain (") && help.contains("TOKENKEEP_PASSPHRASE_FILE"),
                "{message}"
            );
            assert!(!exists(&world.path("data")), "{args:?} left something behind");
        }
        // And no vault is no login, whatever the keychain says.
        let (code, ..) = run(&world, bus, &["token", "--json"]).ends(3).error();
        assert_eq!(code, "no_vault");
    }
}

#[test]
fn a_keychain_that_is_locked_is_given_no_key_and_no_vault_is_made() {
    in_session("a_keychain_that_is_locked_is_given_no_key_and_no_vault_is_made", Service::Locked, || {
        let world = World::new();
        let bus = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap();
        for args in [&["vault", "init", "--json"][..], &LOGIN] {
            let (code, message, _) = run(&world, Some(&bus), args).ends(4).error();
            assert_eq!(code, "no_unlock_source", "{message}");
            assert!(!exists(&world.path("data")), "{args:?} left something behind");
        }
    });
}

#[test]
fn an_item_that_is_deleted_is_said_and_the_recovery_key_opens() {
    in_session("an_item_that_is_deleted_is_said_and_the_recovery_key_opens", Service::Unlocked, || {
        let world = World::new();
        let bus = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap();
        let run = |args: &[&str]| run(&world, Some(&bus), args);
        let (secret, recipient) = identity();
        world.file("recovery", &secret);
        run(&["vault", "init"]).ends(0);
        let refused = run(&["vault", "export", "--output", "copy"]).ends(2);
        assert!(refused.stderr.contains("tokenkeep vault export --recipient"), "{refused:#?}");
        assert!(!exists(&world.path("copy")));
        std::fs::remove_file(world.vault()).unwrap();
        let made = run(&["vault", "init", "--recipient", &recipient, "--keychain", "--json"]).ends(0).json();
        let copied = run(&["vault", "export", "--output", "copy", "--json"]).ends(0).json();
        assert_eq!(copied["recipients"], serde_json::json!([recipient]));
        let kinds: Vec<_> = made["ways"].as_array().unwrap().iter().map(|way| way["kind"].clone()).collect();
        assert_eq!(kinds, ["x25519", "keychain"]);
        run(&["list"]).ends(0);

        let key_id: String = made["key_id"].as_str().unwrap().to_owned();
        let bytes: Vec<u8> =
            (0..16).map(|at| u8::from_str_radix(&key_id[2 * at..2 * at + 2], 16).unwrap()).collect();
        let key_id = tokenkeep::store::KeyId::new(bytes.try_into().unwrap());
        let keychain = SystemKeychain::new();
        assert!(keychain.load(key_id).unwrap().is_some());
        keychain.remove(key_id).unwrap();
        for args in [&["list", "--json"][..], &["token", "--json"], &LOGIN] {
            let (code, message, _) = run(args).ends(4).error();
            assert_eq!(code, "no_unlock_source", "{message}");
            let words = "it holds no key for this vault; if it did, the item was deleted: open the vault by another way in";
            assert!(message.contains(words), "{message}");
        }
        run(&["list", "--identity", "recovery"]).ends(0);

        // Garbage in its place is no key either, and the bus may go away.
        let text = tokenkeep::store::SecretString::from("canary");
        keychain.save(key_id, &text).unwrap();
        let (code, message, _) = run(&["token", "--json"]).ends(4).error();
        assert_eq!(code, "keychain");
        assert!(
            message.contains("is no key: somebody changed it") && !message.contains("canary"),
            "{message}"
        );
        let (code, ..) =
            self::run(&world, Some("unix:path=/nonexistent"), &["token", "--json"]).ends(4).error();
        assert_eq!(code, "keychain");
    });
}
