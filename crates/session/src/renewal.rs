//! The renewal protocol: one exchange of a session's refresh token at a time, across every process that shares the store.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokenkeep_auth0::{
    Answer, ClientCredentials, RefreshRequest, SignInRequest, TokenClient, TokenError, TokenErrorKind,
};
use tokenkeep_secret::SecretString;
use tokenkeep_store::{Lease, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::SessionError;
use crate::core::{Core, Known};
use crate::deputy::Deputized;
use crate::error::{Failure, Holder, LoginReason};
use crate::events::Event;
use crate::fingerprint::Fingerprint;
use crate::host::Actor;
use crate::moment::Moment;
use crate::note::{Phase, RenewalNote};
use crate::random;
use crate::record::{EndReason, Record, State, StoredEnd};
use crate::settle::Exchange;
use crate::snapshot::{DEFAULT_MIN_TTL, Snapshot, effective_min_ttl};

/// After an exchange that was cut off, no second rotation starts for this long: the first request may still arrive, and
/// an issuer forgives only the token before the last.
const HOLD: Duration = Duration::from_secs(30);

/// How often a final answer is checked against a store that has moved on.
const ROUNDS: u32 = 3;

/// The first and the longest pause between two looks at a lease that another holds.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// What a caller wants of the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// How long the token should be alive.
    pub min_ttl: Duration,
    /// Renewed ahead of time: `min_ttl` is meant, however short the life that the token was born with.
    pub ahead: bool,
    /// A forced renewal: only a token set of a later attempt will do.
    pub after: Option<u64>,
    /// Asked for by a person or a program, so that the backoff is skipped.
    pub explicit: bool,
    /// The access token an API has rejected.
    pub rejected: Option<Fingerprint>,
    /// Further parameters of the refresh request.
    pub parameters: Vec<(String, String)>,
    /// The API, if it is another than the sign-in's.
    pub audience: Option<String>,
    /// The scope, if it is another than the sign-in's.
    pub scope: Option<String>,
}

impl Order {
    /// How long a token must be alive that was born with this lifetime: as long as was asked, or half of it.
    pub(crate) fn insisted_ttl(&self, lifetime: Option<Duration>) -> Duration {
        if self.ahead { self.min_ttl } else { effective_min_ttl(self.min_ttl, lifetime) }
    }

