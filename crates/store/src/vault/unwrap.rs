//! Opening a way in: finding the one that a passphrase or key fits, and the master key in it.

use std::cell::Cell;
use std::io::Read as _;
use std::path::Path;

use age_core::format::Stanza;
use age_core::format::read::age_stanza;
use tokenkeep_secret::{Secret, wiping_stack};
use zeroize::Zeroizing;

use super::argon2id::{self, Costs, Parsed, PassphraseIdentity};
use super::frame::{HEAD_LEN, Header, KeyId};
use super::identity::Identities;
use super::record::Keys;
use super::way_in::{Opener, Unlock};
use super::ways::{WayKind, digest};
use crate::StoreError;

/// What an age v1 message starts with.
pub(super) const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";
const MASTER_LEN: usize = 32;
/// How much of the stack is wiped after opening.
const STACK: usize = 64 * 1024;
/// The longest way in, and the most stanzas in one. age reads a header from its beginning again for each of its lines, so
/// that 4 MiB of stanzas would keep it busy for days.
const MAX_MESSAGE_LEN: usize = 16 * 1024;
const MAX_STANZAS: usize = 16;

/// The stanzas in an age message's header, as far as they can be read.
pub(super) fn stanzas(message: &[u8]) -> Vec<Stanza> {
    split_header(message).0
}

/// Whether a message is one that may be given to age: its header reads to its end, and is no longer than any way in's.
pub(super) fn is_readable(message: &[u8]) -> bool {
    let (stanzas, rest) = split_header(message);
    message.len() <= MAX_MESSAGE_LEN && !stanzas.is_empty() && rest.starts_with(b"---")
}

/// The first stanzas, and what follows them.
fn split_header(message: &[u8]) -> (Vec<Stanza>, &[u8]) {
    let mut stanzas = Vec::new();
    let Some(mut rest) = message.strip_prefix(AGE_MAGIC) else { return (stanzas, message) };
    while rest.starts_with(b"-> ") && stanzas.len() < MAX_STANZAS {
        let Ok((after, stanza)) = age_stanza(rest) else { break };
        stanzas.push(Stanza::from(stanza));
        rest = after;
    }
    (stanzas, rest)
}

/// What an age message's header says it opens by, without any key.
pub(super) fn kind_of(message: &[u8]) -> (WayKind, Option<Costs>) {
    let stanzas = stanzas(message);
    if let Some(stanza) = stanzas.iter().find(|stanza| stanza.tag == argon2id::STANZA) {
        return (WayKind::Passphrase, Parsed::read(stanza).map(|parsed| parsed.costs));
    }
    let of = |tag: &str| stanzas.iter().any(|stanza| stanza.tag == tag);
    let kind = if of("X25519") {
        WayKind::X25519
    } else if of("ssh-ed25519") {
        WayKind::SshEd25519
    } else if of("ssh-rsa") {
        WayKind::SshRsa
    } else if stanzas.iter().any(|stanza| may_be_a_plugins(&stanza.tag)) {
        WayKind::Plugin
    } else {
        WayKind::Other
    };
    (kind, None)
}

/// Whether a stanza of this type may have been made by an age plugin: each has its own, which nothing here knows. Those
/// of SSH keys may be, since there are plugins for SSH keys that are kept elsewhere.
pub(super) fn may_be_a_plugins(tag: &str) -> bool {
    !(tag == "X25519" || tag == "scrypt" || tag.starts_with("tokenkeep/") || tag.ends_with("-grease"))
}

