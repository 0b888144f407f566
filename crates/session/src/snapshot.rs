//! The warm path: the access token in memory, read without a lock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::Guard;
use tokenkeep_clock::Clock;
use tokenkeep_secret::SecretString;

use crate::error::Failure;
use crate::fingerprint::Fingerprint;
use crate::moment::unix_ms;
use crate::record::Access;

/// How long an access token should be alive when it is handed out, if the caller does not say.
pub(crate) const DEFAULT_MIN_TTL: Duration = Duration::from_secs(60);

/// An access token with everything that its use needs, judged once so that using it is one comparison.
pub(crate) struct Snapshot {
    pub token: SecretString,
    pub token_type: String,
    pub granted: Option<String>,
    /// The API it is for and the scope that was asked for, as its renewal asks again.
    pub audience: Option<String>,
    pub scope: String,
    pub expires_at: Option<SystemTime>,
    pub attempt: u64,
    pub after_rejection: bool,
    /// Boot time at which it was received.
    pub received: Duration,
    lifetime: Option<Duration>,
    /// Boot time until which it is good for [`DEFAULT_MIN_TTL`].
    pub good_until: Duration,
    /// Boot time until which it is valid.
    valid_until: Duration,
    /// Wall time in milliseconds until which it is valid.
    valid_until_wall: u64,
}

impl Snapshot {
    /// One that is never good.
    pub(crate) fn none() -> Self {
        Self {
            token: SecretString::default(),
            token_type: String::new(),
            granted: None,
            audience: None,
            scope: String::new(),
            expires_at: None,
            attempt: 0,
            after_rejection: false,
            received: Duration::ZERO,
            lifetime: None,
            good_until: Duration::ZERO,
            valid_until: Duration::ZERO,
            valid_until_wall: 0,
        }
    }

    pub(crate) fn of(access: &Access, clock: &dyn Clock) -> Self {
        let now = clock.boot();
        let remaining = access.remaining(clock);
        let until = |reserve: Duration| match remaining {
            None => Duration::MAX,
            Some(remaining) => now + remaining.saturating_sub(reserve),
        };
        Self {
            token: access.token.clone(),
            token_type: access.token_type.clone(),
            granted: access.granted.clone(),
            audience: access.audience.clone(),
            scope: access.scope.clone(),
            expires_at: access.expires_at(),
            attempt: access.attempt,
            after_rejection: access.after_rejection,
            received: now.saturating_sub(access.born.elapsed(clock).unwrap_or_default()),
            lifetime: access.lifetime(),
            good_until: until(effective_min_ttl(DEFAULT_MIN_TTL, access.lifetime())),
            valid_until: until(Duration::ZERO),
            valid_until_wall: match remaining {
                None => u64::MAX,
                Some(remaining) => unix_ms(clock.wall() + remaining),
            },
        }
    }

    /// How long it is alive from now on by the stricter of the two clocks; `None` if no expiry is known.
    pub(crate) fn remaining(&self, clock: &dyn Clock) -> Option<Duration> {
        if self.valid_until == Duration::MAX {
            return None;
        }
        let by_boot = self.valid_until.saturating_sub(clock.boot());
        let by_wall = Duration::from_millis(self.valid_until_wall.saturating_sub(unix_ms(clock.wall())));
        Some(by_boot.min(by_wall))
    }

    pub(crate) fn is_valid(&self, clock: &dyn Clock) -> bool {
        !self.token.is_empty() && self.remaining(clock).is_none_or(|remaining| !remaining.is_zero())
    }

    /// Valid, and alive for so long.
    pub(crate) fn lives_for(&self, ttl: Duration, clock: &dyn Clock) -> bool {
        self.is_valid(clock) && self.remaining(clock).is_none_or(|remaining| remaining >= ttl)
    }

    /// What it was born with, where the issuer said so.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.token)
    }
}

/// What is insisted on of `asked`.
pub(crate) fn effective_min_ttl(asked: Duration, lifetime: Option<Duration>) -> Duration {
    lifetime.map_or(asked, |lifetime| asked.min(lifetime / 2))
}

/// Why a token that was handed out is not all that was asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Remark {
    /// It is valid, but should have been renewed, and that failed.
    RenewalFailed(Failure),
    /// It is valid, but should have been renewed, and that did not end within the caller's patience.
    RenewalSlow,
    /// It is valid, but should have been renewed, and the store could not be used; the text says why.
    StoreFailed(String),
    /// It is new, and the issuer gave it a shorter life than was asked for.
    ShorterThanAsked,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RenewalFailed(failure) => {
                write!(f, "the token is still valid, but renewing it failed: {failure}")
            }
            Self::RenewalSlow => f.write_str("the token is still valid; its renewal is under way"),
            Self::StoreFailed(why) => write!(f, "the token is still valid, but could not be renewed: {why}"),
            Self::ShorterThanAsked => {
                f.write_str("the issuer gave the token a shorter life than was asked for")
            }
        }
    }
}

/// A good access token. Hold it briefly: it keeps what it shows in memory for as long as it lives.
///
/// ```
/// use tokenkeep_session::{Session, SessionError};
///
/// async fn header(session: &Session) -> Result<String, SessionError> {
///     let token = session.access_token().await?;
///     Ok(format!("{} {}", token.token_type(), token.expose()))
/// }
/// ```
pub struct AccessToken {
    held: Held,
    /// Boxed, since a token on the warm path has none and is moved often.
    remark: Option<Box<Remark>>,
}

enum Held {
    /// On loan from the warm path: no copy, no count that two threads would fight over.
    Warm(Guard<Arc<Snapshot>>),
    Shared(Arc<Snapshot>),
}

impl AccessToken {
    pub(crate) fn warm(guard: Guard<Arc<Snapshot>>) -> Self {
        Self { held: Held::Warm(guard), remark: None }
    }

    pub(crate) fn shared(snapshot: Arc<Snapshot>) -> Self {
        Self { held: Held::Shared(snapshot), remark: None }
    }

    #[must_use]
    pub(crate) fn with_remark(self, remark: Option<Remark>) -> Self {
        Self { remark: remark.map(Box::new), ..self }
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        match &self.held {
            Held::Warm(guard) => guard,
            Held::Shared(snapshot) => snapshot,
        }
    }

    /// The token itself. Every call is a place where it can leak.
    pub fn expose(&self) -> &str {
        self.snapshot().token.expose()
    }

    /// Its type, such as `Bearer` (RFC 6749, section 7.1).
    pub fn token_type(&self) -> &str {
        &self.snapshot().token_type
    }

    /// The granted scope, where the issuer said what it granted.
    pub fn scope(&self) -> Option<&str> {
        self.snapshot().granted.as_deref()
    }

    /// When it expires by wall time, where the issuer said so.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.snapshot().expires_at
    }

    /// Why it is not all that was asked for, if it is not.
    pub fn remark(&self) -> Option<&Remark> {
        self.remark.as_deref()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("token", &self.snapshot().token)
            .field("expires_at", &self.expires_at())
            .field("scope", &self.scope())
            .field("remark", &self.remark)
            .finish_non_exhaustive()
    }
}
