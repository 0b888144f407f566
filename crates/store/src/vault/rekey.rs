//! Changing the keys: another master key, everything sealed anew under it, and the ways in wrapped again.
//!
//! First the plan, which says what is kept and what is lost. Then everything that may take long or ask somebody, then
//! the locks, then one new file in the place of the old one: a process that is killed leaves the one or the other.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep_secret::Secret;

use super::argon2id::{Costs, PassphraseIdentity};
use super::change_ways::invalid;
use super::frame::Header;
use super::keychain::Keychain;
use super::lock::{self, KEYS};
use super::recipient::Recipient;
use super::record::Keys;
use super::unwrap::{FoundWay, open_one};
use super::view::{self, Shared};
use super::way_in::{NewWayIn, Opener, Unlock};
use super::ways::{ListedWay, WayId, WayIn, WayKind, Ways};
use super::{Vault, blocking, holders, place, writer};
use crate::StoreError;

/// How long renewals that are under way are waited for, unless told otherwise: longer than one may take.
const LEASES_WAIT: Duration = Duration::from_secs(60);

/// How the keys of a vault are to be changed.
#[derive(Clone, Debug)]
pub struct Rekey {
    without: Vec<WayId>,
    opened_by: Option<Unlock>,
    passphrases: Vec<Secret>,
    pub(super) keychain: Option<Arc<dyn Keychain>>,
    leases_wait: Duration,
}

impl Default for Rekey {
    fn default() -> Self {
        Self {
            without: Vec::new(),
            opened_by: None,
            passphrases: Vec::new(),
            keychain: None,
            leases_wait: LEASES_WAIT,
        }
    }
}

impl Rekey {
    /// Keeps every way in by a public key, and no passphrase.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes this way in.
    #[must_use]
    pub fn without(mut self, way: WayId) -> Self {
        self.without.push(way);
        self
    }

    /// Keeps the way in that `unlock` has opened. Only a passphrase is needed again; what a public key is wrapped to stands
    /// in the vault.
    #[must_use]
    pub fn opened_by(mut self, unlock: Unlock) -> Self {
        self.opened_by = Some(unlock);
        self
    }

    /// Keeps the way in that this passphrase opens. A passphrase that is not given is dropped: the vault holds nothing
    /// that it could be wrapped from.
    #[must_use]
    pub fn passphrase(mut self, passphrase: Secret) -> Self {
        self.passphrases.push(passphrase);
        self
    }

    /// Gives a new key to `keychain`, where the vault has a way in of its kind, and takes the old one from it.
    #[must_use]
    pub fn keychain(mut self, keychain: Arc<dyn Keychain>) -> Self {
        self.keychain = Some(keychain);
        self
    }

    /// Waits so long for renewals that are under way, instead of a minute.
    #[must_use]
    pub fn leases_wait(mut self, wait: Duration) -> Self {
        self.leases_wait = wait;
        self
    }
}

/// What changing the keys will do. Nothing has been done yet.
#[derive(Debug)]
pub struct RekeyPlan {
    pub(super) rekey: Rekey,
    pub(super) list: Ways,
    /// For each way in of the list, what becomes of it.
    pub(super) fates: Vec<Fate>,
    pub(super) opened_by: [u8; 32],
}

#[derive(Debug)]
pub(super) enum Fate {
    /// Wrapped again; a passphrase under itself.
    Kept(Option<Secret>),
    /// A passphrase that was not given.
    Dropped,
    /// As asked.
    Removed,
}

impl Fate {
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }
}

impl RekeyPlan {
    /// The ways in that stay.
    pub fn kept(&self) -> Vec<WayIn> {
        self.shown(Fate::is_kept)
    }

    /// The passphrases that were not given, and will open the vault no more.
    pub fn dropped(&self) -> Vec<WayIn> {
        self.shown(|fate| matches!(fate, Fate::Dropped))
    }

