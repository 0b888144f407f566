//! What the text of a key file is, before anything is opened with it.

use tokenkeep_secret::{Secret, SecretString, wiping_stack};

use super::read::Reason;
use crate::vault::Identities;

/// How much of the stack is wiped after keys were read.
const STACK: usize = 32 * 1024;

/// The text of a key file, or what it is instead.
pub(super) fn text(bytes: &Secret) -> Result<SecretString, Reason> {
    let text = SecretString::from_secret(bytes)
        .ok_or("it holds no key: neither an age identity (AGE-SECRET-KEY-1…) nor an SSH private key")?;
    wiping_stack::<STACK, _>(|| Identities::parse(&text).map(drop))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;

    fn judge(text: &str) -> Result<SecretString, Reason> {
        super::text(&Secret::from(text.as_bytes()))
    }

    #[test]
    fn an_identity_file_with_comments_is_taken_as_it_is() {
        let identity = age::x25519::Identity::generate();
        let file = format!(
            "# created: today\n# public key: {}\n{}\n",
            identity.to_public(),
            identity.to_string().expose_secret()
        );
        assert_eq!(judge(&file).unwrap().expose(), file);
    }

    #[test]
    fn everything_else_is_named_for_what_it_is() {
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        for (text, named) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "SSH key that begins in line 1 does not end"),
            ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n", "SSH key"),
            (
                "\n-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
                "line 2: keys of its type (ECDSA",
            ),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no private key of SSH"),
            ("age-encryption.org/v1\n-> scrypt", "encrypted"),
            ("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl", "encrypted"),
            ("AGE-PLUGIN-YUBIKEY-1QQQQCANARY", "plugin"),
            (recipient.as_str(), "recipient"),
            ("ssh-ed25519 AAAACANARY me@here", "public key of SSH"),
            ("# only a comment\n", "no key"),
            ("# first\nAGE-SECRET-KEY-1CANARY", "line 2"),
            ("canary passphrase", "line 1"),
        ] {
            let error = judge(text).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
            assert!(!error.to_lowercase().contains("canary"), "{error}");
        }
        assert!(super::text(&Secret::from(&[0xff, 0xfe][..])).unwrap_err().contains("no key"));
    }
}
