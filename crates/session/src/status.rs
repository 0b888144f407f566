//! What is known of a session without asking anyone.

use std::time::{Duration, SystemTime};

use tokenkeep_clock::Clock;
use tokenkeep_secret::SecretString;

use crate::SessionError;
use crate::core::Core;
use crate::error::{Failure, Holder};
use crate::host::Actor;
use crate::note::{Phase, RenewalNote};
use crate::record::{End, Record};
use crate::renewal::{Order, holder, is_renewable};
use crate::snapshot::Remark;

/// Whether a session can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionState {
    /// Nobody has signed in under this name.
    Absent,
    /// There is a valid access token.
    Active,
    /// There is no valid access token now; if the session is renewable, the next call gets one.
    Stale,
    /// Someone has to sign in again.
    Ended,
}

/// What is stored of a session, without its secrets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Whether it can be used.
    pub state: SessionState,
    /// The issuer.
    pub issuer: Option<String>,
    /// The client id.
    pub client_id: Option<String>,
    /// Who signed in: the id token's `sub`.
    pub subject: Option<String>,
    /// How the sign-in was done, such as `device`.
    pub flow: Option<String>,
    /// The API the access token is for.
    pub audience: Option<String>,
    /// The granted scope, where the issuer said what it granted.
    pub scope: Option<String>,
    /// The scope that was asked for.
    pub requested_scope: Option<String>,
    /// When the access token expires by wall time, where the issuer said so.
    pub expires_at: Option<SystemTime>,
    /// How long it is still alive.
    pub expires_in: Option<Duration>,
    /// Whether a new token set can be got without a person.
    pub renewable: bool,
    /// When the sign-in was.
    pub signed_in_at: Option<SystemTime>,
    /// When the last token set was got.
    pub renewed_at: Option<SystemTime>,
    /// By whom.
    pub renewed_by: Option<Actor>,
    /// Number of the last attempt whose answer is stored.
    pub attempt: u64,
    /// Why the last renewal failed, and when the next may be made.
    pub last_failure: Option<Failure>,
    /// Who is renewing right now, as its note says.
    pub renewing: Option<Holder>,
    /// Why and when it ended, if it did.
    pub ended: Option<End>,
    /// How far the issuer's clock is ahead of ours, in seconds, as of the last answer.
    pub issuer_clock_ahead_s: Option<i64>,
    /// Whether a refresh token is still to be revoked: sign out again to finish that.
    pub revocation_pending: bool,
}

/// A stored token set. The refresh token is never handed out: two users of one refresh token end the session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenSet {
    /// The access token.
    pub access_token: SecretString,
    /// Its type, such as `Bearer`.
    pub token_type: String,
    /// The id token, if there is one.
    pub id_token: Option<SecretString>,
    /// When the access token expires by wall time, where the issuer said so.
    pub expires_at: Option<SystemTime>,
    /// How long it is still alive; zero when it has expired.
    pub expires_in: Option<Duration>,
    /// The granted scope, where the issuer said what it granted.
    pub scope: Option<String>,
    /// The scope that was asked for.
    pub requested_scope: String,
    /// The API the access token is for.
    pub audience: Option<String>,
    /// Why it is not all that was asked for, if it is not.
    pub remark: Option<Remark>,
}

impl Core {
    pub(crate) async fn status(&self) -> Result<Status, SessionError> {
        let known = self.reload().await?;
        let note = self.note().await?;
        let clock = &*self.clock;
        let Some(record) = &known.record else {
            return Ok(Status::absent());
        };
        let note = note.filter(|note| note.is_about(record));
        let access = record.access_for(None, None);
        let ended = record.end();
        let valid =
            self.usable(&Order::default(), record, note.as_ref()).is_some_and(|it| it.is_valid(clock));
        Ok(Status {
            state: match (&ended, valid) {
                (Some(_), _) => SessionState::Ended,
                (None, true) => SessionState::Active,
                (None, false) => SessionState::Stale,
            },
            issuer: Some(record.settings.issuer.clone()),
            client_id: Some(record.settings.client_id.clone()),
            subject: record.subject.clone(),
            flow: Some(record.settings.flow.clone()),
            audience: record.settings.audience.clone(),
            scope: access.and_then(|access| access.granted.clone()),
            requested_scope: Some(record.settings.scope.clone()),
            expires_at: access.and_then(|access| access.expires_at()),
            expires_in: access.and_then(|access| access.remaining(clock)),
            renewable: is_renewable(record),
            signed_in_at: Some(record.signed_in.wall_time()),
            renewed_at: record.renewed.as_ref().map(|renewed| renewed.at.wall_time()),
            renewed_by: record.renewed.as_ref().map(|renewed| renewed.by.clone()),
            attempt: record.attempt,
            last_failure: note
                .as_ref()
                .filter(|note| note.attempt >= record.attempt)
                .and_then(RenewalNote::failure),
            renewing: note
                .as_ref()
                .filter(|note| {
                    matches!(note.phase, Phase::Sent | Phase::Saving) && note.attempt > record.attempt
                })
                .map(|note| holder(Some(note), note.at.elapsed(clock).unwrap_or_default())),
            ended,
            issuer_clock_ahead_s: record.skew_s,
            revocation_pending: !record.to_revoke.is_empty(),
        })
    }

    /// What is stored, even if it has expired. Never the network.
    pub(crate) async fn peek(&self) -> Result<Option<TokenSet>, SessionError> {
        let known = self.reload_own().await?;
        Ok(known.record.as_ref().and_then(|record| token_set(record, &Order::default(), &*self.clock, None)))
    }
}

/// The stored token set for `order`, whether it is still valid or not.
pub(crate) fn token_set(
    record: &Record,
    order: &Order,
    clock: &dyn Clock,
    remark: Option<Remark>,
) -> Option<TokenSet> {
    let access = record.access_for(order.audience.as_deref(), order.scope.as_deref())?;
    Some(TokenSet {
        access_token: access.token.clone(),
        token_type: access.token_type.clone(),
        id_token: record.id_token.clone(),
        expires_at: access.expires_at(),
        expires_in: access.remaining(clock),
        scope: access.granted.clone(),
        requested_scope: access.scope.clone(),
        audience: access.audience.clone(),
        remark,
    })
}

impl Status {
    fn absent() -> Self {
        Self {
            state: SessionState::Absent,
            issuer: None,
            client_id: None,
            subject: None,
            flow: None,
            audience: None,
            scope: None,
            requested_scope: None,
            expires_at: None,
            expires_in: None,
            renewable: false,
            signed_in_at: None,
            renewed_at: None,
            renewed_by: None,
            attempt: 0,
            last_failure: None,
            renewing: None,
            ended: None,
            issuer_clock_ahead_s: None,
            revocation_pending: false,
        }
    }
}