    /// The ways in that are removed as asked.
    pub fn removed(&self) -> Vec<WayIn> {
        self.shown(|fate| matches!(fate, Fate::Removed))
    }

    fn shown(&self, which: impl Fn(&Fate) -> bool) -> Vec<WayIn> {
        let ways = self.list.ways.iter().zip(&self.fates).filter(|(_, fate)| which(fate));
        ways.map(|(way, _)| way.shown(&self.opened_by)).collect()
    }
}

impl Vault {
    /// What [`Vault::rekey`] would do. Takes Argon2id's time for every passphrase that is given.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if no way in would be left, a passphrase opens none, a way in that is to be removed is not
    /// there, or one is of a kind that this version cannot wrap again and is not removed; [`StoreError::Corrupt`] if the
    /// list of ways in is damaged.
    pub async fn plan_rekey(&self, rekey: Rekey) -> Result<RekeyPlan, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.plan_rekey(rekey)).await
    }

    /// Changes the keys. Everything is sealed anew under another master key, revisions stay, and every handle that was
    /// open, this one too, is from now on refused with [`StoreError::KeysChanged`]. With the handle that comes back one
    /// goes on.
    ///
    /// # Errors
    ///
    /// [`StoreError::KeysInUse`] if a session was being renewed for all of the wait; [`StoreError::Corrupt`] if anything
    /// in the vault is damaged; [`StoreError::Invalid`] if its ways in are no longer those of the plan;
    /// [`StoreError::Keychain`] if the keychain takes no new key; and those of any write. After any of them the keys are
    /// the old ones, but for [`StoreError::Unsynced`]: then look which.
    pub async fn rekey(&self, plan: RekeyPlan) -> Result<Self, StoreError> {
        let (shared, wait) = (Arc::clone(&self.shared), plan.rekey.leases_wait);
        let prepared = blocking(move || shared.prepare(plan)).await?;
        // Leases first: who holds one needs the writer lock to come to its end.
        let leases = lock::take(&self.shared.disk, &self.shared.place.lock, &[KEYS], wait).await?;
        let Some(leases) = leases else {
            let holders = holders::of_leases(&self.shared.disk, &self.shared.place.lock);
            return Err(StoreError::KeysInUse { waited: wait, holders });
        };
        let writer = writer(&self.shared).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let _leases = leases;
            shared.rekey(&writer, prepared)
        })
        .await
    }
}

/// A new master key, and the ways in wrapped around it; the keychain's is still to be.
pub(super) struct Prepared {
    pub(super) plan: RekeyPlan,
    pub(super) keys: Keys,
    pub(super) made: Vec<Made>,
}

pub(super) enum Made {
    Wrapped(Vec<u8>, ListedWay),
    ByKeychain(NewWayIn, std::time::SystemTime),
}

