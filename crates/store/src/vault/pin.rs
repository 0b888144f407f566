//! The key pin: which key id a vault had when it was first opened here.
//!
//! Whoever knows a public key can make a vault for it. So a vault that is opened by one must have the key id that was
//! written down at the first opening, outside the vault's folder. A passphrase proves that the writer knew it: what it
//! opens is pinned anew.
//!
//! While keys are changed, the pin names the old and the new id: whichever file a crash leaves behind is taken.

#![allow(clippy::disallowed_methods, reason = "a pin stands outside the vault's folder")]

use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::frame::{HEADER_LEN, Header, KeyId};
use super::lock::{Held, LEASES};
use super::pin_file::{Unread, files, read, write, write_first};
use super::place::{self, Place};
use super::{VaultOptions, view};
use crate::StoreError;

/// Which key id is expected of a vault, and who says so.
#[derive(Clone, Debug, Default)]
pub(crate) enum KeyPin {
    /// None.
    #[default]
    None,
    /// This one, by a variable or a call. The files are kept up to date by who changes the keys here.
    Given { id: KeyId, by: String, files: Vec<PathBuf> },
    /// The one in these files: one for the path that was named, and one for the file that it leads to.
    Files(Vec<PathBuf>),
    /// None can be kept, for this reason.
    Nowhere(String),
}

/// How an opened vault's key id is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinState {
    /// It was not asked for.
    NotAsked,
    /// It is the one that was given by this variable or call.
    Given {
        /// What gave it.
        by: String,
    },
    /// It is the one in this file.
    Pinned {
        /// The pin.
        file: PathBuf,
    },
    /// It could not be pinned, for this reason.
    Unpinned {
        /// Why not.
        reason: String,
    },
}

impl VaultOptions {
    /// Refuses, with [`StoreError::UntrustedKeys`], a vault with another key id, whatever opens it. Without this, a vault
    /// that a public key opens is taken whoever made it.
    #[must_use]
    pub fn key_id(mut self, id: KeyId) -> Self {
        self.pin = self.pin.given(id, "the program that opens it");
        self
    }

    /// Judges the vault's key id by this pin, unless an id was given.
    pub(crate) fn pin(mut self, pin: KeyPin) -> Self {
        self.pin = match self.pin {
            KeyPin::Given { id, by, .. } => pin.given(id, by),
            _ => pin,
        };
        self
    }
}

impl KeyPin {
    /// Pins in `folder`, for the vault that is named by `path`.
    pub(crate) fn in_folder(folder: &Path, path: &Path) -> Self {
        Self::Files(files(folder, path))
    }

    /// Expects `id`, which `by` gave, whatever is pinned.
    pub(crate) fn given(self, id: KeyId, by: impl Into<String>) -> Self {
        Self::Given { id, by: by.into(), files: self.files().to_vec() }
    }

    pub(crate) fn files(&self) -> &[PathBuf] {
        match self {
            Self::Given { files, .. } | Self::Files(files) => files,
            Self::None | Self::Nowhere(_) => &[],
        }
    }

