//! Adding a way in, and what all changes of the ways in have in common.
//!
//! A way in is made before the writer lock is taken and while nobody waits for the view: Argon2id takes its time, and
//! a plugin may wait for a person.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::argon2id::Costs;
use super::frame::{FrameKind, Tag};
use super::lock::Held;
use super::recipient::Recipient;
use super::rewrite::{NewWays, Rewrite};
use super::unwrap::FoundWay;
use super::view::{self, Shared, View};
use super::way_in::NewWayIn;
use super::ways::{self, ListedWay, WayIn, WayKind, Ways};
use super::{Vault, blocking, writer};
use crate::StoreError;

/// The most ways in that are added to a vault: far more than anybody has, far less than makes its list too long.
const MAX_WAYS: usize = 64;
/// The longest label, in bytes.
const MAX_LABEL_BYTES: usize = 128;

impl Vault {
    /// Adds a way in. The keys stay, so that other ways in and other handles are not touched.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if the vault has it already, if it costs too much together with those that are there, or
    /// if it cannot be; [`StoreError::Keychain`] if a keychain does not take its key; [`StoreError::Corrupt`] if the list
    /// of ways in is damaged; and those of any write.
    pub async fn add_way(&self, way: NewWayIn) -> Result<WayIn, StoreError> {
        NewWayIn::check_all(std::slice::from_ref(&way))?;
        check_distinct(std::slice::from_ref(&way))?;
        let shared = Arc::clone(&self.shared);
        let (way, made) = blocking(move || {
            check_addition(&shared.ways()?, &way)?;
            // A keychain keeps one key for the vault: of two who add it at once only the one that is written may set it.
            let early = !matches!(way, NewWayIn::Keychain { .. });
            let made = early.then(|| way.make(&shared.keys, shared.clock.wall())).transpose()?;
            Ok((way, made))
        })
        .await?;
        let writer = writer(&self.shared).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.add_way(&writer, &way, made)).await
    }
}

impl Shared {
    /// The list of ways in, as it is now.
    pub(super) fn ways(&self) -> Result<Ways, StoreError> {
        let view = self.latest()?;
        view::read_ways(&view, &self.keys, &self.place.file)
    }

