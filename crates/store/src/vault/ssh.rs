//! SSH keys as ways in: `ssh-ed25519` and `ssh-rsa`, by age's reader and stanzas.

use age::ssh;

use super::ways::WayKind;

/// What is wrong with a key, in words that hold nothing of it.
type Reason = String;

const TYPES: [(&str, WayKind); 2] = [("ssh-ed25519", WayKind::SshEd25519), ("ssh-rsa", WayKind::SshRsa)];

/// A public key.
pub(super) struct PublicKey {
    pub(super) key: ssh::Recipient,
    pub(super) kind: WayKind,
    /// Type and key, without the comment.
    pub(super) text: String,
    pub(super) comment: String,
}

impl PublicKey {
    /// Reads one line as in a `.pub` file, or says what is wrong with it.
    pub(super) fn parse(line: &str) -> Result<Self, Reason> {
        let mut words = line.split_whitespace();
        let (Some(kind), Some(key)) = (words.next(), words.next()) else {
            return Err("it has no key behind its type".into());
        };
        let text = format!("{kind} {key}");
        let Some((_, kind)) = TYPES.iter().find(|(name, _)| *name == kind) else {
            return Err(unsupported(kind));
        };
        let key: ssh::Recipient = text.parse().map_err(|error| unusable(&error))?;
        // age reads as far as it understands.
        if key.to_string() != text {
            return Err("it is longer or shorter than a key of its type".into());
        }
        let comment = words.collect::<Vec<_>>().join(" ");
        Ok(Self { key, kind: *kind, text, comment })
    }
}

/// A private key that is not encrypted.
#[derive(Clone)]
pub(crate) struct PrivateKey(pub(super) ssh::Identity);

impl PrivateKey {
    /// Reads a key in OpenSSH's format or an RSA key in PEM, or says why it cannot be used.
    pub(super) fn parse(pem: &str) -> Result<Self, Reason> {
        use age::ssh::{Identity, UnsupportedKey};
        const AS_IT_IS: &str =
            "`ssh-keygen -p -N '' -f COPY` takes it off a copy, which then must be kept as safe";

        let unreadable = || "it does not read as an SSH private key; is it whole?".to_owned();
        match Identity::from_buffer(pem.as_bytes(), None).map_err(|_| unreadable())? {
            key @ Identity::Unencrypted(_) => Ok(Self(key)),
            Identity::Encrypted(_)
            | Identity::Unsupported(UnsupportedKey::EncryptedPem | UnsupportedKey::EncryptedSsh(_)) => {
                Err(format!(
                    "it is protected by a passphrase, which cannot be given here: use a key without one, or {AS_IT_IS}"
                ))
            }
            Identity::Unsupported(UnsupportedKey::Hardware(kind) | UnsupportedKey::Type(kind)) => {
                Err(unsupported(&kind))
            }
        }
    }

    /// Its public key.
    pub(super) fn public(&self) -> Result<PublicKey, Reason> {
        let key = ssh::Recipient::try_from(self.0.clone()).map_err(|error| unusable(&error))?;
        PublicKey::parse(&key.to_string())
    }
}

fn unusable(error: &ssh::ParseRecipientKeyError) -> Reason {
    use age::ssh::ParseRecipientKeyError as Error;
    match error {
        Error::RsaModulusTooLarge => "it is an RSA key of more than 4096 bits, which age does not use".into(),
        Error::RsaModulusTooSmall => "it is an RSA key of less than 2048 bits, which is weak".into(),
        Error::Unsupported(kind) => unsupported(kind),
        _ => "it does not read as a key of its type: a character is missing or mistyped".into(),
    }
}

/// Why a key of the type `kind` does not serve.
fn unsupported(kind: &str) -> Reason {
    const USE: &str = "use an ssh-ed25519 or ssh-rsa key, or an age key";
    // Types are ASCII; what is none may be anything.
    let named = |kind: &str| kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-@.".contains(&byte));
    if kind.starts_with("sk-") && named(kind) {
        return format!(
            "keys of the type {kind} are held by a security key, which can sign but not decrypt: {USE}"
        );
    }
    if kind.contains("-cert-v") && named(kind) {
        return format!("{kind} is a certificate: give the public key that it certifies");
    }
    if (kind.starts_with("ecdsa-") || kind == "ssh-dss" || kind.starts_with("ssh-")) && named(kind) {
        return format!("keys of the type {kind} cannot decrypt by age's rules: {USE}");
    }
    format!("it is of a type that is not known here: {USE}")
}
