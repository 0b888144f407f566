//! What can go wrong with a session, by what the caller can do about it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokenkeep_auth0::{IdTokenRefusal, TokenError, TokenErrorKind};
use tokenkeep_store::StoreError;

use crate::host::Actor;
use crate::record::End;

/// Why a session did not do what was asked. Cheap to clone, since one failure answers every waiting caller.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A person (or the service's own credentials) has to sign in again.
    #[error("{0}; sign in with `tokenkeep login`")]
    LoginRequired(LoginReason),

    /// The issuer was asked for a new token set and none can be used. What is stored is kept.
    #[error("the session could not be renewed: {0}")]
    RenewalFailed(Failure),

    /// The issuer gave a new token set, and the store could not take it. It is kept in memory and written again and again
    /// until that succeeds: free the store, and keep this process alive.
    #[error("the new tokens are in memory but could not be stored yet: {source}")]
    NotSaved {
        /// What the store said last.
        source: Arc<StoreError>,
    },

    /// Another process holds the session's lease, and the wait is over.
    #[error("{0}")]
    Busy(Holder),

    /// Another identity has signed in under this session's name since this handle was opened. Open a new handle to use it.
    #[error("another identity has signed in under this session's name: open the session again")]
    Replaced,

    /// The store could not be read or written.
    #[error(transparent)]
    Store(Arc<StoreError>),

    /// A sign-in failed at the issuer. What was stored before is kept.
    #[error("the sign-in failed: {0}")]
    SignIn(Arc<TokenError>),

    /// A sign-in's answer cannot be used. What was stored before is kept.
    #[error("the sign-in was refused: {0}")]
    SignInRefused(Refusal),

    /// Not a name of a session.
    #[error("a session's name has 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    InvalidName,

    /// The client's settings cannot be used, such as a CA file that cannot be read.
    #[error("the session's settings cannot be used: {0}")]
    Settings(Arc<TokenError>),

    /// The system refused something tokenkeep needs, such as a thread.
    #[error("the system refused {what}")]
    System {
        /// What was asked for.
        what: &'static str,
    },
}

impl SessionError {
    /// Why a new sign-in is needed, if it is.
    pub fn login_required(&self) -> Option<&LoginReason> {
        match self {
            Self::LoginRequired(reason) => Some(reason),
            _ => None,
        }
    }

    /// When the next attempt may be made, where that is known.
    pub fn retry_at(&self) -> Option<SystemTime> {
        match self {
            Self::RenewalFailed(failure) => failure.retry_at,
            _ => None,
        }
    }

    /// Whether the same call can succeed later without anyone doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RenewalFailed(failure) => failure.is_transient(),
            Self::SignIn(error) => error.is_transient(),
            Self::Busy(_) | Self::NotSaved { .. } => true,
            Self::Store(error) => {
                matches!(**error, StoreError::WriterBusy { .. } | StoreError::LeaseHeld { .. })
            }
            _ => false,
        }
    }

    /// A stable word for each case, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::LoginRequired(_) => "login_required",
            Self::RenewalFailed(failure) => failure.code(),
            Self::NotSaved { .. } => "not_saved",
            Self::Busy(_) => "busy",
            Self::Replaced => "replaced",
            Self::Store(_) => "store",
            Self::SignIn(_) => "sign_in_failed",
            Self::SignInRefused(_) => "sign_in_refused",
            Self::InvalidName => "invalid_name",
            Self::Settings(_) => "settings",
            Self::System { .. } => "system",
        }
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Why a new sign-in is needed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LoginReason {
    /// Nobody has signed in under this name.
    NeverSignedIn,
    /// The session has ended; this says why, when, and on whose word.
    Ended(Box<End>),
    /// The issuer asks for another factor before it renews.
    MfaRequired(Box<Failure>),
    /// The access token is used up, and the issuer gave no refresh token (`offline_access` was not granted).
    NoRefreshToken,
}

impl fmt::Display for LoginReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverSignedIn => f.write_str("nobody has signed in to this session"),
            Self::Ended(end) => end.fmt(f),
            Self::MfaRequired(_) => {
                f.write_str("the issuer asks for another factor before it renews the session")
            }
            Self::NoRefreshToken => f.write_str(
                "the access token is used up and there is no refresh token (was offline_access granted?)",
            ),
        }
    }
}

