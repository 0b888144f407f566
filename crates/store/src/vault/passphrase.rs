//! Replacing one passphrase.

use std::sync::{Arc, PoisonError};

use tokenkeep_secret::Secret;

use super::argon2id::Costs;
use super::frame::{FrameKind, Tag};
use super::lock::Held;
use super::rewrite::{NewWays, Rewrite};
use super::view::{self, Shared};
use super::way_in::NewWayIn;
use super::ways::{self, WayKind};
use super::{Vault, blocking, writer};
use crate::StoreError;

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
            return Err(StoreError::Invalid { what: "the new passphrase is empty".to_owned() });
        }
        let writer = writer(&self.shared).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.replace_passphrase(&writer, new, costs)).await
    }
}

impl Shared {
    fn replace_passphrase(&self, writer: &Held, new: Secret, costs: Option<Costs>) -> Result<(), StoreError> {
        let invalid = |what: &str| StoreError::Invalid { what: what.to_owned() };
        let mut view = self.writable(writer)?;
        let mut list = view::read_ways(&view, &self.keys, &self.place.file)?;
        let opened_by = *self.opened_by.lock().unwrap_or_else(PoisonError::into_inner);

        let passphrases: Vec<_> = list.ways.iter().filter(|way| way.kind() == WayKind::Passphrase).collect();
        let target = match (passphrases.iter().find(|way| *way.digest() == opened_by), &passphrases[..]) {
            (Some(way), _) => *way,
            (None, [only]) => *only,
            (None, []) => {
                return Err(invalid("the vault has no way in by passphrase that could be replaced"));
            }
            (None, _) => {
                return Err(invalid(
                    "the vault has several passphrases: open it with the one that shall be replaced",
                ));
            }
        };
        let target_digest = *target.digest();
        let way = NewWayIn::Passphrase {
            secret: new,
            costs: costs.or(target.costs()).unwrap_or_default(),
            label: target.label.clone(),
        };
        let costs =
            list.ways.iter().filter(|way| *way.digest() != target_digest).filter_map(|way| way.costs());
        let costs: Vec<_> = costs.chain(way.costs()).collect();
        if !Costs::within_ceilings(&costs) {
            return Err(invalid(
                "the passphrases would cost too much together: 1 GiB, 16 passes, 16 lanes in all",
            ));
        }

        let (new_frame, new_listed) = way.make(&self.keys, self.clock.wall())?;
        let new_digest = *new_listed.digest();
        let mut frames = Vec::new();
        for found in view::found_ways(&view) {
            let digest = ways::digest(&found.frame);
            if digest == target_digest {
                frames.push(new_frame.clone());
            } else if !found.whole || list.lists(&digest) {
                // A damaged way in stays for a repair to look at; one that is not listed goes.
                frames.push(found.frame);
            }
        }
        if !frames.contains(&new_frame) {
            frames.push(new_frame);
        }
        list.ways
            .iter_mut()
            .filter(|way| *way.digest() == target_digest)
            .for_each(|way| *way = new_listed.clone());
        let seq = self.next_seq(&view);
        let bytes = list.encode().ok_or_else(|| invalid("the list of ways in could not be written"))?;
        let list = self.sealed(FrameKind::Ways, seq, "", Tag::NONE, &bytes)?;
        self.rewrite(
            &mut view,
            Rewrite { ways: Some(NewWays { ways_in: frames, list, seq }), ..Rewrite::default() },
        )?;
        if opened_by == target_digest {
            *self.opened_by.lock().unwrap_or_else(PoisonError::into_inner) = new_digest;
        }
        Ok(())
    }
}
