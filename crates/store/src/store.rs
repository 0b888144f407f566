//! What every store can do.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokenkeep_secret::Secret;

use crate::{Key, StoreError};

/// The largest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// A number that grows with every write of an entry and is never used twice, across removal and clearing too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The revision of this number. Only stores make revisions; everyone else compares them.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value and the revision at which it was read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// What was stored.
    pub value: Secret,
    /// The write that stored it.
    pub revision: Revision,
}

impl Entry {
    /// An entry, for stores to return.
    pub fn new(value: Secret, revision: Revision) -> Self {
        Self { value, revision }
    }
}

/// What must be stored at the moment of a write for it to happen (compare-and-swap).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a compare-and-swap has no fourth case")]
pub enum Expected {
    /// Anything or nothing.
    Any,
    /// Nothing.
    Absent,
    /// The entry at this revision.
    At(Revision),
}

/// Up to [`Note::MAX_BYTES`] bytes without secrets beside an entry: who is renewing it, or when to try again.
///
/// A note is not part of the entry's revision. It is readable without the lease and written only under it.
#[derive(Clone, PartialEq, Eq)]
pub struct Note(Vec<u8>);

impl Note {
    /// The longest note, in bytes.
    pub const MAX_BYTES: usize = 512;

    /// A note of these bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] if there are more than [`Note::MAX_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, StoreError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(StoreError::TooLarge { bytes: bytes.len(), limit: Self::MAX_BYTES });
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Note({} bytes)", self.0.len())
    }
}

/// A place that keeps small secrets under keys, shared by every handle, task, process (and, for some stores, machine)
/// that opens it.
///
/// [`crate::conformance`] (feature `conformance`) checks all that is promised here.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync + 'static {
    /// The entry under `key`, or `None` if there is none. Damage is an error, never `None`.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// Stores `value` if what is stored now is as `expected`, and returns once it is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if it is not as expected; nothing was written then. [`StoreError::Full`] if there is no
    /// space; nothing was written. [`StoreError::TooLarge`] above [`MAX_VALUE_BYTES`].
    async fn put(&self, key: &Key, value: &Secret, expected: Expected) -> Result<Revision, StoreError>;

    /// Removes the entry and its note. Removing nothing succeeds with [`Expected::Any`] and [`Expected::Absent`].
    ///
    /// # Errors
    ///
    /// As [`SecretStore::put`].
    async fn remove(&self, key: &Key, expected: Expected) -> Result<(), StoreError>;

    /// Removes every entry and every note. Clearing an empty store succeeds.
    async fn clear(&self) -> Result<(), StoreError>;

    /// The keys of all entries, sorted.
    async fn keys(&self) -> Result<Vec<Key>, StoreError>;

    /// The revision of the entry under `key`, or `None`. Much cheaper than [`SecretStore::get`].
    async fn revision(&self, key: &Key) -> Result<Option<Revision>, StoreError>;

    /// The note beside `key`, if there is one that can be read. Needs no lease.
    async fn note(&self, key: &Key) -> Result<Option<Note>, StoreError>;

    /// Takes the exclusive right to renew `key`, waiting at most `wait` for its holder. The entry need not exist.
    /// Dropping the future gives up the wait. `Duration::ZERO` tries once.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseHeld`] when `wait` has passed; [`StoreError::Full`] when the room for one put under the lease
    /// cannot be promised.
    async fn lease(&self, key: &Key, wait: Duration) -> Result<Lease, StoreError>;

    /// Takes over a lease that another process of this machine handed over with [`Lease::hand_over`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] where leases cannot cross processes; [`StoreError::LeaseHeld`] if `handed` does not
    /// hold the lease of `key` in this store.
    async fn receive_lease(&self, key: &Key, handed: HandedLease) -> Result<Lease, StoreError> {
        let _ = (key, handed);
        Err(StoreError::Unsupported { what: "handing a lease to another process" })
    }
}

/// The exclusive right to renew one key. It ends when it is released, dropped, or its holder dies; never by a clock.
///
/// While it is held, one [`Lease::put`] cannot fail for want of space.
#[derive(Debug)]
#[must_use = "dropping a lease gives it up"]
pub struct Lease {
    held: Box<dyn HeldLease>,
}

impl Lease {
    /// A lease over a store's own guard, for stores to return.
    pub fn new(held: impl HeldLease) -> Self {
        Self { held: Box::new(held) }
    }

    /// As [`SecretStore::put`] of the leased key, and allowed to use the room that is kept for it.
    ///
    /// # Errors
    ///
    /// As [`SecretStore::put`].
    pub async fn put(&self, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        self.held.put(value, expected).await
    }

    /// Replaces the note beside the leased key. Durable enough to be seen by every process from now on; it need not
    /// survive a power cut.
    ///
    /// # Errors
    ///
    /// Those of [`SecretStore::put`] but `Conflict`.
    pub async fn set_note(&self, note: &Note) -> Result<(), StoreError> {
        self.held.set_note(note).await
    }

    /// Gives the lease to a child process: pass what is returned as the child's standard input or another descriptor,
    /// and have it call [`SecretStore::receive_lease`]. Until both this lease and the child's are gone, it is held: drop this
    /// one. If it cannot be given, it is still this one's.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsupported`] where leases cannot cross processes.
    pub fn hand_over(&self) -> Result<HandedLease, StoreError> {
        self.held.hand_over()
    }

    /// Gives the lease up now, and says if that failed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the store could not be told; the lease ends all the same when the holder does.
    pub async fn release(self) -> Result<(), StoreError> {
        self.held.release().await
    }
}

/// What a store's own lease guard can do. Dropping it gives the lease up.
#[async_trait]
pub trait HeldLease: fmt::Debug + Send + Sync + 'static {
    /// See [`Lease::put`].
    async fn put(&self, value: &Secret, expected: Expected) -> Result<Revision, StoreError>;

    /// See [`Lease::set_note`].
    async fn set_note(&self, note: &Note) -> Result<(), StoreError>;

    /// See [`Lease::hand_over`].
    fn hand_over(&self) -> Result<HandedLease, StoreError> {
        Err(StoreError::Unsupported { what: "handing a lease to another process" })
    }

    /// See [`Lease::release`].
    async fn release(self: Box<Self>) -> Result<(), StoreError>;
}

/// A lease on its way to another process.
#[derive(Debug)]
#[non_exhaustive]
pub struct HandedLease {
    /// The descriptor that holds the lease. Give it to the child (`Stdio::from`), then drop every copy here.
    #[cfg(unix)]
    pub descriptor: std::os::fd::OwnedFd,
}

#[cfg(unix)]
impl From<std::os::fd::OwnedFd> for HandedLease {
    fn from(descriptor: std::os::fd::OwnedFd) -> Self {
        Self { descriptor }
    }
}
