//! Writing a repaired vault: the damaged file is kept beside it first, the new one is read once more, and only then put in
//! place.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::disk::Disk;
use super::examine::{Examination, examine};
use super::frame::{FrameKind, Header, Tag, frame};
use super::new_file::NewFile;
use super::place::{self, Place};
use super::repair::{Repaired, WayFate, again, fate, is_kept};
use super::rewrite::copy_frame;
use super::salvage::Unlocked;
use super::unwrap::kind_of;
use super::verify::{FrameState, VaultReport};
use super::ways::{ListedWay, WayKind, Ways};
use crate::StoreError;

/// How far above all that is known to have been used the seqs of a repaired vault go on: what the damage has used, a lost
/// header has promised or a cut has taken away lies below.
const BEYOND: u64 = 1 << 32;
/// A seq that stands further than this above every record that opens was never used: no repair and no amount of writing
/// leads there.
const PLAUSIBLE: u64 = 1 << 40;

/// Writes the repaired vault. Whoever calls holds the writer lock and byte 1.
pub(super) fn rebuild(
    disk: &Disk,
    place: &Place,
    unlocked: &Unlocked,
    found: &Examination,
    keep_doubtful: bool,
    now: SystemTime,
) -> Result<Repaired, StoreError> {
    let damaged = keep_damaged(disk, place, found, now)?;
    let mut new = NewFile::create(disk, place)?;
    let seq = next_seq(found)?;
    new.push(&Header { key_id: unlocked.keys.id(), next_seq: seq.saturating_add(1) }.encode())?;
    push_ways(&mut new, place, unlocked, found, seq, now)?;

    let kept: HashSet<Tag> = found
        .frames
        .iter()
        .filter(|examined| is_kept(examined, keep_doubtful))
        .filter_map(|examined| examined.met.map(|met| met.tag))
        .collect();
    let mut entries = 0;
    for examined in &found.frames {
        let Some(met) = examined.met else { continue };
        let wanted = match met.kind {
            FrameKind::Put => is_kept(examined, keep_doubtful),
            FrameKind::Note => {
                let whole = matches!(examined.frame.state, FrameState::Live | FrameState::HeadRebuilt);
                // A note that may be outdated is no note, and neither is one about an entry that is gone.
                let gone = found.view.log.entries.contains_key(&met.tag) && !kept.contains(&met.tag);
                examined.frame.counts
                    && whole
                    && !gone
                    && matches!(found.view.log.note(&met.tag), Ok(Some(_)))
            }
            FrameKind::WayIn | FrameKind::Ways | FrameKind::Removed => false,
        };
        if wanted {
            entries += usize::from(met.kind == FrameKind::Put);
            copy_frame(&mut new, &found.view, met.kind, met.tag, met.at)?;
        }
    }
    new.seal()?;
    let report = read_again(disk, place, unlocked)?;
    if !report.is_whole() || report.entries().count() != entries {
        return Err(StoreError::Corrupt {
            what: format!(
                "the repaired vault did not read as it was written, and was not put in place (is the disk failing?); \
                 the damaged file is kept as {} too",
                damaged.display()
            ),
        });
    }
    new.put_in_place()?;
    Ok(Repaired { damaged, report: VaultReport { path: place.file.clone(), ..report } })
}

/// The new file, read from the disk as any vault is.
fn read_again(disk: &Disk, place: &Place, unlocked: &Unlocked) -> Result<VaultReport, StoreError> {
    let new = Place { file: place.new.clone(), ..place.clone() };
    Ok(examine(disk, &new, Some((&unlocked.keys, &unlocked.way)), &[])?.report(true))
}

/// Copies the damaged file under a name of its own, durable before anything is changed. Not a link to it: with two names
/// the vault would be refused, and not a rename: for a moment there would be no vault, and a sign-in would make one.
fn keep_damaged(
    disk: &Disk,
    place: &Place,
    found: &Examination,
    now: SystemTime,
) -> Result<PathBuf, StoreError> {
    let name = free_name(disk, place, now)?;
    let mut copy = NewFile::create(disk, place)?;
    let len = found.view.file.facts().map_err(|error| place::io("reading", &place.file, error))?.len;
    copy.copy(&found.view.file, 0, len)?;
    copy.keep_as(&name)?;
    Ok(name)
}

