//! What stands for a token where the token itself must not be.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokenkeep_secret::SecretString;

/// The first 12 bytes of a token's SHA-256, in hex: a note has little room. Tokens have far too much entropy for
/// it to be guessed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Fingerprint(String);

impl Fingerprint {
    pub(crate) fn of(token: &SecretString) -> Self {
        let digest = Sha256::digest(token.expose().as_bytes());
        Self(digest[..12].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
