//! The layer for `reqwest-middleware`.

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{Extensions, Method};
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use tokenkeep_session::{Session, TokenRequest};

use crate::bearer::{SessionTokens, TokenSource, authorize, discard, rejects_token};
use crate::{Error, Origins};

/// A client that sends the session's access token to `origins` (see [`Origins::parse`]) and retries once on a 401.
///
/// It is reqwest's default client with a [`SessionMiddleware`], and loopback is asked directly whatever proxy the
/// environment names. Build one yourself to set time-outs, a private CA or other middleware.
///
/// # Errors
///
/// [`Error::InvalidOrigin`], and [`Error::Client`] if TLS cannot be set up.
pub fn client<I>(session: &Session, origins: I) -> Result<ClientWithMiddleware, Error>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let origins = Origins::parse(origins)?;
    let client = reqwest::Client::builder().build().map_err(Error::Client)?;
    let direct = Direct::new(origins.clone())?;
    Ok(ClientBuilder::new(client).with(SessionMiddleware::new(session, origins)).with(direct).build())
}

/// Sends requests to served origins over plain http, which are loopback, without the proxy that the environment may
/// name: a proxy would get them in clear, token included.
struct Direct {
    origins: Origins,
    client: reqwest::Client,
}

impl Direct {
    fn new(origins: Origins) -> Result<Self, Error> {
        let client = reqwest::Client::builder().no_proxy().build().map_err(Error::Client)?;
        Ok(Self { origins, client })
    }
}

#[async_trait]
impl Middleware for Direct {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if request.url().scheme() == "http" && self.origins.serve_url(request.url()) {
            return Ok(self.client.execute(request).await?);
        }
        next.run(request, extensions).await
    }
}

/// Middleware for reqwest that adds a session's access token and retries once on a 401. See the [crate](crate).
///
/// - **Redirects** are followed by reqwest, below any middleware. It drops the token when scheme, host or port change,
///   so it stays where it was meant to go. A 401 from another origin than the one that was asked says nothing about the
///   token and is passed on. After a redirect within the origin, only GET, HEAD, OPTIONS and TRACE are sent again: what
///   redirected may have acted on anything else already.
/// - **Bodies** that reqwest can clone (`Request::try_clone`: text, bytes, none) are sent again; streams are not.
/// - **Time-outs** of a request count for each of its two attempts. The renewal between them has its own limits.
/// - **Proxies**: https is tunnelled. Plain http is not: a client of your own that serves loopback and has a proxy for
///   `http` needs `NO_PROXY=localhost,127.0.0.1,::1`, or the proxy gets the token in clear. [`client`] sees to it itself.
/// - **Order**: whatever is added after this middleware sees the token, and its retries repeat the same one.
///
/// ```
/// use std::time::Duration;
///
/// use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
/// use tokenkeep_http::{Error, Origins, SessionMiddleware};
/// use tokenkeep_session::Session;
///
/// fn patient_client(session: &Session) -> Result<ClientWithMiddleware, Box<dyn std::error::Error>> {
///     let own = reqwest::Client::builder().timeout(Duration::from_secs(300)).build()?;
///     let origins = Origins::parse(["https://api.example.com"])?;
///     Ok(ClientBuilder::new(own).with(SessionMiddleware::new(session, origins)).build())
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a middleware does nothing until a client is built with it"]
pub struct SessionMiddleware {
    tokens: SessionTokens,
    origins: Origins,
}

impl SessionMiddleware {
    /// Middleware that sends the session's access token to these origins and nowhere else.
    pub fn new(session: &Session, origins: Origins) -> Self {
        Self { tokens: SessionTokens { session: session.clone(), request: None }, origins }
    }

    /// What to ask the session for instead of its usual token: another audience, scope or time to live.
    pub fn token_request(mut self, request: TokenRequest) -> Self {
        self.tokens.request = Some(request);
        self
    }
}

#[async_trait]
impl Middleware for SessionMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        send(&self.tokens, &self.origins, request, extensions, next).await
    }
}

async fn send<T: TokenSource>(
    tokens: &T,
    origins: &Origins,
    mut request: Request,
    extensions: &mut Extensions,
    next: Next<'_>,
) -> reqwest_middleware::Result<Response> {
    if !origins.serve_url(request.url()) || request.headers().contains_key(AUTHORIZATION) {
        return next.run(request, extensions).await;
    }
    let token = tokens.access_token().await.map_err(session_error)?;
    let again = request.try_clone();
    let (method, mut asked) = (request.method().clone(), request.url().clone());
    authorize(request.headers_mut(), &token).map_err(reqwest_middleware::Error::middleware)?;

    let answer = next.clone().run(request, extensions).await?;
    if !rejects_token(answer.status(), answer.headers()) || answer.url().origin() != asked.origin() {
        return Ok(answer);
    }
    tracing::debug!("401: telling the session that its access token was rejected");
    let Some(other) = tokens.rejected(&token).await.map_err(session_error)? else { return Ok(answer) };
    drop(token);
    // A fragment is never sent, so the answer's URL has none.
    asked.set_fragment(None);
    let redirected = *answer.url() != asked;
    match again {
        Some(mut again) if !redirected || is_safe(&method) => {
            discard(answer.into()).await;
            authorize(again.headers_mut(), &other).map_err(reqwest_middleware::Error::middleware)?;
            drop(other);
            next.run(again, extensions).await
        }
        _ => Ok(answer),
    }
}

fn session_error(error: tokenkeep_session::SessionError) -> reqwest_middleware::Error {
    reqwest_middleware::Error::middleware(Error::from(error))
}

/// Methods that change nothing (RFC 9110, section 9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

#[cfg(test)]
mod tests;
