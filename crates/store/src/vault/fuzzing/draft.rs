//! A vault as an input describes it: a history that a writer could have written, and then what was done to the file.
//!
//! Plain bytes would never get past a checksum or a seal. So an input is a list of edits to a valid vault under keys that
//! are known here, and where an edit says so, checksums are made right again.

use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use age_core::primitives::{aead_encrypt, hkdf};
use zeroize::Zeroizing;

use super::source::Source;
use crate::vault::frame::{FrameKind, HEAD_LEN, HEADER_LEN, Head, Header, Tag, frame};
use crate::vault::record::Keys;
use crate::vault::ways::{ListedWay, WayKind, Ways};

const MASTER: [u8; 32] = [0x42; 32];
/// Opens [`WAY_IN`].
pub(super) const IDENTITY: &str =
    "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
/// An age message with [`MASTER`] in it. Fixed, so that an input means the same bytes each time.
pub(super) const WAY_IN: &[u8] = include_bytes!("way_in.age");
/// The keys that a history is about; the last of them never has an entry in one.
pub(super) const NAMES: [&str; 4] = ["a", "b", "a longer name, longer than 31 bytes", "never"];

pub(super) static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::derive(Zeroizing::new(MASTER)));

/// `plaintext` sealed as a record, by the format's document, whatever it is.
pub(super) fn sealed(nonce: u64, plaintext: &[u8]) -> Vec<u8> {
    let mut salt = [0x5a; 16];
    salt[..8].copy_from_slice(&nonce.to_le_bytes());
    let seal = hkdf(&[], b"tokenkeep/seal", &MASTER);
    let key = hkdf(&salt, b"tokenkeep/record", &seal);
    [&salt[..], &aead_encrypt(&key, plaintext)].concat()
}

/// A record's fields in MessagePack, every length and number as wide as can be.
pub(super) fn widely_encoded(kind: u8, seq: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
    let number = |number: u64| [&[0xcf], &number.to_be_bytes()[..]].concat();
    let long = |marker: u8, bytes: &[u8]| {
        [&[marker], &(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).to_be_bytes()[..], bytes].concat()
    };
    [
        &b"\xdf\x00\x00\x00\x04\xa5value"[..],
        &long(0xc6, value),
        b"\xd9\x03key",
        &long(0xdb, key),
        b"\xda\x00\x04kind",
        &number(u64::from(kind)),
        b"\xa3seq",
        &number(seq),
    ]
    .concat()
}

/// What a frame of the history says.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) kind: FrameKind,
    pub(super) seq: u64,
    /// Which of [`NAMES`].
    pub(super) name: Option<usize>,
    pub(super) value: Vec<u8>,
}

/// A frame as it stands in the file now, or something that an edit put there.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// As it was written, if it was.
    pub(super) whole: Option<(Written, Vec<u8>)>,
}

impl Piece {
    fn new(written: Written, body: &[u8]) -> Self {
        let tag = written.name.map_or(Tag::NONE, |name| KEYS.tag_of(NAMES[name]));
        let bytes = frame(written.kind, written.seq, tag, body);
        Self { whole: Some((written, bytes.clone())), bytes }
    }

    pub(super) fn differs(&self, range: std::ops::Range<usize>) -> bool {
        self.whole.as_ref().is_none_or(|(_, whole)| whole.get(range.clone()) != self.bytes.get(range))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.as_ref().is_some_and(|(_, whole)| *whole == self.bytes)
    }
}

/// A vault file in pieces.
pub(super) struct Draft {
    pub(super) header: Vec<u8>,
    pub(super) pieces: Vec<Piece>,
    /// The history, in the order in which it was written.
    pub(super) history: Vec<Written>,
    /// Whether bytes were changed in place and nothing else was done: no piece came, went, moved or got a checksum.
    pub(super) only_overwritten: bool,
    /// Whether pieces of the history were moved or copied and nothing else was done.
    pub(super) only_moved: bool,
    /// Whether a run of zeros was written: what a power cut leaves.
    pub(super) zeros: bool,
}

impl Draft {
    /// The vault that an input describes.
    pub(super) fn of(source: &mut Source<'_>) -> Self {
        let mut draft = Self::with_history(source);
        while !source.is_empty() {
            draft.edit(source);
        }
        draft
    }

    fn with_history(source: &mut Source<'_>) -> Self {
        let way = |body: &[u8]| {
            let written = Written { kind: FrameKind::WayIn, seq: 0, name: None, value: Vec::new() };
            Piece::new(written, body)
        };
        let mut pieces = vec![way(WAY_IN)];
        let listed = ListedWay::new(WayKind::X25519, "l".into(), None, UNIX_EPOCH, None, &pieces[0].bytes);
        let shape = source.byte();
        if shape & 1 != 0 {
            // One that nobody here opens.
            pieces.push(way(b"age-encryption.org/v1\n-> tokenkeep/argon2id AAAAAAAAAAAAAAAAAAAAAA 64 1 1\n"));
        }
        let list = Ways::new(vec![listed]).encode().unwrap_or_default();
        let mut history = Vec::new();
        let mut seq = 1;
        let mut written = vec![(FrameKind::Ways, None, list)];
        for _ in 0..shape >> 4 {
            let what = source.byte();
            let name = usize::from(what & 3) % (NAMES.len() - 1);
            let kind = match what >> 2 & 7 {
                0..=4 => FrameKind::Put,
                5 => FrameKind::Removed,
                _ => FrameKind::Note,
            };
            let len = [0, 1, 20, 33, 180, 300, 500, 4100][usize::from(what >> 5)];
            let len = match kind {
                FrameKind::Removed => 0,
                FrameKind::Note => len.min(500),
                _ => len,
            };
            // The length says as much of a revision as the bytes do.
            written.push((kind, Some(name), vec![written.len() as u8; len]));
        }
        for (kind, name, value) in written {
            let plaintext =
                widely_encoded(kind.code(), seq, name.map_or(&[], |name| NAMES[name].as_bytes()), &value);
            let written = Written { kind, seq, name, value };
            pieces.push(Piece::new(written.clone(), &sealed(seq, &plaintext)));
            history.push(written);
            seq += 1;
        }
        let header = Header { key_id: KEYS.id(), next_seq: 2 }.encode().to_vec();
        Self { header, pieces, history, only_overwritten: true, only_moved: true, zeros: false }
    }

