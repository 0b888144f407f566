//! The vault: a store in one encrypted, append-only file (`docs/vault-format.md`).
//!
//! Reads are a few microseconds of work on pages that the system has in memory, and are done where they are called. What
//! takes longer (much to read, a disk to wait for, Argon2id) is done on tokio's blocking threads, and a write runs to its
//! end even if the caller's future is dropped. Nothing is awaited while the writer lock is held, so that a caller whose runtime stalls
//! stalls nobody else.

mod age_message;
mod age_secret;
mod argon2id;
mod begin;
mod calibrate;
mod change_ways;
mod clean;
#[cfg(all(test, target_os = "linux"))]
mod crash;
mod disk;
mod examine;
mod export;
#[cfg(all(test, target_os = "linux"))]
mod faults;
mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handed;
mod holders;
mod identity;
mod import;
mod index;
pub(crate) mod keychain;
#[cfg(all(test, target_os = "linux"))]
mod large;
mod lease;
mod lock;
mod log;
mod new_file;
mod new_vault;
mod passphrase;
mod pin;
mod pin_file;
mod pin_rule;
mod place;
#[cfg(feature = "plugin")]
mod plugin;
mod probe;
mod read;
#[cfg(all(test, target_os = "linux"))]
mod readers;
mod rebuild;
mod recipient;
mod record;
mod recovery;
mod rekey;
mod repair;
#[cfg(all(test, target_os = "linux"))]
mod repair_faults;
mod reseal;
mod rewrite;
mod salvage;
#[cfg(feature = "ssh")]
mod ssh;
mod status;
mod unwrap;
mod used;
mod verify;
mod view;
mod way_in;
mod ways;
mod window;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokenkeep_clock::{Clock, SystemClock};
use tokenkeep_secret::Secret;

pub use self::argon2id::Costs;
pub use self::export::{Export, ExportedEntry};
pub use self::frame::{FrameKind, KeyId};
pub use self::holders::{LockedPart, VaultLock};
pub use self::import::{Compacted, ImportOutcome, Imported, Seen};
pub use self::keychain::Keychain;
pub(crate) use self::pin::KeyPin;
pub use self::pin::PinState;
pub(crate) use self::pin_rule::{PinRead, Said, refusal, refusal_by};
pub use self::probe::{ProbedWay, VaultProbe};
pub use self::recovery::RecoveryKey;
pub use self::rekey::{Rekey, RekeyPlan};
pub use self::repair::{AffectedEntry, PlannedWay, RepairPlan, Repaired, Salvage, WayFate};
pub use self::status::{RoomState, VaultStatus};
pub use self::verify::{CheckedWay, FrameState, VaultFrame, VaultReport, WayState};
#[cfg(feature = "plugin")]
pub use self::way_in::PluginIdentity;
pub use self::way_in::{NewWayIn, Opener, Unlock};
pub use self::ways::{WayId, WayIn, WayKind};

pub(crate) use self::identity::Identities;
#[cfg(feature = "plugin")]
pub(crate) use self::plugin::Plugins;

use self::disk::Disk;
use self::frame::{Header, Tag};
use self::lease::VaultLease;
use self::lock::Held;
use self::new_file::NewFile;
use self::new_vault::NewVault;
use self::place::Place;
use self::read::GLANCE_BYTES;
use self::record::Keys;
use self::used::Highest;
use self::view::{Shared, View};
use self::write::Room;
use crate::{
    Entry, Expected, HandedLease, Key, Lease, MAX_VALUE_BYTES, Note, Revision, SecretStore, StoreError,
};

/// How long a write waits for other writers, unless told otherwise. A write takes milliseconds; ten seconds are a
/// stopped process or a disk that hangs.
const WRITER_WAIT: Duration = Duration::from_secs(10);

/// An open vault file. Clones share one view of it; handles opened apart keep in step through the file.
///
/// It needs a tokio runtime with time enabled wherever a call may have to wait.
///
/// ```
/// use tokenkeep_store::{Expected, Key, NewWayIn, Opener, Secret, SecretStore, Unlock, Vault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("vault").join("sessions.vault");
/// // A key pair of age's. The vault needs the public half to be made, and the private one to be opened.
/// let (public, private) = pair();
/// let vault = Vault::create(&path, vec![NewWayIn::recipient(&public)]).await?;
/// vault.put(&Key::new("api-key")?, &Secret::from(&b"value"[..]), Expected::Absent).await?;
/// drop(vault);
///
/// let unlock = Unlock::new(Opener::Identity(private.into()), "an example's key");
/// let vault = Vault::open(&path, &unlock).await?;
/// assert_eq!(vault.keys().await?.len(), 1);
/// # Ok(())
/// # }
/// #
/// # fn pair() -> (String, String) {
/// #     use age::secrecy::ExposeSecret as _;
/// #     let identity = age::x25519::Identity::generate();
/// #     (identity.to_public().to_string(), identity.to_string().expose_secret().to_owned())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Vault {
    shared: Arc<Shared>,
}

