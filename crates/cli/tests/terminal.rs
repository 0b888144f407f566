//! What is asked on a terminal, and that nothing is done before it is answered.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod support;

use support::{Ran, World, finish, identity, run_with_input};

fn by(world: &World, variable: &str, file: &str, args: &[&str]) -> Ran {
    finish(world.command(args).env(variable, file).spawn().unwrap())
}

fn by_key(world: &World, args: &[&str]) -> Ran {
    by(world, "TOKENKEEP_IDENTITY", "key", args)
}

/// Runs the command on a terminal of its own, whose person types `answers`.
fn on_a_terminal(world: &World, key: (&str, &str), args: &[&str], answers: &str) -> Ran {
    let command = world.command(args);
    let mut line = command.get_program().to_str().unwrap().to_owned();
    args.iter().for_each(|arg| line.push_str(&format!(" '{arg}'")));
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env_clear();
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env(key.0, key.1);
    script.env("SHELL", "/bin/sh").current_dir(world.path(""));
    script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    run_with_input(&mut script, answers)
}

#[test]
fn on_a_terminal_it_is_said_and_asked_before_keys_are_changed_or_trusted() {
    let world = World::new();
    let (secret, recipient) = identity();
    world.file("key", &secret);
    by_key(&world, &["vault", "init"]).ends(0);
    world.file("one", "tavern-gazing-spool-undrawn");
    let add = |file: &str, label: &str| {
        let flags = ["--new-passphrase-file", file, "--label", label, "--calibrate", "1ms"];
        by_key(&world, &[&["vault", "ways", "add", "--passphrase"][..], &flags].concat()).ends(0);
    };
    add("one", "kept");
    world.file("two", "camper-spool-gazing-tavern");
    add("two", "lost");
    let before = std::fs::read(world.vault()).unwrap();
    let key = ("TOKENKEEP_IDENTITY", "key");
    let ran = on_a_terminal(&world, key, &["vault", "rekey"], "\n\nn\n").ends(1);
    assert!(
        ran.stdout.contains("(\"lost\") again") && ran.stdout.contains("nothing was changed"),
        "{ran:#?}"
    );
    assert_eq!(std::fs::read(world.vault()).unwrap(), before);
    // The first is given again, the second is not.
    let ran = on_a_terminal(&world, key, &["vault", "rekey"], "tavern-gazing-spool-undrawn\n\ny\n").ends(0);
    assert!(ran.stdout.contains("is dropped") && ran.stdout.contains("Go on?"), "{ran:#?}");
    by(&world, "TOKENKEEP_PASSPHRASE_FILE", "one", &["list"]).ends(0);
    by(&world, "TOKENKEEP_PASSPHRASE_FILE", "two", &["list"]).ends(4);

    let other = World::new();
    other.run(&["vault", "init", "--recipient", &recipient, "--no-input"]).ends(0);
    std::fs::copy(other.vault(), world.vault()).unwrap();
    let ran = on_a_terminal(&world, key, &["vault", "trust"], "n\n").ends(1);
    assert!(ran.stdout.contains("pinned") && ran.stdout.contains("found"), "{ran:#?}");
    by_key(&world, &["list"]).ends(4);
    on_a_terminal(&world, key, &["vault", "trust"], "y\n").ends(0);
    by_key(&world, &["list"]).ends(0);
}

/// A vault that the key in the file `key` opens, and another one that it opens too.
fn two_vaults() -> (World, World) {
    let (world, other) = (World::new(), World::new());
    let (secret, recipient) = identity();
    world.file("key", &secret);
    by_key(&world, &["vault", "init"]).ends(0);
    other.run(&["vault", "init", "--recipient", &recipient, "--no-input"]).ends(0);
    (world, other)
}

#[test]
fn what_a_question_is_about_is_told_however_quiet_the_run_is() {
    let key = ("TOKENKEEP_IDENTITY", "key");
    for flag in ["--quiet", "--json"] {
        let (world, other) = two_vaults();
        let asked = |args: &[&str], told: &[&str], question: &str| {
            let before = std::fs::read(world.vault()).unwrap();
            let ran = on_a_terminal(&world, key, &[args, &[flag]].concat(), "n\n").ends(1);
            let asked = ran.stdout.find(question).unwrap_or_else(|| panic!("{question}: {ran:#?}"));
            for text in told {
                assert!(ran.stdout[..asked].contains(text), "{flag}: {text} before {question}: {ran:#?}");
            }
            assert_eq!(std::fs::read(world.vault()).unwrap(), before);
        };
        asked(&["vault", "rekey"], &["The keys of the vault at", "stays: ", "must open it again"], "Go on?");
        let ours = std::fs::read(world.vault()).unwrap();
        // The last byte belongs to the list of ways in.
        let mut damaged = ours.clone();
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(world.vault(), damaged).unwrap();
        asked(&["vault", "repair"], &["kept: 0 entries"], "Repair the vault?");
        std::fs::copy(other.vault(), world.vault()).unwrap();
        let told = ["pinned", "found", "somebody may have put a vault of their own here"];
        asked(&["vault", "trust"], &told, "Is the vault that is found the right one?");
        // Where nobody is asked, nothing is told.
        std::fs::write(world.vault(), ours).unwrap();
        let done = on_a_terminal(&world, key, &["vault", "rekey", "--yes", flag], "").ends(0);
        assert!(!done.stdout.contains("The keys of the vault at"), "{done:#?}");
    }
}

#[test]
fn nobody_is_asked_to_trust_what_cannot_be_pinned() {
    let (world, other) = two_vaults();
    std::fs::copy(other.vault(), world.vault()).unwrap();
    let refused = |key: (&str, &str), says: &str, code: i32| {
        let ran = on_a_terminal(&world, key, &["vault", "trust"], "y\n").ends(code);
        assert!(!ran.stdout.contains("[y/N]") && ran.stdout.contains(says), "{ran:#?}");
        assert!(ran.stdout.contains("TOKENKEEP_VAULT_ID"), "{ran:#?}");
    };
    refused(("HOME", "/"), "there is no home folder", 2);
    refused(("XDG_STATE_HOME", world.vault().to_str().unwrap()), "key-pins", 6);
    // Its key id is what stands there, and may be anybody's.
    let mut bytes = std::fs::read(world.vault()).unwrap();
    bytes[20] ^= 1;
    std::fs::write(world.vault(), bytes).unwrap();
    let ran = on_a_terminal(&world, ("TOKENKEEP_IDENTITY", "key"), &["vault", "trust"], "y\n").ends(6);
    assert!(!ran.stdout.contains("[y/N]") && ran.stdout.contains("tokenkeep vault repair"), "{ran:#?}");
}
