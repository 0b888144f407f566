//! Making an age X25519 identity. age writes its text through strings that grow, and each leaves a part of it in memory.

use age::x25519;
use tokenkeep_secret::{SecretString, wiping_stack};
use zeroize::Zeroizing;

use crate::StoreError;

/// BIP 173's alphabet, in upper case.
const ALPHABET: &[u8; 32] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
/// BIP 173's human-readable part of an identity.
const PREFIX: &str = "AGE-SECRET-KEY-";
const CHECKSUM_LEN: usize = 6;
const KEY_LEN: usize = 32;
/// How much of the stack is wiped afterwards.
const STACK: usize = 32 * 1024;

/// A new identity's text, and its public key; an error if the system gives no random bytes.
pub(super) fn generate() -> Result<(SecretString, x25519::Recipient), StoreError> {
    wiping_stack::<STACK, _>(|| {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(&mut key[..]).map_err(|_| no_random())?;
        let text = encode(&key);
        let public = text.expose().parse::<x25519::Identity>().map_err(|_| no_random())?.to_public();
        Ok((text, public))
    })
}

fn no_random() -> StoreError {
    StoreError::Invalid { what: "no key could be made: the system gave no random bytes".to_owned() }
}

/// Bech32 (BIP 173) of an identity's key, in a buffer that does not grow.
fn encode(key: &[u8; KEY_LEN]) -> SecretString {
    let data_len = (KEY_LEN * 8).div_ceil(5);
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 1 + data_len + CHECKSUM_LEN));
    text.push_str(PREFIX);
    text.push('1');
    let mut checksum = Checksum(1);
    PREFIX.bytes().for_each(|byte| checksum.push(byte.to_ascii_lowercase() >> 5));
    checksum.push(0);
    PREFIX.bytes().for_each(|byte| checksum.push(byte.to_ascii_lowercase() & 31));
    for at in 0..data_len {
        // Five bits, which may reach into the next byte; past the last one there are zeros.
        let (byte, bit) = (at * 5 / 8, at * 5 % 8);
        let pair = u16::from_be_bytes([key[byte], key.get(byte + 1).copied().unwrap_or(0)]);
        let five = (pair >> (11 - bit) & 31) as u8;
        checksum.push(five);
        text.push(char::from(ALPHABET[usize::from(five)]));
    }
    (0..CHECKSUM_LEN).for_each(|_| checksum.push(0));
    let sum = checksum.0 ^ 1;
    for at in (0..CHECKSUM_LEN).rev() {
        text.push(char::from(ALPHABET[(sum >> (5 * at) & 31) as usize]));
    }
    SecretString::new(std::mem::take(&mut *text))
}

/// BIP 173's checksum.
struct Checksum(u32);

impl Checksum {
    fn push(&mut self, five: u8) {
        const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        let top = self.0 >> 25;
        self.0 = (self.0 & 0x1ff_ffff) << 5 ^ u32::from(five);
        for (bit, part) in GENERATOR.into_iter().enumerate() {
            if top >> bit & 1 == 1 {
                self.0 ^= part;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_text_is_the_one_that_age_writes() {
        for _ in 0..100 {
            let (text, public) = generate().unwrap();
            let parsed: x25519::Identity = text.expose().parse().unwrap();
            assert_eq!(parsed.to_string().expose_secret(), text.expose());
            assert_eq!(parsed.to_public(), public);
        }
    }

    #[test]
    fn no_two_are_the_same() {
        assert_ne!(generate().unwrap().0, generate().unwrap().0);
    }
}
