//! Storing what an export holds, and writing the file anew when asked to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::export::{Export, ExportedEntry};
use super::lock::{self, Held, KEYS};
use super::probe::length;
use super::rewrite::Rewrite;
use super::view::Shared;
use super::write::Room;
use super::{Vault, blocking, writer};
use crate::{Entry, Expected, Key, Note, Revision, StoreError};

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
    /// It is not what whoever let it be replaced has seen, and it stays.
    Changed,
    /// What is there is damaged, and it stays.
    Damaged,
}

/// What was stored of an entry when somebody looked, and let it be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all that a look can find")]
pub enum Seen {
    /// Nothing.
    Absent,
    /// This revision.
    At(Revision),
    /// Something that cannot be read.
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
    /// Stores what `export` holds, each entry by itself, with its note. What is there already stays, unless `replace` has
    /// what was seen of it and that is what is still there: an entry that has changed since is left alone. Waits at most
    /// `wait` until nobody holds a lease, and lets nobody take one meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseHeld`] when `wait` has passed; those of [`crate::SecretStore::put`] but `Conflict`: then some
    /// entries are stored already, and importing again does the rest.
    pub async fn import(
        &self,
        export: &Export,
        replace: &BTreeMap<Key, Seen>,
        wait: Duration,
    ) -> Result<Vec<Imported>, StoreError> {
        let shared = &self.shared;
        let nobody_renews = lock::take(&shared.disk, &shared.place.lock, &[KEYS], wait)
            .await?
            .ok_or(StoreError::LeaseHeld { waited: wait })?;
        let mut imported = Vec::with_capacity(export.entries.len());
        for entry in &export.entries {
            // A sign-in needs no lease, but the writer lock: nothing changes between the look and the put.
            let writer = writer(shared).await?;
            let (shared, entry) = (Arc::clone(shared), entry.clone());
            let seen = replace.get(&entry.key).copied();
            imported.push(blocking(move || shared.import(&writer, &entry, seen)).await?);
        }
        drop(nobody_renews);
        Ok(imported)
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

impl Shared {
    fn import(
        &self,
        writer: &Held,
        entry: &ExportedEntry,
        seen: Option<Seen>,
    ) -> Result<Imported, StoreError> {
        let done = |outcome, revision| Imported { key: entry.key.clone(), outcome, revision };
        let (stored, now) = match self.get(&entry.key) {
            Ok(stored) => {
                let now = stored.as_ref().map_or(Seen::Absent, |stored| Seen::At(stored.revision));
                (stored, now)
            }
            Err(StoreError::Corrupt { .. }) => (None, Seen::Damaged),
            Err(error) => return Err(error),
        };
        let revision = stored.as_ref().map(|stored| stored.revision);
        if let Some(stored) = stored.filter(|stored| stored.value == entry.value) {
            self.restore_note(writer, entry, &stored)?;
            return Ok(done(ImportOutcome::Same, revision));
        }
        let (expected, outcome) = match (now, seen) {
            (now, Some(seen)) if now != seen => return Ok(done(ImportOutcome::Changed, revision)),
            (Seen::Absent, _) => (Expected::Absent, ImportOutcome::Stored),
            (Seen::At(_), None) => return Ok(done(ImportOutcome::Kept, revision)),
            (Seen::Damaged, None) => return Ok(done(ImportOutcome::Damaged, None)),
            (Seen::At(revision), Some(_)) => (Expected::At(revision), ImportOutcome::Replaced),
            (Seen::Damaged, Some(_)) => (Expected::Any, ImportOutcome::Replaced),
        };
        let revision = match self.put(writer, &entry.key, &entry.value, expected, Room::Keep) {
            Ok(revision) => revision,
            // Something that does not take the writer lock was faster.
            Err(StoreError::Conflict { stored }) => return Ok(done(ImportOutcome::Changed, stored)),
            Err(error) => return Err(error),
        };
        self.put_note(writer, entry)?;
        Ok(done(outcome, Some(revision)))
    }

    /// The note of an entry that an import has put and that was stopped before it put the note. One that is newer than the
    /// entry says something about it, and stays.
    fn restore_note(&self, writer: &Held, entry: &ExportedEntry, stored: &Entry) -> Result<(), StoreError> {
        let tag = self.keys.tag_of(entry.key.as_str());
        let noted = self.latest()?.log.note(&tag).ok().flatten();
        if noted.is_some_and(|note| note.seq > stored.revision.get()) {
            return Ok(());
        }
        self.put_note(writer, entry)
    }

    /// Puts the export's note beside its entry. What stands there is about another value: where the export has none, an
    /// empty note takes its place.
    fn put_note(&self, writer: &Held, entry: &ExportedEntry) -> Result<(), StoreError> {
        let stored = self.note(&entry.key)?;
        let note = match (&entry.note, &stored) {
            (Some(note), _) => note.clone(),
            (None, Some(_)) => Note::new(Vec::new())?,
            (None, None) => return Ok(()),
        };
        if stored.as_ref() == Some(&note) { Ok(()) } else { self.set_note(writer, &entry.key, &note) }
    }
}
