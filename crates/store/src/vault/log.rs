//! The file as a log: which frames there are, which of them count, and what is damaged.
//!
//! A scan reads heads, not bodies. It never reads damage as absence: what cannot be read and cannot be told to belong
//! to one key makes every key doubtful that was not written after it.

use std::io;

use super::disk::DiskFile;
use super::frame::{
    FrameKind, HEAD_LEN, HEADER_LEN, Head, Header, MAX_BODY_LEN, MAX_WAY_IN_LEN, MAX_WAYS_IN, Tag,
};
use super::index::Index;
use super::record::Keys;
use super::unwrap::AGE_MAGIC;
use super::window::Window;

/// A seq so far beyond all before it is believed only if the record opens: it would leave nothing for those to come.
const PLAUSIBLE_STEP: u64 = 1 << 40;

/// Where a frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) seq: u64,
    pub(super) offset: u64,
    /// Bytes of the body that are there.
    pub(super) len: u32,
    pub(super) head: HeadState,
}

/// What the scan found of a frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadState {
    /// Valid.
    Valid,
    /// Damaged; what it said was found again by opening the body.
    Rebuilt,
    /// Valid, but the next frame begins before this one's body ends.
    BodyCut,
}

impl At {
    pub(super) fn size(&self) -> u64 {
        HEAD_LEN as u64 + u64::from(self.len)
    }
}

/// The newest frame about an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryAt {
    pub(super) at: At,
    pub(super) removed: bool,
    /// The highest seq of a removal, 0 if there was none: no older note outlives it.
    last_removal: u64,
}

/// Bytes that are no frame, and belong to nobody knows whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// One frame, as a scan meets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) kind: FrameKind,
    pub(super) tag: Tag,
    pub(super) at: At,
}

/// Why a scan stopped.
#[derive(Debug)]
pub(super) enum ScanError {
    Io(io::Error),
    /// A frame of a kind that this version does not know.
    NewerKind {
        offset: u64,
    },
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What the frames up to `end` amount to.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) header: Header,
    pub(super) ways_in: Vec<At>,
    pub(super) ways: Option<At>,
    pub(super) entries: Index<EntryAt>,
    pub(super) notes: Index<At>,
    pub(super) damage: Vec<Damage>,
    /// Whether a frame's body is cut short by the next. Its head would reach over what is appended behind them.
    pub(super) has_cut_body: bool,
    /// The last frame, unless damage stands behind it.
    pub(super) last: Option<Met>,
    /// Where the last frame, or damage, ends. What follows in the file is a torn tail.
    pub(super) end: u64,
    pub(super) next_seq: u64,
    /// The same without what damage may have used: what the header or a frame names.
    pub(super) next_named: u64,
    /// Bytes that a rewrite would keep.
    pub(super) live: u64,
}

impl Log {
    pub(super) fn new(header: Header) -> Self {
        Self {
            header,
            ways_in: Vec::new(),
            ways: None,
            entries: Index::new(),
            notes: Index::new(),
            damage: Vec::new(),
            has_cut_body: false,
            last: None,
            end: HEADER_LEN as u64,
            next_seq: header.next_seq,
            next_named: header.next_seq,
            live: HEADER_LEN as u64,
        }
    }

    /// Whether nothing was scanned: a vault has one frame at least.
    pub(super) fn is_unread(&self) -> bool {
        self.end == HEADER_LEN as u64
    }

    pub(super) fn dead(&self) -> u64 {
        self.end.saturating_sub(self.live)
    }

    /// The newest frame of an entry, or `None` if there is no entry.
    ///
    /// # Errors
    ///
    /// The damage in which a newer frame of this key may have been.
    pub(super) fn entry(&self, tag: &Tag) -> Result<Option<At>, Damage> {
        let found = self.entries.get(tag);
        match self.damage.last() {
            Some(damage) if found.is_none_or(|entry| entry.at.offset < damage.offset) => Err(*damage),
            _ => Ok(found.filter(|entry| !entry.removed).map(|entry| entry.at)),
        }
    }

    /// The newest note, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// The damage in which a newer note of this key may have been.
    pub(super) fn note(&self, tag: &Tag) -> Result<Option<At>, Damage> {
        let found = self.notes.get(tag).copied();
        match self.damage.last() {
            Some(damage) if found.is_none_or(|at| at.offset < damage.offset) => Err(*damage),
            _ => Ok(found),
        }
    }

