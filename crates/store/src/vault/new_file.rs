//! Writing the vault file anew: beside the old one, durable, with its room allocated, and only then in its place.

use std::path::Path;

use super::disk::{Disk, DiskFile, is_full};
use super::place::{self, Place};
use super::write::ROOM;
use crate::StoreError;

/// Bytes gathered before they are written, and copied at a time.
const BUFFER: usize = 256 * 1024;

/// `<vault>.new` while it is being written. Dropped unfinished, it is removed.
#[derive(Debug)]
pub(super) struct NewFile<'a> {
    disk: &'a Disk,
    place: &'a Place,
    file: DiskFile,
    written: u64,
    buffer: Vec<u8>,
    finished: bool,
}

impl<'a> NewFile<'a> {
    /// Starts one. Whoever calls holds the writer lock, so that a leftover belongs to nobody.
    pub(super) fn create(disk: &'a Disk, place: &'a Place) -> Result<Self, StoreError> {
        disk.discard(&place.new).map_err(|error| place::unwritable(&place.new, error))?;
        let file = disk.create(&place.new).map_err(|error| place::unwritable(&place.new, error))?;
        Ok(Self { disk, place, file, written: 0, buffer: Vec::with_capacity(BUFFER), finished: false })
    }

    /// The vault that it will replace.
    pub(super) fn path(&self) -> &Path {
        &self.place.file
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Copies `len` bytes at `offset` of `from`.
    pub(super) fn copy(&mut self, from: &DiskFile, offset: u64, len: u64) -> Result<(), StoreError> {
        let mut copied = 0;
        while copied < len {
            let part = usize::try_from(len - copied).unwrap_or(BUFFER).min(BUFFER / 2);
            let mut bytes = vec![0; part];
            let read = from
                .read_at(&mut bytes, offset + copied)
                .map_err(|error| place::io("reading", &self.place.file, error))?;
            if read < part {
                let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(place::io("reading", &self.place.file, ended));
            }
            self.push(&bytes)?;
            copied += part as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.file
            .write_at(&self.buffer, self.written)
            .map_err(|error| place::unwritable(&self.place.file, error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable and puts it in the vault's place. Its room is allocated before the old file is let go.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.seal()?;
        self.put_in_place()
    }

    /// Makes it durable, with its room allocated.
    pub(super) fn seal(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        match self.file.allocate(self.written, self.written + ROOM) {
            Ok(_) => {}
            Err(error) if is_full(&error) => return Err(place::unwritable(&self.place.file, error)),
            // What cannot be allocated for another reason cannot be promised; the write itself may still go through.
            Err(error) => tracing::debug!(%error, "no room could be allocated in the new file"),
        }
        self.file.sync_all().map_err(|source| StoreError::Unsynced { source })
    }

    /// Puts a file that was made durable in the vault's place.
    pub(super) fn put_in_place(mut self) -> Result<(), StoreError> {
        self.rename(&self.place.file)
    }

    /// Makes it durable under another name beside the vault's, at which nothing stands.
    pub(super) fn keep_as(mut self, name: &Path) -> Result<(), StoreError> {
        self.flush()?;
        self.file.sync_all().map_err(|source| StoreError::Unsynced { source })?;
        self.rename(name)
    }

    fn rename(&mut self, name: &Path) -> Result<(), StoreError> {
        self.disk.rename(&self.place.new, name).map_err(|error| place::unwritable(name, error))?;
        self.finished = true;
        self.disk.sync_folder(&self.place.folder).map_err(|source| StoreError::Unsynced { source })
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // What stays behind is removed by the next who writes the file anew.
            let _ = self.disk.discard(&self.place.new);
        }
    }
}
