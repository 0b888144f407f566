//! Which key id is expected of the vault, and taking another one.

use std::path::PathBuf;

use super::place::pins;
use super::{Opening, Place, VAULT_ID};
use crate::StoreError;
use crate::vault::{KeyId, KeyPin, Vault, VaultOptions};

/// What is pinned for a vault, and what stands there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PinReport {
    /// The vault file.
    pub vault: PathBuf,
    /// The key id of the file that is there. Not authenticated: anybody can write any id into a file, but only one that
    /// knows its master key can make a file with it that opens.
    pub found: KeyId,
    /// The key ids that are pinned: none before the first opening, two while keys are being changed.
    pub pinned: Vec<KeyId>,
    /// The key id that TOKENKEEP_VAULT_ID or the program gives, which beats what is pinned; and which of them gives it.
    pub given: Option<(KeyId, String)>,
    /// Where the pin is kept, or why there is none.
    pub file: Result<PathBuf, String>,
}

impl PinReport {
    /// Whether a public key may open the vault that is there.
    pub fn is_trusted(&self) -> bool {
        match &self.given {
            Some((id, _)) => *id == self.found,
            None => self.pinned.is_empty() || self.pinned.contains(&self.found),
        }
    }
}

impl Opening {
    /// What is pinned for the vault, and what stands there. Opens nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Opening::place`] and [`Vault::probe`]; [`StoreError::Invalid`] for a TOKENKEEP_VAULT_ID that is none.
    pub fn pin_report(&self) -> Result<PinReport, StoreError> {
        let place = self.place()?;
        let probe = Vault::probe(&place.path)?;
        let (pin, file) = match pins(&self.environment) {
            Ok(folder) => {
                let pin = KeyPin::in_folder(&folder, &place.path);
                let file = pin.files().first().cloned().unwrap_or(folder);
                (pin, Ok(file))
            }
            Err(reason) => (KeyPin::None, Err(reason)),
        };
        Ok(PinReport {
            vault: probe.path,
            found: probe.key_id,
            pinned: pin.pinned(),
            given: self.given_id()?,
            file,
        })
    }

    /// Pins `id`, which must be that of the vault that is there, in the place of what was pinned.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the vault has another key id, or if there is no place for a pin;
    /// [`StoreError::NotWritable`] if the pin cannot be written; those of [`Opening::pin_report`].
    pub fn trust(&self, id: KeyId) -> Result<PinReport, StoreError> {
        let report = self.pin_report()?;
        if report.found != id {
            return Err(StoreError::Invalid {
                what: format!(
                    "the vault at {} has key id {}, not {id}: nothing was trusted",
                    report.vault.display(),
                    report.found
                ),
            });
        }
        let place = self.place()?;
        let folder = pins(&self.environment).map_err(|what| StoreError::Invalid { what })?;
        KeyPin::in_folder(&folder, &place.path)
            .trust(&report.vault, id)
            .map_err(|reason| StoreError::NotWritable { path: folder, reason })?;
        self.pin_report()
    }

    /// How the vault is to be opened or made: with what is expected of its key id.
    pub(super) fn pinned_options(&self, place: &Place) -> Result<VaultOptions, StoreError> {
        let pin = match pins(&self.environment) {
            Ok(folder) => KeyPin::in_folder(&folder, &place.path),
            Err(reason) => KeyPin::Nowhere(reason),
        };
        Ok(self.options.clone().pin(match self.given_id()? {
            Some((id, by)) => pin.given(id, by),
            None => pin,
        }))
    }

    fn given_id(&self) -> Result<Option<(KeyId, String)>, StoreError> {
        if let Some(id) = self.key_id {
            return Ok(Some((id, "the program that opens it".to_owned())));
        }
        let Some(digits) = self.environment.var(VAULT_ID) else { return Ok(None) };
        match digits.to_str().and_then(|digits| KeyId::parse(digits.trim())) {
            Some(id) => Ok(Some((id, VAULT_ID.to_owned()))),
            None => Err(StoreError::Invalid {
                what: format!(
                    "{VAULT_ID} is not a key id, 32 hexadecimal digits as `tokenkeep vault status` shows it: correct or \
                     unset it"
                ),
            }),
        }
    }
}
