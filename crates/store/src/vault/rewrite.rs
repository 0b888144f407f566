//! Writing the file anew without what is dead: byte for byte, in its order, and with every damage that nothing has
//! replaced.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::frame::{FrameKind, HEAD_LEN, Head, Header, STOP, Tag};
use super::log::{At, HeadState};
use super::new_file::NewFile;
use super::place;
use super::view::{Shared, View};
use super::write::unconfirmed;
use crate::StoreError;

/// Dead bytes below this are left alone.
const COMPACT_ABOVE: u64 = 256 * 1024;
/// Read at a time.
const PIECE: usize = 256 * 1024;

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
        // Clearing uses one up: a copy from before it has less then, and is told from what is put back.
        let mut next_seq = self.next_seq(view).saturating_add(u64::from(change.clear));
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
        self.reserve(next_seq);
        // Past the rename the new file is in place, whether or not the folder could be synced.
        let refreshed = self.refresh(view);
        match &finished {
            Ok(()) => {
                refreshed.map_err(unconfirmed)?;
                self.trust_again();
                self.mark_clean(view);
            }
            // After a power cut the folder may still name the old file: nothing that is appended here is durable.
            Err(_) if view.id != replaced => self.distrust(view.id),
            Err(_) => {}
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
        // At the end of the file a damaged body could be taken for a torn one, which is ignored.
        if let Some((.., Kept::Frame(_, _, at))) = kept.last_mut()
            && at.head == HeadState::Valid
            && !is_whole(view, new.path(), *at)?
        {
            at.head = HeadState::BodyCut;
        }

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

fn compaction_is_due(view: &View) -> bool {
    let dead = view.log.dead();
    dead > COMPACT_ABOVE && dead > view.log.live
}

/// Where what is kept stands, how long it is, and what it is. For the reason why there is one list, and it is used again,
/// see `index.rs`.
static LIST: Mutex<Vec<(u64, u64, Kept)>> = Mutex::new(Vec::new());
/// A longer one is not kept for the next.
const LONGEST_LIST: usize = 256 * 1024;

/// Whether a frame's body is what its head says. A body that the system does not read now is not damaged for that.
fn is_whole(view: &View, path: &Path, at: At) -> Result<bool, StoreError> {
    let mut head = [0; HEAD_LEN];
    let read = view.file.read_at(&mut head, at.offset).map_err(|error| place::io("reading", path, error))?;
    let crc = checksum(view, path, at.offset + HEAD_LEN as u64, u64::from(at.len))?;
    Ok(Head::decode(&head[..read]).is_some_and(|head| head.body_crc == crc))
}

/// One thing that a rewrite keeps.
enum Kept {
    Frame(FrameKind, Tag, At),
    Damage,
}

/// Copies a frame. A head that had to be rebuilt is written whole again; a body that is cut short gets a head that says
/// how much of it is left, and a checksum that it cannot match.
pub(super) fn copy_frame(
    new: &mut NewFile<'_>,
    view: &View,
    kind: FrameKind,
    tag: Tag,
    at: At,
) -> Result<(), StoreError> {
    if at.head == HeadState::Valid {
        return new.copy(&view.file, at.offset, at.size());
    }
    let (from, len) = (at.offset + HEAD_LEN as u64, u64::from(at.len));
    let mut head = Head {
        kind: kind.code(),
        len: at.len,
        seq: at.seq,
        tag,
        body_crc: checksum(view, new.path(), from, len)?,
    };
    if at.head == HeadState::BodyCut {
        head.body_crc = !head.body_crc;
    }
    new.push(&head.encode())?;
    new.copy(&view.file, from, len)
}

/// The checksum of a part of the file. It is read piece by piece: a head may promise gigabytes.
fn checksum(view: &View, path: &Path, from: u64, len: u64) -> Result<u32, StoreError> {
    let mut piece = vec![0; usize::try_from(len).unwrap_or(PIECE).min(PIECE)];
    let (mut crc, mut done) = (0, 0);
    while done < len {
        let want = usize::try_from(len - done).unwrap_or(PIECE).min(piece.len());
        let read = view
            .file
            .read_at(&mut piece[..want], from + done)
            .map_err(|error| place::io("reading", path, error))?;
        if read == 0 {
            break;
        }
        crc = crc32c::crc32c_append(crc, &piece[..read]);
        done += read as u64;
    }
    Ok(crc)
}

/// Copies damage, and sees to it that it cannot be taken for a torn tail where it now stands.
fn copy_damage(new: &mut NewFile<'_>, view: &View, offset: u64, len: u64) -> Result<(), StoreError> {
    new.copy(&view.file, offset, len)?;
    let mut last = [0; HEAD_LEN];
    let stopped = len >= HEAD_LEN as u64
        && view.file.read_at(&mut last, offset + len - HEAD_LEN as u64).is_ok_and(|read| read == HEAD_LEN)
        && last == STOP;
    if stopped { Ok(()) } else { new.push(&STOP) }
}