impl Shared {
    fn plan_rekey(&self, rekey: Rekey) -> Result<RekeyPlan, StoreError> {
        let (list, found, header) = {
            let view = self.latest()?;
            let list = view::read_ways(&view, &self.keys, &self.place.file)?;
            (list, view::found_ways(&view), view.log.header)
        };
        if let Some(missing) = rekey.without.iter().find(|way| !list.lists(&way.0)) {
            return Err(invalid(format!(
                "the vault has no way in {missing}: `tokenkeep vault ways` lists them"
            )));
        }
        let opened_by = rekey.opened_by.as_ref().map(|unlock| &unlock.opener);
        let mut passphrases: Vec<_> = rekey.passphrases.clone();
        if let Some(Opener::Passphrase(passphrase)) = opened_by {
            passphrases.push(passphrase.clone());
        }
        let frame_of =
            |way: &ListedWay| found.iter().find(|frame| super::ways::digest(&frame.frame) == *way.digest());
        let mut fates = Vec::with_capacity(list.ways.len());
        for way in &list.ways {
            let removed = rekey.without.iter().any(|removed| removed.0 == *way.digest());
            fates.push(match way.kind() {
                _ if removed => Fate::Removed,
                WayKind::Passphrase => {
                    let opens =
                        |secret: &Secret| frame_of(way).is_some_and(|frame| opens(&header, frame, secret));
                    match passphrases.iter().position(opens) {
                        Some(at) => Fate::Kept(Some(passphrases.remove(at))),
                        None => Fate::Dropped,
                    }
                }
                _ => kept_by_public_key(way, &rekey)?,
            });
        }
        // What opens only a way in that is being removed fits none that stays.
        let removed_fits = |secret: &Secret| {
            let removed = list.ways.iter().zip(&fates).filter(|(_, fate)| matches!(fate, Fate::Removed));
            removed.filter_map(|(way, _)| frame_of(way)).any(|frame| opens(&header, frame, secret))
        };
        if !passphrases.iter().all(removed_fits) {
            return Err(StoreError::WrongPassphrase {
                path: self.place.file.clone(),
                source_name: "one that was given again".to_owned(),
            });
        }
        if !fates.iter().any(Fate::is_kept) {
            return Err(invalid(
                "that would leave no way in, and nobody could open the vault again: add one first, by `tokenkeep vault \
                 ways add`, or give a passphrase again",
            ));
        }
        Ok(RekeyPlan { rekey, list, fates, opened_by: self.opened_by() })
    }

    /// Wraps a new master key for every way in that is kept, but the keychain's.
    fn prepare(&self, plan: RekeyPlan) -> Result<Prepared, StoreError> {
        let keys = Keys::generate().map_err(|error| self.no_random(&error))?;
        let mut made = Vec::new();
        let kept = plan.list.ways.iter().zip(&plan.fates).filter(|(_, fate)| fate.is_kept());
        let costs: Vec<_> = kept.filter_map(|(way, _)| way.costs()).map(Costs::of_today).collect();
        let raised = Costs::within_ceilings(&costs);
        for (way, fate) in plan.list.ways.iter().zip(&plan.fates) {
            let Fate::Kept(passphrase) = fate else { continue };
            let (label, created) = (way.label.clone(), way.created());
            let new = match (passphrase, way.kind(), &plan.rekey.keychain) {
                (Some(secret), ..) => {
                    let costs = way.costs().unwrap_or_default();
                    let costs = if raised { costs.of_today() } else { costs };
                    NewWayIn::Passphrase { secret: secret.clone(), costs, label }
                }
                (None, WayKind::Keychain, Some(keychain)) => {
                    let way = NewWayIn::Keychain { keychain: Arc::clone(keychain), label };
                    made.push(Made::ByKeychain(way, created));
                    continue;
                }
                _ => NewWayIn::Recipient { recipient: way.recipient().unwrap_or_default().to_owned(), label },
            };
            NewWayIn::check_all(std::slice::from_ref(&new))?;
            let (frame, listed) = new.make(&keys, created)?;
            made.push(Made::Wrapped(frame, listed));
        }
        Ok(Prepared { plan, keys, made })
    }

    fn no_random(&self, error: &getrandom::Error) -> StoreError {
        place::io("making keys for", &self.place.file, std::io::Error::other(error.to_string()))
    }
}

/// What becomes of a way in that is not by passphrase: it can be wrapped again, or nothing is done.
fn kept_by_public_key(way: &ListedWay, rekey: &Rekey) -> Result<Fate, StoreError> {
    match way.kind() {
        // Left out it would lock somebody out, and nobody here knows whom.
        WayKind::Other => Err(StoreError::NewerVersion {
            what: format!("the way in {} (remove it by its id, if it is not needed), which", shown(way)),
        }),
        WayKind::Keychain if rekey.keychain.is_none() => Err(invalid(
            "the vault has a way in by the OS keychain, which is not in use here: `tokenkeep vault ways remove keychain` \
             removes it",
        )),
        WayKind::Keychain => Ok(Fate::Kept(None)),
        _ => match Recipient::parse(way.recipient().unwrap_or_default()) {
            Ok(_) => Ok(Fate::Kept(None)),
            Err(error) => Err(invalid(format!(
                "the way in {} cannot be wrapped again, and has to be removed: {error}",
                shown(way)
            ))),
        },
    }
}