    pub(super) fn opened_by(&self) -> [u8; 32] {
        *self.opened_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_way(
        &self,
        writer: &Held,
        way: &NewWayIn,
        made: Option<(Vec<u8>, ListedWay)>,
    ) -> Result<WayIn, StoreError> {
        let list = {
            let view = self.writable(writer)?;
            view::read_ways(&view, &self.keys, &self.place.file)?
        };
        check_addition(&list, way)?;
        let (frame, listed) = match made {
            Some(made) => made,
            None => way.make(&self.keys, self.clock.wall())?,
        };
        let shown = listed.shown(&self.opened_by());
        let digest = *listed.digest();
        let added = {
            let mut view = self.writable(writer)?;
            self.rewrite_ways(&mut view, list, |list, frames| {
                list.ways.push(listed);
                frames.push(frame);
            })
        };
        if added.is_err()
            && let NewWayIn::Keychain { keychain, .. } = way
            && self.ways().is_ok_and(|list| !list.lists(&digest))
            && let Err(error) = keychain.remove(self.keys.id())
        {
            tracing::warn!(%error, "the OS keychain keeps a key that opens nothing");
        }
        added.map(|()| shown)
    }

    /// Writes the file anew with the ways in as `change` leaves them.
    pub(super) fn rewrite_ways(
        &self,
        view: &mut View,
        mut list: Ways,
        change: impl FnOnce(&mut Ways, &mut Vec<Vec<u8>>),
    ) -> Result<(), StoreError> {
        let mut frames = kept_frames(view, &list);
        change(&mut list, &mut frames);
        let seq = self.next_seq(view);
        let bytes = encoded(&list)?;
        let list = self.sealed(FrameKind::Ways, seq, "", Tag::NONE, &bytes)?;
        self.rewrite(
            view,
            Rewrite { ways: Some(NewWays { ways_in: frames, list, seq }), ..Rewrite::default() },
        )
    }
}

/// The way-in frames that stay: a damaged one for a repair to look at; one that is not listed goes.
fn kept_frames(view: &View, list: &Ways) -> Vec<Vec<u8>> {
    let stays = |found: &FoundWay| !found.whole || list.lists(&ways::digest(&found.frame));
    view::found_ways(view).into_iter().filter(stays).map(|found| found.frame).collect()
}

pub(super) fn encoded(list: &Ways) -> Result<Vec<u8>, StoreError> {
    list.encode()
        .ok_or_else(|| StoreError::Invalid { what: "the list of ways in could not be written".to_owned() })
}

/// Refuses ways in of which one is there twice, and labels that cannot be shown in a line.
pub(super) fn check_distinct(ways: &[NewWayIn]) -> Result<(), StoreError> {
    let mut recipients = Vec::new();
    let mut keychains = 0;
    for way in ways {
        let label = match way {
            NewWayIn::Passphrase { label, .. } => label,
            NewWayIn::Recipient { recipient, label } => {
                let recipient = Recipient::parse(recipient)?.to_string();
                if recipients.contains(&recipient) {
                    return Err(invalid(format!("the recipient {recipient} is given twice")));
                }
                recipients.push(recipient);
                label
            }
            #[cfg(feature = "plugin")]
            NewWayIn::Plugin { label, .. } => label,
            NewWayIn::Keychain { label, .. } => {
                keychains += 1;
                label
            }
        };
        if label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control) {
            return Err(invalid(format!("a label is one line of at most {MAX_LABEL_BYTES} bytes")));
        }
    }
    if keychains > 1 {
        return Err(invalid("the OS keychain keeps one key for a vault, so that it is one way in"));
    }
    Ok(())
}

fn check_addition(list: &Ways, way: &NewWayIn) -> Result<(), StoreError> {
    if list.ways.len() >= MAX_WAYS {
        return Err(invalid(format!("the vault has {MAX_WAYS} ways in, and takes no more: remove one")));
    }
    match way {
        NewWayIn::Passphrase { costs, .. } => {
            check_costs(list.ways.iter().filter_map(ListedWay::costs).chain([*costs]))
        }
        NewWayIn::Recipient { recipient, .. } => {
            let recipient = Recipient::parse(recipient)?.to_string();
            if list.ways.iter().any(|way| way.recipient() == Some(&recipient)) {
                return Err(invalid(format!("{recipient} opens this vault already")));
            }
            Ok(())
        }
        // What a plugin's identity opens cannot be told from outside.
        #[cfg(feature = "plugin")]
        NewWayIn::Plugin { .. } => Ok(()),
        NewWayIn::Keychain { .. } if list.ways.iter().any(|way| way.kind() == WayKind::Keychain) => {
            Err(invalid("the OS keychain holds a key of this vault already"))
        }
        NewWayIn::Keychain { .. } => Ok(()),
    }
}

/// Refuses passphrases that would cost too much together, or are too many.
pub(super) fn check_costs(costs: impl Iterator<Item = Costs>) -> Result<(), StoreError> {
    if Costs::within_ceilings(&costs.collect::<Vec<_>>()) {
        return Ok(());
    }
    Err(invalid(
        "the passphrases would be too many, or cost too much together: at most 4, and 1 GiB, 16 passes and 16 lanes in all",
    ))
}

pub(super) fn invalid(what: impl Into<String>) -> StoreError {
    StoreError::Invalid { what: what.into() }
}

/// The error for a change that others have made impossible meanwhile.
pub(super) fn changed_meanwhile(path: &Path) -> StoreError {
    invalid(format!("the ways into the vault at {} were changed meanwhile: try again", path.display()))
}
