//! Changing the file: comparing, appending a frame, and keeping room for the next.
//!
//! Everything here runs under the writer lock, blocks, and leaves nothing half-done when it fails.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokenkeep_secret::Secret;

use super::disk::{DiskFile, FileId, is_full};
use super::frame::{FrameKind, Tag, frame};
use super::lock::Held;
use super::log::At;
use super::place;
use super::rewrite::Rewrite;
use super::used::MARK_LEN;
use super::view::{Shared, View};
use crate::{Expected, Key, MAX_VALUE_BYTES, Note, Revision, StoreError};

/// More than the largest record has around its value: head, nonce, AEAD tag, MessagePack, and the longest key.
const RECORD_OVERHEAD: u64 = 1024;
/// The largest frame there can be.
const LARGEST_FRAME: u64 = MAX_VALUE_BYTES as u64 + RECORD_OVERHEAD;
/// Kept allocated past the end: the largest frame, and a few dozen notes beside it.
pub(super) const ROOM: u64 = MAX_VALUE_BYTES as u64 + 64 * 1024;
/// Allocated beyond that at a time, so that not every put has to ask.
const SLACK: u64 = 256 * 1024;

/// The error for a write that is done, and of which the system then would not say whether the path leads to it.
pub(super) fn unconfirmed(error: StoreError) -> StoreError {
    match error {
        StoreError::Unsynced { .. } => error,
        other => StoreError::Unsynced { source: std::io::Error::other(other.to_string()) },
    }
}

fn usable(seq: u64) -> Result<u64, StoreError> {
    let used_up = || StoreError::Corrupt {
        what: "the revisions of this vault are used up: nothing more can be written to it".to_owned(),
    };
    (seq < u64::MAX).then_some(seq).ok_or_else(used_up)
}

/// What an append may do with the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Leave all of it untouched, or fail.
    Keep,
    /// Leave enough for the largest frame, or fail: a note under a lease.
    KeepOneFrame,
    /// Use it: the put for which it is kept.
    Use,
}

