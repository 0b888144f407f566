//! Locks: byte ranges of one file beside the vault, held by open file descriptions.
//!
//! The lock file is never written and never unlinked: whoever unlinked it would let a second holder in. Each acquisition
//! opens its own handle, so that two tasks of one process exclude each other as two processes do. A lock ends when the
//! last copy of its handle is closed, which the system does when its holder dies.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::disk::Disk;
use super::frame::Tag;
use super::place;
use crate::StoreError;

/// Whoever writes the file.
pub(super) const WRITER: Range = Range { byte: 0, exclusive: true };
/// Whoever holds a lease: shared among them, exclusive for who changes the vault's keys.
pub(super) const LEASES: Range = Range { byte: 1, exclusive: false };
/// Whoever changes the vault's keys or repairs it: nobody holds a lease meanwhile.
pub(super) const KEYS: Range = Range { byte: 1, exclusive: true };

/// One byte of the lock file, and how it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    byte: u64,
    exclusive: bool,
}

impl Range {
    /// The lease of the key with this tag: byte 2 plus its first 62 bits, read little-endian.
    pub(super) fn lease(tag: &Tag) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&tag.0[..8]);
        Self { byte: 2 + (u64::from_le_bytes(first) >> 2), exclusive: true }
    }

    /// Which byte it is.
    pub(super) fn byte(&self) -> u64 {
        self.byte
    }
}

/// Ranges that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    handle: system::Handle,
    ranges: Vec<Range>,
    /// Cleared when the handle was given away: unlocking here would unlock there too.
    ours: AtomicBool,
}

impl Held {
    /// Takes all of `ranges`, or none and `None` if another holder has one of them.
    pub(super) fn try_take(disk: &Disk, path: &Path, ranges: &[Range]) -> Result<Option<Self>, StoreError> {
        // A lock file that was replaced between opening and locking would let a second holder in beside this one.
        for _ in 0..16 {
            let handle = system::Handle::open(disk, path).map_err(|error| place::unwritable(path, error))?;
            place::check_lock_file(
                path,
                &handle.facts().map_err(|error| place::io("reading", path, error))?,
            )?;
            let held = Self { handle, ranges: Vec::with_capacity(ranges.len()), ours: AtomicBool::new(true) };
            match held.take(disk, path, ranges)? {
                Taken::All(held) => return Ok(Some(held)),
                Taken::Busy => return Ok(None),
                Taken::Replaced => {}
            }
        }
        Err(StoreError::Place {
            path: path.to_owned(),
            reason: "is replaced again and again: no program may remove or replace it".to_owned(),
        })
    }

    fn take(mut self, disk: &Disk, path: &Path, ranges: &[Range]) -> Result<Taken, StoreError> {
        for range in ranges {
            match self.handle.lock(*range) {
                Ok(true) => self.ranges.push(*range),
                Ok(false) => return Ok(Taken::Busy),
                Err(error) => return Err(place::unwritable(path, error)),
            }
        }
        let opened = self.handle.facts().map_err(|error| place::io("reading", path, error))?;
        match disk.facts(path) {
            Ok(there) if there.id == opened.id => Ok(Taken::All(self)),
            Ok(_) => Ok(Taken::Replaced),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Taken::Replaced),
            Err(error) => Err(place::io("reading", path, error)),
        }
    }

    /// Gives the ranges up, and says if that failed.
    pub(super) fn release(self) -> io::Result<()> {
        self.unlock()
    }

    fn unlock(&self) -> io::Result<()> {
        // Unlocking, not only closing: a child between fork and exec holds a copy of the handle for a moment.
        if !self.ours.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        self.ranges.iter().try_for_each(|range| self.handle.unlock(*range))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.unlock() {
            tracing::warn!(%error, "a lock was not given up by unlocking; closing its handle gives it up");
        }
    }
}

enum Taken {
    All(Held),
    Busy,
    Replaced,
}

/// How long to sleep between tries: growing, and different for everyone who waits.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(super) fn between(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next pause: between half and all of a time that doubles up to the longest.
    pub(super) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.longest);
        // Without random bytes everyone waits the full time: slower, not wrong.
        let spread = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        full.mul_f64(0.5 + 0.5 * spread)
    }
}

