//! Running `tokenkeep` as a shell would, with nothing of the caller's own environment in it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use age::secrecy::ExposeSecret as _;
use anyhow::Context as _;

/// What opens the vault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Passphrase,
    Identity,
}

/// The program and where it runs.
#[derive(Debug)]
pub(crate) struct Tokenkeep {
    program: PathBuf,
    home: PathBuf,
    /// The vault that it is told of.
    pub(crate) vault: PathBuf,
    passphrase: PathBuf,
    identity: PathBuf,
    /// The public key of the identity.
    pub(crate) recipient: String,
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; none if it was killed.
    pub(crate) code: Option<i32>,
    /// Standard output, without the line's end.
    pub(crate) answer: String,
    /// Standard error.
    pub(crate) said: String,
}

impl Tokenkeep {
    /// The program that the variable TOKENKEEP_BIN names, with keys made in `home`.
    pub(crate) fn new(home: &Path) -> anyhow::Result<Self> {
        let program = std::env::var_os("TOKENKEEP_BIN")
            .context("TOKENKEEP_BIN names no program; run `cargo xtask demo`")?;
        let key = age::x25519::Identity::generate();
        let this = Self {
            program: program.into(),
            home: home.to_owned(),
            vault: home.join("state").join("sessions.vault"),
            passphrase: home.join("passphrase"),
            identity: home.join("recovery.key"),
            recipient: key.to_public().to_string(),
        };
        private(&this.passphrase, "a passphrase only for this demo\n")?;
        private(&this.identity, &format!("{}\n", key.to_string().expose_secret()))?;
        Ok(this)
    }

    /// A command that is not started yet.
    pub(crate) fn command(&self, by: By, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("HOME", &self.home).env("TOKENKEEP_VAULT", &self.vault);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match by {
            By::Passphrase => command.env("TOKENKEEP_PASSPHRASE_FILE", &self.passphrase),
            By::Identity => command.env("TOKENKEEP_IDENTITY", &self.identity),
        };
        command
    }

    /// Starts a command.
    pub(crate) fn start(&self, by: By, arguments: &[&str]) -> anyhow::Result<Child> {
        self.command(by, arguments).spawn().context("tokenkeep does not start")
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, by: By, arguments: &[&str]) -> anyhow::Result<Ran> {
        finish(self.start(by, arguments)?)
    }
}

/// Waits for a command that was started.
pub(crate) fn finish(child: Child) -> anyhow::Result<Ran> {
    let Output { status, stdout, stderr } = child.wait_with_output().context("tokenkeep is lost")?;
    Ok(Ran {
        code: status.code(),
        answer: String::from_utf8_lossy(&stdout).trim_end().to_owned(),
        said: String::from_utf8_lossy(&stderr).trim_end().to_owned(),
    })
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).context("cannot make a key file private")
}
