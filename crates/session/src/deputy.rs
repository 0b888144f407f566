//! Renewals that outlive whoever asked: another process, started for one of them, does the exchange under the lease that
//! is handed to it, and reports what became of it.
//!
//! Both ends are the same program, so that the format of orders and reports is no contract.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokenkeep_auth0::TokenErrorKind;
use tokenkeep_secret::Secret;
use tokenkeep_store::{HandedLease, Lease, Revision, SecretStore, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::core::Core;
use crate::error::Failure;
use crate::events::Event;
use crate::fingerprint::Fingerprint;
use crate::moment::{unix_ms, whole_ms};
use crate::renewal::{Decision, Order, failed, holder};
use crate::session::Session;
use crate::{SessionError, codec};

/// How long a report is waited for. A deputy ends by itself before that, so whoever is silent for so long is stopped.
const SILENCE: Duration = Duration::from_secs(115);

/// How long after it was told a deputy may still begin to ask the issuer: an exchange and the first tries to store what it
/// brings must fit into what is left of its life. Time that it was stopped counts.
const MAY_BEGIN: Duration = Duration::from_secs(45);

/// Starts other processes for renewals, so that a renewal outlives this one.
///
/// For programs that may be killed at any moment and can start themselves again, as the `tokenkeep` command does.
pub trait Deputy: fmt::Debug + Send + Sync + 'static {
    /// Starts a process, gives it `order` and `lease`, keeps no copy of the lease's descriptor, and returns once that
    /// process has ended. There [`Session::act_for`] does the renewal; what it reports is given to `heard`, here.
    ///
    /// It is called on a thread that may block, and by one renewal at a time.
    ///
    /// # Errors
    ///
    /// The lease, if no process was started that could have begun: then the renewal is done here.
    fn renew(
        &self,
        order: &Secret,
        lease: HandedLease,
        heard: &mut dyn FnMut(Secret),
    ) -> Result<(), HandedLease>;

    /// Called before this process does a renewal itself after all, in the middle of which it should not be ended.
    fn stays(&self) {}
}

/// What a deputy is to do.
#[derive(Serialize, Deserialize)]
struct Handed {
    session: String,
    order: Order,
    /// The access tokens that an API has rejected, as far as the asker knows.
    rejected: Vec<Fingerprint>,
}

/// What a deputy says.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// It is over, and this is what is stored.
    Done { revision: Option<u64> },
    /// The issuer was asked, and none of its tokens can be used.
    Failed(Box<ReportedFailure>),
    /// Somebody has to sign in; the store says why.
    LoginRequired,
    /// Another identity has signed in.
    Replaced,
    /// The new tokens are in the deputy's memory, and it goes on trying to store them.
    NotSaved(Unstored),
    /// Something that the asker finds out with better words when it tries itself. Nothing was lost.
    TryYourself,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReportedFailure {
    kind: String,
    status: Option<u16>,
    error: Option<String>,
    description: Option<String>,
    retry_at_ms: Option<u64>,
    attempt: u64,
    outcome_unknown: bool,
}

/// What a renewal can fail of.
const KINDS: [TokenErrorKind; 10] = [
    TokenErrorKind::AccessDenied,
    TokenErrorKind::Configuration,
    TokenErrorKind::ExpiredCode,
    TokenErrorKind::InvalidGrant,
    TokenErrorKind::MfaRequired,
    TokenErrorKind::Protocol,
    TokenErrorKind::RateLimited,
    TokenErrorKind::Rejected,
    TokenErrorKind::Unavailable,
    TokenErrorKind::Unsupported,
];

/// Why a store does not take new tokens.
#[derive(Debug, Serialize, Deserialize)]
enum Unstored {
    Full { path: Option<PathBuf> },
    NotWritable { path: PathBuf, reason: String },
    Missing { path: PathBuf },
    Io { path: PathBuf, text: String },
    WriterBusy { ms: u64 },
    Other { text: String },
}

/// What became of a renewal that was handed over.
pub(crate) enum Deputized {
    Over(Result<(), SessionError>),
    /// No process was started; the lease is here.
    Back(Lease),
    /// The process is gone without a word, or cannot say what it met; so is the lease.
    Gone,
}

impl Core {
    /// Whether a renewal for `order` would ask the issuer, by what is stored now.
    pub(crate) async fn is_due(&self, order: &Order) -> Result<bool, SessionError> {
        let known = self.reload().await?;
        if known.record.as_ref().is_some_and(|record| record.pending.is_some()) {
            return Ok(true);
        }
        let note = self.note().await?;
        Ok(matches!(self.decide(order, &known, note.as_ref())?, Decision::Renew))
    }

