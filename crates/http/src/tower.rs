//! The layer for `tower`.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tokenkeep_session::{Session, TokenRequest};
use tower_layer::Layer;
use tower_service::Service;

use crate::bearer::{SessionTokens, TokenSource, authorize, discard, rejects_token};
use crate::{Error, Origins};

/// The error of a [`SessionService`]: the inner service's own, or an [`Error`]. Pass `&*error` to
/// [`login_required`](crate::login_required).
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A tower layer for HTTP clients that adds a session's access token and retries once on a 401. See the
/// [crate](crate).
///
/// - **Requests** need an absolute URI; one without scheme and host passes through untouched. Each is judged by its own
///   URI, so a layer that follows redirects belongs *outside* of this one: then every hop is judged again, and the token
///   goes to none that is not served. Inside, it must drop `Authorization` when the origin changes.
/// - **Bodies** that are [`Clone`] are sent again (`Full<Bytes>`, `Empty`, `String`); [`SessionLayer::replay`] is for
///   all others.
/// - **Time-outs** inside of this layer count for each attempt, those outside for both and the renewal between.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use hyper_util::client::legacy::Client;
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use hyper_util::rt::TokioExecutor;
/// use tokenkeep_http::{Error, Origins, SessionLayer, SessionService};
/// use tokenkeep_session::Session;
/// use tower::ServiceBuilder;
///
/// type Hyper = Client<HttpConnector, Full<Bytes>>;
///
/// fn client(session: &Session) -> Result<SessionService<Hyper>, Error> {
///     let origins = Origins::parse(["http://localhost:8080"])?;
///     let hyper: Hyper = Client::builder(TokioExecutor::new()).build_http();
///     Ok(ServiceBuilder::new().layer(SessionLayer::new(session, origins)).service(hyper))
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until a service is built with it"]
pub struct SessionLayer<R = CloneBody> {
    tokens: SessionTokens,
    origins: Origins,
    replay: R,
}

impl SessionLayer {
    /// A layer that sends the session's access token to these origins and nowhere else. Bodies must be [`Clone`].
    pub fn new(session: &Session, origins: Origins) -> Self {
        let tokens = SessionTokens { session: session.clone(), request: None };
        Self { tokens, origins, replay: CloneBody }
    }
}

impl<R> SessionLayer<R> {
    /// What to ask the session for instead of its usual token: another audience, scope or time to live.
    pub fn token_request(mut self, request: TokenRequest) -> Self {
        self.tokens.request = Some(request);
        self
    }

    /// Says how to get a body a second time, for those that are not [`Clone`]: a function from the body to a copy, or
    /// `None` where there can be none. `|_: &Incoming| None` serves streams: a 401 is passed on, and the next request
    /// has a new token.
    pub fn replay<N>(self, replay: N) -> SessionLayer<N> {
        SessionLayer { tokens: self.tokens, origins: self.origins, replay }
    }
}

/// How to get a request's body a second time, asked before the request is sent.
pub trait Replay<B> {
    /// A body that sends the same bytes, or `None` if there can be none.
    fn again(&self, body: &B) -> Option<B>;
}

/// Sends clones. The body's clone must not share what is read from it.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CloneBody;

impl<B: Clone> Replay<B> for CloneBody {
    fn again(&self, body: &B) -> Option<B> {
        Some(body.clone())
    }
}

impl<B, F: Fn(&B) -> Option<B>> Replay<B> for F {
    fn again(&self, body: &B) -> Option<B> {
        self(body)
    }
}

impl<S, R: Clone> Layer<S> for SessionLayer<R> {
    type Service = SessionService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { inner, layer: self.clone() }
    }
}

/// A client behind a [`SessionLayer`].
#[derive(Clone)]
pub struct SessionService<S, R = CloneBody> {
    inner: S,
    layer: SessionLayer<R>,
}

impl<S, R> fmt::Debug for SessionService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("origins", &self.layer.origins).finish_non_exhaustive()
    }
}

impl<S, R, B, A> Service<Request<B>> for SessionService<S, R>
where
    S: Service<Request<B>, Response = Response<A>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    R: Replay<B> + Clone + Send + 'static,
    B: Send + 'static,
    A: http_body::Body + Send + 'static,
{
    type Response = Response<A>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready is the one that must be called, not a fresh clone of it.
        let fresh = self.inner.clone();
        let ready = mem::replace(&mut self.inner, fresh);
        let SessionLayer { tokens, origins, replay } = self.layer.clone();
        Box::pin(send(tokens, origins, replay, ready, request))
    }
}

async fn send<T, R, S, B, A>(
    tokens: T,
    origins: Origins,
    replay: R,
    mut service: S,
    mut request: Request<B>,
) -> Result<Response<A>, BoxError>
where
    T: TokenSource,
    R: Replay<B>,
    S: Service<Request<B>, Response = Response<A>>,
    S::Error: Into<BoxError>,
    A: http_body::Body,
{
    if !origins.serve_uri(request.uri()) || request.headers().contains_key(AUTHORIZATION) {
        return service.call(request).await.map_err(Into::into);
    }
    let token = tokens.access_token().await.map_err(Error::from)?;
    let again = again(&replay, &request);
    authorize(request.headers_mut(), &token)?;

    let answer = service.call(request).await.map_err(Into::into)?;
    if !rejects_token(answer.status(), answer.headers()) {
        return Ok(answer);
    }
    tracing::debug!("401: telling the session that its access token was rejected");
    let Some(other) = tokens.rejected(&token).await.map_err(Error::from)? else { return Ok(answer) };
    drop(token);
    let Some(mut again) = again else { return Ok(answer) };
    discard(answer).await;
    authorize(again.headers_mut(), &other)?;
    drop(other);
    poll_fn(|context| service.poll_ready(context)).await.map_err(Into::into)?;
    service.call(again).await.map_err(Into::into)
}

/// The same request, if its body can be had twice.
fn again<B>(replay: &impl Replay<B>, request: &Request<B>) -> Option<Request<B>> {
    let body = replay.again(request.body())?;
    let mut again = Request::new(body);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    Some(again)
}

#[cfg(test)]
mod tests;
