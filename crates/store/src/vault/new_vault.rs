//! A vault that is not on the disk yet: its keys, and the ways in to them.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::frame::{FrameKind, KeyId};
use super::keychain::Keychain;
use super::place;
use super::record::Keys;
use super::way_in::NewWayIn;
use super::ways::Ways;
use crate::StoreError;

/// All that the file of a new vault will hold.
pub(super) struct NewVault {
    pub(super) keys: Keys,
    /// The ways in.
    pub(super) frames: Vec<Vec<u8>>,
    /// The sealed list of them.
    pub(super) sealed_list: Vec<u8>,
    /// What goes with it if it never comes to the disk.
    kept: KeptOutside,
}

impl NewVault {
    /// New keys, and these ways in to them. A keychain is given its identity; if the vault is not made in the end, it is
    /// taken back. Blocks: a passphrase takes its costs, a keychain its time.
    pub(super) fn prepare(ways: &[NewWayIn], created: SystemTime, file: &Path) -> Result<Self, StoreError> {
        let no_random = |error: getrandom::Error| {
            place::io("making keys for", file, std::io::Error::other(error.to_string()))
        };
        let keys = Keys::generate().map_err(no_random)?;
        let mut kept = KeptOutside { key_id: keys.id(), keychains: Vec::new() };
        let mut frames = Vec::with_capacity(ways.len());
        let mut listed = Vec::with_capacity(ways.len());
        for way in ways {
            let (frame, entry) = way.make(&keys, created)?;
            if let NewWayIn::Keychain { keychain, .. } = way {
                kept.keychains.push(Arc::clone(keychain));
            }
            frames.push(frame);
            listed.push(entry);
        }
        let list = Ways::new(listed).encode().unwrap_or_default();
        let sealed_list = keys.seal(FrameKind::Ways, 1, "", &list).map_err(no_random)?;
        Ok(Self { keys, frames, sealed_list, kept })
    }

    /// Leaves with the keychains what they were given.
    pub(super) fn keep(&mut self) {
        self.kept.keychains.clear();
    }
}

/// Keychains that have the key of a vault that does not exist.
struct KeptOutside {
    key_id: KeyId,
    keychains: Vec<Arc<dyn Keychain>>,
}

impl Drop for KeptOutside {
    fn drop(&mut self) {
        for keychain in &self.keychains {
            match keychain.remove(self.key_id) {
                Ok(()) | Err(StoreError::Unsupported { .. }) => {}
                Err(error) => tracing::warn!(
                    %error,
                    key_id = %self.key_id,
                    "no vault was made, but the keychain keeps a key for it"
                ),
            }
        }
    }
}