    fn edit(&mut self, source: &mut Source<'_>) {
        let what = source.byte() % 16;
        self.only_overwritten &= matches!(what, 0..=3);
        self.only_moved &= matches!(what, 4 | 5);
        let at = source.index(self.pieces.len());
        match what {
            0 => flip(&mut self.pieces[at].bytes, source),
            1 => {
                let place = source.index(self.pieces[at].bytes.len());
                let (len, noise) = (source.number().max(1), source.byte());
                for (count, byte) in self.pieces[at].bytes[place..].iter_mut().take(len).enumerate() {
                    *byte ^= (noise ^ count as u8) | 1;
                }
            }
            2 => {
                let (place, len) = (source.index(self.pieces[at].bytes.len()), source.number());
                self.pieces[at].bytes[place..].iter_mut().take(len).for_each(|byte| *byte = 0);
                self.zeros = true;
            }
            3 => flip(&mut self.header, source),
            4 => {
                let other = source.index(self.pieces.len());
                self.pieces.swap(at, other);
            }
            5 => self.pieces.push(self.pieces[at].clone()),
            6 if self.pieces.len() > 1 => drop(self.pieces.remove(at)),
            6 => {}
            7 => self.pieces.insert(at, Piece { bytes: source.some().to_vec(), whole: None }),
            8 => {
                let len = source.index(self.pieces[at].bytes.len());
                self.pieces[at].bytes.truncate(len.max(1));
            }
            9 => set_head(&mut self.pieces[at].bytes, source),
            10 => {
                let bytes = &mut self.pieces[at].bytes;
                if let Some((head, body)) = bytes.split_first_chunk_mut::<HEAD_LEN>() {
                    let fields = Head { body_crc: crc32c::crc32c(body), ..Head::fields(head) };
                    *head = fields.encode();
                }
            }
            11 => {
                let (kind, seq, name) = (source.byte() % 7, source.long(), source.index(NAMES.len()));
                let plaintext = source.some();
                self.insert_sealed(at, kind, seq, name, plaintext);
            }
            12 => {
                let (kind, seq, name) = (source.byte() % 7, source.long(), source.index(NAMES.len()));
                let plaintext = widely_encoded(kind, seq, NAMES[name].as_bytes(), source.some());
                self.insert_sealed(at, kind, seq, name, &plaintext);
            }
            13 => self.header = Header { key_id: KEYS.id(), next_seq: source.long() }.encode().to_vec(),
            14 => {
                let mut cut = source.number();
                while let Some(last) = self.pieces.last_mut().filter(|_| cut > 0) {
                    let left = last.bytes.len().saturating_sub(cut);
                    cut -= last.bytes.len() - left;
                    last.bytes.truncate(left);
                    if left == 0 && self.pieces.pop().is_some() && self.pieces.is_empty() {
                        self.pieces.push(Piece { bytes: Vec::new(), whole: None });
                        break;
                    }
                }
            }
            _ => {
                let to_block = 4096 - self.len() % 4096;
                let len = source.number() % 9000;
                let bytes = vec![0; if len == 0 { to_block } else { len }];
                self.pieces.push(Piece { bytes, whole: None });
                self.zeros = true;
            }
        }
    }

    fn insert_sealed(&mut self, at: usize, kind: u8, seq: u64, name: usize, plaintext: &[u8]) {
        let body = sealed(seq, plaintext);
        let tag = if kind == 1 || kind == 5 { Tag::NONE } else { KEYS.tag_of(NAMES[name]) };
        let head = Head { kind, ..Head::of(FrameKind::Put, seq, tag, &body) };
        self.pieces.insert(at, Piece { bytes: [&head.encode()[..], &body].concat(), whole: None });
    }

    fn len(&self) -> usize {
        HEADER_LEN + self.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>()
    }

    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let pieces = self.pieces.iter().flat_map(|piece| &piece.bytes);
        self.header.iter().chain(pieces).copied().collect()
    }

    /// Where each piece begins, and where the last one ends.
    pub(super) fn borders(&self) -> Vec<usize> {
        let mut end = self.header.len();
        let ends = self.pieces.iter().map(|piece| {
            end += piece.bytes.len();
            end
        });
        std::iter::once(self.header.len()).chain(ends).collect()
    }
}

fn flip(bytes: &mut [u8], source: &mut Source<'_>) {
    let place = source.index(bytes.len());
    let mask = source.byte();
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= mask;
    }
}

/// Sets one field of a head, and makes the head's checksum right.
fn set_head(bytes: &mut [u8], source: &mut Source<'_>) {
    let field = source.byte() % 5;
    let number = source.long();
    let Some(head) = bytes.first_chunk_mut::<HEAD_LEN>() else { return };
    let mut fields = Head::fields(head);
    match field {
        0 => fields.kind = number as u8,
        1 => fields.len = number as u32,
        2 => fields.seq = number,
        3 => fields.tag = KEYS.tag_of(NAMES[number as usize % NAMES.len()]),
        _ => fields.body_crc = number as u32,
    }
    *head = fields.encode();
}