    /// Hands `order` and `lease` to `deputy`, and waits for its report.
    pub(crate) async fn deputize(
        self: &Arc<Self>,
        deputy: &Arc<dyn Deputy>,
        lease: Lease,
        order: &Order,
        early: &watch::Sender<Option<Result<(), SessionError>>>,
    ) -> Result<Deputized, SessionError> {
        let rejected = self.shared().rejected.iter().cloned().collect();
        let handed = Handed { session: self.name.clone(), order: order.clone(), rejected };
        let Some(message) = codec::encode(&handed) else { return Ok(Deputized::Back(lease)) };
        let message = Secret::from(&message[..]);
        let before = self.known_attempt().unwrap_or(0);
        let handed = match lease.hand_over() {
            Ok(handed) => handed,
            Err(error) => {
                tracing::debug!(%error, "a renewal cannot be handed to another process");
                return Ok(Deputized::Back(lease));
            }
        };
        // What was handed over holds it from now on.
        drop(lease);
        let lease = handed;
        let (send, mut reports) = mpsc::unbounded_channel();
        let deputy = Arc::clone(deputy);
        let work = tokio::task::spawn_blocking(move || {
            // Nobody listens any more once the last report was heard.
            deputy.renew(&message, lease, &mut |report| drop(send.send(report)))
        });
        let mut silent = Instant::now() + SILENCE;
        loop {
            match timeout_at(silent, reports.recv()).await {
                Ok(Some(report)) => match codec::decode::<Report>(report.expose()) {
                    Some(Report::NotSaved(why)) => {
                        let source = Arc::new(why.into_error());
                        {
                            let mut shared = self.shared();
                            shared.unsaved = Some(Arc::clone(&source));
                            shared.unsaved_after = Some(before);
                        }
                        // It goes on for as long as that lasts.
                        silent = Instant::now() + SILENCE;
                        early.send_replace(Some(Err(SessionError::NotSaved { source })));
                    }
                    report => {
                        let report = report.unwrap_or(Report::TryYourself);
                        // Every other word means that what it got is stored, or of no use any more.
                        if !matches!(report, Report::TryYourself) {
                            self.shared().unsaved = None;
                        }
                        return self.heed(report, order, before).await;
                    }
                },
                Ok(None) => break,
                Err(_) => {
                    let note = self.note().await?;
                    return Ok(Deputized::Over(Err(SessionError::Busy(holder(note.as_ref(), SILENCE)))));
                }
            }
        }
        // What it had in memory is gone with it: it stays unsaved until a later attempt is stored.
        let Ok(Err(lease)) = work.await else {
            tracing::warn!("the process that was to renew the session has ended without a report");
            return Ok(Deputized::Gone);
        };
        tracing::debug!("no other process could be started; renewing in this one");
        Ok(match self.store.receive_lease(&self.key, lease).await {
            Ok(lease) => Deputized::Back(lease),
            Err(_) => Deputized::Gone,
        })
    }

    /// What a last report means here.
    async fn heed(&self, report: Report, order: &Order, before: u64) -> Result<Deputized, SessionError> {
        Ok(Deputized::Over(match report {
            Report::Done { revision } => {
                let known = self.reload().await?;
                tracing::debug!(
                    revision,
                    stored = known.revision.map(Revision::get),
                    "renewed by another process"
                );
                // The issuer insists on a token that was rejected: that is the API's last word now.
                let new = known.record.iter().flat_map(|record| &record.access);
                new.filter(|access| access.attempt > before)
                    .for_each(|access| self.accept(&Fingerprint::of(&access.token)));
                Ok(())
            }
            Report::Failed(failure) => {
                let failure = failure.into_failure();
                // The note tells of tokens that were rejected.
                let known = self.reload().await?;
                self.heed_note(&known).await?;
                let _ = self.events.send(Event::Failed { failure: failure.clone() });
                Err(failed(failure))
            }
            Report::LoginRequired => {
                let known = self.reload().await?;
                match self.decide(order, &known, None)? {
                    Decision::Login(reason) => Err(SessionError::LoginRequired(reason)),
                    // Somebody has signed in since.
                    _ => Ok(()),
                }
            }
            Report::Replaced => Err(SessionError::Replaced),
            Report::NotSaved(_) | Report::TryYourself => return Ok(Deputized::Gone),
        }))
    }
}

