//! Recipients: what a way in is wrapped to, named by its text.

use std::fmt;

use age::x25519;

#[cfg(feature = "plugin")]
use super::plugin;
#[cfg(feature = "ssh")]
use super::ssh;
use super::ways::WayKind;
use crate::StoreError;

/// A public key that a way in can be made for.
pub(super) enum Recipient {
    /// `age1…`
    X25519(x25519::Recipient),
    /// `ssh-ed25519 …`, `ssh-rsa …`
    #[cfg(feature = "ssh")]
    Ssh(Box<ssh::PublicKey>),
    /// `age1NAME1…`
    #[cfg(feature = "plugin")]
    Plugin(plugin::Recipient),
}

impl Recipient {
    /// Reads a recipient of any kind.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`], which says what is wrong with it and holds nothing of it.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        Self::read(text.trim())
            .map_err(|reason| StoreError::Invalid { what: format!("the recipient cannot be used: {reason}") })
    }

    fn read(text: &str) -> Result<Self, String> {
        const KINDS: &str =
            "give a public key: `age1…` as `age-keygen` prints it, or a line of a `.pub` file of SSH";
        let upper = text.to_ascii_uppercase();
        if text.is_empty() {
            return Err(format!("it is empty; {KINDS}"));
        }
        if text.starts_with("age-plugin-") {
            return Err("its public key is known to the plugin alone, which makes it for its identity".into());
        }
        if upper.contains("AGE-SECRET-KEY-1")
            || upper.contains("AGE-PLUGIN-")
            || upper.contains("PRIVATE KEY-----")
        {
            return Err(format!("it is a private key, which opens and must be kept to yourself; {KINDS}"));
        }
        if text.lines().count() > 1 {
            return Err("it has several lines; give one recipient at a time".into());
        }
        if let Some(rest) = text.strip_prefix("age1") {
            return match text.parse::<x25519::Recipient>() {
                Ok(key) => Ok(Self::X25519(key)),
                // The characters of the key itself have no 1 among them.
                Err(_) if rest.contains('1') => Self::plugin(text),
                Err(_) => Err("it is no age public key: a character of it is missing or mistyped".into()),
            };
        }
        let mut words = text.split_whitespace();
        match words.next() {
            Some(first) if is_ssh(first) => Self::ssh(text),
            Some(_) if words.any(is_ssh) => {
                Err("it has something before its type: leave that out, and begin with ssh-…".into())
            }
            _ => Err(format!("it is none that is known here; {KINDS}")),
        }
    }

    #[cfg(feature = "ssh")]
    fn ssh(text: &str) -> Result<Self, String> {
        ssh::PublicKey::parse(text).map(Box::new).map(Self::Ssh)
    }

    #[cfg(not(feature = "ssh"))]
    fn ssh(_text: &str) -> Result<Self, String> {
        Err("it is an SSH key, and this program was built without them (feature `ssh`)".into())
    }

    #[cfg(feature = "plugin")]
    fn plugin(text: &str) -> Result<Self, String> {
        plugin::Recipient::parse(text).map(Self::Plugin)
    }

    #[cfg(not(feature = "plugin"))]
    fn plugin(_text: &str) -> Result<Self, String> {
        Err("it is for an age plugin, and this program was built without them (feature `plugin`)".into())
    }

    /// As age takes it; an error for a plugin's, which is wrapped to by its plugin alone.
    pub(super) fn for_age(&self) -> Result<&dyn age::Recipient, StoreError> {
        match self {
            Self::X25519(key) => Ok(key),
            #[cfg(feature = "ssh")]
            Self::Ssh(key) => Ok(&key.key),
            #[cfg(feature = "plugin")]
            Self::Plugin(_) => Err(StoreError::Invalid {
                what: "the recipient cannot be used here: it is an age plugin's; give an age or SSH key"
                    .to_owned(),
            }),
        }
    }

    pub(super) fn kind(&self) -> WayKind {
        match self {
            Self::X25519(_) => WayKind::X25519,
            #[cfg(feature = "ssh")]
            Self::Ssh(key) => key.kind,
            #[cfg(feature = "plugin")]
            Self::Plugin(_) => WayKind::Plugin,
        }
    }

    /// What its maker called it: the comment of an SSH key.
    pub(super) fn comment(&self) -> &str {
        match self {
            #[cfg(feature = "ssh")]
            Self::Ssh(key) => &key.comment,
            _ => "",
        }
    }
}

/// In the form in which the list of ways in has it: an SSH key without its comment.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X25519(key) => key.fmt(f),
            #[cfg(feature = "ssh")]
            Self::Ssh(key) => f.write_str(&key.text),
            #[cfg(feature = "plugin")]
            Self::Plugin(recipient) => f.write_str(recipient.text()),
        }
    }
}

fn is_ssh(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| word.starts_with(start))
}
