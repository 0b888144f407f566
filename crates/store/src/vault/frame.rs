//! The bytes of the vault file: its header, and the frames that follow it.

use std::fmt;

/// What a vault file of this version starts with.
pub(super) const MAGIC: &[u8; 19] = b"tokenkeep-vault-v1\n";
/// What a vault file of any version starts with.
pub(super) const MAGIC_OF_ANY_VERSION: &[u8; 17] = b"tokenkeep-vault-v";
/// Bytes of the file header: magic, key id, next seq, CRC-32C.
pub(super) const HEADER_LEN: usize = 19 + 16 + 8 + 4;
/// What a frame starts with.
pub(super) const FRAME_MAGIC: &[u8; 3] = b"tkf";
/// Bytes of a frame's head.
pub(super) const HEAD_LEN: usize = 40;
/// What a rewrite puts behind damage, so that it is never taken for a torn tail.
pub(super) const STOP: [u8; HEAD_LEN] = [0xff; HEAD_LEN];
/// The longest body that is ever read: far above what the largest value needs, far below what would hurt.
pub(super) const MAX_BODY_LEN: u32 = 4 * 1024 * 1024;

/// The most ways in that are looked at, and the longest: far above any there is, and little memory all together.
pub(super) const MAX_WAYS_IN: usize = 256;
/// See [`MAX_WAYS_IN`].
pub(super) const MAX_WAY_IN_LEN: u32 = 64 * 1024;

/// Which master key a vault file is sealed under. Not secret; changes when the keys are changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// The id with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id that these thirty-two hexadecimal digits spell.
    pub fn parse(digits: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Thirty-two hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) key_id: KeyId,
    /// No frame of this file or of the files it replaced has this seq or a higher one, but for those appended since.
    pub(super) next_seq: u64,
}

/// Why bytes are not a header that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    NewerVersion,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..19].copy_from_slice(MAGIC);
        bytes[19..35].copy_from_slice(self.key_id.as_bytes());
        bytes[35..43].copy_from_slice(&self.next_seq.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..43]);
        bytes[43..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the start of `file`, which may hold fewer bytes than a header has.
    pub(super) fn decode(file: &[u8]) -> Result<Self, BadHeader> {
        if file.is_empty() {
            return Err(BadHeader::Damaged("the file is empty"));
        }
        let Some(bytes) = file.first_chunk::<HEADER_LEN>() else {
            return Err(match file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) {
                true => BadHeader::Damaged("the file ends within its header"),
                false => BadHeader::Damaged("this is not a tokenkeep vault"),
            });
        };
        let crc = u32::from_le_bytes(array(&bytes[43..]));
        if &bytes[..19] != MAGIC {
            // A header that is whole but for its version is a damaged one of this version, not one of the future.
            let mut as_this_version = *bytes;
            as_this_version[..19].copy_from_slice(MAGIC);
            return Err(if crc == crc32c::crc32c(&as_this_version[..43]) {
                BadHeader::Damaged("the file's header is damaged")
            } else if bytes.starts_with(MAGIC_OF_ANY_VERSION) {
                BadHeader::NewerVersion
            } else {
                BadHeader::Damaged("this is not a tokenkeep vault, or its header is damaged")
            });
        }
        if crc != crc32c::crc32c(&bytes[..43]) {
            return Err(BadHeader::Damaged("the file's header is damaged"));
        }
        Ok(Self {
            key_id: KeyId::new(array(&bytes[19..35])),
            next_seq: u64::from_le_bytes(array(&bytes[35..43])),
        })
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameKind {
    /// An age message with the master key in it.
    WayIn,
    /// A value under a key.
    Put,
    /// The end of an entry.
    Removed,
    /// A note beside an entry.
    Note,
    /// The list of the ways in.
    Ways,
}

impl FrameKind {
    /// The byte that stands for it.
    pub fn code(self) -> u8 {
        match self {
            Self::WayIn => 1,
            Self::Put => 2,
            Self::Removed => 3,
            Self::Note => 4,
            Self::Ways => 5,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::WayIn, Self::Put, Self::Removed, Self::Note, Self::Ways]
            .into_iter()
            .find(|kind| kind.code() == code)
    }

    /// What a message calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::WayIn => "way in",
            Self::Put => "entry",
            Self::Removed => "removal",
            Self::Note => "note",
            Self::Ways => "list of ways in",
        }
    }
}

/// Which key a frame is about, without its name: HMAC-SHA256 under the tag key, cut to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tag(pub(super) [u8; 16]);

