//! The vault's keys, and sealing a change under them.
//!
//! A sealed record is `16-byte nonce | ChaCha20-Poly1305(HKDF-SHA256(seal key, nonce), MessagePack)`. The MessagePack
//! is written and read by hand: no decoder's error text can then show what it could not place, and no plaintext is
//! copied into buffers that are not wiped.

use age_core::primitives::{aead_decrypt, aead_encrypt, hkdf};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokenkeep_secret::wiping_stack;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::frame::{FrameKind, HEAD_LEN, KeyId, Tag};
use super::window::{SECTOR, ZEROS};

/// Bytes of the random nonce before a sealed record.
const NONCE_LEN: usize = 16;
/// Bytes of the Poly1305 tag behind it.
const AEAD_TAG_LEN: usize = 16;
/// HKDF's info for the key of one record.
const RECORD_INFO: &[u8] = b"tokenkeep/record";
/// How much of the stack is wiped after keys were worked with: HMAC, HKDF and the cipher need less.
const STACK: usize = 16 * 1024;

/// What the master key gives: one key to seal with, one to make tags with, and the public key id.
pub(super) struct Keys {
    /// In one place of the heap: whoever hands `Keys` on copies no key.
    secret: Box<SecretKeys>,
    id: KeyId,
}

#[derive(Default, Zeroize, ZeroizeOnDrop)]
struct SecretKeys {
    master: [u8; 32],
    seal: [u8; 32],
    tag: [u8; 32],
}

impl Keys {
    /// Keys of a new vault.
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        let mut master = Zeroizing::new([0; 32]);
        getrandom::fill(&mut master[..])?;
        Ok(Self::derive(master))
    }

    pub(super) fn derive(master: Zeroizing<[u8; 32]>) -> Self {
        wiping_stack::<STACK, _>(|| {
            let mut secret = Box::<SecretKeys>::default();
            secret.master.copy_from_slice(&master[..]);
            secret.seal = hkdf(&[], b"tokenkeep/seal", &master[..]);
            secret.tag = hkdf(&[], b"tokenkeep/tag", &master[..]);
            let mut id = [0; 16];
            id.copy_from_slice(&hkdf(&[], b"tokenkeep/key-id", &master[..])[..16]);
            Self { secret, id: KeyId::new(id) }
        })
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// For wrapping into a way in, and for nothing else.
    pub(super) fn master(&self) -> &[u8; 32] {
        &self.secret.master
    }

    pub(super) fn tag_of(&self, key: &str) -> Tag {
        wiping_stack::<STACK, _>(|| {
            // HMAC takes keys of any length, so that this cannot fail.
            let mut tag = [0; 16];
            if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret.tag) {
                mac.update(key.as_bytes());
                tag.copy_from_slice(&mac.finalize().into_bytes()[..16]);
            }
            Tag(tag)
        })
    }

    fn record_key(&self, nonce: &[u8]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(hkdf(nonce, RECORD_INFO, &self.secret.seal))
    }

    /// A sealed record: the body of a frame.
    pub(super) fn seal(
        &self,
        kind: FrameKind,
        seq: u64,
        key: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        self.seal_plaintext(&encode(kind, seq, key, value, None))
    }

    /// A sealed record for a frame that is appended at `at` of the file. Where the frame would end within the first few
    /// bytes of a sector, it is made longer: that these are missing, or are zeros, would not tell that the sector was
    /// never written.
    pub(super) fn seal_at(
        &self,
        at: u64,
        kind: FrameKind,
        seq: u64,
        key: &str,
        value: &[u8],
    ) -> Result<Vec<u8>, getrandom::Error> {
        let plaintext = encode(kind, seq, key, value, None);
        let frame = HEAD_LEN + NONCE_LEN + plaintext.len() + AEAD_TAG_LEN;
        let in_last_sector = at.wrapping_add(frame as u64) % SECTOR;
        if in_last_sector == 0 || in_last_sector >= ZEROS as u64 {
            return self.seal_plaintext(&plaintext);
        }
        let missing = ZEROS - in_last_sector as usize;
        self.seal_plaintext(&encode(kind, seq, key, value, Some(missing.saturating_sub(PAD_OVERHEAD))))
    }

    fn seal_plaintext(&self, plaintext: &[u8]) -> Result<Vec<u8>, getrandom::Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let ciphertext = wiping_stack::<STACK, _>(|| aead_encrypt(&self.record_key(&nonce), plaintext));
        let mut body = Vec::with_capacity(NONCE_LEN + ciphertext.len());
        body.extend_from_slice(&nonce);
        body.extend_from_slice(&ciphertext);
        Ok(body)
    }

    /// Opens a sealed record, whatever it says it is.
    pub(super) fn open(&self, body: &[u8]) -> Result<Record, &'static str> {
        let (nonce, ciphertext) =
            body.split_at_checked(NONCE_LEN).ok_or("it is shorter than any sealed record")?;
        let len = ciphertext.len().checked_sub(AEAD_TAG_LEN).ok_or("it is shorter than any sealed record")?;
        let plaintext = wiping_stack::<STACK, _>(|| {
            aead_decrypt(&self.record_key(nonce), len, ciphertext).map(Zeroizing::new)
        })
        .map_err(|_| "it does not open under the vault's keys")?;
        let fields = decode(&plaintext).ok_or("it opens, but what it holds is not a record")?;
        let kind = FrameKind::from_code(fields.kind).ok_or("it opens, but is of an unknown kind")?;
        let (key, value) = (fields.key, fields.value);
        let tag = match kind {
            FrameKind::WayIn => return Err("it opens, but ways in are not sealed"),
            FrameKind::Ways if !key.is_empty() => return Err("it opens, but a list of ways in has no key"),
            FrameKind::Ways => Tag::NONE,
            FrameKind::Put | FrameKind::Removed | FrameKind::Note => {
                let name = std::str::from_utf8(plaintext.get(key.clone()).unwrap_or_default());
                self.tag_of(name.map_err(|_| "it opens, but its key is not text")?)
            }
        };
        Ok(Record { kind, seq: fields.seq, tag, plaintext, key, value })
    }
}

