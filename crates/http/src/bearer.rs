//! What both layers do: where tokens come from, how one is put into a request, and how an answer is thrown away.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body;
use tokenkeep_session::{AccessToken, Session, SessionError, TokenRequest};
use zeroize::Zeroizing;

use crate::Error;
use crate::challenge::asks_for_another_token;

/// The longest answer that is read to its end only to keep its connection, in bytes. A 401 is rarely longer, and a new
/// connection costs about as much as reading this.
const MAX_DISCARDED: u64 = 16 * 1024;

/// Where tokens come from: a session, or a test's stand-in for one.
pub(crate) trait TokenSource: Clone + fmt::Debug + Send + Sync + 'static {
    type Token: Token;

    /// A good token.
    fn access_token(&self) -> impl Future<Output = Result<Self::Token, SessionError>> + Send;

    /// Another token than this one, which an API rejected; `None` if there is no better one.
    fn rejected(
        &self,
        token: &Self::Token,
    ) -> impl Future<Output = Result<Option<Self::Token>, SessionError>> + Send;
}

pub(crate) trait Token: Send + Sync {
    fn expose(&self) -> &str;
    fn token_type(&self) -> &str;
}

/// A session, and what to ask it for if not for its usual token.
#[derive(Clone, Debug)]
pub(crate) struct SessionTokens {
    pub(crate) session: Session,
    pub(crate) request: Option<TokenRequest>,
}

impl TokenSource for SessionTokens {
    type Token = AccessToken;

    async fn access_token(&self) -> Result<AccessToken, SessionError> {
        match &self.request {
            // The warm path: no lock, no other thread.
            None => self.session.access_token().await,
            Some(request) => self.session.token(request.clone()).await,
        }
    }

    async fn rejected(&self, token: &AccessToken) -> Result<Option<AccessToken>, SessionError> {
        self.session.rejected(token).await
    }
}

impl Token for AccessToken {
    fn expose(&self) -> &str {
        AccessToken::expose(self)
    }

    fn token_type(&self) -> &str {
        AccessToken::token_type(self)
    }
}

/// Puts `token` into the headers of a request, in place of another.
pub(crate) fn authorize(headers: &mut HeaderMap, token: &impl Token) -> Result<(), Error> {
    let unusable = |reason| Error::UnusableToken { reason };
    // RFC 6750, section 5.1 of RFC 6749: the type is compared without case. A token bound to a key (DPoP) is worthless
    // without its proof, and sent as Bearer it would only be exposed.
    if !token.token_type().eq_ignore_ascii_case("Bearer") {
        return Err(unusable("the issuer gave it another token type"));
    }
    let token = token.expose();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("it is empty, or has spaces or characters beyond ASCII"));
    }
    let mut text = Zeroizing::new(String::with_capacity("Bearer ".len() + token.len()));
    text.push_str("Bearer ");
    text.push_str(token);
    let mut value = HeaderValue::from_str(&text).map_err(|_| unusable("it does not fit into a header"))?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// Whether an answer says that the token it was asked with is no longer taken, but another may be.
pub(crate) fn rejects_token(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED && asks_for_another_token(headers)
}

/// Throws an answer away. If it says that little is left of it, that is read first: over HTTP/1.1 a connection with
/// unread bytes cannot be used again.
pub(crate) async fn discard<B: Body>(answer: Response<B>) {
    let mut body = pin!(answer.into_body());
    if body.size_hint().upper().is_none_or(|left| left > MAX_DISCARDED) {
        return;
    }
    while let Some(Ok(_)) = poll_fn(|context| body.as_mut().poll_frame(context)).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text(&'static str, &'static str);

    impl Token for Text {
        fn expose(&self) -> &str {
            self.0
        }

        fn token_type(&self) -> &str {
            self.1
        }
    }

    #[test]
    fn the_header_is_marked_sensitive_and_hides_the_token() {
        let mut headers = HeaderMap::new();
        authorize(&mut headers, &Text("eyJ.canary-_~+/==", "bearer")).unwrap();
        assert_eq!(headers[AUTHORIZATION].to_str().unwrap(), "Bearer eyJ.canary-_~+/==");
        assert!(headers[AUTHORIZATION].is_sensitive());
        assert!(!format!("{headers:?}").contains("canary"));
        authorize(&mut headers, &Text("second", "Bearer")).unwrap();
        assert_eq!(headers.get_all(AUTHORIZATION).iter().count(), 1);
        assert_eq!(headers[AUTHORIZATION].to_str().unwrap(), "Bearer second");
    }

    #[test]
    fn a_token_that_is_no_bearer_token_is_refused_and_not_shown() {
        for token in [
            Text("canary", "DPoP"),
            Text("canary", ""),
            Text("", "Bearer"),
            Text("canary\r\nX-Injected: 1", "Bearer"),
            Text("canary two", "Bearer"),
            Text("canaryé", "Bearer"),
            Text("canary\u{7f}", "Bearer"),
        ] {
            let mut headers = HeaderMap::new();
            let error = authorize(&mut headers, &token).unwrap_err();
            assert!(headers.is_empty());
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }
}
