//! The one rule by which pins are judged: when a vault is opened, when it is only looked at, and before it is repaired.

use std::path::{Path, PathBuf};

use super::frame::KeyId;
use super::pin_file::{self, Unread};
use super::place;
use crate::StoreError;

/// One of the pins of a vault, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinRead {
    pub(crate) file: PathBuf,
    pub(crate) said: Said,
}

/// What a pin said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// There is none yet.
    Nothing,
    /// One of these is taken.
    Ids(Vec<KeyId>),
    /// Something is there that is no pin.
    NoPin,
    /// It cannot be read, for this reason.
    Hidden(String),
}

impl PinRead {
    pub(super) fn of(file: &Path) -> Self {
        let said = match pin_file::read(file) {
            Ok(None) => Said::Nothing,
            Ok(Some(pin)) => Said::Ids(pin.ids),
            Err(Unread::Malformed) => Said::NoPin,
            Err(Unread::Hidden(reason)) => Said::Hidden(reason),
        };
        Self { file: file.to_owned(), said }
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn trouble(&self) -> Option<String> {
        match &self.said {
            Said::Nothing | Said::Ids(_) => None,
            Said::NoPin => Some(format!("{} {NO_PIN}", self.file.display())),
            Said::Hidden(reason) => Some(reason.clone()),
        }
    }
}

const NO_PIN: &str =
    "is no key pin, or a damaged one: look at it, and write it anew by `tokenkeep vault trust`";

/// Why a public key may not open the vault at `vault` that has the key id `found`. Each pin is judged on its own: one
/// that says another id refuses, and so does one that is damaged; one that cannot be read takes nothing from the others.
pub(crate) fn refusal(pins: &[PinRead], vault: &Path, found: KeyId) -> Option<StoreError> {
    let other = pins.iter().find_map(|pin| match &pin.said {
        Said::Ids(ids) if !ids.contains(&found) => Some(StoreError::UntrustedKeys {
            path: vault.to_owned(),
            found: found.to_string(),
            expected: ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(" or "),
            by: pin.file.display().to_string(),
        }),
        _ => None,
    });
    other.or_else(|| {
        let damaged = pins.iter().find(|pin| pin.said == Said::NoPin)?;
        Some(place::refused(&damaged.file, NO_PIN))
    })
}

/// Why a vault with `found` is not the one whose id was given, which takes the place of all pins.
pub(crate) fn refusal_by(given: KeyId, by: &str, vault: &Path, found: KeyId) -> Option<StoreError> {
    (given != found).then(|| StoreError::UntrustedKeys {
        path: vault.to_owned(),
        found: found.to_string(),
        expected: given.to_string(),
        by: by.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pin_is_judged_on_its_own_and_another_id_is_said_first() {
        let id = |byte| KeyId::new([byte; 16]);
        let same = Said::Ids(vec![id(1)]);
        let (other, two) = (Said::Ids(vec![id(2)]), Said::Ids(vec![id(2), id(1)]));
        let hidden = Said::Hidden("not permitted".to_owned());
        let judged = |said: [&Said; 2]| {
            let pins = said.map(|said| PinRead { file: "/pin".into(), said: said.clone() });
            match refusal(&pins, Path::new("/v"), id(1)) {
                None => "taken",
                Some(StoreError::UntrustedKeys { .. }) => "another",
                Some(_) => "damaged",
            }
        };
        for free in [&same, &two, &hidden, &Said::Nothing] {
            for (one, verdict) in
                [(&same, "taken"), (&two, "taken"), (&hidden, "taken"), (&Said::Nothing, "taken")]
            {
                assert_eq!(judged([free, one]), verdict, "{free:?} {one:?}");
            }
            for (one, verdict) in [(&other, "another"), (&Said::NoPin, "damaged")] {
                assert_eq!(judged([free, one]), verdict, "{free:?} {one:?}");
                assert_eq!(judged([one, free]), verdict, "{one:?} {free:?}");
            }
        }
        assert_eq!(judged([&Said::NoPin, &other]), "another");
    }
}
