//! A vault in a folder of its own, and what the tests do to its file.
#![allow(dead_code, unused_imports, clippy::print_stderr, reason = "each test file uses a part of it")]

mod chain;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokenkeep_store::{Costs, Key, NewWayIn, Secret, StoreError, Unlock, Vault};

pub(crate) use chain::Chain;

/// A key pair made for these tests.
pub(crate) const IDENTITY: &str =
    "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
pub(crate) const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

pub(crate) fn value(text: &str) -> Secret {
    Secret::from(text.as_bytes())
}

pub(crate) fn identity() -> Unlock {
    Unlock::identity(IDENTITY, "the test")
}

/// Costs next to nothing: for tests that are not about passphrases but need one.
pub(crate) fn cheap() -> Costs {
    Costs::new(64, 1, 1).unwrap()
}

pub(crate) fn cheap_passphrase(text: &str) -> NewWayIn {
    NewWayIn::Passphrase { secret: value(text), costs: cheap(), label: String::new() }
}

pub(crate) struct Scene {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) path: PathBuf,
    pub(crate) vault: Vault,
}

impl Scene {
    /// A vault that the tests' age identity opens.
    pub(crate) async fn new() -> Self {
        Self::with(vec![NewWayIn::recipient(RECIPIENT)]).await
    }

    pub(crate) async fn by_passphrase(text: &str) -> Self {
        Self::with(vec![cheap_passphrase(text)]).await
    }

    pub(crate) async fn with(ways: Vec<NewWayIn>) -> Self {
        Self::within(tempfile::tempdir().unwrap(), ways).await
    }

    /// In memory where there is such a file system: for tests that write thousands of times and are not about disks.
    pub(crate) async fn in_memory() -> Self {
        Self::within(Self::memory(), vec![NewWayIn::recipient(RECIPIENT)]).await
    }

    /// A folder in memory, where there is such a file system.
    pub(crate) fn memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    pub(crate) async fn within(folder: tempfile::TempDir, ways: Vec<NewWayIn>) -> Self {
        let folder = Arc::new(folder);
        let path = folder.path().join("sessions.vault");
        let vault = Vault::create(&path, ways).await.unwrap();
        Self { folder, path, vault }
    }

    pub(crate) async fn open(&self) -> Vault {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Vault, StoreError> {
        Vault::open(&self.path, &identity()).await
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// Puts a file with these bytes in the vault's place.
    pub(crate) fn replace(&self, bytes: &[u8]) {
        let new = self.folder.path().join("replacement");
        std::fs::write(&new, bytes).unwrap();
        set_mode(&new, 0o600);
        std::fs::rename(&new, &self.path).unwrap();
    }
}

pub(crate) fn set_mode(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What a test that started itself again was told to do, and where.
const TOLD: &str = "TOKENKEEP_STORE_TEST";

/// The place, if this process was started to do `what`.
pub(crate) fn told(what: &str) -> Option<PathBuf> {
    let told = std::env::var(TOLD).ok()?;
    let (verb, place) = told.split_once('\n')?;
    (verb == what).then(|| PathBuf::from(place))
}

/// A command that runs `test` of this executable in another process, told to do `what` at `place`.
pub(crate) fn again(test: &str, what: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(TOLD, format!("{what}\n{}", place.display()));
    command
}

fn assert_success(mut command: Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "the other process failed:\n{said}\n{error}"
    );
}

/// Runs `command` as a user who is not root, and to whom `folder` and what is in it belong.
pub(crate) fn as_another_user(mut command: Command, folder: &Path) {
    const NOBODY: u32 = 65_534;
    if !is_root() {
        return assert_success(command);
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        std::os::unix::fs::chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    // The test's own executable may be where only root can reach it.
    let program = tempfile::tempdir().unwrap();
    set_mode(program.path(), 0o755);
    let copy = program.path().join("test");
    // By another process: a descriptor of ours that can write it could be in a child that another test just forked,
    // and what can be written cannot be run.
    assert!(Command::new("cp").arg(command.get_program()).arg(&copy).status().unwrap().success());
    set_mode(&copy, 0o755);
    let mut theirs = Command::new(&copy);
    theirs.args(command.get_args()).current_dir("/");
    theirs.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    std::os::unix::process::CommandExt::uid(&mut theirs, NOBODY);
    std::os::unix::process::CommandExt::gid(&mut theirs, NOBODY);
    command = theirs;
    assert_success(command);
}

/// Runs `command` where it can mount without anyone else seeing it. Where the system does not allow that, says so and
/// does nothing.
pub(crate) fn in_new_mounts(command: Command) {
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let mut probe = Command::new("unshare");
    probe.args(unshare.get_args()).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: this system lets nobody mount in a namespace of its own");
        return;
    }
    unshare.arg(command.get_program()).args(command.get_args());
    unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_success(unshare);
}

/// Mounts, in a process that [`in_new_mounts`] has started.
pub(crate) fn mount(arguments: &[&std::ffi::OsStr]) {
    let output = Command::new("mount").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
