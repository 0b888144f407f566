//! A key that is made to be kept elsewhere.

use tokenkeep_secret::SecretString;

use super::age_secret;
use crate::StoreError;

/// A new X25519 key pair: the public key becomes a way in, the private one is shown once and kept nowhere.
#[derive(Clone, Debug)]
pub struct RecoveryKey {
    recipient: String,
    identity: SecretString,
}

impl RecoveryKey {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the system gives no random bytes.
    pub fn generate() -> Result<Self, StoreError> {
        let (identity, public) = age_secret::generate()?;
        Ok(Self { recipient: public.to_string(), identity })
    }

    /// The public key, `age1…`.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// The private key, one line of an age identity file: `AGE-SECRET-KEY-1…`.
    pub fn identity(&self) -> &SecretString {
        &self.identity
    }
}