/// A renewal that did not give a usable token set. Shared with every process through the store, so it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What the caller can do about it.
    pub kind: TokenErrorKind,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The issuer's OAuth `error`.
    pub error: Option<String>,
    /// The issuer's `error_description`, or why an answer was refused.
    pub description: Option<String>,
    /// Before this time no other attempt is made, by any process.
    pub retry_at: Option<SystemTime>,
    /// The attempt that failed.
    pub attempt: u64,
    /// Whether the issuer may have acted on the request all the same.
    pub outcome_unknown: bool,
}

impl Failure {
    /// Whether a later attempt can succeed without anyone doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            TokenErrorKind::Unavailable | TokenErrorKind::RateLimited | TokenErrorKind::Protocol
        )
    }

    /// A stable word for the kind, for machines.
    pub fn code(&self) -> &'static str {
        match self.kind {
            TokenErrorKind::InvalidGrant => "invalid_grant",
            TokenErrorKind::MfaRequired => "mfa_required",
            TokenErrorKind::AccessDenied => "access_denied",
            TokenErrorKind::RateLimited => "rate_limited",
            TokenErrorKind::Unavailable => "unavailable",
            TokenErrorKind::Rejected => "rejected",
            TokenErrorKind::Protocol => "protocol",
            _ => "other",
        }
    }

    pub(crate) fn from_error(error: &TokenError, attempt: u64) -> Self {
        Self {
            kind: error.kind(),
            status: error.status(),
            error: error.error().map(str::to_owned),
            description: error.error_description().map(str::to_owned).or_else(|| Some(error.to_string())),
            retry_at: None,
            attempt,
            outcome_unknown: error.outcome_unknown(),
        }
    }

    pub(crate) fn no_key_yet(attempt: u64) -> Self {
        Self {
            kind: TokenErrorKind::Unavailable,
            status: None,
            error: None,
            description: Some(
                "the issuer's key set, fetched a moment ago, lacks the id token's key".to_owned(),
            ),
            retry_at: None,
            attempt,
            outcome_unknown: false,
        }
    }

    pub(crate) fn refused(refusal: &Refusal, attempt: u64) -> Self {
        Self {
            kind: TokenErrorKind::Protocol,
            status: None,
            error: None,
            description: Some(refusal.to_string()),
            retry_at: None,
            attempt,
            outcome_unknown: false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            TokenErrorKind::InvalidGrant => "the issuer no longer takes the refresh token",
            TokenErrorKind::MfaRequired => "the issuer asks for another factor",
            TokenErrorKind::AccessDenied => "the issuer denied it",
            TokenErrorKind::RateLimited => "the issuer limits how often it is asked",
            TokenErrorKind::Unavailable => "the issuer cannot be reached or is out of order",
            TokenErrorKind::Rejected => "the issuer rejected the request",
            TokenErrorKind::Protocol => "the issuer's answer cannot be used",
            _ => "it failed",
        };
        f.write_str(what)?;
        if let Some(error) = &self.error {
            write!(f, " ({error})")?;
        }
        if let Some(description) = &self.description {
            write!(f, ": {description}")?;
        }
        Ok(())
    }
}

/// Why an answer of the issuer is not used although it was a success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It has no access token.
    #[error("the answer has no access token")]
    NoAccessToken,
    /// Its access token is of a type that cannot be sent as a bearer token.
    #[error("the answer's access token is not a bearer token")]
    TokenType,
    /// A member of it is of the wrong type.
    #[error("the answer's {member} cannot be read")]
    Malformed {
        /// Its name.
        member: &'static str,
    },
    /// Its access token has expired already.
    #[error("the answer's access token is expired at birth")]
    Expired,
    /// It is longer than what can be stored.
    #[error("the answer is too long to be stored")]
    TooLong,
    /// It is for somebody else.
    #[error("the answer is for another subject than the one that signed in")]
    AnotherSubject,
    /// Its id token fails a check.
    #[error("the answer's id token is refused: {0}")]
    IdToken(IdTokenRefusal),
}

/// The process that holds a session's lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Who, as it said in its note; `None` if it has not written one yet.
    pub actor: Option<Actor>,
    /// Since when its renewal is under way.
    pub since: Option<SystemTime>,
    /// Whether that process is stopped (`SIGSTOP`, a debugger), where that can be seen.
    pub stopped: bool,
    /// How long was waited for it.
    pub waited: Duration,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.actor {
            Some(actor) => {
                write!(f, "process {} on {} is renewing this session", actor.pid, actor.host)?;
                if self.stopped {
                    write!(f, " and is stopped: continue it with `kill -CONT {}`, or end it", actor.pid)?;
                }
            }
            None => f.write_str("another process is renewing this session")?,
        }
        write!(f, " (waited {} s)", self.waited.as_secs())
    }
}
