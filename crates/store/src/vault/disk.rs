//! The one door to the file system: every byte of a vault is read and written through [`Disk`] and [`DiskFile`].
//!
//! Nothing else in the vault touches `std::fs`, so that a test can make any of these calls fail, and can put a disk in
//! memory under it that loses its power ([`simulated`]).

#![allow(clippy::disallowed_methods, reason = "this is the door to the file system")]

mod file;
#[cfg(all(test, target_os = "linux"))]
pub(super) mod simulated;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::Arc;

pub(super) use self::file::DiskFile;

/// What is about to be done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Write,
    SyncData,
    SyncAll,
    Truncate,
    Allocate,
    Create,
    Discard,
    Rename,
    SyncFolder,
}

/// What a test lets happen to an operation.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The operation fails with this error number and does nothing.
    Errno(i32),
    /// A write stops after so many bytes; what follows it fails for want of space.
    Short(usize),
}

/// Decides which operations fail.
#[cfg(test)]
pub(super) trait Faults: std::fmt::Debug + Send + Sync {
    fn before(&self, op: Op) -> Option<Fault>;
}

/// The file system.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) faults: Option<Arc<dyn Faults>>,
    /// Files in memory, in place of the system's.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) simulated: Option<simulated::Process>,
}

/// Which file a path or handle means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// What the file system says about a file or folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) id: FileId,
    pub(super) len: u64,
    pub(super) links: u64,
    pub(super) owner: u32,
    /// Permission bits, the sticky bit included.
    pub(super) mode: u32,
    pub(super) is_file: bool,
    pub(super) is_folder: bool,
    pub(super) is_symlink: bool,
    /// When contents, length or space last changed, in nanoseconds, as exactly as the file system tells.
    pub(super) changed: i128,
}

impl Facts {
    #[cfg(unix)]
    pub(super) fn of(meta: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            id: FileId { device: meta.dev(), inode: meta.ino() },
            len: meta.len(),
            links: meta.nlink(),
            owner: meta.uid(),
            mode: meta.mode() & 0o7777,
            is_file: meta.is_file(),
            is_folder: meta.is_dir(),
            is_symlink: meta.file_type().is_symlink(),
            changed: i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()),
        }
    }

    // No inode in safe code here: the time of creation tells a replaced file from the old one.
    #[cfg(not(unix))]
    pub(super) fn of(meta: &std::fs::Metadata) -> Self {
        let created = meta.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let inode = created.map_or(0, |at| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
        Self {
            id: FileId { device: 0, inode },
            len: meta.len(),
            links: 1,
            owner: 0,
            mode: 0o600,
            is_file: meta.is_file(),
            is_folder: meta.is_dir(),
            is_symlink: meta.file_type().is_symlink(),
            changed: meta
                .modified()
                .ok()
                .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
                .and_then(|at| i128::try_from(at.as_nanos()).ok())
                .unwrap_or(0),
        }
    }
}

impl Disk {
    #[cfg(test)]
    fn gate(&self, op: Op) -> io::Result<Option<usize>> {
        match self.faults.as_ref().and_then(|faults| faults.before(op)) {
            None => Ok(None),
            Some(Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Short(bytes)) => Ok(Some(bytes)),
        }
    }

    #[cfg(all(test, target_os = "linux"))]
    fn without_simulation(&self) -> Self {
        Self { faults: self.faults.clone(), simulated: None }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the test build lets it fail")]
    fn gate(&self, _op: Op) -> io::Result<Option<usize>> {
        Ok(None)
    }

    /// About `path`; a symlink is described, not followed.
    pub(super) fn facts(&self, path: &Path) -> io::Result<Facts> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return process.facts(path);
        }
        std::fs::symlink_metadata(path).map(|meta| Facts::of(&meta))
    }

    /// About the folder `path`, behind symlinks too.
    pub(super) fn folder_facts(&self, path: &Path) -> io::Result<Facts> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return process.folder_facts(path);
        }
        std::fs::metadata(path).map(|meta| Facts::of(&meta))
    }

    pub(super) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }

    /// Makes `folder` and those above it that are missing, open to nobody else, and their names durable.
    pub(super) fn make_folder(&self, folder: &Path) -> io::Result<()> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return process.folder_facts(folder).map(drop);
        }
        let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        for parent in missing.into_iter().filter_map(Path::parent) {
            match self.sync_folder(parent) {
                // One may make folders where one may not read.
                Err(error) if is_forbidden(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Opens a vault file that exists. A symlink or a mounted file in its place is an error: `ELOOP`, `EXDEV`.
    pub(super) fn open(&self, path: &Path, write: bool) -> io::Result<DiskFile> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return Ok(DiskFile::simulated(process.open(path)?, self, write));
        }
        self.gate(Op::Read)?;
        Ok(DiskFile::of(file::open_in_place(path, write)?, self, write))
    }

    /// Makes a file that does not exist yet, for the owner alone.
    pub(super) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return Ok(DiskFile::simulated(process.create(path)?, self, true));
        }
        self.gate(Op::Create)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(DiskFile::of(options.open(path)?, self, true))
    }

    /// Opens the lock file, making it if it is missing. It is never written.
    pub(super) fn open_lock(&self, path: &Path) -> io::Result<File> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return self.without_simulation().open_lock(&process.lock_file());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
            #[cfg(target_os = "linux")]
            options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        }
        options.open(path)
    }

    /// Opens the lock file to see what is locked, if there is one.
    #[cfg(target_os = "linux")]
    pub(super) fn look_at_lock(&self, path: &Path) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return process.rename(from, to);
        }
        self.gate(Op::Rename)?;
        std::fs::rename(from, to)
    }

    /// Removes a leftover; there being none is fine.
    pub(super) fn discard(&self, path: &Path) -> io::Result<()> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return process.discard(path);
        }
        self.gate(Op::Discard)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes the names in `folder` durable.
    pub(super) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        #[cfg(all(test, target_os = "linux"))]
        if let Some(process) = &self.simulated {
            return process.sync_folder(folder);
        }
        self.gate(Op::SyncFolder)?;
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        #[cfg(not(unix))]
        let _ = folder;
        Ok(())
    }

    /// The file system's magic number, where there is such a thing.
    #[cfg(target_os = "linux")]
    pub(super) fn file_system(&self, path: &Path) -> Option<u32> {
        // Wider on most targets, but no magic number has more than 32 bits.
        nix::sys::statfs::statfs(path).ok().map(|stat| stat.filesystem_type().0 as u32)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn file_system(&self, _path: &Path) -> Option<u32> {
        None
    }
}

/// Whether `error` says that there is no space left, or no quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Whether `error` says that this place may not be written.
pub(super) fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
