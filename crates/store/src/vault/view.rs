//! What a handle knows of the vault file: what it has scanned, and how it keeps up with what others do to the file.
//!
//! A handle has two views: one for whoever writes, which stays locked for as long as the disk takes, and one for readers
//! (`read.rs`), which is locked for microseconds. They meet in the file, as the views of two processes do.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokenkeep_clock::Clock;

use super::begin::{Begun, begin};
use super::clean::Clean;
use super::disk::{Disk, DiskFile, Facts, FileId, is_forbidden};
use super::frame::{FrameKind, HEAD_LEN, Head, MAX_BODY_LEN, Tag, damaged_frame, frame};
use super::log::{At, Damage, HeadState, Log, Met, ScanError};
use super::pin::{KeyPin, PinState};
use super::place::{self, Place};
use super::record::{Keys, Record};
use super::unwrap::FoundWay;
use super::used::{self, Highest};
use super::ways::{BadList, Ways};
use crate::StoreError;

/// The file as one handle knows it.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Kept open, so that the system cannot give its inode number to another file.
    pub(super) file: Arc<DiskFile>,
    pub(super) id: FileId,
    pub(super) log: Log,
    /// Up to where this handle has seen space allocated in this file.
    pub(super) allocated_until: u64,
}

impl View {
    /// The same file, with nothing of it read yet.
    pub(super) fn unread(&self) -> Self {
        let log = Log::new(self.log.header);
        Self { file: Arc::clone(&self.file), id: self.id, log, allocated_until: 0 }
    }
}

/// What every clone of a handle shares.
pub(super) struct Shared {
    pub(super) place: Place,
    pub(super) disk: Disk,
    pub(super) keys: Keys,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) writer_wait: Duration,
    pub(super) pin: KeyPin,
    /// How the key id was pinned when this handle was opened.
    pub(super) pin_state: PinState,
    /// SHA-256 of the way-in frame that opened this handle.
    pub(super) opened_by: Mutex<[u8; 32]>,
    /// The file as its writers here know it; nothing of it is known before the first of them.
    pub(super) view: Mutex<View>,
    /// The file as its readers here know it. Nobody holds this while a disk works.
    pub(super) seen: Mutex<View>,
    /// Held by a reader that scans the file, so that others do not do the same.
    pub(super) scanning: Mutex<()>,
    /// Seqs below this are used up, whatever the file says: never given to a frame again.
    pub(super) reserved: AtomicU64,
    /// What of all that was seen here had the highest next seq. A file with less is an older one.
    pub(super) highest: Mutex<Highest>,
    /// Set when the file was replaced by an older one.
    pub(super) went_back: AtomicBool,
    /// The file whose sync failed, until it has been written anew.
    pub(super) distrusted: Mutex<Option<FileId>>,
    /// The file as this handle last knew all of it to be durable.
    pub(super) clean: Mutex<Option<Clean>>,
    /// Cleared when the file system turned out not to promise space.
    pub(super) promises_room: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("file", &self.place.file)
            .field("key_id", &self.keys.id())
            .finish_non_exhaustive()
    }
}

/// Opens the file at `place` and checks that it may be used.
pub(super) fn open_file(disk: &Disk, place: &Place) -> Result<(DiskFile, Facts), StoreError> {
    // A rewrite may replace the file between looking and opening.
    for _ in 0..16 {
        let facts = disk.facts(&place.file).map_err(|error| place::unreadable(&place.file, error))?;
        place.check(disk, &facts)?;
        let opened = match disk.open(&place.file, true) {
            Err(error) if is_forbidden(&error) => disk.open(&place.file, false),
            other => other,
        };
        let file = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| place::unreadable(&place.file, error))?,
        };
        let opened = file.facts().map_err(|error| place::io("reading", &place.file, error))?;
        if opened.id == facts.id {
            return Ok((file, opened));
        }
    }
    Err(place::refused(&place.file, "is replaced again and again: no other program may write it"))
}