/// Waits until all of `ranges` are held; `None` when `wait` has passed.
pub(super) async fn take(
    disk: &Disk,
    path: &Path,
    ranges: &[Range],
    wait: Duration,
) -> Result<Option<Held>, StoreError> {
    if let Some(held) = Held::try_take(disk, path, ranges)? {
        return Ok(Some(held));
    }
    let deadline = tokio::time::Instant::now().checked_add(wait);
    let mut pauses = Pauses::between(Duration::from_millis(1), Duration::from_millis(20));
    loop {
        let left =
            deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(tokio::time::Instant::now()));
        if left.is_zero() {
            return Ok(None);
        }
        tokio::time::sleep(pauses.next().min(left)).await;
        if let Some(held) = Held::try_take(disk, path, ranges)? {
            return Ok(Some(held));
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) mod system {
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use super::{Held, Range};
    use crate::vault::disk::{Disk, Facts};

    /// An open lock file.
    #[derive(Debug)]
    pub(in crate::vault) struct Handle(File);

    impl Handle {
        pub(super) fn open(disk: &Disk, path: &Path) -> io::Result<Self> {
            disk.open_lock(path).map(Self)
        }

        pub(super) fn facts(&self) -> io::Result<Facts> {
            self.0.metadata().map(|meta| Facts::of(&meta))
        }

        /// `false` if another open file description has the range.
        pub(super) fn lock(&self, range: Range) -> io::Result<bool> {
            let kind = if range.exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
            match fcntl(&self.0, FcntlArg::F_OFD_SETLK(&flock(kind, range)?)) {
                Ok(_) => Ok(true),
                Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
                Err(errno) => Err(io::Error::from(errno)),
            }
        }

        pub(super) fn unlock(&self, range: Range) -> io::Result<()> {
            fcntl(&self.0, FcntlArg::F_OFD_SETLK(&flock(libc::F_UNLCK, range)?))?;
            Ok(())
        }

        /// Whether another open file description holds exactly this range, exclusively.
        fn held_elsewhere(&self, range: Range) -> io::Result<bool> {
            let mut found = flock(libc::F_WRLCK, range)?;
            let asked = (found.l_start, found.l_len);
            fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut found))?;
            Ok(i32::from(found.l_type) == libc::F_WRLCK && (found.l_start, found.l_len) == asked)
        }
    }

    fn flock(kind: i32, range: Range) -> io::Result<libc::flock> {
        let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
        Ok(libc::flock {
            l_type: kind.try_into().map_err(out_of_range)?,
            l_whence: libc::SEEK_SET.try_into().map_err(out_of_range)?,
            l_start: range.byte.try_into().map_err(out_of_range)?,
            l_len: 1,
            l_pid: 0,
        })
    }

    impl Held {
        /// A copy of the handle for another process. From now on nothing is unlocked here.
        pub(in crate::vault) fn give_away(&self) -> io::Result<OwnedFd> {
            let copy = self.handle.0.try_clone()?;
            self.ours.store(false, Ordering::SeqCst);
            Ok(copy.into())
        }

        /// Takes over a handle that another process gave away, if it does hold `ranges` of the lock file at `path`;
        /// the last of them must be exclusive.
        pub(in crate::vault) fn received(
            disk: &Disk,
            path: &Path,
            ranges: &[Range],
            descriptor: OwnedFd,
        ) -> io::Result<Option<Self>> {
            // A copy that closes on exec, whatever the one that was inherited does.
            let handle = Handle(File::from(descriptor.try_clone()?));
            drop(descriptor);
            if handle.facts()?.id != disk.facts(path)?.id {
                return Ok(None);
            }
            // Somebody holds the last range, and it is not in this handle's way: so this handle holds it.
            let other = Handle::open(disk, path)?;
            let Some(last) = ranges.last() else { return Ok(None) };
            if !other.held_elsewhere(*last)? {
                return Ok(None);
            }
            for range in ranges {
                if !handle.lock(*range)? {
                    return Ok(None);
                }
            }
            Ok(Some(Self { handle, ranges: ranges.to_vec(), ours: AtomicBool::new(true) }))
        }
    }
}

