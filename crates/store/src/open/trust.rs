//! Which key id is expected of the vault, and taking another one.

use std::path::{Path, PathBuf};

use super::place::pins;
use super::{Opening, Place, VAULT_ID};
use crate::StoreError;
use crate::vault::{KeyId, KeyPin, PinRead, Said, VaultOptions, refusal, refusal_by};

/// What is pinned for a vault, and what stands there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PinReport {
    /// The vault file.
    pub vault: PathBuf,
    /// The key id of the file that is there. Not authenticated, unless the file was opened: anybody can write any id into
    /// a file, but only one that knows its master key can make a file with it that opens.
    pub found: KeyId,
    /// The key ids that are pinned, in whichever of the vault's pins: none before the first opening, two while keys are
    /// being changed.
    pub pinned: Vec<KeyId>,
    /// The key id that TOKENKEEP_VAULT_ID or the program gives, which beats what is pinned; and which of them gives it.
    pub given: Option<(KeyId, String)>,
    /// Where the pin is kept, or why there is none. Of the two pins of a symlink, the one that says another id, or is
    /// damaged, if there is one.
    pub file: Result<PathBuf, String>,
    /// What is wrong with pins that are damaged, or that cannot be read.
    pub troubles: Vec<String>,
    pins: Vec<PinRead>,
}

impl PinReport {
    fn new(
        vault: PathBuf,
        found: KeyId,
        given: Option<(KeyId, String)>,
        pins: Result<Vec<PinRead>, String>,
    ) -> Self {
        let (pins, none) = match pins {
            Ok(pins) => (pins, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let mut pinned = Vec::new();
        for pin in &pins {
            if let Said::Ids(ids) = &pin.said {
                pinned.extend(ids.iter().filter(|id| !pinned.contains(*id)).copied().collect::<Vec<_>>());
            }
        }
        let alone = |pin: &&PinRead| refusal(std::slice::from_ref(*pin), &vault, found).is_some();
        let file = pins.iter().find(alone).or_else(|| pins.iter().find(|pin| pin.trouble().is_none()));
        let file = file.or(pins.first()).map(|pin| pin.file.clone());
        Self {
            file: file.ok_or_else(|| none.unwrap_or_default()),
            troubles: pins.iter().filter_map(PinRead::trouble).collect(),
            vault,
            found,
            pinned,
            given,
            pins,
        }
    }

    /// Whether a public key may open the vault that is there: by the rule by which it is opened.
    pub fn is_trusted(&self) -> bool {
        self.refusal().is_none()
    }

    /// Why a public key may not open it.
    pub fn refusal(&self) -> Option<StoreError> {
        match &self.given {
            Some((id, by)) => refusal_by(*id, by, &self.vault, self.found),
            None => refusal(&self.pins, &self.vault, self.found),
        }
    }

    /// Whether trusting it would change nothing: it is pinned, alone, and no pin says anything else.
    pub fn is_settled(&self) -> bool {
        let same = Said::Ids(vec![self.found]);
        self.pins.iter().any(|pin| pin.said == same)
            && self.pins.iter().all(|pin| pin.said == same || pin.said == Said::Nothing)
    }
}

impl Opening {
    /// What is pinned for the vault, and what stands there. Opens nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Opening::look`]; [`StoreError::Invalid`] for a TOKENKEEP_VAULT_ID that is none.
    pub fn pin_report(&self) -> Result<PinReport, StoreError> {
        self.look()?.pin_report()
    }

    /// As [`Opening::pin_report`], for a vault that was looked at already: the file, and its key id.
    ///
    /// # Errors
    ///
    /// Those of [`Opening::place`]; [`StoreError::Invalid`] for a TOKENKEEP_VAULT_ID that is none.
    pub fn pin_report_of(&self, vault: &Path, found: KeyId) -> Result<PinReport, StoreError> {
        let pins = pins(&self.environment);
        let place = self.place()?;
        let pins = pins.map(|folder| KeyPin::in_folder(&folder, &place.path).read());
        Ok(PinReport::new(vault.to_owned(), found, self.given_id()?, pins))
    }

    /// Pins `id`, which must be that of the vault that is there, in the place of what was pinned.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the vault has another key id; those of [`super::Looked::check_trust`].
    pub fn trust(&self, id: KeyId) -> Result<PinReport, StoreError> {
        let looked = self.look()?;
        looked.check_trust()?;
        let vault = &looked.probe.path;
        if looked.probe.key_id != id {
            return Err(StoreError::Invalid {
                what: format!(
                    "the vault at {} has key id {}, not {id}: nothing was trusted",
                    vault.display(),
                    looked.probe.key_id
                ),
            });
        }
        let folder = pins(&self.environment).map_err(|what| StoreError::Invalid { what })?;
        KeyPin::in_folder(&folder, &looked.place.path)
            .trust(vault, id)
            .map_err(|reason| StoreError::NotWritable { path: folder, reason })?;
        looked.pin_report()
    }

    /// Whether a pin can be written for the vault at `place`.
    pub(super) fn check_pin_place(&self, place: &Place) -> Result<(), StoreError> {
        let folder = pins(&self.environment).map_err(|what| StoreError::Invalid { what })?;
        KeyPin::in_folder(&folder, &place.path)
            .try_places()
            .map_err(|reason| StoreError::NotWritable { path: folder, reason })
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
