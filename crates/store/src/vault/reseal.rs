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
use super::record::Keys;
use super::rekey::{Made, Prepared};
use super::view::{self, Shared};
use super::ways::{WayKind, Ways};
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
        let old = self.keys.id();
        let had_keychain = plan.list.ways.iter().any(|way| way.kind() == WayKind::Keychain);
        let keychain = plan.rekey.keychain.as_ref().filter(|_| had_keychain);

        let mut gave_keychain_a_key = false;
        let mut opened_by = [0; 32];
        let mut frames = Vec::new();
        let mut listed = Vec::new();
        let kept = plan.list.ways.iter().zip(&plan.fates).filter(|(_, fate)| fate.is_kept());
        for (made, (way, _)) in made.into_iter().zip(kept) {
            let (frame, new) = match made {
                Made::Wrapped(frame, new) => (frame, new),
                Made::ByKeychain(way, created) => {
                    gave_keychain_a_key = true;
                    way.make(&keys, created)?
                }
            };
            if *way.digest() == plan.opened_by {
                opened_by = *new.digest();
            }
            frames.push(frame);
            listed.push(new);
        }
        // From here on either file is taken, whichever a crash leaves in place.
        self.pin_or_say(|pin| pin.expect(&self.place, keys.id()));
        let written = self.write_resealed(&file, &live, &keys, seq, &frames, &Ways::new(listed));
        let in_place = pin::key_id_at(&self.disk, &self.place);
        if let Err(error) = written {
            if in_place == Some(old) {
                self.pin_or_say(|pin| pin.set(&self.place, &[old]));
                if let Some(keychain) = keychain.filter(|_| gave_keychain_a_key) {
                    forget(keychain.as_ref(), keys.id());
                }
            }
            // Else the new file is in place and may not be durable: the keychain and the pin serve both.
            return Err(error);
        }
        self.pin_or_say(|pin| pin.set(&self.place, &[keys.id()]));
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
        };
        let view = view::load(&self.disk, &self.place, Some(&keys), &mut |_| {})?;
        Ok(options.vault(self.place.clone(), keys, opened_by, view, self.pin_state.clone()))
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

    /// A pin that cannot be written keeps nobody from changing the keys; who opens the vault next is told what to do.
    pub(super) fn pin_or_say(&self, change: impl FnOnce(&pin::KeyPin) -> Result<(), String>) {
        if let Err(reason) = change(&self.pin) {
            tracing::warn!(
                reason,
                "the key pin could not be brought up to date: `tokenkeep vault trust` does it"
            );
        }
    }
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
