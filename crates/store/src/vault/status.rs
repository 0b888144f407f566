//! What a vault is like: without keys ([`VaultProbe`]), with them ([`VaultStatus`]), and frame by frame
//! ([`VaultReport`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::argon2id::Costs;
use super::disk::Disk;
use super::frame::{FrameKind, KeyId, Tag};
use super::log::{At, Log, Met};
use super::place::{self, Place};
use super::unwrap::kind_of;
use super::view::{self, Shared, View};
use super::ways::{WayIn, WayKind};
use super::write::ROOM;
use super::{Vault, blocking};
use crate::{Key, StoreError};

/// What can be told of a vault file without opening it. Nothing of it is authenticated.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VaultProbe {
    /// The real file.
    pub path: PathBuf,
    /// Which master key it is sealed under.
    pub key_id: KeyId,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes that a rewrite would keep.
    pub live_bytes: u64,
    /// Bytes that a rewrite would drop.
    pub dead_bytes: u64,
    /// The ways in, by what their age headers say. A key that the keychain holds is an X25519 key too.
    pub ways: Vec<ProbedWay>,
    /// How many frames there are of each kind, dead ones included.
    pub frames: Vec<(FrameKind, usize)>,
    /// Entries that are there now.
    pub entries: usize,
    /// Stretches of bytes that are no frame.
    pub damaged: usize,
}

/// A way in, as its age header shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbedWay {
    /// What it opens by.
    pub kind: WayKind,
    /// What guessing it costs, for a passphrase.
    pub costs: Option<Costs>,
}

/// What an opened vault says about itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VaultStatus {
    /// The real file.
    pub path: PathBuf,
    /// Which master key it is sealed under.
    pub key_id: KeyId,
    /// Its ways in.
    pub ways: Vec<WayIn>,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes that a rewrite would keep.
    pub live_bytes: u64,
    /// Bytes that a rewrite would drop.
    pub dead_bytes: u64,
    /// Bytes that are kept allocated past its end, so that a renewal's write finds its space.
    pub room_bytes: u64,
    /// Whether the file system can promise that room, as far as this handle has asked.
    pub room_promised: bool,
    /// Entries that are there now.
    pub entries: usize,
    /// The revision that the next write gets.
    pub next_revision: u64,
    /// Stretches of bytes that are no frame.
    pub damaged: usize,
    /// The network file system it stands on, if it does.
    pub network_file_system: Option<&'static str>,
    /// Whether the file was replaced by an older one while this handle had it open.
    pub went_back: bool,
}

/// Every frame of a vault, and whether it is as it was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VaultReport {
    /// The frames and the damage, as they stand in the file.
    pub frames: Vec<VaultFrame>,
    /// Where a torn tail begins, and its length: what a killed append left behind. The next write cuts it off.
    pub torn_tail: Option<(u64, u64)>,
}

impl VaultReport {
    /// What is damaged.
    pub fn damaged(&self) -> impl Iterator<Item = &VaultFrame> {
        self.frames.iter().filter(|frame| matches!(frame.state, FrameState::Damaged(_)))
    }
}

/// One frame, or a stretch of bytes that is none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VaultFrame {
    /// Where it begins.
    pub offset: u64,
    /// Its length, head included.
    pub bytes: u64,
    /// What it is; `None` if that cannot be told.
    pub kind: Option<FrameKind>,
    /// Its seq: for an entry, the revision.
    pub seq: u64,
    /// The entry's name, where it was asked for and can be read.
    pub key: Option<Key>,
    /// How it is.
    pub state: FrameState,
}

/// How a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameState {
    /// Whole, and counts.
    Live,
    /// Whole, and replaced by a later one.
    Dead,
    /// Its head was damaged and could be told from its body, which is whole.
    HeadRebuilt,
    /// Not as it was written, for this reason.
    Damaged(&'static str),
}

