//! Values that wipe themselves when dropped and print as `[secret]`.
//!
//! [`Secret`] holds bytes, [`SecretString`] holds text. Neither has `Display` or `Serialize`, so that a secret reaches
//! a log, an error or a file only through [`Secret::expose`], which is easy to search for.

#![forbid(unsafe_code)]

mod stack;

use std::fmt;
use std::str;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use self::stack::wiping_stack;

/// What a secret prints as.
const REDACTED: &str = "[secret]";

/// Secret bytes: wiped on drop, compared in constant time.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over `bytes`. Their buffer is wiped on drop, spare capacity included.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Every call is a place where a secret can leak: keep the borrow short.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }
}

impl From<SecretString> for Secret {
    fn from(mut text: SecretString) -> Self {
        Self::new(std::mem::take(&mut *text.0).into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

/// Secret text, such as a token or a passphrase: wiped on drop, compared in constant time.
///
/// ```
/// use tokenkeep_secret::SecretString;
///
/// let passphrase = SecretString::from("correct horse");
/// assert_eq!(format!("{passphrase:?}"), "[secret]");
/// assert_eq!(passphrase.expose(), "correct horse");
/// ```
#[derive(Clone, Default)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Takes over `text`. Its buffer is wiped on drop, spare capacity included.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text of `secret`, or `None` if it is not UTF-8.
    pub fn from_secret(secret: &Secret) -> Option<Self> {
        str::from_utf8(secret.expose()).ok().map(Self::from)
    }

    /// The text itself. Every call is a place where a secret can leak: keep the borrow short.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretString {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for SecretString {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl PartialEq for SecretString {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretString {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_value() {
        let bytes = Secret::from(&b"canary-bytes"[..]);
        let text = SecretString::from("canary-text");
        assert_eq!(format!("{bytes:?} {bytes:#?} {text:?} {text:#?}"), "[secret] [secret] [secret] [secret]");
    }

    #[test]
    fn equality_is_by_value() {
        assert_eq!(Secret::from(&b"a"[..]), Secret::from(&b"a"[..]));
        assert_ne!(Secret::from(&b"a"[..]), Secret::from(&b"ab"[..]));
        assert_eq!(SecretString::from("a"), SecretString::from("a"));
        assert_ne!(SecretString::from("a"), SecretString::from("b"));
    }

    #[test]
    fn text_and_bytes_convert_without_loss() {
        let text = SecretString::from("pässword");
        let bytes = Secret::from(text.clone());
        assert_eq!(bytes.expose(), "pässword".as_bytes());
        assert_eq!(SecretString::from_secret(&bytes), Some(text));
        assert_eq!(SecretString::from_secret(&Secret::from(&[0xff][..])), None);
    }
}