impl Tag {
    /// Of frames that belong to no key.
    pub(super) const NONE: Self = Self([0; 16]);
}

/// What stands before a frame's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The kind's code; not always one that this version knows.
    pub(super) kind: u8,
    pub(super) len: u32,
    pub(super) seq: u64,
    pub(super) tag: Tag,
    pub(super) body_crc: u32,
}

impl Head {
    pub(super) fn of(kind: FrameKind, seq: u64, tag: Tag, body: &[u8]) -> Self {
        // Bodies are made by this crate and far below 4 GiB.
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        Self { kind: kind.code(), len, seq, tag, body_crc: crc32c::crc32c(body) }
    }

    pub(super) fn encode(&self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..3].copy_from_slice(FRAME_MAGIC);
        bytes[3] = self.kind;
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.tag.0);
        bytes[32..36].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The head at the start of `bytes`, if there is a valid one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEAD_LEN>()?;
        if &bytes[..3] != FRAME_MAGIC
            || u32::from_le_bytes(array(&bytes[36..])) != crc32c::crc32c(&bytes[..36])
        {
            return None;
        }
        Some(Self::fields(bytes))
    }

    /// The head of which `bytes` are all but the last, which is zero: what is left of a head that was cut to a mark, where
    /// the file is longer again.
    pub(super) fn decode_mark(bytes: &[u8]) -> Option<Self> {
        let mut whole = *bytes.first_chunk::<HEAD_LEN>()?;
        let last = whole.last_mut().filter(|last| **last == 0)?;
        *last = crc32c::crc32c(&bytes[..36]).to_le_bytes()[3];
        Self::decode(&whole)
    }

    /// The fields of a head whose CRC does not hold: each may be wrong.
    pub(super) fn fields(bytes: &[u8; HEAD_LEN]) -> Self {
        Self {
            kind: bytes[3],
            len: u32::from_le_bytes(array(&bytes[4..8])),
            seq: u64::from_le_bytes(array(&bytes[8..16])),
            tag: Tag(array(&bytes[16..32])),
            body_crc: u32::from_le_bytes(array(&bytes[32..36])),
        }
    }
}

/// A frame's bytes, head and body.
pub(super) fn frame(kind: FrameKind, seq: u64, tag: Tag, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_LEN + body.len());
    bytes.extend_from_slice(&Head::of(kind, seq, tag, body).encode());
    bytes.extend_from_slice(body);
    bytes
}

/// A frame around a damaged body: with a checksum that it does not match, so that it stays damaged.
pub(super) fn damaged_frame(kind: FrameKind, seq: u64, tag: Tag, body: &[u8]) -> Vec<u8> {
    let mut head = Head::of(kind, seq, tag, body);
    head.body_crc = !head.body_crc;
    [&head.encode()[..], body].concat()
}

/// `bytes` as an array; callers pass slices of exactly that length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { key_id: KeyId::new([7; 16]), next_seq: 42 }
    }

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_is_damage() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Header::decode(&flipped), Err(BadHeader::Damaged(_))), "bit {bit}");
        }
        for len in 0..HEADER_LEN {
            assert!(matches!(Header::decode(&bytes[..len]), Err(BadHeader::Damaged(_))), "{len} bytes");
        }
    }

    #[test]
    fn a_header_of_a_later_version_is_newer() {
        let mut bytes = header().encode().to_vec();
        bytes[17] = b'2';
        let crc = crc32c::crc32c(&bytes[..43]);
        bytes[43..47].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(BadHeader::NewerVersion));
    }

    #[test]
    fn a_head_is_a_mark_only_if_nothing_but_its_last_byte_is_gone() {
        let mut mark = Head::of(FrameKind::Put, 9, Tag([3; 16]), b"body").encode();
        assert_eq!(Head::decode_mark(&mark), None);
        mark[HEAD_LEN - 1] = 0;
        assert_eq!(Head::decode_mark(&mark).map(|head| head.seq), Some(9));
        assert_eq!(Head::decode_mark(&mark[..HEAD_LEN - 1]), None);
        for bit in 0..HEAD_LEN * 8 {
            let mut flipped = mark;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode_mark(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_head_reads_back_and_any_flipped_bit_is_damage() {
        let head = Head::of(FrameKind::Put, 9, Tag([3; 16]), b"body");
        let bytes = head.encode();
        assert_eq!(Head::decode(&bytes), Some(head));
        for bit in 0..HEAD_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&flipped), None, "bit {bit}");
        }
    }
}
