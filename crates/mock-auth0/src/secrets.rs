//! Random tokens, and the fingerprints that stand for them wherever something is shown.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The name under which a token appears in counters and in the request log: 16 hexadecimal digits of its SHA-256.
pub fn fingerprint(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// `prefix` and 256 random bits in base64url.
///
/// A system without random bytes cannot run this mock at all: start-up asks for some and reports the failure there.
/// Later ones fall back to the hash of a counter, so that no request can panic.
pub(crate) fn random_token(prefix: &str) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()))
}

/// A user code as people type it: eight letters that spell no word and look like no other (RFC 8628, 6.1).
pub(crate) fn random_user_code() -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let bytes: [u8; 8] = random_bytes();
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    let (left, right) = bytes.split_at(4);
    format!(
        "{}-{}",
        left.iter().map(letter).collect::<String>(),
        right.iter().map(letter).collect::<String>()
    )
}

fn random_bytes<const N: usize>() -> [u8; N] {
    use std::sync::atomic::{AtomicU64, Ordering};
    static FALLBACK: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        let digest = Sha256::digest(FALLBACK.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(digest) {
            *to = from;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_fingerprints_are_stable() {
        let (a, b) = (random_token("v1."), random_token("v1."));
        assert_ne!(a, b);
        assert!(a.starts_with("v1.") && a.len() == 46);
        // SHA-256 of "abc" begins ba7816bf 8f01cfea (FIPS 180-2, appendix B.1).
        assert_eq!(fingerprint("abc"), "ba7816bf8f01cfea");
    }

    #[test]
    fn a_user_code_is_two_groups_of_four_letters() {
        let code = random_user_code();
        assert_eq!(code.len(), 9);
        assert_eq!(code.chars().nth(4), Some('-'));
        assert!(code.chars().all(|c| c == '-' || "BCDFGHJKLMNPQRSTVWXZ".contains(c)));
    }
}
