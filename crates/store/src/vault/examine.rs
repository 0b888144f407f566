//! Looking at every frame of a file: what [`super::verify`] reports and [`super::repair`] works from.

use std::collections::HashMap;

use super::argon2id::Costs;
use super::disk::Disk;
use super::frame::{FrameKind, HEAD_LEN, Head, Tag};
use super::log::{At, HeadState, Log, Met};
use super::place::{self, Place};
use super::probe::length;
use super::record::Keys;
use super::salvage::{self, NoList, newest_list};
use super::unwrap::{FoundWay, kind_of};
use super::verify::{CheckedWay, FrameState, VaultFrame, VaultReport, WayState};
use super::view::{self, View};
use super::ways::{ListedWay, WayKind, Ways, digest};
use crate::{Key, StoreError};

const NO_RECORD: &str = "these bytes are no record";
const NOT_AS_WRITTEN: &str = "it is not as it was written";
const MAY_BE_OUTDATED: &str = "whole, but damage behind it may have held a newer state of this entry";

/// A file that was looked at, frame by frame.
pub(super) struct Examination {
    pub(super) view: View,
    /// What is wrong with the header.
    pub(super) header: Option<&'static str>,
    /// The list of ways in, and where it stands. Without keys there is none to go by.
    pub(super) list: Result<(At, Ways), NoList>,
    pub(super) ways: Vec<ExaminedWay>,
    /// The frames and the damage, as they stand in the file.
    pub(super) frames: Vec<Examined>,
    /// Above every seq of a frame that opens.
    pub(super) opened_below: u64,
    pub(super) torn_tail: Option<(u64, u64)>,
    place: Place,
    key_id: Option<super::KeyId>,
    opened: bool,
}

/// One frame, or a stretch of bytes that is none.
pub(super) struct Examined {
    /// What the scan says it is.
    pub(super) met: Option<Met>,
    pub(super) frame: VaultFrame,
}

/// One way in.
pub(super) struct ExaminedWay {
    pub(super) found: Option<FoundWay>,
    pub(super) listed: Option<ListedWay>,
    pub(super) state: WayState,
    pub(super) opened_by: bool,
}

/// Looks at every frame of the file at `place`: with keys, and which way in gave them, opens them too. Damage is not
/// believed before the file was opened and read once more.
pub(super) fn examine(
    disk: &Disk,
    place: &Place,
    by: Option<(&Keys, &[u8; 32])>,
    likely: &[Key],
) -> Result<Examination, StoreError> {
    let found = look(disk, place, by, likely)?;
    let damaged = |examined: &Examined| matches!(examined.frame.state, FrameState::Damaged(_));
    if found.header.is_none() && !found.frames.iter().any(damaged) {
        return Ok(found);
    }
    look(disk, place, by, likely)
}

fn look(
    disk: &Disk,
    place: &Place,
    by: Option<(&Keys, &[u8; 32])>,
    likely: &[Key],
) -> Result<Examination, StoreError> {
    let keys = by.map(|(keys, _)| keys);
    let mut met = Vec::new();
    let (mut view, header) = salvage::load(disk, place, keys, &mut |found| met.push(found))?;
    let list = match keys {
        Some(keys) => newest_list(&view, keys, &met),
        None => Err(NoList::Unreadable("it takes a key to read it")),
    };
    if list.as_ref().is_err_and(|trouble| *trouble == NoList::Newer) {
        return Err(salvage::newer_list(place));
    }
    let list_at = list.as_ref().ok().map(|(at, _)| *at);
    let counted = view.log.ways_in.clone();
    view.log.ways_in = met.iter().filter(|met| met.kind == FrameKind::WayIn).map(|met| met.at).collect();
    let ways =
        examine_ways(&view, list.as_ref().ok().map(|(_, list)| list), by.map(|(_, way)| way), &counted);

    let mut names: HashMap<Tag, Key> = HashMap::new();
    for (name, keys) in likely.iter().filter_map(|name| Some((name, keys?))) {
        names.insert(keys.tag_of(name.as_str()), name.clone());
    }
    let mut opened_below = 0;
    let mut frames: Vec<Examined> = Vec::with_capacity(met.len() + view.log.damage.len());
    for met in met {
        let Met { kind, tag, at } = met;
        let state = match (kind, keys) {
            (FrameKind::WayIn, _) | (_, None) => view::read_body(&view.file, kind, &tag, at).map(drop),
            (_, Some(keys)) => view::read_record(&view.file, keys, kind, &tag, at).map(|record| {
                opened_below = opened_below.max(at.seq.saturating_add(1));
                if let Ok(name) = Key::new(record.key()) {
                    names.entry(tag).or_insert(name);
                }
            }),
        };
        let counts = match kind {
            FrameKind::WayIn => ways.iter().any(|way| {
                way.state != WayState::NotListed
                    && way.found.as_ref().is_some_and(|found| found.offset == at.offset)
            }),
            FrameKind::Ways => Some(at) == list_at || view.log.ways == Some(at),
            _ => is_newest(&view.log, kind, &tag, at),
        };
        let doubtful = counts && kind == FrameKind::Put && view.log.entry(&tag).is_err();
        let state = match state {
            Err(reason) => FrameState::Damaged(reason),
            Ok(()) if doubtful => FrameState::Unreadable(MAY_BE_OUTDATED),
            Ok(()) if at.head == HeadState::Rebuilt => FrameState::HeadRebuilt,
            Ok(()) if counts && kind != FrameKind::Removed => FrameState::Live,
            Ok(()) => FrameState::Dead,
        };
        let (offset, bytes) = (at.offset, at.size());
        let frame = VaultFrame { offset, bytes, kind: Some(kind), seq: at.seq, key: None, counts, state };
        frames.push(Examined { met: Some(met), frame });
    }
    for examined in &mut frames {
        examined.frame.key = examined.met.and_then(|met| names.get(&met.tag).cloned());
    }
    frames.extend(view.log.damage.iter().map(|damage| Examined {
        met: None,
        frame: VaultFrame {
            offset: damage.offset,
            bytes: damage.len,
            kind: None,
            seq: 0,
            key: None,
            counts: true,
            state: FrameState::Damaged(NO_RECORD),
        },
    }));
    frames.sort_by_key(|examined| examined.frame.offset);
    let torn = length(&view, place)?.saturating_sub(view.log.end);
    Ok(Examination {
        torn_tail: (torn > 0).then_some((view.log.end, torn)),
        key_id: keys.map(Keys::id).or_else(|| header.is_none().then_some(view.log.header.key_id)),
        opened: keys.is_some(),
        place: place.clone(),
        view,
        header,
        list,
        ways,
        frames,
        opened_below,
    })
}

