//! Writing the file anew without what is dead: byte for byte, in its order, and with every damage that nothing has
//! replaced.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::frame::{FrameKind, HEAD_LEN, Head, Header, Tag};
use super::lock::Held;
use super::log::{At, HeadState};
use super::new_file::NewFile;
use super::place;
use super::view::{Shared, View};
use crate::StoreError;

/// Dead bytes below this are left alone.
const COMPACT_ABOVE: u64 = 256 * 1024;

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
    ///
    /// The file is read once more for it: what this drops is gone, and a handle's view may be of frames that another
    /// writer cut off and wrote over since.
    pub(super) fn rewrite(&self, view: &mut View, change: Rewrite<'_>) -> Result<(), StoreError> {
        self.reload(view)?;
        if change.clear && view.log.ways.is_none() {
            return Err(StoreError::Corrupt {
                what: "the list of ways in is nowhere to be found, and a cleared vault without one would open for \
                       nobody; nothing was cleared"
                    .to_owned(),
            });
        }
        let replaced = view.id;
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
            self.copy_live(&mut new, view)?;
        }
        if let Some((frame, _)) = change.appended {
            new.push(frame)?;
        }
        let finished = new.finish();
        self.seq_floor.fetch_max(next_seq, Ordering::SeqCst);
        // Past the rename the new file is in place, whether or not the folder could be synced.
        self.refresh(view)?;
        if finished.is_err() && view.id != replaced {
            // After a power cut the folder may still name the old file: nothing that is appended here is durable.
            self.distrust(view.id);
        }
        finished
    }

    /// Copies entries, notes and damage in the order in which they stand, neighbours in one go.
    fn copy_live(&self, new: &mut NewFile<'_>, view: &View) -> Result<(), StoreError> {
        let log = &view.log;
        let mut kept = std::mem::take(&mut *LIST.lock().unwrap_or_else(PoisonError::into_inner));
        kept.clear();
        kept.reserve(log.entries.len() + log.notes.len());
        for (tag, entry) in &log.entries {
            // A removal matters only where damage before it may have held the entry, or where it is damaged itself.
            if entry.removed && log.damage.is_empty() && self.check_removal(&view.file, tag, entry.at).is_ok()
            {
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
        for (offset, len, what) in kept.drain(..) {
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
        if kept.capacity() <= LONGEST_LIST {
            *LIST.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        }
        new.copy(&view.file, run.start, run.end - run.start)
    }
}

pub(super) fn compaction_is_due(view: &View) -> bool {
    let dead = view.log.dead();
    dead > COMPACT_ABOVE && dead > view.log.live
}

/// Where what is kept stands, how long it is, and what it is. For the reason why there is one list, and it is used again,
/// see `index.rs`.
static LIST: Mutex<Vec<(u64, u64, Kept)>> = Mutex::new(Vec::new());
/// A longer one is not kept for the next.
const LONGEST_LIST: usize = 256 * 1024;

/// One thing that a rewrite keeps.
enum Kept {
    Frame(FrameKind, Tag, At),
    Damage,
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
    let read = view
        .file
        .read_at(&mut body, at.offset + HEAD_LEN as u64)
        .map_err(|error| place::io("reading", new.path(), error))?;
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
