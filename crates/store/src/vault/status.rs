//! What an opened vault says about itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::frame::KeyId;
use super::log::Log;
use super::pin::PinState;
use super::probe::length;
use super::view::{self, Shared};
use super::ways::WayIn;
use super::write::ROOM;
use super::{Vault, blocking};
use crate::StoreError;

/// What an opened vault says about itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VaultStatus {
    /// The real file.
    pub path: PathBuf,
    /// Which master key it is sealed under.
    pub key_id: KeyId,
    /// How that key id is pinned.
    pub pin: PinState,
    /// Its ways in.
    pub ways: Vec<WayIn>,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes that a rewrite would keep.
    pub live_bytes: u64,
    /// Bytes that a rewrite would drop.
    pub dead_bytes: u64,
    /// Bytes that are kept allocated past its end, so that a renewal's write finds its space.
    pub room_bytes: u64,
    /// Whether the file system can promise that room, as far as this handle has asked.
    pub room_promised: bool,
    /// Entries that are there now.
    pub entries: usize,
    /// The revision that the next write gets.
    pub next_revision: u64,
    /// Stretches of bytes that are no frame.
    pub damaged: usize,
    /// The network file system it stands on, if it does.
    pub network_file_system: Option<&'static str>,
    /// Whether this user may not write it: what is stored can be read, and nothing renewed.
    pub read_only: bool,
    /// Whether the file was replaced by an older one while this handle had it open.
    pub went_back: bool,
}

/// Whether there is room for a renewal's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomState {
    /// It is allocated: a write under a lease cannot fail for want of space.
    Promised,
    /// The file system cannot promise space.
    NotPromised,
    /// There is not enough space left: nothing will be renewed before there is.
    Full,
    /// The vault may not be written.
    ReadOnly,
}

impl Vault {
    /// Asks the file system for the room that a renewal needs, as a lease does, and says what it answered. Nothing of
    /// what is stored changes.
    ///
    /// # Errors
    ///
    /// Those of any write, but those that are an answer.
    pub async fn check_room(&self) -> Result<RoomState, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || match shared.promise_room() {
            Ok(()) if shared.promises_room.load(Ordering::SeqCst) => Ok(RoomState::Promised),
            Ok(()) => Ok(RoomState::NotPromised),
            Err(StoreError::Full { .. }) => Ok(RoomState::Full),
            Err(StoreError::NotWritable { .. }) => Ok(RoomState::ReadOnly),
            Err(error) => Err(error),
        })
        .await
    }

    /// What the vault says about itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the list of its ways in is damaged; and those of any read.
    pub async fn status(&self) -> Result<VaultStatus, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.status()).await
    }
}

impl Shared {
    pub(super) fn status(&self) -> Result<VaultStatus, StoreError> {
        let view = self.latest()?;
        let ways = view::read_ways(&view, &self.keys, &self.place.file)?;
        let opened_by = *self.opened_by.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(VaultStatus {
            path: self.place.file.clone(),
            key_id: self.keys.id(),
            pin: self.pin_state.clone(),
            ways: ways.ways.iter().map(|way| way.shown(&opened_by)).collect(),
            bytes: length(&view, &self.place)?,
            live_bytes: view.log.live,
            dead_bytes: view.log.dead(),
            room_bytes: ROOM,
            room_promised: self.promises_room.load(Ordering::SeqCst),
            entries: entries(&view.log),
            next_revision: self.next_seq(&view),
            damaged: view.log.damage.len(),
            network_file_system: self.place.network_file_system(&self.disk),
            read_only: !view.file.writable(),
            went_back: self.went_back.load(Ordering::SeqCst),
        })
    }
}

/// How many entries there are now.
pub(super) fn entries(log: &Log) -> usize {
    log.entries.values().filter(|entry| !entry.removed).count()
}
