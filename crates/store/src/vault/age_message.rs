//! Writing an age v1 message (<https://c2sp.org/age>) that holds no more than a key.
//!
//! age's own writer collects the plaintext in a buffer of 64 KiB that it gives back unwiped. This one writes the same
//! format: a header to one recipient, and a payload of one chunk.

use std::fmt::Write as _;

use age_core::format::{FileKey, Stanza, is_arbitrary_string};
use age_core::primitives::hkdf;
use age_core::secrecy::ExposeSecret;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokenkeep_secret::wiping_stack;
use zeroize::Zeroizing;

/// What a message starts with.
pub(super) const MAGIC: &str = "age-encryption.org/v1\n";
/// Columns of a stanza's body.
const COLUMNS: usize = 64;
const NONCE_LEN: usize = 16;
/// The most that one chunk holds.
const CHUNK: usize = 64 * 1024;
/// STREAM's nonce of a first chunk that is the last one too: a counter of eleven bytes, and a one.
const FIRST_AND_LAST: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// How much of the stack is wiped afterwards.
const STACK: usize = 64 * 1024;

/// `plaintext`, not empty and at most 64 KiB, as a message to `recipient`. `None` if the recipient cannot wrap its key,
/// or the system gives no random bytes.
pub(super) fn seal(recipient: &dyn age::Recipient, plaintext: &[u8]) -> Option<Vec<u8>> {
    wiping_stack::<STACK, _>(|| seal_unwiped(recipient, plaintext))
}

fn seal_unwiped(recipient: &dyn age::Recipient, plaintext: &[u8]) -> Option<Vec<u8>> {
    if plaintext.is_empty() || plaintext.len() > CHUNK {
        return None;
    }
    let file_key = FileKey::try_init_with_mut(|key| getrandom::fill(key)).ok()?;
    // Labels say which recipients may stand beside each other, and there is one.
    let (stanzas, _labels) = recipient.wrap_file_key(&file_key).ok()?;
    let mut header = MAGIC.to_owned();
    stanzas.iter().try_for_each(|stanza| push_stanza(&mut header, stanza))?;
    header += "---";
    let mac_key = Zeroizing::new(hkdf(&[], b"header", file_key.expose_secret()));
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&mac_key[..]).ok()?;
    mac.update(header.as_bytes());
    writeln!(header, " {}", BASE64.encode(mac.finalize().into_bytes())).ok()?;

    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).ok()?;
    let payload_key = Zeroizing::new(hkdf(&nonce, b"payload", file_key.expose_secret()));
    let mut chunk = Zeroizing::new(plaintext.to_vec());
    let tag = ChaCha20Poly1305::new(payload_key[..].into())
        .encrypt_in_place_detached(&FIRST_AND_LAST.into(), &[], &mut chunk)
        .ok()?;
    Some([header.as_bytes(), &nonce, &chunk, &tag].concat())
}

/// `None` if a tag or an argument could not be read back.
fn push_stanza(header: &mut String, stanza: &Stanza) -> Option<()> {
    header.push_str("->");
    for word in std::iter::once(&stanza.tag).chain(&stanza.args) {
        if !is_arbitrary_string(word) {
            return None;
        }
        header.push(' ');
        header.push_str(word);
    }
    header.push('\n');
    // The last line is always a short one, if need be an empty one.
    let body = BASE64.encode(&stanza.body);
    let mut rest = &body[..];
    while rest.len() >= COLUMNS {
        let (line, after) = rest.split_at(COLUMNS);
        header.push_str(line);
        header.push('\n');
        rest = after;
    }
    header.push_str(rest);
    header.push('\n');
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Read as _;

    use super::*;

    fn opened(message: &[u8], identity: &dyn age::Identity) -> Option<Vec<u8>> {
        let mut plaintext = Vec::new();
        let decryptor = age::Decryptor::new_buffered(message).ok()?;
        decryptor.decrypt(std::iter::once(identity)).ok()?.read_to_end(&mut plaintext).ok()?;
        Some(plaintext)
    }

    #[test]
    fn age_reads_what_is_written() {
        let identity = age::x25519::Identity::generate();
        for len in [1, 32, 1000, CHUNK] {
            let plaintext = vec![7; len];
            let message = seal(&identity.to_public(), &plaintext).unwrap();
            assert_eq!(opened(&message, &identity), Some(plaintext));
            assert_eq!(opened(&message, &age::x25519::Identity::generate()), None);
        }
        for len in [0, CHUNK + 1] {
            assert_eq!(seal(&identity.to_public(), &vec![7; len]), None);
        }
    }

    #[test]
    fn no_message_opens_with_a_flipped_bit() {
        let identity = age::x25519::Identity::generate();
        let message = seal(&identity.to_public(), &[7; 32]).unwrap();
        for bit in 0..message.len() * 8 {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&flipped, &identity), None, "bit {bit}");
        }
    }

    /// Wraps nothing: its stanzas are as told, and who knows the file key needs none of them.
    struct Told(Vec<Stanza>, std::cell::RefCell<[u8; 16]>);

    impl age::Recipient for Told {
        fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
            *self.1.borrow_mut() = *key.expose_secret();
            let copy = |stanza: &Stanza| Stanza {
                tag: stanza.tag.clone(),
                args: stanza.args.clone(),
                body: stanza.body.clone(),
            };
            Ok((self.0.iter().map(copy).collect(), HashSet::new()))
        }
    }

    impl age::Identity for Told {
        fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
            panic!("the whole header is looked at")
        }

        fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
            assert_eq!(stanzas, self.0);
            Some(Ok(FileKey::init_with_mut(|key| key.copy_from_slice(&*self.1.borrow()))))
        }
    }

    #[test]
    fn stanzas_of_every_shape_read_back() {
        let stanza = |tag: &str, args: &[&str], len| Stanza {
            tag: tag.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            body: vec![9; len],
        };
        // 48 bytes fill one line of a body, 96 two.
        for len in [0, 1, 47, 48, 49, 95, 96, 97, 500] {
            let told = Told(vec![stanza("a", &[], len), stanza("b", &["1", "~!"], 3)], Default::default());
            let message = seal(&told, b"plaintext").unwrap();
            assert_eq!(opened(&message, &told).as_deref(), Some(&b"plaintext"[..]), "{len}");
        }
        for (tag, arg) in [("", "x"), ("t", ""), ("t", "a b"), ("t", "a\n-> X25519"), ("t\u{e9}", "x")] {
            assert_eq!(
                seal(&Told(vec![stanza(tag, &[arg], 3)], Default::default()), b"x"),
                None,
                "{tag:?} {arg:?}"
            );
        }
    }
}
