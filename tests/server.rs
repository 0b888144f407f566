//! A server's story: a vault that the host's own key opens, nobody at the keyboard, a passphrase for a service manager
//! later, another host, the recovery key on the day when nothing else opens it, and an attacker who knows the public key.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use mock_auth0::{MockAuth0, Tokens};
use tokenkeep_tests::{Home, Ran, write_private};

/// A host with a key pair of its own.
struct Host {
    home: Home,
    private: PathBuf,
    public: String,
}

impl Host {
    fn new() -> Self {
        let home = Home::new();
        let (private, public) = host_key(home.folder.path());
        Self { home, private, public }
    }

    /// A new process with nothing in its environment but the host's key.
    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_by(&self.private, arguments)
    }

    fn run_by(&self, key: &Path, arguments: &[&str]) -> Ran {
        Ran::from(self.home.bare_command(arguments).env("TOKENKEEP_IDENTITY", key).output().unwrap())
    }

    /// A process that a service manager gave a folder of credentials.
    fn run_as_service(&self, credentials: &Path, arguments: &[&str]) -> Ran {
        let mut command: Command = self.home.bare_command(arguments);
        Ran::from(command.env("CREDENTIALS_DIRECTORY", credentials).output().unwrap())
    }

    fn login(&self, mock: &MockAuth0, flags: &[&str]) -> (Ran, Tokens) {
        let tokens = mock.seed_session().unwrap();
        let client = mock.client_id();
        let login = ["login", "--issuer", mock.issuer(), "--client-id", &client, "--refresh-token-stdin"];
        let mut command = self.home.bare_command(&[&login[..], flags].concat());
        command.env("TOKENKEEP_IDENTITY", &self.private);
        (Ran::with_input(&mut command, tokens.refresh_token().as_bytes()), tokens)
    }
}

