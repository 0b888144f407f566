//! The text of a key file: age identities, SSH private keys and identities of age plugins, one after another.

use age::x25519;
use tokenkeep_secret::SecretString;
use zeroize::Zeroizing;

#[cfg(feature = "plugin")]
use super::plugin;
#[cfg(feature = "ssh")]
use super::ssh;
#[cfg(feature = "plugin")]
use super::way_in::PluginIdentity;
use super::way_in::{NewWayIn, Unlock};
use crate::StoreError;

/// What is wrong with a key file, in words that hold nothing of it.
pub(crate) type Reason = String;

/// The most keys that are read from a file.
const MAX_IDENTITIES: usize = 16;

/// The keys of a key file.
pub(crate) struct Identities {
    keys: Vec<Key>,
    #[cfg(feature = "plugin")]
    plugins: Vec<plugin::Identity>,
}

/// A private key that opens by itself.
enum Key {
    X25519(x25519::Identity),
    #[cfg(feature = "ssh")]
    Ssh(ssh::PrivateKey),
}

impl Key {
    /// The text of its public key.
    fn recipient(&self) -> Result<String, Reason> {
        match self {
            Self::X25519(key) => Ok(key.to_public().to_string()),
            #[cfg(feature = "ssh")]
            Self::Ssh(key) => Ok(key.public()?.text),
        }
    }
}

impl Identities {
    /// Reads the text of a key file, or says what it is instead and in which line.
    pub(crate) fn parse(text: &SecretString) -> Result<Self, Reason> {
        let all = text.expose();
        if all.starts_with("age-encryption.org/") || all.contains("-----BEGIN AGE ENCRYPTED FILE-----") {
            return Err("it is encrypted; give the age identity itself".into());
        }
        let mut read = Self {
            // Never grown: what a vector moves from is not wiped.
            keys: Vec::with_capacity(MAX_IDENTITIES),
            #[cfg(feature = "plugin")]
            plugins: Vec::new(),
        };
        let mut lines = all.lines().map(str::trim).enumerate().map(|(index, line)| (index + 1, line));
        while let Some((number, line)) = lines.next() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if read.len() == MAX_IDENTITIES {
                return Err(format!("there are more than {MAX_IDENTITIES} keys in it"));
            }
            if let Some(label) = line.strip_prefix("-----BEGIN ") {
                let block = block(line, &mut lines, all.len())
                    .ok_or_else(|| format!("the SSH key that begins in line {number} does not end"))?;
                read.pem(label.trim_end_matches('-'), &block)
                    .map_err(|reason| format!("the SSH key that begins in line {number}: {reason}"))?;
            } else {
                read.line(line).map_err(|reason| format!("line {number}: {reason}"))?;
            }
        }
        if read.len() == 0 {
            return Err(
                "it holds no key: neither an age identity (AGE-SECRET-KEY-1…) nor an SSH private key".into(),
            );
        }
        Ok(read)
    }

    fn len(&self) -> usize {
        #[cfg(feature = "plugin")]
        return self.keys.len() + self.plugins.len();
        #[cfg(not(feature = "plugin"))]
        self.keys.len()
    }

    fn line(&mut self, line: &str) -> Result<(), Reason> {
        if line.starts_with("AGE-SECRET-KEY-1") {
            let key = line.parse().map_err(|_| "it should be an age secret key and is not one")?;
            self.keys.push(Key::X25519(key));
            return Ok(());
        }
        if line.starts_with("AGE-PLUGIN-") {
            return self.plugin(line);
        }
        if line.starts_with("age1") {
            return Err("it is a recipient (age1…), which locks; give the identity that opens".into());
        }
        if line.starts_with("ssh-") || line.starts_with("ecdsa-") || line.starts_with("sk-") {
            return Err("it is a public key of SSH, which locks; give the private key, which opens".into());
        }
        if line.starts_with("PuTTY-User-Key-File") {
            return Err(
                "it is a key of PuTTY: `puttygen KEY -O private-openssh-new` exports it for OpenSSH".into()
            );
        }
        Err("it is no key: neither an age identity (AGE-SECRET-KEY-1…) nor an SSH private key".into())
    }

    #[cfg(feature = "plugin")]
    fn plugin(&mut self, line: &str) -> Result<(), Reason> {
        let identity = plugin::Identity::parse(line)
            .map_err(|reason| format!("an identity of an age plugin: {reason}"))?;
        self.plugins.push(identity);
        Ok(())
    }

    #[cfg(not(feature = "plugin"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn plugin(&mut self, _line: &str) -> Result<(), Reason> {
        Err("it is for an age plugin, and this program was built without them (feature `plugin`)".into())
    }

    fn pem(&mut self, label: &str, block: &str) -> Result<(), Reason> {
        match label {
            "OPENSSH PRIVATE KEY" | "RSA PRIVATE KEY" => self.ssh(block),
            "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => Err(
                "it is in PKCS#8: `ssh-keygen -p -f COPY` writes a copy of an RSA key anew in OpenSSH's format".into(),
            ),
            "EC PRIVATE KEY" | "DSA PRIVATE KEY" => {
                Err("keys of its type (ECDSA, DSA) cannot decrypt by age's rules: use an ssh-ed25519 or ssh-rsa key".into())
            }
            _ => Err("it is no private key of SSH".into()),
        }
    }

    #[cfg(feature = "ssh")]
    fn ssh(&mut self, block: &str) -> Result<(), Reason> {
        self.keys.push(Key::Ssh(ssh::PrivateKey::parse(block)?));
        Ok(())
    }

    #[cfg(not(feature = "ssh"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn ssh(&mut self, _block: &str) -> Result<(), Reason> {
        Err("it is an SSH key, and this program was built without them (feature `ssh`)".into())
    }

    /// The keys that open by themselves.
    pub(super) fn keys(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(|key| match key {
            Key::X25519(key) => key as &dyn age::Identity,
            #[cfg(feature = "ssh")]
            Key::Ssh(key) => &key.0,
        })
    }

    /// The public key of the first that opens by itself and for which `opens` holds.
    pub(super) fn recipient_of(&self, opens: impl Fn(&dyn age::Identity) -> bool) -> Option<String> {
        self.keys
            .iter()
            .zip(self.keys())
            .find(|(_, key)| opens(*key))
            .and_then(|(key, _)| key.recipient().ok())
    }

    /// The identities of plugins, those of one plugin together.
    #[cfg(feature = "plugin")]
    pub(super) fn by_plugin(&self) -> Vec<Vec<&plugin::Identity>> {
        let mut groups: Vec<Vec<&plugin::Identity>> = Vec::new();
        for identity in &self.plugins {
            match groups.iter_mut().find(|group| group.iter().any(|one| one.name() == identity.name())) {
                Some(group) => group.push(identity),
                None => groups.push(vec![identity]),
            }
        }
        groups
    }

    /// A new way in for each of them, which came from `unlock`.
    pub(crate) fn new_ways(&self, unlock: &Unlock) -> Result<Vec<NewWayIn>, StoreError> {
        let unusable = |reason| StoreError::UnlockSource { name: unlock.source.clone(), reason };
        let mut ways = Vec::new();
        for key in &self.keys {
            ways.push(NewWayIn::recipient(key.recipient().map_err(unusable)?));
        }
        #[cfg(feature = "plugin")]
        ways.extend(self.plugins.iter().map(|identity| NewWayIn::Plugin {
            identity: PluginIdentity::new(identity.clone(), unlock),
            label: String::new(),
        }));
        Ok(ways)
    }
}

