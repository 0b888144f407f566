//! What opens a vault, through the command: made, added, removed, and other keys; and which vault is trusted.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod support;

use support::{Ran, World, exists, finish, identity, run_with_input};

fn by_key(world: &World, key: &str, args: &[&str]) -> Ran {
    finish(world.command(args).env("TOKENKEEP_IDENTITY", key).spawn().unwrap())
}

fn by_passphrase(world: &World, file: &str, args: &[&str]) -> Ran {
    finish(world.command(args).env("TOKENKEEP_PASSPHRASE_FILE", file).spawn().unwrap())
}

/// A vault that the key in `key` opens.
fn made() -> (World, String) {
    let world = World::new();
    let (secret, recipient) = identity();
    world.file("key", &secret);
    by_key(&world, "key", &["vault", "init"]).ends(0);
    (world, recipient)
}

fn kinds(json: &serde_json::Value) -> Vec<(&str, &str)> {
    let ways = json["ways"].as_array().unwrap();
    ways.iter()
        .map(|way| (way["kind"].as_str().unwrap(), way["label"].as_str().unwrap_or_default()))
        .collect()
}

#[test]
fn a_recovery_key_is_all_that_is_printed_opens_the_vault_and_is_stored_nowhere() {
    let world = World::new();
    let ran = world.run(&["vault", "init", "--recovery", "--no-input"]).ends(0);
    let key = ran.stdout.strip_suffix('\n').unwrap();
    assert!(key.starts_with("AGE-SECRET-KEY-1") && !key.contains('\n'), "one line");
    assert!(!ran.stderr.contains("AGE-SECRET-KEY") && ran.stderr.contains("shown once"), "{}", ran.stderr);
    let mut folders = vec![world.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(20).any(|part| part == &key.as_bytes()[20..40]), "{path:?} holds it");
            }
        }
    }
    world.run(&["list", "--no-input"]).ends(4);
    world.file("recovery", key);
    let listed = by_key(&world, "recovery", &["vault", "ways", "--json"]).ends(0).json();
    assert_eq!(kinds(&listed), [("x25519", "recovery")]);

    let other = World::new();
    let made =
        other.run(&["vault", "init", "--recovery", "--json", "--label", "safe", "--no-input"]).ends(0).json();
    assert_eq!(kinds(&made), [("x25519", "safe")]);
    other.file("recovery", made["recovery_key"].as_str().unwrap());
    by_key(&other, "recovery", &["list"]).ends(0);
}

#[test]
fn what_is_set_opens_the_new_vault_and_the_flags_add_to_it_each_with_its_label() {
    let world = World::new();
    let (own_secret, own) = identity();
    let (_, other) = identity();
    world.file("key", &own_secret);
    world.file("pass", "tavern-gazing-spool-undrawn\n");
    let init = [
        "vault",
        "init",
        "--passphrase",
        "--recipient",
        &other,
        "--recipient",
        &own,
        "--label",
        "ops",
        "--label",
        "me",
        "--label",
        "typed",
        "--json",
        "--no-input",
    ];
    // The key decides, since it comes first; the passphrase is that of the first source that holds one.
    let mut command = world.command(&init);
    command.env("TOKENKEEP_IDENTITY", "key").env("TOKENKEEP_PASSPHRASE_FILE", "pass");
    let made = finish(command.spawn().unwrap()).ends(0).json();
    assert_eq!(made["opened_by"], "TOKENKEEP_IDENTITY");
    assert_eq!(kinds(&made), [("x25519", "ops"), ("x25519", "me"), ("passphrase", "typed")]);
    assert!(made["passphrase_strength"]["guesses_log10"].as_f64().unwrap() > 8.0);
    by_key(&world, "key", &["list"]).ends(0);
    by_passphrase(&world, "pass", &["list"]).ends(0);

    // A label for what is set alone, and one too many.
    let world = World::new();
    world.file("key", &own_secret);
    by_key(&world, "key", &["vault", "init", "--label", "a", "--label", "b"]).ends(2);
    assert!(!exists(&world.vault()));
    let made = by_key(&world, "key", &["vault", "init", "--label", "a", "--json"]).ends(0).json();
    assert_eq!(kinds(&made), [("x25519", "a")]);

    // A passphrase that nobody gives.
    let world = World::new();
    let (code, _, _) = world.run(&["vault", "init", "--passphrase", "--no-input", "--json"]).ends(4).error();
    assert_eq!(code, "no_unlock_source");
    assert!(!exists(&world.vault()));
}

