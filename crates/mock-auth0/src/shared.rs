//! What the server's tasks and the handle share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::clock::MockClock;
use crate::fault_book::FaultBook;
use crate::log::Log;
use crate::tenant::Tenant;

pub(crate) struct Shared {
    pub(crate) clock: MockClock,
    pub(crate) log: Log,
    pub(crate) faults: FaultBook,
    /// Whether the server listens.
    pub(crate) up: watch::Sender<bool>,
    tenant: Mutex<Tenant>,
}

impl Shared {
    pub(crate) fn new(clock: MockClock, tenant: Tenant) -> Self {
        Self {
            clock,
            log: Log::default(),
            faults: FaultBook::default(),
            up: watch::Sender::new(true),
            tenant: Mutex::new(tenant),
        }
    }

    /// The tenant, locked. Never held across an await.
    pub(crate) fn tenant(&self) -> MutexGuard<'_, Tenant> {
        self.tenant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
