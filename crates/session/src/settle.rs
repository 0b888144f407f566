//! From an answer to a stored token set: save before judging, and never drop a token set in hand.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokenkeep_auth0::{
    Answer, IdTokenClaims, IdTokenExpectations, IdTokenRefusal, IdTokenVerdict, TokenClient, TokenError,
    TokenTypeHint,
};
use tokenkeep_secret::SecretString;
use tokenkeep_store::{Expected, Lease, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::SessionError;
use crate::core::{Core, Known};
use crate::error::{Failure, LoginReason, Refusal};
use crate::fingerprint::Fingerprint;
use crate::host::Actor;
use crate::moment::{Moment, whole_ms};
use crate::note::RenewalNote;
use crate::profile::merged;
use crate::record::{Access, EndReason, Pending, Record, Renewed, State};
use crate::renewal::{Order, stored_token};

/// The first and the longest pause between two tries to store a token set.
const SAVE_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// When a key set that was fetched a moment ago may be fetched again.
const KEYS_AGAIN: Duration = Duration::from_secs(60);

/// One use of the refresh token.
pub(crate) struct Exchange {
    pub attempt: u64,
    /// The refresh token that was sent; a client-credentials session has none.
    pub sent: Option<SecretString>,
    /// Whether the exchange before it was cut off, so that this one repeats it.
    pub cut_off: bool,
    pub order: Order,
}

/// What an answer is worth, judged by what is in memory.
pub(crate) enum Verdict {
    Good(Option<Box<IdTokenClaims>>),
    Refused(Refusal),
    /// Its id token needs a key that has to be fetched first.
    Unjudged,
}

/// What became of a token set that was to be stored.
enum Saved {
    Stored,
    /// The store has gone on, and what it has now counts.
    Overtaken,
    SignedOut,
}

impl Core {
    /// Stores the answer with its verdict, then tells everyone. Nothing is awaited between the answer and the put.
    #[expect(clippy::too_many_arguments, reason = "the parts of one exchange, each used once")]
    pub(crate) async fn settle(
        self: &Arc<Self>,
        lease: &Lease,
        client: &TokenClient,
        known: &Arc<Known>,
        answer: &Answer,
        exchange: &Exchange,
        sent: &RenewalNote,
        early: &watch::Sender<Option<Result<(), SessionError>>>,
    ) -> Result<(), SessionError> {
        let Some(record) = &known.record else {
            return Err(SessionError::LoginRequired(LoginReason::NeverSignedIn));
        };
        let mut verdict = judge(client, record, answer, self.clock.wall());
        let changed = |base: &Record, verdict: &Verdict| {
            let mut next = with_answer(base, answer, exchange, &*self.clock);
            next.issuer = Some(client.cached());
            match verdict {
                Verdict::Good(claims) => {
                    grant(&mut next, access_of(base, answer, exchange), claims.as_deref(), answer)
                }
                Verdict::Unjudged => {
                    next.pending = access_of(base, answer, exchange)
                        .zip(answer.id_token.clone())
                        .map(|(access, id_token)| Pending { access, id_token });
                }
                Verdict::Refused(_) => {}
            }
            next.make_room();
            next
        };
        if !changed(record, &verdict).fits() {
            verdict = Verdict::Refused(Refusal::TooLong);
        }
        let change = |base: &Record| changed(base, &verdict);
        if let (Verdict::Good(_), Some(token)) = (&verdict, &answer.access_token) {
            self.accept(&Fingerprint::of(token));
        }
        match self.save(lease, known, change, exchange, sent, early).await? {
            Saved::Overtaken => return Ok(()),
            Saved::SignedOut => {
                if let Some(token) = &answer.refresh_token {
                    self.revoke_brought(client, token).await;
                }
                return self.login_required().await;
            }
            Saved::Stored => {}
        }
        match verdict {
            Verdict::Good(_) => {
                tracing::info!(attempt = exchange.attempt, resent = answer.resent, "renewed");
                self.note_done(lease, sent).await;
                Ok(())
            }
            Verdict::Refused(refusal) => {
                let failure = Failure::refused(&refusal, exchange.attempt);
                Err(self.note_failed(lease, sent.clone(), failure, None).await)
            }
            Verdict::Unjudged => {
                let known = self.reload().await?;
                self.judge_pending(lease, &known, sent, early).await
            }
        }
    }

    /// Judges a stored answer with keys from the network, and stores the verdict.
    pub(crate) async fn judge_pending(
        self: &Arc<Self>,
        lease: &Lease,
        known: &Arc<Known>,
        sent: &RenewalNote,
        early: &watch::Sender<Option<Result<(), SessionError>>>,
    ) -> Result<(), SessionError> {
        let Some((record, pending)) =
            known.record.as_ref().and_then(|record| record.pending.as_ref().map(|pending| (record, pending)))
        else {
            return Ok(());
        };
        let client = self.client(record)?;
        let verdict = match judge_fetching(&client, record, pending, self.clock.wall()).await {
            Ok(verdict) => verdict,
            Err(Unjudged::NoKeys(error)) => {
                return Err(self.fail(lease, sent.clone(), &error, pending.access.attempt).await);
            }
            Err(Unjudged::AskedTooOften) => {
                let failure = Failure::no_key_yet(pending.access.attempt);
                return Err(self.note_failed(lease, sent.clone(), failure, Some(KEYS_AGAIN)).await);
            }
        };
        let change = |base: &Record| {
            let mut next = base.clone();
            next.issuer = Some(client.cached());
            if let Some(pending) = next.pending.take()
                && let Verdict::Good(claims) = &verdict
            {
                take_claims(&mut next, claims.as_deref());
                next.id_token = Some(pending.id_token);
                next.set_access(pending.access);
            }
            next
        };
        let exchange = Exchange {
            attempt: pending.access.attempt,
            sent: record.refresh_token.clone(),
            cut_off: false,
            order: Order::default(),
        };
        if matches!(verdict, Verdict::Good(_)) {
            self.accept(&Fingerprint::of(&pending.access.token));
        }
        match self.save(lease, known, change, &exchange, sent, early).await? {
            Saved::Overtaken => return Ok(()),
            Saved::SignedOut => return self.login_required().await,
            Saved::Stored => {}
        }
        match verdict {
            Verdict::Refused(refusal) => {
                let failure = Failure::refused(&refusal, exchange.attempt);
                Err(self.note_failed(lease, sent.clone(), failure, None).await)
            }
            Verdict::Good(_) | Verdict::Unjudged => {
                self.note_done(lease, sent).await;
                Ok(())
            }
        }
    }

    /// The attempt is over and stored; a note that cannot be written changes nothing about that.
    async fn note_done(&self, lease: &Lease, sent: &RenewalNote) {
        let known = self.shared().known.clone();
        let record = known.as_ref().and_then(|known| known.record.as_ref());
        let written = match sent.clone().done(record, &*self.clock).encode() {
            Ok(note) => lease.set_note(&note).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the note of a renewal that is done could not be written");
        }
    }

    /// Puts what `change` makes of the entry, by compare-and-swap, until it is stored or overtaken. While the store does
    /// not take it, the token set stays in memory and the lease is kept.
    async fn save(
        self: &Arc<Self>,
        lease: &Lease,
        known: &Arc<Known>,
        change: impl Fn(&Record) -> Record,
        exchange: &Exchange,
        sent: &RenewalNote,
        early: &watch::Sender<Option<Result<(), SessionError>>>,
    ) -> Result<Saved, SessionError> {
        let Some(sign_in) = known.record.as_ref().map(|record| record.sign_in.clone()) else {
            return Ok(Saved::Overtaken);
        };
        let mut base = Arc::clone(known);
        let mut pause = SAVE_PAUSES.0;
        loop {
            let (Some(record), Some(revision)) = (&base.record, base.revision) else {
                return Ok(Saved::SignedOut);
            };
            let next = change(record);
            let put = match next.encode() {
                Ok(value) => {
                    let _writing = self.writing();
                    lease.put(&value, Expected::At(revision)).await
                }
                Err(error) => Err(error),
            };
            let error = match put {
                Ok(revision) => {
                    self.shared().unsaved = None;
                    self.publish(Known { record: Some(next), revision: Some(revision) });
                    return Ok(Saved::Stored);
                }
                Err(StoreError::Conflict { .. }) => match self.reload().await {
                    Ok(now) => match standing(&now, &sign_in, exchange) {
                        Standing::PutAgain => {
                            base = now;
                            continue;
                        }
                        Standing::Overtaken => {
                            self.shared().unsaved = None;
                            return Ok(Saved::Overtaken);
                        }
                        Standing::SignedOut => {
                            self.shared().unsaved = None;
                            return Ok(Saved::SignedOut);
                        }
                    },
                    Err(SessionError::Store(error)) => error,
                    // Another identity: whatever this brought is not its own.
                    Err(_) => return Ok(Saved::Overtaken),
                },
                Err(error) => Arc::new(error),
            };
            tracing::error!(%error, "the new tokens are in memory and could not be stored; trying again");
            let _ = match sent.clone().saving().encode() {
                Ok(note) => lease.set_note(&note).await,
                Err(error) => Err(error),
            };
            {
                let mut shared = self.shared();
                shared.unsaved = Some(Arc::clone(&error));
                shared.unsaved_after = None;
            }
            early.send_replace(Some(Err(SessionError::NotSaved { source: error })));
            sleep(pause).await;
            pause = (pause * 2).min(SAVE_PAUSES.1);
            // What others stored meanwhile decides what is put next.
            if let Ok(now) = self.reload().await {
                match standing(&now, &sign_in, exchange) {
                    Standing::PutAgain => base = now,
                    Standing::Overtaken | Standing::SignedOut => {
                        self.shared().unsaved = None;
                        return Ok(match standing(&now, &sign_in, exchange) {
                            Standing::SignedOut => Saved::SignedOut,
                            _ => Saved::Overtaken,
                        });
                    }
                }
            }
        }
    }

    /// Somebody signed out while a renewal or an adoption was under way: what it has in hand must not live on.
    pub(crate) async fn revoke_brought(&self, client: &TokenClient, token: &SecretString) {
        if let Err(error) = client.revoke(token, TokenTypeHint::RefreshToken).await {
            tracing::warn!(code = ?error.kind(), "a refresh token got during a sign-out could not be revoked yet");
            self.remember_to_revoke(token).await;
        }
    }

    /// Leaves `token` in the tombstone, for the next sign-out to revoke.
    async fn remember_to_revoke(&self, token: &SecretString) {
        for _ in 0..8 {
            let Ok(known) = self.reload().await else { return };
            let (Some(record), Some(revision)) = (&known.record, known.revision) else { return };
            if record.state == State::Active {
                return;
            }
            let mut next = record.clone();
            next.to_revoke.push(token.clone());
            let Ok(value) = next.encode() else { return };
            match self.store.put(&self.key, &value, Expected::At(revision)).await {
                Err(StoreError::Conflict { .. }) => {}
                _ => return,
            }
        }
    }

    pub(crate) async fn login_required(&self) -> Result<(), SessionError> {
        let known = self.reload().await?;
        let end = known.record.as_ref().and_then(Record::end);
        Err(SessionError::LoginRequired(
            end.map_or(LoginReason::NeverSignedIn, |end| LoginReason::Ended(Box::new(end))),
        ))
    }
}

/// What a conflict means for a token set in hand.
enum Standing {
    PutAgain,
    Overtaken,
    SignedOut,
}

fn standing(now: &Known, sign_in: &str, exchange: &Exchange) -> Standing {
    let Some(record) = &now.record else { return Standing::SignedOut };
    if record.sign_in != sign_in {
        return Standing::Overtaken;
    }
    match record.end().map(|end| end.reason) {
        Some(EndReason::SignedOut) => Standing::SignedOut,
        // Ended on the strength of the very token that has just been answered well: the issuer's newer word counts.
        Some(_) => {
            let refused = record.end.as_ref().and_then(|end| end.refused.as_ref());
            match exchange.sent.as_ref().map(Fingerprint::of) {
                Some(sent) if refused == Some(&sent) => Standing::PutAgain,
                _ => Standing::Overtaken,
            }
        }
        None if stored_token(now) == exchange.sent.as_ref() => Standing::PutAgain,
        None => Standing::Overtaken,
    }
}

/// Judges an answer without the network.
pub(crate) fn judge(client: &TokenClient, record: &Record, answer: &Answer, now: SystemTime) -> Verdict {
    if let Some(refusal) = refusal(answer) {
        return Verdict::Refused(refusal);
    }
    if answer.expires_in == Some(Duration::ZERO) {
        return Verdict::Refused(Refusal::Expired);
    }
    match &answer.id_token {
        None => Verdict::Good(None),
        Some(id_token) => judge_id_token(client, record, id_token, now),
    }
}

/// What speaks against an answer before its id token is looked at.
pub(crate) fn refusal(answer: &Answer) -> Option<Refusal> {
    if answer.access_token.as_ref().is_none_or(SecretString::is_empty) {
        return Some(Refusal::NoAccessToken);
    }
    if answer.token_type.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Some(Refusal::TokenType);
    }
    // An id token that is no text at all must not pass for one that is absent.
    answer
        .malformed
        .iter()
        .find(|member| matches!(**member, "id_token" | "token_type"))
        .map(|member| Refusal::Malformed { member })
}

