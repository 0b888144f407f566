//! Which locks of a vault are held, and by whom.
//!
//! Locks of open file descriptions carry no process id. Which bytes are held, the system tells everyone; which process has
//! the lock file open with them, only for processes that one may look into.

#![allow(clippy::disallowed_methods, reason = "it looks at /proc, and at no file of the vault")]

use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use super::frame::{FrameKind, Tag};
use super::lock::Range;
use super::place::{self, Place};
use super::view::{self, Shared, View};
use super::{Vault, blocking};
use crate::{Key, StoreError};

/// A lock of the vault that is held now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultLock {
    /// What it is for.
    pub what: LockedPart,
    /// The processes that hold it, as far as the system lets this one see: a lock that was handed over may have two for a
    /// moment. Empty if none could be seen.
    pub pids: Vec<u32>,
}

/// What a lock is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockedPart {
    /// Writing the file.
    Writer,
    /// Changing the keys, repairing or importing: nobody holds a lease meanwhile.
    Keys,
    /// Renewing one entry. Its name, if the vault is open and the entry is there.
    Lease(Option<Key>),
}

/// Bytes of the lock file that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeldBytes {
    first: u64,
    last: u64,
    exclusive: bool,
}

/// What is held, and which processes hold it.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<HeldBytes>,
    /// By process id; not of processes that one may not look into.
    holders: Vec<(u32, HeldBytes)>,
}

impl Vault {
    /// Which locks are held, this process's included, with the names of the entries that are being renewed.
    ///
    /// # Errors
    ///
    /// Those of any read, and [`StoreError::Io`] if the lock file cannot be looked at.
    pub async fn locks(&self) -> Result<Vec<VaultLock>, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let view = shared.latest()?;
            held(&shared.disk, &shared.place, &|byte| shared.name_of_lease(&view, byte))
        })
        .await
    }

    /// Which locks of the vault at `path` are held, without opening it: no entry is named.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::probe`], and [`StoreError::Io`] if the lock file cannot be looked at.
    pub fn probe_locks(path: impl AsRef<Path>) -> Result<Vec<VaultLock>, StoreError> {
        let disk = Disk::default();
        let place = Place::existing(&disk, path.as_ref())?;
        held(&disk, &place, &|_| None)
    }
}

