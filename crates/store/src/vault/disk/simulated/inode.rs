//! One file of the simulated disk: what is seen of it, what is durable, and every state in between.

use std::collections::BTreeMap;

/// What the system keeps in memory at a time.
pub(super) const PAGE: usize = 4096;

/// A page as it was after a write: what of it lies within the file.
pub(super) type PageBytes = Vec<u8>;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) visible: Vec<u8>,
    /// What the disk has; beyond the durable length it is not seen after a power cut either, unless that grows.
    pub(super) durable: Vec<u8>,
    pub(super) durable_len: u64,
    /// By page: how it was after each write since it was last synced. The last is what is seen.
    pub(super) dirty: BTreeMap<usize, Vec<PageBytes>>,
    /// The lengths that the file has had since it was last synced.
    pub(super) lengths: Vec<u64>,
    /// Up to where there is space.
    pub(super) allocated: u64,
    pub(super) changed: i128,
    /// How many have it open.
    pub(super) opens: usize,
}

fn pages_up_to(end: u64) -> u64 {
    end.div_ceil(PAGE as u64)
}

impl Inode {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self { allocated: len, durable_len: len, durable: bytes.clone(), visible: bytes, ..Self::default() }
    }

    pub(super) fn pages(&self) -> u64 {
        pages_up_to(self.allocated.max(self.visible.len() as u64))
    }

    /// How many bytes can be written at `offset` where `free` pages are left on the disk.
    pub(super) fn room_for(&self, free: u64, offset: u64) -> usize {
        let end = (self.pages() + free) * PAGE as u64;
        usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX)
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], time: i128) {
        if bytes.is_empty() {
            return;
        }
        let offset = usize::try_from(offset).unwrap();
        let end = offset + bytes.len();
        let before = self.visible.len();
        if end > before {
            self.visible.resize(end, 0);
            // Each page that is filled makes the file longer before the next.
            self.lengths.extend((before / PAGE + 1..=end / PAGE).map(|page| (page * PAGE) as u64));
            self.lengths.push(end as u64);
        }
        self.visible[offset..end].copy_from_slice(bytes);
        self.touch(offset.min(before), end);
        self.allocated = self.allocated.max(end as u64);
        self.changed = time;
    }

    pub(super) fn truncate(&mut self, len: u64, time: i128) {
        let len = usize::try_from(len).unwrap();
        let before = self.visible.len();
        self.visible.resize(len, 0);
        self.touch(len.min(before), before.max(len));
        self.lengths.push(len as u64);
        self.allocated = len as u64;
        self.changed = time;
    }

    pub(super) fn allocate(&mut self, end: u64, free: u64, time: i128) -> bool {
        if pages_up_to(end) > self.pages() + free {
            return false;
        }
        self.allocated = self.allocated.max(end);
        self.changed = time;
        true
    }

    fn touch(&mut self, from: usize, until: usize) {
        for page in from / PAGE..until.div_ceil(PAGE) {
            let now = page_of(&self.visible, page).to_vec();
            self.dirty.entry(page).or_default().push(now);
        }
    }

    pub(super) fn sync(&mut self) {
        for (page, versions) in std::mem::take(&mut self.dirty) {
            if let Some(last) = versions.last() {
                store(&mut self.durable, page, last);
            }
        }
        self.settle_length();
    }

    fn settle_length(&mut self) {
        self.durable_len = self.visible.len() as u64;
        self.lengths.clear();
    }

    /// Pages whose bit in `written` is set reach the disk, the others are lost and look clean. Bit 0 is the length's.
    pub(super) fn fail_sync(&mut self, written: usize) {
        for (nth, (page, versions)) in std::mem::take(&mut self.dirty).into_iter().enumerate() {
            if written >> (nth + 1).min(63) & 1 == 1
                && let Some(last) = versions.last()
            {
                store(&mut self.durable, page, last);
            }
        }
        if written & 1 == 1 {
            self.settle_length();
        }
    }

    pub(super) fn drop_clean_pages(&mut self) {
        for page in 0..self.visible.len().div_ceil(PAGE) {
            if !self.dirty.contains_key(&page) {
                let end = self.visible.len().min((page + 1) * PAGE);
                let there = page_of(&self.durable, page).to_vec();
                let place = &mut self.visible[page * PAGE..end];
                place.fill(0);
                let n = there.len().min(place.len());
                place[..n].copy_from_slice(&there[..n]);
            }
        }
    }
}

/// The part of a page that lies within the file.
pub(super) fn page_of(bytes: &[u8], page: usize) -> &[u8] {
    let start = (page * PAGE).min(bytes.len());
    &bytes[start..bytes.len().min(start + PAGE)]
}

/// Puts a page into `durable`; the disk has space for it, whether or not the file's length covers it yet.
fn store(durable: &mut Vec<u8>, page: usize, bytes: &[u8]) {
    let start = page * PAGE;
    if durable.len() < start + bytes.len() {
        durable.resize(start + bytes.len(), 0);
    }
    let end = durable.len().min(start + PAGE);
    durable[start..end].fill(0);
    durable[start..start + bytes.len()].copy_from_slice(bytes);
}
