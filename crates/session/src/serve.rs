//! What a caller sees: a good token, joined renewals, and patience that ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::core::{Core, Flight};
use crate::error::LoginReason;
use crate::renewal::{Decision, Order, failed, is_news};
use crate::snapshot::{AccessToken, Remark, Snapshot};
use crate::{SessionError, thread};

/// How many renewals one call joins before it reports the last one's outcome: each of them ended without what was asked
/// for, such as a longer life.
const JOINS: u32 = 3;

impl Core {
    /// A token for `order`. Runs on the renewal thread.
    ///
    /// Who has a valid token waits for the store and for a renewal at most `patience`, then gets it with a remark.
    pub(crate) async fn serve(self: Arc<Self>, order: Order) -> Result<AccessToken, SessionError> {
        // A token that has been rejected, or that the caller wants replaced, is nothing to fall back on.
        let may_fall_back = order.after.is_none() && order.rejected.is_none();
        let fallback = self.in_memory(&order).filter(|_| may_fall_back);
        let (patience, started) = (self.waits.patience, Instant::now());
        let first = Arc::clone(&self).look(order.clone());
        let looked = match &fallback {
            Some(_) => timeout(patience, first).await,
            None => Ok(first.await),
        };
        let fallback_after_look = match looked {
            Ok(Ok(Look::Good(snapshot))) => return Ok(self.hand_out(snapshot, &order)),
            // The store has answered, so its word counts for what is valid, not what was in memory.
            Ok(Ok(Look::Renew(valid))) => valid.filter(|_| may_fall_back),
            Ok(Ok(Look::Failed(valid, error))) => {
                return valid
                    .filter(|_| may_fall_back)
                    .and_then(|valid| self.fall_back(valid, &error))
                    .ok_or(error);
            }
            Ok(Err(error)) => return fallback.and_then(|valid| self.fall_back(valid, &error)).ok_or(error),
            Err(_) => {
                return Ok(
                    AccessToken::shared(fallback.unwrap_or_else(none)).with_remark(Some(Remark::RenewalSlow))
                );
            }
        };
        let renewing = Arc::clone(&self).renew_joined(order.clone());
        match fallback_after_look {
            None => renewing.await.map(|snapshot| self.hand_out(snapshot, &order)),
            // What the look took is not waited for a second time.
            Some(valid) => match timeout(patience.saturating_sub(started.elapsed()), renewing).await {
                Ok(Ok(snapshot)) => Ok(self.hand_out(snapshot, &order)),
                Ok(Err(error)) => self.fall_back(valid, &error).ok_or(error),
                Err(_) if self.may_serve(&valid) => {
                    Ok(AccessToken::shared(valid).with_remark(Some(Remark::RenewalSlow)))
                }
                Err(_) => Arc::clone(&self)
                    .renew_joined(order.clone())
                    .await
                    .map(|snapshot| self.hand_out(snapshot, &order)),
            },
        }
    }

    /// The valid token that is in memory, whatever the store does.
    fn in_memory(&self, order: &Order) -> Option<Arc<Snapshot>> {
        let known = self.shared().known.clone()?;
        let record = known.record.as_ref()?;
        self.bind(record).ok()?;
        self.usable(order, record, None).filter(|snapshot| snapshot.is_valid(&*self.clock))
    }

    fn hand_out(&self, snapshot: Arc<Snapshot>, order: &Order) -> AccessToken {
        let short = snapshot.remaining(&*self.clock).is_some_and(|remaining| remaining < order.min_ttl);
        AccessToken::shared(snapshot).with_remark(short.then_some(Remark::ShorterThanAsked))
    }

    /// Whether a token that was valid a moment ago still is: meanwhile it may have expired or an API may have rejected it.
    fn may_serve(&self, valid: &Snapshot) -> bool {
        valid.is_valid(&*self.clock) && !self.is_rejected(&valid.fingerprint())
    }

    /// The valid token in place of `error`, unless the error says that it must not be used any more.
    fn fall_back(&self, valid: Arc<Snapshot>, error: &SessionError) -> Option<AccessToken> {
        if !self.may_serve(&valid) {
            return None;
        }
        let remark = match error {
            SessionError::RenewalFailed(failure) => Remark::RenewalFailed(failure.clone()),
            SessionError::LoginRequired(LoginReason::MfaRequired(failure)) => {
                Remark::RenewalFailed((**failure).clone())
            }
            SessionError::LoginRequired(LoginReason::NoRefreshToken) => Remark::ShorterThanAsked,
            SessionError::Busy(_) => Remark::RenewalSlow,
            SessionError::NotSaved { source } | SessionError::Store(source) => {
                Remark::StoreFailed(source.to_string())
            }
            SessionError::System { .. } | SessionError::Settings(_) => Remark::StoreFailed(error.to_string()),
            // Ended, signed out or replaced: what is in memory belongs to the past.
            _ => return None,
        };
        Some(AccessToken::shared(valid).with_remark(Some(remark)))
    }