/// How a vault is made or opened.
#[derive(Clone, Debug)]
pub struct VaultOptions {
    clock: Arc<dyn Clock>,
    writer_wait: Duration,
    disk: Disk,
    pin: KeyPin,
    /// Names that entries may have whose records do not open.
    likely: Vec<Key>,
}

impl Default for VaultOptions {
    fn default() -> Self {
        Self {
            clock: SystemClock::shared(),
            writer_wait: WRITER_WAIT,
            disk: Disk::default(),
            pin: KeyPin::None,
            likely: Vec::new(),
        }
    }
}

impl VaultOptions {
    /// The system's clock, and ten seconds of patience with other writers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where times of creation come from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How long a write waits for other writers before it is [`StoreError::WriterBusy`].
    #[must_use]
    pub fn writer_wait(mut self, wait: Duration) -> Self {
        self.writer_wait = wait;
        self
    }

    /// Names to try on entries whose own records tell none, where a damaged vault is looked at: its file holds no names,
    /// but shows whether a name is right.
    #[must_use]
    pub fn likely_names(mut self, names: impl IntoIterator<Item = Key>) -> Self {
        self.likely = names.into_iter().collect();
        self
    }

    /// Makes a vault at `path`, readable by its owner alone, in a folder that is made so too if it is missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if there is one; [`StoreError::Invalid`] for ways in that cannot be;
    /// [`StoreError::Keychain`] if a keychain does not take its key; and those of any write.
    pub async fn create(&self, path: impl AsRef<Path>, ways: Vec<NewWayIn>) -> Result<Vault, StoreError> {
        let path = path.as_ref().to_owned();
        NewWayIn::check_all(&ways)?;
        change_ways::check_distinct(&ways)?;
        self.pin.check_new()?;
        let place = Place::vacant(&self.disk, &path)?;
        // First what others may refuse, so that nothing is left on the disk by a vault that is not made.
        let (clock, file) = (Arc::clone(&self.clock), place.file.clone());
        let made = blocking(move || NewVault::prepare(&ways, clock.wall(), &file)).await?;
        let options = self.clone();
        match self.lock_new(&place).await {
            Ok(writer) => blocking(move || options.create_locked(&writer, &path, made)).await,
            // A keychain takes back what it was given, which may take its time.
            Err(error) => {
                let forget = move || {
                    drop(made);
                    Err(error)
                };
                blocking(forget).await
            }
        }
    }

    /// Makes the folder of a new vault, and takes the writer lock in it.
    async fn lock_new(&self, place: &Place) -> Result<Held, StoreError> {
        self.disk.make_folder(&place.folder).map_err(|error| place::unwritable(&place.folder, error))?;
        place.check_folder(&self.disk)?;
        lock::take(&self.disk, &place.lock, &[lock::WRITER], self.writer_wait)
            .await?
            .ok_or(StoreError::WriterBusy { waited: self.writer_wait })
    }

    fn create_locked(&self, _writer: &Held, path: &Path, mut made: NewVault) -> Result<Vault, StoreError> {
        // Another `create` may have been first.
        let place = Place::vacant(&self.disk, path)?;
        let mut new = NewFile::create(&self.disk, &place)?;
        new.push(&Header { key_id: made.keys.id(), next_seq: 2 }.encode())?;
        made.frames.iter().try_for_each(|frame| new.push(frame))?;
        new.push(&frame::frame(FrameKind::Ways, 1, Tag::NONE, &made.sealed_list))?;
        // Before the vault is there: what opens it by a public key may come at once.
        let expected = self.pin.expect(&place, None, made.keys.id());
        let finished = new.finish();
        // The file may be there though something failed, and a keychain may have the only way in to it.
        if finished.is_ok() || Place::vacant(&self.disk, path).is_err() {
            made.keep();
        }
        if finished.is_err() && pin::key_id_at(&self.disk, &place) != Some(made.keys.id()) {
            self.pin.unexpect(&place, made.keys.id());
        }
        finished?;
        let opened_by = made.frames.first().map(|frame| ways::digest(frame)).unwrap_or_default();
        let view = view::load(&self.disk, &place, Some(&made.keys), &mut |_| {})?;
        let pin_state = self.pin.made(&place, made.keys.id(), expected);
        let vault = self.vault(place, made.keys, opened_by, view, pin_state);
        vault.shared.mark_clean(&vault.shared.lock_seen());
        Ok(vault)
    }

