//! Opening a file that may be damaged anywhere, its header included: for checking it and for saving what it holds.
//!
//! Nothing here is used to read or write a vault in everyday use, where a damaged header opens nothing.

use super::begin::begin;
use super::disk::Disk;
use super::frame::{FrameKind, HEADER_LEN, Head, Header, KeyId, Tag};
use super::log::{At, Log, Met};
use super::pin::KeyPin;
use super::place::Place;
use super::record::Keys;
use super::unwrap::{self, FoundWay};
use super::view::{self, View, scan_failed};
use super::way_in::{Opener, Unlock};
use super::ways::{BadList, Ways};
use crate::StoreError;

/// What opened a damaged vault.
pub(super) struct Unlocked {
    pub(super) keys: Keys,
    /// SHA-256 of the way-in frame that opened.
    pub(super) way: [u8; 32],
    /// What it opened by, as a list of ways in says it.
    pub(super) by_keychain: bool,
    /// The public key of the identity that opened, where it was one and no list has it.
    pub(super) recipient: Option<String>,
}

/// As [`view::load`], but believes no header that is damaged: what is wrong with it is returned. What the header says is
/// then what stands there.
pub(super) fn load(
    disk: &Disk,
    place: &Place,
    keys: Option<&Keys>,
    met: &mut dyn FnMut(Met),
) -> Result<(View, Option<&'static str>), StoreError> {
    let begun = begin(disk, place, keys)?;
    let (start, facts) = (begun.start(), &begun.facts);
    let (header, damage) = match begun.header {
        Ok(header) => (header, None),
        Err(what) => (as_it_stands(start), Some(what)),
    };
    let mut log = Log::new(header);
    if damage.is_some()
        && let Some(first) =
            (0..HEADER_LEN).find(|&at| start.get(at..).is_some_and(|rest| Head::decode(rest).is_some()))
    {
        // Bytes of the header are missing: the first frame begins earlier.
        log.end = first as u64;
        log.live = log.end;
    }
    if log.end > facts.len {
        // Less than a header is left.
        log.end = facts.len;
        log.live = facts.len;
    }
    log.scan(&begun.file, facts.len, keys, met).map_err(|error| scan_failed(&place.file, error))?;
    let id = facts.id;
    Ok((View { file: std::sync::Arc::new(begun.file), id, log, allocated_until: 0 }, damage))
}

fn as_it_stands(start: &[u8]) -> Header {
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(start.iter().skip(19)) {
        *to = *from;
    }
    Header { key_id: KeyId::new(id), next_seq: 0 }
}

/// Opens a file that may be damaged. A way in is taken only if the list of ways in names it. Where that list cannot be
/// read, the header vouches for its master key; where that is damaged too, a record that opens under it does.
/// `pin` may refuse the key id that a whole header names, before any key is tried; that of the keys is for the caller to
/// judge.
pub(super) fn open(
    disk: &Disk,
    place: &Place,
    pin: &KeyPin,
    unlock: &Unlock,
) -> Result<Unlocked, StoreError> {
    let mut all = Vec::new();
    let (mut view, damage) = load(disk, place, None, &mut |met| {
        if met.kind == FrameKind::WayIn {
            all.push(met.at);
        }
    })?;
    if damage.is_none() {
        pin.check_given(&place.file, view.log.header.key_id)?;
    }
    // Those too that stand behind other frames: what came before the first of them may be the damage.
    view.log.ways_in = all;
    let mut ways = view::found_ways(&view);
    if ways.is_empty() {
        return Err(StoreError::Corrupt {
            what: format!(
                "{}no way in can be found in {}, so that nothing opens it: put a copy of it back",
                damage.map(|what| format!("{what}; ")).unwrap_or_default(),
                place.file.display()
            ),
        });
    }
    ways.iter_mut().for_each(|way| way.any_key = damage.is_some());
    let mut is_list = true;
    let opened = unwrap::open(&place.file, &view.log.header, &ways, unlock, &mut |keys, way| {
        let (vouched, by_list) = vouched_for(disk, place, keys, way, damage.is_some())?;
        is_list = by_list;
        Ok(vouched)
    })?;
    // A list has it already.
    let recipient = ways
        .iter()
        .find(|way| !is_list && super::ways::digest(&way.frame) == opened.way)
        .and_then(|way| recipient(&view.log.header, way, unlock));
    let by_keychain = matches!(unlock.opener, Opener::Keychain(_));
    Ok(Unlocked { keys: opened.keys, way: opened.way, by_keychain, recipient })
}

/// Whether something vouches for this way in, and whether that is the list.
fn vouched_for(
    disk: &Disk,
    place: &Place,
    keys: &Keys,
    way: &[u8; 32],
    header_damaged: bool,
) -> Result<(bool, bool), StoreError> {
    let mut met = Vec::new();
    let (view, _) = load(disk, place, Some(keys), &mut |found| met.push(found))?;
    match newest_list(&view, keys, &met) {
        Ok((_, list)) => return Ok((list.lists(way), true)),
        Err(NoList::Newer) => return Err(newer_list(place)),
        Err(NoList::Unreadable(what)) => tracing::debug!(what, "the list of ways in cannot be read"),
    }
    let opens = |met: &Met| {
        met.kind != FrameKind::WayIn
            && view::read_record(&view.file, keys, met.kind, &met.tag, met.at).is_ok()
    };
    // Where the header is whole, the master key had to be its.
    let vouched = !header_damaged || keys.id() == view.log.header.key_id || met.iter().any(opens);
    Ok((vouched, false))
}

/// Why there is no list of ways in to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoList {
    /// It was written by a newer version, which may mean something by it.
    Newer,
    /// What is wrong with it.
    Unreadable(&'static str),
}

pub(super) fn newer_list(place: &Place) -> StoreError {
    StoreError::NewerVersion { what: format!("the list of ways in of the vault at {}", place.file.display()) }
}

/// The newest list of ways in that opens. A list is only ever written together with the whole file, so that one of
/// another vault's that got in does not hide this one's.
pub(super) fn newest_list(view: &View, keys: &Keys, met: &[Met]) -> Result<(At, Ways), NoList> {
    let mut lists: Vec<At> = met.iter().filter(|met| met.kind == FrameKind::Ways).map(|met| met.at).collect();
    lists.sort_unstable_by_key(|at| std::cmp::Reverse(at.seq));
    let mut trouble = NoList::Unreadable("it is nowhere to be found");
    for at in lists {
        match view::read_record(&view.file, keys, FrameKind::Ways, &Tag::NONE, at) {
            Ok(record) => match Ways::decode(record.value()) {
                Ok(list) => return Ok((at, list)),
                Err(BadList::NewerVersion) => return Err(NoList::Newer),
                Err(BadList::Malformed) => trouble = NoList::Unreadable("it does not read as one"),
            },
            Err(what) => trouble = NoList::Unreadable(what),
        }
    }
    Err(trouble)
}

/// The public key of the identity that opens `way`, so that keys can be changed later without asking for it.
fn recipient(header: &Header, way: &FoundWay, unlock: &Unlock) -> Option<String> {
    let identities = unwrap::identities(unlock, header.key_id).ok()?;
    identities.recipient_of(|key| matches!(unwrap::open_one(header, way, std::iter::once(key)), Ok(Some(_))))
}
