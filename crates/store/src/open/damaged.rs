//! Opening a vault that may be damaged: to check it, and to repair it.

use super::{Opening, Place, known_ways};
use crate::StoreError;
use crate::vault::{Salvage, Unlock, Vault, VaultReport};

impl Opening {
    /// Reads every record of the vault and says how it is, however damaged it is; see [`crate::VaultOptions::verify`]. Without
    /// `keys`, only checksums are looked at and nothing is asked for.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is none; those of [`Opening::place`], [`crate::Sources::unlock`] and
    /// [`crate::VaultOptions::verify`].
    pub async fn verify(&self, keys: bool) -> Result<VaultReport, StoreError> {
        let place = self.existing()?;
        let unlock = if keys { Some(self.unlock_damaged(&place).await?) } else { None };
        self.options.verify(&place.path, unlock.as_ref()).await
    }

    /// Opens the vault in spite of any damage, for a repair; see [`crate::VaultOptions::salvage`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is none; those of [`Opening::place`], [`crate::Sources::unlock`] and
    /// [`crate::VaultOptions::salvage`].
    pub async fn salvage(&self) -> Result<Salvage, StoreError> {
        let place = self.existing()?;
        let unlock = self.unlock_damaged(&place).await?;
        self.options.salvage(&place.path, &unlock).await
    }

    /// What opens a vault that may be damaged.
    async fn unlock_damaged(&self, place: &Place) -> Result<Unlock, StoreError> {
        self.fetch(place, |sources, path| {
            sources.unlock(path, || Vault::probe(path).map(|probe| known_ways(&probe)))
        })
        .await
    }
}