    /// Opens the vault at `path`.
    ///
    /// # Errors
    ///
    /// Told apart: [`StoreError::Missing`], [`StoreError::WrongPassphrase`] or [`StoreError::WrongIdentity`],
    /// [`StoreError::UntrustedKeys`], [`StoreError::Corrupt`], [`StoreError::NewerVersion`],
    /// [`StoreError::AnotherOwner`], [`StoreError::Place`].
    pub async fn open(&self, path: impl AsRef<Path>, unlock: &Unlock) -> Result<Vault, StoreError> {
        let place = Place::existing(&self.disk, path.as_ref())?;
        let bytes = self.disk.facts(&place.file).map_or(0, |facts| facts.len);
        if unlock.is_quick() && bytes <= GLANCE_BYTES {
            return self.open_at(place, unlock);
        }
        let (options, opened) = (self.clone(), unlock.clone());
        let vault = blocking(move || options.open_at(place, &opened)).await?;
        if let Opener::Passphrase(passphrase) = &unlock.opener {
            match vault.raise_costs(passphrase.clone()).await {
                Ok(false) => {}
                Ok(true) => tracing::info!("guessing this passphrase costs today's default from now on"),
                Err(error) => {
                    tracing::info!(%error, "guessing this passphrase still costs an older default");
                }
            }
        }
        Ok(vault)
    }

    fn open_at(&self, place: Place, unlock: &Unlock) -> Result<Vault, StoreError> {
        let mut view = view::load(&self.disk, &place, None, &mut |_| {})?;
        self.pin.check_given(&place.file, view.log.header.key_id)?;
        let mut ways = view::found_ways(&view);
        if ways.iter().any(|way| !way.whole) {
            // Not believed before the file was opened once more.
            view = view::load(&self.disk, &place, None, &mut |_| {})?;
            ways = view::found_ways(&view);
        }
        let opened = unwrap::open(&place.file, &view.log.header, &ways, unlock, &mut |keys, way| {
            self.is_listed(&view, &place, keys, way)
        })?;
        if !view.log.damage.is_empty() {
            // Keys tell more of it apart. What looks like a torn tail is looked at again with them at the first use.
            view = view::load(&self.disk, &place, Some(&opened.keys), &mut |_| {})?;
            if !view::found_ways(&view).iter().any(|way| ways::digest(&way.frame) == opened.way) {
                // Writing anew would drop it, and lock everyone out.
                return Err(StoreError::Corrupt {
                    what: "the way in stands behind records of other kinds, where none counts".to_owned(),
                });
            }
        }
        // Who can open it by passphrase is trusted with who wrote it; a public key anybody can have.
        let pin_state = self.pin.settle(&self.disk, &place, opened.keys.id(), unlock.is_proof())?;
        let facts = view.file.facts().map_err(|error| place::io("reading", &place.file, error))?;
        place.warn(&self.disk, &facts);
        Ok(self.vault(place, opened.keys, opened.way, view, pin_state))
    }

