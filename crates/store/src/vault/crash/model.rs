//! What must be in a vault, whatever happened to it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Vault;
use super::scene::{key, now};
use crate::{SecretStore, StoreError};

/// How many keys the histories use.
pub(super) const KEYS: usize = 4;

/// What a vault holds, by key: values and notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) values: BTreeMap<usize, Vec<u8>>,
    pub(super) notes: BTreeMap<usize, Vec<u8>>,
}

/// What a write changes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(usize, Vec<u8>),
    Remove(usize),
    Note(usize, Vec<u8>),
    Clear,
    /// Written anew, or another handle: nothing.
    None,
}

impl Contents {
    pub(super) fn after(&self, change: &Change) -> Self {
        let mut next = self.clone();
        match change {
            Change::Put(key, value) => drop(next.values.insert(*key, value.clone())),
            Change::Note(key, note) => drop(next.notes.insert(*key, note.clone())),
            Change::Remove(key) => {
                next.values.remove(key);
                next.notes.remove(key);
            }
            Change::Clear => next = Self::default(),
            Change::None => {}
        }
        next
    }
}

/// Which value each revision was ever seen with, by anybody. After a power cut nobody is left who saw what was lost with
/// it, and nobody was told that it is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(BTreeMap<u64, (usize, Vec<u8>)>);

impl Seen {
    pub(super) fn saw(&mut self, revision: u64, key: usize, value: &[u8]) -> Result<(), String> {
        let found = self.0.entry(revision).or_insert_with(|| (key, value.to_vec()));
        if (found.0, &found.1[..]) == (key, value) {
            return Ok(());
        }
        Err(format!("revision {revision} was seen with two values"))
    }

    pub(super) fn merge(&mut self, other: Self) -> Result<(), String> {
        other.0.into_iter().try_for_each(|(revision, (key, value))| self.saw(revision, key, &value))
    }

    /// Whether the value that the call of this number writes was seen.
    pub(super) fn has(&self, number: u64) -> bool {
        self.0.values().any(|(_, value)| value.starts_with(&number.to_le_bytes()))
    }

    /// Forgets what nobody was told is stored, unless it is.
    fn power_lost(&mut self, told: &BTreeSet<u64>, left: &Contents) {
        self.0
            .retain(|revision, (key, value)| told.contains(revision) || left.values.get(key) == Some(value));
    }
}

/// All that a vault holds, as a caller reads it.
///
/// # Errors
///
/// Anything that cannot be read, and any revision with another value than before.
pub(super) fn read(vault: &Vault, seen: &mut Seen) -> Result<Contents, String> {
    let said = |error: StoreError| error.to_string();
    let mut contents = Contents::default();
    let mut keys = Vec::new();
    for number in 0..KEYS {
        let name = key(number);
        let revision = now(vault.revision(&name)).map_err(said)?;
        let entry = now(vault.get(&name)).map_err(said)?;
        if entry.as_ref().map(|entry| entry.revision) != revision {
            return Err(format!("{name:?}: the revision is not that of the entry"));
        }
        if let Some(entry) = entry {
            seen.saw(entry.revision.get(), number, entry.value.expose())?;
            contents.values.insert(number, entry.value.expose().to_vec());
            keys.push(name.clone());
        }
        if let Some(note) = now(vault.note(&name)).map_err(said)? {
            contents.notes.insert(number, note.as_bytes().to_vec());
        }
    }
    if vault.shared.went_back.load(std::sync::atomic::Ordering::SeqCst) {
        return Err("it says that an older file took its place".to_owned());
    }
    if now(vault.keys()).map_err(said)? != keys {
        return Err("the list of keys is not that of the entries".to_owned());
    }
    Ok(contents)
}

/// Whether nothing in the file is damaged.
pub(super) fn whole(vault: &Vault) -> Result<(), String> {
    let report = now(vault.verify(true)).map_err(|error| error.to_string())?;
    match report.damaged().next() {
        None => Ok(()),
        Some(damaged) => Err(format!("damaged: {damaged:?}")),
    }
}

/// What is known: what is durable, what is seen, and what may be left by a power cut beside what is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) seen: Seen,
    pub(super) visible: Contents,
    durable: Contents,
    /// Of calls that did not return, or said that they are not sure; in turn.
    maybe: Vec<Contents>,
    /// The revisions that puts returned.
    told: BTreeSet<u64>,
}

impl Model {
    /// A put returned this revision.
    pub(super) fn told(&mut self, revision: u64, change: &Change) -> Result<(), String> {
        if self.told.last().is_some_and(|last| *last >= revision) {
            return Err(format!("revision {revision} is not above those before it"));
        }
        self.told.insert(revision);
        match change {
            Change::Put(key, value) => self.seen.saw(revision, *key, value),
            _ => Ok(()),
        }
    }

    /// A call returned.
    pub(super) fn done(&mut self, change: &Change) {
        self.visible = self.visible.after(change);
        self.durable = self.visible.clone();
        self.maybe.clear();
    }

    /// A call failed, and changed nothing.
    pub(super) fn failed(&mut self, found: &Contents) -> Result<(), String> {
        if *found == self.visible {
            Ok(())
        } else {
            Err(differs("after a failed call", found, &[&self.visible]))
        }
    }

    /// A call was cut off, or is not sure.
    pub(super) fn cut_off(&mut self, change: &Change, found: &Contents) -> Result<(), String> {
        let after = self.visible.after(change);
        if *found != self.visible && *found != after {
            return Err(differs("after a call was cut off", found, &[&self.visible, &after]));
        }
        self.maybe.push(after);
        self.visible = found.clone();
        Ok(())
    }

    /// The power was cut, and is back. Calls that were under way have been told by [`Self::interrupted`].
    pub(super) fn power_lost(&mut self, found: &Contents) -> Result<(), String> {
        let mut possible = vec![&self.durable];
        possible.extend(&self.maybe);
        if !possible.contains(&found) {
            return Err(differs("after a power cut", found, &possible));
        }
        self.seen.power_lost(&self.told, found);
        self.visible = found.clone();
        self.durable = found.clone();
        self.maybe.clear();
        Ok(())
    }

    /// What was only in memory may be gone, as a call left it that is not sure.
    pub(super) fn reread(&mut self, found: &Contents) -> Result<(), String> {
        let mut possible = vec![&self.visible, &self.durable];
        possible.extend(&self.maybe);
        if !possible.contains(&found) {
            return Err(differs("read from the disk again", found, &possible));
        }
        self.visible = found.clone();
        Ok(())
    }

    /// A call was under way when everything ended: nobody saw what became of it.
    pub(super) fn interrupted(&mut self, change: &Change) {
        self.maybe.push(self.visible.after(change));
    }

    /// What a reader may see while a call is under way.
    pub(super) fn during(&self, change: &Change) -> [Contents; 2] {
        [self.visible.clone(), self.visible.after(change)]
    }
}

pub(super) fn differs(when: &str, found: &Contents, possible: &[&Contents]) -> String {
    let shown = |contents: &Contents| {
        let short = |bytes: &Vec<u8>| {
            let number = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).unwrap_or_default();
            format!("{number} ({} bytes)", bytes.len())
        };
        let values: Vec<_> =
            contents.values.iter().map(|(key, value)| format!("{key}: {}", short(value))).collect();
        let notes: Vec<_> =
            contents.notes.iter().map(|(key, note)| format!("{key}: {}", short(note))).collect();
        format!("values {values:?}, notes {notes:?}")
    };
    let possible: Vec<_> = possible.iter().map(|contents| shown(contents)).collect();
    format!("{when}: found {}, not one of {possible:#?}", shown(found))
}