#[test]
fn a_weak_passphrase_is_named_and_taken() {
    let world = World::new();
    world.file("pass", "hunter2");
    let ran = by_passphrase(&world, "pass", &["vault", "init"]).ends(0);
    assert!(
        ran.stderr.contains("warning: the passphrase is weak: about") && !ran.stderr.contains("hunter2"),
        "{}",
        ran.stderr
    );
    world.file("strong", "tavern-gazing-spool-undrawn-camper");
    let replace = ["vault", "passphrase", "--new-passphrase-file", "strong"];
    let ran = by_passphrase(&world, "pass", &replace).ends(0);
    assert!(!ran.stderr.contains("weak"), "{}", ran.stderr);
    let add = ["vault", "ways", "add", "--passphrase", "--new-passphrase-file", "pass", "--json"];
    let added = by_passphrase(&world, "strong", &add).ends(0).json();
    assert!(added["passphrase_strength"]["guesses_log10"].as_f64().unwrap() < 5.0);
    assert_eq!(added["added"]["kind"], "passphrase");
}

#[test]
fn calibrated_costs_are_chosen_ones() {
    let world = World::new();
    world.file("pass", "tavern-gazing-spool-undrawn-camper");
    by_passphrase(&world, "pass", &["vault", "init", "--calibrate", "1ms"]).ends(0);
    let ways = by_passphrase(&world, "pass", &["vault", "ways", "list", "--json"]).ends(0).json();
    let way = &ways["ways"][0];
    assert!(way["memory_kib"].as_u64().unwrap() >= 19 * 1024 && way["passes"] == 3, "{way}");
    by_passphrase(&world, "pass", &["vault", "init", "--calibrate", "soon"]).ends(2);
}

#[test]
fn ways_are_added_listed_and_removed_and_the_last_one_stays() {
    let (world, recipient) = made();
    let (other_secret, other) = identity();
    world.file("other", &other_secret);
    for refused in [
        &["--recipient", &recipient][..],
        &["--recipient", "age1canary"],
        &[],
        &["--passphrase"],
        &["--recovery", "--keychain"],
        &["--recovery", "--calibrate", "1ms"],
    ] {
        by_key(&world, "key", &[&["vault", "ways", "add", "--no-input"], refused].concat()).ends(2);
    }
    let added = ["vault", "ways", "add", "--recipient", &other, "--label", "second"];
    by_key(&world, "key", &added).ends(0);
    let listed = by_key(&world, "other", &["vault", "ways"]).ends(0).stdout;
    assert_eq!(listed.lines().count(), 2);
    assert!(
        listed.contains(&other) && listed.contains("\"second\"") && listed.contains("used now"),
        "{listed}"
    );

    // Nobody can be asked: it has to be said.
    let remove = ["vault", "ways", "remove", &recipient, "--no-input", "--json"];
    let (code, _, help) = by_key(&world, "other", &remove).ends(2).error();
    assert!(code == "usage" && help.ends_with("--yes"), "{help}");
    by_key(&world, "key", &["list"]).ends(0);
    let removed = by_key(&world, "other", &[&remove[..], &["--yes"]].concat()).ends(0).json();
    assert_eq!(removed["removed"][0]["recipient"], recipient.as_str());
    assert_ne!(removed["key_id"], removed["previous_key_id"]);
    assert_eq!(kinds(&removed), [("x25519", "second")]);
    let (code, _, _) = by_key(&world, "key", &["list", "--json"]).ends(4).error();
    assert_eq!(code, "wrong_identity");
    let ran = by_key(&world, "other", &["vault", "ways", "remove", "second", "--yes"]).ends(2);
    assert!(ran.stderr.contains("no way in") && ran.stderr.contains("vault ways add"), "{}", ran.stderr);
    by_key(&world, "other", &["vault", "ways", "remove", "nobody", "--yes"]).ends(2);
    by_key(&world, "other", &["list"]).ends(0);
}

