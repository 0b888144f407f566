//! Writing and reading age v1 messages (<https://c2sp.org/age>) that hold secrets.
//!
//! age's own writer collects the plaintext in a buffer of 64 KiB that it gives back unwiped, and its reader gives back parts
//! of each chunk where the allocator moves what shrinks. These write and read the same format in buffers of their own.
//! Headers are read, and their MAC is checked, by age.

use std::cell::RefCell;
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
const TAG_LEN: usize = 16;
/// How much of the stack is wiped afterwards.
const STACK: usize = 64 * 1024;

/// `plaintext` as a message to all of `recipients`. `None` if there is none, one cannot wrap its key or not beside the
/// others, or the system gives no random bytes.
pub(super) fn seal(recipients: &[&dyn age::Recipient], plaintext: &[u8]) -> Option<Vec<u8>> {
    wiping_stack::<STACK, _>(|| seal_unwiped(recipients, plaintext))
}

fn seal_unwiped(recipients: &[&dyn age::Recipient], plaintext: &[u8]) -> Option<Vec<u8>> {
    let file_key = FileKey::try_init_with_mut(|key| getrandom::fill(key)).ok()?;
    let mut header = MAGIC.to_owned();
    let mut together = None;
    for recipient in recipients {
        let (stanzas, labels) = recipient.wrap_file_key(&file_key).ok()?;
        // Labels say which recipients may stand beside each other: those that have the same.
        if *together.get_or_insert_with(|| labels.clone()) != labels {
            return None;
        }
        stanzas.iter().try_for_each(|stanza| push_stanza(&mut header, stanza))?;
    }
    together?;
    header += "---";
    let mac_key = Zeroizing::new(hkdf(&[], b"header", file_key.expose_secret()));
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&mac_key[..]).ok()?;
    mac.update(header.as_bytes());
    writeln!(header, " {}", BASE64.encode(mac.finalize().into_bytes())).ok()?;

    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).ok()?;
    // One chunk at least, also of nothing.
    let chunks = plaintext.len().div_ceil(CHUNK).max(1);
    let mut message = Vec::with_capacity(header.len() + NONCE_LEN + plaintext.len() + chunks * TAG_LEN);
    message.extend_from_slice(header.as_bytes());
    message.extend_from_slice(&nonce);
    let stream = Stream::new(&nonce, &file_key);
    // What is encrypted where it stands: wiped if that should fail.
    let mut message = Zeroizing::new(message);
    for number in 0..chunks {
        let start = number * CHUNK;
        let chunk = &plaintext[start..plaintext.len().min(start + CHUNK)];
        let at = message.len();
        message.extend_from_slice(chunk);
        let nonce = chunk_nonce(number, number + 1 == chunks);
        let tag = stream.0.encrypt_in_place_detached(&nonce.into(), &[], &mut message[at..]).ok()?;
        message.extend_from_slice(&tag);
    }
    Some(std::mem::take(&mut *message))
}

/// Why a message does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// Its header is none that can be read, or ends too soon.
    Header,
    /// It is to none of the identities.
    NoMatch,
    /// It is not as it was written.
    Damaged,
}

/// Enough for hundreds of recipients.
const LONGEST_HEADER: usize = 64 * 1024;
/// How the last line of a header begins, before the MAC.
const END_OF_HEADER: &[u8] = b"\n--- ";

/// The plaintext of a message to one of `identities`.
pub(super) fn open<'a>(
    message: &[u8],
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    wiping_stack::<STACK, _>(|| open_unwiped(message, identities))
}

