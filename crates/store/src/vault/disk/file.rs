//! One open vault file.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(all(test, target_os = "linux"))]
use super::simulated::OpenFile;
use super::{Disk, Facts, Op};

/// Opens `path` where it stands: its last step may be neither a symlink nor a mount point, bind mounts included.
#[cfg(target_os = "linux")]
pub(super) fn open_in_place(path: &Path, write: bool) -> io::Result<File> {
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
pub(super) fn open_in_place(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).open(path)
}

/// An open vault file.
#[derive(Debug)]
pub(in crate::vault) struct DiskFile {
    file: Body,
    disk: Disk,
    writable: bool,
}

/// Where its bytes are.
#[derive(Debug)]
enum Body {
    System(File),
    #[cfg(all(test, target_os = "linux"))]
    Simulated(OpenFile),
}

impl DiskFile {
    pub(super) fn of(file: File, disk: &Disk, writable: bool) -> Self {
        Self { file: Body::System(file), disk: disk.clone(), writable }
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn simulated(file: OpenFile, disk: &Disk, writable: bool) -> Self {
        Self { file: Body::Simulated(file), disk: disk.clone(), writable }
    }

    pub(in crate::vault) fn writable(&self) -> bool {
        self.writable
    }

    pub(in crate::vault) fn facts(&self) -> io::Result<Facts> {
        self.file.facts()
    }

    /// Reads at `offset` until `buffer` is full or the file ends; returns how much was read.
    pub(in crate::vault) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.gate(Op::Read)?;
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_once(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes `bytes` at `offset`. What a full disk did not take is an error; part of it may stand in the file then.
    pub(in crate::vault) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let short = self.disk.gate(Op::Write)?;
        let bytes_to_write = &bytes[..short.map_or(bytes.len(), |n| n.min(bytes.len()))];
        let mut done = 0;
        while done < bytes_to_write.len() {
            match self.file.write_once(&bytes_to_write[done..], offset + done as u64) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::StorageFull)),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if done < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    /// Makes the contents durable, and the length.
    pub(in crate::vault) fn sync_data(&self) -> io::Result<()> {
        self.disk.gate(Op::SyncData)?;
        self.file.sync_data()
    }

    /// Makes everything about the file durable.
    pub(in crate::vault) fn sync_all(&self) -> io::Result<()> {
        self.disk.gate(Op::SyncAll)?;
        self.file.sync_all()
    }

    pub(in crate::vault) fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.gate(Op::Truncate)?;
        self.file.set_len(len)
    }

    /// Sees to it that the bytes up to `end` can be written without asking for space. The length stays.
    /// `false` if the file system cannot promise that.
    pub(in crate::vault) fn allocate(&self, from: u64, end: u64) -> io::Result<bool> {
        match self.disk.gate(Op::Allocate).and_then(|_| self.file.allocate(from, end)) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            other => other,
        }
    }
}

impl Body {
    fn facts(&self) -> io::Result<Facts> {
        match self {
            Self::System(file) => file.metadata().map(|meta| Facts::of(&meta)),
            #[cfg(all(test, target_os = "linux"))]
            Self::Simulated(file) => file.facts(),
        }
    }

    fn read_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Self::System(file) => std::os::unix::fs::FileExt::read_at(file, buffer, offset),
            #[cfg(windows)]
            Self::System(file) => std::os::windows::fs::FileExt::seek_read(file, buffer, offset),
            #[cfg(all(test, target_os = "linux"))]
            Self::Simulated(file) => file.read_at(buffer, offset),
        }
    }

    fn write_once(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Self::System(file) => std::os::unix::fs::FileExt::write_at(file, bytes, offset),
            #[cfg(windows)]
            Self::System(file) => std::os::windows::fs::FileExt::seek_write(file, bytes, offset),
            #[cfg(all(test, target_os = "linux"))]
            Self::Simulated(file) => file.write_at(bytes, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self {
            Self::System(file) => file.sync_data(),
            #[cfg(all(test, target_os = "linux"))]
            Self::Simulated(file) => file.sync(Op::SyncData),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        match self {
            Self::System(file) => file.sync_all(),
            #[cfg(all(test, target_os = "linux"))]
            Self::Simulated(file) => file.sync(Op::SyncAll),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self {
            Self::System(file) => file.set_len(len),
            #[cfg(all(test, target_os = "linux"))]
            Self::Simulated(file) => file.truncate(len),
        }
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, from: u64, end: u64) -> io::Result<bool> {
        use nix::errno::Errno;
        use nix::fcntl::{FallocateFlags, fallocate};

        let (Ok(offset), Ok(len)) = (from.try_into(), end.saturating_sub(from).try_into()) else {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        };
        match self {
            Self::System(file) => loop {
                match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, len) {
                    Err(Errno::EINTR) => {}
                    other => break other.map(|()| true).map_err(io::Error::from),
                }
            },
            #[cfg(test)]
            Self::Simulated(file) => file.allocate(end).map(|()| true),
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Linux")]
    fn allocate(&self, _from: u64, _end: u64) -> io::Result<bool> {
        Ok(false)
    }
}