fn judge_id_token(
    client: &TokenClient,
    record: &Record,
    id_token: &SecretString,
    now: SystemTime,
) -> Verdict {
    let mut expect = IdTokenExpectations::default();
    expect.refreshed = true;
    match client.judge_id_token(id_token, &expect, now) {
        IdTokenVerdict::Good(claims) => match &record.subject {
            Some(subject) if subject != claims.subject() => Verdict::Refused(Refusal::AnotherSubject),
            _ => Verdict::Good(Some(Box::new(claims))),
        },
        IdTokenVerdict::Refused(refusal) => Verdict::Refused(Refusal::IdToken(refusal)),
        IdTokenVerdict::KeysNeeded => Verdict::Unjudged,
        _ => Verdict::Unjudged,
    }
}

/// The same with the network: fetches the key set, and once more if it lacks the key. Only a key set that is newer than
/// the answer proves that the issuer does not have the key.
async fn judge_fetching(
    client: &TokenClient,
    record: &Record,
    pending: &Pending,
    now: SystemTime,
) -> Result<Verdict, Unjudged> {
    client.load_keys().await.map_err(Unjudged::NoKeys)?;
    let mut verdict = judge_id_token(client, record, &pending.id_token, now);
    if matches!(verdict, Verdict::Unjudged) && !keys_are_newer(client, &pending.access) {
        client.reload_keys().await.map_err(Unjudged::NoKeys)?;
        verdict = judge_id_token(client, record, &pending.id_token, now);
    }
    match verdict {
        // After a clock that was set back nothing can be shown to be newer, and waiting for it could take years.
        Verdict::Unjudged
            if keys_are_newer(client, &pending.access) || now < pending.access.born.wall_time() =>
        {
            Ok(Verdict::Refused(Refusal::IdToken(IdTokenRefusal::Key)))
        }
        Verdict::Unjudged => Err(Unjudged::AskedTooOften),
        verdict => Ok(verdict),
    }
}

