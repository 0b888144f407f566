//! `open_store` goes by every rule, `config.toml` included. It reads the process's environment, so each test runs itself
//! again in one of its own.

#![cfg(feature = "vault")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tokenkeep::store::{Expected, Key};
use tokenkeep::{Secret, StoreError, open_or_make_store, open_store};

/// Says that this process is the one to open the store.
const AGAIN: &str = "TOKENKEEP_OPEN_STORE_TEST";
/// A key pair made for these tests.
const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";

/// A home with a configuration file in it.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new(config: &str) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        this.file("identity", IDENTITY);
        this.file("config/tokenkeep/config.toml", config);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    /// Runs the test `name` again with this home and `variables`, and gives what it printed.
    fn again(&self, name: &str, variables: &[(&str, &Path)]) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("data"))
            // A real keychain is none of a test's business.
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .env(AGAIN, "1")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        text
    }
}

fn is_again() -> bool {
    std::env::var_os(AGAIN).is_some()
}

#[tokio::test]
async fn the_configuration_names_the_vault_and_what_opens_it() {
    if is_again() {
        let key = Key::new("kept").unwrap();
        let missing = open_store().await.unwrap_err();
        println!("{missing}");
        assert!(matches!(missing, StoreError::Missing { .. }), "{missing}");
        let made = open_or_make_store().await.unwrap();
        made.put(&key, &Secret::from(&b"value"[..]), Expected::Absent).await.unwrap();
        drop(made);
        let entry = open_store().await.unwrap().get(&key).await.unwrap().unwrap();
        assert_eq!(entry.value.expose(), b"value");
        println!("kept");
        return;
    }
    let name = "the_configuration_names_the_vault_and_what_opens_it";
    let home = Home::new("vault = \"~/named.vault\"\nidentity = \"~/identity\"\n");
    let printed = home.again(name, &[]);
    assert!(printed.contains("kept"), "{printed}");
    assert!(home.path("named.vault").is_file());
    assert!(!home.path("data").exists(), "the default place is not used");

    // A variable beats the file; what opens the vault still comes from it.
    let other = home.path("other.vault");
    let printed = home.again(name, &[("TOKENKEEP_VAULT", &other)]);
    assert!(printed.contains("kept") && printed.contains("other.vault"), "{printed}");
    assert!(other.is_file());
}

#[tokio::test]
async fn a_configuration_that_is_wrong_opens_nothing_and_makes_nothing() {
    if is_again() {
        for error in [open_store().await.unwrap_err(), open_or_make_store().await.unwrap_err()] {
            assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
            println!("refused: {error}");
        }
        return;
    }
    let name = "a_configuration_that_is_wrong_opens_nothing_and_makes_nothing";
    for (config, expected) in [
        ("identity = \"~/identity\"\nvualt = \"/canary\"\n", "config.toml, line 2: unknown key `vualt`"),
        (
            "identity = \"~/identity\"\npassphrase = \"canary\"\n",
            "config.toml, line 2: `passphrase` is a secret",
        ),
        ("identity = \"~/identity\"\nstore = \"sqlite:canary\"\n", "config.toml, line 2 names no store"),
    ] {
        let home = Home::new(config);
        let printed = home.again(name, &[]);
        assert_eq!(printed.matches("refused: ").count(), 2, "{printed}");
        assert_eq!(printed.matches(expected).count(), 2, "{expected}: {printed}");
        assert!(!printed.contains("canary"), "{printed}");
        assert!(!home.path("data").exists());
    }
}