#[test]
fn a_passphrase_that_is_not_given_again_is_dropped_only_if_that_is_said() {
    let (world, _) = made();
    world.file("one", "tavern-gazing-spool-undrawn");
    world.file("two", "camper-spool-gazing-tavern");
    for file in ["one", "two"] {
        let add = [
            "vault",
            "ways",
            "add",
            "--passphrase",
            "--label",
            file,
            "--new-passphrase-file",
            file,
            "--calibrate",
            "1ms",
        ];
        by_key(&world, "key", &add).ends(0);
    }
    let before = std::fs::read(world.vault()).unwrap();
    let ran = by_passphrase(&world, "one", &["vault", "rekey", "--yes"]).ends(2);
    assert!(ran.stderr.contains("\"two\"") && ran.stderr.contains("--drop-passphrases"), "{}", ran.stderr);
    by_passphrase(&world, "one", &["vault", "rekey", "--drop-passphrases"]).ends(2);
    world.file("wrong", "wrong");
    by_passphrase(&world, "one", &["vault", "rekey", "--yes", "--other-passphrase-file", "wrong"]).ends(4);
    assert_eq!(std::fs::read(world.vault()).unwrap(), before);

    let both = ["vault", "rekey", "--yes", "--json", "--other-passphrase-file", "two"];
    let changed = by_passphrase(&world, "one", &both).ends(0).json();
    assert_eq!(kinds(&changed), [("x25519", ""), ("passphrase", "one"), ("passphrase", "two")]);
    let ran = by_passphrase(&world, "two", &["vault", "rekey", "--yes", "--drop-passphrases"]).ends(0);
    assert!(ran.stderr.contains("is dropped") && ran.stderr.contains("\"one\""), "{}", ran.stderr);
    by_passphrase(&world, "two", &["list"]).ends(0);
    by_passphrase(&world, "one", &["list"]).ends(4);
    by_key(&world, "key", &["list"]).ends(0);
}

#[test]
fn another_vault_for_the_same_key_is_refused_until_it_is_trusted() {
    let (world, recipient) = made();
    let attacker = World::new();
    attacker.run(&["vault", "init", "--recipient", &recipient, "--no-input"]).ends(0);
    std::fs::copy(attacker.vault(), world.vault()).unwrap();

    let login = ["login", "--domain", "tenant.example", "--client-id", "id", "--json"];
    let (code, message, help) = by_key(&world, "key", &login).ends(4).error();
    assert_eq!((code.as_str(), help.as_str()), ("untrusted_keys", "tokenkeep vault trust"));
    assert!(message.contains("nothing was read"), "{message}");
    assert_eq!(std::fs::read(attacker.vault()).unwrap(), std::fs::read(world.vault()).unwrap());

    let status = by_key(&world, "key", &["vault", "status", "--json"]).ends(0).json();
    assert_eq!(
        (&status["locked"]["code"], &status["pin"]["trusted"]),
        (&"untrusted_keys".into(), &false.into())
    );
    let text = by_key(&world, "key", &["vault", "status"]).ends(0).stdout;
    assert!(text.contains("another one: `tokenkeep vault trust`"), "{text}");

    let (code, _, help) = world.run(&["vault", "trust", "--no-input", "--json"]).ends(2).error();
    let id = help.split_whitespace().find(|word| word.len() >= 32).unwrap().trim_end_matches(',').to_owned();
    assert_eq!(code, "usage");
    world.run(&["vault", "trust", "--key-id", &"0".repeat(32)]).ends(2);
    by_key(&world, "key", &["list"]).ends(4);
    let trusted = world.run(&["vault", "trust", "--key-id", &id, "--json"]).ends(0).json();
    assert_eq!((&trusted["key_id"], &trusted["changed"]), (&id.clone().into(), &true.into()));
    by_key(&world, "key", &["list"]).ends(0);
    let trusted = world.run(&["vault", "trust", "--json"]).ends(0).json();
    assert_eq!(trusted["changed"], false);

    // A machine without a state folder is given the id.
    let given = |id: &str, args: &[&str]| {
        let mut command = world.command(args);
        command.env("TOKENKEEP_IDENTITY", "key").env("TOKENKEEP_VAULT_ID", id).env_remove("HOME");
        finish(command.spawn().unwrap())
    };
    given(&id, &["list"]).ends(0);
    let (code, _, help) = given(&"0".repeat(32), &["list", "--json"]).ends(4).error();
    assert!(code == "untrusted_keys" && help.contains("TOKENKEEP_VAULT_ID"), "{help}");
    given("nonsense", &["list"]).ends(2);
    // Without either it goes on, and says so if it is asked to.
    let bare = |flags: &[&str]| {
        let args = [&["list"], flags].concat();
        finish(world.command(&args).env("TOKENKEEP_IDENTITY", "key").env_remove("HOME").spawn().unwrap())
            .ends(0)
    };
    assert!(!bare(&[]).stderr.contains("pin"));
    assert_eq!(bare(&["-v"]).stderr.matches("is not pinned").count(), 1);
    let mut status = world.command(&["vault", "status", "--json"]);
    let status =
        finish(status.env("TOKENKEEP_IDENTITY", "key").env_remove("HOME").spawn().unwrap()).ends(0).json();
    assert!(status["pin"]["reason"].as_str().unwrap().contains("TOKENKEEP_VAULT_ID"), "{status}");
}

