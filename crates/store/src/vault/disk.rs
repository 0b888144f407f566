//! The one door to the file system: every byte of a vault is read and written through [`Disk`] and [`DiskFile`].
//!
//! Nothing else in the vault touches `std::fs`, so that a test can make any of these calls fail.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::Arc;

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
    Rename,
    SyncFolder,
}

/// What a test lets happen to an operation.
#[cfg(test)]
#[derive(Debug)]
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

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the test build lets it fail")]
    fn gate(&self, _op: Op) -> io::Result<Option<usize>> {
        Ok(None)
    }

    /// About `path`; a symlink is described, not followed.
    pub(super) fn facts(&self, path: &Path) -> io::Result<Facts> {
        std::fs::symlink_metadata(path).map(|meta| Facts::of(&meta))
    }

    /// About the folder `path`, behind symlinks too.
    pub(super) fn folder_facts(&self, path: &Path) -> io::Result<Facts> {
        std::fs::metadata(path).map(|meta| Facts::of(&meta))
    }

    pub(super) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }

    /// Makes `folder` and those above it that are missing, open to nobody else, and their names durable.
    pub(super) fn make_folder(&self, folder: &Path) -> io::Result<()> {
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
        self.gate(Op::Read)?;
        let file = open_in_place(path, write)?;
        Ok(DiskFile { file, disk: self.clone(), writable: write })
    }

    /// Makes a file that does not exist yet, for the owner alone.
    pub(super) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        self.gate(Op::Create)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(DiskFile { file: options.open(path)?, disk: self.clone(), writable: true })
    }

    /// Opens the lock file, making it if it is missing. It is never written.
    pub(super) fn open_lock(&self, path: &Path) -> io::Result<File> {
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
        self.gate(Op::Rename)?;
        std::fs::rename(from, to)
    }

    /// Removes a leftover; there being none is fine.
    pub(super) fn discard(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes the names in `folder` durable.
    pub(super) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
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

/// Opens `path` where it stands: its last step may be neither a symlink nor a mount point, bind mounts included.
#[cfg(target_os = "linux")]
fn open_in_place(path: &Path, write: bool) -> io::Result<File> {
    use nix::errno::Errno;
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    use std::os::unix::fs::OpenOptionsExt;

    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
        .open(folder)?;
    let access = if write { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let how =
        OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(&folder, name, how) {
        Ok(descriptor) => Ok(File::from(descriptor)),
        // Old kernels and some sandboxes have no openat2; rename(2) then finds the mount (EBUSY).
        Err(Errno::ENOSYS | Errno::EINVAL) => OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(path),
        Err(errno) => Err(io::Error::from(errno)),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_in_place(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).open(path)
}

/// An open vault file.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    disk: Disk,
    writable: bool,
}

impl DiskFile {
    pub(super) fn writable(&self) -> bool {
        self.writable
    }

    pub(super) fn facts(&self) -> io::Result<Facts> {
        self.file.metadata().map(|meta| Facts::of(&meta))
    }

    /// Reads at `offset` until `buffer` is full or the file ends; returns how much was read.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.gate(Op::Read)?;
        let mut done = 0;
        while done < buffer.len() {
            match read_once(&self.file, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes `bytes` at `offset`. What a full disk did not take is an error; part of it may stand in the file then.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let short = self.disk.gate(Op::Write)?;
        let bytes_to_write = &bytes[..short.map_or(bytes.len(), |n| n.min(bytes.len()))];
        let mut done = 0;
        while done < bytes_to_write.len() {
            match write_once(&self.file, &bytes_to_write[done..], offset + done as u64) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::StorageFull)),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if done < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    /// Makes the contents durable, and the length.
    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.disk.gate(Op::SyncData)?;
        self.file.sync_data()
    }

    /// Makes everything about the file durable.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.disk.gate(Op::SyncAll)?;
        self.file.sync_all()
    }

    pub(super) fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.gate(Op::Truncate)?;
        self.file.set_len(len)
    }

    /// Sees to it that the bytes up to `end` can be written without asking for space. The length stays.
    /// `false` if the file system cannot promise that.
    #[cfg(target_os = "linux")]
    pub(super) fn allocate(&self, from: u64, end: u64) -> io::Result<bool> {
        use nix::errno::Errno;
        use nix::fcntl::{FallocateFlags, fallocate};

        let (Ok(offset), Ok(len)) = (from.try_into(), end.saturating_sub(from).try_into()) else {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        };
        let allocated = self.disk.gate(Op::Allocate).and_then(|_| {
            loop {
                match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, len) {
                    Err(Errno::EINTR) => {}
                    other => break other.map_err(io::Error::from),
                }
            }
        });
        match allocated {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn allocate(&self, _from: u64, _end: u64) -> io::Result<bool> {
        self.disk.gate(Op::Allocate)?;
        Ok(false)
    }
}

#[cfg(unix)]
fn read_once(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(unix)]
fn write_once(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_once(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(windows)]
fn write_once(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
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
