//! Saving what can be read of a damaged vault: what would be kept, and what would be lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::examine::{Examination, Examined, ExaminedWay, examine};
use super::frame::FrameKind;
use super::lock::{self, KEYS, WRITER};
use super::place::Place;
use super::salvage::{self, Unlocked};
use super::verify::{CheckedWay, FrameState, VaultReport, WayState};
use super::way_in::{NewWayIn, Unlock};
use super::{VaultOptions, blocking, rebuild};
use crate::{Key, StoreError};

/// A vault that was opened in spite of any damage, for saving what can be read of it.
pub struct Salvage {
    options: VaultOptions,
    place: Place,
    unlocked: Arc<Unlocked>,
    found: Examination,
}

/// Shows where it is alone.
impl std::fmt::Debug for Salvage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage").field("file", &self.place.file).finish_non_exhaustive()
    }
}

/// What a repair keeps, and what it loses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairPlan {
    /// Whether anything is damaged at all.
    pub needed: bool,
    /// How many entries are kept, doubtful ones that are kept included.
    pub kept: usize,
    /// Entries whose newest state is damaged. No older one takes its place: its refresh token is spent.
    pub lost: Vec<AffectedEntry>,
    /// Entries that are whole and may be outdated, since damage behind them may have held a newer state.
    pub doubtful: Vec<AffectedEntry>,
    /// Whether those are kept as they are; else they are lost too.
    pub keeps_doubtful: bool,
    /// Stretches of bytes that belong to nobody known: where they begin, and their length.
    pub unknown: Vec<(u64, u64)>,
    /// The ways in.
    pub ways: Vec<PlannedWay>,
}

impl RepairPlan {
    /// Every entry that will be gone.
    pub fn gone(&self) -> impl Iterator<Item = &AffectedEntry> {
        let doubtful = if self.keeps_doubtful { &[][..] } else { &self.doubtful };
        self.lost.iter().chain(doubtful)
    }

    /// Whether `self` loses nothing that `shown` did not say.
    fn is_as_shown(&self, shown: &Self) -> bool {
        let entries = self.gone().all(|entry| shown.gone().any(|other| other == entry));
        let dropped = |plan: &Self| -> Vec<Option<u64>> {
            let dropped = plan.ways.iter().filter(|way| matches!(way.fate, WayFate::Dropped(_)));
            dropped.map(|way| way.offset).collect()
        };
        entries && dropped(self) == dropped(shown)
    }
}

/// An entry that damage has touched, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AffectedEntry {
    /// Its name, if any record of it can be opened.
    pub key: Option<Key>,
    /// The revision of its newest state, as far as its head can be believed.
    pub revision: u64,
    /// Where that record begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A way in, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedWay {
    /// What it opens by, as [`super::WayKind::name`] says it.
    pub kind: &'static str,
    /// What it was called.
    pub label: String,
    /// The public key it is for, where the list of ways in says it.
    pub recipient: Option<String>,
    /// Where it stands, if it was found.
    pub offset: Option<u64>,
    /// Whether it is the one that opened the vault now.
    pub opened_by: bool,
    /// What becomes of it.
    pub fate: WayFate,
}

/// What becomes of a way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WayFate {
    /// It is kept as it is.
    Kept,
    /// It is damaged, and made again for the same public key.
    MadeAnew,
    /// It is not in the repaired vault, for this reason.
    Dropped(&'static str),
}

/// What a repair did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Repaired {
    /// Where the damaged file was kept.
    pub damaged: PathBuf,
    /// The repaired vault, as it was read once more before it was put in place.
    pub report: VaultReport,
}

impl VaultOptions {
    /// Opens the vault at `path` in spite of any damage, that of its header and of its list of ways in included.
    ///
    /// # Errors
    ///
    /// Those of [`VaultOptions::open`], but [`StoreError::Corrupt`] only if the damage leaves no way in that opens.
    /// [`StoreError::UntrustedKeys`] goes by the key id of the master key, where the header is damaged.
    pub async fn salvage(&self, path: impl AsRef<Path>, unlock: &Unlock) -> Result<Salvage, StoreError> {
        let place = Place::existing(&self.disk, path.as_ref())?;
        let (options, unlock) = (self.clone(), unlock.clone());
        blocking(move || {
            let unlocked = Arc::new(salvage::open(&options.disk, &place, &options.pin, &unlock)?);
            // A repair is not to make a sound vault out of a file that an opening would refuse.
            options.pin.check(&place.file, unlocked.keys.id(), unlock.is_proof())?;
            let by = Some((&unlocked.keys, &unlocked.way));
            let found = examine(&options.disk, &place, by, &options.likely)?;
            Ok(Salvage { options, place, unlocked, found })
        })
        .await
    }
}

impl Salvage {
    /// How everything in the file is.
    pub fn report(&self) -> VaultReport {
        self.found.report(true)
    }

