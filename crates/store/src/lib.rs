//! Small secrets under keys.
//!
//! [`SecretStore`] is what every store can do: compare-and-swap on revisions, notes, and leases that end with their
//! holder. This crate never hears of tokens. `Vault` is the store on disk, `Opening` finds and opens one by rule,
//! [`MemoryStore`] is for tests.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `vault` | yes | the vault file, and opening it by rule |
//! | `keychain` | yes | a way into the vault that the OS keychain holds |
//! | `ssh` | | ways in by SSH keys, `ssh-ed25519` and `ssh-rsa` |
//! | `plugin` | | ways in by keys that age plugins hold |
//! | `conformance` | | the suite that every store must pass, for stores of other people too |
//!
//! Without any there are the trait and [`MemoryStore`].

#![forbid(unsafe_code)]

#[cfg(feature = "conformance")]
pub mod conformance;
mod environment;
mod error;
mod key;
#[cfg(feature = "keychain")]
mod keychain;
mod memory;
#[cfg(feature = "vault")]
mod open;
#[cfg(feature = "vault")]
mod process_group;
mod store;
#[cfg(feature = "vault")]
mod unlock;
#[cfg(feature = "vault")]
mod vault;

pub use environment::Environment;
pub use error::StoreError;
pub use key::Key;
#[cfg(feature = "keychain")]
pub use keychain::SystemKeychain;
pub use memory::MemoryStore;
#[cfg(feature = "vault")]
pub use open::{Checked, Looked, Opened, Opening, PinReport, Place};
pub use store::{
    Entry, Expected, HandedLease, HeldLease, Lease, MAX_VALUE_BYTES, Note, Revision, SecretStore,
};
pub use tokenkeep_secret::{Secret, SecretString};
#[cfg(feature = "vault")]
pub use unlock::{
    KnownWays, Prompt, Question, Source, SourceReport, SourceState, Sources, UNLOCK_VARIABLES,
    is_standard_input, read_secret_file,
};
#[cfg(feature = "plugin")]
pub use vault::PluginIdentity;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use vault::fuzzing;
#[cfg(feature = "vault")]
pub use vault::{
    AffectedEntry, CheckedWay, Compacted, Costs, Export, ExportedEntry, FrameKind, FrameState, ImportOutcome,
    Imported, KeyId, Keychain, LockedPart, NewWayIn, Opener, PinState, PlannedWay, ProbedWay, RecoveryKey,
    Rekey, RekeyPlan, RepairPlan, Repaired, RoomState, Salvage, Seen, Unlock, Vault, VaultFrame, VaultLock,
    VaultOptions, VaultProbe, VaultReport, VaultStatus, WayFate, WayId, WayIn, WayKind, WayState,
};
