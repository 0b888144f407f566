//! What can go wrong with a store, by what the caller can do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::Revision;

/// Why a store did not do what was asked. Messages say what happened, to what, and what to do next; none holds a key, a
/// value or a passphrase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no vault at this place. The only error that may lead to making one.
    #[error("there is no vault at {}: make one with `tokenkeep vault init`", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },

    /// There is a vault already, and making one was asked for.
    #[error("there is a vault at {} already: choose another place, or open that one", path.display())]
    Exists {
        /// Where it is.
        path: PathBuf,
    },

    /// Nothing is set that could open the vault.
    #[error(
        "nothing is set that opens the vault; tried: {tried}. Set TOKENKEEP_IDENTITY or TOKENKEEP_PASSPHRASE_FILE, or run on a terminal"
    )]
    NoUnlockSource {
        /// What was looked at, and why each did not serve.
        tried: String,
    },

    /// A source that is set could not be used: a file that cannot be read, a command that failed, an empty value.
    #[error("{name} is set but cannot be used: {reason}")]
    UnlockSource {
        /// Its name, such as `TOKENKEEP_PASSPHRASE_FILE`.
        name: String,
        /// What is wrong with it and how to mend it.
        reason: String,
    },

    /// The passphrase opens none of the vault's ways in.
    #[error("wrong passphrase (from {source_name}) for the vault at {}", path.display())]
    WrongPassphrase {
        /// The vault.
        path: PathBuf,
        /// Where the passphrase came from.
        source_name: String,
    },

    /// The key opens none of the vault's ways in.
    #[error("the key (from {source_name}) opens no way into the vault at {}: `tokenkeep vault status` lists them", path.display())]
    WrongIdentity {
        /// The vault.
        path: PathBuf,
        /// Where the key came from.
        source_name: String,
    },

    /// The vault's keys were changed since this handle opened it.
    #[error("the keys of the vault at {} were changed: open it again with a way in that it has now", path.display())]
    KeysChanged {
        /// The vault.
        path: PathBuf,
    },

    /// The vault is not the one that is expected here, and was opened by a public key, for which anybody could have made
    /// it. Nothing was read of it or written to it.
    #[error("the vault at {} has key id {found}, but {by} says {expected}: its keys were changed elsewhere, or somebody put another vault in its place; nothing was read", path.display())]
    UntrustedKeys {
        /// The vault.
        path: PathBuf,
        /// The key id that it has.
        found: String,
        /// The key id that was expected.
        expected: String,
        /// What says so: the file of the key pin, or the variable or call that gave the id.
        by: String,
    },

    /// The keys cannot be changed while sessions are being renewed, and the wait is over.
    #[error(
        "the vault's keys can only be changed while nobody renews a session, and somebody did for all of {waited:?}{}: wait for it, or stop it (a process that is stopped never ends its renewal)",
        held_by(holders)
    )]
    KeysInUse {
        /// How long was waited.
        waited: Duration,
        /// The processes that hold leases, as far as the system lets them be seen.
        holders: Vec<u32>,
    },

    /// The OS keychain could not be used.
    #[error(
        "the OS keychain cannot be used: {reason}. Set TOKENKEEP_IDENTITY or TOKENKEEP_PASSPHRASE_FILE instead"
    )]
    Keychain {
        /// What it said, or that it did not answer in time.
        reason: String,
    },

    /// Something stored is damaged. Other entries are not affected.
    #[error("damaged: {what}. Other entries are not affected; `tokenkeep vault verify` tells more")]
    Corrupt {
        /// Which record, at which byte, and what is wrong with it.
        what: String,
    },

    /// Written by a newer version of tokenkeep.
    #[error("{what} was written by a newer version of tokenkeep: update this one")]
    NewerVersion {
        /// What carries the unknown version.
        what: String,
    },

    /// The vault belongs to another user.
    #[error("the vault at {} belongs to user {owner}: run as that user (`sudo -u '#{owner}' …`)", path.display())]
    AnotherOwner {
        /// The vault.
        path: PathBuf,
        /// The owner's numeric id.
        owner: u32,
    },

    /// The place cannot be used for a vault as it is: permissions too open, a folder, a hard link, a mounted file.
    #[error("{} {reason}", path.display())]
    Place {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and the command that mends it.
        reason: String,
    },

    /// Nothing can be written here.
    #[error("{} cannot be written: {reason}", path.display())]
    NotWritable {
        /// The file or folder.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },

    /// No space for it; nothing was written.
    #[error("no space left for the vault{}: free some and try again", path.as_ref().map(|p| format!(" at {}", p.display())).unwrap_or_default())]
    Full {
        /// The vault, where there is one.
        path: Option<PathBuf>,
    },

    /// The system could not make a write durable, nor write the file anew. Keep the value and try again.
    #[error("the system could not make the write durable: {source}")]
    Unsynced {
        /// What it said.
        source: io::Error,
    },

    /// What is stored is not what was expected; nothing was written.
    #[error("what is stored has changed meanwhile; nothing was written")]
    Conflict {
        /// The revision that is stored now.
        stored: Option<Revision>,
    },

    /// Another holder has the lease, and the wait is over.
    #[error("another process kept the lease for all of {waited:?}")]
    LeaseHeld {
        /// How long was waited.
        waited: Duration,
    },

    /// The file's writer lock did not come free.
    #[error("another process kept the vault's writer lock for all of {waited:?}")]
    WriterBusy {
        /// How long was waited.
        waited: Duration,
    },

    /// Not a key.
    #[error("a key has 1 to 256 bytes, not {bytes}")]
    InvalidKey {
        /// Its length.
        bytes: usize,
    },

    /// Too long to be kept.
    #[error("{bytes} bytes are more than the {limit} that can be kept")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },

    /// A setting of the store is out of bounds or contradicts another.
    #[error("{what}")]
    Invalid {
        /// What, and what would be right.
        what: String,
    },

    /// This store cannot do it.
    #[error("this store does not support {what}")]
    Unsupported {
        /// What.
        what: &'static str,
    },

    /// The system refused something else.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, such as `reading`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn held_by(holders: &[u32]) -> String {
    match holders {
        [] => String::new(),
        [one] => format!(" (process {one})"),
        several => {
            format!(" (processes {})", several.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}
