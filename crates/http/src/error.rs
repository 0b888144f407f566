//! Why a request got no token, and how to find that again in a client's error.

use std::error::Error as StdError;
use std::io;

use tokenkeep_session::{LoginReason, SessionError};

/// Why a layer could not be built or a request could not be given a token. None of them holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session has no token for the request: [`login_required`] says whether signing in mends it, and
    /// [`SessionError::retry_at`] when to try again.
    // The session's error is the source, not the text: wrappers that are transparent skip themselves when they are
    // asked for their source, and with this step between, what they skip is never the error that matters.
    #[error("the session has no access token for the request")]
    Session(#[from] SessionError),

    /// The session's token cannot be sent in an `Authorization: Bearer` header.
    #[error("the access token cannot be sent as a bearer token: {reason}")]
    UnusableToken {
        /// What is wrong with it.
        reason: &'static str,
    },

    /// Not an origin that may get tokens.
    #[error("{origin} cannot be served: {reason}")]
    InvalidOrigin {
        /// The origin, without what could be a secret.
        origin: String,
        /// What is wrong with it and what would be right.
        reason: &'static str,
    },

    /// The HTTP client could not be built: its TLS or its proxy settings.
    #[cfg(feature = "reqwest")]
    #[error("the HTTP client could not be built")]
    Client(#[source] ::reqwest::Error),
}

/// The reason why the person has to sign in again, if that is what `error` comes down to.
///
/// Looks through sources, `reqwest_middleware::Error`, `anyhow` and `std::io::Error`, however they are nested. For a
/// boxed error (tower's `BoxError`) pass `&*error`; for an `anyhow::Error`, `error.as_ref()`.
pub fn login_required<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e LoginReason> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(reason) = error.downcast_ref::<SessionError>().and_then(SessionError::login_required) {
            return Some(reason);
        }
        if let Some(reason) = hidden(error).and_then(login_required) {
            return Some(reason);
        }
        next = error.source();
    }
    None
}

/// The error inside a wrapper whose `source()` skips it.
fn hidden<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    #[cfg(feature = "reqwest")]
    if let Some(reqwest_middleware::Error::Middleware(inner)) = error.downcast_ref() {
        return Some(inner.as_ref());
    }
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Box<dyn StdError + Send + Sync>);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Transparent<E: StdError + 'static>(E);

    fn dead() -> SessionError {
        SessionError::LoginRequired(LoginReason::NeverSignedIn)
    }

    fn is_found(error: &(dyn StdError + 'static)) -> bool {
        matches!(login_required(error), Some(LoginReason::NeverSignedIn))
    }

    #[test]
    fn the_reason_is_found_however_deep_it_is() {
        assert!(is_found(&dead()));
        assert!(is_found(&Error::from(dead())));
        assert!(is_found(&Outer(Box::new(Outer(Box::new(Error::from(dead())))))));
        assert!(is_found(&Outer(Box::new(io::Error::other(Outer(Box::new(dead())))))));
        assert!(is_found(&io::Error::other(dead())));
        assert!(is_found(&Transparent(Transparent(Error::from(dead())))));
        let boxed: Box<dyn StdError + Send + Sync> = Error::from(dead()).into();
        assert!(is_found(&*boxed));
        let any = anyhow::Error::from(Error::from(dead())).context("while asking").context("at start");
        assert!(is_found(any.as_ref()));
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn the_reason_is_found_through_the_middlewares_error() {
        use reqwest_middleware::Error as MiddlewareError;

        assert!(is_found(&MiddlewareError::middleware(Error::from(dead()))));
        assert!(is_found(&MiddlewareError::Middleware(anyhow::Error::from(dead()).context("while asking"))));
        assert!(is_found(&Outer(Box::new(MiddlewareError::middleware(dead())))));
        assert!(is_found(&Transparent(MiddlewareError::middleware(Error::from(dead())))));
        let nested = MiddlewareError::middleware(MiddlewareError::middleware(dead()));
        assert!(is_found(anyhow::Error::from(nested).context("outermost").as_ref()));
    }

    #[test]
    fn other_errors_have_no_reason() {
        assert!(!is_found(&io::Error::other("plain")));
        assert!(!is_found(&io::Error::from(io::ErrorKind::NotFound)));
        assert!(!is_found(&Error::UnusableToken { reason: "x" }));
        assert!(!is_found(&Error::from(SessionError::Replaced)));
        #[cfg(feature = "reqwest")]
        assert!(!is_found(&reqwest_middleware::Error::middleware(SessionError::Replaced)));
    }
}