#[test]
fn another_vault_is_said_to_be_one_by_verify_and_is_not_repaired() {
    let (world, recipient) = made();
    let ours = by_key(&world, "key", &["vault", "status", "--json"]).ends(0).json()["key_id"].clone();
    world.file("pass", "tavern-gazing-spool-undrawn\n");
    let attacker = World::new();
    attacker.file("pass", "tavern-gazing-spool-undrawn\n");
    let init =
        ["vault", "init", "--recipient", &recipient, "--passphrase", "--calibrate", "1ms", "--no-input"];
    let theirs = by_passphrase(&attacker, "pass", &[&init[..], &["--json"]].concat()).ends(0).json();
    let theirs = theirs["key_id"].clone();
    let mut bytes = std::fs::read(attacker.vault()).unwrap();
    let sound = by_key(&world, "key", &["vault", "verify", "--json"]).ends(0).json();
    assert_eq!((&sound["pin"]["trusted"], &sound["pin"]["key_ids"][0]), (&true.into(), &ours));

    for damaged in [false, true] {
        if damaged {
            *bytes.last_mut().unwrap() ^= 1;
        }
        std::fs::write(world.vault(), &bytes).unwrap();
        for flags in [&["--json"][..], &["--json", "--without-keys"]] {
            let ran = by_key(&world, "key", &[&["vault", "verify"], flags].concat()).ends(4);
            let (code, message, help) = ran.error();
            assert_eq!((code.as_str(), help.as_str()), ("untrusted_keys", "tokenkeep vault trust"));
            assert!(message.contains("somebody put another vault in its place"), "{message}");
            assert!(!message.contains("nothing was read"), "{message}");
            let report = ran.json();
            assert_eq!((&report["key_id"], &report["pin"]["trusted"]), (&theirs, &false.into()), "{report}");
            assert_eq!((&report["pin"]["key_ids"][0], &report["sound"]), (&ours, &(!damaged).into()));
        }
        let text = by_key(&world, "key", &["vault", "verify"]).ends(4).stdout;
        assert!(text.contains("another one: `tokenkeep vault trust`"), "{text}");
        let repair = ["vault", "repair", "--yes", "--json"];
        let (code, _, help) = by_key(&world, "key", &repair).ends(4).error();
        let theirs = theirs.as_str().unwrap();
        assert_eq!(code, "untrusted_keys");
        assert!(help.contains(&format!("TOKENKEEP_VAULT_ID={theirs} tokenkeep vault repair")), "{help}");
        assert_eq!(std::fs::read(world.vault()).unwrap(), bytes);
        let given = |id: &str, args: &[&str]| {
            let mut command = world.command(args);
            finish(command.env("TOKENKEEP_IDENTITY", "key").env("TOKENKEEP_VAULT_ID", id).spawn().unwrap())
        };
        for args in [&["vault", "verify", "--json"][..], &repair] {
            let (code, _, help) = given(ours.as_str().unwrap(), args).ends(4).error();
            assert!(code == "untrusted_keys" && help.contains("correct TOKENKEEP_VAULT_ID"), "{help}");
        }
    }
    // Its writer knew the passphrase; that it is another one is said all the same.
    let text = by_passphrase(&world, "pass", &["vault", "verify"]).ends(6).stdout;
    assert!(text.contains("knew the passphrase that opens it"), "{text}");
    let text = by_passphrase(&world, "pass", &["vault", "repair", "--yes"]).ends(0).stdout;
    assert!(text.contains("knew the passphrase that opens it") && text.contains("repaired"), "{text}");
    by_key(&world, "key", &["list"]).ends(4);
}

