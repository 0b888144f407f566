//! Looking at a vault before it is opened, if it is: once, however much is asked of what was seen.

use super::{Opening, PinReport, Place, known_ways};
use crate::vault::{Vault, VaultProbe};
use crate::{KnownWays, SourceReport, StoreError};

/// A vault that was looked at without any key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Looked {
    /// Where it is, and what said so.
    pub place: Place,
    /// What can be told of it. Nothing of it is authenticated.
    pub probe: VaultProbe,
    opening: Opening,
}

impl Opening {
    /// Looks at the vault without any key. Damage is no error here.
    ///
    /// # Errors
    ///
    /// Those of [`Opening::place`] and [`Vault::probe`].
    pub fn look(&self) -> Result<Looked, StoreError> {
        let place = self.place()?;
        let probe = Vault::probe(&place.path)?;
        Ok(Looked { place, probe, opening: self.clone() })
    }
}

impl Looked {
    /// Where a passphrase or key is looked for, and which source decides; see [`crate::Sources::report`].
    pub fn sources(&self) -> Vec<SourceReport> {
        self.opening.sources.report(Some(known_ways(&self.probe)))
    }

    /// What is pinned for it.
    ///
    /// # Errors
    ///
    /// Those of [`Opening::pin_report_of`].
    pub fn pin_report(&self) -> Result<PinReport, StoreError> {
        self.opening.pin_report_of(&self.probe.path, self.probe.key_id)
    }

    /// Whether it can be trusted at all. Writes no pin, but makes the folder for it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if its header is damaged, so that its key id is not known; [`StoreError::Invalid`] if there
    /// is no place for a pin; [`StoreError::NotWritable`] if none can be written there.
    pub fn check_trust(&self) -> Result<(), StoreError> {
        self.known_ways()?;
        self.opening.check_pin_place(&self.place)
    }

    /// Opens it, if it is still there; as [`Opening::open_vault`].
    ///
    /// # Errors
    ///
    /// As [`Opening::open_vault`].
    pub async fn open(&self) -> Result<Vault, StoreError> {
        let place = self.opening.existing()?;
        let known = self.known_ways();
        Ok(self.opening.open_at(&place, |_| known).await?.0)
    }

    fn known_ways(&self) -> Result<KnownWays, StoreError> {
        ways_of(&self.probe)
    }
}

/// What a vault's ways in look like from outside, where its header can be believed: said before anybody is asked for a
/// passphrase that would not help.
pub(super) fn ways_of(probe: &VaultProbe) -> Result<KnownWays, StoreError> {
    match probe.header {
        Some(what) => Err(StoreError::Corrupt { what: format!("{what} ({})", probe.path.display()) }),
        None => Ok(known_ways(probe)),
    }
}