    async fn look(self: Arc<Self>, order: Order) -> Result<Look, SessionError> {
        let known = self.reload().await?;
        let note = self.heed_note(&known).await?;
        let decision = self.decide(&order, &known, note.as_ref())?;
        let valid = known.record.as_ref().and_then(|record| {
            let note = note.as_ref().filter(|note| note.is_about(record));
            self.usable(&order, record, note).filter(|snapshot| snapshot.is_valid(&*self.clock))
        });
        Ok(match decision {
            Decision::Good(snapshot) => Look::Good(snapshot),
            Decision::Login(reason) => Look::Failed(valid, SessionError::LoginRequired(reason)),
            // Under the lease it is told to the others.
            Decision::NotDue(_)
                if known.record.as_ref().is_some_and(|record| is_news(&order, record, note.as_ref())) =>
            {
                Look::Renew(None)
            }
            Decision::NotDue(failure) => Look::Failed(valid, failed(failure)),
            Decision::Renew => Look::Renew(valid),
        })
    }

    /// Joins the renewal under way in this process, or starts one, until one of them gives what was asked for.
    pub(crate) async fn renew_joined(self: Arc<Self>, order: Order) -> Result<Arc<Snapshot>, SessionError> {
        let before = self.known_attempt();
        let mut joined = 0;
        while joined < JOINS {
            let (flight, own) = self.join_or_start(&order)?;
            let outcome = finished(flight.outcome).await;
            // One with other wishes does not answer this call, whatever became of it, and is not one of its own; but
            // while a token set is not saved, nothing else can be renewed.
            let answered = own || flight.order.answers(&order);
            if answered || matches!(outcome, Err(SessionError::NotSaved { .. })) {
                outcome?;
                joined += 1;
            } else if !order.parameters.is_empty() {
                continue;
            }
            // Its own parameters have been sent by now.
            let sent = Order { parameters: Vec::new(), ..order.clone() };
            let known = self.reload().await?;
            let note = self.note().await?;
            // What has just come is the issuer's newest word: asking again would bring no longer life, only a rotation.
            let newest = match &known.record {
                Some(record) => {
                    self.bind(record)?;
                    self.usable(&sent, record, note.as_ref())
                }
                None => None,
            };
            if let Some(newest) =
                newest.filter(|newest| answered && before.is_some_and(|before| newest.attempt > before))
            {
                return Ok(newest);
            }
            match self.decide(&sent, &known, note.as_ref())? {
                Decision::Good(snapshot) => return Ok(snapshot),
                Decision::Login(reason) => return Err(SessionError::LoginRequired(reason)),
                Decision::NotDue(failure) => return Err(failed(failure)),
                Decision::Renew => {}
            }
        }
        self.reload().await?;
        // Who asked for a new one is not told that an old one is it.
        self.in_memory(&order)
            .filter(|newest| order.after.is_none_or(|after| newest.attempt > after))
            .ok_or(SessionError::Busy(crate::renewal::holder(None, Duration::ZERO)))
    }

    fn join_or_start(self: &Arc<Self>, order: &Order) -> Result<(Flight, bool), SessionError> {
        let mut shared = self.shared();
        // A flight whose task is gone without clearing it must not ground all others.
        if let Some(flight) = shared.flight.as_ref().filter(|flight| flight.outcome.has_changed().is_ok()) {
            return Ok((flight.clone(), false));
        }
        let (sender, outcome) = watch::channel(None);
        let flight = Flight { order: order.clone(), outcome };
        let (core, order) = (Arc::clone(self), order.clone());
        thread::spawn(async move {
            let outcome = core.renew_once(&order, &sender).await;
            // First out of the way, then the answer: who asks from now on starts anew.
            core.shared().flight = None;
            sender.send_replace(Some(outcome));
        })?;
        shared.flight = Some(flight.clone());
        Ok((flight, true))
    }
}

/// What one look at the store says.
enum Look {
    Good(Arc<Snapshot>),
    /// A renewal is due; the token that is still valid, if there is one.
    Renew(Option<Arc<Snapshot>>),
    Failed(Option<Arc<Snapshot>>, SessionError),
}

impl Order {
    /// Whether the outcome of a renewal for this order stands for `other` too.
    fn answers(&self, other: &Self) -> bool {
        self.parameters == other.parameters && self.audience == other.audience && self.scope == other.scope
    }
}

fn none() -> Arc<Snapshot> {
    Arc::new(Snapshot::none())
}

pub(crate) async fn finished(
    mut outcome: watch::Receiver<Option<Result<(), SessionError>>>,
) -> Result<(), SessionError> {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
        // Its task is gone without a word; the caller looks at the store itself.
        Err(_) => Ok(()),
    }
}
