//! What opens a way in that is still to be made.

use std::path::Path;
use std::sync::Arc;

use super::{Candidate, KEYCHAIN, PROMPT, Place, first_set, reason, report};
use crate::StoreError;
use crate::unlock::{Question, Source, Sources};
use crate::vault::{Keychain, Opener, Unlock};

impl Sources {
    /// What opens a new way into the vault at `vault`, from the first source that is set; neither keychain nor prompt.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnlockSource`] if that source cannot be used.
    pub(crate) fn set_for_new(&self, vault: &Path) -> Result<Option<Unlock>, StoreError> {
        let looked_at = self.candidates();
        first_set(&looked_at).map(|(name, place)| self.fetch(name, place, Question::New(vault))).transpose()
    }

    /// A passphrase for a new way in: from the first source that is set and holds one, else what a person types twice.
    ///
    /// # Errors
    ///
    /// As [`Sources::unlock`]; [`StoreError::UnlockSource`] also if the two answers differ.
    pub(crate) fn passphrase_for_new(&self, vault: &Path) -> Result<Unlock, StoreError> {
        let looked_at = self.candidates();
        let holds_passphrase = |place: &Place| {
            !matches!(
                place,
                Place::Source(Source::Identity(_) | Source::IdentityFile(_) | Source::Keychain(_), _)
                    | Place::Keychain(_)
            )
        };
        let set = looked_at.iter().find_map(|candidate| {
            let place = candidate.place.as_ref().ok().filter(|place| holds_passphrase(place))?;
            Some((candidate.name.as_str(), place))
        });
        match set {
            Some((name, place)) => self.fetch(name, place, Question::New(vault)),
            None => self.typed_for_new(vault).unwrap_or_else(|| Err(self.nothing_for_new(None))),
        }
    }

    /// What a person types twice, if there is one to ask.
    pub(crate) fn typed_for_new(&self, vault: &Path) -> Option<Result<Unlock, StoreError>> {
        let prompt = self.prompt.as_ref().ok()?;
        Some(self.fetch(PROMPT, &Place::Prompt(Arc::clone(prompt)), Question::New(vault)))
    }

    /// The keychain that is in use.
    ///
    /// # Errors
    ///
    /// [`StoreError::Keychain`] if none is.
    pub fn keychain_in_use(&self) -> Result<Arc<dyn Keychain>, StoreError> {
        self.keychain.clone().map_err(|reason| StoreError::Keychain { reason })
    }

    /// The keychain, if there is one to be used.
    pub(crate) fn keychain_for_new(&self) -> Option<Unlock> {
        let keychain = self.keychain.as_ref().ok()?;
        Some(Unlock::new(Opener::Keychain(Arc::clone(keychain)), KEYCHAIN))
    }

    /// The error where nothing can serve a new vault. `keychain` is what the keychain said.
    pub(crate) fn nothing_for_new(&self, keychain: Option<&StoreError>) -> StoreError {
        let mut looked_at = self.candidates();
        let why = match (keychain, &self.keychain) {
            (Some(error), _) => reason(error),
            (None, Err(reason)) => reason.clone(),
            (None, Ok(_)) => "it keeps no passphrases".into(),
        };
        looked_at.push(Candidate::not_set(KEYCHAIN, why));
        looked_at.push(self.prompt_candidate(true));
        StoreError::NoUnlockSource { tried: report::tried(&looked_at) }
    }
}