/// A way-in frame as found in the file.
pub(super) struct FoundWay {
    pub(super) offset: u64,
    /// Head and body.
    pub(super) frame: Vec<u8>,
    /// Whether head and body are as they were written.
    pub(super) whole: bool,
    /// Whether its master key is taken whatever its id: the header that should say it is damaged.
    pub(super) any_key: bool,
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
            let identities = unlock.identities(text)?;
            open_by_identities(header, ways, unlock, &identities, listed)?.ok_or_else(wrong_identity)
        }
        Opener::Keychain(keychain) => {
            let text = keychain.load(header.key_id)?.ok_or_else(|| StoreError::Keychain {
                reason: format!(
                    "it holds no key for the vault at {}; {}",
                    path.display(),
                    super::keychain::DELETED
                ),
            })?;
            let identities = unlock.identities(&text)?;
            open_by_identities(header, ways, unlock, &identities, listed)?.ok_or_else(wrong_identity)
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
    unlock: &Unlock,
    identities: &Identities,
    listed: IsListed<'_>,
) -> Result<Option<Opened>, StoreError> {
    let mut damaged = None;
    let mut whole = 0;
    for way in ways.iter().filter(|way| kind_of(way.message()).0 != WayKind::Passphrase) {
        if !way.whole {
            damaged = Some(way.offset);
            continue;
        }
        match open_one(header, way, identities.keys()) {
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
    if let Some(opened) = open_by_plugins(header, ways, unlock, identities, listed)? {
        return Ok(Some(opened));
    }
    match damaged {
        Some(offset) if whole == 0 => Err(damaged_way(offset)),
        _ => Ok(None),
    }
}

/// Asks the plugins of `identities`, each for every way in that may be its own, and the likely ones first. None is
/// started for a vault that has no such way in.
#[cfg(feature = "plugin")]
fn open_by_plugins(
    header: &Header,
    ways: &[FoundWay],
    unlock: &Unlock,
    identities: &Identities,
    listed: IsListed<'_>,
) -> Result<Option<Opened>, StoreError> {
    let mut candidates = Vec::new();
    for way in ways.iter().filter(|way| way.whole && kind_of(way.message()).0 != WayKind::Passphrase) {
        let stanzas = stanzas(way.message()).into_iter().filter(|stanza| may_be_a_plugins(&stanza.tag));
        candidates.extend(stanzas.map(|stanza| (way, stanza)));
    }
    candidates.sort_by_key(|(_, stanza)| stanza.tag.starts_with("ssh-"));
    let mut failed = None;
    for identities in identities.by_plugin() {
        for (way, stanza) in &candidates {
            let unwrapped = match unlock.plugins.unwrap(&identities, stanza) {
                Ok(Some(unwrapped)) => unwrapped,
                Ok(None) => continue,
                Err(reason) => {
                    // It would do no better on the next; another plugin may.
                    failed.get_or_insert(reason);
                    break;
                }
            };
            if let Ok(Some(keys)) = open_one(header, way, std::iter::once(&unwrapped as &dyn age::Identity)) {
                let digest = digest(&way.frame);
                if listed(&keys, &digest)? {
                    return Ok(Some(Opened { keys, way: digest }));
                }
            } else {
                failed.get_or_insert_with(|| {
                    format!(
                        "{} gave a key that does not open the way in at byte {}",
                        unwrapped.program(),
                        way.offset
                    )
                });
            }
        }
    }
    match failed {
        Some(reason) => Err(StoreError::UnlockSource { name: unlock.source.clone(), reason }),
        None => Ok(None),
    }
}

#[cfg(not(feature = "plugin"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
fn open_by_plugins(
    _header: &Header,
    _ways: &[FoundWay],
    _unlock: &Unlock,
    _identities: &Identities,
    _listed: IsListed<'_>,
) -> Result<Option<Opened>, StoreError> {
    Ok(None)
}

fn damaged_way(offset: u64) -> StoreError {
    StoreError::Corrupt { what: format!("the way in at byte {offset} does not read as it was written") }
}

/// `Ok(None)` if no identity fits; `Err` if the message or the master key in it is not what it should be.
pub(super) fn open_one<'a>(
    header: &Header,
    way: &FoundWay,
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Option<Keys>, ()> {
    if !is_readable(way.message()) {
        return Err(());
    }
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
    if way.any_key || keys.id() == header.key_id { Ok(Some(keys)) } else { Err(()) }
}

/// The private keys that `unlock` holds; the keychain is asked for that of the vault with this key id.
pub(super) fn identities(unlock: &Unlock, key_id: KeyId) -> Result<Identities, StoreError> {
    match &unlock.opener {
        Opener::Identity(text) => unlock.identities(text),
        Opener::Keychain(keychain) => match keychain.load(key_id)? {
            Some(text) => unlock.identities(&text),
            None => Err(StoreError::Keychain { reason: "it holds no key for this vault".to_owned() }),
        },
        Opener::Passphrase(_) => Err(StoreError::UnlockSource {
            name: unlock.source.clone(),
            reason: "it is a passphrase, and it takes a private key here".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Write as _;

    use age::{DecryptError, EncryptError};
    use age_core::format::FileKey;
    use age_core::secrecy::ExposeSecret as _;

    use super::*;
    use crate::vault::frame::{FrameKind, Tag, frame};

    /// Leaves the file key in clear, in so many stanzas with bodies of so many bytes.
    struct Clear {
        stanzas: usize,
        len: usize,
    }

    impl age::Recipient for Clear {
        fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
            let mut body = key.expose_secret().to_vec();
            body.resize(self.len, 0);
            let stanza = |_| Stanza { tag: "clear".to_owned(), args: Vec::new(), body: body.clone() };
            Ok(((0..self.stanzas).map(stanza).collect(), HashSet::new()))
        }
    }

    impl age::Identity for Clear {
        fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
            let key: [u8; 16] = stanza.body.get(..16).filter(|_| stanza.tag == "clear")?.try_into().ok()?;
            Some(Ok(FileKey::new(Box::new(key))))
        }
    }

    #[test]
    fn a_header_longer_than_any_way_in_has_is_not_given_to_age() {
        let keys = Keys::derive(Zeroizing::new([1; MASTER_LEN]));
        let header = Header { key_id: keys.id(), next_seq: 2 };
        let opens = |stanzas, len| {
            let clear = Clear { stanzas, len };
            let encryptor = age::Encryptor::with_recipients(std::iter::once(&clear as _)).unwrap();
            let mut message = Vec::new();
            let mut writer = encryptor.wrap_output(&mut message).unwrap();
            writer.write_all(keys.master()).unwrap();
            writer.finish().unwrap();
            // age's own grease is one stanza more.
            assert!(age::decrypt(&clear, &message).is_ok());
            let frame = frame(FrameKind::WayIn, 0, Tag::NONE, &message);
            let way = FoundWay { offset: 0, frame, whole: true, any_key: false };
            open_one(&header, &way, std::iter::once(&clear as _)).is_ok_and(|keys| keys.is_some())
        };
        assert!(opens(1, 16) && opens(MAX_STANZAS - 1, 16) && opens(1, 8 * 1024));
        assert!(!opens(MAX_STANZAS, 16), "one stanza too many");
        assert!(!opens(1, MAX_MESSAGE_LEN), "too long");
    }
}
