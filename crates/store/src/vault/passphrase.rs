//! Replacing one passphrase, and raising what guessing one costs.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use tokenkeep_secret::Secret;

use super::argon2id::Costs;
use super::change_ways::{changed_meanwhile, check_costs, invalid};
use super::lock::{Held, WRITER};
use super::new_file::NewFile;
use super::view::{self, Shared};
use super::way_in::NewWayIn;
use super::ways::{ListedWay, WayKind, Ways};
use super::{Vault, blocking, writer};
use crate::StoreError;

/// A passphrase wrapped anew, in place of the way in with this digest.
struct Replacement {
    replaces: [u8; 32],
    frame: Vec<u8>,
    listed: ListedWay,
}

impl Vault {
    /// Replaces a passphrase: the one that opened this handle, or the only one that there is. The keys stay, so that
    /// other ways in and other handles are not touched. Whoever has the old passphrase and an old copy of the file can
    /// still read what is stored: a passphrase that leaked is shut out by changing the keys.
    ///
    /// `costs` are those of the passphrase that is replaced, unless given.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the new one is empty or too costly, or if it cannot be told which to replace;
    /// [`StoreError::Corrupt`] if the list of ways in is damaged; and those of any write.
    pub async fn replace_passphrase(&self, new: Secret, costs: Option<Costs>) -> Result<(), StoreError> {
        if new.is_empty() {
            return Err(invalid("the new passphrase is empty"));
        }
        let shared = Arc::clone(&self.shared);
        // Before the writer lock and without the view: this is what takes long.
        let replacement = blocking(move || {
            let list = shared.ways()?;
            let target = to_replace(&list, &shared.opened_by())?;
            shared.wrapped_anew(&list, target, new, costs, shared.clock.wall())
        })
        .await?;
        let writer = writer(&self.shared).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.replace_way(&writer, replacement)).await
    }

    /// Wraps the master key anew under the passphrase that opened this handle, if guessing it costs a default that is
    /// lower than today's. `false` if nothing was to be done, or somebody else is writing.
    pub(super) async fn raise_costs(&self, passphrase: Secret) -> Result<bool, StoreError> {
        let shared = Arc::clone(&self.shared);
        let replacement = blocking(move || {
            if !shared.lock_view().file.writable() {
                return Ok(None);
            }
            let list = shared.ways()?;
            let opened_by = shared.opened_by();
            let Some(target) = list.ways.iter().find(|way| *way.digest() == opened_by) else {
                return Ok(None);
            };
            if target.costs().is_none_or(|costs| costs.of_today() == costs) {
                return Ok(None);
            }
            // Else every opening would compute Argon2id twice for nothing.
            let Some(_writer) = Held::try_take(&shared.disk, &shared.place.lock, &[WRITER])? else {
                return Ok(None);
            };
            drop(NewFile::create(&shared.disk, &shared.place)?);
            shared.wrapped_anew(&list, target, passphrase, None, target.created()).map(Some)
        })
        .await?;
        let Some(replacement) = replacement else { return Ok(false) };
        let writer = Held::try_take(&self.shared.disk, &self.shared.place.lock, &[WRITER])?;
        let Some(writer) = writer else { return Ok(false) };
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.replace_way(&writer, replacement)).await.map(|()| true)
    }
}

/// The passphrase that is meant: never guessed.
fn to_replace<'a>(list: &'a Ways, opened_by: &[u8; 32]) -> Result<&'a ListedWay, StoreError> {
    let passphrases: Vec<_> = list.ways.iter().filter(|way| way.kind() == WayKind::Passphrase).collect();
    match (passphrases.iter().find(|way| way.digest() == opened_by), &passphrases[..]) {
        (Some(way), _) => Ok(way),
        (None, [only]) => Ok(only),
        (None, []) => Err(invalid(
            "the vault has no way in by passphrase that could be replaced: `tokenkeep vault ways add --passphrase` adds one",
        )),
        (None, _) => {
            Err(invalid("the vault has several passphrases: open it with the one that shall be replaced"))
        }
    }
}

impl Shared {
    fn wrapped_anew(
        &self,
        list: &Ways,
        target: &ListedWay,
        passphrase: Secret,
        costs: Option<Costs>,
        created: SystemTime,
    ) -> Result<Replacement, StoreError> {
        let others: Vec<_> = list.ways.iter().filter(|way| way.digest() != target.digest()).collect();
        let check = |costs| check_costs(others.iter().filter_map(|way| way.costs()).chain([costs]));
        let costs = match (costs, target.costs()) {
            (Some(costs), _) => costs,
            (None, Some(listed)) if check(listed.of_today()).is_ok() => listed.of_today(),
            (None, listed) => listed.unwrap_or_default(),
        };
        check(costs)?;
        let way = NewWayIn::Passphrase { secret: passphrase, costs, label: target.label.clone() };
        let (frame, listed) = way.make(&self.keys, created)?;
        Ok(Replacement { replaces: *target.digest(), frame, listed })
    }

