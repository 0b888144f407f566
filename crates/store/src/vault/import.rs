//! Storing what an export holds, and writing the file anew when asked to.

use std::sync::Arc;
use std::time::Duration;

use super::export::{Export, ExportedEntry};
use super::lock::{self, KEYS};
use super::probe::length;
use super::rewrite::Rewrite;
use super::write::Room;
use super::{Vault, blocking, writer};
use crate::{Expected, Key, Revision, SecretStore, StoreError};

/// What became of one entry of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Its name.
    pub key: Key,
    /// What became of it.
    pub outcome: ImportOutcome,
    /// The revision that is stored now, where it can be told.
    pub revision: Option<Revision>,
}

/// What became of an entry of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportOutcome {
    /// There was none of this name: it is stored now.
    Stored,
    /// There was another value, and it is replaced.
    Replaced,
    /// The same value was there already.
    Same,
    /// There is another value, and it stays.
    Kept,
    /// What is there is damaged, and it stays.
    Damaged,
}

/// How long the file was before it was written anew, and is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
}

impl Vault {
    /// Stores what `export` holds, each entry by itself: what is there already stays, unless `replace` is set. Waits at
    /// most `wait` until nobody holds a lease, and lets nobody take one meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseHeld`] when `wait` has passed; those of [`SecretStore::put`] but `Conflict`: then some entries
    /// are stored already, and importing again does the rest.
    pub async fn import(
        &self,
        export: &Export,
        replace: bool,
        wait: Duration,
    ) -> Result<Vec<Imported>, StoreError> {
        let shared = &self.shared;
        let nobody_renews = lock::take(&shared.disk, &shared.place.lock, &[KEYS], wait)
            .await?
            .ok_or(StoreError::LeaseHeld { waited: wait })?;
        let mut imported = Vec::with_capacity(export.entries.len());
        for entry in &export.entries {
            imported.push(self.import_one(entry, replace).await?);
        }
        drop(nobody_renews);
        Ok(imported)
    }

    async fn import_one(&self, entry: &ExportedEntry, replace: bool) -> Result<Imported, StoreError> {
        let done = |outcome, revision| Imported { key: entry.key.clone(), outcome, revision };
        let stored = match self.get(&entry.key).await {
            Ok(stored) => stored,
            Err(StoreError::Corrupt { .. }) if !replace => return Ok(done(ImportOutcome::Damaged, None)),
            Err(StoreError::Corrupt { .. }) => {
                let revision = self.put_imported(entry, Expected::Any).await?;
                return Ok(done(ImportOutcome::Replaced, Some(revision)));
            }
            Err(error) => return Err(error),
        };
        let (expected, outcome) = match stored {
            None => (Expected::Absent, ImportOutcome::Stored),
            Some(stored) if stored.value == entry.value => {
                return Ok(done(ImportOutcome::Same, Some(stored.revision)));
            }
            Some(stored) if replace => (Expected::At(stored.revision), ImportOutcome::Replaced),
            Some(stored) => return Ok(done(ImportOutcome::Kept, Some(stored.revision))),
        };
        match self.put_imported(entry, expected).await {
            Ok(revision) => Ok(done(outcome, Some(revision))),
            // A sign-in, which needs no lease, was faster: what it stored is newer than any export.
            Err(StoreError::Conflict { stored }) => Ok(done(ImportOutcome::Kept, stored)),
            Err(error) => Err(error),
        }
    }

    async fn put_imported(&self, entry: &ExportedEntry, expected: Expected) -> Result<Revision, StoreError> {
        let writer = writer(&self.shared).await?;
        let shared = Arc::clone(&self.shared);
        let (key, value, note) = (entry.key.clone(), entry.value.clone(), entry.note.clone());
        blocking(move || {
            let revision = shared.put(&writer, &key, &value, expected, Room::Keep)?;
            if let Some(note) = note {
                shared.set_note(&writer, &key, &note)?;
            }
            Ok(revision)
        })
        .await
    }

    /// Writes the file anew without what was replaced or removed.
    ///
    /// # Errors
    ///
    /// Those of any write.
    pub async fn compact(&self) -> Result<Compacted, StoreError> {
        let writer = writer(&self.shared).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let before = length(&*shared.current()?, &shared.place)?;
            let mut view = shared.writable(&writer)?;
            shared.rewrite(&mut view, Rewrite::default())?;
            Ok(Compacted { before, after: length(&view, &shared.place)? })
        })
        .await
    }
}
