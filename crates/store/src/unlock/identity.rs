//! What the text of a key file is, before anything is opened with it.

use tokenkeep_secret::{Secret, SecretString, wiping_stack};

use super::read::Reason;

/// How much of the stack is wiped after keys were read.
const STACK: usize = 32 * 1024;

/// The text of an age identity file, or what it is instead.
pub(super) fn text(bytes: &Secret) -> Result<SecretString, Reason> {
    let not_a_key = "it holds no age identity (a line that begins with AGE-SECRET-KEY-1)";
    let text = SecretString::from_secret(bytes).ok_or(not_a_key)?;
    let all = text.expose();
    if all.contains("PRIVATE KEY-----") {
        return Err("it is an SSH key, and this version opens vaults only with age identities: make one with `age-keygen`".into());
    }
    if all.starts_with("age-encryption.org/") || all.contains("-----BEGIN AGE ENCRYPTED FILE-----") {
        return Err("it is encrypted; give the age identity itself".into());
    }
    let lines = || all.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if lines().any(|line| line.starts_with("AGE-PLUGIN-")) {
        return Err(
            "it is for an age plugin, and this version opens vaults only with plain age identities".into()
        );
    }
    if lines().any(|line| line.starts_with("age1")) {
        return Err(
            "it holds a recipient (age1…), which locks; give the identity (AGE-SECRET-KEY-1…), which opens"
                .into(),
        );
    }
    if lines().next().is_none() {
        return Err(not_a_key.into());
    }
    // age says which line it could not read, not what is in it.
    wiping_stack::<STACK, _>(|| age::IdentityFile::from_buffer(all.as_bytes()).map(drop))
        .map_err(|error| error.to_string())?;
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
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----", "SSH key"),
            ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n", "SSH key"),
            ("age-encryption.org/v1\n-> scrypt", "encrypted"),
            ("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl", "encrypted"),
            ("AGE-PLUGIN-YUBIKEY-1QQQQ", "plugin"),
            (recipient.as_str(), "recipient"),
            ("# only a comment\n", "no age identity"),
            ("# first\nAGE-SECRET-KEY-1CANARY", "line 2"),
            ("canary passphrase", "line 1"),
        ] {
            let error = judge(text).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
            assert!(!error.to_lowercase().contains("canary"), "{error}");
        }
        assert!(super::text(&Secret::from(&[0xff, 0xfe][..])).unwrap_err().contains("no age identity"));
    }
}