/// An opened record. Its plaintext is wiped on drop.
pub(super) struct Record {
    pub(super) kind: FrameKind,
    pub(super) seq: u64,
    pub(super) tag: Tag,
    plaintext: Zeroizing<Vec<u8>>,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

impl Record {
    /// The key's name; empty for records that belong to none.
    pub(super) fn key(&self) -> &str {
        self.plaintext.get(self.key.clone()).and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default()
    }

    pub(super) fn value(&self) -> &[u8] {
        self.plaintext.get(self.value.clone()).unwrap_or_default()
    }
}

/// What a padding takes beside its own bytes: its name, and its length.
const PAD_OVERHEAD: usize = 6;

/// `{seq, kind, key, value}` in MessagePack, in a buffer that never grows and is wiped. `pad`, of a few bytes, is a
/// fifth field.
fn encode(kind: FrameKind, seq: u64, key: &str, value: &[u8], pad: Option<usize>) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(96 + key.len() + value.len()));
    out.push(if pad.is_some() { 0x85 } else { 0x84 });
    out.extend_from_slice(b"\xa3seq");
    put_uint(&mut out, seq);
    out.extend_from_slice(b"\xa4kind");
    put_uint(&mut out, u64::from(kind.code()));
    out.extend_from_slice(b"\xa3key");
    // Keys have at most 256 bytes and values at most 1 MiB, so that no length is cut here.
    match key.len() {
        n @ 0..=31 => out.push(0xa0 | n as u8),
        n @ 32..=255 => out.extend_from_slice(&[0xd9, n as u8]),
        n => {
            out.push(0xda);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\xa5value");
    match value.len() {
        n @ 0..=0xff => out.extend_from_slice(&[0xc4, n as u8]),
        n @ 0x100..=0xffff => {
            out.push(0xc5);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0xc6);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(value);
    if let Some(pad) = pad {
        out.extend_from_slice(b"\xa3pad\xc4");
        out.push(pad as u8);
        out.extend(std::iter::repeat_n(0, pad));
    }
    out
}

fn put_uint(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

struct Fields {
    seq: u64,
    kind: u8,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

/// Reads what [`encode`] writes, in any order of fields and any width of integers, skipping fields it does not know.
/// `None` if it is anything else, a field is missing or given twice, or bytes are left over.
fn decode(plaintext: &[u8]) -> Option<Fields> {
    let mut cursor = Cursor { bytes: plaintext, at: 0 };
    let fields = match cursor.byte()? {
        marker @ 0x80..=0x8f => u64::from(marker & 0x0f),
        0xde => cursor.be(2)?,
        0xdf => cursor.be(4)?,
        _ => return None,
    };
    let (mut seq, mut kind, mut key, mut value) = (None, None, None, None);
    for _ in 0..fields {
        let name = cursor.text()?;
        match plaintext.get(name)? {
            b"seq" if seq.is_none() => seq = Some(cursor.uint()?),
            b"kind" if kind.is_none() => kind = Some(u8::try_from(cursor.uint()?).ok()?),
            b"key" if key.is_none() => key = Some(cursor.text()?),
            b"value" if value.is_none() => value = Some(cursor.binary()?),
            b"seq" | b"kind" | b"key" | b"value" => return None,
            _ => cursor.skip()?,
        }
    }
    (cursor.at == plaintext.len()).then_some(())?;
    Some(Fields { seq: seq?, kind: kind?, key: key?, value: value? })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, len: u64) -> Option<std::ops::Range<usize>> {
        let end = self.at.checked_add(usize::try_from(len).ok()?)?;
        (end <= self.bytes.len()).then(|| std::mem::replace(&mut self.at, end)..end)
    }

    fn byte(&mut self) -> Option<u8> {
        let range = self.take(1)?;
        self.bytes.get(range.start).copied()
    }

    /// A big-endian number of `width` bytes, at most 8.
    fn be(&mut self, width: u64) -> Option<u64> {
        let range = self.take(width)?;
        Some(self.bytes.get(range)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn uint(&mut self) -> Option<u64> {
        match self.byte()? {
            marker @ 0x00..=0x7f => Some(u64::from(marker)),
            0xcc => self.be(1),
            0xcd => self.be(2),
            0xce => self.be(4),
            0xcf => self.be(8),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<std::ops::Range<usize>> {
        let len = match self.byte()? {
            marker @ 0xa0..=0xbf => u64::from(marker & 0x1f),
            0xd9 => self.be(1)?,
            0xda => self.be(2)?,
            0xdb => self.be(4)?,
            _ => return None,
        };
        self.take(len)
    }

    fn binary(&mut self) -> Option<std::ops::Range<usize>> {
        let len = match self.byte()? {
            0xc4 => self.be(1)?,
            0xc5 => self.be(2)?,
            0xc6 => self.be(4)?,
            _ => return None,
        };
        self.take(len)
    }

    /// Skips one value with all that it holds. Each step uses up at least one byte, so that it ends.
    fn skip(&mut self) -> Option<()> {
        let mut values: u64 = 1;
        while values > 0 {
            values -= 1;
            let (bytes, inner) = match self.byte()? {
                0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
                marker @ 0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
                marker @ 0x90..=0x9f => (0, u64::from(marker & 0x0f)),
                marker @ 0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
                0xc1 => return None,
                0xc4 | 0xd9 => (self.be(1)?, 0),
                0xc5 | 0xda => (self.be(2)?, 0),
                0xc6 | 0xdb => (self.be(4)?, 0),
                0xc7 => (self.be(1)? + 1, 0),
                0xc8 => (self.be(2)? + 1, 0),
                0xc9 => (self.be(4)? + 1, 0),
                0xca | 0xce | 0xd2 => (4, 0),
                0xcb | 0xcf | 0xd3 => (8, 0),
                0xcc | 0xd0 => (1, 0),
                0xcd | 0xd1 => (2, 0),
                marker @ 0xd4..=0xd8 => (1 + (1 << (marker - 0xd4)), 0),
                0xdc => (0, self.be(2)?),
                0xdd => (0, self.be(4)?),
                0xde => (0, 2 * self.be(2)?),
                0xdf => (0, 2 * self.be(4)?),
            };
            self.take(bytes)?;
            values = values.checked_add(inner)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::derive(Zeroizing::new([1; 32]))
    }

    #[test]
    fn a_record_opens_under_its_keys_alone() {
        for (key, len) in
            [("k", 0), ("k", 255), (&"k".repeat(31), 256), (&"k".repeat(32), 65_536), (&"k".repeat(256), 3)]
        {
            let value = vec![5; len];
            let body = keys().seal(FrameKind::Put, u64::MAX - 1, key, &value).unwrap();
            let record = keys().open(&body).unwrap();
            assert_eq!((record.kind, record.seq, record.key()), (FrameKind::Put, u64::MAX - 1, key));
            assert_eq!(record.value(), value);
            assert_eq!(record.tag, keys().tag_of(key));
            assert!(Keys::derive(Zeroizing::new([2; 32])).open(&body).is_err());
        }
    }

    #[test]
    fn no_record_opens_with_a_flipped_bit_or_a_byte_less() {
        let body = keys().seal(FrameKind::Note, 1, "k", b"value").unwrap();
        for bit in 0..body.len() * 8 {
            let mut flipped = body.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(keys().open(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..body.len() {
            assert!(keys().open(&body[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_opens_is_a_record_of_a_kind_that_is_sealed_and_has_a_key_where_that_kind_has_one() {
        let opened = |kind, key| keys().open(&keys().seal(kind, 1, key, b"value").unwrap()).is_ok();
        assert!(opened(FrameKind::Put, "k") && opened(FrameKind::Ways, ""));
        assert!(!opened(FrameKind::WayIn, "") && !opened(FrameKind::Ways, "k"));
    }

    #[test]
    fn decoding_skips_unknown_fields_and_refuses_anything_odd() {
        let plain = encode(FrameKind::Put, 300, "key", b"value", None);
        // A fifth field, holding one of everything that nests.
        let mut more = plain.to_vec();
        more[0] = 0x85;
        more.extend_from_slice(
            b"\xa4more\x92\x81\xa1k\xc7\x02\x05ab\xdc\x00\x02\xcb12345678\xd8\x011234567890123456",
        );
        let fields = decode(&more).unwrap();
        assert_eq!((fields.seq, fields.kind), (300, FrameKind::Put.code()));
        assert_eq!(&more[fields.value], b"value");
        for len in 0..more.len() {
            assert!(decode(&more[..len]).is_none(), "{len} bytes");
        }
        let mut trailing = plain.to_vec();
        trailing.push(0);
        assert!(decode(&trailing).is_none(), "left over");
        let mut twice = plain.to_vec();
        twice[0] = 0x85;
        twice.extend_from_slice(b"\xa3seq\x01");
        assert!(decode(&twice).is_none(), "given twice");
        assert!(decode(b"\xdd\xff\xff\xff\xff").is_none());
        assert!(decode(b"\x81\xa1x\xdd\xff\xff\xff\xff").is_none(), "an array of 4 billion");
    }
}
