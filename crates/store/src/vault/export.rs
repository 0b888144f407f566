//! A copy of what a vault holds, as JSON that is encrypted to age recipients, or in clear (`docs/vault-format.md`).

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tokenkeep_secret::Secret;
use zeroize::Zeroizing;

use super::age_message::{self, Unopened};
use super::frame::KeyId;
use super::recipient::Recipient;
use super::unwrap::{AGE_MAGIC, identities};
use super::way_in::Unlock;
use super::ways::WayKind;
use super::{Vault, blocking};
use crate::{Key, Note, Revision, SecretStore, StoreError};

/// The version of exports that this crate writes.
const VERSION: u32 = 1;

/// A copy of all entries, with their notes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Export {
    /// When it was made, to the second.
    pub at: SystemTime,
    /// The vault that it was made of, if its maker said so.
    pub key_id: Option<KeyId>,
    /// The entries, sorted by key.
    pub entries: Vec<ExportedEntry>,
}

/// One entry of an export.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportedEntry {
    /// Its name.
    pub key: Key,
    /// Its revision when it was exported. It gets another one when it is imported.
    pub revision: Revision,
    /// Its value, byte for byte.
    pub value: Secret,
    /// The note beside it.
    pub note: Option<Note>,
}

#[derive(Serialize, Deserialize)]
struct ExportFields<'a> {
    tokenkeep_export: u32,
    /// Seconds since 1970.
    exported_at: u64,
    #[serde(default)]
    key_id: Option<String>,
    #[serde(borrow)]
    entries: Vec<EntryFields<'a>>,
}

#[derive(Serialize, Deserialize)]
struct EntryFields<'a> {
    key: String,
    revision: u64,
    /// Base64 needs no escapes, so that it is read where it stands and no copy of it is made.
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(default)]
    note: Option<String>,
}

impl Vault {
    /// A copy of all entries with their notes. Each is as it was at some moment while the copy was made.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if anything is damaged that may be an entry; those of any read.
    pub async fn export(&self) -> Result<Export, StoreError> {
        let mut entries = Vec::new();
        for key in self.keys().await? {
            // One that is gone by now has been removed meanwhile.
            let Some(entry) = self.get(&key).await? else { continue };
            let note = self.note(&key).await?;
            entries.push(ExportedEntry { key, revision: entry.revision, value: entry.value, note });
        }
        Ok(Export { at: self.shared.clock.wall(), key_id: Some(self.key_id()), entries })
    }

    /// The public keys that the vault's ways in are for: what an export can be encrypted to so that what opens the vault
    /// opens it. Not among them: passphrases, keys that age plugins hold, and the keychain's, which opens nothing
    /// anywhere else, nor here once the vault is gone.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::status`].
    pub fn recipients(&self) -> Result<Vec<String>, StoreError> {
        let elsewhere = |kind| matches!(kind, WayKind::X25519 | WayKind::SshEd25519 | WayKind::SshRsa);
        let ways = self.shared.status()?.ways.into_iter().filter(|way| elsewhere(way.kind));
        Ok(ways.filter_map(|way| way.recipient).collect())
    }

    /// Decrypts, if it is encrypted, and reads an export; see [`Export::read`]. Runs where it may block.
    ///
    /// # Errors
    ///
    /// Those of [`Export::read`].
    pub async fn read_export(&self, file: Secret, unlock: Unlock) -> Result<Export, StoreError> {
        let key_id = self.key_id();
        blocking(move || Export::read(&file, Some((&unlock, key_id)))).await
    }
}

