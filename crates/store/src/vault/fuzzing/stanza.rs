//! The stanza parser, and opening a way in.

use std::cell::Cell;
use std::sync::LazyLock;

use age::Recipient as _;
use age_core::format::{FileKey, Stanza};
use age_core::primitives::hkdf;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tokenkeep_secret::Secret;

use super::draft::KEYS;
use super::source::Source;
use crate::vault::argon2id::{Costs, Parsed, PassphraseIdentity, PassphraseRecipient, STANZA};
use crate::vault::frame::{FrameKind, Header, Tag, frame};
use crate::vault::unwrap::{AGE_MAGIC, FoundWay, kind_of, open_one, stanzas};
use crate::vault::ways::WayKind;

const PASSPHRASE: &[u8] = b"fuzz";
/// The file key of [`Identity`]'s stanza.
const FILE_KEY: [u8; 16] = [0x17; 16];
/// The payload of a way in under [`FILE_KEY`]: 16 bytes of nonce, and the master key sealed.
static PAYLOAD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let message = super::draft::WAY_IN;
    message[message.len() - 64..].to_vec()
});
/// The file key under [`PASSPHRASE`], at the least costs there are.
static BY_PASSPHRASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let costs = Costs::new(8, 1, 1).expect("the least costs there are");
    let recipient = PassphraseRecipient { passphrase: &Secret::from(PASSPHRASE), costs };
    let wrapped = recipient.wrap_file_key(&FileKey::new(Box::new(FILE_KEY)));
    written(&wrapped.expect("memory and random bytes").0[0])
});

/// Knows the file key of every stanza of the type `fuzz`.
struct Identity;

impl age::Identity for Identity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        (stanza.tag == "fuzz").then(|| Ok(FileKey::new(Box::new(FILE_KEY))))
    }
}

/// Reads an age message's stanzas, and opens it as a way in.
pub fn stanza(input: &[u8]) {
    let mut source = Source::new(input);
    match source.byte() % 3 {
        0 => drop(read(source.all())),
        1 => drop(read(&[AGE_MAGIC, source.all()].concat())),
        _ => made(&mut source),
    }
}

/// A message that is whole but for what is between its stanzas, and for the edits that follow.
fn made(source: &mut Source<'_>) {
    let shape = source.byte();
    let mut message = AGE_MAGIC.to_vec();
    if shape & 1 != 0 {
        message.extend_from_slice(b"-> fuzz\n\n");
    }
    if shape & 2 != 0 {
        message.extend_from_slice(&BY_PASSPHRASE);
    }
    let more = source.some();
    message.extend_from_slice(more);
    // Its checksum is right, whatever the stanzas are.
    message.extend_from_slice(b"---");
    let mut mac = Hmac::<Sha256>::new_from_slice(&hkdf(&[], b"header", &FILE_KEY)).expect("any length");
    mac.update(&message);
    let mac = BASE64.encode(mac.finalize().into_bytes());
    message.extend_from_slice(format!(" {mac}\n").as_bytes());
    message.extend_from_slice(&PAYLOAD);
    let opens = read(&message);
    assert!(opens || !more.is_empty() || shape & 3 == 0, "a way in that was made by the rules does not open");
    let mut edited = message.clone();
    while !source.is_empty() {
        let (place, mask) = (source.index(edited.len()), source.byte());
        match mask {
            0 => edited.truncate(place.max(1)),
            0xff => edited.push(source.byte()),
            _ => edited[place] ^= mask,
        }
    }
    if edited != message {
        assert!(!read(&edited), "a way in opens that was changed");
    }
}

/// Whether it opens under the keys that are known here.
fn read(message: &[u8]) -> bool {
    let stanzas = stanzas(message);
    if !stanzas.is_empty() {
        let written: Vec<_> = stanzas.iter().flat_map(written).collect();
        assert!(message[AGE_MAGIC.len()..].starts_with(&written), "what was read is not what was written");
    }
    let (kind, costs) = kind_of(message);
    let asked: Vec<_> = stanzas.iter().filter(|stanza| stanza.tag == STANZA).collect();
    assert_eq!(kind == WayKind::Passphrase, !asked.is_empty());
    assert_eq!(costs, asked.first().and_then(|stanza| Parsed::read(stanza)).map(|parsed| parsed.costs));
    let mut work = 0;
    for stanza in &asked {
        let Some(parsed) = Parsed::read(stanza) else { continue };
        let costs = parsed.costs;
        let numbers = [costs.memory_kib(), costs.passes(), costs.lanes()];
        assert_eq!(stanza.args[1..], numbers.map(|number| number.to_string()));
        work += u64::from(costs.memory_kib()) * u64::from(costs.passes());
    }
    let passphrase = Secret::from(PASSPHRASE);
    let by_passphrase = PassphraseIdentity { passphrase: &passphrase, out_of_memory: Cell::new(false) };
    // What it costs is the caller's to bound.
    let known: &[&dyn age::Identity] = if work <= 256 { &[&by_passphrase, &Identity] } else { &[&Identity] };
    let frame = frame(FrameKind::WayIn, 0, Tag::NONE, message);
    let way = FoundWay { offset: 47, frame, whole: true, any_key: false };
    let header = Header { key_id: KEYS.id(), next_seq: 2 };
    match open_one(&header, &way, known.iter().copied()) {
        Ok(Some(keys)) => {
            assert_eq!(keys.id(), header.key_id);
            assert!(message.len() <= 16 * 1024 && (1..=16).contains(&stanzas.len()));
            true
        }
        Ok(None) | Err(()) => false,
    }
}

/// A stanza as it stands in a header: its body in lines of 64 columns, of which the last is shorter.
fn written(stanza: &Stanza) -> Vec<u8> {
    let body = BASE64.encode(&stanza.body);
    let first =
        std::iter::once(&stanza.tag).chain(&stanza.args).map(String::as_str).collect::<Vec<_>>().join(" ");
    let mut text = format!("-> {first}\n");
    let mut rest = &body[..];
    while let Some((line, after)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(rest);
    text.push('\n');
    text.into_bytes()
}
