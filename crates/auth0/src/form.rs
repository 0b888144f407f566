//! A form body that is wiped when the last user of its bytes lets go.

use bytes::Bytes;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

/// Parameters as `application/x-www-form-urlencoded`.
pub(crate) struct Form(Zeroizing<String>);

impl Form {
    /// An empty form.
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(String::with_capacity(1024)))
    }

    /// Adds a parameter.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        // A string that grows by itself leaves its old buffer behind unwiped.
        let most = 3 * (name.len() + value.len()) + 2;
        if self.0.capacity() - self.0.len() < most {
            let mut grown = Zeroizing::new(String::with_capacity(2 * (self.0.len() + most)));
            grown.push_str(&self.0);
            self.0 = grown;
        }
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
    }

    /// The body. Its buffer is wiped once the last clone is dropped.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *self.0).into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_and_joined() {
        let mut form = Form::new();
        form.push("a b", "c&d=ä");
        form.push("empty", "");
        assert_eq!(form.into_bytes(), "a+b=c%26d%3D%C3%A4&empty=");
    }

    #[test]
    fn a_long_value_is_kept_whole() {
        let mut form = Form::new();
        form.push("first", "1");
        form.push("long", &"+".repeat(5000));
        let body = form.into_bytes();
        assert!(body.starts_with(b"first=1&long=%2B%2B"));
        assert_eq!(body.len(), "first=1&long=".len() + 3 * 5000);
    }
}
