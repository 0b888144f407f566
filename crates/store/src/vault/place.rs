//! Where a vault may stand, and what is wrong with where it does.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, Facts, is_forbidden};
use crate::StoreError;

/// Permission bits: readable or writable by others.
const OTHERS: u32 = 0o006;
/// Permission bits: readable or writable by the group.
const GROUP: u32 = 0o060;

/// A vault's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The real file, behind a symlink if there is one.
    pub(super) file: PathBuf,
    pub(super) folder: PathBuf,
    /// `<vault>.lock`, beside the real file.
    pub(super) lock: PathBuf,
    /// `<vault>.new`, in which the file is written anew.
    pub(super) new: PathBuf,
}

impl Place {
    fn of(file: &Path) -> Result<Self, StoreError> {
        let file = std::path::absolute(file).map_err(|error| io("resolving", file, error))?;
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
            return Err(refused(&file, "is not the name of a file"));
        };
        let beside = |ending: &str| {
            let mut name = name.to_owned();
            name.push(ending);
            folder.join(name)
        };
        Ok(Self { lock: beside(".lock"), new: beside(".new"), folder: folder.to_owned(), file })
    }

    /// The place of the vault at `path`, which exists.
    pub(super) fn existing(disk: &Disk, path: &Path) -> Result<Self, StoreError> {
        let (place, facts) = Self::look(disk, path)?;
        match facts {
            None => Err(StoreError::Missing { path: path.to_owned() }),
            Some(facts) if facts.is_folder => {
                Err(refused(&place.file, "is a folder: name the vault file that is, or shall be, in it"))
            }
            Some(facts) if !facts.is_file => Err(refused(&place.file, "is not a regular file")),
            Some(_) => Ok(place),
        }
    }

    /// The place of a vault that is to be made at `path`: nothing may be there yet, not even a folder.
    pub(super) fn vacant(disk: &Disk, path: &Path) -> Result<Self, StoreError> {
        match Self::look(disk, path)? {
            (place, None) => Ok(place),
            (place, Some(facts)) if facts.is_folder => {
                Err(refused(&place.file, "is a folder: name the vault file that shall be in it"))
            }
            (_, Some(_)) => Err(StoreError::Exists { path: path.to_owned() }),
        }
    }

    /// Follows one symlink and looks at what is there.
    fn look(disk: &Disk, path: &Path) -> Result<(Self, Option<Facts>), StoreError> {
        let place = Self::of(path)?;
        let Some(facts) = look_at(disk, &place.file)? else { return Ok((place, None)) };
        if !facts.is_symlink {
            return Ok((place, Some(facts)));
        }
        let target = disk.read_link(&place.file).map_err(|error| io("reading", &place.file, error))?;
        let place = Self::of(&place.folder.join(target))?;
        match look_at(disk, &place.file)? {
            Some(facts) if facts.is_symlink => Err(refused(
                &place.file,
                "is a symlink behind a symlink: only one is followed; name the real file",
            )),
            facts => Ok((place, facts)),
        }
    }

    /// Refuses what is not safe about the file and its folder.
    pub(super) fn check(&self, disk: &Disk, facts: &Facts) -> Result<(), StoreError> {
        check_owner(&self.file, facts)?;
        if !facts.is_file {
            return Err(refused(&self.file, "is not a regular file"));
        }
        if facts.mode & OTHERS != 0 {
            let reason = format!(
                "can be read or written by others (mode {:04o}): `chmod 600 {}`",
                facts.mode,
                self.file.display()
            );
            return Err(refused(&self.file, reason));
        }
        if facts.links > 1 {
            return Err(refused(
                &self.file,
                "has another name (a hard link): the two would drift apart at the next write; remove one of them",
            ));
        }
        self.check_folder(disk)
    }

    /// Refuses a folder in which anyone can put another file in the vault's place.
    pub(super) fn check_folder(&self, disk: &Disk) -> Result<(), StoreError> {
        let folder = disk.folder_facts(&self.folder).map_err(|error| io("reading", &self.folder, error))?;
        let sticky = folder.mode & 0o1000 != 0;
        if folder.mode & 0o002 != 0 && !sticky {
            let reason = format!(
                "can be written by others (mode {:04o}): `chmod o-w {}`",
                folder.mode,
                self.folder.display()
            );
            return Err(refused(&self.folder, reason));
        }
        Ok(())
    }

    /// Warns of what is allowed and yet not wise. Once an opening.
    pub(super) fn warn(&self, disk: &Disk, facts: &Facts) {
        // Kubernetes gives each mount to a group, so that this cannot be refused.
        if facts.mode & GROUP != 0 {
            tracing::warn!(
                mode = format!("{:04o}", facts.mode),
                "the vault can be read or written by its group"
            );
        }
        if let Ok(folder) = disk.folder_facts(&self.folder)
            && (folder.mode & 0o020 != 0 || (folder.owner != facts.owner && folder.owner != 0))
        {
            tracing::warn!(
                mode = format!("{:04o}", folder.mode),
                owner = folder.owner,
                "other users can replace files in the vault's folder"
            );
        }
        if let Some(name) = self.network_file_system(disk) {
            tracing::warn!(
                file_system = name,
                "the vault is on a network file system, where locks and syncs may not hold: keep sessions that \
                 several machines share in PostgreSQL"
            );
        }
    }

    /// What a file system over the network is called, if the vault stands on one.
    pub(super) fn network_file_system(&self, disk: &Disk) -> Option<&'static str> {
        // Magic numbers as in Linux's include/uapi/linux/magic.h, cut to 32 bits.
        match disk.file_system(&self.folder)? {
            0x6969 => Some("NFS"),
            0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
            0x00c3_6400 => Some("Ceph"),
            0x5346_414f | 0x6b41_4653 => Some("AFS"),
            0x7375_7245 => Some("Coda"),
            0x0102_1997 => Some("9P"),
            0x0bd0_0bd0 => Some("Lustre"),
            _ => None,
        }
    }
}

