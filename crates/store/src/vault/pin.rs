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
use super::pin_file::{Pin, files, of_names_for, read, stem, try_place, write, write_first};
use super::pin_rule::{PinRead, Said, refusal, refusal_by};
use super::place::Place;
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
    pub(super) fn check_given(&self, vault: &Path, found: KeyId) -> Result<(), StoreError> {
        match self {
            Self::Given { id, by, .. } => refusal_by(*id, by, vault, found).map_or(Ok(()), Err),
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

    /// Refuses a vault that is not the expected one. Writes nothing. `proven` says that its writer knew a secret.
    pub(super) fn check(&self, vault: &Path, found: KeyId, proven: bool) -> Result<(), StoreError> {
        self.check_given(vault, found)?;
        match self {
            Self::Files(_) if !proven => refusal(&self.read(), vault, found).map_or(Ok(()), Err),
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
        match self {
            Self::None => return Ok(PinState::NotAsked),
            // Checked already.
            Self::Given { by, .. } => return Ok(PinState::Given { by: by.clone() }),
            Self::Nowhere(reason) => return Ok(unpinned(reason)),
            Self::Files(_) => {}
        }
        let pins = self.read();
        if !proven && let Some(error) = refusal(&pins, &place.file, found) {
            return Err(error);
        }
        let (mut pinned, mut trouble, mut replace) = (None, None, false);
        for PinRead { file, said } in pins {
            let hidden = match said {
                Said::Nothing => match write_first(&file, &place.file, &self.pin_at(&file, vec![found])) {
                    Ok(true) => None,
                    // Another process was first: what it has written is judged as if it had always been there.
                    Ok(false) if matches!(read(&file), Ok(Some(_))) => {
                        return self.settle(disk, place, found, proven);
                    }
                    Ok(false) => Some(format!("{}: something that is no file is there", file.display())),
                    Err(error) => Some(format!("{}: {error}", file.display())),
                },
                Said::Ids(ids) => {
                    if !ids.contains(&found) {
                        tracing::info!(%found, file = %file.display(), "a passphrase opened another vault: its key id is pinned");
                    }
                    replace |= ids[..] != [found];
                    None
                }
                Said::NoPin => {
                    tracing::info!(file = %file.display(), "a key pin that cannot be read is written anew");
                    replace = true;
                    None
                }
                Said::Hidden(reason) => Some(reason),
            };
            match hidden {
                None => pinned = pinned.or(Some(file)),
                Some(reason) => trouble = trouble.or(Some(reason)),
            }
        }
        if replace && let Err(reason) = self.replace_settled(disk, place, found) {
            tracing::info!(reason, "the key pin stays as it is");
        }
        match (pinned, trouble) {
            (Some(file), trouble) => {
                if let Some(reason) = trouble {
                    tracing::info!(reason, "one of the two pins of the vault cannot be kept");
                }
                Ok(PinState::Pinned { file })
            }
            (None, trouble) => Ok(unpinned(&trouble.unwrap_or_default())),
        }
    }

    /// Pins the file's key id alone, unless its keys are being changed or were changed since `found` was read.
    fn replace_settled(&self, disk: &Disk, place: &Place, found: KeyId) -> Result<(), String> {
        let held = Held::try_take(disk, &place.lock, &[LEASES]).map_err(|error| error.to_string())?;
        let Some(_held) = held else { return Err("the vault's keys are being changed".to_owned()) };
        if key_id_at(disk, place) != Some(found) {
            return Err("the vault's keys were changed meanwhile".to_owned());
        }
        // Whoever changed the keys may have been killed before their file was in its place for good.
        let several = |pin: &PinRead| matches!(&pin.said, Said::Ids(ids) if ids.len() > 1);
        if self.read().iter().any(several) {
            disk.sync_folder(&place.folder).map_err(|error| error.to_string())?;
        }
        self.set(place, found)
    }

    /// Before the file with `new` is put in place of the one with `old`, if there is one: both are pinned, for other names
    /// that lead to the file too. A vault that is new leaves what was pinned, and other names as they are: whoever makes
    /// it need not have known the old keys.
    pub(super) fn expect(&self, place: &Place, old: Option<KeyId>, new: KeyId) -> Result<(), String> {
        for file in self.files() {
            let mut ids = match old {
                Some(old) => vec![old],
                None => read(file).ok().flatten().map(|pin| pin.ids).unwrap_or_default(),
            };
            if !ids.contains(&new) {
                ids.push(new);
            }
            let pin = self.pin_at(file, ids);
            write(file, &place.file, &pin).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        if let Some(old) = old {
            self.change_other_names(place, old, |ids| ids.push(new));
        }
        Ok(())
    }

    /// After a file with `new` did not come to be: what was pinned before.
    pub(super) fn unexpect(&self, place: &Place, new: KeyId) {
        for file in self.files() {
            let Ok(Some(mut pin)) = read(file) else { continue };
            pin.ids.retain(|id| *id != new);
            let done =
                if pin.ids.is_empty() { std::fs::remove_file(file) } else { write(file, &place.file, &pin) };
            if let Err(error) = done {
                tracing::debug!(%error, "the key pin names a vault that was never made");
            }
        }
        self.change_other_names(place, new, |ids| ids.retain(|id| *id != new));
    }

    /// Changes the pins of those other names that lead to the vault and hold `id`. A name that holds another one is for
    /// another vault, or was led elsewhere. One that fails is refused under that name, until it is trusted.
    fn change_other_names(&self, place: &Place, id: KeyId, change: impl Fn(&mut Vec<KeyId>)) {
        let Some(real) = self.files().last() else { return };
        for (file, mut pin) in of_names_for(real) {
            let before = pin.ids.clone();
            if self.files().contains(&file) || !before.contains(&id) {
                continue;
            }
            change(&mut pin.ids);
            if pin.ids.is_empty() || pin.ids == before {
                continue;
            }
            if let Err(error) = write(&file, &place.file, &pin) {
                tracing::info!(%error, file = %file.display(), "another name's key pin stays as it is");
            }
        }
    }

    /// After a new vault was put in place, for which `expected` says whether it could be pinned.
    pub(super) fn made(&self, place: &Place, id: KeyId, expected: Result<(), String>) -> PinState {
        match self {
            Self::None => PinState::NotAsked,
            Self::Given { by, .. } => PinState::Given { by: by.clone() },
            Self::Nowhere(reason) => unpinned(reason),
            Self::Files(files) => match expected.and_then(|()| self.set(place, id)) {
                Ok(()) => PinState::Pinned { file: files.first().cloned().unwrap_or_default() },
                Err(reason) => unpinned(&reason),
            },
        }
    }

    /// Pins `id` alone for the vault file at `vault`, on a person's word: by the name that they gave.
    pub(crate) fn trust(&self, vault: &Path, id: KeyId) -> Result<(), String> {
        self.write_all(vault, id)
    }

    /// Whether a pin can be written. Nothing is changed, but that the folder is made.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn try_places(&self) -> Result<(), String> {
        self.files()
            .iter()
            .try_for_each(|file| try_place(file).map_err(|error| format!("{}: {error}", file.display())))
    }

    /// Pins `id` alone, for other names that lead to the file and hold it among others too.
    pub(super) fn set(&self, place: &Place, id: KeyId) -> Result<(), String> {
        self.write_all(&place.file, id)?;
        self.change_other_names(place, id, |ids| *ids = vec![id]);
        Ok(())
    }

    /// Writes every pin, and says what was wrong with the first that failed.
    fn write_all(&self, vault: &Path, id: KeyId) -> Result<(), String> {
        let mut done = Ok(());
        for file in self.files() {
            let written = write(file, vault, &self.pin_at(file, vec![id]));
            done = done.and(written.map_err(|error| format!("{}: {error}", file.display())));
        }
        done
    }

    /// What the pin in `file` is to say.
    fn pin_at(&self, file: &Path, ids: Vec<KeyId>) -> Pin {
        let real = self.files().last().filter(|real| *real != file);
        Pin { ids, leads_to: real.and_then(|real| stem(real)) }
    }

    /// The pins as they are now.
    pub(crate) fn read(&self) -> Vec<PinRead> {
        self.files().iter().map(|file| PinRead::of(file)).collect()
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
