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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::inode::Inode;
pub(in crate::vault) use self::outcome::{Choose, Extent};
use super::{Facts, FileId, Op};

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

/// One process of a world: what it asks for passes the pilot first.
#[derive(Clone, Debug)]
pub(in crate::vault) struct Process {
    world: Arc<World>,
    number: u32,
}

fn failed(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Process {
    pub(in crate::vault) fn new(world: &Arc<World>, number: u32) -> Self {
        Self { world: Arc::clone(world), number }
    }

    /// Asks the pilot. `Ok(Some(n))`: a write stops after `n` bytes.
    fn ask(&self, op: Op, bytes: usize) -> io::Result<Option<(usize, i32)>> {
        if self.world.is_dead(self.number) {
            return Err(failed(nix::libc::EIO));
        }
        // Taken out meanwhile: a pilot may look at the disk through another process.
        let Some(mut pilot) = locked(&self.world.pilot).take() else { return Ok(None) };
        let event = pilot(&self.world, Moment { process: self.number, op, bytes });
        locked(&self.world.pilot).get_or_insert(pilot);
        match event {
            Event::Done => Ok(None),
            Event::Fails { errno, after } if op == Op::Write || op == Op::SyncData || op == Op::SyncAll => {
                Ok(Some((after, errno)))
            }
            Event::Fails { errno, .. } => Err(failed(errno)),
            Event::Killed { after } => {
                self.world.kill(self.number);
                if op == Op::Write { Ok(Some((after, nix::libc::EIO))) } else { Err(failed(nix::libc::EIO)) }
            }
        }
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.world.lock_folder.path().join("lock")
    }

    pub(super) fn facts(&self, path: &Path) -> io::Result<Facts> {
        if path.extension().is_some_and(|extension| extension == "lock") {
            return std::fs::symlink_metadata(self.lock_file()).map(|meta| Facts::of(&meta));
        }
        self.ask(Op::Read, 0)?;
        let machine = locked(&self.world.machine);
        let number = *machine.names.get(path).ok_or_else(|| failed(nix::libc::ENOENT))?;
        let inode = machine.inodes.get(&number).ok_or_else(|| failed(nix::libc::ENOENT))?;
        Ok(facts_of(number, inode))
    }

    pub(super) fn folder_facts(&self, path: &Path) -> io::Result<Facts> {
        self.ask(Op::Read, 0)?;
        if path != Path::new("/simulated") {
            return Err(failed(nix::libc::ENOENT));
        }
        let inode = Inode::durable(Vec::new());
        Ok(Facts { mode: 0o700, is_file: false, is_folder: true, ..facts_of(0, &inode) })
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<OpenFile> {
        self.ask(Op::Read, 0)?;
        let mut machine = locked(&self.world.machine);
        let number = *machine.names.get(path).ok_or_else(|| failed(nix::libc::ENOENT))?;
        let inode = machine.inodes.get_mut(&number).ok_or_else(|| failed(nix::libc::ENOENT))?;
        inode.opens += 1;
        Ok(OpenFile { process: self.clone(), number })
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<OpenFile> {
        self.ask(Op::Create, 0)?;
        let mut machine = locked(&self.world.machine);
        if machine.names.contains_key(path) {
            return Err(failed(nix::libc::EEXIST));
        }
        let number = machine.next_inode;
        machine.next_inode += 1;
        machine.inodes.insert(number, Inode { opens: 1, ..Inode::durable(Vec::new()) });
        machine.changed_name(|names| {
            names.insert(path.to_owned(), number);
        });
        Ok(OpenFile { process: self.clone(), number })
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Op::Rename, 0)?;
        let mut machine = locked(&self.world.machine);
        let number = *machine.names.get(from).ok_or_else(|| failed(nix::libc::ENOENT))?;
        machine.changed_name(|names| {
            names.remove(from);
            names.insert(to.to_owned(), number);
        });
        Ok(())
    }

    pub(super) fn discard(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::Discard, 0)?;
        let mut machine = locked(&self.world.machine);
        if machine.names.contains_key(path) {
            machine.changed_name(|names| {
                names.remove(path);
            });
        }
        Ok(())
    }

    pub(super) fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        self.ask(Op::SyncFolder, 0)?;
        let mut machine = locked(&self.world.machine);
        machine.durable_names = machine.names.clone();
        machine.unsynced_names.clear();
        machine.drop_unreachable();
        Ok(())
    }
}

fn facts_of(number: u64, inode: &Inode) -> Facts {
    Facts {
        id: FileId { device: 1, inode: number },
        len: inode.visible.len() as u64,
        links: 1,
        owner: nix::unistd::geteuid().as_raw(),
        mode: 0o600,
        is_file: true,
        is_folder: false,
        is_symlink: false,
        changed: inode.changed,
    }
}

/// A file that a process has open.
#[derive(Debug)]
pub(in crate::vault) struct OpenFile {
    process: Process,
    number: u64,
}

impl OpenFile {
    fn with<T>(&self, work: impl FnOnce(&mut Inode, u64, i128) -> io::Result<T>) -> io::Result<T> {
        let mut machine = locked(&self.process.world.machine);
        let (free, time) = (machine.free_pages(), machine.tick());
        let inode = machine.inodes.get_mut(&self.number).ok_or_else(|| failed(nix::libc::ESTALE))?;
        work(inode, free, time)
    }

    pub(super) fn facts(&self) -> io::Result<Facts> {
        self.process.ask(Op::Read, 0)?;
        self.with(|inode, _, _| Ok(facts_of(self.number, inode)))
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.process.ask(Op::Read, buffer.len())?;
        self.with(|inode, _, _| {
            let rest = usize::try_from(offset).ok().and_then(|offset| inode.visible.get(offset..));
            let rest = rest.unwrap_or_default();
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        })
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let stop = self.process.ask(Op::Write, bytes.len())?;
        let wanted = stop.map_or(bytes.len(), |(n, _)| n.min(bytes.len()));
        self.with(|inode, free, time| {
            let room = inode.room_for(free, offset);
            let n = wanted.min(room);
            inode.write(offset, &bytes[..n], time);
            match stop {
                // What a killed process had written so far is there; it does not hear of it.
                Some((_, errno)) => Err(failed(errno)),
                None if n == 0 && !bytes.is_empty() => Err(failed(nix::libc::ENOSPC)),
                None => Ok(n),
            }
        })
    }

    pub(super) fn truncate(&self, len: u64) -> io::Result<()> {
        self.process.ask(Op::Truncate, 0)?;
        self.with(|inode, _, time| {
            inode.truncate(len, time);
            Ok(())
        })
    }

    pub(super) fn allocate(&self, end: u64) -> io::Result<()> {
        self.process.ask(Op::Allocate, 0)?;
        self.with(
            |inode, free, time| {
                if inode.allocate(end, free, time) { Ok(()) } else { Err(failed(nix::libc::ENOSPC)) }
            },
        )
    }

    /// A failed sync writes what `after` says: each bit, from the lowest on, whether one of the pages was written.
    pub(super) fn sync(&self, op: Op) -> io::Result<()> {
        let stop = self.process.ask(op, 0)?;
        self.with(|inode, _, _| match stop {
            None => {
                inode.sync();
                Ok(())
            }
            Some((written, errno)) => {
                inode.fail_sync(written);
                Err(failed(errno))
            }
        })
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut machine = locked(&self.process.world.machine);
        if let Some(inode) = machine.inodes.get_mut(&self.number) {
            inode.opens = inode.opens.saturating_sub(1);
        }
        machine.drop_unreachable();
    }
}
