//! Every secret that a vault's process had in its hands, computed from the vault's files and what opens them.

use age_core::format::read::age_stanza;
use age_core::format::{AgeStanza, FILE_KEY_BYTES};
use age_core::primitives::{aead_decrypt, hkdf};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

/// SHA-256's state before its first block (FIPS 180-4, 5.3.3).
const SHA256_START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Name and bytes of each secret.
#[derive(Clone, Default)]
pub(crate) struct Secrets(pub(crate) Vec<(String, Vec<u8>)>);

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().to_vec()
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

impl Secrets {
    pub(crate) fn add(&mut self, name: &str, secret: impl Into<Vec<u8>>) {
        let secret = (name.to_owned(), secret.into());
        if !self.0.contains(&secret) {
            self.0.push(secret);
        }
    }

    /// An HMAC key, the two forms in which HMAC's first blocks hold it, and the states after those, which serve as well as
    /// the key.
    fn add_mac_key(&mut self, name: &str, key: &[u8]) {
        self.add(name, key);
        for (pad, which) in [(0x36, "inner"), (0x5c, "outer")] {
            let mut block = [pad; 64];
            block.iter_mut().zip(key).for_each(|(pad, byte)| *pad ^= byte);
            self.add(&format!("{name}, as HMAC's {which} block"), &block[..key.len()]);
            let mut state = SHA256_START;
            sha2::compress256(&mut state, &[block.into()]);
            let state: Vec<u8> = state.iter().flat_map(|word| word.to_ne_bytes()).collect();
            self.add(&format!("{name}, as HMAC's {which} state"), state);
        }
    }

    /// An identity's text in both cases, what lies between text and key, and the key. Gives the key.
    pub(crate) fn add_identity(&mut self, name: &str, text: &str) -> [u8; 32] {
        const ALPHABET: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        let data = text.trim().strip_prefix("AGE-SECRET-KEY-1").unwrap();
        self.add(&format!("{name}, its text"), data);
        self.add(&format!("{name}, its text in lower case"), data.to_ascii_lowercase());
        let fives: Vec<u8> = data
            .bytes()
            .map(|byte| ALPHABET.iter().position(|known| *known == byte.to_ascii_lowercase()).unwrap() as u8)
            .collect();
        let mut key = [0; 32];
        for bit in 0..256 {
            key[bit / 8] |= (fives[bit / 5] >> (4 - bit % 5) & 1) << (7 - bit % 8);
        }
        self.add(&format!("{name}, five bits a byte"), fives);
        self.add(&format!("{name}, its scalar"), key);
        key
    }

    /// All that the vault file `file` is sealed under, for as far as `passphrases` and `identities` open it.
    pub(crate) fn add_vault(&mut self, file: &[u8], passphrases: &[Vec<u8>], identities: &[[u8; 32]]) {
        let mut master = None;
        let mut records = Vec::new();
        let mut rest = &file[47..];
        while !rest.is_empty() {
            let body = &rest[40..40 + number(&rest[4..8])];
            match rest[3] {
                1 => master = Some(self.add_way_in(body, passphrases, identities)),
                _ => records.push(&body[..16]),
            }
            rest = &rest[40 + body.len()..];
        }
        let master = master.unwrap();
        self.add("master key", &master[..]);
        self.add_mac_key("what HKDF extracts from the master key", &hmac(&[0; 32], &master));
        let seal = hkdf(&[], b"tokenkeep/seal", &master);
        self.add("seal key", seal);
        self.add_mac_key("tag key", &hkdf(&[], b"tokenkeep/tag", &master));
        for nonce in records {
            self.add_mac_key("what HKDF extracts for a record", &hmac(nonce, &seal));
            self.add("record key", hkdf(nonce, b"tokenkeep/record", &seal));
        }
    }