    /// Takes in the frames from `end` up to `len`, where the file ends. `met` sees every frame in turn.
    pub(super) fn scan(
        &mut self,
        file: &DiskFile,
        len: u64,
        keys: Option<&Keys>,
        met: &mut dyn FnMut(Met),
    ) -> Result<(), ScanError> {
        let mut window = Window::new(file, len);
        loop {
            let position = self.end;
            let bytes = window.at(position, HEAD_LEN)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let found = match Head::decode(bytes) {
                Some(head) => {
                    let kind =
                        FrameKind::from_code(head.kind).ok_or(ScanError::NewerKind { offset: position })?;
                    let frame_end = position + HEAD_LEN as u64 + u64::from(head.len);
                    let (body_len, state) = if frame_end <= len {
                        if frame_end == len && window.is_body_torn(position, kind, &head)? {
                            return Ok(());
                        }
                        (head.len, HeadState::Valid)
                    } else {
                        match window.find_head(position + HEAD_LEN as u64)? {
                            Some(next) => (body_len(position, next), HeadState::BodyCut),
                            None => return Ok(()),
                        }
                    };
                    let at = At { seq: head.seq, offset: position, len: body_len, head: state };
                    let found = Met { kind, tag: head.tag, at };
                    if head.seq.saturating_sub(self.next_seq) >= PLAUSIBLE_STEP
                        && !opens_as(&mut window, keys, found)?
                    {
                        self.damaged(position, at.size());
                        continue;
                    }
                    found
                }
                None => {
                    let next = window.find_head(position + 1)?;
                    let end = next.unwrap_or(len);
                    match self.rebuild(&mut window, position, end, keys)? {
                        Some(found) => found,
                        None if next.is_none() && window.is_head_torn(position)? => return Ok(()),
                        None => {
                            self.damaged(position, end - position);
                            continue;
                        }
                    }
                }
            };
            met(found);
            self.has_cut_body |= found.at.head == HeadState::BodyCut;
            self.last = Some(found);
            self.end = position + found.at.size();
            self.take(found);
        }
    }

    fn damaged(&mut self, offset: u64, len: u64) {
        // As many frames as could have been there may have used up as many seqs.
        self.next_seq = self.next_seq.saturating_add(len / HEAD_LEN as u64 + 1);
        self.live += len;
        match self.damage.last_mut() {
            // What a rewrite puts behind damage to mark its end belongs to it.
            Some(before) if before.offset + before.len == offset => before.len += len,
            _ => self.damage.push(Damage { offset, len }),
        }
        self.last = None;
        self.end = offset + len;
    }

    /// What the damaged head at `position` said, found again from the body behind it.
    fn rebuild(
        &self,
        window: &mut Window<'_>,
        position: u64,
        end: u64,
        keys: Option<&Keys>,
    ) -> Result<Option<Met>, ScanError> {
        let body_start = position + HEAD_LEN as u64;
        if end <= body_start {
            return Ok(None);
        }
        let Some(head) = window.at(position, HEAD_LEN)?.first_chunk().map(Head::fields) else {
            return Ok(None);
        };
        let available = end - body_start;
        // As long as the head says: of many damaged ones in a row each is then read once. Or up to the next head.
        for len in [u64::from(head.len), available] {
            let Ok(len) = u32::try_from(len) else { continue };
            if len == 0 || len > MAX_BODY_LEN || u64::from(len) > available {
                continue;
            }
            let body = window.at(body_start, len as usize)?;
            let at = At { seq: 0, offset: position, len, head: HeadState::Rebuilt };
            if let Some(Ok(record)) = keys.map(|keys| keys.open(body)) {
                return Ok(Some(Met {
                    kind: record.kind,
                    tag: record.tag,
                    at: At { seq: record.seq, ..at },
                }));
            }
            if u64::from(len) == available && self.only_ways_in() && body.starts_with(AGE_MAGIC) {
                return Ok(Some(Met { kind: FrameKind::WayIn, tag: Tag::NONE, at }));
            }
        }
        Ok(None)
    }

    fn only_ways_in(&self) -> bool {
        self.ways.is_none() && self.entries.is_empty() && self.notes.is_empty()
    }