/// The host's private key file, and its public key as `--recipient` takes it.
fn host_key(folder: &Path) -> (PathBuf, String) {
    let private = folder.join("ssh_host_ed25519_key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "root@host", "-f"]).arg(&private);
    assert!(keygen.status().unwrap().success());
    let public = std::fs::read_to_string(private.with_extension("pub")).unwrap();
    (private, public.trim().to_owned())
}

fn kinds(ways: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let ways = ways["ways"].as_array().unwrap();
    ways.iter().map(|way| (text(&way["kind"]), text(&way["label"]))).collect()
}

#[test]
fn a_server_signs_in_once_and_is_opened_by_its_own_key_from_then_on() {
    let mock = MockAuth0::start_blocking().unwrap();
    let host = Host::new();
    let folder = host.home.folder.path();

    // Set up once: the host's public key and a recovery key, no passphrase, and nothing set.
    let init = ["vault", "init", "--recipient", &host.public, "--label", "host", "--recovery", "--no-input"];
    let made = Ran::from(host.home.bare_command(&init).output().unwrap()).ends(0);
    let recovery = folder.join("recovery");
    write_private(&recovery, made.stdout.as_bytes());
    assert!(made.stdout.starts_with("AGE-SECRET-KEY-1"));

    // The sign-in, and a new process with no environment but TOKENKEEP_IDENTITY.
    host.login(&mock, &[]).0.ends(0);
    let token = host.run(&["token", "--no-input"]).ends(0).stdout;
    assert!(!token.trim().is_empty());
    host.run(&["renew"]).ends(0);
    Ran::from(host.home.bare_command(&["token", "--no-input"]).output().unwrap()).ends(4);

    // A passphrase added later, and used as a systemd credential: no variable of ours at all.
    let credentials = folder.join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    write_private(&credentials.join("tokenkeep-passphrase"), b"tavern-gazing-spool-undrawn\n");
    let file = credentials.join("tokenkeep-passphrase").display().to_string();
    let add = ["vault", "ways", "add", "--passphrase", "--new-passphrase-file", &file, "--label", "systemd"];
    host.run(&add).ends(0);
    host.run_as_service(&credentials, &["token", "--no-input"]).ends(0);
    host.run_as_service(&credentials, &["renew", "--no-input"]).ends(0);
    let listed = host.run(&["vault", "ways", "--json"]).ends(0).json();
    let labels: Vec<_> = kinds(&listed).into_iter().map(|(_, label)| label).collect();
    assert_eq!(labels, ["host", "recovery", "systemd"]);

    // The host goes: its way in is removed, and with it the keys it knew. The passphrase would be dropped.
    let copy = folder.join("copy.vault");
    std::fs::copy(&host.home.vault, &copy).unwrap();
    let remove = ["vault", "ways", "remove", "host", "--yes", "--no-input"];
    host.run(&remove).ends(2);
    let removed = host.run_as_service(&credentials, &[&remove[..], &["--json"]].concat()).ends(0).json();
    let labels: Vec<_> = kinds(&removed).into_iter().map(|(_, label)| label).collect();
    assert_eq!(labels, ["recovery", "systemd"]);
    assert_eq!(host.run(&["token", "--json"]).ends(4).error().code, "wrong_identity");
    host.run_as_service(&credentials, &["renew", "--no-input"]).ends(0);

    // Recovery opens it, with the session as it was left.
    let status = host.run_by(&recovery, &["status", "--json"]).ends(0).json();
    assert_eq!(status["state"], "active");
    host.run_by(&recovery, &["renew"]).ends(0);
    host.run_by(&recovery, &["vault", "verify"]).ends(0);
    let other_host = host_key(&folder.join("data"));
    let add = ["vault", "ways", "add", "--recipient", &other_host.1, "--label", "new host"];
    host.run_by(&recovery, &add).ends(0);
    host.run_by(&other_host.0, &["token"]).ends(0);

    // What the old host knew opens its own old copy, and nothing newer: the file that it saved is refused in its place.
    let current = std::fs::read(&host.home.vault).unwrap();
    std::fs::copy(&copy, &host.home.vault).unwrap();
    assert_eq!(host.run_by(&recovery, &["token", "--json"]).ends(4).error().code, "untrusted_keys");
    write_private(&host.home.vault, &current);
    host.run_by(&recovery, &["token"]).ends(0);
}

#[test]
fn a_file_that_an_attacker_made_for_the_same_public_key_is_refused() {
    let mock = MockAuth0::start_blocking().unwrap();
    let host = Host::new();
    let init = ["vault", "init", "--recipient", &host.public, "--recovery", "--no-input"];
    Ran::from(host.home.bare_command(&init).output().unwrap()).ends(0);
    host.login(&mock, &[]).0.ends(0);

    // The attacker knows the public key, makes a vault that it opens and whose keys they know, and signs in themselves.
    let attacker = Host::new();
    let init = ["vault", "init", "--recipient", &host.public, "--recipient", &attacker.public, "--no-input"];
    Ran::from(attacker.home.bare_command(&init).output().unwrap()).ends(0);
    attacker.login(&mock, &[]).0.ends(0);
    let ours = std::fs::read(&host.home.vault).unwrap();
    let theirs = std::fs::read(&attacker.home.vault).unwrap();
    write_private(&host.home.vault, &theirs);

    mock.reset_counters();
    for arguments in [&["token"][..], &["renew"], &["status"], &["list"], &["logout"], &["vault", "ways"]] {
        let told = host.run(&[arguments, &["--json"]].concat()).ends(4).error();
        assert_eq!(
            (told.code.as_str(), told.help.as_str()),
            ("untrusted_keys", "tokenkeep vault trust"),
            "{told:?}"
        );
    }
    // Nor is anything stored in it that they could read.
    let (refused, unused) = host.login(&mock, &["--json"]);
    assert_eq!(refused.ends(4).error().code, "untrusted_keys");
    assert!(mock.is_alive(unused.refresh_token()), "a token that cannot be kept is not spent");
    assert_eq!(std::fs::read(&host.home.vault).unwrap(), theirs, "not a byte was written");
    host.run(&["vault", "trust", "--no-input"]).ends(2);

    // Put back, it works as before.
    write_private(&host.home.vault, &ours);
    host.run(&["renew"]).ends(0);
}