/// A PEM block from its first line to its last, with the line ends that age's reader takes. In one buffer that does not
/// grow, since it holds a key.
fn block<'a>(
    first: &str,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    longest: usize,
) -> Option<Zeroizing<String>> {
    let mut block = Zeroizing::new(String::with_capacity(longest + 1));
    block.push_str(first);
    for (_, line) in lines {
        block.push('\n');
        block.push_str(line);
        if line.starts_with("-----END ") {
            block.push('\n');
            return Some(block);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn every_key_of_a_file_has_its_way_in() {
        let keys = [x25519::Identity::generate(), x25519::Identity::generate()];
        let mut text = String::from("# two keys\n");
        for key in &keys {
            text += &format!("\n  {}\r\n", key.to_string().expose_secret());
        }
        let identities = Identities::parse(&text.into()).unwrap();
        let ways = identities.new_ways(&Unlock::identity("", "here"));
        let recipients: Vec<_> = ways
            .unwrap()
            .into_iter()
            .map(|way| match way {
                NewWayIn::Recipient { recipient, .. } => recipient,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(recipients, keys.map(|key| key.to_public().to_string()));
    }

    #[test]
    fn a_file_has_at_most_sixteen_keys() {
        let key = x25519::Identity::generate();
        let text =
            |keys: usize| SecretString::from(format!("{}\n", key.to_string().expose_secret()).repeat(keys));
        assert!(Identities::parse(&text(16)).is_ok());
        assert!(Identities::parse(&text(17)).is_err_and(|reason| reason.contains("more than 16")));
    }
}
