//! An open vault on its way to another process, which then need not know what unlocked it.
//!
//! What travels holds the master key. Both ends are the same program: the format is no contract.

use std::path::PathBuf;
use std::time::Duration;

use tokenkeep_secret::Secret;
use zeroize::Zeroizing;

use super::place::Place;
use super::record::Keys;
use super::{PinState, Vault, VaultOptions, blocking, place, view};
use crate::StoreError;

/// What it begins with.
const START: &[u8] = b"tokenkeep-open-vault-1\n";

/// Master key, digest of the way in, and the wait for other writers.
const FIXED: usize = 32 + 32 + 8;

impl Vault {
    /// What another process of this user needs to open this very vault: its place, and **its master key**. It is to
    /// travel by a pipe to a process that was started for it, and never by arguments, the environment or a file; there
    /// [`Vault::receive`] opens it without deriving a key or asking anybody.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the place is named relative to a folder that cannot be told;
    /// [`StoreError::Unsupported`] where a path is not bytes.
    pub fn hand_over(&self) -> Result<Secret, StoreError> {
        let shared = &self.shared;
        let file = &shared.place.file;
        let path =
            std::path::absolute(file).map_err(|error| place::io("finding the folder of", file, error))?;
        let path = bytes_of(path)?;
        let opened_by = *shared.opened_by.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let wait = u64::try_from(shared.writer_wait.as_millis()).unwrap_or(u64::MAX);
        // Of the right size from the start: a buffer that grows leaves its old copy behind.
        let mut message = Vec::with_capacity(START.len() + FIXED + path.len());
        message.extend_from_slice(START);
        message.extend_from_slice(shared.keys.master());
        message.extend_from_slice(&opened_by);
        message.extend_from_slice(&wait.to_le_bytes());
        message.extend_from_slice(&path);
        Ok(Secret::new(message))
    }

    /// Opens the vault that another process handed over. No way in is used, and the key pin is not asked: the other
    /// process has judged the vault, and only one that is sealed under the same master key opens.
    ///
    /// # Errors
    ///
    /// [`StoreError::KeysChanged`] if the file there is sealed under other keys by now; [`StoreError::Invalid`] for what
    /// no vault handed over; those of [`VaultOptions::open`] that are about the file.
    pub async fn receive(handed: &Secret) -> Result<Self, StoreError> {
        let (master, opened_by, writer_wait, path) = read(handed.expose()).ok_or_else(|| {
            StoreError::Invalid { what: "what was handed over is no open vault of this version".to_owned() }
        })?;
        let keys = Keys::derive(master);
        let options = VaultOptions::new().writer_wait(writer_wait);
        blocking(move || {
            let place = Place::existing(&options.disk, &path)?;
            let view = view::load(&options.disk, &place, Some(&keys), &mut |_| {})?;
            Ok(options.vault(place, keys, opened_by, view, PinState::NotAsked))
        })
        .await
    }
}

type Parts = (Zeroizing<[u8; 32]>, [u8; 32], Duration, PathBuf);

fn read(message: &[u8]) -> Option<Parts> {
    let rest = message.strip_prefix(START)?;
    let (key, rest) = rest.split_first_chunk::<32>()?;
    let (opened_by, rest) = rest.split_first_chunk::<32>()?;
    let (wait, path) = rest.split_first_chunk::<8>()?;
    let mut master = Zeroizing::new([0; 32]);
    master.copy_from_slice(key);
    let path = path_of(path)?;
    path.is_absolute().then(|| (master, *opened_by, Duration::from_millis(u64::from_le_bytes(*wait)), path))
}

#[cfg(unix)]
fn bytes_of(path: PathBuf) -> Result<Vec<u8>, StoreError> {
    Ok(std::os::unix::ffi::OsStringExt::into_vec(path.into_os_string()))
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    Some(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into())
}

#[cfg(not(unix))]
fn bytes_of(path: PathBuf) -> Result<Vec<u8>, StoreError> {
    let unsupported = |_| StoreError::Unsupported { what: "handing a vault at this path to another process" };
    path.into_os_string().into_string().map(String::into_bytes).map_err(unsupported)
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use super::*;
    use crate::vault::{NewWayIn, Opener, Unlock};
    use crate::{Expected, Key, Note, SecretStore};
    use age::secrecy::ExposeSecret;

    async fn made(folder: &std::path::Path) -> (Vault, PathBuf, Unlock) {
        let identity = age::x25519::Identity::generate();
        let way = NewWayIn::Recipient { recipient: identity.to_public().to_string(), label: String::new() };
        let path = folder.join("data").join("vault");
        let vault = Vault::create(&path, vec![way]).await.unwrap();
        let unlock =
            Unlock::new(Opener::Identity(identity.to_string().expose_secret().into()), "the test's identity");
        (vault, path, unlock)
    }

    #[tokio::test]
    async fn what_is_handed_over_opens_the_same_vault_with_its_lease() {
        let folder = tempfile::tempdir().unwrap();
        let (vault, path, _) = made(folder.path()).await;
        let key = Key::new("session/default").unwrap();
        vault.put(&key, &Secret::new(b"one".to_vec()), Expected::Absent).await.unwrap();
        let handed = vault.hand_over().unwrap();
        assert_eq!(format!("{handed:?}"), "[secret]");
        let received = Vault::receive(&handed).await.unwrap();
        assert_eq!((received.key_id(), received.path()), (vault.key_id(), path.as_path()));
        assert_eq!(received.get(&key).await.unwrap().unwrap().value.expose(), b"one");
        let lease = vault.lease(&key, Duration::ZERO).await.unwrap().hand_over().unwrap();
        let lease = received.receive_lease(&key, lease).await.unwrap();
        lease.set_note(&Note::new(b"n".to_vec()).unwrap()).await.unwrap();
        lease.put(&Secret::new(b"two".to_vec()), Expected::Any).await.unwrap();
        assert!(vault.lease(&key, Duration::ZERO).await.is_err(), "the lease went with it");
        assert_eq!(vault.get(&key).await.unwrap().unwrap().value.expose(), b"two");
        lease.release().await.unwrap();
    }

    #[tokio::test]
    async fn after_a_change_of_keys_it_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (vault, path, unlock) = made(folder.path()).await;
        let handed = vault.hand_over().unwrap();
        let plan = vault.plan_rekey(crate::vault::Rekey::new().opened_by(unlock)).await.unwrap();
        let vault = vault.rekey(plan).await.unwrap();
        assert!(matches!(Vault::receive(&handed).await, Err(StoreError::KeysChanged { .. })));
        drop(vault);
        std::fs::remove_file(path).unwrap();
        assert!(matches!(Vault::receive(&handed).await, Err(StoreError::Missing { .. })));
    }

    #[tokio::test]
    async fn what_was_cut_short_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (vault, ..) = made(folder.path()).await;
        let handed = vault.hand_over().unwrap();
        for bytes in [0, 5, START.len() + 31, START.len() + FIXED] {
            let cut = Secret::new(handed.expose()[..bytes].to_vec());
            assert!(matches!(Vault::receive(&cut).await, Err(StoreError::Invalid { .. })), "{bytes}");
        }
    }
}