    /// Puts a passphrase in the place of an older one, if that is still there.
    fn replace_way(&self, writer: &Held, replacement: Replacement) -> Result<(), StoreError> {
        let Replacement { replaces, frame, listed } = replacement;
        let mut view = self.writable(writer)?;
        let list = view::read_ways(&view, &self.keys, &self.place.file)?;
        if !list.lists(&replaces) {
            return Err(changed_meanwhile(&self.place.file));
        }
        let others = list.ways.iter().filter(|way| *way.digest() != replaces);
        check_costs(others.chain([&listed]).filter_map(ListedWay::costs))?;
        let digest = *listed.digest();
        self.rewrite_ways(&mut view, list, |list, frames| {
            let old = frames.iter_mut().find(|frame| super::ways::digest(frame) == replaces);
            match old {
                Some(old) => *old = frame,
                // It was damaged, and stays beside the new one for a repair to look at.
                None => frames.push(frame),
            }
            if let Some(way) = list.ways.iter_mut().find(|way| *way.digest() == replaces) {
                *way = listed;
            }
        })?;
        let mut opened_by = self.opened_by.lock().unwrap_or_else(PoisonError::into_inner);
        if *opened_by == replaces {
            *opened_by = digest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests")]

    use std::path::Path;

    use super::super::{Unlock, VaultOptions};
    use super::*;
    use crate::SecretStore;

    /// The default of an earlier day, and costs that somebody chose.
    async fn vault_of_an_earlier_day(path: &Path) {
        let way = |secret: &[u8], chosen| NewWayIn::Passphrase {
            secret: Secret::from(secret),
            costs: Costs::listed(64, 1, 1, chosen).unwrap(),
            label: "ops".to_owned(),
        };
        VaultOptions::new().create(path, vec![way(b"default", false), way(b"chosen", true)]).await.unwrap();
    }

    async fn open(path: &Path, passphrase: &[u8]) -> Vault {
        Vault::open(path, &Unlock::passphrase(Secret::from(passphrase), "the test")).await.unwrap()
    }

    fn costs(vault: &Vault) -> Vec<(Option<Costs>, bool, bool)> {
        let ways = vault.shared.status().unwrap().ways;
        ways.iter().map(|way| (way.costs, way.costs_chosen, way.opened_by)).collect()
    }

    #[tokio::test]
    async fn a_default_of_an_earlier_day_is_raised_when_it_opens_and_what_was_chosen_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        vault_of_an_earlier_day(&path).await;
        let low = Costs::listed(64, 1, 1, true);
        let by_chosen = open(&path, b"chosen").await;
        assert_eq!(costs(&by_chosen), [(low, false, false), (low, true, true)]);
        let created = by_chosen.status().await.unwrap().ways[0].created;

        let raised = [(Some(Costs::default()), false, true), (low, true, false)];
        let vault = open(&path, b"default").await;
        assert_eq!(costs(&vault), raised);
        let way = vault.status().await.unwrap().ways.remove(0);
        assert_eq!((way.created, way.label.as_str()), (created, "ops"));
        let before = std::fs::read(&path).unwrap();
        assert_eq!(costs(&open(&path, b"default").await), raised);
        assert_eq!(std::fs::read(&path).unwrap(), before, "once is enough");
        assert!(by_chosen.keys().await.is_ok(), "the keys are the same");
    }

    #[tokio::test]
    async fn where_costs_cannot_be_raised_the_vault_opens_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        vault_of_an_earlier_day(&path).await;
        let before = std::fs::read(&path).unwrap();
        // Something stands where the file would be written anew.
        let new = folder.path().join("v.new");
        std::fs::create_dir(&new).unwrap();
        open(&path, b"default").await;
        std::fs::remove_dir(&new).unwrap();
        // Somebody else is writing: nobody waits for that.
        let disk = super::super::Disk::default();
        let writer = Held::try_take(&disk, &folder.path().join("v.lock"), &[WRITER]).unwrap().unwrap();
        open(&path, b"default").await;
        assert_eq!(std::fs::read(&path).unwrap(), before);
        drop(writer);
        open(&path, b"default").await;
        assert_ne!(std::fs::read(&path).unwrap(), before);
    }
}