fn open_unwiped<'a>(
    message: &[u8],
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    // For each line of it age parses the header again from its beginning: a long one would keep it busy for days.
    let header = &message[..message.len().min(LONGEST_HEADER)];
    if !header.windows(END_OF_HEADER.len()).any(|bytes| bytes == END_OF_HEADER) {
        return Err(Unopened::Header);
    }
    let mut rest = message;
    let decryptor = age::Decryptor::new_buffered(&mut rest).map_err(|_| Unopened::Header)?;
    let file_key = RefCell::new(None);
    let identities: Vec<_> = identities.map(|identity| Watched { identity, file_key: &file_key }).collect();
    // age reads nothing of the payload before it is asked to.
    decryptor.decrypt(identities.iter().map(|identity| identity as _)).map(drop).map_err(
        |error| match error {
            age::DecryptError::NoMatchingKeys => Unopened::NoMatch,
            _ => Unopened::Damaged,
        },
    )?;
    let file_key = file_key.take().ok_or(Unopened::Damaged)?;
    let nonce = &message[message.len() - rest.len() - NONCE_LEN..][..NONCE_LEN];
    let stream = Stream::new(nonce, &file_key);
    let chunks = rest.len().div_ceil(CHUNK + TAG_LEN);
    let mut plaintext = Zeroizing::new(Vec::with_capacity(rest.len()));
    for (number, chunk) in rest.chunks(CHUNK + TAG_LEN).enumerate() {
        let (sealed, tag) = chunk.split_last_chunk::<TAG_LEN>().ok_or(Unopened::Damaged)?;
        // Only a message of nothing has a chunk of nothing.
        if sealed.is_empty() && number > 0 {
            return Err(Unopened::Damaged);
        }
        let at = plaintext.len();
        plaintext.extend_from_slice(sealed);
        let nonce = chunk_nonce(number, number + 1 == chunks);
        stream
            .0
            .decrypt_in_place_detached(&nonce.into(), &[], &mut plaintext[at..], tag.into())
            .map_err(|_| Unopened::Damaged)?;
    }
    if chunks == 0 { Err(Unopened::Damaged) } else { Ok(plaintext) }
}

/// The key of a payload.
struct Stream(ChaCha20Poly1305);

impl Stream {
    fn new(nonce: &[u8], file_key: &FileKey) -> Self {
        let key = Zeroizing::new(hkdf(nonce, b"payload", file_key.expose_secret()));
        Self(ChaCha20Poly1305::new(key[..].into()))
    }
}

/// STREAM's nonce of a chunk: a counter of eleven bytes, big-endian, and a one for the last chunk.
fn chunk_nonce(number: usize, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&(number as u64).to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

/// An identity, and what it unwraps.
struct Watched<'a> {
    identity: &'a dyn age::Identity,
    file_key: &'a RefCell<Option<FileKey>>,
}

impl Watched<'_> {
    fn keep(
        &self,
        unwrapped: Option<Result<FileKey, age::DecryptError>>,
    ) -> Option<Result<FileKey, age::DecryptError>> {
        if let Some(Ok(key)) = &unwrapped {
            let copy = FileKey::init_with_mut(|copy| copy.copy_from_slice(key.expose_secret()));
            *self.file_key.borrow_mut() = Some(copy);
        }
        unwrapped
    }
}

