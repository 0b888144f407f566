//! Changing the file: appending a frame, and writing the file anew without what is dead.
//!
//! Everything here runs under the writer lock, blocks, and leaves nothing half-done when it fails.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokenkeep_secret::Secret;

use super::disk::{FileId, is_full};
use super::frame::{FrameKind, HEAD_LEN, Head, Header, Tag, frame};
use super::lock::Held;
use super::log::{At, HeadState};
use super::new_file::NewFile;
use super::place;
use super::view::{Shared, View, doubtful};
use crate::{Expected, Key, MAX_VALUE_BYTES, Note, Revision, StoreError};

/// More than the largest record has around its value: head, nonce, AEAD tag, MessagePack, and the longest key.
const RECORD_OVERHEAD: u64 = 1024;
/// The largest frame there can be.
const LARGEST_FRAME: u64 = MAX_VALUE_BYTES as u64 + RECORD_OVERHEAD;
/// Kept allocated past the end: the largest frame, and a few dozen notes beside it.
pub(super) const ROOM: u64 = MAX_VALUE_BYTES as u64 + 64 * 1024;
/// Allocated beyond that at a time, so that not every put has to ask.
const SLACK: u64 = 256 * 1024;
/// Dead bytes below this are left alone.
const COMPACT_ABOVE: u64 = 256 * 1024;

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

/// What a rewrite leaves out or replaces.
#[derive(Default)]
pub(super) struct Rewrite<'a> {
    /// Entries, notes and damage are dropped.
    pub(super) clear: bool,
    /// A frame to put behind all others, and its seq.
    pub(super) appended: Option<(&'a [u8], u64)>,
    /// Way-in frames in place of those that are there, and the list of them.
    pub(super) ways: Option<NewWays>,
}

/// New ways in: their frames, the frame of their list, and its seq.
pub(super) struct NewWays {
    pub(super) ways_in: Vec<Vec<u8>>,
    pub(super) list: Vec<u8>,
    pub(super) seq: u64,
}

