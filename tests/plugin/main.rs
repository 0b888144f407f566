//! An age plugin for tests: its recipient is an X25519 public key, and its identity names the file that has the private
//! one, as a hardware key's identity names a slot. Written with the library that plugins are written with, so that what
//! is tested against it is the protocol and not our reading of it.
//!
//! `age-plugin-testkey FILE` makes the key in FILE and prints identity and recipient as plugins do.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, reason = "a program of the tests")]

use std::collections::{HashMap, HashSet};
use std::io;

use age::secrecy::ExposeSecret;
use age::{Identity, Recipient, x25519};
use age_core::format::{FileKey, Stanza};
use age_plugin::{Callbacks, PluginHandler, identity, recipient};

const NAME: &str = "testkey";

fn main() -> io::Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if let Some(machine) = argument.strip_prefix("--age-plugin=") {
        return age_plugin::run_state_machine(machine, Plugin::default());
    }
    let key = x25519::Identity::generate();
    std::fs::write(&argument, key.to_string().expose_secret())?;
    age_plugin::print_new_identity(NAME, argument.as_bytes(), key.to_public().to_string().as_bytes());
    Ok(())
}

/// The key in the file that an identity names.
fn key_in(file: &[u8]) -> Result<x25519::Identity, String> {
    let file = String::from_utf8_lossy(file);
    let text = std::fs::read_to_string(&*file).map_err(|_| format!("no key in {file}"))?;
    text.parse().map_err(str::to_owned)
}

#[derive(Default)]
struct Plugin {
    recipients: Vec<x25519::Recipient>,
    keys: Vec<x25519::Identity>,
}

impl PluginHandler for Plugin {
    type RecipientV1 = Self;
    type IdentityV1 = Self;

    fn recipient_v1(self) -> io::Result<Self> {
        Ok(self)
    }

    fn identity_v1(self) -> io::Result<Self> {
        Ok(self)
    }
}

impl recipient::RecipientPluginV1 for Plugin {
    fn add_recipient(&mut self, index: usize, _: &str, bytes: &[u8]) -> Result<(), recipient::Error> {
        let key = String::from_utf8_lossy(bytes).parse();
        self.recipients
            .push(key.map_err(|_| recipient::Error::Recipient { index, message: "no key".into() })?);
        Ok(())
    }

    fn add_identity(&mut self, index: usize, _: &str, file: &[u8]) -> Result<(), recipient::Error> {
        let key = key_in(file).map_err(|message| recipient::Error::Identity { index, message })?;
        self.recipients.push(key.to_public());
        Ok(())
    }

    fn labels(&mut self) -> HashSet<String> {
        HashSet::new()
    }

    fn wrap_file_keys(
        &mut self,
        file_keys: Vec<FileKey>,
        _: impl Callbacks<recipient::Error>,
    ) -> io::Result<Result<Vec<Vec<Stanza>>, Vec<recipient::Error>>> {
        let wrapped = |file_key: &FileKey, recipient: &x25519::Recipient| {
            let (mut stanzas, _) = recipient.wrap_file_key(file_key).unwrap();
            let stanza = stanzas.remove(0);
            Stanza { tag: NAME.into(), ..stanza }
        };
        let of = |file_key| self.recipients.iter().map(|recipient| wrapped(file_key, recipient)).collect();
        Ok(Ok(file_keys.iter().map(of).collect()))
    }
}

impl identity::IdentityPluginV1 for Plugin {
    fn add_identity(&mut self, index: usize, _: &str, file: &[u8]) -> Result<(), identity::Error> {
        self.keys.push(key_in(file).map_err(|message| identity::Error::Identity { index, message })?);
        Ok(())
    }

    fn unwrap_file_keys(
        &mut self,
        files: Vec<Vec<Stanza>>,
        mut callbacks: impl Callbacks<identity::Error>,
    ) -> io::Result<HashMap<usize, Result<FileKey, Vec<identity::Error>>>> {
        // Whether anybody sees it is not this plugin's concern.
        let _ = callbacks.message("looking for the key")?;
        let mut found = HashMap::new();
        for (index, stanzas) in files.into_iter().enumerate() {
            for stanza in stanzas.into_iter().filter(|stanza| stanza.tag == NAME) {
                let stanza = Stanza { tag: "X25519".into(), ..stanza };
                if let Some(Ok(key)) = self.keys.iter().find_map(|key| key.unwrap_stanza(&stanza)) {
                    found.insert(index, Ok(key));
                }
            }
        }
        Ok(found)
    }
}
