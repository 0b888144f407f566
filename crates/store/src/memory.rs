//! A store that lives and ends with its process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokenkeep_secret::Secret;
use tokio::sync::OwnedMutexGuard;

use crate::{
    Entry, Expected, HeldLease, Key, Lease, MAX_VALUE_BYTES, Note, Revision, SecretStore, StoreError,
};

/// Secrets in the memory of this process. Clones share what they hold; nothing is written anywhere.
///
/// Its leases exclude tasks and threads of this process, and cannot be handed to another one.
///
/// ```
/// use tokenkeep_store::{Expected, Key, MemoryStore, Secret, SecretStore, StoreError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), StoreError> {
/// let store = MemoryStore::new();
/// let key = Key::new("api-key")?;
/// let first = store.put(&key, &Secret::from(&b"one"[..]), Expected::Absent).await?;
/// store.put(&key, &Secret::from(&b"two"[..]), Expected::At(first)).await?;
/// // Whoever still expects the first has lost, and nothing is written.
/// let late = store.put(&key, &Secret::from(&b"three"[..]), Expected::At(first)).await;
/// assert!(matches!(late, Err(StoreError::Conflict { .. })));
/// assert_eq!(store.get(&key).await?.map(|entry| entry.value), Some(Secret::from(&b"two"[..])));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Default)]
struct Contents {
    entries: BTreeMap<Key, Entry>,
    notes: HashMap<Key, Note>,
    last_revision: u64,
    leases: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // No code that can panic runs while it is held.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_now(&self, key: &Key, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(StoreError::TooLarge { bytes: value.len(), limit: MAX_VALUE_BYTES });
        }
        let mut contents = self.lock();
        contents.check(key, expected)?;
        contents.last_revision += 1;
        let revision = Revision::new(contents.last_revision);
        contents.entries.insert(key.clone(), Entry::new(value.clone(), revision));
        Ok(revision)
    }
}

impl Contents {
    fn check(&self, key: &Key, expected: Expected) -> Result<(), StoreError> {
        let stored = self.entries.get(key).map(|entry| entry.revision);
        let as_expected = match expected {
            Expected::Any => true,
            Expected::Absent => stored.is_none(),
            Expected::At(revision) => stored == Some(revision),
        };
        if as_expected { Ok(()) } else { Err(StoreError::Conflict { stored }) }
    }
}

/// Shows how much it holds, not what.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("entries", &self.lock().entries.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl SecretStore for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.lock().entries.get(key).cloned())
    }

    async fn put(&self, key: &Key, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        self.put_now(key, value, expected)
    }

    async fn remove(&self, key: &Key, expected: Expected) -> Result<(), StoreError> {
        let mut contents = self.lock();
        contents.check(key, expected)?;
        contents.entries.remove(key);
        contents.notes.remove(key);
        Ok(())
    }

    async fn clear(&self) -> Result<(), StoreError> {
        let mut contents = self.lock();
        contents.entries.clear();
        contents.notes.clear();
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<Key>, StoreError> {
        Ok(self.lock().entries.keys().cloned().collect())
    }

    async fn revision(&self, key: &Key) -> Result<Option<Revision>, StoreError> {
        Ok(self.lock().entries.get(key).map(|entry| entry.revision))
    }

    async fn note(&self, key: &Key) -> Result<Option<Note>, StoreError> {
        Ok(self.lock().notes.get(key).cloned())
    }

    async fn lease(&self, key: &Key, wait: Duration) -> Result<Lease, StoreError> {
        let lock = Arc::clone(self.lock().leases.entry(key.clone()).or_default());
        let held = match Arc::clone(&lock).try_lock_owned() {
            Ok(held) => held,
            Err(_) if wait.is_zero() => return Err(StoreError::LeaseHeld { waited: wait }),
            Err(_) => tokio::time::timeout(wait, lock.lock_owned())
                .await
                .map_err(|_| StoreError::LeaseHeld { waited: wait })?,
        };
        Ok(Lease::new(MemoryLease { store: self.clone(), key: key.clone(), _held: held }))
    }
}

/// The lease of one key. Memory that the entry needs is not set aside: a process without memory has other troubles.
#[derive(Debug)]
struct MemoryLease {
    store: MemoryStore,
    key: Key,
    _held: OwnedMutexGuard<()>,
}

#[async_trait]
impl HeldLease for MemoryLease {
    async fn put(&self, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        self.store.put_now(&self.key, value, expected)
    }

    async fn set_note(&self, note: &Note) -> Result<(), StoreError> {
        self.store.lock().notes.insert(self.key.clone(), note.clone());
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}