    /// What a repair would keep and lose. `keep_doubtful` keeps entries that may be outdated: if one is, its refresh token
    /// is spent, and its session ends at the next renewal.
    pub fn plan(&self, keep_doubtful: bool) -> RepairPlan {
        plan(&self.found, keep_doubtful)
    }

    /// Writes everything that `plan` keeps into a new file, puts that in the vault's place, and keeps the damaged file
    /// beside it. Waits at most `wait` for whoever holds a lease or writes. At whatever moment it is killed, the vault is
    /// the damaged file or the repaired one.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseHeld`] when `wait` has passed; [`StoreError::Conflict`] if the file has changed since and more
    /// would be lost than `plan` says; and those of any write: then nothing was changed.
    pub async fn repair(&self, plan: &RepairPlan, wait: Duration) -> Result<Repaired, StoreError> {
        let (disk, place) = (self.options.disk.clone(), self.place.clone());
        let locks = lock::take(&disk, &place.lock, &[KEYS, WRITER], wait)
            .await?
            .ok_or(StoreError::LeaseHeld { waited: wait })?;
        let (unlocked, now) = (Arc::clone(&self.unlocked), self.options.clock.wall());
        let (shown, likely) = (plan.clone(), self.options.likely.clone());
        blocking(move || {
            let found = examine(&disk, &place, Some((&unlocked.keys, &unlocked.way)), &likely)?;
            if !self::plan(&found, shown.keeps_doubtful).is_as_shown(&shown) {
                return Err(StoreError::Conflict { stored: None });
            }
            let repaired = rebuild::rebuild(&disk, &place, &unlocked, &found, shown.keeps_doubtful, now);
            drop(locks);
            repaired
        })
        .await
    }
}

/// What becomes of an entry's newest state.
pub(super) fn is_kept(examined: &Examined, keep_doubtful: bool) -> bool {
    let frame = &examined.frame;
    frame.counts
        && frame.kind == Some(FrameKind::Put)
        && match frame.state {
            FrameState::Live | FrameState::HeadRebuilt => true,
            FrameState::Unreadable(_) => keep_doubtful,
            FrameState::Dead | FrameState::Damaged(_) => false,
        }
}

fn plan(found: &Examination, keep_doubtful: bool) -> RepairPlan {
    let report = found.report(true);
    let affected = |wanted: fn(FrameState) -> Option<&'static str>| -> Vec<AffectedEntry> {
        let affected = report.entries().filter_map(|frame| {
            wanted(frame.state).map(|reason| AffectedEntry {
                key: frame.key.clone(),
                revision: frame.seq,
                offset: frame.offset,
                bytes: frame.bytes,
                reason,
            })
        });
        affected.collect()
    };
    RepairPlan {
        needed: !report.is_whole(),
        kept: found.frames.iter().filter(|examined| is_kept(examined, keep_doubtful)).count(),
        lost: affected(|state| match state {
            FrameState::Damaged(reason) => Some(reason),
            _ => None,
        }),
        doubtful: affected(|state| match state {
            FrameState::Unreadable(reason) => Some(reason),
            _ => None,
        }),
        keeps_doubtful: keep_doubtful,
        unknown: report
            .frames
            .iter()
            .filter(|frame| frame.kind.is_none())
            .map(|frame| (frame.offset, frame.bytes))
            .collect(),
        ways: found.ways.iter().map(|way| planned(way, found.list.is_ok())).collect(),
    }
}

fn planned(way: &ExaminedWay, is_list: bool) -> PlannedWay {
    let CheckedWay { kind, label, recipient, offset, opened_by, .. } = way.shown();
    PlannedWay { kind: kind.name(), label, recipient, offset, opened_by, fate: fate(way, is_list) }
}

/// What becomes of a way in. Without a list nothing vouches for any but the one that opened: its holder has the master
/// key already.
pub(super) fn fate(way: &ExaminedWay, is_list: bool) -> WayFate {
    match way.state {
        _ if !is_list && way.opened_by => WayFate::Kept,
        _ if !is_list => WayFate::Dropped("the list of ways in is lost, and nothing else vouches for it"),
        WayState::Whole => WayFate::Kept,
        WayState::NotListed => WayFate::Dropped("the list of ways in does not name it"),
        WayState::Damaged(_) | WayState::Missing => match again(way) {
            Some(_) => WayFate::MadeAnew,
            None => WayFate::Dropped("it is damaged, and cannot be made again without its secret"),
        },
    }
}

/// What makes a damaged way in again: its public key, if it has one.
pub(super) fn again(way: &ExaminedWay) -> Option<NewWayIn> {
    let recipient = way.shown().recipient?;
    let again = NewWayIn::Recipient { recipient, label: String::new() };
    NewWayIn::check_all(std::slice::from_ref(&again)).is_ok().then_some(again)
}