    /// Lets a frame count. The highest seq wins, not the last place: a frame that was copied to the end brings nothing
    /// back.
    fn take(&mut self, met: Met) {
        let Met { kind, tag, at } = met;
        let size = at.size();
        if kind != FrameKind::WayIn {
            self.next_seq = self.next_seq.max(at.seq.saturating_add(1));
            self.next_named = self.next_named.max(at.seq.saturating_add(1));
        }
        match kind {
            FrameKind::WayIn => {
                if self.only_ways_in() && self.ways_in.len() < MAX_WAYS_IN && at.len <= MAX_WAY_IN_LEN {
                    self.ways_in.push(at);
                    self.live += size;
                }
            }
            FrameKind::Ways => {
                if self.ways.is_none_or(|old| old.seq < at.seq) {
                    self.live = (self.live + size).saturating_sub(self.ways.map_or(0, |old| old.size()));
                    self.ways = Some(at);
                }
            }
            FrameKind::Put | FrameKind::Removed => {
                let removed = kind == FrameKind::Removed;
                let old = self.entries.get(&tag).copied();
                let mut last_removal = old.map_or(0, |old| old.last_removal);
                if removed {
                    last_removal = last_removal.max(at.seq);
                    if self.notes.get(&tag).is_some_and(|note| note.seq < at.seq) {
                        let note = self.notes.remove(&tag);
                        self.live = self.live.saturating_sub(note.map_or(0, |note| note.size()));
                    }
                }
                if let Some(old) = old.filter(|old| old.at.seq >= at.seq) {
                    self.entries.insert(tag, EntryAt { last_removal, ..old });
                    return;
                }
                self.entries.insert(tag, EntryAt { at, removed, last_removal });
                let old_size = old.filter(|old| !old.removed).map_or(0, |old| old.at.size());
                self.live = (self.live + if removed { 0 } else { size }).saturating_sub(old_size);
            }
            FrameKind::Note => {
                let outlived = self.entries.get(&tag).is_some_and(|entry| entry.last_removal > at.seq);
                let old = self.notes.get(&tag).copied();
                if outlived || old.is_some_and(|old| old.seq >= at.seq) {
                    return;
                }
                self.notes.insert(tag, at);
                self.live = (self.live + size).saturating_sub(old.map_or(0, |old| old.size()));
            }
        }
    }
}

/// Whether a frame holds what its head says.
fn opens_as(window: &mut Window<'_>, keys: Option<&Keys>, met: Met) -> io::Result<bool> {
    let Met { kind, tag, at } = met;
    if at.len > MAX_BODY_LEN || at.head != HeadState::Valid {
        return Ok(false);
    }
    let body = window.at(at.offset + HEAD_LEN as u64, at.len as usize)?;
    let record = keys.and_then(|keys| keys.open(body).ok());
    Ok(record.is_some_and(|record| (record.kind, record.seq, record.tag) == (kind, at.seq, tag)))
}

fn body_len(position: u64, next: u64) -> u32 {
    u32::try_from((next - position).saturating_sub(HEAD_LEN as u64)).unwrap_or(u32::MAX)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use zeroize::Zeroizing;

    use super::super::disk::simulated::{Event, Process, World};
    use super::super::disk::{Disk, Op};
    use super::super::frame::{KeyId, frame};
    use super::*;

    /// A log of these bytes, and how many bytes were read for it.
    fn scanned(bytes: Vec<u8>, len: u64, keys: Option<&Keys>) -> (Log, usize) {
        let world = World::new(64 << 20);
        let path = std::path::PathBuf::from("/simulated/v");
        world.change(|machine| machine.put(&path, bytes));
        let disk = Disk { simulated: Some(Process::new(&world, 1)), ..Disk::default() };
        let file = disk.open(&path, false).unwrap();
        let read = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&read);
        world.fly(Box::new(move |_, moment| {
            if moment.op == Op::Read {
                counts.fetch_add(moment.bytes, Ordering::SeqCst);
            }
            Event::Done
        }));
        let mut log = Log::new(Header { key_id: KeyId::new([7; 16]), next_seq: 1 });
        log.end = 0;
        log.scan(&file, len, keys, &mut |_| {}).unwrap();
        (log, read.load(Ordering::SeqCst))
    }

    #[test]
    fn many_damaged_heads_are_read_a_few_times_and_not_once_for_each_other() {
        let keys = Keys::derive(Zeroizing::new([9; 32]));
        let mut bytes = Vec::new();
        for seq in 1..=2_000 {
            let (kind, name) = (FrameKind::Put, format!("key {seq}"));
            let start = bytes.len();
            let body = keys.seal(kind, seq, &name, b"value").unwrap();
            bytes.extend(frame(kind, seq, keys.tag_of(&name), &body));
            bytes[start] ^= 1;
        }
        let len = bytes.len();
        let (log, read) = scanned(bytes, len as u64, Some(&keys));
        assert_eq!((log.entries.len(), log.damage.len()), (2_000, 0));
        // A piece of 64 KiB is read again where the look goes back; each head for itself would be 2,000 times the file.
        assert!(read < 20 * len, "{read} bytes were read of {len}");
    }
}