impl Vault {
    /// Looks at the vault at `path` without any key.
    ///
    /// # Errors
    ///
    /// Those of [`super::VaultOptions::open`] that need no key.
    pub fn probe(path: impl AsRef<Path>) -> Result<VaultProbe, StoreError> {
        let disk = Disk::default();
        let place = Place::existing(&disk, path.as_ref())?;
        let mut counts = [0_usize; 5];
        let view = view::load(&disk, &place, None, &mut |met| {
            if let Some(count) = counts.get_mut(usize::from(met.kind.code()).wrapping_sub(1)) {
                *count += 1;
            }
        })?;
        let ways = view::found_ways(&view).into_iter().map(|way| {
            let (kind, costs) = kind_of(way.message());
            ProbedWay { kind, costs }
        });
        let kinds = (1..).map_while(FrameKind::from_code);
        Ok(VaultProbe {
            ways: ways.collect(),
            key_id: view.log.header.key_id,
            bytes: length(&view, &place)?,
            live_bytes: view.log.live,
            dead_bytes: view.log.dead(),
            frames: kinds.zip(counts).collect(),
            entries: entries(&view.log),
            damaged: view.log.damage.len(),
            path: place.file,
        })
    }

    /// What the vault says about itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the list of its ways in is damaged; and those of any read.
    pub fn status(&self) -> Result<VaultStatus, StoreError> {
        let shared = &self.shared;
        let view = shared.latest()?;
        let ways = view::read_ways(&view, &shared.keys, &shared.place.file)?;
        let opened_by = *shared.opened_by.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(VaultStatus {
            path: shared.place.file.clone(),
            key_id: shared.keys.id(),
            ways: ways.ways.iter().map(|way| way.shown(&opened_by)).collect(),
            bytes: length(&view, &shared.place)?,
            live_bytes: view.log.live,
            dead_bytes: view.log.dead(),
            room_bytes: ROOM,
            room_promised: shared.promises_room.load(Ordering::SeqCst),
            entries: entries(&view.log),
            next_revision: shared.next_seq(&view),
            damaged: view.log.damage.len(),
            network_file_system: shared.place.network_file_system(&shared.disk),
            went_back: shared.went_back.load(Ordering::SeqCst),
        })
    }

    /// Opens every frame and says how it is. `names` also tells which entry each belongs to.
    ///
    /// # Errors
    ///
    /// Those of any read; damage is not an error here but in the report.
    pub async fn verify(&self, names: bool) -> Result<VaultReport, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.verify(names)).await
    }
}

impl Shared {
    fn verify(&self, names: bool) -> Result<VaultReport, StoreError> {
        let mut met = Vec::new();
        let view = view::load(&self.disk, &self.place, Some(&self.keys), &mut |frame| met.push(frame))?;
        let mut frames: Vec<_> = met.into_iter().map(|met| self.examine(&view, met, names)).collect();
        frames.extend(view.log.damage.iter().map(|damage| VaultFrame {
            offset: damage.offset,
            bytes: damage.len,
            kind: None,
            seq: 0,
            key: None,
            state: FrameState::Damaged("these bytes are no record"),
        }));
        frames.sort_by_key(|frame| frame.offset);
        let torn = length(&view, &self.place)?.saturating_sub(view.log.end);
        Ok(VaultReport { frames, torn_tail: (torn > 0).then_some((view.log.end, torn)) })
    }

    fn examine(&self, view: &View, met: Met, names: bool) -> VaultFrame {
        let Met { kind, tag, at } = met;
        let mut key = None;
        let opened = match kind {
            FrameKind::WayIn => view::read_body(&view.file, kind, &tag, at).map(drop),
            _ => view::read_record(&view.file, &self.keys, kind, &tag, at).map(|record| {
                key = names.then(|| Key::new(record.key()).ok()).flatten();
            }),
        };
        let state = match opened {
            Err(reason) => FrameState::Damaged(reason),
            Ok(()) if at.head == super::log::HeadState::Rebuilt => FrameState::HeadRebuilt,
            Ok(()) if is_live(&view.log, kind, &tag, at) => FrameState::Live,
            Ok(()) => FrameState::Dead,
        };
        VaultFrame { offset: at.offset, bytes: at.size(), kind: Some(kind), seq: at.seq, key, state }
    }
}

fn is_live(log: &Log, kind: FrameKind, tag: &Tag, at: At) -> bool {
    match kind {
        FrameKind::WayIn => log.ways_in.contains(&at),
        FrameKind::Ways => log.ways == Some(at),
        FrameKind::Note => log.notes.get(tag) == Some(&at),
        FrameKind::Put | FrameKind::Removed => {
            log.entries.get(tag).is_some_and(|entry| !entry.removed && entry.at == at)
        }
    }
}

fn entries(log: &Log) -> usize {
    log.entries.values().filter(|entry| !entry.removed).count()
}

fn length(view: &View, place: &Place) -> Result<u64, StoreError> {
    view.file.facts().map(|facts| facts.len).map_err(|error| place::io("reading", &place.file, error))
}
