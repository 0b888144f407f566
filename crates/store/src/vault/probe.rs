//! What can be told of a vault file without opening it.

use std::path::{Path, PathBuf};

use super::Vault;
use super::argon2id::Costs;
use super::disk::Disk;
use super::frame::{FrameKind, KeyId};
use super::place::{self, Place};
use super::salvage;
use super::status::entries;
use super::unwrap::kind_of;
use super::view::{self, View};
use super::ways::WayKind;
use crate::StoreError;

/// What can be told of a vault file without opening it. Nothing of it is authenticated.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VaultProbe {
    /// The real file.
    pub path: PathBuf,
    /// Which master key it is sealed under, as its header says.
    pub key_id: KeyId,
    /// What is wrong with the header, if anything is: then the key id is what stands there, and may be wrong.
    pub header: Option<&'static str>,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes that a rewrite would keep.
    pub live_bytes: u64,
    /// Bytes that a rewrite would drop.
    pub dead_bytes: u64,
    /// The ways in, by what their age headers say. A key that the keychain holds is an X25519 key too.
    pub ways: Vec<ProbedWay>,
    /// How many frames there are of each kind, dead ones included.
    pub frames: Vec<(FrameKind, usize)>,
    /// Entries that are there now.
    pub entries: usize,
    /// Stretches of bytes that are no frame.
    pub damaged: usize,
    /// The network file system it stands on, if it does.
    pub network_file_system: Option<&'static str>,
}

/// A way in, as its age header shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbedWay {
    /// What it opens by.
    pub kind: WayKind,
    /// What guessing it costs, for a passphrase.
    pub costs: Option<Costs>,
}

impl Vault {
    /// Looks at the vault at `path` without any key. Damage is no error here, that of the header included.
    ///
    /// # Errors
    ///
    /// Those of [`super::VaultOptions::open`] that need no key, but [`StoreError::Corrupt`].
    pub fn probe(path: impl AsRef<Path>) -> Result<VaultProbe, StoreError> {
        let disk = Disk::default();
        let place = Place::existing(&disk, path.as_ref())?;
        let mut counts = [0_usize; 5];
        let (view, header) = salvage::load(&disk, &place, None, &mut |met| {
            if let Some(count) = counts.get_mut(usize::from(met.kind.code()).wrapping_sub(1)) {
                *count += 1;
            }
        })?;
        let ways = view::found_ways(&view).into_iter().map(|way| {
            let (kind, costs) = kind_of(way.message());
            ProbedWay { kind, costs }
        });
        let kinds = (1..).map_while(FrameKind::from_code);
        Ok(VaultProbe {
            ways: ways.collect(),
            key_id: view.log.header.key_id,
            header,
            bytes: length(&view, &place)?,
            live_bytes: view.log.live,
            dead_bytes: view.log.dead(),
            frames: kinds.zip(counts).collect(),
            entries: entries(&view.log),
            damaged: view.log.damage.len(),
            network_file_system: place.network_file_system(&disk),
            path: place.file,
        })
    }
}

pub(super) fn length(view: &View, place: &Place) -> Result<u64, StoreError> {
    view.file.facts().map(|facts| facts.len).map_err(|error| place::io("reading", &place.file, error))
}
