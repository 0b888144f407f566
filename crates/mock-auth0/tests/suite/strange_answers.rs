//! Answers with status 200 that are not what they should be.

use mock_auth0::{BadAnswer, Endpoint, Fault, FaultRule, MockAuth0};
use serde_json::{Value, json};

use crate::support::{Got, get, refresh};

async fn with(mock: &MockAuth0, fault: Fault) -> Got {
    let token = mock.seed_session().unwrap().refresh_token.unwrap();
    mock.next_refresh(fault);
    refresh(mock, &token).await.unwrap()
}

#[tokio::test]
async fn members_are_taken_out_or_set_to_anything() {
    let mock = MockAuth0::start().await.unwrap();
    for name in ["access_token", "id_token", "refresh_token", "scope", "expires_in", "token_type"] {
        let got = with(&mock, Fault::without(name)).await;
        assert_eq!(got.status, 200);
        let set = got.json();
        assert!(set.get(name).is_none(), "{name}");
        assert_eq!(set.as_object().unwrap().len(), 5, "the others stay");
    }
    for value in [json!("3600"), json!(-1), json!(1e300), json!(u64::MAX), json!([]), json!({"a": 1})] {
        assert_eq!(with(&mock, Fault::member("expires_in", value.clone())).await.json()["expires_in"], value);
    }
    assert_eq!(with(&mock, Fault::member("access_token", json!(7))).await.json()["access_token"], 7);
    assert_eq!(mock.counters().took_effect("refresh_token"), 13);
}

#[tokio::test]
async fn bodies_are_no_json_at_all() {
    let mock = MockAuth0::start().await.unwrap();
    let broken = with(&mock, Fault::after(BadAnswer::MalformedJson)).await;
    assert_eq!(broken.header("content-type"), Some("application/json"));
    assert!(serde_json::from_str::<Value>(&broken.text).is_err());
    assert!(broken.text.starts_with('{'));
    let broken = with(&mock, Fault::instead(BadAnswer::MalformedJson)).await;
    assert!(serde_json::from_str::<Value>(&broken.text).is_err());
    let portal = with(&mock, Fault::instead(BadAnswer::CaptivePortal)).await;
    assert_eq!(portal.status, 200);
    assert!(portal.header("content-type").unwrap().starts_with("text/html"));
    let empty = with(&mock, Fault::instead(BadAnswer::Empty)).await;
    assert_eq!((empty.status, empty.text.as_str()), (200, ""));
}

#[tokio::test]
async fn an_oversized_body_is_well_formed_and_streamed() {
    const SIZE: u64 = 8 << 20;
    let mock = MockAuth0::start().await.unwrap();
    let got = with(&mock, Fault::instead(BadAnswer::Oversized { bytes: SIZE })).await;
    assert_eq!(got.header("content-length"), None, "a client cannot refuse it by its length");
    assert_eq!(got.text.len() as u64, SIZE);
    assert_eq!(got.json()["access_token"].as_str().unwrap().len() as u64, SIZE - 19);
}

#[tokio::test]
async fn discovery_keys_and_userinfo_lie() {
    let mock = MockAuth0::start().await.unwrap();
    let other = "https://evil.example/";
    mock.add_fault(FaultRule::new(Fault::member("issuer", json!(other))).at(Endpoint::Discovery));
    let path = "/.well-known/openid-configuration";
    assert_eq!(get(&mock, path, None).await.json()["issuer"], other);
    assert_eq!(get(&mock, path, None).await.json()["issuer"], mock.issuer());
    mock.add_fault(FaultRule::new(Fault::member("keys", json!([]))).at(Endpoint::Jwks));
    assert_eq!(get(&mock, "/.well-known/jwks.json", None).await.json(), json!({"keys": []}));
    let tokens = mock.seed_session().unwrap();
    mock.add_fault(FaultRule::new(Fault::member("sub", json!("other"))).at(Endpoint::Userinfo));
    assert_eq!(get(&mock, "/userinfo", Some(&tokens.access_token)).await.json()["sub"], "other");
}

#[tokio::test]
async fn headers_lie_about_the_date() {
    let mock = MockAuth0::start().await.unwrap();
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    let got = with(&mock, Fault::header("Date", old)).await;
    assert_eq!(got.header("date"), Some(old));
    assert_eq!(got.headers.get_all("date").iter().count(), 1);
    let got = with(&mock, Fault::header("Content-Type", "text/plain")).await;
    assert_eq!(got.header("content-type"), Some("text/plain"));
    assert!(got.json()["access_token"].is_string());
}
