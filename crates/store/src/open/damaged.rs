//! Opening a vault that may be damaged: to check it, and to repair it.

use super::{Opening, PinReport, Place, known_ways};
use crate::StoreError;
use crate::vault::{Salvage, Unlock, Vault, VaultReport};

/// A vault that was checked, and whether it is the expected one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checked {
    /// How everything in it is.
    pub report: VaultReport,
    /// What is pinned for it, judged by the master key's id; without keys, by that of a header that is whole. `None` if
    /// the key id is not known.
    pub pin: Option<PinReport>,
    /// Whether its writer knew a secret that opened it now, a passphrase: that is proof enough, whatever is pinned.
    pub proven: bool,
}

impl Checked {
    /// Why a vault with this key id is not opened here, if it is not. What was checked of it is as it stands there all
    /// the same.
    pub fn refusal(&self) -> Option<StoreError> {
        self.pin.as_ref().filter(|_| !self.proven).and_then(PinReport::refusal)
    }
}

impl Opening {
    /// Reads every record of the vault and says how it is, however damaged it is; see [`crate::VaultOptions::verify`]. Without
    /// `keys`, only checksums are looked at and nothing is asked for. What is pinned is told, and not changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is none; [`StoreError::UntrustedKeys`] if TOKENKEEP_VAULT_ID or the program gives
    /// another key id; those of [`Opening::place`], [`crate::Sources::unlock`] and [`crate::VaultOptions::verify`].
    pub async fn verify(&self, keys: bool) -> Result<Checked, StoreError> {
        let place = self.existing()?;
        let options = self.pinned_options(&place)?;
        let unlock = if keys { Some(self.unlock_damaged(&place).await?) } else { None };
        let report = options.verify(&place.path, unlock.as_ref()).await?;
        let pin = report.key_id.map(|id| self.pin_report_of(&report.path, id)).transpose()?;
        Ok(Checked { report, pin, proven: unlock.is_some_and(|unlock| unlock.is_proof()) })
    }

    /// Opens the vault in spite of any damage, for a repair; see [`crate::VaultOptions::salvage`]. One that an opening would
    /// not take for the right one is refused. What is pinned is not changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is none; those of [`Opening::place`], [`crate::Sources::unlock`] and
    /// [`crate::VaultOptions::salvage`].
    pub async fn salvage(&self) -> Result<Salvage, StoreError> {
        let place = self.existing()?;
        let options = self.pinned_options(&place)?;
        let unlock = self.unlock_damaged(&place).await?;
        options.salvage(&place.path, &unlock).await
    }

    /// What opens a vault that may be damaged.
    async fn unlock_damaged(&self, place: &Place) -> Result<Unlock, StoreError> {
        self.fetch(place, |sources, path| {
            sources.unlock(path, || Vault::probe(path).map(|probe| known_ways(&probe)))
        })
        .await
    }
}
