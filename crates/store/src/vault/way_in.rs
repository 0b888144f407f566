//! Ways in: age v1 messages to one recipient each, with the master key in them and nothing else. What opens them, and
//! how they are made.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use age::x25519;
use age_core::secrecy::ExposeSecret;
use tokenkeep_secret::{Secret, SecretString};

use super::argon2id::{Costs, PassphraseRecipient};
use super::frame::{FrameKind, Tag, frame};
use super::keychain::Keychain;
use super::record::Keys;
use super::ways::{ListedWay, WayKind};
use crate::StoreError;

/// What opens a vault.
#[derive(Clone)]
#[non_exhaustive]
pub enum Opener {
    /// A passphrase, byte for byte.
    Passphrase(Secret),
    /// The text of an age identity file: `AGE-SECRET-KEY-1…` lines, comments and blank lines.
    Identity(SecretString),
    /// A keychain that may hold the vault's identity.
    Keychain(Arc<dyn Keychain>),
}

/// Shows the kind alone.
impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Opener::Passphrase([secret])",
            Self::Identity(_) => "Opener::Identity([secret])",
            Self::Keychain(_) => "Opener::Keychain",
        })
    }
}

/// What opens a vault, and where it came from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unlock {
    /// What opens it.
    pub opener: Opener,
    /// What messages call its source, such as `TOKENKEEP_PASSPHRASE_FILE`.
    pub source: String,
}

impl Unlock {
    /// `opener`, taken from what messages will call `source`.
    pub fn new(opener: Opener, source: impl Into<String>) -> Self {
        Self { opener, source: source.into() }
    }

    /// A passphrase.
    pub fn passphrase(passphrase: impl Into<Secret>, source: impl Into<String>) -> Self {
        Self::new(Opener::Passphrase(passphrase.into()), source)
    }

    /// The text of an age identity file.
    pub fn identity(text: impl Into<SecretString>, source: impl Into<String>) -> Self {
        Self::new(Opener::Identity(text.into()), source)
    }
}

/// A way in that is to be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum NewWayIn {
    /// By passphrase.
    Passphrase {
        /// The passphrase, byte for byte; not empty.
        secret: Secret,
        /// What guessing it costs.
        costs: Costs,
        /// What to call it; may be empty.
        label: String,
    },
    /// By the private key of an age X25519 recipient.
    Recipient {
        /// `age1…`
        recipient: String,
        /// What to call it; may be empty.
        label: String,
    },
    /// By a new age identity that this keychain keeps.
    Keychain {
        /// The keychain.
        keychain: Arc<dyn Keychain>,
        /// What to call it; may be empty.
        label: String,
    },
}

impl NewWayIn {
    /// By passphrase, at the default costs.
    pub fn passphrase(secret: impl Into<Secret>) -> Self {
        Self::Passphrase { secret: secret.into(), costs: Costs::default(), label: String::new() }
    }

    /// By the private key of `recipient` (`age1…`).
    pub fn recipient(recipient: impl Into<String>) -> Self {
        Self::Recipient { recipient: recipient.into(), label: String::new() }
    }

    /// By an identity that `keychain` keeps.
    pub fn keychain(keychain: Arc<dyn Keychain>) -> Self {
        Self::Keychain { keychain, label: String::new() }
    }

    pub(super) fn costs(&self) -> Option<Costs> {
        match self {
            Self::Passphrase { costs, .. } => Some(*costs),
            Self::Recipient { .. } | Self::Keychain { .. } => None,
        }
    }

    /// Checks what can be checked before any work is done.
    pub(super) fn check_all(ways: &[Self]) -> Result<(), StoreError> {
        let invalid = |what: &str| Err(StoreError::Invalid { what: what.to_owned() });
        if ways.is_empty() {
            return invalid("a vault needs at least one way in: a passphrase, a recipient or the keychain");
        }
        let mut all_costs = Vec::new();
        for way in ways {
            match way {
                Self::Passphrase { secret, .. } if secret.is_empty() => {
                    return invalid("the passphrase is empty");
                }
                Self::Passphrase { costs, .. } => all_costs.push(*costs),
                Self::Recipient { recipient, .. } => {
                    parse_recipient(recipient)?;
                }
                Self::Keychain { .. } => {}
            }
        }
        if !Costs::within_ceilings(&all_costs) {
            return invalid(
                "the passphrases cost too much together: at most 4, and 1 GiB, 16 passes and 16 lanes in all",
            );
        }
        Ok(())
    }

    /// Wraps the master key: the frame, and what the list of ways in says about it. A keychain is given its identity
    /// here, before the vault exists.
    pub(super) fn make(
        &self,
        keys: &Keys,
        created: std::time::SystemTime,
    ) -> Result<(Vec<u8>, ListedWay), StoreError> {
        let (kind, label, recipient, costs, message) = match self {
            Self::Passphrase { secret, costs, label } => {
                let message = wrap(keys, &PassphraseRecipient { passphrase: secret, costs: *costs })?;
                (WayKind::Passphrase, label, None, Some(*costs), message)
            }
            Self::Recipient { recipient, label } => {
                let key = parse_recipient(recipient)?;
                (WayKind::X25519, label, Some(key.to_string()), None, wrap(keys, &key)?)
            }
            Self::Keychain { keychain, label } => {
                let identity = x25519::Identity::generate();
                let public = identity.to_public();
                keychain.save(keys.id(), &SecretString::from(identity.to_string().expose_secret()))?;
                (WayKind::Keychain, label, Some(public.to_string()), None, wrap(keys, &public)?)
            }
        };
        let frame = frame(FrameKind::WayIn, 0, Tag::NONE, &message);
        let listed = ListedWay::new(kind, label.clone(), recipient, created, costs, &frame);
        Ok((frame, listed))
    }
}

pub(super) fn parse_recipient(text: &str) -> Result<x25519::Recipient, StoreError> {
    text.trim().parse().map_err(|_| StoreError::Invalid {
        what: "the recipient is not an age X25519 public key (`age1…`, as `age-keygen` prints it)".to_owned(),
    })
}

/// The master key as an age message to `recipient`.
fn wrap(keys: &Keys, recipient: &dyn age::Recipient) -> Result<Vec<u8>, StoreError> {
    // age's own error text is not passed on: it loads a translation, and says nothing that helps here.
    let failed = || StoreError::Invalid {
        what: "the way in could not be made: the system has not enough memory or random bytes for it"
            .to_owned(),
    };
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient)).map_err(|_| failed())?;
    let mut message = Vec::new();
    let mut writer = encryptor.wrap_output(&mut message).map_err(|_| failed())?;
    writer.write_all(keys.master()).and_then(|()| writer.finish().map(drop)).map_err(|_| failed())?;
    Ok(message)
}
