//! The layer around a real HTTP client, with a stand-in for the session.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::ServiceExt;

use super::*;
use crate::stand_in::{Api, StandIn, answer, late, stream};

/// Hyper's client, in whose place any service that takes requests can stand.
fn hyper<B>() -> Client<HttpConnector, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

fn request<B>(method: Method, url: String, body: B) -> Request<B> {
    Request::builder().method(method).uri(url).header("x-trace", "t").body(body).unwrap()
}

fn get(url: String) -> Request<Full<Bytes>> {
    request(Method::GET, url, Full::default())
}

async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body,
    B::Error: fmt::Debug,
{
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_401_renews_and_the_same_request_is_sent_once_more() {
    let api = Api::expired().await;
    let tokens = StandIn::new();
    let request = request(Method::PUT, api.url("/things/1?x=y"), Full::new(Bytes::from_static(b"the body")));
    let response = send(tokens.clone(), api.origins(), CloneBody, hyper(), request).await.unwrap();
    assert_eq!(text(response).await, "welcome");
    assert_eq!(api.authorizations(), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(tokens.rejected(), ["token-1"]);
    for request in api.seen() {
        assert_eq!((request.method.as_str(), &*request.body), ("PUT", &b"the body"[..]));
        assert_eq!(request.uri, "/things/1?x=y");
        assert_eq!(request.headers["x-trace"], "t");
    }
}

#[tokio::test]
async fn the_rest_of_a_short_401_is_read_so_that_its_connection_serves_the_retry() {
    let api = Api::start(late).await;
    let response = send(StandIn::new(), api.origins(), CloneBody, hyper(), get(api.url("/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let seen = api.seen();
    assert_eq!(seen[0].peer, seen[1].peer);
}

#[tokio::test]
async fn each_request_is_judged_by_its_own_uri() {
    let served = Api::start(|_| answer(200, &[], "")).await;
    let other = Api::start(|_| answer(401, &[], "")).await;
    let tokens = StandIn::new();
    let client = hyper();
    for url in [served.url("/"), other.url("/"), served.url("/")] {
        send(tokens.clone(), served.origins(), CloneBody, client.clone(), get(url)).await.unwrap();
    }
    assert_eq!(served.authorizations(), ["Bearer token-1", "Bearer token-1"]);
    assert_eq!(other.authorizations(), [""]);
    assert!(tokens.rejected().is_empty());
}

#[tokio::test]
async fn a_request_with_its_own_authorization_is_left_alone() {
    let api = Api::start(|_| answer(401, &[], "")).await;
    let tokens = StandIn::new();
    let mut request = get(api.url("/"));
    request.headers_mut().insert(AUTHORIZATION, http::HeaderValue::from_static("Basic YTpi"));
    let response = send(tokens.clone(), api.origins(), CloneBody, hyper(), request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.authorizations(), ["Basic YTpi"]);
    assert!(tokens.rejected().is_empty());
}

#[tokio::test]
async fn answers_that_no_other_token_can_help_are_passed_on_whole() {
    let api = Api::start(|seen| match seen.uri.path() {
        "/403" => answer(403, &[], "why"),
        _ => answer(401, &[("www-authenticate", "Bearer error=\"insufficient_scope\"")], "why"),
    })
    .await;
    let tokens = StandIn::new();
    for path in ["/403", "/401"] {
        let response =
            send(tokens.clone(), api.origins(), CloneBody, hyper(), get(api.url(path))).await.unwrap();
        assert_eq!(text(response).await, "why");
    }
    assert!(tokens.rejected().is_empty());
}

#[tokio::test]
async fn a_fresh_token_that_is_rejected_too_is_the_apis_answer() {
    let api = Api::start(|seen| answer(401, &[], seen.authorization().to_owned())).await;
    let response = send(StandIn::new(), api.origins(), CloneBody, hyper(), get(api.url("/"))).await.unwrap();
    assert_eq!(text(response).await, "Bearer token-2");
    assert_eq!(api.seen().len(), 2);
}

#[tokio::test]
async fn a_stream_is_not_sent_again_but_the_next_request_has_the_new_token() {
    type Stream = BoxBody<Bytes, std::io::Error>;
    let api = Api::expired().await;
    let tokens = StandIn::new();
    let never = |_: &Stream| None;
    for (expected, body) in [(StatusCode::UNAUTHORIZED, "first"), (StatusCode::OK, "second")] {
        let request = request(Method::POST, api.url("/"), stream(body));
        let response = send(tokens.clone(), api.origins(), never, hyper(), request).await.unwrap();
        assert_eq!(response.status(), expected);
        assert_eq!(api.seen().last().unwrap().body, body);
    }
    assert_eq!(api.authorizations(), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(tokens.rejected(), ["token-1"]);
}

#[tokio::test]
async fn where_there_is_no_better_token_the_401_is_passed_on_whole() {
    let api = Api::expired().await;
    let tokens = StandIn::new();
    tokens.make_last();
    let response = send(tokens, api.origins(), CloneBody, hyper(), get(api.url("/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(response).await, "old token");
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_session_that_has_ended_fails_the_request_with_the_reason() {
    let api = Api::expired().await;
    let tokens = StandIn::new();
    tokens.kill();
    let error = send(tokens, api.origins(), CloneBody, hyper(), get(api.url("/"))).await.unwrap_err();
    assert!(crate::login_required(&*error).is_some());
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_uri_without_an_origin_passes_through_untouched() {
    let echo = tower::service_fn(|request: Request<String>| {
        let authorized = request.headers().contains_key(AUTHORIZATION);
        ready(Ok::<_, Infallible>(Response::new(authorized.to_string())))
    });
    let origins = Origins::parse(["https://api.example.com"]).unwrap();
    let path_only = Request::new("body".to_owned());
    let response = send(StandIn::new(), origins.clone(), CloneBody, echo, path_only).await.unwrap();
    assert_eq!(response.into_body(), "false");
    let mut absolute = Request::new("body".to_owned());
    *absolute.uri_mut() = http::Uri::from_static("https://api.example.com/");
    let response = send(StandIn::new(), origins, CloneBody, echo, absolute).await.unwrap();
    assert_eq!(response.into_body(), "true");
}

/// Takes one call for each time it was polled ready, as a service behind a limit does.
#[derive(Debug, Default)]
struct Strict {
    ready: Arc<AtomicBool>,
}

impl Service<Request<String>> for Strict {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready.store(true, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        assert!(self.ready.swap(false, Ordering::SeqCst), "called without being ready");
        let mut response = Response::new(String::new());
        if request.headers()[AUTHORIZATION] == "Bearer token-1" {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        ready(Ok(response))
    }
}

#[tokio::test]
async fn the_inner_service_is_polled_ready_before_the_retry_too() {
    let mut request = Request::new(String::new());
    *request.uri_mut() = http::Uri::from_static("https://api.example.com/");
    let origins = Origins::parse(["https://api.example.com"]).unwrap();
    let mut strict = Strict::default();
    strict.ready().await.unwrap();
    let response = send(StandIn::new(), origins, CloneBody, strict, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}
