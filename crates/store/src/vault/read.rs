//! Reading: at a glance where that takes microseconds, and thoroughly where it takes longer.
//!
//! A glance never waits for a writer, not even for one that is writing the whole file anew: until it is renamed, the old
//! file is the vault. What a glance cannot tell (another file, much that is new, damage) a thorough look can, which
//! blocks and belongs on a thread that may.

use std::sync::{Arc, MutexGuard, PoisonError};

use tokenkeep_secret::Secret;

use super::disk::DiskFile;
use super::frame::{FrameKind, Tag};
use super::log::At;
use super::place;
use super::view::{Shared, View, doubtful, read_record, scan_failed};
use crate::{Entry, Key, Note, Revision, StoreError};

/// Reading more than this of the file is no glance.
pub(super) const GLANCE_BYTES: u64 = 1024 * 1024;
/// Opening a longer record is no glance: 64 KiB take some tens of microseconds.
const GLANCE_BODY: u32 = 64 * 1024;
/// Listing more entries than this is no glance: each is decrypted.
const GLANCE_ENTRIES: usize = 64;

/// A record that was found, and the file that it stands in: good also when another file has taken its place.
struct Found {
    file: Arc<DiskFile>,
    at: At,
}

impl Shared {
    /// The entry, or `None` if that takes more than a glance.
    pub(super) fn glance_at_entry(&self, key: &Key) -> Option<Option<Entry>> {
        let tag = self.keys.tag_of(key.as_str());
        match self.glance(|view| self.find(view, &tag))? {
            None => Some(None),
            Some(found) if found.at.len > GLANCE_BODY => None,
            Some(found) => self.read_entry(&tag, &found).ok().map(Some),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let tag = self.keys.tag_of(key.as_str());
        let read = |found: Option<Found>| found.map(|found| self.read_entry(&tag, &found)).transpose();
        self.thoroughly(|view| self.find(view, &tag), read)
    }

    /// The revision, or `None` if that takes more than a glance.
    pub(super) fn glance_at_revision(&self, key: &Key) -> Option<Option<Revision>> {
        let tag = self.keys.tag_of(key.as_str());
        let at = self.glance(|view| self.entry(view, &tag))?;
        Some(at.map(|at| Revision::new(at.seq)))
    }

    pub(super) fn revision(&self, key: &Key) -> Result<Option<Revision>, StoreError> {
        let tag = self.keys.tag_of(key.as_str());
        let at = self.thoroughly(|view| self.entry(view, &tag), Ok)?;
        Ok(at.map(|at| Revision::new(at.seq)))
    }

    /// The note, or `None` if that takes more than a glance.
    pub(super) fn glance_at_note(&self, key: &Key) -> Option<Option<Note>> {
        let tag = self.keys.tag_of(key.as_str());
        match self.glance(|view| find_note(view, &tag))? {
            None => Some(None),
            Some(found) => self.read_note(&tag, &found).ok().map(Some),
        }
    }

    /// A note that cannot be read, and not when the file is read once more either, is no note.
    pub(super) fn note(&self, key: &Key) -> Result<Option<Note>, StoreError> {
        let tag = self.keys.tag_of(key.as_str());
        let read = |found: Option<Found>| found.map(|found| self.read_note(&tag, &found)).transpose();
        match self.thoroughly(|view| find_note(view, &tag), read) {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            other => other,
        }
    }

    /// The keys, or `None` if that takes more than a glance.
    pub(super) fn glance_at_keys(&self) -> Option<Vec<Key>> {
        let few = |view: &View| match view.log.entries.len() {
            0..=GLANCE_ENTRIES => listed(view),
            many => Err(format!("there are {many} entries")),
        };
        self.read_keys(&self.glance(few)?).ok()
    }

    pub(super) fn keys(&self) -> Result<Vec<Key>, StoreError> {
        self.thoroughly(listed, |view| self.read_keys(&view))
    }

    fn find(&self, view: &View, tag: &Tag) -> Result<Option<Found>, String> {
        Ok(self.entry(view, tag)?.map(|at| Found { file: Arc::clone(&view.file), at }))
    }

    fn read_entry(&self, tag: &Tag, found: &Found) -> Result<Entry, String> {
        let Found { file, at } = found;
        let record = read_record(file, &self.keys, FrameKind::Put, tag, *at)
            .map_err(|why| format!("the entry at byte {} of the vault: {why}", at.offset))?;
        Ok(Entry::new(Secret::from(record.value()), Revision::new(at.seq)))
    }

    fn read_note(&self, tag: &Tag, found: &Found) -> Result<Note, String> {
        let record = read_record(&found.file, &self.keys, FrameKind::Note, tag, found.at)?;
        Note::new(record.value().to_vec()).map_err(|error| error.to_string())
    }

    fn read_keys(&self, view: &View) -> Result<Vec<Key>, String> {
        let mut keys = Vec::with_capacity(view.log.entries.len());
        for (tag, entry) in &view.log.entries {
            if entry.removed {
                self.check_removal(&view.file, tag, entry.at)?;
                continue;
            }
            let record = read_record(&view.file, &self.keys, FrameKind::Put, tag, entry.at)
                .map_err(|why| format!("the entry at byte {} of the vault: {why}", entry.at.offset))?;
            keys.push(Key::new(record.key()).map_err(|_| "an entry without a name".to_owned())?);
        }
        keys.sort();
        Ok(keys)
    }

    pub(super) fn lock_seen(&self) -> MutexGuard<'_, View> {
        // As with the writers' view: what a panic left is checked against the file.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives readers what a writer knows, where that is another file than theirs: else each would scan it for itself.
    pub(super) fn show(&self, view: &View) {
        if self.lock_seen().id != view.id {
            self.see(view.clone());
        }
    }

    pub(super) fn see(&self, view: View) {
        // What was seen before is dropped only when this is unlocked.
        let _before = std::mem::replace(&mut *self.lock_seen(), view);
    }

    /// What `find` finds in the file as it is now; `None` if there is much to read before that can be told, or damage.
    fn glance<T>(&self, find: impl FnOnce(&View) -> Result<T, String>) -> Option<T> {
        let mut seen = self.lock_seen();
        let len = self.disk.facts(&self.place.file).ok().filter(|facts| facts.id == seen.id)?.len;
        if len.checked_sub(seen.log.end)? > GLANCE_BYTES {
            return None;
        }
        self.scan_on(&mut seen, len).ok()?;
        find(&seen).ok()
    }

    /// What `find` finds in the file as it is now, and `read` then reads. If that is damage, the file is opened and
    /// scanned once more before it is believed.
    fn thoroughly<F, T>(
        &self,
        find: impl Fn(&View) -> Result<F, String>,
        read: impl Fn(F) -> Result<T, String>,
    ) -> Result<T, StoreError> {
        let found = find(&self.latest()?);
        if let Ok(read) = found.and_then(&read) {
            return Ok(read);
        }
        let fresh = self.loaded()?;
        let found = find(&fresh);
        self.see(fresh);
        found.and_then(read).map_err(|what| StoreError::Corrupt { what })
    }

    /// What readers know, caught up with the file, however much there is to read. Waits for no writer, and no reader for it.
    /// What comes back is what was looked at: a view that was taken in before it may be put back in its place meanwhile.
    pub(super) fn latest(&self) -> Result<View, StoreError> {
        // Nobody waits for it but those who want the same.
        let _scanning = self.scanning.lock().unwrap_or_else(PoisonError::into_inner);
        let facts =
            self.disk.facts(&self.place.file).map_err(|error| place::unreadable(&self.place.file, error))?;
        let mut view = self.lock_seen().clone();
        if facts.id != view.id || facts.len < view.log.end {
            view = self.loaded()?;
        } else if facts.len > view.log.end {
            self.scan_on(&mut view, facts.len)?;
        } else {
            return Ok(view);
        }
        self.see(view.clone());
        Ok(view)
    }

    /// Takes in what was appended to the file, which now ends at `len`.
    pub(super) fn scan_on(&self, view: &mut View, len: u64) -> Result<(), StoreError> {
        if len > view.log.end {
            let file = Arc::clone(&view.file);
            view.log
                .scan(&file, len, Some(&self.keys), &mut |_| {})
                .map_err(|error| scan_failed(&self.place.file, error))?;
            self.note_highest(view);
        }
        Ok(())
    }
}

/// The note, unless damage may have held a newer one, or the only one.
fn find_note(view: &View, tag: &Tag) -> Result<Option<Found>, String> {
    let at = view.log.note(tag).map_err(doubtful)?;
    Ok(at.map(|at| Found { file: Arc::clone(&view.file), at }))
}

/// The view in which to list the keys, unless it cannot be told which there are.
fn listed(view: &View) -> Result<View, String> {
    view.log.damage.last().map_or_else(|| Ok(view.clone()), |damage| Err(doubtful(*damage)))
}