/// Why an answer is still not judged.
enum Unjudged {
    NoKeys(TokenError),
    /// The key set was fetched a moment ago and must not be asked for again so soon.
    AskedTooOften,
}

fn keys_are_newer(client: &TokenClient, access: &Access) -> bool {
    // The time of a fetch is kept to the second.
    let second = Duration::from_secs(1);
    client.cached().jwks.is_some_and(|keys| keys.fetched_at + second > access.born.wall_time())
}

/// The entry with what any answer changes, good or not: its refresh token and who got it.
fn with_answer(
    base: &Record,
    answer: &Answer,
    exchange: &Exchange,
    clock: &dyn tokenkeep_clock::Clock,
) -> Record {
    let mut next = base.clone();
    let now = Moment::now(clock);
    if let Some(refresh_token) = &answer.refresh_token {
        next.refresh_token = Some(refresh_token.clone());
    } else if next.refresh_token.is_none() {
        // An end that this answer overrides took the token away; the issuer did not rotate it.
        next.refresh_token = exchange.sent.clone();
    }
    next.state = State::Active;
    next.end = None;
    next.attempt = exchange.attempt;
    next.hold = (exchange.cut_off || answer.resent > 0).then(|| now.clone());
    next.add_renewer(Actor::this());
    next.renewed = Some(Renewed { by: Actor::this(), at: now });
    next.skew_s = answer.issuer_date.map(|date| skew_seconds(date, answer.received_wall));
    next
}

