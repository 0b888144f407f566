//! What is no plain request and answer: answers that come piece by piece, and connections that leave HTTP behind, as a
//! WebSocket does.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub, reason = "tests")]

#[allow(dead_code, reason = "the other server is another test's")]
mod servers;
mod session;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mock_auth0::MockAuth0;
use servers::Door;
use session::{bearer, signed_in};
use tokenkeep_http::{BoxError, Origins, SessionLayer, client};
use tokenkeep_session::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tower::{ServiceBuilder, ServiceExt};

async fn call(
    session: &Session,
    served: &str,
    request: Request<Empty<Bytes>>,
) -> Result<http::Response<Incoming>, BoxError> {
    let client = ServiceBuilder::new()
        .layer(SessionLayer::new(session, Origins::parse([served]).unwrap()))
        .service(Client::builder(TokioExecutor::new()).build_http());
    client.oneshot(request).await
}

fn upgrade(origin: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("{origin}/socket"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Empty::new())
        .unwrap()
}

#[tokio::test]
async fn the_request_that_opens_a_web_socket_carries_the_token_and_is_sent_again_after_a_401() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let door = Door::default();
    let origin = servers::upgrading(door.clone()).await;
    let old = bearer(&session).await;
    door.refuse(&old["Bearer ".len()..]);
    let response = call(&session, &origin, upgrade(&origin)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(door.seen(), [old, bearer(&session).await]);
    assert_eq!(mock.counters().refreshes(), 1);

    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    socket.write_all(b"not HTTP any more").await.unwrap();
    let mut echo = [0; 17];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"not HTTP any more");
}

#[tokio::test]
async fn a_web_socket_elsewhere_gets_no_token() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let door = Door::default();
    let elsewhere = servers::upgrading(door.clone()).await;
    let response = call(&session, &mock.url(""), upgrade(&elsewhere)).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(door.seen(), [""]);
    assert_eq!(mock.counters().refreshes(), 0);
}

/// A server that sends `first`, and `second` only once it is told to.
async fn slowly(go_on: Arc<Notify>) -> String {
    let handler = move || {
        let go_on = go_on.clone();
        let second = stream::once(async move {
            go_on.notified().await;
            Ok::<_, Infallible>(Bytes::from_static(b"second"))
        });
        let body = stream::once(async { Ok(Bytes::from_static(b"first")) }).chain(second);
        std::future::ready(Body::from_stream(body))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handler)).await.unwrap() });
    origin
}

#[tokio::test]
async fn an_answer_comes_piece_by_piece_as_the_server_sends_it() {
    let mock = MockAuth0::start().await.unwrap();
    let session = signed_in(&mock).await;
    let go_on = Arc::new(Notify::new());
    let origin = slowly(go_on.clone()).await;

    let request = Request::get(&origin).body(Empty::new()).unwrap();
    let mut body = call(&session, &origin, request).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    go_on.notify_one();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "second");

    let http = client(&session, [&origin]).unwrap();
    let mut answer = http.get(&origin).send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
    go_on.notify_one();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "second");
}
