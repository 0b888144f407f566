//! The name under which a store keeps a value.

use std::fmt;

use crate::StoreError;

/// The name of an entry: 1 to 256 bytes of text.
///
/// A name may say whose session it is, so `Debug` does not show it; [`Key::as_str`] does.
///
/// ```
/// use tokenkeep_store::Key;
///
/// let key = Key::new("session/default")?;
/// assert_eq!(key.as_str(), "session/default");
/// assert_eq!(format!("{key:?}"), "[key]", "a key may name a person");
/// # Ok::<(), tokenkeep_store::StoreError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// A key of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidKey`] if it is empty or longer than [`Key::MAX_BYTES`].
    pub fn new(name: impl Into<String>) -> Result<Self, StoreError> {
        let name = name.into();
        if name.is_empty() || name.len() > Self::MAX_BYTES {
            return Err(StoreError::InvalidKey { bytes: name.len() });
        }
        Ok(Self(name.into_boxed_str()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_256_bytes() {
        assert!(matches!(Key::new(""), Err(StoreError::InvalidKey { bytes: 0 })));
        assert!(Key::new("k".repeat(256)).is_ok());
        assert!(matches!(Key::new("k".repeat(257)), Err(StoreError::InvalidKey { bytes: 257 })));
    }

    #[test]
    fn debug_does_not_show_the_name() {
        assert_eq!(format!("{:?}", Key::new("alice@example").unwrap()), "[key]");
    }
}