#[cfg(unix)]
#[test]
fn a_damaged_pin_is_shown_and_trusting_writes_it_anew() {
    let (world, _) = made();
    let folder = world.path(".local/state/tokenkeep/key-pins");
    let pin = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&pin, "nonsense").unwrap();
    let status = by_key(&world, "key", &["vault", "status", "--json"]).ends(0).json();
    assert_eq!((&status["pin"]["trusted"], &status["locked"]["code"]), (&false.into(), &"place".into()));
    assert!(status["pin"]["reason"].as_str().unwrap().contains("is no key pin"), "{status}");
    let text = by_key(&world, "key", &["vault", "status"]).ends(0).stdout;
    let line = text.lines().find(|line| line.starts_with("pinned ")).unwrap();
    assert!(line.contains(pin.to_str().unwrap()) && line.contains("tokenkeep vault trust"), "{line}");
    let id = status["key_id"].as_str().unwrap();
    let trusted = world.run(&["vault", "trust", "--key-id", id, "--json"]).ends(0).json();
    assert_eq!((&trusted["changed"], &trusted["previous_key_ids"]), (&true.into(), &serde_json::json!([])));
    by_key(&world, "key", &["list"]).ends(0);
    // Of the two pins of a symlink one may be right.
    std::os::unix::fs::symlink(world.vault(), world.path("link")).unwrap();
    by_key(&world, "key", &["--vault", "link", "list"]).ends(0);
    std::fs::write(&pin, "nonsense").unwrap();
    by_key(&world, "key", &["--vault", "link", "list"]).ends(6);
    let refused = world.run(&["--vault", "link", "vault", "trust", "--no-input"]).ends(2);
    assert!(!refused.stderr.contains("trusted already"), "{}", refused.stderr);
    world.run(&["--vault", "link", "vault", "trust", "--key-id", id]).ends(0);
    by_key(&world, "key", &["--vault", "link", "list"]).ends(0);
    let again = world.run(&["--vault", "link", "vault", "trust", "--no-input"]).ends(0);
    assert!(again.stderr.contains("trusted already"), "{}", again.stderr);
}

#[test]
fn a_recovery_key_that_nobody_reads_is_a_failure() {
    let (world, _) = made();
    let mut child = world
        .command(&["vault", "ways", "add", "--recovery", "--label", "in the safe"])
        .env("TOKENKEEP_IDENTITY", "key")
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = finish(child).ends(1);
    assert!(ran.stderr.contains("nobody has it") && !ran.stderr.contains("AGE-SECRET-KEY"), "{}", ran.stderr);
    // What it says takes back what was added, whatever that was called.
    let (_, help) = ran.stderr.split_once("tokenkeep vault ways remove ").unwrap();
    let (way, _) = help.split_once(',').unwrap();
    let removed = by_key(&world, "key", &["vault", "ways", "remove", way, "--yes", "--json"]).ends(0).json();
    assert_eq!(removed["removed"][0]["label"], "in the safe");
    let from_stdin =
        ["vault", "ways", "add", "--passphrase", "--new-passphrase-file", "-", "--calibrate", "1ms"];
    run_with_input(world.command(&from_stdin).env("TOKENKEEP_IDENTITY", "key"), "typed by nobody\n").ends(0);
}