impl Shared {
    /// The current view, of a file that can be written and whose syncs can be trusted.
    pub(super) fn writable(&self, _writer: &Held) -> Result<MutexGuard<'_, View>, StoreError> {
        let mut view = self.current()?;
        self.ensure_writable(&mut view)?;
        if self.distrusts(view.id) {
            self.rewrite(&mut view, Rewrite::default())?;
        }
        Ok(view)
    }

    /// Opens the file for writing if that was not possible, or not tried, before.
    fn ensure_writable(&self, view: &mut View) -> Result<(), StoreError> {
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

    fn distrust(&self, id: FileId) {
        *self.distrusted.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    pub(super) fn next_seq(&self, view: &View) -> u64 {
        view.log.next_seq.max(self.seq_floor.load(Ordering::SeqCst))
    }

    /// Compares what is stored with what is expected to be.
    fn check_expected(
        &self,
        view: &mut View,
        tag: &Tag,
        expected: Expected,
    ) -> Result<Option<At>, StoreError> {
        let mut found = view.log.entry(tag);
        if found.is_err() {
            self.reload(view)?;
            found = view.log.entry(tag);
        }
        let stored = match (found, expected) {
            (Ok(stored), _) => stored,
            // Whatever was there, it is replaced.
            (Err(_), Expected::Any) => return Ok(None),
            (Err(damage), _) => return Err(StoreError::Corrupt { what: doubtful(damage) }),
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
        let frame = self.sealed(FrameKind::Put, seq, key.as_str(), tag, value.expose())?;
        let mut view = self.append(view, &frame, seq, room, true)?;
        self.compact_if_due(&mut view);
        Ok(Revision::new(seq))
    }

    /// Appends the removal, makes it durable, and drops the old bytes.
    pub(super) fn remove(&self, writer: &Held, key: &Key, expected: Expected) -> Result<(), StoreError> {
        let mut view = self.writable(writer)?;
        let tag = self.keys.tag_of(key.as_str());
        let stored = self.check_expected(&mut view, &tag, expected)?;
        if stored.is_none() && !view.log.notes.contains_key(&tag) && view.log.damage.is_empty() {
            return Ok(());
        }
        let seq = self.next_seq(&view);
        let frame = self.sealed(FrameKind::Removed, seq, key.as_str(), tag, &[])?;
        let mut view = self.append(view, &frame, seq, Room::Keep, true)?;
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

    /// Appends a note without waiting for the disk. `true` if the file should be written anew.
    pub(super) fn set_note(&self, writer: &Held, key: &Key, note: &Note) -> Result<bool, StoreError> {
        let view = self.writable(writer)?;
        let tag = self.keys.tag_of(key.as_str());
        let seq = self.next_seq(&view);
        let frame = self.sealed(FrameKind::Note, seq, key.as_str(), tag, note.as_bytes())?;
        let view = self.append(view, &frame, seq, Room::KeepOneFrame, false)?;
        Ok(compaction_is_due(&view))
    }

    /// Makes sure that one put under a lease finds its space.
    pub(super) fn promise_room(&self) -> Result<(), StoreError> {
        let mut view = self.current()?;
        loop {
            self.ensure_writable(&mut view)?;
            // What this handle has seen allocated, another may have cut off.
            view.allocated_until = 0;
            let end = view.log.end;
            self.make_room(&mut view, end, Room::Keep)?;
            let id = view.id;
            self.refresh(&mut view)?;
            if view.id == id {
                return Ok(());
            }
        }
    }

    pub(super) fn sealed(
        &self,
        kind: FrameKind,
        seq: u64,
        key: &str,
        tag: Tag,
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        if seq == u64::MAX {
            return Err(StoreError::Corrupt { what: "the vault's revisions are used up".to_owned() });
        }
        let body = self.keys.seal(kind, seq, key, value).map_err(|error| {
            place::io("making a nonce for", &self.place.file, std::io::Error::other(error.to_string()))
        })?;
        Ok(frame(kind, seq, tag, &body))
    }

    /// Writes `frame` behind the last one. Readers go on meanwhile: the view is not held while the disk works.
    fn append<'v>(
        &'v self,
        mut view: MutexGuard<'v, View>,
        frame: &[u8],
        seq: u64,
        room: Room,
        durable: bool,
    ) -> Result<MutexGuard<'v, View>, StoreError> {
        self.cut_tail(&mut view)?;
        let at = view.log.end;
        self.make_room(&mut view, at + frame.len() as u64, room)?;
        let (file, id) = (Arc::clone(&view.file), view.id);
        drop(view);

        if let Err(error) = file.write_at(frame, at) {
            let mut view = self.lock_view();
            if let Err(error) = file.truncate(at) {
                tracing::warn!(%error, "what a failed write left behind could not be cut off; the next writer does it");
            }
            // Cutting gave the room back too.
            view.allocated_until = 0;
            if let Err(error) = self.make_room(&mut view, at, Room::Keep) {
                tracing::warn!(%error, "the room of the vault could not be allocated again");
            }
            return Err(place::unwritable(&self.place.file, error));
        }
        if durable && let Err(error) = file.sync_data() {
            tracing::warn!(%error, "a sync failed: the vault file is written anew, since this one cannot be trusted now");
            let mut view = self.lock_view();
            self.distrust(id);
            // So that a new try is not beaten by the frame that may, or may not, be on the disk.
            if let Err(error) = file.truncate(at) {
                tracing::warn!(%error, "the frame whose sync failed could not be cut off");
            }
            view.allocated_until = 0;
            self.rewrite(&mut view, Rewrite { appended: Some((frame, seq)), ..Rewrite::default() })
                .map_err(|_| StoreError::Unsynced { source: error })?;
            return Ok(view);
        }
        let mut view = self.lock_view();
        self.refresh(&mut view)?;
        if view.id != id {
            return Err(StoreError::Unsynced {
                source: std::io::Error::other(
                    "another program replaced the vault file while it was being written",
                ),
            });
        }
        Ok(view)
    }

    /// Cuts off what an append that was killed has left behind the last frame.
    fn cut_tail(&self, view: &mut MutexGuard<'_, View>) -> Result<(), StoreError> {
        let len = view.file.facts().map_err(|error| place::io("reading", &self.place.file, error))?.len;
        let end = view.log.end;
        if len <= end {
            return Ok(());
        }
        // Cutting gives back the room that a lease elsewhere counts on; a new file has its own before this one is let go.
        match self.rewrite(view, Rewrite::default()) {
            Err(StoreError::Full { .. }) => {}
            other => return other,
        }
        // No space for a second file: cut here, and take the room back at once.
        view.file.truncate(end).map_err(|error| place::unwritable(&self.place.file, error))?;
        view.allocated_until = 0;
        if let Err(error) = self.make_room(view, end, Room::Keep) {
            tracing::warn!(%error, "a torn tail was cut off, and its room could not be allocated again");
        }
        Ok(())
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

    pub(super) fn compact_if_due(&self, view: &mut View) {
        if compaction_is_due(view)
            && let Err(error) = self.rewrite(view, Rewrite::default())
        {
            tracing::warn!(%error, "old bytes stay in the vault file until it can be written anew");
        }
    }

    /// Compacts after a note, which left it to its caller.
    pub(super) fn compact(&self, writer: &Held) -> Result<(), StoreError> {
        let mut view = self.writable(writer)?;
        self.compact_if_due(&mut view);
        Ok(())
    }

    /// Writes the file anew with what is live, byte for byte and in its order, and damage that nothing has replaced.
    pub(super) fn rewrite(&self, view: &mut View, change: Rewrite<'_>) -> Result<(), StoreError> {
        let mut new = NewFile::create(&self.disk, &self.place)?;
        let mut next_seq = self.next_seq(view);
        for seq in [change.appended.map(|(_, seq)| seq), change.ways.as_ref().map(|ways| ways.seq)]
            .into_iter()
            .flatten()
        {
            next_seq = next_seq.max(seq.saturating_add(1));
        }
        new.push(&Header { key_id: view.log.header.key_id, next_seq }.encode())?;
        match &change.ways {
            Some(ways) => {
                ways.ways_in.iter().try_for_each(|frame| new.push(frame))?;
                new.push(&ways.list)?;
            }
            None => {
                for at in &view.log.ways_in {
                    copy_frame(&mut new, view, FrameKind::WayIn, Tag::NONE, *at)?;
                }
                if let Some(at) = view.log.ways {
                    copy_frame(&mut new, view, FrameKind::Ways, Tag::NONE, at)?;
                }
            }
        }
        if !change.clear {
            copy_live(&mut new, view)?;
        }
        if let Some((frame, _)) = change.appended {
            new.push(frame)?;
        }
        let finished = new.finish();
        self.seq_floor.fetch_max(next_seq, Ordering::SeqCst);
        // Past the rename the new file is in place, whether or not the folder could be synced.
        self.refresh(view)?;
        finished
    }
}

pub(super) fn compaction_is_due(view: &View) -> bool {
    let dead = view.log.dead();
    dead > COMPACT_ABOVE && dead > view.log.live
}

/// One thing that a rewrite keeps.
enum Kept {
    Frame(FrameKind, Tag, At),
    Damage,
}

/// Copies entries, notes and damage in the order in which they stand, neighbours in one go.
fn copy_live(new: &mut NewFile<'_>, view: &View) -> Result<(), StoreError> {
    let log = &view.log;
    let mut kept: Vec<(u64, u64, Kept)> = Vec::with_capacity(log.entries.len() + log.notes.len());
    for (tag, entry) in &log.entries {
        // A removal matters only where damage before it may have held the entry.
        if entry.removed && log.damage.is_empty() {
            continue;
        }
        let kind = if entry.removed { FrameKind::Removed } else { FrameKind::Put };
        kept.push((entry.at.offset, entry.at.size(), Kept::Frame(kind, *tag, entry.at)));
    }
    kept.extend(
        log.notes.iter().map(|(tag, at)| (at.offset, at.size(), Kept::Frame(FrameKind::Note, *tag, *at))),
    );
    kept.extend(log.damage.iter().map(|damage| (damage.offset, damage.len, Kept::Damage)));
    kept.sort_unstable_by_key(|(offset, ..)| *offset);

    let mut run = 0..0;
    for (offset, len, what) in kept {
        if let Kept::Frame(_, _, At { head: HeadState::Valid, .. }) = what {
            if run.end != offset {
                new.copy(&view.file, run.start, run.end - run.start)?;
                run.start = offset;
            }
            run.end = offset + len;
            continue;
        }
        new.copy(&view.file, run.start, run.end - run.start)?;
        run = 0..0;
        match what {
            Kept::Frame(kind, tag, at) => copy_frame(new, view, kind, tag, at)?,
            Kept::Damage => copy_damage(new, view, offset, len)?,
        }
    }
    new.copy(&view.file, run.start, run.end - run.start)
}

/// Copies a frame. A head that had to be rebuilt is written whole again; a body that is cut short gets a head that says
/// how much of it is left, and a checksum that it cannot match.
fn copy_frame(
    new: &mut NewFile<'_>,
    view: &View,
    kind: FrameKind,
    tag: Tag,
    at: At,
) -> Result<(), StoreError> {
    if at.head == HeadState::Valid {
        return new.copy(&view.file, at.offset, at.size());
    }
    let mut body = vec![0; at.len as usize];
    let read = view.file.read_at(&mut body, at.offset + HEAD_LEN as u64).unwrap_or(0);
    body.truncate(read);
    let mut head = Head::of(kind, at.seq, tag, &body);
    if at.head == HeadState::BodyCut {
        head.body_crc = !head.body_crc;
    }
    new.push(&head.encode())?;
    new.push(&body)
}

/// Copies damage, and sees to it that it cannot be taken for a torn tail where it now stands.
fn copy_damage(new: &mut NewFile<'_>, view: &View, offset: u64, len: u64) -> Result<(), StoreError> {
    const STOP: [u8; HEAD_LEN] = [0xff; HEAD_LEN];
    new.copy(&view.file, offset, len)?;
    let mut last = [0; HEAD_LEN];
    let stopped = len >= HEAD_LEN as u64
        && view.file.read_at(&mut last, offset + len - HEAD_LEN as u64).is_ok_and(|read| read == HEAD_LEN)
        && last == STOP;
    if stopped { Ok(()) } else { new.push(&STOP) }
}
