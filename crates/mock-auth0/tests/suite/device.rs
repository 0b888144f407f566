//! The device flow, by a person at the page and by the handle.

use std::time::Duration;

use mock_auth0::{DEMO_AUDIENCE, DEMO_USER, MockAuth0};
use serde_json::Value;

use crate::support::{Got, claims, get, post};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn begin(mock: &MockAuth0) -> Value {
    let id = mock.client_id();
    let form = [("client_id", &*id), ("scope", "openid offline_access"), ("audience", DEMO_AUDIENCE)];
    let got = post(mock, "/oauth/device/code", &form).await;
    assert_eq!(got.status, 200);
    got.json()
}

/// Polls after the interval has passed on the mock's clock.
async fn poll(mock: &MockAuth0, code: &Value) -> Got {
    mock.advance(Duration::from_secs(5));
    poll_at_once(mock, code).await
}

async fn poll_at_once(mock: &MockAuth0, code: &Value) -> Got {
    let id = mock.client_id();
    let device_code = code["device_code"].as_str().unwrap();
    post(mock, "/oauth/token", &[("grant_type", GRANT), ("client_id", &id), ("device_code", device_code)])
        .await
}

fn ticket(page: &Got) -> String {
    let (_, rest) = page.text.split_once("name=ticket value=\"").unwrap_or_else(|| panic!("{}", page.text));
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_person_confirms_at_the_page() {
    let mock = MockAuth0::start().await.unwrap();
    let code = begin(&mock).await;
    assert_eq!(code["verification_uri"], mock.url("/activate"));
    assert_eq!((&code["expires_in"], &code["interval"]), (&Value::from(900), &Value::from(5)));
    assert_eq!(poll(&mock, &code).await.error(), (403, "authorization_pending".to_owned()));
    assert_eq!(poll_at_once(&mock, &code).await.error(), (429, "slow_down".to_owned()));

    let complete = code["verification_uri_complete"].as_str().unwrap();
    let user_code = code["user_code"].as_str().unwrap();
    let path = complete.strip_prefix(&mock.url("")).unwrap();
    let page = get(&mock, path, None).await;
    assert!(page.text.contains(user_code));
    assert!(!page.text.contains("<script"), "works without scripts");

    let wrong = post(&mock, "/activate", &[("user_code", "XXXX-XXXX")]).await;
    assert_eq!(wrong.status, 400);
    let typed = user_code.to_lowercase().replace('-', "");
    let login = post(&mock, "/activate", &[("user_code", &typed)]).await;
    let bad = [("ticket", &*ticket(&login)), ("username", DEMO_USER.0), ("password", "wrong")];
    let again = post(&mock, "/activate/login", &bad).await;
    assert_eq!(again.status, 400);
    let good = [("ticket", &*ticket(&again)), ("username", DEMO_USER.0), ("password", DEMO_USER.1)];
    let confirm = post(&mock, "/activate/login", &good).await;
    assert!(confirm.text.contains(user_code) && confirm.text.contains(DEMO_USER.0));
    // Signing in alone gives the device nothing.
    assert_eq!(poll(&mock, &code).await.error(), (403, "authorization_pending".to_owned()));
    let done = [("ticket", &*ticket(&confirm)), ("action", "confirm")];
    assert_eq!(post(&mock, "/activate/confirm", &done).await.status, 200);
    assert_eq!(post(&mock, "/activate/confirm", &done).await.status, 400, "a form is good once");

    let tokens = poll(&mock, &code).await;
    assert_eq!(tokens.status, 200);
    let set = tokens.json();
    assert!(set["refresh_token"].is_string());
    assert_eq!(claims(set["access_token"].as_str().unwrap())["aud"][0], DEMO_AUDIENCE);
    assert_eq!(poll(&mock, &code).await.error(), (403, "invalid_grant".to_owned()), "a code is good once");
}

#[tokio::test]
async fn a_login_ticket_does_not_confirm() {
    let mock = MockAuth0::start().await.unwrap();
    let code = begin(&mock).await;
    let login = post(&mock, "/activate", &[("user_code", code["user_code"].as_str().unwrap())]).await;
    let jump = [("ticket", &*ticket(&login)), ("action", "confirm")];
    assert_eq!(post(&mock, "/activate/confirm", &jump).await.status, 400);
    assert_eq!(poll(&mock, &code).await.error(), (403, "authorization_pending".to_owned()));
}

#[tokio::test]
async fn a_person_or_the_handle_denies() {
    let mock = MockAuth0::start().await.unwrap();
    let code = begin(&mock).await;
    let login = post(&mock, "/activate", &[("user_code", code["user_code"].as_str().unwrap())]).await;
    let deny = [("ticket", &*ticket(&login)), ("action", "deny")];
    assert_eq!(post(&mock, "/activate/login", &deny).await.status, 200);
    assert_eq!(poll(&mock, &code).await.error(), (403, "access_denied".to_owned()));

    let code = begin(&mock).await;
    let waiting = mock.waiting_devices();
    assert_eq!(waiting, [code["user_code"].as_str().unwrap()]);
    mock.deny_device(&waiting[0]).unwrap();
    assert_eq!(poll(&mock, &code).await.error(), (403, "access_denied".to_owned()));
    assert!(mock.approve_device(&waiting[0], DEMO_USER.0).is_err());
}

#[tokio::test]
async fn expiry_is_told_once() {
    let mock = MockAuth0::start().await.unwrap();
    let code = begin(&mock).await;
    mock.advance(Duration::from_secs(900));
    assert_eq!(poll(&mock, &code).await.error(), (403, "expired_token".to_owned()));
    assert_eq!(poll(&mock, &code).await.error(), (403, "invalid_grant".to_owned()));
}

#[tokio::test]
async fn the_handle_approves() {
    let mock =
        MockAuth0::builder().device_codes(Duration::from_secs(60), Duration::ZERO).start().await.unwrap();
    let code = begin(&mock).await;
    mock.approve_device(code["user_code"].as_str().unwrap(), DEMO_USER.0).unwrap();
    assert_eq!(poll_at_once(&mock, &code).await.status, 200);
}
