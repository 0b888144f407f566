//! The frame scan: whatever is in a file, the log tiles it, adds up, and does not depend on how often it was looked at.

use super::draft::{Draft, KEYS};
use super::source::Source;
use crate::vault::disk::{Disk, DiskFile};
use crate::vault::frame::{FrameKind, HEADER_LEN, Header, Tag};
use crate::vault::log::{At, Damage, Log, Met, ScanError};
use crate::vault::record::Keys;

/// Scans a file, in one go and in parts, with keys and without.
pub fn scan(input: &[u8]) {
    let mut source = Source::new(input);
    let mode = source.byte();
    if mode & 1 == 0 {
        let header = Header { key_id: KEYS.id(), next_seq: u64::from(mode) };
        let start = if mode & 2 == 0 { header.encode().to_vec() } else { Vec::new() };
        scanned_whole(&[&start[..], source.all()].concat());
        return;
    }
    let cuts = [source.number(), source.number(), source.number()];
    let draft = Draft::of(&mut source);
    let bytes = draft.bytes();
    let Some(whole) = scanned_whole(&bytes) else { return };
    if !draft.only_overwritten || draft.is_forged() {
        return;
    }
    let mut seen: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    seen.retain(|cut| could_be_seen(&draft, *cut));
    seen.sort_unstable();
    seen.push(bytes.len());
    for (whole, keys) in whole.into_iter().zip([None, Some(&*KEYS)]) {
        let Ok(header) = Header::decode(&bytes) else { return };
        let mut log = Log::new(header);
        with_file(&bytes, |file| {
            for end in &seen {
                assert!(
                    log.scan(file, *end as u64, keys, &mut |_| {}).is_ok(),
                    "a part was of a newer version"
                );
            }
        });
        assert_eq!(Summary::of(&log), whole, "scanned in parts, up to {seen:?}");
    }
}

/// Whether a reader can meet a file of this length while it grows, and must make the same of it later: the end of a
/// frame, or a place within one that is being appended. Where damage ends is only seen from the frame behind it.
fn could_be_seen(draft: &Draft, cut: usize) -> bool {
    let borders = draft.borders();
    if cut < borders[0] {
        return false;
    }
    let piece = borders.partition_point(|border| *border <= cut) - 1;
    let is_whole = |piece: usize| draft.pieces.get(piece).is_none_or(|piece| piece.is_whole());
    let before_is_whole = piece == 0 || is_whole(piece - 1);
    if borders[piece] == cut {
        before_is_whole || is_whole(piece)
    } else {
        before_is_whole && is_whole(piece)
    }
}

/// Scans without keys and with them, and checks what must hold of any file. `None` if it is of a newer version, or no
/// vault.
fn scanned_whole(bytes: &[u8]) -> Option<[Summary; 2]> {
    let header = Header::decode(bytes).ok()?;
    assert_eq!(header.encode(), bytes[..HEADER_LEN]);
    let scanned = |keys| with_file(bytes, |file| scanned(file, header, bytes.len(), keys));
    let (blind, seeing) = (scanned(None), scanned(Some(&*KEYS)));
    assert_eq!(blind.is_some(), seeing.is_some(), "keys make a version newer");
    blind.zip(seeing).map(|(blind, seeing)| [blind, seeing])
}

fn scanned(file: &DiskFile, header: Header, len: usize, keys: Option<&Keys>) -> Option<Summary> {
    let mut log = Log::new(header);
    let mut met = Vec::new();
    match log.scan(file, len as u64, keys, &mut |frame| met.push(frame)) {
        Ok(()) => {}
        Err(ScanError::NewerKind { .. }) => return None,
        Err(ScanError::Io(error)) => panic!("a file of {len} bytes could not be read: {error}"),
    }
    check(&log, &met, len as u64);
    let summary = Summary::of(&log);
    assert!(log.scan(file, len as u64, keys, &mut |_| panic!("a frame was met twice")).is_ok());
    assert_eq!(Summary::of(&log), summary, "the same file, scanned on");
    let mut again = Log::new(header);
    assert!(again.scan(file, len as u64, keys, &mut |_| {}).is_ok());
    assert_eq!(Summary::of(&again), summary, "the same file, scanned again");
    Some(summary)
}

/// Frames and damage tile the file up to its end, and what counts adds up.
fn check(log: &Log, met: &[Met], len: u64) {
    let frames = met.iter().map(|met| (met.at.offset, met.at.size()));
    let mut parts: Vec<_> =
        frames.chain(log.damage.iter().map(|damage| (damage.offset, damage.len))).collect();
    parts.sort_unstable();
    let mut end = HEADER_LEN as u64;
    for (offset, len) in parts {
        assert!(offset == end && len > 0, "a gap or an overlap at {offset}");
        end += len;
    }
    assert_eq!(end, log.end);
    assert!(end <= len.max(HEADER_LEN as u64));

    let entries = log.entries.values().filter(|entry| !entry.removed).map(|entry| entry.at);
    let counting = log.ways_in.iter().chain(&log.ways).chain(log.notes.values()).copied().chain(entries);
    let damage: u64 = log.damage.iter().map(|damage| damage.len).sum();
    let live = HEADER_LEN as u64 + damage + counting.map(|at| at.size()).sum::<u64>();
    assert_eq!(log.live, live);
    assert_eq!(log.live + log.dead(), log.end);

    for met in met.iter().filter(|met| met.kind != FrameKind::WayIn) {
        assert!(log.next_seq > met.at.seq || met.at.seq == u64::MAX, "seq {} is given again", met.at.seq);
    }
    assert!(log.next_seq >= log.header.next_seq);
}

/// All of a log, in an order that can be compared.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    ways_in: Vec<At>,
    ways: Option<At>,
    /// With whether it is a removal.
    entries: Vec<(Tag, At, bool)>,
    notes: Vec<(Tag, At)>,
    damage: Vec<Damage>,
    /// End, next seq and live bytes.
    numbers: [u64; 3],
}

impl Summary {
    fn of(log: &Log) -> Self {
        let entries = log.entries.iter().map(|(tag, entry)| (*tag, entry.at, entry.removed));
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable_by_key(|(tag, ..)| *tag);
        let mut notes: Vec<_> = log.notes.iter().map(|(tag, at)| (*tag, *at)).collect();
        notes.sort_unstable_by_key(|(tag, ..)| *tag);
        Self {
            ways_in: log.ways_in.clone(),
            ways: log.ways,
            entries,
            notes,
            damage: log.damage.clone(),
            numbers: [log.end, log.next_seq, log.live],
        }
    }
}

thread_local! {
    /// A file in memory, where there is such a file system, whose name is gone already. Making one for each input would
    /// take longer than all else.
    static FILE: DiskFile = {
        let folder = super::folder();
        Disk::default().create(&folder.path().join("file")).expect("a file can be made")
    };
}

/// Runs `look` on a file that begins with these bytes. What an earlier, longer one left stands behind them, and may not
/// be looked at.
fn with_file<T>(bytes: &[u8], look: impl FnOnce(&DiskFile) -> T) -> T {
    FILE.with(|file| {
        file.write_at(bytes, 0).expect("the file can be written");
        look(file)
    })
}
