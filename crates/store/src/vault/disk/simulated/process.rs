//! What a process asks of the simulated disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{Facts, FileId, Op};
use super::inode::Inode;
use super::{Event, Moment, World, locked};

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

    pub(in crate::vault::disk) fn lock_file(&self) -> PathBuf {
        self.world.lock_folder.path().join("lock")
    }

    pub(in crate::vault::disk) fn facts(&self, path: &Path) -> io::Result<Facts> {
        if path.extension().is_some_and(|extension| extension == "lock") {
            return std::fs::symlink_metadata(self.lock_file()).map(|meta| Facts::of(&meta));
        }
        self.ask(Op::Read, 0)?;
        let machine = locked(&self.world.machine);
        let number = *machine.names.get(path).ok_or_else(|| failed(nix::libc::ENOENT))?;
        let inode = machine.inodes.get(&number).ok_or_else(|| failed(nix::libc::ENOENT))?;
        Ok(facts_of(number, inode))
    }

    pub(in crate::vault::disk) fn folder_facts(&self, path: &Path) -> io::Result<Facts> {
        self.ask(Op::Read, 0)?;
        if path != Path::new("/simulated") {
            return Err(failed(nix::libc::ENOENT));
        }
        let inode = Inode::durable(Vec::new());
        Ok(Facts { mode: 0o700, is_file: false, is_folder: true, ..facts_of(0, &inode) })
    }

    pub(in crate::vault::disk) fn open(&self, path: &Path) -> io::Result<OpenFile> {
        self.ask(Op::Read, 0)?;
        let mut machine = locked(&self.world.machine);
        let number = *machine.names.get(path).ok_or_else(|| failed(nix::libc::ENOENT))?;
        let inode = machine.inodes.get_mut(&number).ok_or_else(|| failed(nix::libc::ENOENT))?;
        inode.opens += 1;
        Ok(OpenFile { process: self.clone(), number })
    }

    pub(in crate::vault::disk) fn create(&self, path: &Path) -> io::Result<OpenFile> {
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

    pub(in crate::vault::disk) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Op::Rename, 0)?;
        let mut machine = locked(&self.world.machine);
        let number = *machine.names.get(from).ok_or_else(|| failed(nix::libc::ENOENT))?;
        machine.changed_name(|names| {
            names.remove(from);
            names.insert(to.to_owned(), number);
        });
        Ok(())
    }

    pub(in crate::vault::disk) fn discard(&self, path: &Path) -> io::Result<()> {
        self.ask(Op::Discard, 0)?;
        let mut machine = locked(&self.world.machine);
        if machine.names.contains_key(path) {
            machine.changed_name(|names| {
                names.remove(path);
            });
        }
        Ok(())
    }

    pub(in crate::vault::disk) fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
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

    pub(in crate::vault::disk) fn facts(&self) -> io::Result<Facts> {
        self.process.ask(Op::Read, 0)?;
        self.with(|inode, _, _| Ok(facts_of(self.number, inode)))
    }

    pub(in crate::vault::disk) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.process.ask(Op::Read, buffer.len())?;
        self.with(|inode, _, _| {
            let rest = usize::try_from(offset).ok().and_then(|offset| inode.visible.get(offset..));
            let rest = rest.unwrap_or_default();
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        })
    }

    pub(in crate::vault::disk) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
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

    pub(in crate::vault::disk) fn truncate(&self, len: u64) -> io::Result<()> {
        self.process.ask(Op::Truncate, 0)?;
        self.with(|inode, _, time| {
            inode.truncate(len, time);
            Ok(())
        })
    }

    pub(in crate::vault::disk) fn allocate(&self, end: u64) -> io::Result<()> {
        self.process.ask(Op::Allocate, 0)?;
        self.with(
            |inode, free, time| {
                if inode.allocate(end, free, time) { Ok(()) } else { Err(failed(nix::libc::ENOSPC)) }
            },
        )
    }

    /// A failed sync writes what `after` says: each bit, from the lowest on, whether one of the pages was written.
    pub(in crate::vault::disk) fn sync(&self, op: Op) -> io::Result<()> {
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
