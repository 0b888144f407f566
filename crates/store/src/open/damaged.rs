//! Opening a vault for more than its entries: to check it, to repair it, to read what is encrypted to its keys.

use super::{Opening, Place, known_ways, ways};
use crate::StoreError;
use crate::vault::{Salvage, Unlock, Vault, VaultReport};

impl Opening {
    /// As [`Opening::open_vault`], with what opened it: for what is encrypted to the same key.
    ///
    /// # Errors
    ///
    /// As [`Opening::open`].
    pub async fn open_vault_with_key(&self) -> Result<(Vault, Unlock), StoreError> {
        let place = self.existing()?;
        let unlock = self.fetch(&place, |sources, path| sources.unlock(path, || ways(path))).await?;
        Ok((self.options.open(&place.path, &unlock).await?, unlock))
    }

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
