//! A disk in memory, for tests: what every process sees, what would be left if the power went now, and a say in every
//! call of what becomes of it.
//!
//! The rules are those of Linux file systems that keep to POSIX and no more. Until a file is synced, each of its
//! 512-byte sectors may be on the disk as it was or as any write since left it, and so may its length, independently of
//! each other. Names change in the order in which they were changed, and are durable once their folder is synced;
//! nothing ties them to the contents of files. Space beyond the end that was never written reads as zeros. A sync that
//! fails may have written anything, and leaves what it did not write looking clean.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests; the lock file is a real one")]

mod inode;
mod outcome;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::inode::Inode;
pub(in crate::vault) use self::outcome::{Choose, Extent};
pub(in crate::vault) use self::process::{OpenFile, Process};
use super::Op;

/// What is about to be done, and by whom.
#[derive(Clone, Copy, Debug)]
pub(in crate::vault) struct Moment {
    pub(in crate::vault) process: u32,
    pub(in crate::vault) op: Op,
    /// Of a read or a write, how many bytes.
    pub(in crate::vault) bytes: usize,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vault) enum Event {
    /// It is done.
    Done,
    /// It fails with this error number. A write may have written so many bytes before.
    Fails { errno: i32, after: usize },
    /// The process is killed before it, or, in a write, after so many bytes. Nothing it asks for from then on is done.
    Killed { after: usize },
}

/// Asked before every call.
pub(in crate::vault) type Pilot = Box<dyn FnMut(&World, Moment) -> Event + Send>;

/// Everything that is in memory or on the disk.
#[derive(Clone, Debug)]
pub(in crate::vault) struct Machine {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// The names after each change since the folder was synced.
    unsynced_names: Vec<BTreeMap<PathBuf, u64>>,
    /// How much fits on the disk, in pages.
    pages: u64,
    next_inode: u64,
    time: i128,
}

/// A machine, its processes, and who decides what becomes of their calls.
pub(in crate::vault) struct World {
    machine: Mutex<Machine>,
    dead: Mutex<BTreeSet<u32>>,
    pilot: Mutex<Option<Pilot>>,
    /// Locks are the system's own, on a file of its own.
    lock_folder: tempfile::TempDir,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// An empty disk of so many bytes.
    pub(in crate::vault) fn new(bytes: u64) -> Arc<Self> {
        let machine = Machine {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            pages: bytes / inode::PAGE as u64,
            next_inode: 1,
            time: 1,
        };
        Self::beginning_with(machine)
    }

    /// A world that begins with `machine`, in which nobody runs.
    pub(in crate::vault) fn beginning_with(machine: Machine) -> Arc<Self> {
        let lock_folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Arc::new(Self {
            machine: Mutex::new(machine),
            dead: Mutex::default(),
            pilot: Mutex::default(),
            lock_folder,
        })
    }

    /// A copy of all that is in memory and on the disk.
    pub(in crate::vault) fn snapshot(&self) -> Machine {
        locked(&self.machine).clone()
    }

    /// What is in memory and on the disk is this from now on: the power came back.
    pub(in crate::vault) fn replace(&self, machine: Machine) {
        *locked(&self.machine) = machine;
    }

    pub(in crate::vault) fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        change(&mut locked(&self.machine))
    }

    pub(in crate::vault) fn fly(&self, pilot: Pilot) {
        *locked(&self.pilot) = Some(pilot);
    }

    pub(in crate::vault) fn land(&self) {
        *locked(&self.pilot) = None;
    }

    /// Ends a process as `kill -9` does: what it wrote stays visible.
    pub(in crate::vault) fn kill(&self, process: u32) {
        locked(&self.dead).insert(process);
    }

    pub(in crate::vault) fn is_dead(&self, process: u32) -> bool {
        locked(&self.dead).contains(&process)
    }
}

impl Machine {
    pub(in crate::vault) fn names(&self) -> Vec<PathBuf> {
        self.names.keys().cloned().collect()
    }

    /// The bytes that are seen at `path`.
    pub(in crate::vault) fn bytes(&self, path: &Path) -> Option<&[u8]> {
        self.inodes.get(self.names.get(path)?).map(|inode| &inode.visible[..])
    }

    /// Puts a durable file with these bytes at `path`.
    pub(in crate::vault) fn put(&mut self, path: &Path, bytes: Vec<u8>) {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, Inode::durable(bytes));
        self.names.insert(path.to_owned(), number);
        self.durable_names = self.names.clone();
        self.unsynced_names.clear();
    }

    /// Pages that were lost when a sync failed, and looked clean since, are read from the disk again.
    pub(in crate::vault) fn drop_clean_pages(&mut self) {
        self.inodes.values_mut().for_each(Inode::drop_clean_pages);
    }

    fn free_pages(&self) -> u64 {
        // The space of a removed file is there again at once: who needs it has the removal made durable.
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let held = self.inodes.iter().filter(|(number, inode)| inode.opens > 0 || named.contains(number));
        self.pages.saturating_sub(held.map(|(_, inode)| inode.pages()).sum())
    }

    fn changed_name(&mut self, change: impl FnOnce(&mut BTreeMap<PathBuf, u64>)) {
        change(&mut self.names);
        self.unsynced_names.push(self.names.clone());
        self.drop_unreachable();
    }

    /// Files without a name that nobody has open are gone, unless a power cut could bring their name back.
    fn drop_unreachable(&mut self) {
        let named: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.durable_names.values())
            .chain(self.unsynced_names.iter().flat_map(BTreeMap::values))
            .copied()
            .collect();
        self.inodes.retain(|number, inode| inode.opens > 0 || named.contains(number));
    }

    fn tick(&mut self) -> i128 {
        self.time += 1;
        self.time
    }
}