impl Shared {
    /// The current view, of a file that can be written, whose syncs can be trusted, and that ends with a whole frame.
    pub(super) fn writable(&self, _writer: &Held) -> Result<MutexGuard<'_, View>, StoreError> {
        let mut view = self.current()?;
        self.ensure_writable(&mut view)?;
        if self.distrusts(view.id) {
            self.rewrite(&mut view, Rewrite::default())?;
        }
        // Before anything is compared: they may read the file once more.
        self.look_at_last(&mut view)?;
        self.cut_tail(&mut view)?;
        if view.log.has_cut_body {
            self.rewrite(&mut view, Rewrite::default())?;
        }
        self.settle(&mut view)?;
        Ok(view)
    }

    /// Opens the file for writing if that was not possible, or not tried, before.
    pub(super) fn ensure_writable(&self, view: &mut View) -> Result<(), StoreError> {
        if !view.file.writable() {
            let file = self
                .disk
                .open(&self.place.file, true)
                .map_err(|error| place::unwritable(&self.place.file, error))?;
            let facts = file.facts().map_err(|error| place::io("reading", &self.place.file, error))?;
            if facts.id == view.id {
                view.file = Arc::new(file);
            } else {
                self.reload(view)?;
            }
        }
        Ok(())
    }

    fn distrusts(&self, id: FileId) -> bool {
        *self.distrusted.lock().unwrap_or_else(PoisonError::into_inner) == Some(id)
    }

    /// Whether a file is distrusted: then the next writer looks if it is still that one. Waits for nobody.
    pub(super) fn has_distrusted(&self) -> bool {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// After the file was written anew: whatever was distrusted is gone, and its inode may be another file's.
    pub(super) fn trust_again(&self) {
        *self.distrusted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn distrust(&self, id: FileId) {
        *self.distrusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    /// Compares what is stored with what is expected to be.
    fn check_expected(
        &self,
        view: &mut View,
        tag: &Tag,
        expected: Expected,
    ) -> Result<Option<At>, StoreError> {
        let mut found = self.entry(view, tag);
        if found.is_err() {
            self.reload(view)?;
            found = self.entry(view, tag);
        }
        let stored = match (found, expected) {
            (Ok(stored), _) => stored,
            // Whatever was there, it is replaced.
            (Err(_), Expected::Any) => return Ok(None),
            (Err(what), _) => return Err(StoreError::Corrupt { what }),
        };
        let revision = stored.map(|at| Revision::new(at.seq));
        let as_expected = match expected {
            Expected::Any => true,
            Expected::Absent => revision.is_none(),
            Expected::At(wanted) => revision == Some(wanted),
        };
        if as_expected { Ok(stored) } else { Err(StoreError::Conflict { stored: revision }) }
    }

    pub(super) fn put(
        &self,
        writer: &Held,
        key: &Key,
        value: &Secret,
        expected: Expected,
        room: Room,
    ) -> Result<Revision, StoreError> {
        let mut view = self.writable(writer)?;
        let tag = self.keys.tag_of(key.as_str());
        self.check_expected(&mut view, &tag, expected)?;
        let seq = self.next_seq(&view);
        let frame = self.sealed_at(view.log.end, FrameKind::Put, seq, key.as_str(), tag, value.expose())?;
        let mut view = self.append(view, &frame, seq, room)?;
        self.compact_if_due(&mut view);
        Ok(Revision::new(seq))
    }

    /// Appends the removal, makes it durable, and drops the old bytes.
    pub(super) fn remove(&self, writer: &Held, key: &Key, expected: Expected) -> Result<(), StoreError> {
        let mut view = self.writable(writer)?;
        let tag = self.keys.tag_of(key.as_str());
        let stored = self.check_expected(&mut view, &tag, expected)?;
        let nothing_there = stored.is_none() && self.entry(&view, &tag).is_ok();
        if nothing_there && !view.log.notes.contains_key(&tag) && view.log.damage.is_empty() {
            return Ok(());
        }
        let seq = self.next_seq(&view);
        let frame = self.sealed_at(view.log.end, FrameKind::Removed, seq, key.as_str(), tag, &[])?;
        let mut view = self.append(view, &frame, seq, Room::Keep)?;
        if let Err(error) = self.rewrite(&mut view, Rewrite::default()) {
            tracing::warn!(%error, "removed, but its old bytes stay in the file until it can be written anew");
        }
        Ok(())
    }

    pub(super) fn clear(&self, writer: &Held) -> Result<(), StoreError> {
        let mut view = self.writable(writer)?;
        let log = &view.log;
        if log.entries.is_empty() && log.notes.is_empty() && log.damage.is_empty() {
            return Ok(());
        }
        self.rewrite(&mut view, Rewrite { clear: true, ..Rewrite::default() })
    }

    /// Appends a note.
    pub(super) fn set_note(&self, writer: &Held, key: &Key, note: &Note) -> Result<(), StoreError> {
        let view = self.writable(writer)?;
        let tag = self.keys.tag_of(key.as_str());
        let seq = self.next_seq(&view);
        let frame = self.sealed_at(view.log.end, FrameKind::Note, seq, key.as_str(), tag, note.as_bytes())?;
        let mut view = self.append(view, &frame, seq, Room::KeepOneFrame)?;
        self.compact_if_due(&mut view);
        Ok(())
    }

    /// Makes sure that one put under a lease finds its space.
    pub(super) fn promise_room(&self) -> Result<(), StoreError> {
        let mut view = self.current()?;
        loop {
            self.ensure_writable(&mut view)?;
            // What this handle has seen allocated, another may have cut off.
            view.allocated_until = 0;
            let end = view.log.end;
            self.unchanged_by(&mut view, |view| self.make_room(view, end, Room::Keep))?;
            let id = view.id;
            self.refresh(&mut view)?;
            if view.id == id {
                return Ok(());
            }
        }
    }

    /// A frame for a file that is written as a whole.
    pub(super) fn sealed(
        &self,
        kind: FrameKind,
        seq: u64,
        key: &str,
        tag: Tag,
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let body = self.keys.seal(kind, usable(seq)?, key, value);
        Ok(frame(kind, seq, tag, &body.map_err(|error| self.no_nonce(&error))?))
    }

    /// A frame that is appended at `at` of the file.
    fn sealed_at(
        &self,
        at: u64,
        kind: FrameKind,
        seq: u64,
        key: &str,
        tag: Tag,
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let body = self.keys.seal_at(at, kind, usable(seq)?, key, value);
        Ok(frame(kind, seq, tag, &body.map_err(|error| self.no_nonce(&error))?))
    }

    fn no_nonce(&self, error: &getrandom::Error) -> StoreError {
        place::io("making a nonce for", &self.place.file, std::io::Error::other(error.to_string()))
    }

    /// Writes `frame` behind the last one, and makes it durable. Readers go on meanwhile: the view is not held while the
    /// disk works.
    fn append<'v>(
        &'v self,
        mut view: MutexGuard<'v, View>,
        frame: &[u8],
        seq: u64,
        room: Room,
    ) -> Result<MutexGuard<'v, View>, StoreError> {
        let at = view.log.end;
        self.make_room(&mut view, at + frame.len() as u64, room)?;
        let (file, id) = (Arc::clone(&view.file), view.id);
        drop(view);
        // What is left there by now is a mark: see `keep_mark`.
        let facts = file.facts().map_err(|error| place::io("reading", &self.place.file, error))?;
        let marked = facts.len > at;
        if marked {
            self.renew_mark(&file, id, frame, at)?;
        }

        if let Err(error) = file.write_at(frame, at) {
            let mut view = self.lock_view();
            let kept = if marked { MARK_LEN as u64 } else { 0 };
            if let Err(error) = self.cut(&mut view, &file, at + kept) {
                tracing::warn!(%error, "what a failed write left behind could not be cut off; the next writer does it");
            }
            return Err(place::unwritable(&self.place.file, error));
        }
        if let Err(error) = file.sync_data() {
            tracing::warn!(%error, "a sync failed: the vault file is written anew, since this one cannot be trusted now");
            let mut view = self.lock_view();
            self.distrust(id);
            // Others may have read it at this revision: no other value gets it.
            self.reserve(seq.saturating_add(1));
            // So that a new try is not beaten by the frame that may, or may not, be on the disk.
            if let Err(error) = file.truncate(at + MARK_LEN as u64) {
                tracing::warn!(%error, "the frame whose sync failed could not be cut off");
            }
            view.allocated_until = 0;
            self.rewrite(&mut view, Rewrite { appended: Some((frame, seq)), ..Rewrite::default() })
                .map_err(|_| StoreError::Unsynced { source: error })?;
            return Ok(view);
        }
        let mut view = self.lock_view();
        // It is durable, but not known to be what the path leads to.
        self.refresh(&mut view).map_err(unconfirmed)?;
        if view.id != id {
            return Err(StoreError::Unsynced {
                source: std::io::Error::other(
                    "another program replaced the vault file while it was being written",
                ),
            });
        }
        self.mark_clean(&view);
        Ok(view)
    }

    /// Cuts the file at `at`, durably, and takes back the room that this gives away.
    pub(super) fn cut(&self, view: &mut View, file: &DiskFile, at: u64) -> Result<(), StoreError> {
        let unwritable = |error| place::unwritable(&self.place.file, error);
        view.allocated_until = 0;
        file.truncate(at).map_err(unwritable)?;
        // Before anything is written there again: else a power cut could leave a mixture of both.
        let synced = file.sync_all();
        if let Err(error) = self.make_room(view, at, Room::Keep) {
            tracing::warn!(%error, "the room of the vault could not be allocated again");
        }
        if let Err(source) = synced {
            self.distrust(view.id);
            return Err(StoreError::Unsynced { source });
        }
        self.mark_clean(view);
        Ok(())
    }

    /// Cuts off what an append that was killed has left behind the last frame.
    fn cut_tail(&self, view: &mut View) -> Result<(), StoreError> {
        let len = view.file.facts().map_err(|error| place::io("reading", &self.place.file, error))?.len;
        if len <= view.log.end {
            return Ok(());
        }
        self.heed_tail(view)?;
        // Cutting gives back the room that a lease elsewhere counts on; a new file has its own before this one is let go.
        match self.rewrite(view, Rewrite::default()) {
            Err(StoreError::Full { .. }) => self.keep_mark(view),
            other => other,
        }
    }

    /// Allocates what must be there when the file has grown to `until`.
    fn make_room(&self, view: &mut View, until: u64, room: Room) -> Result<(), StoreError> {
        let want = until + if room == Room::KeepOneFrame { LARGEST_FRAME } else { ROOM };
        if view.allocated_until >= want {
            return Ok(());
        }
        let from = view.log.end;
        let mut allocated = view.file.allocate(from, want + SLACK).map(|promised| (promised, want + SLACK));
        if allocated.as_ref().is_err_and(is_full) {
            allocated = view.file.allocate(from, want).map(|promised| (promised, want));
        }
        match allocated {
            Ok((true, until)) => view.allocated_until = until,
            Ok((false, _)) => {
                self.promises_room.store(false, Ordering::SeqCst);
                view.allocated_until = u64::MAX;
            }
            // The put for which the room was kept.
            Err(_) if room == Room::Use => {}
            Err(error) => return Err(place::unwritable(&self.place.file, error)),
        }
        Ok(())
    }
}
