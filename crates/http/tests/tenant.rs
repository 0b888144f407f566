//! Both layers over a real session, against a tenant with rotation and without an overlap window.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

#[allow(dead_code, reason = "what the API saw is told by the mock")]
mod session;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Extensions, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use mock_auth0::{BadAnswer, BadBody, Endpoint, Fault, FaultRule, MockAuth0};
use reqwest::Response;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use serde_json::Value;
use session::signed_in;
use tokenkeep_http::{BoxError, Origins, SessionLayer, SessionMiddleware, client, login_required};
use tokenkeep_session::{EndReason, LoginReason, Session, SessionError, TokenRequest};

use tokenkeep_store::MemoryStore;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tower::{ServiceBuilder, ServiceExt};

const OTHER_AUDIENCE: &str = "https://other.example.com";

/// The origin of the mock, whose `/api/` is the protected API.
fn origin(mock: &MockAuth0) -> String {
    mock.url("")
}

fn client_for(session: &Session, mock: &MockAuth0) -> ClientWithMiddleware {
    client(session, [origin(mock)]).unwrap()
}

async fn json(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_that_the_api_rejects_is_renewed_once_and_the_request_succeeds() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let http = client_for(&session, &mock);
    assert_eq!(http.get(mock.url("/api/things")).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(mock.counters().refreshes(), 0);
    mock.reject_access_tokens();
    let response = http.post(mock.url("/api/things")).body("a thing").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(json(response).await["body"]["text"], "a thing");
    assert_eq!(mock.counters().refreshes(), 1);
    assert_eq!(mock.counters().at(Endpoint::Api), 3);
}

/// Holds requests back until all of them are there: by then each carries its token.
struct Together(Barrier);

#[async_trait]
impl Middleware for Together {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if extensions.insert(Held).is_none() {
            self.0.wait().await;
        }
        next.run(request, extensions).await
    }
}

/// Marks a request that was held once; its retry is not.
#[derive(Clone)]
struct Held;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_401s_for_one_token_make_one_renewal() {
    const TASKS: usize = 1000;
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    mock.reject_access_tokens();
    let http = ClientBuilder::new(reqwest::Client::new())
        .with(SessionMiddleware::new(&session, Origins::parse([origin(&mock)]).unwrap()))
        .with(Together(Barrier::new(TASKS)))
        .build();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let request = http.get(mock.url("/api/things"));
        tasks.spawn(async move { request.send().await.unwrap().status() });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses, vec![StatusCode::OK; TASKS]);
    let counters = mock.counters();
    assert_eq!(counters.refreshes(), 1);
    assert_eq!(counters.at(Endpoint::Api), 2 * TASKS as u64, "each was rejected once");
}

#[tokio::test]
async fn a_dead_session_fails_with_the_reason_and_sends_nothing_more() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let http = client_for(&session, &mock);
    mock.revoke_user(mock_auth0::DEMO_SUB).unwrap();
    mock.reject_access_tokens();
    let error = http.get(mock.url("/api/things")).send().await.unwrap_err();
    assert!(
        matches!(login_required(&error), Some(LoginReason::Ended(end)) if end.reason == EndReason::Revoked)
    );
    let before = mock.counters();
    assert_eq!(before.refreshes(), 1);
    let again = http.get(mock.url("/api/things")).send().await.unwrap_err();
    assert!(login_required(&again).is_some());
    assert_eq!(mock.counters().refreshes(), 1);
    assert_eq!(mock.counters().at(Endpoint::Api), before.at(Endpoint::Api));
}

#[tokio::test]
async fn who_never_signed_in_is_told_so_and_the_api_hears_nothing() {
    let mock = MockAuth0::start().await.unwrap();
    let session = Session::open(Arc::new(MemoryStore::new()), "default").await.unwrap();
    let error = client_for(&session, &mock).get(mock.url("/api/things")).send().await.unwrap_err();
    assert!(matches!(login_required(&error), Some(LoginReason::NeverSignedIn)));
    assert_eq!(mock.counters().at(Endpoint::Api), 0);
}

#[tokio::test]
async fn a_renewal_that_fails_is_the_answer_in_place_of_the_401_and_no_login_is_asked_for() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    mock.reject_access_tokens();
    let refusal =
        BadAnswer::OAuth { status: 400, error: "invalid_request".to_owned(), description: String::new() };
    mock.add_fault(FaultRule::refresh(Fault::instead(refusal)));
    let error = client_for(&session, &mock).get(mock.url("/api/things")).send().await.unwrap_err();
    assert!(login_required(&error).is_none());
    let reqwest_middleware::Error::Middleware(inner) = &error else { panic!("{error:?}") };
    let failure = inner.chain().find_map(|error| error.downcast_ref::<SessionError>());
    assert!(matches!(failure, Some(SessionError::RenewalFailed(_))), "{error:?}");
}