/// Whether `secret` opens the way in `found`.
fn opens(header: &Header, found: &FoundWay, secret: &Secret) -> bool {
    let identity = PassphraseIdentity { passphrase: secret, out_of_memory: Cell::new(false) };
    found.whole
        && matches!(open_one(header, found, std::iter::once(&identity as &dyn age::Identity)), Ok(Some(_)))
}

/// What a way in is called in a message.
fn shown(way: &ListedWay) -> String {
    let id = WayId(*way.digest());
    if way.label.is_empty() { id.to_string() } else { format!("{id} ({})", way.label) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests")]

    use super::super::frame::{FrameKind, Tag, frame};
    use super::super::lock::{Held, WRITER};
    use super::super::{RecoveryKey, VaultOptions};
    use super::*;

    /// Adds a way in of a kind that this version does not know.
    fn add_unknown(vault: &Vault) -> WayId {
        let shared = &vault.shared;
        let writer = Held::try_take(&shared.disk, &shared.place.lock, &[WRITER]).unwrap().unwrap();
        let frame = frame(FrameKind::WayIn, 0, Tag::NONE, b"age-encryption.org/v1\n-> hologram\n");
        let listed = ListedWay::new(
            WayKind::Other,
            "new".to_owned(),
            None,
            std::time::SystemTime::UNIX_EPOCH,
            None,
            &frame,
        );
        let id = WayId(*listed.digest());
        let mut view = shared.writable(&writer).unwrap();
        let list = view::read_ways(&view, &shared.keys, &shared.place.file).unwrap();
        let add = |list: &mut Ways, frames: &mut Vec<Vec<u8>>| {
            list.ways.push(listed);
            frames.push(frame);
        };
        shared.rewrite_ways(&mut view, list, add).unwrap();
        id
    }

    #[tokio::test]
    async fn a_way_in_of_an_unknown_kind_is_never_dropped_silently_and_does_not_count_as_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        let key = RecoveryKey::generate().unwrap();
        let vault =
            VaultOptions::new().create(&path, vec![NewWayIn::recipient(key.recipient())]).await.unwrap();
        let unknown = add_unknown(&vault);
        let known = vault.status().await.unwrap().ways[0].id;
        let before = std::fs::read(&path).unwrap();
        for rekey in [Rekey::new(), Rekey::new().without(known)] {
            let refused = vault.plan_rekey(rekey).await;
            let Err(error @ StoreError::NewerVersion { .. }) = refused else { panic!("{refused:?}") };
            assert!(error.to_string().contains(&unknown.to_string()), "{error}");
        }
        let all = vault.plan_rekey(Rekey::new().without(known).without(unknown)).await;
        assert!(matches!(all, Err(StoreError::Invalid { .. })), "{all:?}");
        // Adding another leaves it as it is.
        let added =
            vault.add_way(NewWayIn::recipient(RecoveryKey::generate().unwrap().recipient())).await.unwrap();
        let ids =
            |vault: &Vault| vault.shared.status().unwrap().ways.iter().map(|way| way.id).collect::<Vec<_>>();
        assert_eq!(ids(&vault), [known, unknown, added.id]);
        assert_ne!(std::fs::read(&path).unwrap(), before);
        let plan = vault.plan_rekey(Rekey::new().without(unknown)).await.unwrap();
        assert_eq!((plan.kept().len(), plan.removed()[0].id), (2, unknown));
        let vault = vault.rekey(plan).await.unwrap();
        assert_eq!(ids(&vault).len(), 2);
    }
}
