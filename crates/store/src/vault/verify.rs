//! Every frame of a vault, and how it is.

use std::path::PathBuf;
use std::time::SystemTime;

use super::argon2id::Costs;
use super::examine::examine;
use super::frame::{FrameKind, KeyId};
use super::place::Place;
use super::way_in::Unlock;
use super::ways::WayKind;
use super::{Vault, VaultOptions, blocking, salvage};
use crate::{Key, StoreError};

/// Every frame of a vault, and whether it is as it was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VaultReport {
    /// The real file.
    pub path: PathBuf,
    /// Which master key it is sealed under: as its keys say, or else its header. `None` if the header is damaged and no
    /// key was there.
    pub key_id: Option<KeyId>,
    /// Whether records were opened. Else only checksums were looked at.
    pub opened: bool,
    /// What is wrong with the file's header, if anything is.
    pub header: Option<&'static str>,
    /// What is wrong with the list of ways in, if anything is; without keys that cannot be told.
    pub list: Option<&'static str>,
    /// The ways in: those that are listed, and those that stand in the file and are not.
    pub ways: Vec<CheckedWay>,
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

    /// The newest state of each entry, whatever it is like. Entries that were removed are left out, unless the removal
    /// is damaged.
    pub fn entries(&self) -> impl Iterator<Item = &VaultFrame> {
        self.frames.iter().filter(|frame| {
            frame.counts
                && match frame.kind {
                    Some(FrameKind::Put) => true,
                    Some(FrameKind::Removed) => matches!(frame.state, FrameState::Damaged(_)),
                    _ => false,
                }
        })
    }

    /// Whether nothing is damaged that is needed. Damage of what was replaced since, a torn tail, and damage of a note,
    /// which need not survive a power cut, cost nobody anything.
    pub fn is_sound(&self) -> bool {
        let hurt = |frame: &VaultFrame| {
            frame.counts
                && frame.kind != Some(FrameKind::Note)
                && !matches!(frame.state, FrameState::Live | FrameState::Dead)
        };
        self.header.is_none()
            && self.list.is_none()
            && !self.ways.iter().any(|way| matches!(way.state, WayState::Damaged(_) | WayState::Missing))
            && !self.frames.iter().any(hurt)
    }

    /// Whether nothing at all is damaged. A torn tail is no damage.
    pub fn is_whole(&self) -> bool {
        let whole = |frame: &VaultFrame| matches!(frame.state, FrameState::Live | FrameState::Dead);
        self.is_sound() && self.frames.iter().all(whole)
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
    /// The entry's name, where it was asked for and can be told: by this record, or by another one of the same entry.
    pub key: Option<Key>,
    /// Whether it is the newest state of what it is about: nothing has replaced it.
    pub counts: bool,
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
    /// Whole, but not read, for this reason: damage elsewhere may have held a newer state.
    Unreadable(&'static str),
    /// Not as it was written, for this reason.
    Damaged(&'static str),
}

/// A way in, and how it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckedWay {
    /// What it opens by.
    pub kind: WayKind,
    /// What the person who made it called it; empty too where no list says it.
    pub label: String,
    /// The public key it is wrapped to, where the list says it.
    pub recipient: Option<String>,
    /// When it was made, where the list says it.
    pub created: Option<SystemTime>,
    /// What guessing it costs, for a passphrase.
    pub costs: Option<Costs>,
    /// Where its frame stands, if it was found.
    pub offset: Option<u64>,
    /// How it is.
    pub state: WayState,
    /// Whether it is the one that opened the vault now.
    pub opened_by: bool,
}

/// How a way in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WayState {
    /// As it was written.
    Whole,
    /// It stands there, not as it was written, for this reason.
    Damaged(&'static str),
    /// The list names it, and no whole frame is it.
    Missing,
    /// It stands in the file and the list does not name it: it is not used.
    NotListed,
}

impl Vault {
    /// Opens every frame and says how it is. `names` also tells which entry each belongs to.
    ///
    /// # Errors
    ///
    /// Those of any read; damage is not an error here but in the report.
    pub async fn verify(&self, names: bool) -> Result<VaultReport, StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        blocking(move || {
            let opened_by = *shared.opened_by.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let found = examine(&shared.disk, &shared.place, Some((&shared.keys, &opened_by)), &[])?;
            Ok(found.report(names))
        })
        .await
    }
}

impl VaultOptions {
    /// Reads every frame of the file at `path` and says how it is, however damaged it is. With something that opens it,
    /// every record is opened and entries are named; without, checksums are looked at.
    ///
    /// # Errors
    ///
    /// Those of [`VaultOptions::open`] but that damage alone is none. [`StoreError::Corrupt`] if the damage leaves no way
    /// in that opens. [`StoreError::UntrustedKeys`] if another key id was given than that of the master key; without keys,
    /// than that of a header that is whole.
    pub async fn verify(
        &self,
        path: impl AsRef<std::path::Path>,
        unlock: Option<&Unlock>,
    ) -> Result<VaultReport, StoreError> {
        let place = Place::existing(&self.disk, path.as_ref())?;
        let (options, unlock) = (self.clone(), unlock.cloned());
        blocking(move || {
            let disk = &options.disk;
            let pin = &options.pin;
            let unlocked = unlock.map(|unlock| salvage::open(disk, &place, pin, &unlock)).transpose()?;
            let by = unlocked.as_ref().map(|unlocked| (&unlocked.keys, &unlocked.way));
            let report = examine(disk, &place, by, &options.likely)?.report(true);
            report.key_id.map_or(Ok(()), |id| pin.check_given(&place.file, id))?;
            Ok(report)
        })
        .await
    }
}
