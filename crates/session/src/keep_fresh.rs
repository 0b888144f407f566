//! Renewing ahead of time, so that no request waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::core::Core;
use crate::renewal::{Decision, Order};
use crate::snapshot::{DEFAULT_MIN_TTL, Snapshot, effective_min_ttl};
use crate::{SessionError, random, thread};

/// How often the clock and the store are looked at. After a suspend this is also how soon a token that has expired
/// meanwhile is renewed: the machine's timers stand still, boot time does not.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A token is renewed when this part of its lifetime is left: drawn anew for each token and in each process, so that one
/// of many is the first and the others find its token in the store.
const LEFT: (f64, f64) = (0.2, 0.3);

/// No token is renewed ahead of time sooner than this after it came, however short the life that the issuer gave it.
const AT_LEAST: Duration = Duration::from_secs(5);

/// Keeps a session's access token fresh for as long as this lives. A renewal that is under way when it is dropped goes on
/// to its end.
#[derive(Debug)]
#[must_use = "the session is kept fresh until this is dropped"]
pub struct KeepFresh {
    task: AbortHandle,
}

impl Drop for KeepFresh {
    fn drop(&mut self) {
        // It only waits and looks. The renewal itself is another task.
        self.task.abort();
    }
}

impl KeepFresh {
    pub(crate) fn start(core: Arc<Core>) -> Result<Self, SessionError> {
        Ok(Self { task: thread::spawn(core.keep_fresh())? })
    }
}

/// When the token of one attempt is to be renewed.
struct Due {
    attempt: u64,
    left: f64,
}

impl Due {
    fn of(attempt: u64) -> Self {
        Self { attempt, left: LEFT.0 + (LEFT.1 - LEFT.0) * random::fraction() }
    }

    /// What should be left of `token`'s life; `None` if nobody knows how long it lives.
    fn reserve(&self, token: &Snapshot) -> Option<Duration> {
        let lifetime = token.lifetime()?;
        // Earlier than a request would insist on a new one, by the time that a look and a renewal take.
        let asked = effective_min_ttl(DEFAULT_MIN_TTL, Some(lifetime)).mul_f64(1.2) + 2 * LOOK_EVERY;
        Some(lifetime.mul_f64(self.left).max(asked).min(lifetime.mul_f64(0.8)))
    }
}

impl Core {
    async fn keep_fresh(self: Arc<Self>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Due::of(0);
        let mut told = None;
        loop {
            looks.tick().await;
            let code = match self.renew_if_due(&mut due).await {
                Ok(()) => None,
                Err(error @ SessionError::Replaced) => {
                    tracing::info!(code = error.code(), "no longer kept fresh: the session is another's now");
                    return;
                }
                Err(error) => Some((error.code(), error)),
            };
            if let Some((code, error)) = code.as_ref().filter(|(code, _)| told != Some(*code)) {
                // Once for each reason, not once for each look.
                tracing::warn!(code, %error, "the session cannot be renewed ahead of time now");
            }
            told = code.map(|(code, _)| code);
        }
    }

    /// One look at the store, which also tells this process's subscribers what others did, and a renewal if it is time.
    async fn renew_if_due(self: &Arc<Self>, due: &mut Due) -> Result<(), SessionError> {
        let known = self.reload_own().await?;
        let note = self.heed_note(&known).await?;
        let Some(record) = &known.record else { return Ok(()) };
        let about = note.as_ref().filter(|note| note.is_about(record));
        let token = self.usable(&Order::default(), record, about);
        let order = match &token {
            None => Order::default(),
            Some(token) => {
                if due.attempt != token.attempt {
                    *due = Due::of(token.attempt);
                }
                let Some(reserve) = due.reserve(token) else { return Ok(()) };
                if self.clock.boot().saturating_sub(token.received) < AT_LEAST {
                    return Ok(());
                }
                Order { min_ttl: reserve, ahead: true, ..Order::default() }
            }
        };
        match self.decide(&order, &known, note.as_ref())? {
            Decision::Renew => Arc::clone(self).renew_joined(order).await.map(drop),
            // A person is needed, which `status` and the events say; or the next attempt has its time.
            Decision::Good(_) | Decision::Login(_) | Decision::NotDue(_) => Ok(()),
        }
    }
}
