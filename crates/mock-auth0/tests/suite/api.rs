//! The protected API and `/userinfo`.

use std::time::Duration;

use mock_auth0::{DEMO_SUB, DEMO_USER, MockAuth0, Seed};
use serde_json::json;

use crate::support::{Got, client, get};

const INVALID: &str = "Bearer error=\"invalid_token\"";

#[tokio::test]
async fn a_good_token_is_let_in_and_the_api_says_what_it_saw() {
    let mock = MockAuth0::start().await.unwrap();
    let tokens = mock.seed_session().unwrap();
    let request = client()
        .put(mock.url("/api/things/7?a=1"))
        .bearer_auth(&tokens.access_token)
        .header("x-trace", "t-1")
        .body("hello");
    let seen = Got::from(request.send().await.unwrap()).await.json();
    assert_eq!((&seen["method"], &seen["path"]), (&json!("PUT"), &json!("/api/things/7")));
    assert_eq!(seen["query"], json!([["a", "1"]]));
    assert_eq!(seen["headers"]["x-trace"], "t-1");
    assert!(seen["headers"].get("authorization").is_none());
    assert_eq!(seen["claims"]["sub"], DEMO_SUB);
    assert_eq!(seen["body"]["text"], "hello");
    // SHA-256 of "hello".
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!((&seen["body"]["bytes"], &seen["body"]["sha256"]), (&json!(5), &json!(sha256)));
}

#[tokio::test]
async fn expired_revoked_and_unknown_tokens_are_challenged() {
    let mock = MockAuth0::start().await.unwrap();
    let bare = get(&mock, "/api/x", None).await;
    assert_eq!((bare.status, bare.header("www-authenticate")), (401, Some("Bearer")));

    let (a, b) = (mock.seed_session().unwrap(), mock.seed_session().unwrap());
    let challenged = async |token: &str| {
        let got = get(&mock, "/api/x", Some(token)).await;
        got.status == 401 && got.header("www-authenticate").unwrap().starts_with(INVALID)
    };
    assert!(challenged("nonsense").await);
    assert!(!challenged(&a.access_token).await);
    assert!(mock.reject_access_token(&a.access_token));
    assert!(challenged(&a.access_token).await);
    assert!(!challenged(&b.access_token).await);
    // A storm: everything issued so far, nothing issued later.
    assert_eq!(mock.reject_access_tokens(), 1);
    assert!(challenged(&b.access_token).await);
    let c = mock.seed_session().unwrap();
    assert!(!challenged(&c.access_token).await);
    mock.advance(Duration::from_secs(86_400));
    assert!(challenged(&c.access_token).await);
    // Refused at the API, the session lives on.
    assert!(mock.is_alive(b.refresh_token()));
}

#[tokio::test]
async fn a_missing_scope_is_forbidden_and_the_challenge_can_be_set() {
    let mock = MockAuth0::start().await.unwrap();
    let tokens = mock.seed(&Seed::new().scope("openid read:things")).unwrap();
    let token = Some(tokens.access_token.as_str());
    let forbidden = get(&mock, "/api/x?require_scope=write:things", token).await;
    assert_eq!(forbidden.error(), (403, "insufficient_scope".to_owned()));
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"write:things\"";
    assert_eq!(forbidden.header("www-authenticate"), Some(challenge));
    mock.configure(|settings| settings.api_required_scope = Some("write:things".to_owned()));
    assert_eq!(get(&mock, "/api/x", token).await.status, 403);

    mock.reject_access_tokens();
    mock.configure(|settings| settings.api_challenge = Some("DPoP algs=\"ES256\"".to_owned()));
    assert_eq!(get(&mock, "/api/x", token).await.header("www-authenticate"), Some("DPoP algs=\"ES256\""));
    mock.configure(|settings| settings.api_challenge = Some(String::new()));
    let silent = get(&mock, "/api/x", token).await;
    assert_eq!((silent.status, silent.header("www-authenticate")), (401, None));
}

#[tokio::test]
async fn a_redirect_leads_anywhere_without_a_token() {
    let mock = MockAuth0::start().await.unwrap();
    let got = get(&mock, "/api/redirect?to=http%3A%2F%2Fother.example%2F%3Fq&status=307", None).await;
    assert_eq!((got.status, got.header("location")), (307, Some("http://other.example/?q")));
    assert_eq!(get(&mock, "/api/redirect?to=/x", None).await.status, 302);
    assert_eq!(get(&mock, "/api/redirect?to=/x&status=200", None).await.status, 400);
    assert_eq!(get(&mock, "/api/redirect", None).await.status, 400);
}

#[tokio::test]
async fn userinfo_says_what_the_scope_opens() {
    let mock = MockAuth0::start().await.unwrap();
    let tokens = mock.seed_session().unwrap();
    let claims = get(&mock, "/userinfo", Some(&tokens.access_token)).await.json();
    assert_eq!((&claims["sub"], &claims["email"]), (&json!(DEMO_SUB), &json!(DEMO_USER.0)));
    let few = mock.seed(&Seed::new().scope("openid")).unwrap();
    assert_eq!(get(&mock, "/userinfo", Some(&few.access_token)).await.json(), json!({"sub": DEMO_SUB}));
    let none = mock.seed(&Seed::new().scope("read:things")).unwrap();
    assert_eq!(get(&mock, "/userinfo", Some(&none.access_token)).await.status, 403);
    assert_eq!(get(&mock, "/userinfo", None).await.status, 401);
    mock.reject_access_tokens();
    let refused = get(&mock, "/userinfo", Some(&tokens.access_token)).await;
    assert!(refused.header("www-authenticate").unwrap().starts_with(INVALID));
}

#[tokio::test]
async fn opaque_tokens_are_let_in_too() {
    let mock = MockAuth0::builder().opaque_access_tokens().start().await.unwrap();
    let tokens = mock.seed_session().unwrap();
    assert!(!tokens.access_token.starts_with("eyJ"));
    assert_eq!(get(&mock, "/api/x", Some(&tokens.access_token)).await.status, 200);
}
