//! Who else can read, or swap, a file that opens the vault.
//!
//! As `ssh` judges a private key: only a file that is *ours* is held to its mode, since we could mend it. A file of
//! another owner was put there by an administrator, a service manager or a container engine, for which 0440 and 0444
//! are normal (systemd's credentials, Kubernetes' and Docker's secrets).

#![allow(clippy::disallowed_methods, reason = "reads what opens a vault, not the vault")]

use std::fs::File;
use std::path::Path;

use super::read::Reason;

/// Whose word there is that only the right ones can read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nobody's: its mode is judged.
    Mode,
    /// The service manager's, which made `$CREDENTIALS_DIRECTORY` for this service alone.
    ServiceManager,
}

/// Refuses a file that others could have written, and one of ours that others can read.
#[cfg(unix)]
pub(super) fn check(file: &File, path: &Path, trust: Trust) -> Result<(), Reason> {
    use std::os::unix::fs::MetadataExt;

    if trust == Trust::ServiceManager {
        return Ok(());
    }
    let metadata = file.metadata().map_err(|error| super::read::words(&error))?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    let ours = owner == nix::unistd::geteuid().as_raw();
    match judge(mode, ours, mount(file, path)) {
        Judgement::Sound => Ok(()),
        Judgement::Remarkable => {
            tracing::warn!(path = %path.display(), "every user of this machine can read this file (mode {mode:04o})");
            Ok(())
        }
        Judgement::Refused => Err(format!(
            "{} can be read or changed by others (mode {mode:04o}): `chmod 600 {}`",
            path.display(),
            path.display()
        )),
    }
}

/// Elsewhere than on Unix there is no mode to judge.
#[cfg(not(unix))]
pub(super) fn check(_file: &File, _path: &Path, _trust: Trust) -> Result<(), Reason> {
    Ok(())
}

#[cfg(unix)]
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Sound,
    Remarkable,
    Refused,
}

/// What is known of how a file came to its place.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mount {
    /// A container engine put it there, for this container alone.
    Secret,
    /// Its mode cannot be changed here.
    ReadOnly,
    /// Like any other.
    Plain,
}

#[cfg(unix)]
fn judge(mode: u32, ours: bool, mount: Mount) -> Judgement {
    const OTHERS_WRITE: u32 = 0o002;
    const OTHERS_READ: u32 = 0o004;
    const ANYONE_ELSE: u32 = 0o077;

    match mount {
        Mount::Secret => return Judgement::Sound,
        Mount::ReadOnly => {}
        Mount::Plain if mode & OTHERS_WRITE != 0 || (ours && mode & ANYONE_ELSE != 0) => {
            return Judgement::Refused;
        }
        Mount::Plain => {}
    }
    if mode & OTHERS_READ != 0 { Judgement::Remarkable } else { Judgement::Sound }
}

/// Kubernetes and Docker's swarm mount secrets from memory, read-only; other engines below `/run/secrets`.
#[cfg(unix)]
fn mount(file: &File, path: &Path) -> Mount {
    use nix::sys::statvfs::{FsFlags, fstatvfs};

    let read_only = fstatvfs(file).is_ok_and(|mount| mount.flags().contains(FsFlags::ST_RDONLY));
    let below = |folder| path.canonicalize().is_ok_and(|real| real.starts_with(folder));
    if (read_only && is_in_memory(file)) || below("/run/secrets") || below("/var/run/secrets") {
        Mount::Secret
    } else if read_only {
        Mount::ReadOnly
    } else {
        Mount::Plain
    }
}

#[cfg(target_os = "linux")]
fn is_in_memory(file: &File) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of `linux/magic.h`.
    const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

    // The kernel's number has 32 bits; the type that holds it differs by platform.
    nix::sys::statfs::fstatfs(file)
        .is_ok_and(|system| IN_MEMORY.contains(&(system.filesystem_type().0 as u32)))
}

/// Containers run on Linux.
#[cfg(all(unix, not(target_os = "linux")))]
fn is_in_memory(_file: &File) -> bool {
    false
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_judged_by_owner_and_mount() {
        use Judgement::{Refused, Remarkable, Sound};
        let ours = true;
        for (mode, ours, mount, expected) in [
            (0o600, ours, Mount::Plain, Sound),
            (0o400, ours, Mount::Plain, Sound),
            (0o640, ours, Mount::Plain, Refused),
            (0o604, ours, Mount::Plain, Refused),
            (0o644, ours, Mount::Plain, Refused),
            (0o620, ours, Mount::Plain, Refused),
            (0o640, !ours, Mount::Plain, Sound),
            (0o444, !ours, Mount::Plain, Remarkable),
            (0o606, !ours, Mount::Plain, Refused),
            (0o602, !ours, Mount::Plain, Refused),
            (0o640, ours, Mount::ReadOnly, Sound),
            (0o444, ours, Mount::ReadOnly, Remarkable),
            (0o444, !ours, Mount::ReadOnly, Remarkable),
            (0o444, ours, Mount::Secret, Sound),
            (0o640, ours, Mount::Secret, Sound),
            (0o644, !ours, Mount::Secret, Sound),
        ] {
            assert_eq!(judge(mode, ours, mount), expected, "{mode:04o}, ours {ours}, {mount:?}");
        }
    }
}