/// The processes that hold any lease, as far as the system lets this one see.
pub(super) fn of_leases(disk: &Disk, lock: &Path) -> Vec<u32> {
    let Held { holders, .. } = system::held(disk, lock).unwrap_or_default();
    let leases = holders.into_iter().filter(|(_, held)| (held.first, held.exclusive) == (1, false));
    let mut pids: Vec<u32> = leases.map(|(pid, _)| pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

impl Shared {
    /// The name of the entry whose lease is this byte.
    fn name_of_lease(&self, view: &View, byte: u64) -> Option<Key> {
        let (tag, entry) = view.log.entries.iter().find(|(tag, _)| Range::lease(tag).byte() == byte)?;
        let record = |kind, tag: &Tag, at| view::read_record(&view.file, &self.keys, kind, tag, at).ok();
        let kind = if entry.removed { FrameKind::Removed } else { FrameKind::Put };
        Key::new(record(kind, tag, entry.at)?.key()).ok()
    }
}

fn held(disk: &Disk, place: &Place, name: &dyn Fn(u64) -> Option<Key>) -> Result<Vec<VaultLock>, StoreError> {
    let failed = |error| place::io("looking at the locks of", &place.lock, error);
    let Held { bytes, holders } = system::held(disk, &place.lock).map_err(failed)?;
    let locks = bytes.into_iter().filter_map(|bytes| {
        let what = match (bytes.first, bytes.exclusive) {
            (0, _) => LockedPart::Writer,
            (1, true) => LockedPart::Keys,
            // Every lease holds it, and is told by a byte of its own.
            (1, false) => return None,
            (byte, _) => LockedPart::Lease(name(byte)),
        };
        let of = |holder: &&(u32, HeldBytes)| holder.1.first <= bytes.first && bytes.first <= holder.1.last;
        let mut pids: Vec<u32> = holders.iter().filter(of).map(|(pid, _)| *pid).collect();
        pids.sort_unstable();
        pids.dedup();
        Some(VaultLock { what, pids })
    });
    Ok(locks.collect())
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use super::{Held, HeldBytes};
    use crate::vault::disk::{Disk, Facts, FileId};

    /// The bytes that are held, and which process holds which. Nothing is if there is no lock file yet.
    pub(super) fn held(disk: &Disk, path: &Path) -> io::Result<Held> {
        let file = match disk.look_at_lock(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::default()),
            other => other?,
        };
        let mut bytes = Vec::new();
        // The system names one lock in a stretch, not the first: what is before and behind it is asked for in turn.
        let mut stretches = vec![(0, i64::MAX as u64 - 1)];
        while let Some((first, last)) = stretches.pop() {
            let Some(found) = one_within(&file, first, last)? else { continue };
            let found = HeldBytes { first: found.first.max(first), last: found.last.min(last), ..found };
            bytes.push(found);
            if found.first > first {
                stretches.push((first, found.first - 1));
            }
            if found.last < last {
                stretches.push((found.last + 1, last));
            }
        }
        bytes.sort_unstable_by_key(|held| held.first);
        let holders =
            if bytes.is_empty() { Vec::new() } else { holders(Facts::of(&file.metadata()?).id, path) };
        Ok(Held { bytes, holders })
    }

    /// Some lock that another open file description holds from `first` to `last`.
    fn one_within(file: &File, first: u64, last: u64) -> io::Result<Option<HeldBytes>> {
        let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let mut found = libc::flock {
            l_type: libc::F_WRLCK.try_into().map_err(out_of_range)?,
            l_whence: libc::SEEK_SET.try_into().map_err(out_of_range)?,
            l_start: first.try_into().map_err(out_of_range)?,
            l_len: (last - first + 1).try_into().map_err(out_of_range)?,
            l_pid: 0,
        };
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
        if i32::from(found.l_type) == libc::F_UNLCK {
            return Ok(None);
        }
        let start = u64::try_from(found.l_start).unwrap_or(0);
        let last = match u64::try_from(found.l_len) {
            Ok(0) | Err(_) => u64::MAX,
            Ok(len) => start.saturating_add(len - 1),
        };
        Ok(Some(HeldBytes { first: start, last, exclusive: i32::from(found.l_type) == libc::F_WRLCK }))
    }

    /// Which processes hold which bytes, among those that this one may look into.
    fn holders(lock_file: FileId, path: &Path) -> Vec<(u32, HeldBytes)> {
        let mut holders = Vec::new();
        let Ok(processes) = std::fs::read_dir("/proc") else { return holders };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
            for descriptor in descriptors.flatten() {
                // By name first: asking about a file on a server that is gone would wait for it.
                let named = std::fs::read_link(descriptor.path());
                let is_named = named.is_ok_and(|named| named.file_name() == path.file_name());
                let is_it = || {
                    std::fs::metadata(descriptor.path()).is_ok_and(|meta| Facts::of(&meta).id == lock_file)
                };
                if is_named && is_it() {
                    let info = process.path().join("fdinfo").join(descriptor.file_name());
                    let info = std::fs::read_to_string(info).unwrap_or_default();
                    holders.extend(info.lines().filter_map(lock_line).map(|held| (pid, held)));
                }
            }
        }
        holders
    }

    /// A line such as `lock: 1: OFDLCK ADVISORY WRITE -1 fe:00:1234 0 0`.
    fn lock_line(line: &str) -> Option<HeldBytes> {
        let mut fields = line.strip_prefix("lock:")?.split_whitespace().skip(3);
        let exclusive = fields.next()? == "WRITE";
        let mut numbers = fields.skip(2);
        let first = numbers.next()?.parse().ok()?;
        let last = match numbers.next()? {
            "EOF" => u64::MAX,
            number => number.parse().ok()?,
        };
        Some(HeldBytes { first, last, exclusive })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_line_of_the_system_is_read_and_others_are_not() {
            let held = |first, last, exclusive| Some(HeldBytes { first, last, exclusive });
            let write =
                "lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:1234 4611686018427387905 4611686018427387905";
            assert_eq!(lock_line(write), held(4_611_686_018_427_387_905, 4_611_686_018_427_387_905, true));
            assert_eq!(lock_line("lock:\t2: OFDLCK ADVISORY  READ  -1 00:2a:5 1 1"), held(1, 1, false));
            assert_eq!(
                lock_line("lock:\t1: FLOCK  ADVISORY  WRITE 7 00:2a:5 0 EOF"),
                held(0, u64::MAX, true)
            );
            for other in ["pos:\t0", "flags:\t02100002", "lock:", "lock:\t1: OFDLCK ADVISORY WRITE -1 x y z"]
            {
                assert_eq!(lock_line(other), None, "{other}");
            }
        }
    }
}

/// Nothing tells it there.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::path::Path;

    use super::Held;
    use crate::vault::disk::Disk;

    pub(super) fn held(_disk: &Disk, _path: &Path) -> io::Result<Held> {
        Ok(Held::default())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::lock::{self, LEASES, WRITER};
    use super::*;

    #[test]
    fn who_holds_a_lease_is_found_and_a_writer_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let disk = Disk::default();
        let writer = lock::Held::try_take(&disk, &path, &[WRITER]).unwrap().unwrap();
        assert_eq!(of_leases(&disk, &path), Vec::<u32>::new());
        let lease =
            lock::Held::try_take(&disk, &path, &[LEASES, Range::lease(&Tag([4; 16]))]).unwrap().unwrap();
        assert_eq!(of_leases(&disk, &path), [std::process::id()]);
        drop((writer, lease));
        assert_eq!(of_leases(&disk, &path), Vec::<u32>::new());
    }
}
