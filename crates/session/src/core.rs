//! What all handles of one session in this process share: what is known of the store, and what is judged from it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokenkeep_auth0::TokenClient;
use tokenkeep_clock::Clock;
use tokenkeep_store::{Key, Revision, SecretStore, StoreError};
use tokio::sync::{broadcast, watch};

use crate::SessionError;
use crate::deputy::Deputy;
use crate::events::Event;
use crate::fingerprint::Fingerprint;
use crate::moment::whole_ms;
use crate::note::RenewalNote;
use crate::record::{EndReason, Identity, Record};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::thread;

/// Every session's key begins with this, so that other things can be kept in the same store.
pub(crate) const KEY_PREFIX: &str = "session/";

/// How often a warm session looks whether another process has changed it.
const CHECK_EVERY: Duration = Duration::from_millis(900);

/// Rejected access tokens that are remembered.
const REJECTED: usize = 16;

/// How long callers wait, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// What a caller with a valid token waits for anything.
    pub patience: Duration,
    /// What a caller without one waits for another process's lease.
    pub lease: Duration,
}

pub(crate) struct Core {
    pub store: Arc<dyn SecretStore>,
    pub key: Key,
    pub name: String,
    pub clock: Arc<dyn Clock>,
    pub waits: Waits,
    /// Who starts other processes for renewals, if they are not to end with this one.
    pub deputy: Option<Arc<dyn Deputy>>,
    /// Until when the issuer may be asked, in a process whose life is short.
    pub begin_until: Option<tokio::time::Instant>,
    /// The sign-in's own access token, for the warm path.
    pub snapshot: ArcSwap<Snapshot>,
    pub events: broadcast::Sender<Event>,
    /// Boot time in milliseconds from which the next look at the store is due.
    next_check: AtomicU64,
    shared: Mutex<Shared>,
}

/// Never locked across an await.
#[derive(Default)]
pub(crate) struct Shared {
    pub known: Option<Arc<Known>>,
    /// What this handle is bound to; another identity under the name makes it answer `Replaced`.
    pub identity: Option<Identity>,
    pub flight: Option<Flight>,
    /// The renewals that this very process does, and that must not be left alone.
    pub renewing_here: usize,
    /// The process is ending: no renewal begins in it any more.
    pub leaving: bool,
    /// The token set that is in memory because the store does not take it.
    pub unsaved: Option<Arc<StoreError>>,
    /// If that is in another process's memory: the attempt that was stored before it. A later one has saved the session.
    pub unsaved_after: Option<u64>,
    /// Counts looks at the store and what is learned from them, in their order.
    ticks: u64,
    /// Since when what is known is so: a look that began before it is out of date.
    known_at: u64,
    /// Writes of the entry by a renewal that are under way.
    writes: u32,
    pub rejected: VecDeque<Fingerprint>,
    client: Option<(String, TokenClient)>,
}

/// A renewal under way in this process.
#[derive(Clone)]
pub(crate) struct Flight {
    pub order: crate::renewal::Order,
    pub outcome: watch::Receiver<Option<Result<(), SessionError>>>,
}

/// The session as it was read from the store.
pub(crate) struct Known {
    /// `None`: the store has no such session.
    pub record: Option<Record>,
    pub revision: Option<Revision>,
}