    /// Whether the vault lists this way in. A list that is damaged keeps nobody out: whoever opened the way in has the
    /// master key already.
    fn is_listed(&self, view: &View, place: &Place, keys: &Keys, way: &[u8; 32]) -> Result<bool, StoreError> {
        let fresh;
        let view = if view.log.ways.is_some() {
            view
        } else {
            fresh = view::load(&self.disk, place, Some(keys), &mut |_| {})?;
            &fresh
        };
        match view::read_ways(view, keys, &place.file) {
            Ok(ways) => Ok(ways.lists(way)),
            Err(StoreError::Corrupt { what }) => {
                tracing::warn!(what, "opened, though its ways in cannot be checked");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn vault(&self, place: Place, keys: Keys, opened_by: [u8; 32], view: View, pin_state: PinState) -> Vault {
        let (reserved, highest) = (AtomicU64::new(view.log.next_seq), Mutex::new(Highest::of(&view)));
        let shared = Shared {
            place,
            disk: self.disk.clone(),
            keys,
            clock: Arc::clone(&self.clock),
            writer_wait: self.writer_wait,
            pin: self.pin.clone(),
            pin_state,
            opened_by: Mutex::new(opened_by),
            view: Mutex::new(view.unread()),
            seen: Mutex::new(view),
            scanning: Mutex::new(()),
            reserved,
            highest,
            went_back: AtomicBool::new(false),
            distrusted: Mutex::new(None),
            clean: Mutex::new(None),
            promises_room: AtomicBool::new(true),
        };
        Vault { shared: Arc::new(shared) }
    }
}

impl Vault {
    /// Makes a vault; see [`VaultOptions::create`].
    ///
    /// # Errors
    ///
    /// Those of [`VaultOptions::create`].
    pub async fn create(path: impl AsRef<Path>, ways: Vec<NewWayIn>) -> Result<Self, StoreError> {
        VaultOptions::new().create(path, ways).await
    }

    /// Opens a vault; see [`VaultOptions::open`].
    ///
    /// # Errors
    ///
    /// Those of [`VaultOptions::open`].
    pub async fn open(path: impl AsRef<Path>, unlock: &Unlock) -> Result<Self, StoreError> {
        VaultOptions::new().open(path, unlock).await
    }

    /// Whether anything stands at `path` that would be in the way of a new vault.
    ///
    /// # Errors
    ///
    /// [`StoreError::Place`] if that cannot be told.
    pub fn exists(path: impl AsRef<Path>) -> Result<bool, StoreError> {
        match Place::vacant(&Disk::default(), path.as_ref()) {
            Ok(_) => Ok(false),
            Err(StoreError::Exists { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Where the file really stands, behind a symlink if there was one.
    pub fn path(&self) -> &Path {
        &self.shared.place.file
    }

    /// The lock file beside it.
    pub fn lock_path(&self) -> PathBuf {
        self.shared.place.lock.clone()
    }

    /// Which master key it is sealed under.
    pub fn key_id(&self) -> KeyId {
        self.shared.keys.id()
    }

    /// How that key id is pinned.
    pub fn pin_state(&self) -> &PinState {
        &self.shared.pin_state
    }
}

#[async_trait]
impl SecretStore for Vault {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        if let Some(entry) = self.shared.glance_at_entry(key) {
            return Ok(entry);
        }
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        blocking(move || shared.get(&key)).await
    }

    async fn put(&self, key: &Key, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        check_size(value)?;
        let writer = writer(&self.shared).await?;
        let (shared, key, value) = (Arc::clone(&self.shared), key.clone(), value.clone());
        blocking(move || shared.put(&writer, &key, &value, expected, Room::Keep)).await
    }

    async fn remove(&self, key: &Key, expected: Expected) -> Result<(), StoreError> {
        let writer = writer(&self.shared).await?;
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        blocking(move || shared.remove(&writer, &key, expected)).await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        let writer = writer(&self.shared).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.clear(&writer)).await
    }

    async fn keys(&self) -> Result<Vec<Key>, StoreError> {
        if let Some(keys) = self.shared.glance_at_keys() {
            return Ok(keys);
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.keys()).await
    }

    async fn revision(&self, key: &Key) -> Result<Option<Revision>, StoreError> {
        if let Some(revision) = self.shared.glance_at_revision(key) {
            return Ok(revision);
        }
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        blocking(move || shared.revision(&key)).await
    }

    async fn note(&self, key: &Key) -> Result<Option<Note>, StoreError> {
        if let Some(note) = self.shared.glance_at_note(key) {
            return Ok(note);
        }
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        blocking(move || shared.note(&key)).await
    }

    async fn lease(&self, key: &Key, wait: Duration) -> Result<Lease, StoreError> {
        VaultLease::take(&self.shared, key, wait).await
    }

    async fn receive_lease(&self, key: &Key, handed: HandedLease) -> Result<Lease, StoreError> {
        VaultLease::receive(&self.shared, key, handed).await
    }
}

/// The writer lock, waited for no longer than the vault is told to.
async fn writer(shared: &Shared) -> Result<Held, StoreError> {
    lock::take(&shared.disk, &shared.place.lock, &[lock::WRITER], shared.writer_wait)
        .await?
        .ok_or(StoreError::WriterBusy { waited: shared.writer_wait })
}

/// Runs `work` where it may block. It runs to its end even if the future is dropped.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.unwrap_or_else(|error| {
            Err(StoreError::Invalid {
                what: format!("the store's work was not done: {error}; is the runtime ending?"),
            })
        }),
        Err(_) => work(),
    }
}

fn check_size(value: &Secret) -> Result<(), StoreError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(StoreError::TooLarge { bytes: value.len(), limit: MAX_VALUE_BYTES });
    }
    Ok(())
}