/// Whether nothing has replaced the frame at `at`, as the log has it.
fn is_newest(log: &Log, kind: FrameKind, tag: &Tag, at: At) -> bool {
    match kind {
        FrameKind::Note => log.notes.get(tag) == Some(&at),
        _ => log.entries.get(tag).is_some_and(|entry| entry.at == at),
    }
}

/// The ways in that are listed, each with its frame if that is whole; then those that stand in the file besides.
fn examine_ways(
    view: &View,
    list: Option<&Ways>,
    opened_by: Option<&[u8; 32]>,
    counted: &[At],
) -> Vec<ExaminedWay> {
    let mut found = view::found_ways(view);
    let is_opener = |digest: &[u8; 32]| opened_by == Some(digest);
    let mut ways = Vec::new();
    for listed in list.into_iter().flat_map(|list| &list.ways) {
        let at = found.iter().position(|way| way.whole && digest(&way.frame) == *listed.digest());
        let found = at.map(|at| found.remove(at));
        ways.push(ExaminedWay {
            state: if found.is_some() { WayState::Whole } else { WayState::Missing },
            opened_by: is_opener(listed.digest()),
            listed: Some(listed.clone()),
            found,
        });
    }
    for found in found {
        let (whole, kind) = (found.whole, kind_of(found.message()).0);
        let missing = |way: &&mut ExaminedWay| way.state == WayState::Missing && way.is_of(kind);
        if !whole && let Some(way) = ways.iter_mut().find(missing) {
            // Which of those that are missing cannot be told, and does not matter: none of them opens.
            (way.found, way.state) = (Some(found), WayState::Damaged(NOT_AS_WRITTEN));
            continue;
        }
        let stands_first = counted.iter().any(|at| at.offset == found.offset);
        let state = match whole {
            true if list.is_none() && stands_first => WayState::Whole,
            false if list.is_none() => WayState::Damaged(NOT_AS_WRITTEN),
            _ => WayState::NotListed,
        };
        let opened_by = is_opener(&digest(&found.frame));
        ways.push(ExaminedWay { found: Some(found), listed: None, state, opened_by });
    }
    ways
}

impl ExaminedWay {
    /// Whether it is listed as one that looks like `kind` from outside.
    fn is_of(&self, kind: WayKind) -> bool {
        let listed = self.listed.as_ref().map(ListedWay::kind);
        kind == WayKind::Other
            || listed == Some(kind)
            || (listed, kind) == (Some(WayKind::Keychain), WayKind::X25519)
    }

    /// As shown to people.
    pub(super) fn shown(&self) -> CheckedWay {
        let offset = self.found.as_ref().map(|found| found.offset);
        let seen: Option<(WayKind, Option<Costs>)> =
            self.found.as_ref().map(|found| kind_of(found.message()));
        let (kind, costs) = seen.unwrap_or((WayKind::Other, None));
        let listed = self.listed.as_ref().map(|listed| listed.shown(&[0; 32]));
        CheckedWay {
            kind: listed.as_ref().map_or(kind, |way| way.kind),
            costs: listed.as_ref().map_or(costs, |way| way.costs),
            label: listed.as_ref().map(|way| way.label.clone()).unwrap_or_default(),
            recipient: listed.as_ref().and_then(|way| way.recipient.clone()),
            created: listed.as_ref().map(|way| way.created),
            offset,
            state: self.state,
            opened_by: self.opened_by,
        }
    }
}

impl Examination {
    /// What was found, with the names of entries if asked for.
    pub(super) fn report(&self, names: bool) -> VaultReport {
        let frame = |examined: &Examined| VaultFrame {
            key: examined.frame.key.clone().filter(|_| names),
            ..examined.frame.clone()
        };
        VaultReport {
            path: self.place.file.clone(),
            key_id: self.key_id,
            opened: self.opened,
            header: self.header,
            list: match self.list {
                Err(NoList::Unreadable(what)) if self.opened => Some(what),
                _ => None,
            },
            ways: self.ways.iter().map(ExaminedWay::shown).collect(),
            frames: self.frames.iter().map(frame).collect(),
            torn_tail: self.torn_tail,
        }
    }

    /// What the head of a torn tail says its seq would have been, if there is one.
    pub(super) fn torn_seq(&self) -> Result<Option<u64>, StoreError> {
        let Some((offset, _)) = self.torn_tail else { return Ok(None) };
        let mut head = [0; HEAD_LEN];
        let read = self
            .view
            .file
            .read_at(&mut head, offset)
            .map_err(|error| place::io("reading", &self.place.file, error))?;
        Ok(Head::decode(&head[..read]).map(|head| head.seq))
    }
}
