//! Who else can read, or swap, a file that opens the vault.
//!
//! As `ssh` judges a private key: only a file that is *ours* is held to its mode, since we could mend it. A file of
//! another owner was put there by an administrator, a service manager or a container engine, for which 0440 and 0444
//! are normal (systemd's credentials, Kubernetes' and Docker's secrets).

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
    match judge(mode, ours, is_mounted_secret(file, path)) {
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

#[cfg(unix)]
fn judge(mode: u32, ours: bool, mounted_secret: bool) -> Judgement {
    const OTHERS_WRITE: u32 = 0o002;
    const OTHERS_READ: u32 = 0o004;
    const ANYONE_ELSE: u32 = 0o077;

    if mounted_secret {
        return Judgement::Sound;
    }
    if mode & OTHERS_WRITE != 0 || (ours && mode & ANYONE_ELSE != 0) {
        return Judgement::Refused;
    }
    if mode & OTHERS_READ != 0 { Judgement::Remarkable } else { Judgement::Sound }
}

/// Whether a container engine put the file there: its mode is not ours to change, and the mount is seen by this
/// container alone.
#[cfg(unix)]
fn is_mounted_secret(file: &File, path: &Path) -> bool {
    use nix::sys::statvfs::{FsFlags, fstatvfs};

    let read_only = fstatvfs(file).is_ok_and(|mount| mount.flags().contains(FsFlags::ST_RDONLY));
    read_only
        || path
            .canonicalize()
            .is_ok_and(|real| real.starts_with("/run/secrets") || real.starts_with("/var/run/secrets"))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_judged_by_owner_and_mount() {
        use Judgement::{Refused, Remarkable, Sound};
        let (ours, mounted) = (true, true);
        for (mode, ours, mounted, expected) in [
            (0o600, ours, !mounted, Sound),
            (0o400, ours, !mounted, Sound),
            (0o640, ours, !mounted, Refused),
            (0o604, ours, !mounted, Refused),
            (0o644, ours, !mounted, Refused),
            (0o620, ours, !mounted, Refused),
            (0o640, !ours, !mounted, Sound),
            (0o444, !ours, !mounted, Remarkable),
            (0o606, !ours, !mounted, Refused),
            (0o602, !ours, !mounted, Refused),
            (0o444, ours, mounted, Sound),
            (0o640, ours, mounted, Sound),
            (0o644, !ours, mounted, Sound),
        ] {
            assert_eq!(judge(mode, ours, mounted), expected, "{mode:04o}, ours {ours}, mounted {mounted}");
        }
    }
}
