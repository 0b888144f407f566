//! Ways in: age v1 messages to one recipient each, with the master key in them and nothing else. What opens them, and
//! how they are made.

use std::fmt;
use std::sync::Arc;

use tokenkeep_secret::{Secret, SecretString};

use super::age_message;
use super::age_secret;
use super::argon2id::{Costs, PassphraseRecipient};
use super::frame::{FrameKind, Tag, frame};
use super::identity::Identities;
use super::keychain::Keychain;
#[cfg(feature = "plugin")]
use super::plugin;
use super::recipient::Recipient;
use super::record::Keys;
use super::unwrap;
use super::ways::{ListedWay, WayKind};
use crate::StoreError;

/// What opens a vault.
#[derive(Clone)]
#[non_exhaustive]
pub enum Opener {
    /// A passphrase, byte for byte.
    Passphrase(Secret),
    /// The text of a key file: age identities (`AGE-SECRET-KEY-1…`), SSH private keys, identities of age plugins
    /// (`AGE-PLUGIN-NAME-1…`), comments and blank lines.
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
    /// What its age plugins may need.
    #[cfg(feature = "plugin")]
    pub(crate) plugins: plugin::Plugins,
}

impl Unlock {
    /// `opener`, taken from what messages will call `source`. Age plugins are looked for on this process's PATH, and
    /// have nobody to ask.
    pub fn new(opener: Opener, source: impl Into<String>) -> Self {
        Self {
            opener,
            source: source.into(),
            #[cfg(feature = "plugin")]
            plugins: plugin::Plugins::default(),
        }
    }

    #[cfg(feature = "plugin")]
    pub(crate) fn plugins(self, plugins: plugin::Plugins) -> Self {
        Self { plugins, ..self }
    }

    /// Lets age plugins ask a person by `prompt`.
    #[cfg(feature = "plugin")]
    #[must_use]
    pub fn prompt(mut self, prompt: Arc<dyn crate::Prompt>) -> Self {
        self.plugins.person = Ok(prompt);
        self
    }

    /// The keys in `text`, which came from here or from what its source keeps.
    pub(crate) fn identities(&self, text: &SecretString) -> Result<Identities, StoreError> {
        Identities::parse(text)
            .map_err(|reason| StoreError::UnlockSource { name: self.source.clone(), reason })
    }

    /// Whether opening by it takes next to no time: a passphrase takes its costs, an RSA key milliseconds, and a plugin
    /// its own time.
    pub(super) fn is_quick(&self) -> bool {
        match &self.opener {
            Opener::Identity(text) => {
                !["PRIVATE KEY-----", "AGE-PLUGIN-"].iter().any(|slow| text.expose().contains(slow))
            }
            Opener::Passphrase(_) | Opener::Keychain(_) => false,
        }
    }

    /// Whether what it opens was written by somebody who knew a secret: a passphrase. A public key anybody can have.
    pub(crate) fn is_proof(&self) -> bool {
        matches!(self.opener, Opener::Passphrase(_))
    }

    /// A passphrase.
    pub fn passphrase(passphrase: impl Into<Secret>, source: impl Into<String>) -> Self {
        Self::new(Opener::Passphrase(passphrase.into()), source)
    }