/// Opens and scans the file at `place`. Without keys, damage stays unexplained. `met` sees every frame.
pub(super) fn load(
    disk: &Disk,
    place: &Place,
    keys: Option<&Keys>,
    met: &mut dyn FnMut(Met),
) -> Result<View, StoreError> {
    let Begun { file, facts, header, .. } = begin(disk, place, keys)?;
    let header =
        header.map_err(|what| StoreError::Corrupt { what: format!("{what} ({})", place.file.display()) })?;
    let mut log = Log::new(header);
    log.scan(&file, facts.len, keys, met).map_err(|error| scan_failed(&place.file, error))?;
    if log.ways.is_none() && log.damage.is_empty() {
        return Err(StoreError::Corrupt {
            what: format!(
                "the vault at {} ends before the list of its ways in: it was cut short",
                place.file.display()
            ),
        });
    }
    Ok(View { file: Arc::new(file), id: facts.id, log, allocated_until: 0 })
}

pub(super) fn scan_failed(path: &Path, error: ScanError) -> StoreError {
    match error {
        ScanError::Io(error) => place::io("reading", path, error),
        ScanError::NewerKind { offset } => StoreError::NewerVersion {
            what: format!("the record at byte {offset} of the vault at {}", path.display()),
        },
    }
}

/// A frame's body, as it stands in the file: `Err` says what is wrong with it.
pub(super) fn read_body(
    file: &DiskFile,
    kind: FrameKind,
    tag: &Tag,
    at: At,
) -> Result<Vec<u8>, &'static str> {
    if at.len > MAX_BODY_LEN {
        return Err("it is longer than any record");
    }
    let mut bytes = vec![0; HEAD_LEN + at.len as usize];
    match file.read_at(&mut bytes, at.offset) {
        Ok(read) if read == bytes.len() => {}
        Ok(_) => return Err("the file ends within it"),
        Err(_) => return Err("the system could not read it"),
    }
    let body = bytes.split_off(HEAD_LEN);
    match at.head {
        HeadState::Rebuilt => {}
        HeadState::BodyCut => return Err("it is cut short"),
        HeadState::Valid => {
            let head = Head::decode(&bytes).ok_or("its head is damaged")?;
            if (head.kind, head.seq, head.tag, head.len) != (kind.code(), at.seq, *tag, at.len) {
                return Err("another record stands there now");
            }
            if head.body_crc != crc32c::crc32c(&body) {
                return Err("its checksum does not match");
            }
        }
    }
    Ok(body)
}

/// Reads and opens a sealed record, and checks that it is what its head says.
pub(super) fn read_record(
    file: &DiskFile,
    keys: &Keys,
    kind: FrameKind,
    tag: &Tag,
    at: At,
) -> Result<Record, &'static str> {
    let record = keys.open(&read_body(file, kind, tag, at)?)?;
    if (record.kind, record.seq, record.tag) != (kind, at.seq, *tag) {
        return Err("what it holds is not what its head says");
    }
    Ok(record)
}

/// The way-in frames of a view, with their bytes.
pub(super) fn found_ways(view: &View) -> Vec<FoundWay> {
    let found = |at: &At| {
        let body = match read_body(&view.file, FrameKind::WayIn, &Tag::NONE, *at) {
            Ok(body) => (body, true),
            Err(_) => {
                // Damaged, but its stanza may still say which kind it was.
                let mut body = vec![0; at.len.min(MAX_BODY_LEN) as usize];
                let read = view.file.read_at(&mut body, at.offset + HEAD_LEN as u64).unwrap_or(0);
                body.truncate(read);
                (body, false)
            }
        };
        let (body, whole) = body;
        let make = if whole { frame } else { damaged_frame };
        FoundWay {
            offset: at.offset,
            frame: make(FrameKind::WayIn, 0, Tag::NONE, &body),
            whole,
            any_key: false,
        }
    };
    view.log.ways_in.iter().map(found).collect()
}

