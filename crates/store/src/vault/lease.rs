//! A vault's leases.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokenkeep_secret::Secret;

use super::lock::{self, Held, LEASES, Range};
use super::place;
use super::view::Shared;
use super::write::Room;
use super::{blocking, check_size, writer};
use crate::{Expected, HandedLease, HeldLease, Key, Lease, Note, Revision, StoreError};

/// The lease of one key, held by ranges of the lock file.
#[derive(Debug)]
pub(super) struct VaultLease {
    shared: Arc<Shared>,
    key: Key,
    /// Shared with a write that is under way: if its caller gives up, the lease lasts until the write has ended.
    held: Arc<Held>,
}

/// The ranges that a lease holds: the one that tells that there are leases, and its own.
fn ranges(shared: &Shared, key: &Key) -> [Range; 2] {
    [LEASES, Range::lease(&shared.keys.tag_of(key.as_str()))]
}

impl VaultLease {
    pub(super) async fn take(shared: &Arc<Shared>, key: &Key, wait: Duration) -> Result<Lease, StoreError> {
        let ranges = ranges(shared, key);
        let held = lock::take(&shared.disk, &shared.place.lock, &ranges, wait)
            .await?
            .ok_or(StoreError::LeaseHeld { waited: wait })?;
        if shared.has_distrusted() {
            // It is to be written anew, which may need more space than the put is promised: better now than then.
            let writer = writer(shared).await?;
            let shared = Arc::clone(shared);
            blocking(move || shared.writable(&writer).map(drop)).await?;
        }
        Self::with_room(shared, key, held).await
    }

    #[cfg(target_os = "linux")]
    pub(super) async fn receive(
        shared: &Arc<Shared>,
        key: &Key,
        handed: HandedLease,
    ) -> Result<Lease, StoreError> {
        let ranges = ranges(shared, key);
        let held = Held::received(&shared.disk, &shared.place.lock, &ranges, handed.descriptor)
            .map_err(|error| place::io("taking over a lease at", &shared.place.lock, error))?
            .ok_or(StoreError::LeaseHeld { waited: Duration::ZERO })?;
        Self::with_room(shared, key, held).await
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) async fn receive(
        _shared: &Arc<Shared>,
        _key: &Key,
        _handed: HandedLease,
    ) -> Result<Lease, StoreError> {
        Err(StoreError::Unsupported { what: "handing a lease to another process" })
    }

    /// The lease, once the room for its put is there: the disk may be asked for it, or a writer be waited for.
    async fn with_room(shared: &Arc<Shared>, key: &Key, held: Held) -> Result<Lease, StoreError> {
        let room = Arc::clone(shared);
        blocking(move || room.promise_room()).await?;
        Ok(Lease::new(Self { shared: Arc::clone(shared), key: key.clone(), held: Arc::new(held) }))
    }
}

#[async_trait]
impl HeldLease for VaultLease {
    async fn put(&self, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        check_size(value)?;
        let writer = writer(&self.shared).await?;
        let (shared, key, value) = (Arc::clone(&self.shared), self.key.clone(), value.clone());
        let held = Arc::clone(&self.held);
        blocking(move || {
            let put = shared.put(&writer, &key, &value, expected, Room::Use);
            drop(held);
            put
        })
        .await
    }

    async fn set_note(&self, note: &Note) -> Result<(), StoreError> {
        let writer = writer(&self.shared).await?;
        let (shared, key, note) = (Arc::clone(&self.shared), self.key.clone(), note.clone());
        let held = Arc::clone(&self.held);
        blocking(move || {
            let set = shared.set_note(&writer, &key, &note);
            drop(held);
            set
        })
        .await
    }

    #[cfg(target_os = "linux")]
    fn hand_over(&self) -> Result<HandedLease, StoreError> {
        self.held
            .give_away()
            .map(HandedLease::from)
            .map_err(|error| place::io("handing over a lease at", &self.shared.place.lock, error))
    }

    async fn release(self: Box<Self>) -> Result<(), StoreError> {
        let Self { shared, held, .. } = *self;
        let Some(held) = Arc::into_inner(held) else { return Ok(()) };
        held.release().map_err(|error| place::io("releasing a lease at", &shared.place.lock, error))
    }
}
