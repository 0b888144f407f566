//! The vault: a store in one encrypted, append-only file (`docs/vault-format.md`).
//!
//! Reads and notes are a few microseconds of work on pages that the system has in memory, and are done where they are
//! called. What waits for a disk or for Argon2id is done on tokio's blocking threads, and runs to its end even if the
//! caller's future is dropped. Nothing is awaited while the writer lock is held, so that a caller whose runtime stalls
//! stalls nobody else.

mod argon2id;
mod clean;
#[cfg(all(test, target_os = "linux"))]
mod crash;
mod disk;
#[cfg(all(test, target_os = "linux"))]
mod faults;
mod frame;
mod keychain;
mod lease;
mod lock;
mod log;
mod new_file;
mod passphrase;
mod place;
mod record;
mod rewrite;
mod status;
mod unwrap;
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
pub use self::frame::{FrameKind, KeyId};
pub use self::keychain::Keychain;
pub use self::status::{FrameState, ProbedWay, VaultFrame, VaultProbe, VaultReport, VaultStatus};
pub use self::way_in::{NewWayIn, Opener, Unlock};
pub use self::ways::{WayIn, WayKind};

use self::disk::Disk;
use self::frame::{Header, Tag};
use self::lease::VaultLease;
use self::lock::Held;
use self::new_file::NewFile;
use self::place::Place;
use self::record::Keys;
use self::view::{Shared, View};
use self::ways::Ways;
use self::write::Room;
use crate::{
    Entry, Expected, HandedLease, Key, Lease, MAX_VALUE_BYTES, Note, Revision, SecretStore, StoreError,
};

/// How long a write waits for other writers, unless told otherwise. A write takes milliseconds; ten seconds are a
/// stopped process or a disk that hangs.
const WRITER_WAIT: Duration = Duration::from_secs(10);
/// Reading more than this is left to another thread.
const INLINE_BYTES: u64 = 4 * 1024 * 1024;
/// Listing more entries than this is left to another thread: each is decrypted.
const INLINE_ENTRIES: usize = 64;

/// An open vault file. Clones share one view of it; handles opened apart keep in step through the file.
///
/// It needs a tokio runtime with time enabled wherever a call may have to wait.
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
}

impl Default for VaultOptions {
    fn default() -> Self {
        Self { clock: SystemClock::shared(), writer_wait: WRITER_WAIT, disk: Disk::default() }
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

    /// Makes a vault at `path`, readable by its owner alone, in a folder that is made so too if it is missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if there is one; [`StoreError::Invalid`] for ways in that cannot be;
    /// [`StoreError::Keychain`] if a keychain does not take its key; and those of any write.
    pub async fn create(&self, path: impl AsRef<Path>, ways: Vec<NewWayIn>) -> Result<Vault, StoreError> {
        let path = path.as_ref().to_owned();
        NewWayIn::check_all(&ways)?;
        let place = Place::vacant(&self.disk, &path)?;
        self.disk.make_folder(&place.folder).map_err(|error| place::unwritable(&place.folder, error))?;
        place.check_folder(&self.disk)?;
        let writer = lock::take(&self.disk, &place.lock, &[lock::WRITER], self.writer_wait)
            .await?
            .ok_or(StoreError::WriterBusy { waited: self.writer_wait })?;
        let options = self.clone();
        blocking(move || options.create_locked(&writer, &path, &ways)).await
    }

    fn create_locked(&self, _writer: &Held, path: &Path, ways: &[NewWayIn]) -> Result<Vault, StoreError> {
        // Another `create` may have been first.
        let place = Place::vacant(&self.disk, path)?;
        let no_random = |error: getrandom::Error| {
            place::io("making keys for", &place.file, std::io::Error::other(error.to_string()))
        };
        let keys = Keys::generate().map_err(no_random)?;
        let made =
            ways.iter().map(|way| way.make(&keys, self.clock.wall())).collect::<Result<Vec<_>, _>>()?;
        let (frames, listed): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let list = Ways::new(listed).encode().unwrap_or_default();
        let sealed = keys.seal(FrameKind::Ways, 1, "", &list).map_err(no_random)?;
        let mut new = NewFile::create(&self.disk, &place)?;
        new.push(&Header { key_id: keys.id(), next_seq: 2 }.encode())?;
        frames.iter().try_for_each(|frame| new.push(frame))?;
        new.push(&frame::frame(FrameKind::Ways, 1, Tag::NONE, &sealed))?;
        new.finish()?;
        let opened_by = frames.first().map(|frame| ways::digest(frame)).unwrap_or_default();
        let view = view::load(&self.disk, &place, Some(&keys), &mut |_| {})?;
        let vault = self.vault(place, keys, opened_by, view);
        vault.shared.mark_clean(&vault.shared.lock_view());
        Ok(vault)
    }

    /// Opens the vault at `path`.
    ///
    /// # Errors
    ///
    /// Told apart: [`StoreError::Missing`], [`StoreError::WrongPassphrase`] or [`StoreError::WrongIdentity`],
    /// [`StoreError::Corrupt`], [`StoreError::NewerVersion`], [`StoreError::AnotherOwner`], [`StoreError::Place`].
    pub async fn open(&self, path: impl AsRef<Path>, unlock: &Unlock) -> Result<Vault, StoreError> {
        let place = Place::existing(&self.disk, path.as_ref())?;
        let large = self.disk.facts(&place.file).is_ok_and(|facts| facts.len > INLINE_BYTES);
        if matches!(unlock.opener, Opener::Identity(_)) && !large {
            return self.open_at(place, unlock);
        }
        let (options, unlock) = (self.clone(), unlock.clone());
        blocking(move || options.open_at(place, &unlock)).await
    }

    fn open_at(&self, place: Place, unlock: &Unlock) -> Result<Vault, StoreError> {
        let mut view = view::load(&self.disk, &place, None, &mut |_| {})?;
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
        }
        let facts = view.file.facts().map_err(|error| place::io("reading", &place.file, error))?;
        place.warn(&self.disk, &facts);
        Ok(self.vault(place, opened.keys, opened.way, view))
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

    fn vault(&self, place: Place, keys: Keys, opened_by: [u8; 32], view: View) -> Vault {
        let seq_floor = AtomicU64::new(view.log.next_seq);
        let shared = Shared {
            place,
            disk: self.disk.clone(),
            keys,
            clock: Arc::clone(&self.clock),
            writer_wait: self.writer_wait,
            opened_by: Mutex::new(opened_by),
            view: Mutex::new(view),
            seq_floor,
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
}

#[async_trait]
impl SecretStore for Vault {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.shared.get(key)
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
        if self.shared.current()?.log.entries.len() <= INLINE_ENTRIES {
            return self.shared.keys();
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.keys()).await
    }

    async fn revision(&self, key: &Key) -> Result<Option<Revision>, StoreError> {
        self.shared.revision(key)
    }

    async fn note(&self, key: &Key) -> Result<Option<Note>, StoreError> {
        self.shared.note(key)
    }

    async fn lease(&self, key: &Key, wait: Duration) -> Result<Lease, StoreError> {
        VaultLease::take(&self.shared, key, wait).await
    }

    async fn receive_lease(&self, key: &Key, handed: HandedLease) -> Result<Lease, StoreError> {
        VaultLease::receive(&self.shared, key, handed)
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
