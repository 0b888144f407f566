//! Looking at a part of the file at a time, and telling what an append leaves that was cut off.

use std::io;

use super::disk::DiskFile;
use super::frame::{FRAME_MAGIC, FrameKind, HEAD_LEN, Head, MAX_BODY_LEN, STOP};

/// What a disk writes whole or not at all. One that was not written reads as zeros.
pub(super) const SECTOR: u64 = 512;
/// So many zeros are in no sealed record: they were never written.
pub(super) const ZEROS: usize = 16;

/// A part of the file in memory, moved along as the scan goes.
pub(super) struct Window<'a> {
    file: &'a DiskFile,
    /// Where the file ends for this scan.
    len: u64,
    start: u64,
    bytes: Vec<u8>,
    /// What was asked for last.
    last: u64,
    /// Between these two there is no valid head. At the second there is one, if it lies within the file.
    headless: (u64, u64),
}

impl<'a> Window<'a> {
    /// Read at a time where frames are small, or where every byte counts.
    const LARGE: usize = 128 * 1024;
    /// Where heads are further apart than this, they are read one by one. From memory, reading a large part takes as long
    /// as some sixteen heads do: the calls cost more than the copying.
    const FAR: u64 = 8 * 1024;

    pub(super) fn new(file: &'a DiskFile, len: u64) -> Self {
        Self { file, len, start: 0, bytes: Vec::new(), last: 0, headless: (0, 0) }
    }

    /// Up to `want` bytes at `offset`; fewer only where the file ends.
    pub(super) fn at(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
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
    pub(super) fn find_head(&mut self, from: u64) -> io::Result<Option<u64>> {
        // Asked for once more behind each of many damaged heads: found once.
        if !(self.headless.0..self.headless.1).contains(&from) {
            self.headless = (from, self.search_head(from)?.unwrap_or(self.len));
        }
        Ok(Some(self.headless.1).filter(|next| *next < self.len))
    }

    fn search_head(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut position = from;
        while position + HEAD_LEN as u64 <= self.len {
            let bytes = self.at(position, Self::LARGE)?;
            if bytes.len() < HEAD_LEN {
                return Ok(None);
            }
            // Places at which a whole head fits into what is in memory.
            let places = bytes.len() - HEAD_LEN + 1;
            let found = (0..places).find(|&place| {
                bytes[place..].starts_with(FRAME_MAGIC) && Head::decode(&bytes[place..]).is_some()
            });
            if let Some(place) = found {
                return Ok(Some(position + place as u64));
            }
            position += places as u64;
        }
        Ok(None)
    }

    /// Whether the frame at `position`, whose valid head makes it the last of the file, is an append of which the power
    /// took some sectors: its body is wrong, and a sector of it was never written. A body that was damaged before the
    /// file was written anew has the complement of its checksum in its head.
    pub(super) fn is_body_torn(&mut self, position: u64, kind: FrameKind, head: &Head) -> io::Result<bool> {
        // Ways in and their list are never appended.
        if matches!(kind, FrameKind::WayIn | FrameKind::Ways) || head.len > MAX_BODY_LEN {
            return Ok(false);
        }
        let start = position + HEAD_LEN as u64;
        let body = self.at(start, head.len as usize)?;
        let crc = crc32c::crc32c(body);
        Ok(crc != head.body_crc && crc != !head.body_crc && by_sector(start, body).any(is_unwritten))
    }

    /// Whether what follows `position`, where no valid head is or follows, and which does not open, is what an append
    /// leaves that was cut off: less than a head, a head of which a sector was never written, or one that was cut to a mark.
    pub(super) fn is_head_torn(&mut self, position: u64) -> io::Result<bool> {
        let left = self.len - position;
        if left < HEAD_LEN as u64 {
            return Ok(true);
        }
        let head = self.at(position, HEAD_LEN)?;
        if !by_sector(position, head).any(|part| part.iter().all(|byte| *byte == 0))
            && !self.is_mark(position)?
        {
            return Ok(false);
        }
        if left > HEAD_LEN as u64 + u64::from(MAX_BODY_LEN) {
            // More than any append.
            return self.all_zeros(position);
        }
        let all = self.at(position, usize::try_from(left).unwrap_or(usize::MAX))?;
        Ok(!all.windows(HEAD_LEN).any(|bytes| bytes == STOP))
    }

    /// Whether a head was cut to a mark in its sector, while the file's length on the disk, or what was written over the
    /// mark, goes beyond it.
    fn is_mark(&mut self, position: u64) -> io::Result<bool> {
        let last = position + HEAD_LEN as u64 - 1;
        let bytes = self.at(position, HEAD_LEN - 1 + usize::try_from(SECTOR - last % SECTOR).unwrap_or(0))?;
        let appended = [FrameKind::Put, FrameKind::Removed, FrameKind::Note].map(FrameKind::code);
        let is_mark = Head::decode_mark(bytes).is_some_and(|head| appended.contains(&head.kind));
        Ok(is_mark && bytes.iter().skip(HEAD_LEN - 1).all(|byte| *byte == 0))
    }

    fn all_zeros(&mut self, from: u64) -> io::Result<bool> {
        let mut at = from;
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

/// `bytes`, which stand at `offset` of the file, cut where its sectors end.
fn by_sector(offset: u64, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let first = usize::try_from(SECTOR - offset % SECTOR).unwrap_or(usize::MAX).min(bytes.len());
    let (first, rest) = bytes.split_at(first);
    std::iter::once(first).chain(rest.chunks(SECTOR as usize))
}

fn is_unwritten(part: &[u8]) -> bool {
    part.len() >= ZEROS && part.iter().all(|byte| *byte == 0)
}
