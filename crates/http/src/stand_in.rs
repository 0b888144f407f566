//! What the layers are tested with: a stand-in for a session, and a real HTTP server that writes down what it gets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use tokenkeep_session::{LoginReason, SessionError};

use crate::Origins;
use crate::bearer::{Token, TokenSource};

/// Hands out `token-1`, and the next number once that is rejected: as a session does, one new token a rejected one.
#[derive(Clone, Debug)]
pub(crate) struct StandIn {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    number: u32,
    rejected: Vec<String>,
    last: bool,
    dead: bool,
}

impl StandIn {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State { number: 1, rejected: Vec::new(), last: false, dead: false })),
        }
    }

    /// There is no better token than this one.
    pub(crate) fn make_last(&self) {
        self.state.lock().unwrap().last = true;
    }

    /// The next renewal finds that the session has ended.
    pub(crate) fn kill(&self) {
        self.state.lock().unwrap().dead = true;
    }

    /// Every token that was reported as rejected, repeats included.
    pub(crate) fn rejected(&self) -> Vec<String> {
        self.state.lock().unwrap().rejected.clone()
    }
}

#[derive(Debug)]
pub(crate) struct StandInToken(String);

impl Token for StandInToken {
    fn expose(&self) -> &str {
        &self.0
    }

    fn token_type(&self) -> &str {
        "Bearer"
    }
}

impl TokenSource for StandIn {
    type Token = StandInToken;

    async fn access_token(&self) -> Result<StandInToken, SessionError> {
        Ok(StandInToken(format!("token-{}", self.state.lock().unwrap().number)))
    }

    async fn rejected(&self, token: &StandInToken) -> Result<Option<StandInToken>, SessionError> {
        let mut state = self.state.lock().unwrap();
        state.rejected.push(token.0.clone());
        if state.dead {
            return Err(SessionError::LoginRequired(LoginReason::NeverSignedIn));
        }
        if state.last {
            return Ok(None);
        }
        if token.0 == format!("token-{}", state.number) {
            state.number += 1;
        }
        Ok(Some(StandInToken(format!("token-{}", state.number))))
    }
}

/// One request as the server got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Tells connections apart.
    pub(crate) peer: SocketAddr,
}

impl Seen {
    /// The `Authorization` header, or nothing.
    pub(crate) fn authorization(&self) -> &str {
        self.headers.get("authorization").map_or("", |value| value.to_str().unwrap())
    }
}

/// A server on loopback. It stops with the runtime of its test.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Api {
    /// A server that answers by `answer`.
    pub(crate) async fn start(
        answer: impl Fn(&Seen) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let handler = move |ConnectInfo(peer): ConnectInfo<SocketAddr>,
                            method: Method,
                            uri: Uri,
                            headers: HeaderMap,
                            body: Bytes| {
            let seen = Seen { method, uri, headers, body, peer };
            let response = answer(&seen);
            log.lock().unwrap().push(seen);
            async move { response }
        };
        let app = Router::new().fallback(handler).into_make_service_with_connect_info::<SocketAddr>();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { origin, seen }
    }

    /// A server that takes `token-2` and later ones only.
    pub(crate) async fn expired() -> Self {
        Self::start(|seen| match seen.authorization() {
            "Bearer token-1" => {
                answer(401, &[("www-authenticate", "Bearer error=\"invalid_token\"")], "old token")
            }
            _ => answer(200, &[], "welcome"),
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub(crate) fn origins(&self) -> Origins {
        Origins::parse([&self.origin]).unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The `Authorization` headers of all requests, in order.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.authorization().to_owned()).collect()
    }
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(
            axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            axum::http::HeaderValue::from_str(value).unwrap(),
        );
    }
    response
}

/// A body that can be read once.
pub(crate) fn stream(text: &'static str) -> http_body_util::combinators::BoxBody<Bytes, std::io::Error> {
    use http_body_util::BodyExt as _;
    http_body_util::Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed()
}

/// A 401 for `token-1` whose announced body comes a moment after its head, from a server that keeps connections.
pub(crate) fn late(seen: &Seen) -> Response<Body> {
    if seen.authorization() != "Bearer token-1" {
        return answer(200, &[], "welcome");
    }
    let body = futures_util::stream::once(async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Ok::<_, std::convert::Infallible>(Bytes::from_static(b"old token"))
    });
    answer(401, &[("content-length", "9")], Body::from_stream(body))
}