/// Refuses a lock file that is not ours alone to lock.
pub(super) fn check_lock_file(path: &Path, facts: &Facts) -> Result<(), StoreError> {
    if !facts.is_file {
        return Err(refused(path, "is not a regular file, but the vault's lock file must be one: remove it"));
    }
    check_owner(path, facts)
}

#[cfg(unix)]
fn check_owner(path: &Path, facts: &Facts) -> Result<(), StoreError> {
    if facts.owner != nix::unistd::geteuid().as_raw() {
        return Err(StoreError::AnotherOwner { path: path.to_owned(), owner: facts.owner });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_path: &Path, _facts: &Facts) -> Result<(), StoreError> {
    Ok(())
}

fn look_at(disk: &Disk, path: &Path) -> Result<Option<Facts>, StoreError> {
    match disk.facts(path) {
        Ok(facts) => Ok(Some(facts)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(refused(path, "cannot be there: a part of its path is a file, not a folder"))
        }
        Err(error) if is_forbidden(&error) => Err(unreachable_place(path)),
        Err(error) => Err(io("reading", path, error)),
    }
}

fn unreachable_place(path: &Path) -> StoreError {
    refused(path, "cannot be reached: this user may not search one of the folders above it")
}

/// The error for a place that cannot be used as it is.
pub(super) fn refused(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Place { path: path.to_owned(), reason: reason.into() }
}

/// The error for anything else that the system refused.
pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { doing, path: path.to_owned(), source }
}

/// The error for what could not be opened or changed for writing.
pub(super) fn unwritable(path: &Path, error: io::Error) -> StoreError {
    if super::disk::is_full(&error) {
        return StoreError::Full { path: Some(path.to_owned()) };
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => StoreError::NotWritable {
            path: path.to_owned(),
            reason: "this user may not write there: check the permissions of the file and its folder"
                .to_owned(),
        },
        io::ErrorKind::ReadOnlyFilesystem => StoreError::NotWritable {
            path: path.to_owned(),
            reason: "the file system is read-only".to_owned(),
        },
        io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices => mounted(path),
        _ => io("writing", path, error),
    }
}

/// The error for a vault file that is a mount point of its own.
pub(super) fn mounted(path: &Path) -> StoreError {
    refused(
        path,
        "is mounted as a single file, so that it cannot be replaced safely: mount the folder instead",
    )
}

/// The error for what could not be opened for reading.
pub(super) fn unreadable(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path: path.to_owned() },
        io::ErrorKind::CrossesDevices => mounted(path),
        io::ErrorKind::PermissionDenied => {
            refused(path, format!("cannot be read by this user: `chmod 600 {}` as its owner", path.display()))
        }
        _ => io("reading", path, error),
    }
}