impl age::Identity for Watched<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        self.keep(self.identity.unwrap_stanza(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
        self.keep(self.identity.unwrap_stanzas(stanzas))
    }
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

    /// As long as chunks are, and a byte to each side.
    const LENGTHS: [usize; 11] = [
        0,
        1,
        32,
        1000,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        2 * CHUNK - 1,
        2 * CHUNK,
        2 * CHUNK + 1,
        5 * CHUNK + 77,
    ];

    /// No two chunks of it are the same.
    fn plaintext(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    fn opened_here(message: &[u8], identity: &dyn age::Identity) -> Result<Vec<u8>, Unopened> {
        open(message, std::iter::once(identity)).map(|plaintext| plaintext.to_vec())
    }

    #[test]
    fn age_reads_what_is_written_for_each_of_its_recipients() {
        let [one, other, third] = [(); 3].map(|()| age::x25519::Identity::generate());
        for len in LENGTHS {
            let plaintext = plaintext(len);
            let message = seal(&[&one.to_public(), &other.to_public()], &plaintext).unwrap();
            for identity in [&one, &other] {
                assert_eq!(opened(&message, identity), Some(plaintext.clone()), "{len}");
                assert_eq!(opened_here(&message, identity), Ok(plaintext.clone()), "{len}");
            }
            assert_eq!(opened(&message, &third), None);
            assert_eq!(opened_here(&message, &third), Err(Unopened::NoMatch));
        }
        assert_eq!(seal(&[], b"x"), None);
    }

    #[test]
    fn what_age_writes_is_read() {
        let identity = age::x25519::Identity::generate();
        for len in LENGTHS {
            let plaintext = plaintext(len);
            let message = age::encrypt(&identity.to_public(), &plaintext).unwrap();
            assert_eq!(opened_here(&message, &identity), Ok(plaintext), "{len}");
        }
    }

    #[test]
    fn a_header_that_would_keep_age_busy_is_refused() {
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public();
        let to = |count: usize| seal(&vec![&recipient as &dyn age::Recipient; count], b"plaintext").unwrap();
        assert_eq!(opened_here(&to(100), &identity), Ok(b"plaintext".to_vec()));
        let long = to(700);
        assert!(long.len() > LONGEST_HEADER);
        assert_eq!(opened_here(&long, &identity), Err(Unopened::Header));
    }

    /// Chunks that are missing, swapped, doubled, cut or closed too early open nowhere: age has the last word.
    #[test]
    fn chunks_out_of_their_place_are_damage() {
        let identity = age::x25519::Identity::generate();
        let sealed = |len| seal(&[&identity.to_public()], &plaintext(len)).unwrap();
        let long = sealed(3 * CHUNK);
        let payload = long.len() - 3 * (CHUNK + TAG_LEN);
        let (header, chunks) = long.split_at(payload);
        let chunks: Vec<&[u8]> = chunks.chunks(CHUNK + TAG_LEN).collect();
        let of = |order: &[usize]| {
            let chosen: Vec<u8> = order.iter().flat_map(|&at| chunks[at].to_vec()).collect();
            [header, &chosen].concat()
        };
        assert_eq!(opened_here(&of(&[0, 1, 2]), &identity), Ok(plaintext(3 * CHUNK)));
        let mut cases: Vec<Vec<u8>> =
            [&[][..], &[0], &[0, 1], &[1, 2], &[2], &[0, 2], &[1, 0, 2], &[0, 1, 1, 2], &[0, 1, 2, 2]]
                .map(of)
                .into();
        for cut in [1, TAG_LEN, TAG_LEN + 1, CHUNK, CHUNK + TAG_LEN - 1] {
            cases.push(long[..long.len() - cut].to_vec());
        }
        cases.push([&long[..], &[0]].concat());
        cases.push(header.to_vec());
        for (number, case) in cases.iter().enumerate() {
            assert_eq!(opened(case, &identity), None, "case {number}");
            assert_eq!(opened_here(case, &identity), Err(Unopened::Damaged), "case {number}");
        }
        // A last chunk of nothing behind a full one, which age refuses.
        let told =
            Told(vec![Stanza { tag: "t".into(), args: Vec::new(), body: vec![1] }], RefCell::default());
        let message = seal(&[&told], &plaintext(CHUNK)).unwrap();
        let file_key = FileKey::init_with_mut(|key| key.copy_from_slice(&*told.1.borrow()));
        let start = message.len() - CHUNK - TAG_LEN;
        let stream = Stream::new(&message[start - NONCE_LEN..start], &file_key);
        let mut forged = message[..start].to_vec();
        for (number, part) in [plaintext(CHUNK), Vec::new()].iter_mut().enumerate() {
            let tag = stream
                .0
                .encrypt_in_place_detached(&chunk_nonce(number, number == 1).into(), &[], part)
                .unwrap();
            forged.extend_from_slice(part);
            forged.extend_from_slice(&tag);
        }
        assert_eq!(opened(&forged, &told), None);
        assert_eq!(opened_here(&forged, &told), Err(Unopened::Damaged));
    }

    #[test]
    fn no_message_opens_with_a_flipped_bit() {
        let identity = age::x25519::Identity::generate();
        let message = seal(&[&identity.to_public()], &[7; 32]).unwrap();
        for bit in 0..message.len() * 8 {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&flipped, &identity), None, "bit {bit}");
            assert!(opened_here(&flipped, &identity).is_err(), "bit {bit}");
        }
        for len in 0..message.len() {
            assert!(opened_here(&message[..len], &identity).is_err(), "{len} bytes");
        }
    }

    /// Wraps nothing: its stanzas are as told, and who knows the file key needs none of them.
    struct Told(Vec<Stanza>, RefCell<[u8; 16]>);

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
            let message = seal(&[&told], b"plaintext").unwrap();
            assert_eq!(opened(&message, &told).as_deref(), Some(&b"plaintext"[..]), "{len}");
            assert_eq!(opened_here(&message, &told).as_deref(), Ok(&b"plaintext"[..]), "{len}");
        }
        for (tag, arg) in [("", "x"), ("t", ""), ("t", "a b"), ("t", "a\n-> X25519"), ("t\u{e9}", "x")] {
            assert_eq!(
                seal(&[&Told(vec![stanza(tag, &[arg], 3)], Default::default())], b"x"),
                None,
                "{tag:?} {arg:?}"
            );
        }
    }
}