/// `NAME.damaged-20260102T030405Z`, and a number behind it if there is one already.
fn free_name(disk: &Disk, place: &Place, now: SystemTime) -> Result<PathBuf, StoreError> {
    let mut name = place.file.clone().into_os_string();
    name.push(format!(".damaged-{}", stamp(now)));
    for number in 1_u32.. {
        let mut name = name.clone();
        if number > 1 {
            name.push(format!("-{number}"));
        }
        match disk.facts(Path::new(&name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(name.into()),
            Err(error) => return Err(place::io("reading", Path::new(&name), error)),
            Ok(_) => {}
        }
    }
    Err(place::refused(Path::new(&name), "is there already, as often as can be counted: remove some"))
}

/// A time in UTC as `20260102T030405Z` (ISO 8601, basic format).
fn stamp(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// A seq above all that were ever used.
fn next_seq(found: &Examination) -> Result<u64, StoreError> {
    let sure = found.opened_below.max(1);
    let heads =
        found.frames.iter().filter_map(|examined| examined.met).map(|met| met.at.seq.saturating_add(1));
    let highest = heads
        .chain(found.torn_seq()?.map(|seq| seq.saturating_add(1)))
        .chain([found.view.log.header.next_seq, found.view.log.next_seq])
        .filter(|seq| *seq <= sure.saturating_add(PLAUSIBLE))
        .fold(sure, u64::max);
    Ok(highest.saturating_add(BEYOND))
}

/// Writes the ways in, and the list of them: as it is if all are kept, else anew under `seq`.
fn push_ways(
    new: &mut NewFile<'_>,
    place: &Place,
    unlocked: &Unlocked,
    found: &Examination,
    seq: u64,
    now: SystemTime,
) -> Result<(), StoreError> {
    let is_list = found.list.is_ok();
    let mut listed = Vec::new();
    let mut as_it_was = is_list;
    for way in &found.ways {
        match (fate(way, is_list), &way.found, &way.listed) {
            (WayFate::Kept, Some(frame), Some(list)) => {
                new.push(&frame.frame)?;
                listed.push(list.clone());
            }
            (WayFate::Kept, Some(frame), None) => {
                let (kind, costs) = kind_of(frame.message());
                let kind = if unlocked.by_keychain { WayKind::Keychain } else { kind };
                let recipient = unlocked.recipient.clone();
                listed.push(ListedWay::new(kind, String::new(), recipient, now, costs, &frame.frame));
                new.push(&frame.frame)?;
            }
            (WayFate::MadeAnew, _, Some(list)) => {
                as_it_was = false;
                if let Some(again) = again(way) {
                    let (frame, _) = again.make(&unlocked.keys, now)?;
                    new.push(&frame)?;
                    listed.push(list.remade(&frame));
                }
            }
            // One that is not listed changes no list by going.
            (_, _, None) => {}
            (_, _, Some(_)) => as_it_was = false,
        }
    }
    if let (true, Ok((at, _))) = (as_it_was, &found.list) {
        return copy_frame(new, &found.view, FrameKind::Ways, Tag::NONE, *at);
    }
    let bytes = Ways::new(listed)
        .encode()
        .ok_or_else(|| StoreError::Invalid { what: "the list of ways in could not be written".to_owned() })?;
    let sealed = unlocked.keys.seal(FrameKind::Ways, seq, "", &bytes).map_err(|error| {
        place::io("making a nonce for", &place.file, std::io::Error::other(error.to_string()))
    })?;
    new.push(&frame(FrameKind::Ways, seq, Tag::NONE, &sealed))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_a_date_in_utc() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_767_323_045, "20260102T030405Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (253_402_300_799, "99991231T235959Z"),
        ] {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
