//! What a history is made of.

use std::time::Duration;

use super::super::rewrite::Rewrite;
use super::super::{Vault, lock};
use super::model::Change;
use super::scene::{key, now, value};
use crate::{Expected, Note, Revision, SecretStore, StoreError};

/// Why a call was not done.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: StoreError,
    /// It was a put under a lease, for which there is space.
    pub(super) promised: bool,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

/// A call, of which the number makes what it writes its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Put {
        key: usize,
        len: usize,
    },
    /// Under a lease.
    LeasedPut {
        key: usize,
        len: usize,
    },
    Note {
        key: usize,
        len: usize,
    },
    Remove {
        key: usize,
    },
    Clear,
    /// The file is written anew, as when enough of it is dead.
    Compact,
}

impl Call {
    /// What it changes if it is done.
    pub(super) fn change(self, number: u64) -> Change {
        match self {
            Self::Put { key, len } | Self::LeasedPut { key, len } => {
                Change::Put(key, value(number, len).expose().to_vec())
            }
            Self::Note { key, len } => Change::Note(key, value(number, len).expose().to_vec()),
            Self::Remove { key } => Change::Remove(key),
            Self::Clear => Change::Clear,
            Self::Compact => Change::None,
        }
    }

    /// Does it, and gives the revision that a put got.
    pub(super) fn perform(self, vault: &Vault, number: u64) -> Result<Option<Revision>, Failed> {
        let failed = |error| Failed { error, promised: false };
        match self {
            Self::LeasedPut { key: name, len } => {
                let lease = now(vault.lease(&key(name), Duration::ZERO)).map_err(failed)?;
                let put = now(lease.put(&value(number, len), Expected::Any));
                // Errors of giving it up are those of the lock file, which is a real one.
                now(lease.release()).map_err(failed)?;
                put.map(Some).map_err(|error| Failed { error, promised: true })
            }
            _ => self.perform_unpromised(vault, number).map_err(failed),
        }
    }

    fn perform_unpromised(self, vault: &Vault, number: u64) -> Result<Option<Revision>, StoreError> {
        match self {
            Self::Put { key: name, len } | Self::LeasedPut { key: name, len } => {
                now(vault.put(&key(name), &value(number, len), Expected::Any)).map(Some)
            }
            Self::Note { key: name, len } => {
                let lease = now(vault.lease(&key(name), Duration::ZERO))?;
                let note = Note::new(value(number, len).expose().to_vec())?;
                let set = now(lease.set_note(&note));
                now(lease.release())?;
                set.map(|()| None)
            }
            Self::Remove { key: name } => now(vault.remove(&key(name), Expected::Any)).map(|()| None),
            Self::Clear => now(vault.clear()).map(|()| None),
            Self::Compact => {
                let shared = &vault.shared;
                let held = lock::Held::try_take(&shared.disk, &shared.place.lock, &[lock::WRITER])?;
                let writer = held.expect("nobody else writes");
                let mut view = shared.writable(&writer)?;
                shared.rewrite(&mut view, Rewrite::default()).map(|()| None)
            }
        }
    }
}
