//! Opening a way in: finding the one that a passphrase or key fits, and the master key in it.

use std::cell::Cell;
use std::io::Read as _;
use std::path::Path;

use age::x25519;
use age_core::format::Stanza;
use age_core::format::read::age_stanza;
use tokenkeep_secret::{Secret, SecretString, wiping_stack};
use zeroize::Zeroizing;

use super::argon2id::{self, Costs, Parsed, PassphraseIdentity};
use super::frame::{HEAD_LEN, Header};
use super::record::Keys;
use super::way_in::{Opener, Unlock};
use super::ways::{WayKind, digest};
use crate::StoreError;

/// What an age v1 message starts with.
pub(super) const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";
const MASTER_LEN: usize = 32;
/// How much of the stack is wiped after opening.
const STACK: usize = 64 * 1024;
/// The most keys that are read from an identity file.
const MAX_IDENTITIES: usize = 16;

/// The stanzas in an age message's header, as far as they can be read.
pub(super) fn stanzas(message: &[u8]) -> Vec<Stanza> {
    let mut stanzas = Vec::new();
    let Some(mut rest) = message.strip_prefix(AGE_MAGIC) else { return stanzas };
    while rest.starts_with(b"-> ") {
        let Ok((after, stanza)) = age_stanza(rest) else { break };
        stanzas.push(Stanza::from(stanza));
        rest = after;
    }
    stanzas
}

/// What an age message's header says it opens by, without any key.
pub(super) fn kind_of(message: &[u8]) -> (WayKind, Option<Costs>) {
    let stanzas = stanzas(message);
    if let Some(stanza) = stanzas.iter().find(|stanza| stanza.tag == argon2id::STANZA) {
        return (WayKind::Passphrase, Parsed::read(stanza).map(|parsed| parsed.costs));
    }
    match stanzas.iter().any(|stanza| stanza.tag == "X25519") {
        true => (WayKind::X25519, None),
        false => (WayKind::Other, None),
    }
}

/// A way-in frame as found in the file.
pub(super) struct FoundWay {
    pub(super) offset: u64,
    /// Head and body.
    pub(super) frame: Vec<u8>,
    /// Whether head and body are as they were written.
    pub(super) whole: bool,
}

impl FoundWay {
    pub(super) fn message(&self) -> &[u8] {
        self.frame.get(HEAD_LEN..).unwrap_or_default()
    }
}

/// An opened vault's keys, and by which way.
pub(super) struct Opened {
    pub(super) keys: Keys,
    /// SHA-256 of the way-in frame that opened.
    pub(super) way: [u8; 32],
}

/// Whether the vault lists a way in, by the keys that it gave and the SHA-256 of its frame.
pub(super) type IsListed<'a> = &'a mut dyn FnMut(&Keys, &[u8; 32]) -> Result<bool, StoreError>;

/// Opens the first way in that `unlock` fits and that `listed` accepts. Blocks: a passphrase takes its costs.
pub(super) fn open(
    path: &Path,
    header: &Header,
    ways: &[FoundWay],
    unlock: &Unlock,
    listed: IsListed<'_>,
) -> Result<Opened, StoreError> {
    wiping_stack::<STACK, _>(|| open_unwiped(path, header, ways, unlock, listed))
}

fn open_unwiped(
    path: &Path,
    header: &Header,
    ways: &[FoundWay],
    unlock: &Unlock,
    listed: IsListed<'_>,
) -> Result<Opened, StoreError> {
    let wrong_identity =
        || StoreError::WrongIdentity { path: path.to_owned(), source_name: unlock.source.clone() };
    match &unlock.opener {
        Opener::Passphrase(passphrase) => open_by_passphrase(path, header, ways, unlock, passphrase, listed),
        Opener::Identity(text) => {
            let identities = parse_identities(text, &unlock.source)?;
            open_by_identities(header, ways, &identities, listed)?.ok_or_else(wrong_identity)
        }
        Opener::Keychain(keychain) => {
            let text = keychain.load(header.key_id)?.ok_or_else(|| StoreError::Keychain {
                reason: format!(
                    "it holds no key for the vault at {}; {}",
                    path.display(),
                    super::keychain::DELETED
                ),
            })?;
            let identities = parse_identities(&text, &unlock.source)?;
            open_by_identities(header, ways, &identities, listed)?.ok_or_else(wrong_identity)
        }
    }
}