#[tokio::test]
async fn insufficient_scope_renews_nothing() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let http = client_for(&session, &mock);
    let response = http.get(mock.url("/api/things?require_scope=admin:things")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    mock.configure(|settings| {
        settings.api_challenge = Some("Bearer error=\"insufficient_scope\"".to_owned())
    });
    mock.reject_access_tokens();
    let response = http.get(mock.url("/api/things")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(mock.counters().refreshes(), 0);
}

#[tokio::test]
async fn an_api_that_rejects_every_token_costs_one_renewal_not_one_a_request() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let http = client_for(&session, &mock);
    let refusal = BadAnswer::Status { status: 401, body: BadBody::Json };
    mock.add_fault(FaultRule::new(Fault::instead(refusal)).at(Endpoint::Api).always());
    for _ in 0..5 {
        let response = http.get(mock.url("/api/things")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(mock.counters().refreshes(), 1);
    assert_eq!(mock.counters().at(Endpoint::Api), 6);
}

#[tokio::test]
async fn a_stream_gets_its_401_and_the_next_request_the_new_token() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let http = client_for(&session, &mock);
    mock.reject_access_tokens();
    let once = || {
        let full = Full::new(Bytes::from_static(b"once")).map_err(|never| match never {});
        reqwest::Body::wrap(http_body_util::combinators::BoxBody::<_, std::io::Error>::new(full))
    };
    let response = http.post(mock.url("/api/things")).body(once()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(mock.counters().refreshes(), 1);
    let response = http.post(mock.url("/api/things")).body(once()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(mock.counters().refreshes(), 1);
}

#[tokio::test]
async fn another_audience_keeps_its_own_token_across_a_rejection() {
    let mock = MockAuth0::start().await.unwrap();
    mock.add_api(mock_auth0::Api::new(OTHER_AUDIENCE));
    let session = signed_in(&mock).await;
    let http = ClientBuilder::new(reqwest::Client::new())
        .with(
            SessionMiddleware::new(&session, Origins::parse([origin(&mock)]).unwrap())
                .token_request(TokenRequest::new().audience(OTHER_AUDIENCE)),
        )
        .build();
    let has_audience = |answer: &Value| answer["claims"]["aud"].to_string().contains(OTHER_AUDIENCE);
    let first = json(http.get(mock.url("/api/things")).send().await.unwrap()).await;
    assert!(has_audience(&first), "{first}");
    mock.reject_access_tokens();
    let second = json(http.get(mock.url("/api/things")).send().await.unwrap()).await;
    assert!(has_audience(&second), "{second}");
    assert_ne!(first["claims"]["jti"], second["claims"]["jti"]);
}

/// The `authorization` headers that reached the API of `mock`.
fn authorizations(mock: &MockAuth0) -> Vec<Option<String>> {
    let requests = mock.requests();
    let at_api = requests.iter().filter(|request| request.endpoint == Endpoint::Api);
    at_api.map(|request| request.headers.get("authorization").cloned()).collect()
}

#[tokio::test]
async fn a_redirect_between_https_and_http_never_carries_the_token() {
    let plain = MockAuth0::start().await.unwrap();
    let secure = MockAuth0::builder().tls().start().await.unwrap();
    let session = signed_in(&plain).await;
    let ca = reqwest::Certificate::from_pem(secure.ca_pem().unwrap().as_bytes()).unwrap();
    let trusting = reqwest::Client::builder().tls_certs_merge([ca]).build().unwrap();
    let both = Origins::parse([origin(&plain), origin(&secure)]).unwrap();
    let http = ClientBuilder::new(trusting).with(SessionMiddleware::new(&session, both)).build();
    for (from, to) in [(&secure, &plain), (&plain, &secure)] {
        for status in [302, 307] {
            from.reset_counters();
            to.reset_counters();
            let url = from.url(&format!("/api/redirect?status={status}&to={}", to.url("/api/things")));
            let response = http.get(url).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.url().as_str(), to.url("/api/things"));
            assert!(matches!(authorizations(from)[..], [Some(_)]), "the first hop is served");
            assert_eq!(authorizations(to), [None], "the second got no token");
        }
    }
    assert_eq!(plain.counters().refreshes(), 0, "a 401 from there says nothing about the token");
}

#[tokio::test]
async fn the_tower_layer_renews_once_and_repeats_the_request() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    mock.reject_access_tokens();
    let response = tower_post(&session, &mock).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["body"]["text"], "a thing");
    assert_eq!(mock.counters().refreshes(), 1);
}

#[tokio::test]
async fn the_tower_layer_fails_with_the_reason_when_the_session_is_dead() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    mock.revoke_user(mock_auth0::DEMO_SUB).unwrap();
    mock.reject_access_tokens();
    let error = tower_post(&session, &mock).await.unwrap_err();
    assert!(
        matches!(login_required(&*error), Some(LoginReason::Ended(end)) if end.reason == EndReason::Revoked)
    );
}

async fn tower_post(session: &Session, mock: &MockAuth0) -> Result<http::Response<Incoming>, BoxError> {
    let client = ServiceBuilder::new()
        .layer(SessionLayer::new(session, Origins::parse([origin(mock)]).unwrap()))
        .service(Client::builder(TokioExecutor::new()).build_http());
    let body = Full::new(Bytes::from_static(b"a thing"));
    client.oneshot(Request::post(mock.url("/api/things")).body(body).unwrap()).await
}

#[tokio::test]
async fn nothing_that_a_person_may_see_shows_the_token() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let token = session.access_token().await.unwrap().expose().to_owned();
    let middleware = SessionMiddleware::new(&session, Origins::parse([origin(&mock)]).unwrap());
    let layer = SessionLayer::new(&session, Origins::parse([origin(&mock)]).unwrap());
    let shown = format!("{middleware:?} {layer:?}");
    assert!(!shown.contains(&token) && shown.contains(&origin(&mock)), "{shown}");
    mock.revoke_user(mock_auth0::DEMO_SUB).unwrap();
    mock.reject_access_tokens();
    let error = client_for(&session, &mock).get(mock.url("/api/things")).send().await.unwrap_err();
    assert!(!format!("{error} {error:?} {error:#?}").contains(&token));
}