/// Where there are no locks of open file descriptions: a lock file a range. Not tested.
#[cfg(not(target_os = "linux"))]
pub(super) mod system {
    use std::collections::BTreeMap;
    use std::fs::{File, TryLockError};
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    use super::Range;
    use crate::vault::disk::{Disk, Facts};

    /// The lock file, and the files that stand for its ranges.
    #[derive(Debug)]
    pub(in crate::vault) struct Handle {
        base: File,
        path: PathBuf,
        disk: Disk,
        ranges: Mutex<BTreeMap<u64, File>>,
    }

    impl Handle {
        pub(super) fn open(disk: &Disk, path: &Path) -> io::Result<Self> {
            let base = disk.open_lock(path)?;
            Ok(Self { base, path: path.to_owned(), disk: disk.clone(), ranges: Mutex::default() })
        }

        pub(super) fn facts(&self) -> io::Result<Facts> {
            self.base.metadata().map(|meta| Facts::of(&meta))
        }

        pub(super) fn lock(&self, range: Range) -> io::Result<bool> {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{:x}", range.byte));
            let file = self.disk.open_lock(Path::new(&name))?;
            match if range.exclusive { file.try_lock() } else { file.try_lock_shared() } {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let mut ranges = self.ranges.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            ranges.insert(range.byte, file);
            Ok(true)
        }

        pub(super) fn unlock(&self, range: Range) -> io::Result<()> {
            let mut ranges = self.ranges.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            ranges.remove(&range.byte).map_or(Ok(()), |file| file.unlock())
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests")]

    use super::*;

    #[test]
    fn a_lock_on_a_file_that_was_replaced_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let disk = Disk::default();
        let opened = || Held {
            handle: system::Handle::open(&disk, &path).unwrap(),
            ranges: Vec::new(),
            ours: AtomicBool::new(true),
        };
        // Opened, and replaced before it is locked: by nothing, then by another file.
        let held = opened();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(held.take(&disk, &path, &[WRITER]), Ok(Taken::Replaced)));
        let held = opened();
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(held.take(&disk, &path, &[WRITER]), Ok(Taken::Replaced)));
        assert!(matches!(opened().take(&disk, &path, &[WRITER]), Ok(Taken::All(_))));
    }

    #[test]
    fn all_ranges_are_taken_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let disk = Disk::default();
        let (one, other) = (Range::lease(&Tag([4; 16])), Range::lease(&Tag([8; 16])));
        let first = Held::try_take(&disk, &path, &[LEASES, one]).unwrap().unwrap();
        assert!(Held::try_take(&disk, &path, &[other, one]).unwrap().is_none());
        let second =
            Held::try_take(&disk, &path, &[LEASES, other]).unwrap().expect("what was tried was given back");
        // Whoever changes the keys waits for every lease.
        let exclusive = Range { exclusive: true, ..LEASES };
        assert!(Held::try_take(&disk, &path, &[exclusive]).unwrap().is_none());
        first.release().unwrap();
        assert!(Held::try_take(&disk, &path, &[exclusive]).unwrap().is_none());
        drop(second);
        assert!(Held::try_take(&disk, &path, &[exclusive]).unwrap().is_some());
    }

    #[test]
    fn a_lease_has_the_byte_that_the_format_says() {
        let mut tag = [0xff; 16];
        assert_eq!(Range::lease(&Tag(tag)).byte, 2 + (u64::MAX >> 2));
        tag[..8].copy_from_slice(&13_u64.to_le_bytes());
        assert_eq!(Range::lease(&Tag(tag)).byte, 2 + 3);
    }

    #[test]
    fn pauses_grow_up_to_a_limit_and_differ() {
        let mut pauses = Pauses::between(Duration::from_millis(8), Duration::from_millis(64));
        for full in [8, 16, 32, 64, 64, 64] {
            let pause = pauses.next();
            assert!(
                pause >= Duration::from_millis(full / 2) && pause <= Duration::from_millis(full),
                "{pause:?}"
            );
        }
    }
}
