//! Writing the file anew under other keys.

use std::path::Path;
use std::sync::Arc;

use super::change_ways::{changed_meanwhile, encoded};
use super::disk::DiskFile;
use super::frame::{FrameKind, Header, KeyId, Tag, frame};
use super::lock::Held;
use super::log::{At, Log};
use super::new_file::NewFile;
use super::pin;
use super::pin_rule::Said;
use super::record::Keys;
use super::rekey::{Made, Prepared};
use super::view::{self, Shared};
use super::ways::{ListedWay, WayKind, Ways};
use super::write::unconfirmed;
use super::{Vault, VaultOptions, place};
use crate::StoreError;

/// What is sealed anew: a put or a note that counts.
struct Live {
    kind: FrameKind,
    tag: Tag,
    at: At,
}

impl Shared {
    /// Puts a file with the new keys in the place of this one. Under the writer lock, while nobody holds a lease.
    pub(super) fn rekey(&self, writer: &Held, prepared: Prepared) -> Result<Vault, StoreError> {
        let Prepared { plan, keys, made } = prepared;
        let (file, live, seq) = {
            let mut view = self.writable(writer)?;
            self.reload(&mut view)?;
            let list = view::read_ways(&view, &self.keys, &self.place.file)?;
            if !list.ways.iter().map(|way| way.digest()).eq(plan.list.ways.iter().map(|way| way.digest())) {
                return Err(changed_meanwhile(&self.place.file));
            }
            // Readers go on meanwhile: the writer lock keeps the file as it is, not the view.
            (Arc::clone(&view.file), self.all_live(&view.log, &view.file)?, self.next_seq(&view))
        };
        let (old, new) = (self.keys.id(), keys.id());
        let had_keychain = plan.list.ways.iter().any(|way| way.kind() == WayKind::Keychain);
        let keychain = plan.rekey.keychain.as_ref().filter(|_| had_keychain);
        let gives_keychain_a_key = made.iter().any(|made| matches!(made, Made::ByKeychain(..)));
        self.expect_pin(old, new)?;
        // From here on either file is taken, whichever a crash leaves in place.
        let kept = plan.list.ways.iter().zip(&plan.fates).filter(|(_, fate)| fate.is_kept());
        let opened_at = kept.map(|(way, _)| way).position(|way| *way.digest() == plan.opened_by);
        let resealed = wrapped(made, &keys).and_then(|(frames, listed)| {
            let opened_by = opened_at.and_then(|at| listed.get(at)).map(|way| *way.digest());
            self.write_resealed(&file, &live, &keys, seq, &frames, &Ways::new(listed))?;
            Ok(opened_by.unwrap_or_default())
        });
        let opened_by = match resealed {
            Ok(opened_by) => opened_by,
            // The new file is in place and may not be durable, or nobody can tell: the keychain and the pin serve both.
            Err(error) if pin::key_id_at(&self.disk, &self.place) != Some(old) => return Err(error),
            Err(error) => {
                self.pin.unexpect(&self.place, new);
                if let Some(keychain) = keychain.filter(|_| gives_keychain_a_key) {
                    forget(keychain.as_ref(), new);
                }
                return Err(error);
            }
        };
        if let Err(reason) = self.pin.set(&self.place, new) {
            tracing::warn!(
                reason,
                "the key pin still names the old keys too; the next opening by a key mends it"
            );
        }
        match keychain {
            Some(keychain) => forget(keychain.as_ref(), old),
            None if had_keychain => {
                tracing::warn!(key_id = %old, "the OS keychain, which is not in use here, keeps a key that opens nothing now");
            }
            None => {}
        }
        let options = VaultOptions {
            clock: Arc::clone(&self.clock),
            writer_wait: self.writer_wait,
            disk: self.disk.clone(),
            pin: self.pin.clone(),
            likely: Vec::new(),
        };
        let view = view::load(&self.disk, &self.place, Some(&keys), &mut |_| {}).map_err(|error| {
            let what =
                format!("the keys may be the new ones now, and the vault was not read with them: {error}");
            unconfirmed(StoreError::Corrupt { what })
        })?;
        Ok(options.vault(self.place.clone(), keys, opened_by, view, self.pin_state.clone()))
    }

