//! Other users and other mounts: what a test needs to see a vault from outside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::binary;

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// A user who owns nothing.
pub const NOBODY: u32 = 65_534;

/// Whether this process is root, whom modes and owners do not stop. Says so if not: then nothing is tested.
pub fn is_root() -> bool {
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if !root {
        told_as_untested("only root can become another user");
    }
    root
}

#[allow(clippy::print_stderr, reason = "what was not tested has to be said")]
pub fn told_as_untested(why: &str) {
    eprintln!("not tested: {why}");
}

/// A user who is not root, with a copy of the command where that user can run it. Needs root.
pub struct Outsider {
    programs: tempfile::TempDir,
}

impl Outsider {
    pub fn new() -> Self {
        let programs = tempfile::tempdir().unwrap();
        set_mode(programs.path(), 0o755);
        // By another process: a descriptor of ours that can write it could be in a child that another thread just
        // forked, and what can be written cannot be run.
        let copied = Command::new("cp").arg(binary("tokenkeep")).arg(programs.path()).status().unwrap();
        assert!(copied.success());
        set_mode(&programs.path().join("tokenkeep"), 0o755);
        Self { programs }
    }

    /// `command` as this user.
    pub fn command(&self, command: &Command) -> Command {
        let own = binary("tokenkeep");
        let copy = self.programs.path().join("tokenkeep");
        let is_own = command.get_program() == own;
        let mut theirs = Command::new(if is_own { copy.as_os_str() } else { command.get_program() });
        theirs.args(command.get_args()).env_clear().current_dir("/");
        theirs.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        theirs.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::uid(&mut theirs, NOBODY);
        std::os::unix::process::CommandExt::gid(&mut theirs, NOBODY);
        theirs
    }
}

impl Default for Outsider {
    fn default() -> Self {
        Self::new()
    }
}

/// A mount namespace of its own, kept by a process: what is mounted in it is seen by nobody else.
pub struct Mounts {
    keeper: Child,
}

impl Mounts {
    /// `None`, and said, where this system lets the test not mount.
    pub fn new() -> Option<Self> {
        let mut keeper = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                "mount -t tmpfs none /mnt && umount /mnt && echo ready && exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(keeper.stdout.as_mut()?), &mut line).ok()?;
        if line != "ready\n" {
            let _ = keeper.wait();
            told_as_untested("this system lets nobody mount in a namespace of its own");
            return None;
        }
        Some(Self { keeper })
    }

    /// `mount` with these arguments, in the namespace.
    pub fn mount(&self, arguments: &[&str]) {
        let mut mount = Command::new("mount");
        mount.args(arguments);
        let output = self.command(&mount).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `command` in the namespace.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()));
        inside.arg("--").arg(command.get_program()).args(command.get_args()).env_clear();
        inside.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        inside
    }

    /// Where the namespace's `path` is for this process.
    pub fn path(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.keeper.id())).join(inside)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