/// The list of ways in.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if it is damaged or missing.
pub(super) fn read_ways(view: &View, keys: &Keys, path: &Path) -> Result<Ways, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { what: format!("the list of ways in {why}") };
    let Some(at) = view.log.ways else { return Err(corrupt("is nowhere to be found".to_owned())) };
    let record = read_record(&view.file, keys, FrameKind::Ways, &Tag::NONE, at)
        .map_err(|why| corrupt(format!("at byte {}: {why}", at.offset)))?;
    Ways::decode(record.value()).map_err(|bad| match bad {
        BadList::Malformed => corrupt(format!("at byte {} does not read as one", at.offset)),
        BadList::NewerVersion => StoreError::NewerVersion {
            what: format!("the list of ways in of the vault at {}", path.display()),
        },
    })
}

impl Shared {
    pub(super) fn lock_view(&self) -> MutexGuard<'_, View> {
        // A panic elsewhere cannot leave a view half-changed that matters: the next use checks it against the file.
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if view.log.is_unread() {
            *view = self.lock_seen().clone();
        }
        view
    }

    /// The writers' view, caught up with the file. One stat when nothing has changed. Waits for whoever writes, and reads
    /// a file that was replaced: call it where that may take its time.
    pub(super) fn current(&self) -> Result<MutexGuard<'_, View>, StoreError> {
        let mut view = self.lock_view();
        self.refresh(&mut view)?;
        Ok(view)
    }

    pub(super) fn refresh(&self, view: &mut View) -> Result<(), StoreError> {
        let facts =
            self.disk.facts(&self.place.file).map_err(|error| place::unreadable(&self.place.file, error))?;
        if facts.id != view.id || facts.len < view.log.end {
            return self.reload(view);
        }
        self.scan_on(view, facts.len)
    }

    /// Opens and scans the file from its beginning.
    pub(super) fn reload(&self, view: &mut View) -> Result<(), StoreError> {
        *view = self.loaded()?;
        self.show(view);
        Ok(())
    }

    /// The file as it is now, opened and scanned from its beginning.
    pub(super) fn loaded(&self) -> Result<View, StoreError> {
        // Before the file is looked at: a writer may raise it meanwhile.
        let before = self.highest();
        let fresh = load(&self.disk, &self.place, Some(&self.keys), &mut |_| {})?;
        self.note_highest(&fresh);
        let went_back = used::has_gone_back(before, &fresh);
        if went_back.map_err(|error| place::io("reading", &self.place.file, error))? {
            self.went_back.store(true, Ordering::SeqCst);
            tracing::warn!(
                ?before,
                has = fresh.log.next_seq,
                "the vault file was replaced by an older one (a restored backup?): newer entries are gone"
            );
        }
        Ok(fresh)
    }

    /// The newest put of an entry, or `None` if there is no entry. A removal counts if it opens: its head alone, which
    /// no key protects, takes nothing away.
    pub(super) fn entry(&self, view: &View, tag: &Tag) -> Result<Option<At>, String> {
        let found = view.log.entry(tag).map_err(doubtful)?;
        if found.is_none()
            && let Some(entry) = view.log.entries.get(tag)
        {
            self.check_removal(&view.file, tag, entry.at)?;
        }
        Ok(found)
    }

    /// Whether the removal at `at` is what its head says.
    pub(super) fn check_removal(&self, file: &DiskFile, tag: &Tag, at: At) -> Result<(), String> {
        read_record(file, &self.keys, FrameKind::Removed, tag, at)
            .map(drop)
            .map_err(|why| format!("the removal at byte {} of the vault: {why}", at.offset))
    }
}

pub(super) fn doubtful(damage: Damage) -> String {
    format!(
        "{} bytes at byte {} of the vault cannot be read, and may have held the newest state of this entry",
        damage.len, damage.offset
    )
}
