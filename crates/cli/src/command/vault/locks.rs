//! Who is at the vault: which locks are held, and by whom.

use std::sync::Arc;

use serde::Serialize;
use tokenkeep::session::Actor;
use tokenkeep::store::{LockedPart, SecretStore, Vault, VaultLock};
use tokenkeep::{Session, StoreError};

use super::record;

/// A lock that is held.
#[derive(Serialize)]
pub(super) struct LockFields {
    /// `writer`, `keys` (changing the keys, repairing or importing) or `lease` (renewing one session).
    what: &'static str,
    session: Option<String>,
    /// The processes of this machine that hold it: empty if the system does not show them to this user.
    pids: Vec<u32>,
    /// Who says to be renewing it.
    by: Option<HolderFields>,
    #[serde(skip)]
    name: String,
}

#[derive(Serialize)]
struct HolderFields {
    host: String,
    pid: u32,
    user: Option<String>,
}

/// The locks that are held, and by whom, as far as that can be told: by the system, or else by what the holder of a lease
/// has written beside its session.
pub(super) async fn of_open(vault: &Vault) -> Result<Vec<LockFields>, StoreError> {
    let store: Arc<dyn SecretStore> = Arc::new(vault.clone());
    let mut locks = Vec::new();
    for lock in vault.locks().await? {
        let by = match &lock.what {
            LockedPart::Lease(Some(key)) => holder(&store, Session::name_of(key)).await,
            _ => None,
        };
        locks.push(fields(lock, by));
    }
    Ok(locks)
}

/// The same for a vault that does not open: no session is named.
pub(super) fn of_locked(path: &std::path::Path) -> Result<Vec<LockFields>, StoreError> {
    Ok(Vault::probe_locks(path)?.into_iter().map(|lock| fields(lock, None)).collect())
}

async fn holder(store: &Arc<dyn SecretStore>, session: Option<&str>) -> Option<Actor> {
    // What cannot be read says nothing of who holds it.
    let session = Session::open(Arc::clone(store), session?).await.ok()?;
    session.status().await.ok()?.renewing?.actor
}

fn fields(lock: VaultLock, by: Option<Actor>) -> LockFields {
    let (what, session, name) = match &lock.what {
        LockedPart::Writer => ("writer", None, "the file is being written".to_owned()),
        LockedPart::Keys => ("keys", None, "the keys are being changed, or the vault repaired".to_owned()),
        LockedPart::Lease(key) => {
            let session = key.as_ref().and_then(Session::name_of).map(str::to_owned);
            ("lease", session, format!("{} is being renewed", record::name(key.as_ref())))
        }
        _ => ("unknown", None, "something is locked".to_owned()),
    };
    let by = by.map(|actor| HolderFields { host: actor.host, pid: actor.pid, user: actor.user });
    LockFields { what, session, pids: lock.pids, by, name }
}

impl LockFields {
    /// For a person.
    pub(super) fn line(&self) -> String {
        let pids: Vec<String> = self.pids.iter().map(u32::to_string).collect();
        let by = match (&pids[..], &self.by) {
            ([], Some(by)) => format!("process {} on {}, as it says itself", by.pid, by.host),
            ([], None) => "unknown: this user may not see which process".to_owned(),
            ([pid], _) => format!("process {pid}"),
            (pids, _) => format!("processes {}", pids.join(", ")),
        };
        format!("{}, by {by}", self.name)
    }
}
