//! The command line by itself: help, usage errors, streams, configuration. No server is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod support;

use std::process::Stdio;

use support::{World, exists, finish, run_with_input};

const COMMANDS: [&[&str]; 14] = [
    &["login"],
    &["token"],
    &["request"],
    &["whoami"],
    &["status"],
    &["list"],
    &["renew"],
    &["logout"],
    &["vault", "init"],
    &["vault", "status"],
    &["vault", "passphrase"],
    &["vault", "verify"],
    &["completions"],
    &["man"],
];

#[test]
fn help_goes_to_standard_output_and_names_every_command() {
    let world = World::new();
    let help = world.run(&["--help"]).ends(0);
    assert_eq!(help.stderr, "");
    for command in COMMANDS {
        assert!(help.stdout.contains(&format!("  {} ", command[0])), "{command:?}: {}", help.stdout);
        let own = world.run(&[command, &["--help"]].concat()).ends(0);
        assert!(own.stdout.contains(&format!("Usage: tokenkeep {}", command.join(" "))), "{}", own.stdout);
        assert!(own.stdout.contains("--session"), "{}", own.stdout);
    }
    assert!(world.run(&["--version"]).ends(0).stdout.starts_with("tokenkeep "));
}

#[test]
fn no_command_and_a_wrong_one_are_usage_errors() {
    let world = World::new();
    for args in [&[][..], &["vault"], &["nonsense"], &["token", "--nonsense"], &["token", "extra"]] {
        let ran = world.run(args).ends(2);
        assert_eq!(ran.stdout, "", "{args:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn with_json_a_usage_error_is_json() {
    let world = World::new();
    let ran = world.run(&["token", "--json", "--nonsense"]).ends(2);
    let (code, message, help) = ran.error();
    assert_eq!(code, "usage");
    assert!(message.contains("--nonsense"), "{message}");
    assert!(help.contains("tokenkeep"), "{help}");
}

#[test]
fn what_was_typed_in_the_wrong_place_is_not_repeated() {
    let world = World::new();
    let cases = [
        &["login", "canary"][..],
        &["login", "--password=canary"],
        &["login", "--client-secret", "canary"],
        &["login", "--param", "canary"],
        &["renew", "--param", "client_secret=canary"],
        &["request", "https://h/", "-H", "canary"],
        &["request", "https://h/", "-H", "Authorization: canary"],
        &["request", "canary"],
        &["--session", "canary and more", "token"],
        &["token", "--store", "canary"],
    ];
    for args in cases {
        for json in [&[][..], &["--json"]] {
            let ran = world.run(&[args, json].concat());
            assert!(ran.code == 2 || ran.code == 3, "{ran:#?}");
            assert!(!ran.stderr.contains("canary") && !ran.stdout.contains("canary"), "{args:?}: {ran:#?}");
        }
    }
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let world = World::new();
    let cases = [
        &["login", "--domain", "a", "--issuer", "b"][..],
        &["login", "--refresh-token-stdin", "--refresh-token-file", "f"],
        &["login", "--refresh-token-stdin", "--flow", "device"],
        &["login", "--flow", "browserless"],
        &["token", "--header", "--json"],
        &["token", "--header", "--id-token"],
        &["token", "--offline", "--min-ttl", "5"],
        &["token", "--min-ttl", "soon"],
        &["token", "-q", "-v"],
        &["request", "https://h/", "-d", "x", "--data-file", "f"],
        &["vault", "init", "--identity", "a", "--passphrase-file", "b"],
    ];
    for args in cases {
        world.run(args).ends(2);
    }
}

#[test]
fn standard_input_is_refused_for_two_before_it_is_read() {
    use std::io::Seek as _;
    let world = World::new();
    let input = world.file("input", "secret\n");
    let other = "--other-passphrase-file";
    /// Arguments, a variable that is set, and what the refusal names.
    type Case<'a> = (&'a [&'a str], Option<(&'a str, &'a str)>, &'a str);
    let cases: [Case<'_>; 12] = [
        (
            &["login", "--client-secret-file", "-", "--password-file", "-", "--issuer", "https://i/"],
            None,
            "--password-file and --client-secret-file",
        ),
        (
            &["login", "--refresh-token-stdin", "--issuer", "https://i/", "--passphrase-file", "-"],
            None,
            "--refresh-token-stdin and --passphrase-file",
        ),
        (
            &["vault", "passphrase", "--passphrase-file", "-", "--new-passphrase-file", "-"],
            None,
            "--new-passphrase-file and --passphrase-file",
        ),
        (
            &["vault", "ways", "add", "--passphrase", "--new-passphrase-file", "-"],
            Some(("TOKENKEEP_PASSPHRASE_FD", "0")),
            "--new-passphrase-file and TOKENKEEP_PASSPHRASE_FD",
        ),
        (&["vault", "import", "-", "--export-identity", "-"], None, "FILE and --export-identity"),
        (&["vault", "import", "/dev/stdin", "--export-identity", "-"], None, "FILE and --export-identity"),
        (&["vault", "import", "-"], Some(("TOKENKEEP_IDENTITY", "/dev/fd/0")), "FILE and TOKENKEEP_IDENTITY"),
        (
            &["vault", "import", "-", "--passphrase-file", "/proc/self/fd/0"],
            None,
            "FILE and --passphrase-file",
        ),
        (
            &["vault", "rekey", other, "-", other, "-"],
            None,
            "--other-passphrase-file and --other-passphrase-file",
        ),
        (
            &["vault", "ways", "remove", "x", other, "-"],
            Some(("TOKENKEEP_PASSPHRASE_FILE", "/dev/stdin")),
            "--other-passphrase-file and TOKENKEEP_PASSPHRASE_FILE",
        ),
        (
            &["request", "https://h/", "--data", "@-"],
            Some(("TOKENKEEP_PASSPHRASE_FD", "0")),
            "--data and TOKENKEEP_PASSPHRASE_FD",
        ),
        (&["request", "https://h/", "-H", "@-", "--data-file", "-"], None, "--header and --data-file"),
    ];
    for (args, variable, named) in cases {
        let mut file = std::fs::File::open(&input).unwrap();
        let mut command = world.command(args);
        command.envs(variable).stdin(file.try_clone().unwrap());
        let ran = finish(command.spawn().unwrap()).ends(2);
        let said = format!("standard input can be read once, not for {named}\n");
        assert!(ran.stderr.lines().count() == 2 && ran.stderr.contains(&said), "{args:?}: {ran:#?}");
        assert_eq!(file.stream_position().unwrap(), 0, "{args:?}");
    }
    // One of them alone, and one that is behind what decides.
    for (args, variable) in [
        (&["vault", "import", "-"][..], ("TOKENKEEP_PASSPHRASE", "x")),
        (&["vault", "import", "-", "--identity", "input"], ("TOKENKEEP_PASSPHRASE_FD", "0")),
    ] {
        let ran = run_with_input(world.command(args).envs([variable]), "secret\n").ends(3);
        assert!(ran.stderr.contains("no vault"), "{ran:#?}");
    }
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_what_mends_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.file("passphrase", "correct horse battery staple");
    let path = world.file("secret", "secret");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let other = ["--yes", "--other-passphrase-file", "secret"];
    let open = ["--passphrase-file", "passphrase"];
    world.run(&[&["vault", "init", "--calibrate", "1ms"], &open[..]].concat()).ends(0);
    let cases: [(Vec<&str>, i32); 6] = [
        ([&["vault", "import", "passphrase", "--export-identity", "secret"], &open[..]].concat(), 4),
        ([&["vault", "passphrase", "--new-passphrase-file", "secret"], &open[..]].concat(), 2),
        (
            [&["vault", "ways", "add", "--passphrase", "--new-passphrase-file", "secret"], &open[..]]
                .concat(),
            2,
        ),
        ([&["vault", "rekey"], &other[..], &open[..]].concat(), 2),
        (vec!["login", "--client-secret-file", "secret", "--issuer", "https://i/"], 2),
        (vec!["login", "--refresh-token-file", "secret", "--issuer", "https://i/"], 2),
    ];
    for (args, code) in cases {
        let ran = world.run(&args).ends(code);
        let said = "secret can be read or changed by others (mode 0644): `chmod 600 secret`";
        assert!(ran.stderr.contains(said), "{args:?}: {ran:#?}");
    }
}

#[test]
fn an_error_names_the_help_of_its_command() {
    let world = World::new();
    world.file("passphrase", "correct horse battery staple");
    let init = ["vault", "init", "--recipient", "nonsense", "--passphrase-file", "passphrase", "--json"];
    let (code, _, help) = world.run(&init).ends(2).error();
    assert_eq!((code.as_str(), help.as_str()), ("invalid", "tokenkeep vault init --help"));
    let (code, _, help) = world.run(&["vault", "ways", "add", "--json"]).ends(2).error();
    assert_eq!((code.as_str(), help.as_str()), ("usage", "tokenkeep vault ways add --help"));
}

#[test]
fn without_a_vault_every_command_but_login_and_init_ends_with_3() {
    let world = World::new();
    for command in COMMANDS {
        let mut args = command.to_vec();
        match command {
            ["login" | "completions" | "man"] | ["vault", "init"] => continue,
            ["request"] => args.push("https://api.example.com/"),
            ["vault", "passphrase"] => {
                world.file("new", "new passphrase");
                args.extend(["--new-passphrase-file", "new"]);
            }
            _ => {}
        }
        args.push("--json");
        let ran = world.run(&args).ends(3);
        let (code, message, help) = ran.error();
        assert_eq!(code, "no_vault", "{args:?}");
        assert!(message.contains("sessions.vault") && help.contains("tokenkeep login"), "{ran:#?}");
        assert_eq!(ran.stdout, "");
    }
    assert!(!exists(&world.vault()), "only login and init make a vault");
}

#[test]
fn without_anything_that_opens_a_vault_none_is_made() {
    let world = World::new();
    for args in [&["vault", "init"][..], &["login", "--domain", "tenant.example", "--client-id", "id"]] {
        let ran = world.run(&[args, &["--json", "--no-input"]].concat()).ends(4);
        let (code, message, help) = ran.error();
        assert_eq!(code, "no_unlock_source");
        assert!(
            message.contains("TOKENKEEP_PASSPHRASE_FILE") && help.contains("TOKENKEEP_IDENTITY"),
            "{ran:#?}"
        );
        assert!(!exists(&world.vault()));
    }
}

#[test]
fn a_broken_pipe_is_no_failure_and_a_full_disk_is_one() {
    let world = World::new();
    let mut child = world.command(&["man", "login"]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = finish(child);
    assert!(ran.code == 0 && ran.stderr.is_empty(), "{ran:#?}");

    if let Ok(full) = std::fs::File::options().write(true).open("/dev/full") {
        let child = world.command(&["completions", "bash"]).stdout(Stdio::from(full)).spawn().unwrap();
        let ran = finish(child).ends(1);
        assert!(ran.stderr.contains("standard output cannot be written"), "{ran:#?}");
    }
}

#[test]
fn completions_and_man_pages_come_from_the_same_definitions() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.run(&["completions", shell]).ends(0).stdout;
        assert!(script.contains("refresh-token-stdin") && script.contains("passphrase"), "{shell}");
    }
    let page = world.run(&["man", "vault", "init"]).ends(0).stdout;
    assert!(
        page.contains(".TH") && page.contains("recipient") && page.contains("tokenkeep vault init"),
        "{page}"
    );
    world.run(&["man", "nonsense"]).ends(2);

    let folder = world.path("man1");
    std::fs::create_dir(&folder).unwrap();
    world.run(&["man", "--out-dir", "man1"]).ends(0);
    for page in ["tokenkeep.1", "tokenkeep-login.1", "tokenkeep-vault-verify.1"] {
        assert!(exists(&folder.join(page)), "{page}");
    }
}

#[test]
fn a_flag_beats_a_variable_beats_the_configuration() {
    let world = World::new();
    let config = |text: &str| world.file("config/tokenkeep/config.toml", text);
    let asked_for = |args: &[&str], variable: Option<&str>| {
        let mut command = world.command(&[&["token", "--json"], args].concat());
        if let Some(value) = variable {
            command.env("TOKENKEEP_VAULT", value);
        }
        finish(command.spawn().unwrap()).ends(3).error().1
    };
    assert!(asked_for(&[], None).contains("data/tokenkeep/sessions.vault"));
    config("vault = \"/nonexistent/config.vault\"\n");
    assert!(asked_for(&[], None).contains("/nonexistent/config.vault"));
    assert!(asked_for(&[], Some("/nonexistent/variable.vault")).contains("/nonexistent/variable.vault"));
    let flag = asked_for(&["--vault", "/nonexistent/flag.vault"], Some("/nonexistent/variable.vault"));
    assert!(flag.contains("/nonexistent/flag.vault"), "{flag}");

    config("vault = \"/v\"\nclient_secret = \"canary\"\n");
    let ran = world.run(&["token", "--json"]).ends(2);
    let (code, message, _) = ran.error();
    assert_eq!(code, "config");
    assert!(message.contains("line 2") && message.contains("client_secret"), "{message}");
    assert!(!ran.stderr.contains("canary"));
}

#[test]
fn rust_log_that_cannot_be_read_is_a_usage_error() {
    let world = World::new();
    let child = world.command(&["list"]).env("RUST_LOG", "tokenkeep=loud").spawn().unwrap();
    assert!(finish(child).ends(2).stderr.contains("RUST_LOG"));
}

#[test]
fn no_colour_where_nobody_sees_it() {
    let world = World::new();
    assert!(!world.run(&["token"]).ends(3).stderr.contains('\u{1b}'));
}