    /// Refuses a vault that is not the one whose id was given. Before any key is tried.
    pub(super) fn check_given(&self, place: &Place, found: KeyId) -> Result<(), StoreError> {
        match self {
            Self::Given { id, by, .. } if *id != found => Err(StoreError::UntrustedKeys {
                path: place.file.clone(),
                found: found.to_string(),
                expected: id.to_string(),
                by: by.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a new vault in the place of one whose id was given.
    pub(super) fn check_new(&self) -> Result<(), StoreError> {
        match self {
            Self::Given { by, .. } => Err(StoreError::Invalid {
                what: format!(
                    "{by} expects a vault that is there, and a new one gets a key id of its own: unset it"
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Judges a vault that was just opened, and writes down its key id where none is. `proven` says that its writer knew
    /// a secret.
    pub(super) fn settle(
        &self,
        disk: &Disk,
        place: &Place,
        found: KeyId,
        proven: bool,
    ) -> Result<PinState, StoreError> {
        let files = match self {
            Self::None => return Ok(PinState::NotAsked),
            // Checked already.
            Self::Given { by, .. } => return Ok(PinState::Given { by: by.clone() }),
            Self::Nowhere(reason) => return Ok(unpinned(reason)),
            Self::Files(files) => files,
        };
        let pins = match files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>() {
            Ok(pins) => pins,
            Err(Unread::Hidden(reason)) => return Ok(unpinned(&reason)),
            Err(Unread::Malformed(file)) if proven => {
                tracing::debug!(file = %file.display(), "a key pin that cannot be read is written anew");
                vec![Some(Vec::new()); files.len()]
            }
            Err(Unread::Malformed(file)) => {
                let reason = "is no key pin, or a damaged one: look at it, and write it anew by `tokenkeep vault trust`";
                return Err(place::refused(&file, reason));
            }
        };
        for (file, ids) in files.iter().zip(&pins) {
            if let Some(ids) = ids
                && !ids.contains(&found)
                && !proven
            {
                return Err(StoreError::UntrustedKeys {
                    path: place.file.clone(),
                    found: found.to_string(),
                    expected: ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(" or "),
                    by: file.display().to_string(),
                });
            }
        }
        let mut replace = false;
        for (file, ids) in files.iter().zip(&pins) {
            match ids {
                None => match write_first(file, &place.file, found) {
                    Ok(true) => {}
                    // Another process was first: what it has written is judged as if it had always been there.
                    Ok(false) if matches!(read(file), Ok(Some(_))) => {
                        return self.settle(disk, place, found, proven);
                    }
                    Ok(false) => {
                        return Ok(unpinned(&format!(
                            "{}: something that is no file is there",
                            file.display()
                        )));
                    }
                    Err(error) => return Ok(unpinned(&format!("{}: {error}", file.display()))),
                },
                Some(ids) => replace |= ids[..] != [found],
            }
        }
        if replace && let Err(reason) = self.replace_settled(disk, place, found) {
            tracing::info!(reason, "the key pin stays as it is");
        }
        Ok(PinState::Pinned { file: files.first().cloned().unwrap_or_default() })
    }

    /// Pins the file's key id alone, unless its keys are being changed or were changed since `found` was read.
    fn replace_settled(&self, disk: &Disk, place: &Place, found: KeyId) -> Result<(), String> {
        let held = Held::try_take(disk, &place.lock, &[LEASES]).map_err(|error| error.to_string())?;
        let Some(_held) = held else { return Err("the vault's keys are being changed".to_owned()) };
        if key_id_at(disk, place) != Some(found) {
            return Err("the vault's keys were changed meanwhile".to_owned());
        }
        self.set(place, &[found])
    }

    /// Before the file with `new` is put in place of the one with `old`, if there is one: both are pinned. A vault that is
    /// new leaves what was pinned.
    pub(super) fn expect(&self, place: &Place, old: Option<KeyId>, new: KeyId) -> Result<(), String> {
        for file in self.files() {
            let mut ids = match old {
                Some(old) => vec![old],
                None => read(file).ok().flatten().unwrap_or_default(),
            };
            if !ids.contains(&new) {
                ids.push(new);
            }
            write(file, &place.file, &ids).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(())
    }

    /// After a file with `new` did not come to be: what was pinned before.
    pub(super) fn unexpect(&self, place: &Place, new: KeyId) {
        for file in self.files() {
            let Ok(Some(mut ids)) = read(file) else { continue };
            ids.retain(|id| *id != new);
            let done =
                if ids.is_empty() { std::fs::remove_file(file) } else { write(file, &place.file, &ids) };
            if let Err(error) = done {
                tracing::debug!(%error, "the key pin names a vault that was never made");
            }
        }
    }

    /// After a new vault was put in place, for which `expected` says whether it could be pinned.
    pub(super) fn made(&self, place: &Place, id: KeyId, expected: Result<(), String>) -> PinState {
        match self {
            Self::None => PinState::NotAsked,
            Self::Given { by, .. } => PinState::Given { by: by.clone() },
            Self::Nowhere(reason) => unpinned(reason),
            Self::Files(files) => match expected.and_then(|()| self.set(place, &[id])) {
                Ok(()) => PinState::Pinned { file: files.first().cloned().unwrap_or_default() },
                Err(reason) => unpinned(&reason),
            },
        }
    }

    /// Pins `id` alone for the vault file at `vault`, on a person's word.
    pub(crate) fn trust(&self, vault: &Path, id: KeyId) -> Result<(), String> {
        self.write_all(vault, &[id])
    }

    /// Pins these ids, whatever was pinned.
    pub(super) fn set(&self, place: &Place, ids: &[KeyId]) -> Result<(), String> {
        self.write_all(&place.file, ids)
    }

    fn write_all(&self, vault: &Path, ids: &[KeyId]) -> Result<(), String> {
        self.files().iter().try_for_each(|file| {
            write(file, vault, ids).map_err(|error| format!("{}: {error}", file.display()))
        })
    }

    /// Everything that is pinned, as far as it can be read.
    pub(crate) fn pinned(&self) -> Vec<KeyId> {
        let mut ids: Vec<_> = self.files().iter().filter_map(|file| read(file).ok()?).flatten().collect();
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(*id));
        ids
    }
}

fn unpinned(reason: &str) -> PinState {
    tracing::info!(
        reason,
        "the vault's key id is not pinned: another vault for the same public key would be taken"
    );
    PinState::Unpinned { reason: reason.to_owned() }
}

/// The key id of the file that stands at `place` now. Not authenticated.
pub(super) fn key_id_at(disk: &Disk, place: &Place) -> Option<KeyId> {
    let (file, _) = view::open_file(disk, place).ok()?;
    let mut start = [0; HEADER_LEN];
    let read = file.read_at(&mut start, 0).ok()?;
    Header::decode(&start[..read]).ok().map(|header| header.key_id)
}
