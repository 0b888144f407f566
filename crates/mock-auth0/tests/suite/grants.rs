//! The token endpoint: forms and JSON, each grant, and what it says when it refuses.

use mock_auth0::{DEMO_SERVICE, DEMO_USER, MockAuth0, User};
use serde_json::json;

use crate::support::{Got, claims, client, get, post};

const REALM: &str = "http://auth0.com/oauth/grant-type/password-realm";

#[tokio::test]
async fn json_is_taken_as_well_as_a_form() {
    let mock = MockAuth0::start().await.unwrap();
    let body = json!({
        "grant_type": "password", "client_id": mock.client_id(), "username": DEMO_USER.0, "password": DEMO_USER.1,
        "scope": "openid",
    });
    let request = client().post(mock.url("/oauth/token")).json(&body);
    let got = Got::from(request.send().await.unwrap()).await;
    assert_eq!(got.status, 200);
    assert_eq!(mock.counters().took_effect("password"), 1);
}

#[tokio::test]
async fn a_realm_is_asked_for_its_own_users() {
    let mock = MockAuth0::start().await.unwrap();
    mock.add_user(User::new("bob@example.com", "pw").with_sub("ldap|bob").connection("ldap"));
    let id = mock.client_id();
    let ask = async |realm: &str, user: (&str, &str)| {
        let form = [
            ("grant_type", REALM),
            ("client_id", &*id),
            ("realm", realm),
            ("username", user.0),
            ("password", user.1),
            ("scope", "openid email"),
        ];
        post(&mock, "/oauth/token", &form).await
    };
    let bob = ask("ldap", ("bob@example.com", "pw")).await.json();
    let token = claims(bob["id_token"].as_str().unwrap());
    assert_eq!((&token["sub"], &token["email"]), (&json!("ldap|bob"), &json!("bob@example.com")));
    assert!(token.get("name").is_none(), "profile was not asked for");
    assert_eq!(ask("ldap", DEMO_USER).await.error(), (403, "invalid_grant".to_owned()));
    assert_eq!(ask("nowhere", DEMO_USER).await.error(), (400, "invalid_request".to_owned()));
    assert_eq!(ask("Username-Password-Authentication", DEMO_USER).await.status, 200);
}

#[tokio::test]
async fn mfa_answers_with_a_token_and_what_is_required() {
    let mock = MockAuth0::start().await.unwrap();
    let tokens = mock.seed_session().unwrap();
    mock.require_mfa(DEMO_USER.0, true).unwrap();
    let id = mock.client_id();
    let form = [
        ("grant_type", "password"),
        ("client_id", &*id),
        ("username", DEMO_USER.0),
        ("password", DEMO_USER.1),
    ];
    let refused = post(&mock, "/oauth/token", &form).await;
    assert_eq!(refused.error(), (403, "mfa_required".to_owned()));
    assert!(refused.json()["mfa_token"].is_string());
    assert_eq!(refused.json()["mfa_requirements"]["challenge"][0]["type"], "otp");

    // A refresh needs it only where the policy says so, and the token is not spent by the refusal.
    mock.configure(|settings| settings.mfa_on_refresh = true);
    let form =
        [("grant_type", "refresh_token"), ("client_id", &*id), ("refresh_token", tokens.refresh_token())];
    assert_eq!(post(&mock, "/oauth/token", &form).await.error(), (403, "mfa_required".to_owned()));
    mock.configure(|settings| settings.mfa_on_refresh = false);
    assert_eq!(post(&mock, "/oauth/token", &form).await.status, 200);
}

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong() {
    let mock = MockAuth0::start().await.unwrap();
    let id = mock.client_id();
    let client_id = ("client_id", &*id);
    for (form, status, error, text) in [
        (vec![client_id], 400, "invalid_request", "grant_type"),
        (vec![("grant_type", "password")], 400, "invalid_request", "client_id"),
        (vec![("grant_type", "refresh_token"), client_id], 400, "invalid_request", "refresh_token"),
        (vec![("grant_type", "password"), client_id], 400, "invalid_request", "username"),
        (vec![("grant_type", "telepathy"), client_id], 400, "unsupported_grant_type", "telepathy"),
        (vec![("grant_type", "password"), client_id, client_id], 400, "invalid_request", "Repeated"),
    ] {
        let got = post(&mock, "/oauth/token", &form).await;
        assert_eq!(got.error(), (status, error.to_owned()));
        assert!(got.json()["error_description"].as_str().unwrap().contains(text), "{}", got.text);
    }
    assert_eq!(get(&mock, "/oauth/token", None).await.status, 405);
    assert_eq!(get(&mock, "/nowhere", None).await.status, 404);
    assert!(mock.counters().effects.is_empty());
}

#[tokio::test]
async fn an_audience_that_the_tenant_lacks_is_refused() {
    let mock = MockAuth0::start().await.unwrap();
    let (id, secret) = DEMO_SERVICE;
    let ask = async |audience: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
            ("audience", audience),
        ];
        post(&mock, "/oauth/token", &form).await
    };
    assert_eq!(ask("https://nowhere.example").await.error(), (403, "access_denied".to_owned()));
    assert_eq!(ask("").await.error(), (400, "invalid_request".to_owned()));
    mock.configure(|settings| settings.default_audience = Some(mock_auth0::DEMO_AUDIENCE.to_owned()));
    let token = ask("").await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&token)["sub"], format!("{id}@clients"));
}
