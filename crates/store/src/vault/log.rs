//! The file as a log: which frames there are, which of them count, and what is damaged.
//!
//! A scan reads heads, not bodies. It never reads damage as absence: what cannot be read and cannot be told to belong
//! to one key makes every key doubtful that was not written after it.

use std::io;

use super::disk::DiskFile;
use super::frame::{FrameKind, HEAD_LEN, HEADER_LEN, Head, Header, MAX_BODY_LEN, Tag};
use super::index::Index;
use super::record::Keys;
use super::unwrap::AGE_MAGIC;

/// Zeros up to a multiple of this are what a power cut leaves of an append that never reached the disk.
const BLOCK: u64 = 4096;

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
    /// Where the last frame, or damage, ends. What follows in the file is a torn tail.
    pub(super) end: u64,
    pub(super) next_seq: u64,
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
            end: HEADER_LEN as u64,
            next_seq: header.next_seq,
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

    /// The newest note, unless a newer one may have been damaged.
    pub(super) fn note(&self, tag: &Tag) -> Option<At> {
        let at = *self.notes.get(tag)?;
        self.damage.last().is_none_or(|damage| at.offset > damage.offset).then_some(at)
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
                    let whole = position + HEAD_LEN as u64 + u64::from(head.len) <= len;
                    let (body_len, state) = if whole {
                        (head.len, HeadState::Valid)
                    } else {
                        match window.find_head(position + HEAD_LEN as u64)? {
                            Some(next) => (body_len(position, next), HeadState::BodyCut),
                            None => return Ok(()),
                        }
                    };
                    let at = At { seq: head.seq, offset: position, len: body_len, head: state };
                    Met { kind, tag: head.tag, at }
                }
                None => {
                    let next = window.find_head(position + 1)?;
                    if next.is_none() && window.is_torn(position)? {
                        return Ok(());
                    }
                    let end = next.unwrap_or(len);
                    match self.rebuild(&mut window, position, end, keys)? {
                        Some(found) => found,
                        None => {
                            let damage = Damage { offset: position, len: end - position };
                            // As many frames as could have been there may have used up as many seqs.
                            self.next_seq = self.next_seq.saturating_add(damage.len / HEAD_LEN as u64 + 1);
                            self.live += damage.len;
                            self.damage.push(damage);
                            self.end = end;
                            continue;
                        }
                    }
                }
            };
            met(found);
            self.end = position + found.at.size();
            self.take(found);
        }
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
        // Up to the next head; or, where more than one frame is damaged, as long as this one's head says.
        for len in [available, u64::from(head.len)] {
            let Ok(len) = u32::try_from(len) else { continue };
            if len == 0 || len > MAX_BODY_LEN || u64::from(len) > available {
                continue;
            }
            let body = window.at(body_start, len as usize)?;
            let at = At { seq: 0, offset: position, len, head: HeadState::Rebuilt };
            if self.only_ways_in() && body.starts_with(AGE_MAGIC) {
                return Ok(Some(Met { kind: FrameKind::WayIn, tag: Tag::NONE, at }));
            }
            if let Some(Ok(record)) = keys.map(|keys| keys.open(body)) {
                return Ok(Some(Met {
                    kind: record.kind,
                    tag: record.tag,
                    at: At { seq: record.seq, ..at },
                }));
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
        }
        match kind {
            FrameKind::WayIn => {
                if self.only_ways_in() {
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
                if old.is_some_and(|old| old.at.seq >= at.seq) {
                    return;
                }
                self.entries.insert(tag, EntryAt { at, removed });
                let old_size = old.filter(|old| !old.removed).map_or(0, |old| old.at.size());
                self.live = (self.live + if removed { 0 } else { size }).saturating_sub(old_size);
                if removed && self.notes.get(&tag).is_some_and(|note| note.seq < at.seq) {
                    let note = self.notes.remove(&tag);
                    self.live = self.live.saturating_sub(note.map_or(0, |note| note.size()));
                }
            }
            FrameKind::Note => {
                let outlived =
                    self.entries.get(&tag).is_some_and(|entry| entry.removed && entry.at.seq > at.seq);
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

fn body_len(position: u64, next: u64) -> u32 {
    u32::try_from((next - position).saturating_sub(HEAD_LEN as u64)).unwrap_or(u32::MAX)
}

/// A part of the file in memory, moved along as the scan goes.
struct Window<'a> {
    file: &'a DiskFile,
    /// Where the file ends for this scan.
    len: u64,
    start: u64,
    bytes: Vec<u8>,
    /// What was asked for last.
    last: u64,
}

impl<'a> Window<'a> {
    /// Read at a time where frames are small, or where every byte counts.
    const LARGE: usize = 128 * 1024;
    /// Where heads are further apart than this, they are read one by one. From memory, reading a large part takes as long
    /// as some sixteen heads do: the calls cost more than the copying.
    const FAR: u64 = 8 * 1024;

    fn new(file: &'a DiskFile, len: u64) -> Self {
        Self { file, len, start: 0, bytes: Vec::new(), last: 0 }
    }

    /// Up to `want` bytes at `offset`; fewer only where the file ends.
    fn at(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        let end = offset.saturating_add(want as u64).min(self.len).max(offset);
        let window_end = self.start + self.bytes.len() as u64;
        if offset < self.start || end > window_end {
            let near = offset.abs_diff(self.last) <= Self::FAR;
            let size = if near { want.max(Self::LARGE) } else { want };
            let size = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(size);
            self.bytes.resize(size, 0);
            let read = self.file.read_at(&mut self.bytes, offset)?;
            self.bytes.truncate(read);
            self.start = offset;
        }
        self.last = offset;
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let rest = self.bytes.get(from..).unwrap_or_default();
        Ok(&rest[..rest.len().min(want)])
    }

    /// The first place from `from` on with a valid head.
    fn find_head(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut position = from;
        while position + HEAD_LEN as u64 <= self.len {
            let bytes = self.at(position, Self::LARGE)?;
            if bytes.len() < HEAD_LEN {
                return Ok(None);
            }
            // Places at which a whole head fits into what is in memory.
            let places = bytes.len() - HEAD_LEN + 1;
            let found = (0..places).find(|&place| {
                bytes[place..].starts_with(super::frame::FRAME_MAGIC)
                    && Head::decode(&bytes[place..]).is_some()
            });
            if let Some(place) = found {
                return Ok(Some(position + place as u64));
            }
            position += places as u64;
        }
        Ok(None)
    }

    /// Whether what follows `position`, where no valid head is or follows, is what an append leaves that was cut off.
    fn is_torn(&mut self, position: u64) -> io::Result<bool> {
        if self.len - position < HEAD_LEN as u64 {
            return Ok(true);
        }
        if !self.len.is_multiple_of(BLOCK) {
            return Ok(false);
        }
        let mut at = position;
        while at < self.len {
            let bytes = self.at(at, Self::LARGE)?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }
}
