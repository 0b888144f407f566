//! Small secrets under keys.
//!
//! [`SecretStore`] is what every store can do: compare-and-swap on revisions, notes, and leases that end with their
//! holder. This crate never hears of tokens.

#![forbid(unsafe_code)]

mod error;
mod key;
mod store;

pub use error::StoreError;
pub use key::Key;
pub use store::{
    Entry, Expected, HandedLease, HeldLease, Lease, MAX_VALUE_BYTES, Note, Revision, SecretStore,
};
pub use tokenkeep_secret::{Secret, SecretString};