    fn add_way_in(&mut self, message: &[u8], passphrases: &[Vec<u8>], identities: &[[u8; 32]]) -> [u8; 32] {
        let mut rest = message.strip_prefix(b"age-encryption.org/v1\n").unwrap();
        let mut file_key = None;
        while rest.starts_with(b"-> ") {
            let (after, stanza) = age_stanza(rest).unwrap();
            file_key = file_key.or_else(|| match stanza.tag {
                "X25519" => identities.iter().find_map(|key| self.add_x25519(&stanza, *key)),
                "tokenkeep/argon2id" => {
                    passphrases.iter().find_map(|passphrase| self.add_argon2id(&stanza, passphrase))
                }
                _ => None,
            });
            rest = after;
        }
        let file_key = file_key.expect("none of the secrets opens this way in");
        self.add("file key", &file_key[..]);
        self.add_mac_key("what HKDF extracts for the header", &hmac(&[0; 32], &file_key));
        self.add_mac_key("header key", &hkdf(&[], b"header", &file_key));
        // "--- " and the MAC, a line feed, a nonce.
        let (nonce, sealed) = rest[4 + 43 + 1..].split_at(16);
        self.add_mac_key("what HKDF extracts for the payload", &hmac(nonce, &file_key));
        let payload_key = hkdf(nonce, b"payload", &file_key);
        self.add("payload key", payload_key);
        // This file's own reader of the last chunk of a STREAM would be a second one: age's serves.
        let key = age_payload(message, &file_key);
        assert_eq!(sealed.len(), key.len() + 16);
        key
    }

    fn add_x25519(&mut self, stanza: &AgeStanza<'_>, key: [u8; 32]) -> Option<Vec<u8>> {
        let share: [u8; 32] = BASE64.decode(stanza.args[0]).unwrap().try_into().unwrap();
        let secret = StaticSecret::from(key);
        let shared = secret.diffie_hellman(&PublicKey::from(share));
        let salt = [share, *PublicKey::from(&secret).as_bytes()].concat();
        let label = b"age-encryption.org/v1/X25519";
        let wrap = hkdf(&salt, label, shared.as_bytes());
        let file_key = aead_decrypt(&wrap, FILE_KEY_BYTES, &stanza.body()).ok()?;
        self.add("what X25519 agreed on", shared.as_bytes().as_slice());
        self.add_mac_key("what HKDF extracts from it", &hmac(&salt, shared.as_bytes()));
        self.add("X25519's wrapping key", wrap);
        Some(file_key)
    }

    fn add_argon2id(&mut self, stanza: &AgeStanza<'_>, passphrase: &[u8]) -> Option<Vec<u8>> {
        let salt = [b"tokenkeep/argon2id", &BASE64.decode(stanza.args[0]).unwrap()[..]].concat();
        let [memory, passes, lanes] = [1, 2, 3].map(|at| stanza.args[at].parse().unwrap());
        let params = Params::new(memory, passes, lanes, Some(32)).unwrap();
        let mut blocks = vec![Block::new(); params.block_count()];
        let mut key = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase, &salt, &mut key, &mut blocks[..])
            .unwrap();
        let file_key = aead_decrypt(&key, FILE_KEY_BYTES, &stanza.body()).ok()?;
        self.add("what Argon2id gave", key);
        // The last blocks of all lanes together give the key.
        let mut sum = [0; 128];
        for (lane, blocks) in blocks.chunks(blocks.len() / lanes as usize).enumerate() {
            let words = blocks.last().unwrap().as_ref();
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.add(&format!("the last block of Argon2id's lane {lane}"), bytes);
            sum.iter_mut().zip(words).for_each(|(sum, word)| *sum ^= word);
        }
        let bytes: Vec<u8> = sum.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.add("the sum of Argon2id's last blocks", bytes);
        Some(file_key)
    }
}

/// The master key in `message`, whose file key is known.
fn age_payload(message: &[u8], file_key: &[u8]) -> [u8; 32] {
    use std::io::Read as _;

    struct Known<'a>(&'a [u8]);
    impl age::Identity for Known<'_> {
        fn unwrap_stanza(
            &self,
            _: &age_core::format::Stanza,
        ) -> Option<Result<age_core::format::FileKey, age::DecryptError>> {
            Some(Ok(age_core::format::FileKey::init_with_mut(|key| key.copy_from_slice(self.0))))
        }
    }
    let decryptor = age::Decryptor::new_buffered(message).unwrap();
    let mut master = Vec::new();
    let identity = Known(file_key);
    decryptor.decrypt(std::iter::once(&identity as _)).unwrap().read_to_end(&mut master).unwrap();
    master.try_into().unwrap()
}