    /// What stands for audience, scope and parameters in a note; `None` for a plain renewal.
    pub(crate) fn wish(&self) -> Option<String> {
        if self.audience.is_none() && self.scope.is_none() && self.parameters.is_empty() {
            return None;
        }
        let mut digest = Sha256::new();
        let fixed = [self.audience.as_deref(), self.scope.as_deref()].map(|text| (text.is_some(), text));
        let parameters = self.parameters.iter().flat_map(|(name, value)| [name.as_str(), value]);
        for (is_there, text) in fixed.into_iter().chain(parameters.map(|text| (true, Some(text)))) {
            let text = text.unwrap_or_default();
            digest.update([u8::from(is_there)]);
            digest.update(text.len().to_le_bytes());
            digest.update(text);
        }
        Some(digest.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Default for Order {
    fn default() -> Self {
        Self {
            min_ttl: DEFAULT_MIN_TTL,
            ahead: false,
            after: None,
            explicit: false,
            rejected: None,
            parameters: Vec::new(),
            audience: None,
            scope: None,
        }
    }
}

/// What to do about an order, judged from what is stored.
pub(crate) enum Decision {
    Good(Arc<Snapshot>),
    Login(LoginReason),
    /// The last attempt failed and the next is not due.
    NotDue(Failure),
    Renew,
}

enum Waited {
    Taken(Lease),
    /// Somebody else's renewal is the answer.
    Answered,
}

/// A renewal that this process does itself.
pub(crate) struct Here(Arc<Core>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.shared().renewing_here -= 1;
    }
}

impl Core {
    /// Judges `order` by what is known. No network, no lease.
    pub(crate) fn decide(
        &self,
        order: &Order,
        known: &Known,
        note: Option<&RenewalNote>,
    ) -> Result<Decision, SessionError> {
        let Some(record) = &known.record else {
            return Ok(Decision::Login(LoginReason::NeverSignedIn));
        };
        self.bind(record)?;
        if let Some(end) = record.end() {
            return Ok(Decision::Login(LoginReason::Ended(Box::new(end))));
        }
        let note = note.filter(|note| note.is_about(record));
        if let Some(snapshot) = self.usable(order, record, note) {
            let new_enough = order.after.is_none_or(|after| snapshot.attempt > after);
            // What a forced renewal brought is the issuer's newest word, however short its life.
            let enough = order.insisted_ttl(snapshot.lifetime());
            let alive = order.after.is_some() || snapshot.lives_for(enough, &*self.clock);
            // Parameters have to be sent, whatever is stored.
            if new_enough && alive && order.parameters.is_empty() {
                return Ok(Decision::Good(snapshot));
            }
        }
        if !is_renewable(record) {
            return Ok(Decision::Login(LoginReason::NoRefreshToken));
        }
        if let Some(failure) = note.and_then(|note| note.not_due(order, &*self.clock)) {
            return Ok(Decision::NotDue(failure));
        }
        if let Some(since) = record.hold.as_ref().filter(|since| !since.is_past(HOLD, &*self.clock)) {
            return Ok(Decision::NotDue(held_back(since, record.attempt)));
        }
        Ok(Decision::Renew)
    }

    /// The stored access token for `order`, if no API has rejected it.
    pub(crate) fn usable(
        &self,
        order: &Order,
        record: &Record,
        note: Option<&RenewalNote>,
    ) -> Option<Arc<Snapshot>> {
        let access = record.access_for(order.audience.as_deref(), order.scope.as_deref())?;
        let fingerprint = Fingerprint::of(&access.token);
        let rejected =
            note.is_some_and(|note| note.rejected.contains(&fingerprint)) || self.is_rejected(&fingerprint);
        (!rejected).then(|| access.snapshot(&*self.clock))
    }

    /// One renewal: waits for the lease, looks again, asks the issuer, and stores what it answered. Runs on the renewal
    /// thread to its end, whoever is still waiting. A token set that the store does not take is reported through `early`
    /// while it is still being saved.
    pub(crate) async fn renew_once(
        self: &Arc<Self>,
        order: &Order,
        early: &watch::Sender<Option<Result<(), SessionError>>>,
    ) -> Result<(), SessionError> {
        let mut deputy = self.deputy.as_ref();
        loop {
            let Waited::Taken(mut lease) = self.wait_for_lease(order).await? else { return Ok(()) };
            if let Some(other) = deputy.take()
                && self.is_due(order).await?
            {
                match self.deputize(other, lease, order, early).await? {
                    Deputized::Over(outcome) => return outcome,
                    Deputized::Back(back) => lease = back,
                    // Whoever comes first takes it over; what was cut off is told by the note.
                    Deputized::Gone => continue,
                }
            }
            if let Some(absent) = self.deputy.as_ref().filter(|_| deputy.is_none()) {
                absent.stays();
            }
            let _here = self.begin_here()?;
            let outcome = self.renew_under(&lease, order, early).await;
            if let Err(error) = lease.release().await {
                tracing::debug!(%error, "the lease ends with this handle instead");
            }
            return outcome;
        }
    }

    /// Marks this process as one that must not end, unless it is ending already.
    pub(crate) fn begin_here(self: &Arc<Self>) -> Result<Here, SessionError> {
        let mut shared = self.shared();
        if shared.leaving {
            return Err(SessionError::System { what: "a renewal in a process that is ending" });
        }
        shared.renewing_here += 1;
        drop(shared);
        Ok(Here(Arc::clone(self)))
    }

    /// Tries for the lease, and watches what its holder does meanwhile: what it stores, or its failure, is the answer for
    /// everyone who was waiting.
    async fn wait_for_lease(&self, order: &Order) -> Result<Waited, SessionError> {
        let started = Instant::now();
        let mut pause = PAUSES.0;
        let mut seen = None;
        loop {
            let lease = match self.store.lease(&self.key, Duration::ZERO).await {
                Ok(lease) if seen.is_none() => return Ok(Waited::Taken(lease)),
                // Who has waited for another's renewal looks at what became of it first, however soon the next is due.
                Ok(lease) => Some(lease),
                Err(StoreError::LeaseHeld { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let known = self.reload().await?;
            let note = self.note().await?;
            match self.decide(order, &known, note.as_ref())? {
                Decision::Good(_) => return Ok(Waited::Answered),
                Decision::Login(reason) => return Err(SessionError::LoginRequired(reason)),
                Decision::NotDue(failure) => return Err(failed(failure)),
                Decision::Renew => {}
            }
            let about = note.as_ref().zip(known.record.as_ref());
            let about = about.filter(|(note, record)| note.is_about(record)).map(|(note, _)| note);
            let seen = *seen.get_or_insert(about.map_or(0, RenewalNote::finished_attempt));
            let failed_since = about.filter(|note| note.attempt > seen && note.concerns(order));
            if let Some(failure) = failed_since.and_then(RenewalNote::failure) {
                return Err(failed(failure));
            }
            if let Some(lease) = lease {
                return Ok(Waited::Taken(lease));
            }
            let waited = started.elapsed();
            if waited >= self.waits.lease {
                return Err(SessionError::Busy(holder(note.as_ref(), waited)));
            }
            sleep(pause.mul_f64(0.5 + random::fraction() / 2.0)).await;
            pause = (pause * 3 / 2).min(PAUSES.1);
        }
    }

    pub(crate) async fn renew_under(
        self: &Arc<Self>,
        lease: &Lease,
        order: &Order,
        early: &watch::Sender<Option<Result<(), SessionError>>>,
    ) -> Result<(), SessionError> {
        for _ in 0..ROUNDS {
            let known = self.reload().await?;
            let note = self.note().await?;
            if let Some(record) = known.record.as_ref().filter(|record| record.pending.is_some()) {
                self.bind(record)?;
                let about = note.as_ref().filter(|note| note.is_about(record));
                if let Some(failure) = about.and_then(|note| note.not_due(order, &*self.clock)) {
                    self.share_rejection(lease, order, record, about).await;
                    return Err(failed(failure));
                }
                let rejected = RenewalNote::rejections(about, order.rejected.as_ref(), record);
                let failures = about.map_or(0, |note| note.failures);
                let sent = RenewalNote::sent(record.attempt, failures, rejected, record, &*self.clock);
                self.judge_pending(lease, &known, &sent, early).await?;
                continue;
            }
            match self.decide(order, &known, note.as_ref())? {
                Decision::Good(_) => return Ok(()),
                Decision::Login(reason) => return Err(SessionError::LoginRequired(reason)),
                Decision::NotDue(failure) => {
                    if let Some(record) = &known.record {
                        self.share_rejection(lease, order, record, note.as_ref()).await;
                    }
                    return Err(failed(failure));
                }
                Decision::Renew => {}
            }
            let Some(record) = &known.record else { continue };
            let client = self.client(record)?;
            // Before the note: an issuer whose endpoints cannot be found has not been asked anything yet.
            if let Err(error) = client.load_metadata().await {
                return Err(self.note_failure(lease, record, note.as_ref(), order, &error).await);
            }
            if self.begin_until.is_some_and(|until| Instant::now() > until) {
                return Err(SessionError::Busy(holder(None, Duration::ZERO)));
            }
            let note = note.filter(|note| note.is_about(record));
            let exchange = Exchange {
                attempt: next_attempt(record, note.as_ref()),
                sent: record.refresh_token.clone(),
                // A service's grant can be repeated at any time.
                cut_off: record.refresh_token.is_some()
                    && note.as_ref().is_some_and(|note| is_cut_off(note, record)),
                order: order.clone(),
            };
            let failures = note.as_ref().map_or(0, |note| note.failures);
            let rejected = RenewalNote::rejections(note.as_ref(), order.rejected.as_ref(), record);
            let sent =
                RenewalNote::sent(exchange.attempt, failures, rejected, record, &*self.clock).of(order);
            lease.set_note(&sent.encode()?).await?;
            tracing::info!(
                attempt = exchange.attempt,
                cut_off = exchange.cut_off,
                forced = order.after.is_some(),
                rejected = order.rejected.is_some(),
                "renewing"
            );
            match ask(&client, record, &exchange).await {
                Ok(answer) => {
                    return self.settle(lease, &client, &known, &answer, &exchange, &sent, early).await;
                }
                Err(error) if error.kind() == TokenErrorKind::InvalidGrant && exchange.sent.is_some() => {
                    // Final only for the token that is stored now: somebody may have signed in meanwhile.
                    let now = self.reload().await?;
                    if stored_token(&now) == exchange.sent.as_ref() {
                        return self.end(lease, &now, &error, &exchange, &sent).await;
                    }
                    lease.set_note(&sent.done(now.record.as_ref(), &*self.clock).encode()?).await?;
                }
                Err(error) => {
                    let mut failure = Failure::from_error(&error, exchange.attempt);
                    // An exchange stays cut off until its resend has an answer.
                    failure.outcome_unknown |= exchange.cut_off;
                    return Err(self.note_failed(lease, sent, failure, error.retry_after()).await);
                }
            }
        }
        Err(SessionError::Busy(holder(None, Duration::ZERO)))
    }

    /// No renewal is due, and an API has rejected a token all the same: the next process must not learn it from a 401.
    async fn share_rejection(
        &self,
        lease: &Lease,
        order: &Order,
        record: &Record,
        note: Option<&RenewalNote>,
    ) {
        if !is_news(order, record, note) {
            return;
        }
        let about = note.filter(|note| note.is_about(record));
        let rejected = RenewalNote::rejections(about, order.rejected.as_ref(), record);
        let note = about.cloned().unwrap_or_else(|| {
            RenewalNote::sent(record.attempt, 0, Vec::new(), record, &*self.clock)
                .done(Some(record), &*self.clock)
        });
        if let Ok(note) = note.rejecting(rejected).encode()
            && let Err(error) = lease.set_note(&note).await
        {
            tracing::debug!(%error, "other processes cannot be told of a rejected token");
        }
    }

    /// The issuer has refused the stored refresh token for good: what was granted goes, the settings and the reason stay.
    async fn end(
        &self,
        lease: &Lease,
        known: &Known,
        error: &TokenError,
        exchange: &Exchange,
        sent: &RenewalNote,
    ) -> Result<(), SessionError> {
        let (Some(record), Some(revision)) = (&known.record, known.revision) else {
            return Err(SessionError::LoginRequired(LoginReason::NeverSignedIn));
        };
        let reused =
            error.error_description().is_some_and(|text| text.to_ascii_lowercase().contains("reuse"));
        let ended = record.ended(StoredEnd {
            reason: if reused { EndReason::Reused } else { EndReason::Revoked }.as_str().to_owned(),
            at: Moment::now(&*self.clock),
            by: Actor::this(),
            error: error.error().map(str::to_owned),
            description: error.error_description().map(str::to_owned),
            refused: exchange.sent.as_ref().map(Fingerprint::of),
        });
        tracing::info!(error = error.error(), "the issuer has ended the session");
        let value = ended.encode()?;
        let put = {
            let _writing = self.writing();
            lease.put(&value, tokenkeep_store::Expected::At(revision)).await
        };
        match put {
            Ok(revision) => {
                self.publish(Known { record: Some(ended), revision: Some(revision) });
            }
            // Whoever came first, by signing in or out, has the last word.
            Err(StoreError::Conflict { .. }) => {
                self.reload().await?;
            }
            Err(unstored) => {
                // Not stored, so it is asked once more, but not by every call.
                tracing::warn!(error = %unstored, "the end of the session could not be stored");
                let failure = Failure::from_error(error, exchange.attempt);
                return Err(self.note_failed(lease, sent.clone(), failure, None).await);
            }
        }
        let known = self.reload().await?;
        let done = sent.clone().done(known.record.as_ref(), &*self.clock);
        let _ = lease.set_note(&done.encode()?).await;
        match known.record.as_ref().map(|record| (record.state, record.end())) {
            Some((State::Active, _)) if stored_token(&known) != exchange.sent.as_ref() => Ok(()),
            Some((_, Some(end))) => Err(SessionError::LoginRequired(LoginReason::Ended(Box::new(end)))),
            Some(_) => Err(failed(Failure::from_error(error, exchange.attempt))),
            None => Err(SessionError::LoginRequired(LoginReason::NeverSignedIn)),
        }
    }

    /// The attempt failed: writes down why and when to try again, for every process.
    pub(crate) async fn fail(
        &self,
        lease: &Lease,
        sent: RenewalNote,
        error: &TokenError,
        attempt: u64,
    ) -> SessionError {
        self.note_failed(lease, sent, Failure::from_error(error, attempt), error.retry_after()).await
    }

    pub(crate) async fn note_failed(
        &self,
        lease: &Lease,
        sent: RenewalNote,
        failure: Failure,
        asked: Option<Duration>,
    ) -> SessionError {
        let note = sent.failed(&failure, asked, random::fraction(), &*self.clock);
        let failure = Failure { retry_at: note.failure().and_then(|noted| noted.retry_at), ..failure };
        // Not a warning: whoever asked has it as an error or a remark.
        tracing::info!(
            code = failure.code(),
            status = failure.status,
            attempt = failure.attempt,
            "the renewal failed"
        );
        if let Ok(note) = note.encode()
            && let Err(error) = lease.set_note(&note).await
        {
            tracing::warn!(%error, "other processes cannot be told of the failure");
        }
        let _ = self.events.send(Event::Failed { failure: failure.clone() });
        failed(failure)
    }

    async fn note_failure(
        &self,
        lease: &Lease,
        record: &Record,
        note: Option<&RenewalNote>,
        order: &Order,
        error: &TokenError,
    ) -> SessionError {
        let note = note.filter(|note| note.is_about(record));
        let attempt = next_attempt(record, note);
        let failures = note.map_or(0, |note| note.failures);
        let rejected = RenewalNote::rejections(note, order.rejected.as_ref(), record);
        let unsent = RenewalNote::sent(attempt, failures, rejected, record, &*self.clock);
        let mut failure = Failure::from_error(error, attempt);
        failure.outcome_unknown = note.is_some_and(|note| is_cut_off(note, record));
        self.note_failed(lease, unsent, failure, error.retry_after()).await
    }
}

/// Whether `order` knows of a rejected token that is stored and that the note does not tell of.
pub(crate) fn is_news(order: &Order, record: &Record, note: Option<&RenewalNote>) -> bool {
    let about = note.filter(|note| note.is_about(record));
    order.rejected.as_ref().is_some_and(|token| {
        RenewalNote::rejections(None, Some(token), record).contains(token)
            && about.is_none_or(|note| !note.rejected.contains(token))
    })
}

/// Whether a new token set can be got without a person.
pub(crate) fn is_renewable(record: &Record) -> bool {
    record.state == State::Active
        && (record.refresh_token.is_some()
            || record.settings.flow == tokenkeep_auth0::Flow::ClientCredentials.as_str())
}

pub(crate) fn stored_token(known: &Known) -> Option<&SecretString> {
    known.record.as_ref().and_then(|record| record.refresh_token.as_ref())
}

/// The error for a renewal that failed: another factor is asked of a person, everything else of time.
pub(crate) fn failed(failure: Failure) -> SessionError {
    match failure.kind {
        TokenErrorKind::MfaRequired => {
            SessionError::LoginRequired(LoginReason::MfaRequired(Box::new(failure)))
        }
        _ => SessionError::RenewalFailed(failure),
    }
}

fn next_attempt(record: &Record, note: Option<&RenewalNote>) -> u64 {
    record.attempt.max(note.map_or(0, |note| note.attempt)).saturating_add(1)
}

/// Whether the exchange that `note` tells of may have taken effect without its answer being stored.
fn is_cut_off(note: &RenewalNote, record: &Record) -> bool {
    note.attempt > record.attempt && note.outcome_unknown()
}

async fn ask(client: &TokenClient, record: &Record, exchange: &Exchange) -> Result<Answer, TokenError> {
    let (settings, order) = (&record.settings, &exchange.order);
    match &exchange.sent {
        Some(refresh_token) => {
            let mut request = RefreshRequest::new(refresh_token.clone());
            request.scope = order.scope.clone();
            request.audience = order.audience.clone();
            request.parameters = order.parameters.clone();
            request.overlap = settings.overlap_ms.map(Duration::from_millis);
            client.refresh(&request).await
        }
        // A service has no refresh token: it repeats its grant (RFC 6749, section 4.4).
        None => {
            let scope = order.scope.as_ref().unwrap_or(&settings.scope);
            let mut request = SignInRequest::new(scope.clone());
            request.audience = order.audience.clone().or_else(|| settings.audience.clone());
            request.parameters = settings.parameters.iter().chain(&order.parameters).cloned().collect();
            client.sign_in(&ClientCredentials::new(), &request).await
        }
    }
}

fn held_back(since: &Moment, attempt: u64) -> Failure {
    Failure {
        kind: TokenErrorKind::Unavailable,
        status: None,
        error: None,
        description: Some("a renewal was cut off a moment ago; the next may start 30 s after it".to_owned()),
        retry_at: Some(since.wall_time() + HOLD),
        attempt,
        outcome_unknown: false,
    }
}

pub(crate) fn holder(note: Option<&RenewalNote>, waited: Duration) -> Holder {
    let note = note.filter(|note| matches!(note.phase, Phase::Sent | Phase::Saving));
    Holder {
        stopped: note.is_some_and(|note| note.by.is_stopped()),
        actor: note.map(|note| note.by.clone()),
        since: note.map(|note| note.at.wall_time()),
        waited,
    }
}