/// A renewal's write of the entry that is under way.
#[must_use]
pub(crate) struct Writing<'a> {
    core: &'a Core,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.core.shared().writes -= 1;
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(
        store: Arc<dyn SecretStore>,
        name: String,
        clock: Arc<dyn Clock>,
        waits: Waits,
    ) -> Result<Self, StoreError> {
        let key = Key::new(format!("{KEY_PREFIX}{name}"))?;
        let (events, _) = broadcast::channel(64);
        Ok(Self {
            store,
            key,
            name,
            clock,
            waits,
            deputy: None,
            begin_until: None,
            snapshot: ArcSwap::from_pointee(Snapshot::none()),
            events,
            next_check: AtomicU64::new(0),
            shared: Mutex::new(Shared::default()),
        })
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        // Nothing in a critical section can leave it half done, so a panic elsewhere does not matter here.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempt that brought what is known.
    pub(crate) fn known_attempt(&self) -> Option<u64> {
        self.shared().known.as_ref().and_then(|known| known.record.as_ref().map(|record| record.attempt))
    }

    /// What the store has now. Reads the entry only if its revision is another than the known one.
    ///
    /// While a renewal of this process writes the entry, what was known before: a store may show what is not durable yet.
    pub(crate) async fn reload(&self) -> Result<Arc<Known>, SessionError> {
        let begun = {
            let mut shared = self.shared();
            if let Some(known) = shared.known.clone().filter(|_| shared.writes > 0) {
                return Ok(known);
            }
            shared.tick()
        };
        let revision = self.store.revision(&self.key).await?;
        let known = self.shared().known.clone();
        if let Some(known) = known.filter(|known| known.revision == revision) {
            return Ok(known);
        }
        let entry = self.store.get(&self.key).await?;
        let known = match &entry {
            Some(entry) => {
                Known { record: Some(Record::decode(&entry.value)?), revision: Some(entry.revision) }
            }
            None => Known { record: None, revision: None },
        };
        Ok(self.publish_read(known, begun))
    }

    /// To be kept while a renewal writes the entry.
    pub(crate) fn writing(&self) -> Writing<'_> {
        let mut shared = self.shared();
        shared.writes += 1;
        // Who began to read before may see what is not durable yet.
        shared.known_at = shared.tick();
        Writing { core: self }
    }

    /// Why a token set is not stored, unless by now one is. Once the process that had it in memory is gone, it is lost.
    pub(crate) async fn still_unsaved(&self) -> Option<Arc<StoreError>> {
        let (unsaved, after) = {
            let shared = self.shared();
            (shared.unsaved.clone()?, shared.unsaved_after)
        };
        if let Some(after) = after
            && let Ok(known) = self.reload().await
            && known.record.as_ref().is_some_and(|record| record.attempt > after)
        {
            self.shared().unsaved = None;
            return None;
        }
        Some(unsaved)
    }

    /// The same, and `Replaced` if it is another identity's by now.
    pub(crate) async fn reload_own(&self) -> Result<Arc<Known>, SessionError> {
        let known = self.reload().await?;
        if let Some(record) = &known.record {
            self.bind(record)?;
        }
        Ok(known)
    }

    /// The same for who is about to replace it: what is damaged counts as not there, since signing in again is how one mends
    /// it.
    pub(crate) async fn reload_to_replace(&self) -> Result<Arc<Known>, SessionError> {
        match self.reload().await {
            Err(SessionError::Store(error)) if matches!(*error, StoreError::Corrupt { .. }) => {
                let revision = self.store.revision(&self.key).await.unwrap_or(None);
                Ok(Arc::new(Known { record: None, revision }))
            }
            other => other,
        }
    }

    /// The note beside the entry, if there is one that can be read.
    pub(crate) async fn note(&self) -> Result<Option<RenewalNote>, SessionError> {
        let note = self.store.note(&self.key).await?;
        Ok(note.as_ref().and_then(RenewalNote::decode))
    }

    /// The note, and with it what other processes know of rejected tokens.
    pub(crate) async fn heed_note(&self, known: &Known) -> Result<Option<RenewalNote>, SessionError> {
        let note = self.note().await?;
        let about = note.as_ref().zip(known.record.as_ref()).filter(|(note, record)| note.is_about(record));
        for rejected in about.iter().flat_map(|(note, _)| &note.rejected) {
            self.reject(rejected.clone());
        }
        Ok(note)
    }

    /// Makes what was just written visible, unless something later than that was read meanwhile.
    pub(crate) fn publish(&self, written: Known) -> Arc<Known> {
        let mut shared = self.shared();
        let later = shared.known.clone().filter(|known| known.revision > written.revision);
        let now = shared.tick();
        drop(shared);
        later.unwrap_or_else(|| self.publish_read(written, now))
    }

    /// Makes visible what a look that began at this tick has found: the snapshot, and the events that follow from the
    /// difference. Not by revisions: where an older copy of the store was put in its place, they go back.
    fn publish_read(&self, known: Known, begun: u64) -> Arc<Known> {
        let known = Arc::new(known);
        let snapshot = match known.record.as_ref().and_then(|record| record.access_for(None, None)) {
            Some(access) => access.snapshot(&*self.clock),
            None => Arc::new(Snapshot::none()),
        };
        let mut shared = self.shared();
        // A slower reader must not bring back what a faster one has replaced, or has seen removed.
        if let Some(newer) = shared.known.clone().filter(|_| begun < shared.known_at) {
            return newer;
        }
        shared.known_at = begun;
        let usable = !snapshot.token.is_empty()
            && !shared.rejected.contains(&snapshot.fingerprint())
            && shared.agrees(known.record.as_ref());
        self.snapshot.store(if usable { snapshot } else { Arc::new(Snapshot::none()) });
        let before = shared.known.replace(Arc::clone(&known));
        drop(shared);
        if let Some(before) = before {
            self.announce(&before, &known);
        }
        known
    }

    fn announce(&self, before: &Known, now: &Known) {
        if before.revision == now.revision {
            return;
        }
        let event = match (&before.record, &now.record) {
            (_, Some(record)) if record.end().is_some() => {
                let was_ended = before.record.as_ref().is_some_and(|record| record.end().is_some());
                match record.end() {
                    Some(_) if was_ended => None,
                    Some(end) if end.reason == EndReason::SignedOut => Some(Event::SignedOut {}),
                    Some(end) => Some(Event::LoginRequired { end: Box::new(end) }),
                    None => None,
                }
            }
            (Some(old), Some(new)) if old.sign_in == new.sign_in => {
                // Not by the attempt alone: one that was refused, or cannot be judged yet, brings nothing to use.
                let newest = |record: &'_ Record| record.access.iter().map(|access| access.attempt).max();
                let access = new.access.iter().max_by_key(|access| access.attempt);
                access
                    .filter(|access| newest(old) < Some(access.attempt))
                    .map(|access| Event::Renewed { attempt: access.attempt, expires_at: access.expires_at() })
            }
            (_, Some(_)) => Some(Event::SignedIn {}),
            (Some(_), None) => Some(Event::SignedOut {}),
            (None, None) => None,
        };
        if let Some(event) = event {
            // An error only says that nobody listens.
            let _ = self.events.send(event);
        }
    }

    /// Hands at most one look at the store a second to the renewal thread; the caller does not wait for it.
    pub(crate) fn check_soon(self: &Arc<Self>, now: Duration) {
        let due = self.next_check.load(Ordering::Relaxed);
        let now = whole_ms(now);
        if now < due {
            return;
        }
        let next = now.saturating_add(whole_ms(CHECK_EVERY));
        if self.next_check.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let core = Arc::clone(self);
        let _ = thread::spawn(async move {
            let looked = async { core.heed_note(&*core.reload().await?).await };
            if let Err(error) = looked.await {
                tracing::warn!(
                    code = error.code(),
                    "the store cannot be read; the token in memory stays in use"
                );
            }
            // The warm path reads boot time alone; a wall clock that was set forward is noticed here.
            let _nobody_publishes = core.shared();
            if !core.snapshot.load().is_valid(&*core.clock) {
                core.snapshot.store(Arc::new(Snapshot::none()));
            }
        });
    }

    /// From now on `token` is never served again by this process.
    pub(crate) fn reject(&self, token: Fingerprint) {
        let mut shared = self.shared();
        if shared.rejected.contains(&token) {
            return;
        }
        if self.snapshot.load().fingerprint() == token {
            self.snapshot.store(Arc::new(Snapshot::none()));
        }
        shared.rejected.push_back(token);
        if shared.rejected.len() > REJECTED {
            shared.rejected.pop_front();
        }
    }

    /// The issuer has given `token` once more, so that an API's rejection of it is that API's last word.
    pub(crate) fn accept(&self, token: &Fingerprint) {
        self.shared().rejected.retain(|rejected| rejected != token);
    }

    /// Whether `token` is stored and was itself got, less than `young` ago, because of a rejection.
    pub(crate) fn is_fresh_after_rejection(&self, token: &Fingerprint, young: Duration) -> bool {
        let known = self.shared().known.clone();
        known.as_ref().and_then(|known| known.record.as_ref()).is_some_and(|record| {
            record.access.iter().any(|access| {
                access.after_rejection
                    && access.born.elapsed(&*self.clock).is_some_and(|age| age < young)
                    && Fingerprint::of(&access.token) == *token
            })
        })
    }

    pub(crate) fn is_rejected(&self, token: &Fingerprint) -> bool {
        self.shared().rejected.contains(token)
    }

    /// The token client of the stored settings, made once on the renewal thread, so that its connections live there.
    pub(crate) fn client(&self, record: &Record) -> Result<TokenClient, SessionError> {
        let known = self.shared().client.clone();
        if let Some((sign_in, client)) = known.filter(|(sign_in, _)| *sign_in == record.sign_in) {
            drop(sign_in);
            return Ok(client);
        }
        let client = record.settings.to_settings().client(Arc::clone(&self.clock))?;
        if let Some(issuer) = &record.issuer {
            client.prime(issuer.clone());
        }
        self.shared().client = Some((record.sign_in.clone(), client.clone()));
        Ok(client)
    }

    /// Binds the handle to the identity of `record` if it is not bound yet.
    pub(crate) fn bind(&self, record: &Record) -> Result<(), SessionError> {
        let mut shared = self.shared();
        if !shared.agrees(Some(record)) {
            return Err(SessionError::Replaced);
        }
        let identity = record.identity();
        if shared.identity.as_ref().is_none_or(|bound| bound.subject.is_none()) {
            shared.identity = Some(identity);
        }
        Ok(())
    }

    /// Audience and scope of the sign-in itself, as they were read last.
    pub(crate) fn own_wishes(&self) -> Option<(Option<String>, String)> {
        let known = self.shared().known.clone()?;
        let settings = &known.record.as_ref()?.settings;
        Some((settings.audience.clone(), settings.scope.clone()))
    }

    /// The settings of the last sign-in.
    pub(crate) async fn settings(&self) -> Result<Option<Settings>, SessionError> {
        Ok(self.reload().await?.record.as_ref().map(|record| record.settings.to_settings()))
    }
}

