//! tonic's clients over a real session, against a gRPC server over HTTP/2.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub, reason = "tests")]

#[allow(dead_code, reason = "the other server is another test's")]
mod servers;
mod session;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use futures_util::{StreamExt, stream};
use http::uri::PathAndQuery;
use mock_auth0::MockAuth0;
use servers::Door;
use session::{bearer, signed_in};
use tokenkeep_http::{Error, SessionChannel, grpc_channel, login_required};
use tokenkeep_session::{EndReason, LoginReason, Session};
use tokenkeep_store::MemoryStore;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

/// Messages of plain bytes: what generated code would do with protobuf.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

struct Scene {
    mock: MockAuth0,
    session: Session,
    door: Door,
    client: Grpc<SessionChannel>,
}

/// A signed-in session, and a client of a server that has its eye on the tokens.
async fn scene() -> Scene {
    let mock = MockAuth0::start().await.unwrap();
    let (session, door) = (signed_in(&mock).await, Door::default());
    let endpoint = Endpoint::from_shared(servers::grpc(door.clone()).await).unwrap();
    let client = Grpc::new(grpc_channel(&session, &endpoint).unwrap());
    Scene { mock, session, door, client }
}

async fn echo(client: &mut Grpc<SessionChannel>, request: Request<Bytes>) -> Result<Bytes, Status> {
    client.ready().await?;
    let path = PathAndQuery::from_static("/test.Echo/Echo");
    Ok(client.unary(request, path, Raw).await?.into_inner())
}

fn message(text: &'static str) -> Request<Bytes> {
    Request::new(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn a_call_carries_the_token_and_one_that_is_refused_is_made_again_with_a_new_one() {
    let Scene { mock, session, door, mut client } = scene().await;
    assert_eq!(echo(&mut client, message("one")).await.unwrap(), "one");
    let old = bearer(&session).await;
    assert_eq!(door.seen(), std::slice::from_ref(&old));
    assert_eq!(mock.counters().refreshes(), 0);

    door.refuse(&old["Bearer ".len()..]);
    assert_eq!(echo(&mut client, message("two")).await.unwrap(), "two");
    let new = bearer(&session).await;
    assert_ne!(new, old);
    assert_eq!(door.seen()[1..], [old, new]);
    assert_eq!(mock.counters().refreshes(), 1);
}

#[tokio::test]
async fn a_stream_that_goes_on_is_not_sent_again_and_the_next_call_has_the_new_token() {
    let Scene { mock, session, door, mut client } = scene().await;
    let old = bearer(&session).await;
    door.refuse(&old["Bearer ".len()..]);
    let live = stream::once(async { Bytes::from_static(b"first of many") }).chain(stream::pending());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Collect");
    let refused = client.client_streaming(Request::new(live), path, Raw).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "no such token"));
    assert_eq!(door.seen(), [old]);
    assert_eq!(mock.counters().refreshes(), 1);
    assert_eq!(echo(&mut client, message("next")).await.unwrap(), "next");
    assert_eq!(door.seen()[1..], [bearer(&session).await]);
    assert_eq!(mock.counters().refreshes(), 1);
}

#[tokio::test]
async fn a_message_too_long_to_keep_is_not_sent_again() {
    let Scene { mock: _mock, session, door, mut client } = scene().await;
    let long = || Request::new(Bytes::from(vec![b'x'; 100 * 1024]));
    let old = bearer(&session).await;
    assert_eq!(echo(&mut client, long()).await.unwrap().len(), 100 * 1024, "it is sent whole");
    door.refuse(&old["Bearer ".len()..]);
    assert_eq!(echo(&mut client, long()).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(door.seen().len(), 2);
    assert_eq!(echo(&mut client, long()).await.unwrap().len(), 100 * 1024);
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_too_is_the_servers_answer() {
    let Scene { mock, session, door, mut client } = scene().await;
    for round in 0..3 {
        let token = bearer(&session).await;
        door.refuse(&token["Bearer ".len()..]);
        let _ = echo(&mut client, message("again")).await;
        assert_eq!(mock.counters().refreshes(), 1, "round {round}");
    }
}

#[tokio::test]
async fn a_call_with_its_own_authorization_is_left_alone() {
    let Scene { mock, session: _, door, mut client } = scene().await;
    let mut own = message("own");
    own.metadata_mut().insert("authorization", "Basic bWU6bWU=".parse().unwrap());
    assert_eq!(echo(&mut client, own).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(door.seen(), ["Basic bWU6bWU="]);
    assert_eq!(mock.counters().refreshes(), 0);
}

#[tokio::test]
async fn a_session_that_has_ended_fails_the_call_with_the_reason() {
    let Scene { mock, session, door, mut client } = scene().await;
    let old = bearer(&session).await;
    door.refuse(&old["Bearer ".len()..]);
    mock.revoke_user(mock_auth0::DEMO_SUB).unwrap();
    let failed = echo(&mut client, message("late")).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unauthenticated);
    let reason = login_required(&failed);
    assert!(
        matches!(reason, Some(LoginReason::Ended(end)) if end.reason == EndReason::Revoked),
        "{failed:?}"
    );
    assert!(!format!("{failed} {failed:?}").contains(&old["Bearer ".len()..]));
    assert_eq!(door.seen().len(), 1);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_no_reason_to_sign_in() {
    let Scene { mock, session, door, mut client } = scene().await;
    door.refuse(&bearer(&session).await["Bearer ".len()..]);
    mock.go_down();
    let failed = echo(&mut client, message("late")).await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    assert!(login_required(&failed).is_none());
}

#[tokio::test]
async fn plain_http_is_for_loopback_only() {
    let session = Session::open(Arc::new(MemoryStore::new()), "default").await.unwrap();
    for (address, expected) in [
        ("https://grpc.example.com/base", true),
        ("http://[::1]:50051", true),
        ("http://grpc.example.com", false),
    ] {
        let channel = grpc_channel(&session, &Endpoint::from_static(address));
        assert_eq!(channel.is_ok(), expected, "{address}");
        assert!(matches!(channel, Ok(_) | Err(Error::InvalidOrigin { .. })), "{address}");
    }
}
