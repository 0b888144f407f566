//! The shortest way through a tenant: discovery, keys, a session, a refresh, the API, the counts.

use crate::support::{claims, get, post, refresh};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use mock_auth0::{DEMO_AUDIENCE, DEMO_SUB, DEMO_USER, Endpoint, MockAuth0};
use serde_json::Value;

#[tokio::test]
async fn a_session_is_seeded_refreshed_and_let_in_by_the_api() {
    let mock = MockAuth0::start().await.unwrap();
    let discovery = get(&mock, "/.well-known/openid-configuration", None).await.json();
    assert_eq!(discovery["issuer"], mock.issuer());
    assert!(mock.issuer().ends_with('/'));
    assert_eq!(discovery["token_endpoint"], mock.url("/oauth/token"));

    let seeded = mock.seed_session().unwrap();
    let old = seeded.refresh_token();
    let answer = refresh(&mock, old).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let set = answer.json();
    assert_ne!(set["refresh_token"], old);
    assert_eq!(set["token_type"], "Bearer");
    assert_eq!(set["expires_in"], 86_400);

    let keys: JwkSet =
        serde_json::from_value(get(&mock, "/.well-known/jwks.json", None).await.json()).unwrap();
    for (token, audience) in [("id_token", mock.client_id()), ("access_token", DEMO_AUDIENCE.to_owned())] {
        let token = set[token].as_str().unwrap();
        let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[mock.issuer()]);
        validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
        let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
        let verified = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap();
        assert_eq!(verified.claims["sub"], DEMO_SUB);
    }
    let id = claims(set["id_token"].as_str().unwrap());
    assert_eq!(id["azp"], mock.client_id());
    assert_eq!(id["email"], DEMO_USER.0);
    assert_eq!(id["name"], "Ada Lovelace");
    assert_eq!(id["auth_time"], seeded.issued_at);

    let seen = get(&mock, "/api/things?x=1", set["access_token"].as_str()).await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.json()["claims"]["sub"], DEMO_SUB);
    let reuse = refresh(&mock, old).await.unwrap();
    assert_eq!(reuse.error(), (403, "invalid_grant".to_owned()));

    let counters = mock.counters();
    assert_eq!(counters.refreshes(), 2);
    assert_eq!(counters.took_effect("refresh_token"), 1);
    assert_eq!(counters.presented(old), 2);
    assert_eq!(counters.at(Endpoint::Api), 1);
}

#[tokio::test]
async fn a_password_gets_tokens_and_a_wrong_one_does_not() {
    let mock = MockAuth0::start().await.unwrap();
    let id = mock.client_id();
    let ask = async |password: &str, scope: &str| {
        let form = [
            ("grant_type", "password"),
            ("client_id", &*id),
            ("username", DEMO_USER.0),
            ("password", password),
            ("audience", DEMO_AUDIENCE),
            ("scope", scope),
        ];
        post(&mock, "/oauth/token", &form).await
    };
    let all = ask(DEMO_USER.1, "openid offline_access read:things").await.json();
    assert_eq!(all["scope"], "openid offline_access read:things");
    assert!(all["id_token"].is_string() && all["refresh_token"].is_string());
    let plain = ask(DEMO_USER.1, "read:things").await.json();
    assert!(plain["access_token"].is_string());
    assert!(plain.get("id_token").is_none() && plain.get("refresh_token").is_none());
    assert_eq!(ask("wrong", "openid").await.error(), (403, "invalid_grant".to_owned()));
}