    /// The text of a key file: age identities, SSH private keys, identities of age plugins.
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
    /// By the private key of a recipient.
    Recipient {
        /// `age1…`, `ssh-ed25519 …`, `ssh-rsa …`, or a plugin's `age1NAME1…`.
        recipient: String,
        /// What to call it; may be empty, and is then the comment of an SSH key.
        label: String,
    },
    /// By the identity of an age plugin, for which the plugin makes it.
    #[cfg(feature = "plugin")]
    Plugin {
        /// The identity.
        identity: PluginIdentity,
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

/// The identity of an age plugin (`AGE-PLUGIN-NAME-1…`), and what the plugin may need.
#[cfg(feature = "plugin")]
#[derive(Clone, Debug)]
pub struct PluginIdentity {
    target: plugin::Target,
    plugins: plugin::Plugins,
    source: String,
}

#[cfg(feature = "plugin")]
impl PluginIdentity {
    /// `identity`, which came from `unlock`.
    pub(super) fn new(identity: plugin::Identity, unlock: &Unlock) -> Self {
        Self {
            target: plugin::Target::Identity(identity),
            plugins: unlock.plugins.clone(),
            source: unlock.source.clone(),
        }
    }
}

impl NewWayIn {
    /// By passphrase, at the default costs.
    pub fn passphrase(secret: impl Into<Secret>) -> Self {
        Self::Passphrase { secret: secret.into(), costs: Costs::default(), label: String::new() }
    }

    /// By the private key of `recipient` (`age1…`, `ssh-ed25519 …`, `ssh-rsa …`, `age1NAME1…`).
    pub fn recipient(recipient: impl Into<String>) -> Self {
        Self::Recipient { recipient: recipient.into(), label: String::new() }
    }

    /// By an identity that `keychain` keeps.
    pub fn keychain(keychain: Arc<dyn Keychain>) -> Self {
        Self::Keychain { keychain, label: String::new() }
    }

    /// The same, called `label`.
    #[must_use]
    pub(crate) fn labelled(mut self, new: &str) -> Self {
        match &mut self {
            Self::Passphrase { label, .. } | Self::Recipient { label, .. } | Self::Keychain { label, .. } => {
                new.clone_into(label);
            }
            #[cfg(feature = "plugin")]
            Self::Plugin { label, .. } => new.clone_into(label),
        }
        self
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
                    Recipient::parse(recipient)?;
                }
                #[cfg(feature = "plugin")]
                Self::Plugin { .. } => {}
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
                (WayKind::Passphrase, label.clone(), None, Some(*costs), message)
            }
            Self::Recipient { recipient, label } => {
                let recipient = Recipient::parse(recipient)?;
                let label = if label.is_empty() { recipient.comment().to_owned() } else { label.clone() };
                (recipient.kind(), label, Some(recipient.to_string()), None, wrap_to(keys, recipient)?)
            }
            #[cfg(feature = "plugin")]
            Self::Plugin { identity: PluginIdentity { target, plugins, source }, label } => {
                // Its public key is the plugin's secret: what can be said is which plugin that is.
                let program = plugin::program(target.name());
                let message = wrap_by(keys, plugins, target)
                    .map_err(|reason| StoreError::UnlockSource { name: source.clone(), reason })?;
                (WayKind::Plugin, label.clone(), Some(program), None, message)
            }
            Self::Keychain { keychain, label } => {
                let (identity, public) = age_secret::generate()?;
                keychain.save(keys.id(), &identity)?;
                (WayKind::Keychain, label.clone(), Some(public.to_string()), None, wrap(keys, &public)?)
            }
        };
        if !unwrap::is_readable(&message) {
            return Err(StoreError::Invalid {
                what: "the way in could not be made: the recipient makes more of it than a vault takes (16 KiB, 16 stanzas)"
                    .to_owned(),
            });
        }
        let frame = frame(FrameKind::WayIn, 0, Tag::NONE, &message);
        let listed = ListedWay::new(kind, label, recipient, created, costs, &frame);
        Ok((frame, listed))
    }
}

fn wrap_to(keys: &Keys, recipient: Recipient) -> Result<Vec<u8>, StoreError> {
    match recipient {
        Recipient::X25519(key) => wrap(keys, &key),
        #[cfg(feature = "ssh")]
        Recipient::Ssh(key) => wrap(keys, &key.key),
        #[cfg(feature = "plugin")]
        Recipient::Plugin(recipient) => {
            let target = plugin::Target::Recipient(recipient);
            wrap_by(keys, &plugin::Plugins::default(), &target).map_err(|reason| StoreError::Invalid {
                what: format!("the way in could not be made: {reason}"),
            })
        }
    }
}

/// The master key as an age message to what a plugin wraps to, or what went wrong with the plugin.
#[cfg(feature = "plugin")]
fn wrap_by(
    keys: &Keys,
    plugins: &plugin::Plugins,
    target: &plugin::Target,
) -> Result<Vec<u8>, plugin::Reason> {
    let wrapping = plugin::Wrapping::new(plugins, target);
    wrap(keys, &wrapping).map_err(|error| wrapping.failure().unwrap_or_else(|| error.to_string()))
}

/// The master key as an age message to `recipient`.
fn wrap(keys: &Keys, recipient: &dyn age::Recipient) -> Result<Vec<u8>, StoreError> {
    age_message::seal(&[recipient], keys.master()).ok_or_else(|| StoreError::Invalid {
        what:
            "the way in could not be made: the system has not enough memory, threads or random bytes for it"
                .to_owned(),
    })
}
