//! The channel for tonic's gRPC clients.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tokenkeep_session::{Session, SessionError, TokenRequest};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::bearer::{SessionTokens, TokenSource, authorize, rejects_token};
use crate::{Error, Origins};

/// The longest message that is kept to be sent a second time, in bytes.
const MAX_KEPT: usize = 64 * 1024;

/// `UNAUTHENTICATED` as it stands in the header `grpc-status`.
const UNAUTHENTICATED: &str = "16";

/// A channel to `endpoint`, for generated clients (`GreeterClient::new(channel)`), that sends the session's access token
/// with each call and renews it when a server answers `UNAUTHENTICATED`. Connects with the first call, and must be made
/// inside of a tokio runtime.
///
/// A channel goes to one server, so the token goes to that one alone, whatever a request calls itself. TLS is the
/// endpoint's: tonic's `tls-…` features set it up.
///
/// # Errors
///
/// [`Error::InvalidOrigin`] if the endpoint is neither https nor loopback: the token would be readable on its way.
pub fn grpc_channel(session: &Session, endpoint: &Endpoint) -> Result<SessionChannel, Error> {
    let uri = endpoint.uri();
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
    Origins::parse([format!("{scheme}://{}", authority.map_or("", |authority| authority.as_str()))])?;
    let tokens = SessionTokens { session: session.clone(), request: None };
    Ok(SessionChannel { channel: endpoint.connect_lazy(), tokens })
}

/// A channel that sends a session's access token with each call: see [`grpc_channel`]. Clones share the connection.
///
/// - A refused call (`UNAUTHENTICATED` at once, before any message) is made once more with a new token if its request
///   could be kept: one message, or a stream that had ended before it was sent, of 64 KiB at most. Other streams get the
///   status, and the next call has the new token.
/// - `PERMISSION_DENIED` renews nothing: a new token would have the same rights.
/// - A call with its own `authorization` is left alone.
/// - Where the session has no token, the call fails with `UNAUTHENTICATED` if somebody has to sign in
///   ([`login_required`](crate::login_required) finds the reason in the status), else with `UNAVAILABLE`.
///
/// ```
/// use tokenkeep_http::{Error, SessionChannel, grpc_channel};
/// use tokenkeep_session::Session;
/// use tonic::client::Grpc;
/// use tonic::transport::Endpoint;
///
/// fn client(session: &Session) -> Result<Grpc<SessionChannel>, Error> {
///     // Generated clients take the channel in the same way.
///     Ok(Grpc::new(grpc_channel(session, &Endpoint::from_static("http://localhost:50051"))?))
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct SessionChannel {
    channel: Channel,
    tokens: SessionTokens,
}

impl SessionChannel {
    /// What to ask the session for instead of its usual token: another audience, scope or time to live.
    pub fn token_request(mut self, request: TokenRequest) -> Self {
        self.tokens.request = Some(request);
        self
    }
}

impl fmt::Debug for SessionChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionChannel").finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for SessionChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context).map_err(transport)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The channel that was polled ready is the one that must be called, not a fresh clone of it.
        let fresh = self.channel.clone();
        let ready = mem::replace(&mut self.channel, fresh);
        Box::pin(send(self.tokens.clone(), ready, request))
    }
}

async fn send(
    tokens: SessionTokens,
    mut channel: Channel,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    if request.headers().contains_key(AUTHORIZATION) {
        return channel.call(request).await.map_err(transport);
    }
    let token = tokens.access_token().await.map_err(no_token)?;
    authorize(request.headers_mut(), &token).map_err(status)?;
    let (parts, body) = request.into_parts();
    let (front, rest) = at_hand(body).await?;
    let again = match rest {
        None => Some((parts.clone(), front.clone())),
        Some(_) => None,
    };
    let first = Request::from_parts(parts, Body::new(Given { front, rest }));
    let answer = channel.call(first).await.map_err(transport)?;
    let refused = answer.headers().get("grpc-status").is_some_and(|code| code == UNAUTHENTICATED)
        || rejects_token(answer.status(), answer.headers());
    if !refused {
        return Ok(answer);
    }
    tracing::debug!("UNAUTHENTICATED: telling the session that its access token was rejected");
    let Some(other) = tokens.rejected(&token).await.map_err(no_token)? else { return Ok(answer) };
    drop(token);
    let Some((parts, front)) = again else { return Ok(answer) };
    let mut again = Request::from_parts(parts, Body::new(Given { front, rest: None }));
    authorize(again.headers_mut(), &other).map_err(status)?;
    drop((answer, other));
    poll_fn(|context| channel.poll_ready(context)).await.map_err(transport)?;
    channel.call(again).await.map_err(transport)
}

/// What can be read of a request without waiting, and the rest; no rest if that was all. A single message is at hand as a
/// whole; a stream that waits for its caller, or for the server's answer, is not waited for.
async fn at_hand(mut body: Body) -> Result<(VecDeque<Bytes>, Option<Body>), Status> {
    let (mut front, mut length) = (VecDeque::new(), 0);
    while length <= MAX_KEPT {
        let next = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await;
        let frame = match next {
            Poll::Pending => break,
            Poll::Ready(None) => return Ok((front, None)),
            Poll::Ready(Some(frame)) => frame?,
        };
        // A gRPC request has no trailers.
        if let Ok(data) = frame.into_data() {
            length += data.len();
            front.push_back(data);
        }
    }
    Ok((front, Some(body)))
}

/// A request's body of which the front was read already.
struct Given {
    front: VecDeque<Bytes>,
    rest: Option<Body>,
}

impl http_body::Body for Given {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.front.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.front.is_empty() && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

fn transport(error: tonic::transport::Error) -> Status {
    Status::from_error(Box::new(error))
}

fn no_token(error: SessionError) -> Status {
    status(Error::from(error))
}

/// The session's error as a status that has it as its source.
fn status(error: Error) -> Status {
    let text = match &error {
        Error::Session(source) => source.to_string(),
        other => other.to_string(),
    };
    let mut status = match crate::login_required(&error) {
        Some(_) => Status::unauthenticated(text),
        None => Status::unavailable(text),
    };
    status.set_source(Arc::new(error));
    status
}