fn skew_seconds(issuer: SystemTime, ours: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match issuer.duration_since(ours) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    }
}

/// The access token of an answer, as it is kept; `None` if it has none.
pub(crate) fn access_of(base: &Record, answer: &Answer, exchange: &Exchange) -> Option<Access> {
    let order = &exchange.order;
    let audience = order.audience.clone().or_else(|| base.settings.audience.clone());
    let scope = order.scope.clone().unwrap_or_else(|| base.settings.scope.clone());
    let before = base.access.iter().find(|access| access.is_for(audience.as_deref(), &scope));
    Some(Access {
        granted: answer.scope.clone().or_else(|| before.and_then(|before| before.granted.clone())),
        audience,
        scope,
        token: answer.access_token.clone()?,
        token_type: "Bearer".to_owned(),
        born: Moment::new(answer.received_wall, answer.received_boot, &answer.boot_id),
        lifetime_ms: answer.expires_in.map(whole_ms),
        attempt: exchange.attempt,
        after_rejection: order.rejected.is_some(),
        judged: OnceLock::new(),
    })
}

/// The entry with a good answer's tokens; what the answer lacks keeps its old value.
pub(crate) fn grant(
    next: &mut Record,
    access: Option<Access>,
    claims: Option<&IdTokenClaims>,
    answer: &Answer,
) {
    if let Some(access) = access {
        next.set_access(access);
    }
    if let Some(id_token) = &answer.id_token {
        next.id_token = Some(id_token.clone());
    }
    take_claims(next, claims);
    next.pending = None;
}

fn take_claims(next: &mut Record, claims: Option<&IdTokenClaims>) {
    if let Some(claims) = claims {
        next.subject = Some(claims.subject().to_owned());
        next.profile = merged(next.profile.take(), claims.profile());
    }
}