    /// Pins the new key id besides the old one. A pin that is there and cannot be written would refuse the new file to
    /// everyone who comes with a public key.
    fn expect_pin(&self, old: KeyId, new: KeyId) -> Result<(), StoreError> {
        match (self.pin.expect(&self.place, Some(old), new), self.pin.files().first()) {
            (Err(reason), Some(file))
                if self.pin.read().iter().any(|pin| matches!(pin.said, Said::Ids(_))) =>
            {
                Err(StoreError::NotWritable { path: file.clone(), reason })
            }
            (Err(reason), _) => {
                tracing::info!(reason, "no key pin is kept");
                Ok(())
            }
            (Ok(()), _) => Ok(()),
        }
    }

    /// Every put and note that counts, in the order in which they stand.
    fn all_live(&self, log: &Log, file: &DiskFile) -> Result<Vec<Live>, StoreError> {
        if let Some(damage) = log.damage.first() {
            return Err(damaged(&format!(
                "{} bytes at byte {} of the vault are no record",
                damage.len, damage.offset
            )));
        }
        let mut live = Vec::with_capacity(log.entries.len() + log.notes.len());
        for (tag, entry) in &log.entries {
            if entry.removed {
                // Without damage a removal is not needed, but it must be one.
                view::read_record(file, &self.keys, FrameKind::Removed, tag, entry.at).map_err(|why| {
                    damaged(&format!("the removal at byte {} of the vault: {why}", entry.at.offset))
                })?;
                continue;
            }
            live.push(Live { kind: FrameKind::Put, tag: *tag, at: entry.at });
        }
        live.extend(log.notes.iter().map(|(tag, at)| Live { kind: FrameKind::Note, tag: *tag, at: *at }));
        live.sort_unstable_by_key(|live| live.at.offset);
        Ok(live)
    }

    fn write_resealed(
        &self,
        file: &DiskFile,
        live: &[Live],
        keys: &Keys,
        seq: u64,
        ways_in: &[Vec<u8>],
        list: &Ways,
    ) -> Result<(), StoreError> {
        let sealed = |kind, seq, key: &str, tag, value: &[u8]| {
            let body =
                keys.seal(kind, seq, key, value).map_err(|error| no_nonce(&self.place.file, &error))?;
            Ok(frame(kind, seq, tag, &body))
        };
        let Some(next_seq) = seq.checked_add(1) else {
            return Err(StoreError::Corrupt { what: "the vault's revisions are used up".to_owned() });
        };
        let mut new = NewFile::create(&self.disk, &self.place)?;
        new.push(&Header { key_id: keys.id(), next_seq }.encode())?;
        ways_in.iter().try_for_each(|frame| new.push(frame))?;
        new.push(&sealed(FrameKind::Ways, seq, "", Tag::NONE, &encoded(list)?)?)?;
        for Live { kind, tag, at } in live {
            match view::read_record(file, &self.keys, *kind, tag, *at) {
                Ok(record) => {
                    let tag = keys.tag_of(record.key());
                    new.push(&sealed(*kind, at.seq, record.key(), tag, record.value())?)?;
                }
                // A note that cannot be read is no note.
                Err(_) if *kind == FrameKind::Note => {}
                Err(why) => {
                    return Err(damaged(&format!("the entry at byte {} of the vault: {why}", at.offset)));
                }
            }
        }
        new.finish()
    }
}

/// The ways in, with the keychain's, which is given its key now.
fn wrapped(made: Vec<Made>, keys: &Keys) -> Result<(Vec<Vec<u8>>, Vec<ListedWay>), StoreError> {
    let wrapped = made.into_iter().map(|made| match made {
        Made::Wrapped(frame, listed) => Ok((frame, listed)),
        Made::ByKeychain(way, created) => way.make(keys, created),
    });
    wrapped.collect()
}

fn forget(keychain: &dyn super::Keychain, key_id: KeyId) {
    if let Err(error) = keychain.remove(key_id) {
        tracing::warn!(%error, %key_id, "the OS keychain keeps a key that opens nothing now");
    }
}

/// Damage is not carried over: under the new keys nobody could tell any more what it was.
fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt {
        what: format!("{what}; the keys are changed once the vault is whole (`tokenkeep vault repair`)"),
    }
}

fn no_nonce(path: &Path, error: &getrandom::Error) -> StoreError {
    place::io("making a nonce for", path, std::io::Error::other(error.to_string()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
