//! What a vault asks of an OS keychain.

use std::fmt;

use tokenkeep_secret::SecretString;

use super::KeyId;
use crate::StoreError;

/// What to do where a keychain holds no key for a vault.
pub(crate) const DELETED: &str =
    "if it did, the item was deleted: open the vault by another way in, such as the recovery key";

/// A place of the operating system that keeps a vault's age identity under the vault's key id.
///
/// The calls may block, on a person too; they are made off the caller's async thread. An implementation bounds its
/// own waiting.
pub trait Keychain: fmt::Debug + Send + Sync + 'static {
    /// The identity (one `AGE-SECRET-KEY-1…` line) kept for the vault with this key id; `None` if it keeps none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Keychain`] if it cannot be reached or does not answer. That is never the same as `None`.
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError>;

    /// Keeps `identity` for the vault with this key id, replacing what was kept for it.
    ///
    /// # Errors
    ///
    /// As [`Keychain::load`].
    fn save(&self, key_id: KeyId, identity: &SecretString) -> Result<(), StoreError>;

    /// Forgets what is kept for the vault with this key id, if anything is.
    ///
    /// # Errors
    ///
    /// As [`Keychain::load`]; [`StoreError::Unsupported`] by one that cannot.
    fn remove(&self, key_id: KeyId) -> Result<(), StoreError> {
        let _ = key_id;
        Err(StoreError::Unsupported { what: "removing a key from this keychain" })
    }
}
