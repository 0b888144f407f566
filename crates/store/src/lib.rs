//! Small secrets under keys.
//!
//! [`SecretStore`] is what every store can do: compare-and-swap on revisions, notes, and leases that end with their
//! holder. This crate never hears of tokens.

#![forbid(unsafe_code)]

mod error;
mod key;
mod memory;
mod store;
#[cfg(feature = "vault")]
mod vault;

pub use error::StoreError;
pub use key::Key;
pub use memory::MemoryStore;
pub use store::{
    Entry, Expected, HandedLease, HeldLease, Lease, MAX_VALUE_BYTES, Note, Revision, SecretStore,
};
pub use tokenkeep_secret::{Secret, SecretString};
#[cfg(feature = "vault")]
pub use vault::{
    Costs, FrameKind, FrameState, KeyId, Keychain, NewWayIn, Opener, ProbedWay, Unlock, Vault, VaultFrame,
    VaultOptions, VaultProbe, VaultReport, VaultStatus, WayIn, WayKind,
};
