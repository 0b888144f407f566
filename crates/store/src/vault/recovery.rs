//! A key that is made to be kept elsewhere.

use age::x25519;
use age_core::secrecy::ExposeSecret;
use tokenkeep_secret::SecretString;

/// A new X25519 key pair: the public key becomes a way in, the private one is shown once and kept nowhere.
#[derive(Clone, Debug)]
pub struct RecoveryKey {
    recipient: String,
    identity: SecretString,
}

impl RecoveryKey {
    /// Makes one.
    pub fn generate() -> Self {
        let identity = x25519::Identity::generate();
        Self {
            recipient: identity.to_public().to_string(),
            identity: SecretString::from(identity.to_string().expose_secret()),
        }
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