impl Shared {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    fn agrees(&self, record: Option<&Record>) -> bool {
        match (&self.identity, record) {
            (Some(bound), Some(record)) => bound.agrees_with(&record.identity()),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;
    use crate::settings::StoredSettings;
    use std::time::UNIX_EPOCH;
    use tokenkeep_clock::ManualClock;
    use tokenkeep_store::MemoryStore;

    #[test]
    fn a_slow_reader_brings_back_nothing_that_was_removed() {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let waits = Waits { patience: Duration::ZERO, lease: Duration::ZERO };
        let (store, shared) = (Arc::new(MemoryStore::new()), Arc::new(clock.clone()));
        let core = Core::new(store, "default".to_owned(), shared, waits).unwrap();
        let settings = StoredSettings {
            issuer: "https://issuer.example/".into(),
            client_id: "client".into(),
            client_auth: "none".into(),
            client_secret: None,
            audience: None,
            scope: "openid".into(),
            flow: "device".into(),
            realm: None,
            username: None,
            parameters: Vec::new(),
            ca_file: None,
            overlap_ms: None,
        };
        let record = || Some(Record::new("sign-in".into(), settings.clone(), Moment::now(&clock)));
        let revision = |number| Some(Revision::new(number));
        let tick = || core.shared().tick();
        core.publish(Known { record: record(), revision: revision(2) });
        let slow = tick();
        core.publish_read(Known { record: None, revision: None }, tick());
        let known = core.publish_read(Known { record: record(), revision: revision(1) }, slow);
        assert!(known.record.is_none(), "a look that began before it was seen to be removed");
        let known = core.publish_read(Known { record: record(), revision: revision(3) }, tick());
        assert_eq!(known.revision, revision(3));
        let known = core.publish(Known { record: record(), revision: revision(2) });
        assert_eq!(known.revision, revision(3), "what was written has been replaced already");
        let known = core.publish_read(Known { record: record(), revision: revision(1) }, tick());
        assert_eq!(known.revision, revision(1), "an older copy of the store was put in its place");
        let early = tick();
        drop(core.writing());
        let known = core.publish_read(Known { record: record(), revision: revision(4) }, early);
        assert_eq!(known.revision, revision(1), "it may have seen what was not durable yet");
    }
}
