//! Revisions that are used up though no frame has them any more, and files that have gone back.
//!
//! A frame is seen by everyone before it is synced. If its sync fails and the file cannot be written anew, the frame is
//! cut off, so that a new try is not beaten by it; but its revision has been seen, and never gets another value. The first
//! [`MARK_LEN`] bytes of it are left to say so, to every process: a *mark*. It is a torn tail to all who read.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::disk::{DiskFile, FileId};
use super::frame::{FRAME_MAGIC, HEAD_LEN};
use super::place;
use super::view::{Shared, View};
use crate::StoreError;

/// What is left of a frame whose sync failed: too little for any frame.
pub(super) const MARK_LEN: usize = HEAD_LEN - 1;
/// A seq in a torn tail says nothing if it is further ahead than this.
const PLAUSIBLE_STEP: u64 = 1 << 32;

/// The file with the highest next seq that was ever seen here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Highest {
    next_seq: u64,
    id: FileId,
}

impl Highest {
    pub(super) fn of(view: &View) -> Self {
        Self { next_seq: view.log.next_named, id: view.id }
    }
}

/// What a torn tail says of the seq that it had.
#[derive(Clone, Copy, Debug)]
struct Tail {
    len: u64,
    /// As it stands there, be it plausible or not; 0 if there is none.
    written: u64,
    /// One more than the seq that it used.
    next_seq: u64,
}

/// The torn tail of a file, if it has one. One that does not say which seq it had, as one that was lost with its sector,
/// has used the next: only one frame at a time is not durable.
fn tail(view: &View) -> io::Result<Option<Tail>> {
    let mut start = [0; 16];
    let read = view.file.read_at(&mut start, view.log.end)?;
    if read == 0 {
        return Ok(None);
    }
    let len = view.file.facts()?.len.saturating_sub(view.log.end);
    let written = start.last_chunk().map_or(0, |seq| u64::from_le_bytes(*seq));
    let is_seq = start.starts_with(FRAME_MAGIC)
        && written.checked_sub(view.log.next_seq).is_some_and(|step| step < PLAUSIBLE_STEP);
    let used = if is_seq { written } else { view.log.next_seq };
    Ok(Some(Tail { len, written, next_seq: used.saturating_add(1) }))
}

/// Whether a file that is seen now has less than one that was seen before. A frame that was seen, and is a torn tail now,
/// is no sign of it: its sync failed. In the same file that holds whatever the tail says: what a disk gives back of it may be
/// from before, as a mark that was written over.
pub(super) fn has_gone_back(before: Highest, now: &View) -> io::Result<bool> {
    if now.log.next_seq >= before.next_seq {
        return Ok(false);
    }
    Ok(!tail(now)?.is_some_and(|tail| {
        now.id == before.id || (tail.len == MARK_LEN as u64 && tail.next_seq >= before.next_seq)
    }))
}

/// The lowest seq from `next` on of which no byte is lower than that of `mark`: written over it, and stopped after any
/// byte, it leaves no lower one.
fn tear_proof(mark: u64, next: u64) -> u64 {
    let (mark, next) = (mark.to_le_bytes(), next.to_le_bytes());
    u64::from_le_bytes(std::array::from_fn(|byte| mark[byte].max(next[byte])))
}

impl Shared {
    /// The seq that the next frame gets.
    pub(super) fn next_seq(&self, view: &View) -> u64 {
        view.log.next_seq.max(self.reserved.load(Ordering::SeqCst))
    }

    /// Gives out no seq below this any more.
    pub(super) fn reserve(&self, below: u64) {
        self.reserved.fetch_max(below, Ordering::SeqCst);
    }

    fn lock_highest(&self) -> MutexGuard<'_, Highest> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file with the highest next seq that was seen here so far.
    pub(super) fn highest(&self) -> Highest {
        *self.lock_highest()
    }

    /// Takes note of what the file has: a backup that is put back is noticed, and makes no revision come twice.
    pub(super) fn note_highest(&self, view: &View) {
        self.reserve(view.log.next_seq);
        let mut highest = self.lock_highest();
        if view.log.next_named >= highest.next_seq {
            *highest = Highest::of(view);
        }
    }

    /// Heeds what a torn tail says of the seq that it had: somebody may have seen it.
    pub(super) fn heed_tail(&self, view: &View) -> Result<(), StoreError> {
        let unreadable = |error| place::io("reading", &self.place.file, error);
        if let Some(tail) = tail(view).map_err(unreadable)? {
            self.reserve(tail.next_seq);
        }
        Ok(())
    }

    /// Where there is no space to write the file anew: cuts a torn tail to a mark, durably, over which the next frame is
    /// written. Cut off whole, a process that is stopped then would leave nothing that says which revision is used up.
    pub(super) fn keep_mark(&self, view: &mut View) -> Result<(), StoreError> {
        let unreadable = |error| place::io("reading", &self.place.file, error);
        if let Some(tail) = tail(view).map_err(unreadable)? {
            self.reserve(tear_proof(tail.written, self.next_seq(view).max(tail.next_seq)));
            let (file, end) = (Arc::clone(&view.file), view.log.end);
            self.cut(view, &file, end + tail.len.min(MARK_LEN as u64))?;
        }
        Ok(())
    }

    /// Makes the mark at `at` that of `frame`, durably. The frame, written there next, then changes nothing of it that a
    /// disk could mix with what was there before.
    pub(super) fn renew_mark(
        &self,
        file: &DiskFile,
        id: FileId,
        frame: &[u8],
        at: u64,
    ) -> Result<(), StoreError> {
        let mark = frame.get(..MARK_LEN).unwrap_or(frame);
        file.write_at(mark, at).map_err(|error| place::unwritable(&self.place.file, error))?;
        file.sync_all().map_err(|source| {
            self.distrust(id);
            StoreError::Unsynced { source }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_that_is_written_over_a_mark_leaves_no_lower_one_after_any_byte() {
        for (mark, next) in [
            (5, 6),
            (0xff, 0x100),
            (0x01ff, 0x0200),
            (0xfffe, 0xffff),
            (0x00ff_ffff, 0x0100_0000),
            (9, 70_000),
        ] {
            let over = tear_proof(mark, next);
            assert!(
                over >= next && over < next + (next & next.wrapping_neg()),
                "{mark:x}, {next:x}: {over:x}"
            );
            for bytes in 0..=8 {
                let mut torn = mark.to_le_bytes();
                torn[..bytes].copy_from_slice(&over.to_le_bytes()[..bytes]);
                let torn = u64::from_le_bytes(torn);
                assert!((mark..=over).contains(&torn), "{mark:x}, {over:x} after {bytes} bytes: {torn:x}");
            }
        }
    }
}