impl Export {
    /// The copy in clear, as JSON. A secret.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if it cannot be written.
    pub fn to_json(&self) -> Result<Secret, StoreError> {
        let mut values = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            values.push(base64(entry.value.expose())?);
        }
        let mut room = 256;
        let mut entries = Vec::with_capacity(values.len());
        for (entry, value) in self.entries.iter().zip(&values) {
            let value = std::str::from_utf8(value).map_err(|_| unwritten())?;
            let note = entry.note.as_ref().map(|note| BASE64.encode(note.as_bytes()));
            // A character of a name takes at most six bytes (`\u001f`).
            room += value.len() + note.as_ref().map_or(0, String::len) + 6 * entry.key.as_str().len() + 128;
            let (key, revision) = (entry.key.as_str().to_owned(), entry.revision.get());
            entries.push(EntryFields { key, revision, value: Cow::Borrowed(value), note });
        }
        let fields = ExportFields {
            tokenkeep_export: VERSION,
            exported_at: self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            key_id: self.key_id.map(|id| id.to_string()),
            entries,
        };
        // All at once: a buffer that grows leaves its old self behind.
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, &fields).map_err(|_| unwritten())?;
        json.push(b'\n');
        Ok(Secret::new(std::mem::take(&mut *json)))
    }

    /// The copy as an age message to all of `recipients`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if there is none, or one is not a recipient, or an age plugin's: only a way in is made by those.
    pub fn encrypt(&self, recipients: &[String]) -> Result<Vec<u8>, StoreError> {
        let recipients =
            recipients.iter().map(|text| Recipient::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let to = recipients.iter().map(Recipient::for_age).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(StoreError::Invalid {
                what: "the export cannot be encrypted to nobody: name at least one recipient".to_owned(),
            });
        }
        age_message::seal(&to, self.to_json()?.expose()).ok_or_else(|| StoreError::Invalid {
            what: "the export cannot be encrypted to these recipients together".to_owned(),
        })
    }

    /// Whether `file` is encrypted, so that it takes a private key to read it.
    pub fn is_encrypted(file: &Secret) -> bool {
        file.expose().starts_with(AGE_MAGIC)
    }

    /// Reads an export: in clear, or encrypted to a key that `unlock` holds. The key id is that of the vault whose keychain
    /// is asked, if that is what `unlock` is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if it is none, or its private key is not there; [`StoreError::NewerVersion`];
    /// [`StoreError::UnlockSource`] if what is to open it holds no private key.
    pub fn read(file: &Secret, unlock: Option<(&Unlock, KeyId)>) -> Result<Self, StoreError> {
        if !Self::is_encrypted(file) {
            return read_json(file.expose());
        }
        let no_key = |what: &str| StoreError::Invalid { what: format!("the export {what}") };
        let (unlock, key_id) =
            unlock.ok_or_else(|| no_key("is encrypted, and there is no private key to open it"))?;
        let identities = identities(unlock, key_id)?;
        match age_message::open(file.expose(), identities.keys()) {
            Ok(json) => read_json(&json),
            Err(Unopened::NoMatch) => {
                Err(no_key(&format!("is encrypted to another key than that from {}", unlock.source)))
            }
            Err(Unopened::Header) => Err(no_key("is not an age file that can be read: was it cut short?")),
            Err(Unopened::Damaged) => Err(no_key("is damaged")),
        }
    }
}

fn unwritten() -> StoreError {
    StoreError::Invalid { what: "the export could not be written: there is not enough memory".to_owned() }
}

/// As base64, in a buffer that does not grow.
fn base64(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let len = base64::encoded_len(bytes.len(), true).ok_or_else(unwritten)?;
    let mut text = Zeroizing::new(vec![0; len]);
    BASE64.encode_slice(bytes, &mut text).map_err(|_| unwritten())?;
    Ok(text)
}

fn read_json(json: &[u8]) -> Result<Export, StoreError> {
    #[derive(Deserialize)]
    struct VersionAlone {
        tokenkeep_export: u32,
    }
    // What the decoder has to say is dropped: it prints what it could not place.
    let no_export = |error: serde_json::Error| StoreError::Invalid {
        what: format!(
            "this is not an export that can be read (line {}, column {})",
            error.line(),
            error.column()
        ),
    };
    let version: VersionAlone = serde_json::from_slice(json).map_err(no_export)?;
    if version.tokenkeep_export > VERSION {
        return Err(StoreError::NewerVersion { what: "the export".to_owned() });
    }
    let fields: ExportFields<'_> = serde_json::from_slice(json).map_err(no_export)?;
    let mut entries = Vec::with_capacity(fields.entries.len());
    for (number, entry) in fields.entries.iter().enumerate() {
        entries.push(read_entry(entry).ok_or_else(|| StoreError::Invalid {
            what: format!("entry {} of the export is not one that can be stored", number + 1),
        })?);
    }
    entries.sort_by(|one: &ExportedEntry, other| one.key.cmp(&other.key));
    if entries.windows(2).any(|pair| pair[0].key == pair[1].key) {
        return Err(StoreError::Invalid { what: "the export holds one entry twice".to_owned() });
    }
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(fields.exported_at)).unwrap_or(UNIX_EPOCH);
    Ok(Export { at, key_id: fields.key_id.as_deref().and_then(KeyId::parse), entries })
}

fn read_entry(fields: &EntryFields<'_>) -> Option<ExportedEntry> {
    let Cow::Borrowed(value) = fields.value else { return None };
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(value.len())]);
    let len = BASE64.decode_slice(value, &mut bytes).ok()?;
    bytes.truncate(len);
    if len > crate::MAX_VALUE_BYTES {
        return None;
    }
    let note = match &fields.note {
        Some(note) => Some(Note::new(BASE64.decode(note).ok()?).ok()?),
        None => None,
    };
    Some(ExportedEntry {
        key: Key::new(fields.key.as_str()).ok()?,
        revision: Revision::new(fields.revision),
        value: Secret::new(std::mem::take(&mut *bytes)),
        note,
    })
}