impl Session {
    /// Does a renewal that a [`Deputy`] has handed over, in the process that it has started for that. Nothing is sent
    /// unless `lease` holds. What is to be told to the asker is given to `report`: the outcome last, before it that new
    /// tokens cannot be stored yet.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`] for an order that cannot be read, and if the lease does not hold: then nothing was done.
    /// What becomes of the renewal is a report.
    pub async fn act_for(
        store: Arc<dyn SecretStore>,
        order: &Secret,
        lease: HandedLease,
        mut report: impl FnMut(Secret),
    ) -> Result<(), SessionError> {
        let begin_until = Instant::now() + MAY_BEGIN;
        let Some(handed) = codec::decode::<Handed>(order.expose()) else {
            return Err(StoreError::Invalid {
                what: "what was handed over is no order of this version".into(),
            }
            .into());
        };
        let mut core = Self::builder(store, &handed.session).build().await?.into_core();
        if let Some(core) = Arc::get_mut(&mut core) {
            core.begin_until = Some(begin_until);
        }
        handed.rejected.into_iter().for_each(|token| core.reject(token));
        let lease = core.store.receive_lease(&core.key, lease).await?;
        let (early, mut unsaved) = watch::channel(None);
        let mut tell = |said: &Report| {
            if let Some(said) = codec::encode(said) {
                report(Secret::from(&said[..]));
            }
        };
        let outcome = {
            let renewing = core.renew_under(&lease, &handed.order, &early);
            tokio::pin!(renewing);
            loop {
                tokio::select! {
                    outcome = &mut renewing => break outcome,
                    Ok(()) = unsaved.changed() => {
                        let now = unsaved.borrow_and_update().clone();
                        if let Some(Err(SessionError::NotSaved { source })) = now {
                            tell(&Report::NotSaved(Unstored::of(&source)));
                        }
                    }
                }
            }
        };
        if let Err(error) = lease.release().await {
            tracing::debug!(%error, "the lease ends with this process instead");
        }
        let known = core.shared().known.clone();
        tell(&Report::of(outcome, known.and_then(|known| known.revision)));
        Ok(())
    }
}

impl Report {
    fn of(outcome: Result<(), SessionError>, revision: Option<Revision>) -> Self {
        match outcome {
            Ok(()) => Self::Done { revision: revision.map(Revision::get) },
            Err(SessionError::RenewalFailed(failure)) => Self::Failed(Box::new(ReportedFailure::of(failure))),
            Err(SessionError::LoginRequired(crate::LoginReason::MfaRequired(failure))) => {
                Self::Failed(Box::new(ReportedFailure::of(*failure)))
            }
            Err(SessionError::LoginRequired(_)) => Self::LoginRequired,
            Err(SessionError::Replaced) => Self::Replaced,
            Err(_) => Self::TryYourself,
        }
    }
}

impl ReportedFailure {
    fn of(failure: Failure) -> Self {
        Self {
            kind: failure.kind.code().to_owned(),
            status: failure.status,
            error: failure.error,
            description: failure.description,
            retry_at_ms: failure.retry_at.map(unix_ms),
            attempt: failure.attempt,
            outcome_unknown: failure.outcome_unknown,
        }
    }

    fn into_failure(self) -> Failure {
        Failure {
            kind: KINDS.into_iter().find(|kind| kind.code() == self.kind).unwrap_or(TokenErrorKind::Rejected),
            status: self.status,
            error: self.error,
            description: self.description,
            retry_at: self.retry_at_ms.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
            attempt: self.attempt,
            outcome_unknown: self.outcome_unknown,
        }
    }
}

impl Unstored {
    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Full { path } => Self::Full { path: path.clone() },
            StoreError::NotWritable { path, reason } => {
                Self::NotWritable { path: path.clone(), reason: reason.clone() }
            }
            StoreError::Missing { path } => Self::Missing { path: path.clone() },
            StoreError::Io { path, source, .. } => Self::Io { path: path.clone(), text: source.to_string() },
            StoreError::WriterBusy { waited } => Self::WriterBusy { ms: whole_ms(*waited) },
            StoreError::Unsynced { source } => Self::Other { text: source.to_string() },
            other => Self::Other { text: other.to_string() },
        }
    }

    fn into_error(self) -> StoreError {
        match self {
            Self::Full { path } => StoreError::Full { path },
            Self::NotWritable { path, reason } => StoreError::NotWritable { path, reason },
            Self::Missing { path } => StoreError::Missing { path },
            Self::Io { path, text } => {
                StoreError::Io { doing: "writing", path, source: std::io::Error::other(text) }
            }
            Self::WriterBusy { ms } => StoreError::WriterBusy { waited: Duration::from_millis(ms) },
            Self::Other { text } => StoreError::Unsynced { source: std::io::Error::other(text) },
        }
    }
}
