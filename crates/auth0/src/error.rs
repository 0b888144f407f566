//! What can go wrong at an issuer, by what the caller can do about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep_secret::SecretString;

/// Why a call to the issuer did not give what was asked.
///
/// Decide by [`kind`](Self::kind). The text says what happened, to what, and what to do next; it may hold the issuer's
/// own `error` and `error_description` (bounded, without control characters), never a token, a secret or the body of
/// an answer. Clones are cheap, so that one failure can be handed to everyone who waited for it.
#[derive(Clone)]
pub struct TokenError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: TokenErrorKind,
    doing: &'static str,
    what: String,
    status: Option<u16>,
    error: Option<String>,
    description: Option<String>,
    retry_after: Option<Duration>,
    attempts: u8,
    mfa_token: Option<SecretString>,
    outcome_unknown: bool,
}

/// What a [`TokenError`] means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// `access_denied`: the person, or a rule of the issuer, said no. Ask again only after something has changed.
    AccessDenied,
    /// What was passed in cannot be used: an issuer without https, an unreadable CA file, a reserved parameter.
    /// Nothing was sent.
    Configuration,
    /// `expired_token`: the device code ran out before anyone confirmed it. Start the sign-in anew.
    ExpiredCode,
    /// `invalid_grant`: what was presented is not accepted. For a refresh token this is final: sign in again. For a
    /// password it means a wrong user name or password.
    InvalidGrant,
    /// `mfa_required`: a second factor is asked for; [`TokenError::mfa_token`] starts it.
    MfaRequired,
    /// The answer makes no sense: not JSON, no OAuth error, a redirect, a discovery document that names another
    /// issuer. Says nothing about the session: try again later.
    Protocol,
    /// 429: asked too often. Nothing was processed; try again after [`TokenError::retry_after`].
    RateLimited,
    /// Any other OAuth error, such as `invalid_client`. Trying again will not help.
    Rejected,
    /// The issuer or the network cannot be reached or answers 5xx: try again later.
    Unavailable,
    /// The issuer does not offer what was asked, such as revocation.
    Unsupported,
}

impl TokenErrorKind {
    /// A stable code for logs and machine-readable output, such as `invalid_grant`.
    pub fn code(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::Configuration => "configuration",
            Self::ExpiredCode => "expired_code",
            Self::InvalidGrant => "invalid_grant",
            Self::MfaRequired => "mfa_required",
            Self::Protocol => "protocol",
            Self::RateLimited => "rate_limited",
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
        }
    }
}

impl TokenError {
    /// An error of `kind` while `doing` something ("refreshing", "discovery"). `what` never holds a secret.
    pub(crate) fn new(kind: TokenErrorKind, doing: &'static str, what: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            doing,
            what: what.into(),
            status: None,
            error: None,
            description: None,
            retry_after: None,
            attempts: 1,
            mfa_token: None,
            outcome_unknown: false,
        }))
    }

    /// What the caller passed cannot be used; nothing was sent.
    pub(crate) fn configuration(what: impl Into<String>) -> Self {
        Self::new(TokenErrorKind::Configuration, "", what).with(|inner| inner.attempts = 0)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        self.with(|inner| inner.status = Some(status))
    }

    pub(crate) fn with_oauth(self, error: Option<String>, description: Option<String>) -> Self {
        self.with(|inner| {
            inner.error = error;
            inner.description = description;
        })
    }

    pub(crate) fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        self.with(|inner| inner.retry_after = retry_after)
    }

    pub(crate) fn with_mfa_token(self, token: Option<SecretString>) -> Self {
        self.with(|inner| inner.mfa_token = token)
    }

    pub(crate) fn with_attempts(self, attempts: u8) -> Self {
        self.with(|inner| inner.attempts = attempts)
    }

    pub(crate) fn with_outcome_unknown(self, unknown: bool) -> Self {
        self.with(|inner| inner.outcome_unknown = unknown)
    }

    /// What it means for the caller.
    pub fn kind(&self) -> TokenErrorKind {
        self.0.kind
    }

    /// How long the issuer asked to wait, at most a day. Only with `RateLimited` and `Unavailable`.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same call may succeed later without anyone doing anything.
    pub fn is_transient(&self) -> bool {
        use TokenErrorKind as Kind;
        matches!(self.0.kind, Kind::RateLimited | Kind::Unavailable | Kind::Protocol)
    }

    /// The HTTP status of the last answer, if one came.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The OAuth `error` member of the answer (RFC 6749, section 5.2).
    pub fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    /// The issuer's own explanation, for people.
    pub fn error_description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// How many requests were sent, or tried to be.
    pub fn attempts(&self) -> u8 {
        self.0.attempts
    }

    /// What continues a sign-in for which a second factor is required.
    pub fn mfa_token(&self) -> Option<&SecretString> {
        self.0.mfa_token.as_ref()
    }

    /// Whether the issuer may have done what was asked though its answer never arrived. For a refresh: the stored
    /// refresh token may be spent, and the issuer's overlap window, if it has one, is the only way back. With
    /// `InvalidGrant` it says that an earlier answer of the same exchange was lost.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if inner.doing.is_empty() {
            return f.write_str(&inner.what);
        }
        write!(f, "{}: {}", inner.doing, inner.what)?;
        match (&inner.error, &inner.description) {
            (Some(error), Some(description)) => write!(f, ": {error} ({description})")?,
            (Some(error), None) => write!(f, ": {error}")?,
            (None, Some(description)) => write!(f, ": {description}")?,
            (None, None) => {}
        }
        if let Some(wait) = inner.retry_after {
            write!(f, "; try again in {} s", wait.as_secs_f64().ceil())?;
        }
        Ok(())
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("TokenError")
            .field("kind", &inner.kind)
            .field("doing", &inner.doing)
            .field("what", &inner.what)
            .field("status", &inner.status)
            .field("error", &inner.error)
            .field("description", &inner.description)
            .field("retry_after", &inner.retry_after)
            .field("attempts", &inner.attempts)
            .field("mfa_token", &inner.mfa_token)
            .field("outcome_unknown", &inner.outcome_unknown)
            .finish()
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_where_and_when_to_try_again() {
        let error = TokenError::new(
            TokenErrorKind::RateLimited,
            "refreshing",
            "https://issuer.example asked to wait",
        )
        .with_status(429)
        .with_oauth(Some("too_many_requests".into()), Some("Slow down".into()))
        .with_retry_after(Some(Duration::from_millis(2500)));
        assert_eq!(
            error.to_string(),
            "refreshing: https://issuer.example asked to wait: too_many_requests (Slow down); try again in 3 s"
        );
        assert!(error.is_transient());
    }

    #[test]
    fn only_what_heals_by_itself_is_transient() {
        use TokenErrorKind as Kind;
        let transient = [Kind::RateLimited, Kind::Unavailable, Kind::Protocol];
        let lasting = [
            Kind::AccessDenied,
            Kind::Configuration,
            Kind::ExpiredCode,
            Kind::InvalidGrant,
            Kind::MfaRequired,
            Kind::Rejected,
            Kind::Unsupported,
        ];
        assert!(transient.iter().all(|kind| TokenError::new(*kind, "x", "y").is_transient()));
        assert!(!lasting.iter().any(|kind| TokenError::new(*kind, "x", "y").is_transient()));
    }

    #[test]
    fn the_mfa_token_is_kept_and_never_shown() {
        let error = TokenError::new(TokenErrorKind::MfaRequired, "signing in", "a second factor is required")
            .with_mfa_token(Some("canary-mfa".into()));
        assert_eq!(error.mfa_token().map(SecretString::expose), Some("canary-mfa"));
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
}