fn open_by_passphrase(
    path: &Path,
    header: &Header,
    ways: &[FoundWay],
    unlock: &Unlock,
    passphrase: &Secret,
    listed: IsListed<'_>,
) -> Result<Opened, StoreError> {
    let unusable =
        |reason: &str| StoreError::UnlockSource { name: unlock.source.clone(), reason: reason.to_owned() };
    if passphrase.is_empty() {
        return Err(unusable("the passphrase is empty"));
    }
    // Every stanza of every way in counts, so that the sum holds whatever the file says about itself.
    let mut costs = Vec::new();
    let mut candidates = Vec::new();
    let mut damaged = None;
    for way in ways {
        let asked: Vec<_> =
            stanzas(way.message()).into_iter().filter(|stanza| stanza.tag == argon2id::STANZA).collect();
        let Some(stanza) = asked.first() else { continue };
        match Parsed::read(stanza) {
            Some(parsed) if way.whole && asked.len() == 1 => {
                costs.push(parsed.costs);
                candidates.push(way);
            }
            _ => damaged = Some(way.offset),
        }
    }
    if !Costs::within_ceilings(&costs) {
        return Err(StoreError::Corrupt {
            what: format!(
                "the ways in of the vault at {} ask for more work than any vault may (at most 4 passphrases; 1 GiB, \
                 16 passes and 16 lanes in all); nothing was tried",
                path.display()
            ),
        });
    }
    let identity = PassphraseIdentity { passphrase, out_of_memory: Cell::new(false) };
    for way in &candidates {
        match open_one(header, way, std::iter::once(&identity as &dyn age::Identity)) {
            Ok(Some(keys)) => {
                let way = digest(&way.frame);
                if listed(&keys, &way)? {
                    return Ok(Opened { keys, way });
                }
            }
            Ok(None) => {}
            Err(()) => damaged = Some(way.offset),
        }
    }
    if identity.out_of_memory.get() {
        return Err(unusable("there is not enough memory to check the passphrase at the vault's costs"));
    }
    match damaged {
        Some(offset) if candidates.is_empty() => Err(damaged_way(offset)),
        Some(offset) => {
            tracing::warn!(offset, "a way in is damaged; it may be the one that this passphrase opens");
            Err(StoreError::WrongPassphrase { path: path.to_owned(), source_name: unlock.source.clone() })
        }
        None if candidates.is_empty() => {
            Err(unusable("the vault has no way in by passphrase: `tokenkeep vault status` lists what it has"))
        }
        None => {
            Err(StoreError::WrongPassphrase { path: path.to_owned(), source_name: unlock.source.clone() })
        }
    }
}

/// `None` if the identities fit no way in.
fn open_by_identities(
    header: &Header,
    ways: &[FoundWay],
    identities: &[x25519::Identity],
    listed: IsListed<'_>,
) -> Result<Option<Opened>, StoreError> {
    let mut damaged = None;
    let mut whole = 0;
    for way in ways.iter().filter(|way| kind_of(way.message()).0 != WayKind::Passphrase) {
        if !way.whole {
            damaged = Some(way.offset);
            continue;
        }
        match open_one(header, way, identities.iter().map(|identity| identity as &dyn age::Identity)) {
            Ok(Some(keys)) => {
                let way = digest(&way.frame);
                if listed(&keys, &way)? {
                    return Ok(Some(Opened { keys, way }));
                }
                whole += 1;
            }
            Ok(None) => whole += 1,
            Err(()) => damaged = Some(way.offset),
        }
    }
    match damaged {
        Some(offset) if whole == 0 => Err(damaged_way(offset)),
        _ => Ok(None),
    }
}

fn damaged_way(offset: u64) -> StoreError {
    StoreError::Corrupt { what: format!("the way in at byte {offset} does not read as it was written") }
}

/// `Ok(None)` if no identity fits; `Err` if the message or the master key in it is not what it should be.
fn open_one<'a>(
    header: &Header,
    way: &FoundWay,
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Option<Keys>, ()> {
    let decryptor = age::Decryptor::new_buffered(way.message()).map_err(drop)?;
    let reader = match decryptor.decrypt(identities) {
        Ok(reader) => reader,
        Err(age::DecryptError::NoMatchingKeys) => return Ok(None),
        Err(_) => return Err(()),
    };
    // One byte more than a master key has, so that a longer plaintext is seen without reading it all.
    let mut plaintext = Zeroizing::new([0; MASTER_LEN + 1]);
    let mut reader = reader.take(plaintext.len() as u64);
    let mut len = 0;
    while len < plaintext.len() {
        match reader.read(&mut plaintext[len..]).map_err(drop)? {
            0 => break,
            n => len += n,
        }
    }
    if len != MASTER_LEN {
        return Err(());
    }
    let mut master = Zeroizing::new([0; MASTER_LEN]);
    master.copy_from_slice(&plaintext[..MASTER_LEN]);
    let keys = Keys::derive(master);
    if keys.id() == header.key_id { Ok(Some(keys)) } else { Err(()) }
}

/// The X25519 identities in an identity file's text.
fn parse_identities(text: &SecretString, source: &str) -> Result<Vec<x25519::Identity>, StoreError> {
    let unusable =
        |reason: &str| StoreError::UnlockSource { name: source.to_owned(), reason: reason.to_owned() };
    // Never grown: what a vector moves from is not wiped.
    let mut identities = Vec::with_capacity(MAX_IDENTITIES);
    for line in text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if !line.starts_with("AGE-SECRET-KEY-1") {
            return Err(unusable(
                "it is not an age identity file of this version: lines of AGE-SECRET-KEY-1…, comments and blank \
                 lines (`age-keygen` makes one)",
            ));
        }
        if identities.len() == MAX_IDENTITIES {
            return Err(unusable("there are more than 16 keys in it"));
        }
        identities
            .push(line.parse().map_err(|_| unusable("a line that should be an age secret key is not one"))?);
    }
    if identities.is_empty() {
        return Err(unusable("there is no key in it"));
    }
    Ok(identities)
}
