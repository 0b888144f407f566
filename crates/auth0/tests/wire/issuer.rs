//! Discovery, keys, userinfo and revocation.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokenkeep_auth0::{
    IdTokenExpectations, IdTokenVerdict, TokenClient, TokenErrorKind as Kind, TokenTypeHint,
};
use tokenkeep_clock::{Clock, ManualClock};

use crate::scripted::{self, Issuer};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = r#"{"keys":[{"kty":"RSA","kid":"one","n":"AQAB","e":"AQAB"}]}"#;

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[tokio::test]
async fn discovery_is_done_once_and_what_is_known_spares_it_the_next_process() {
    let issuer = Issuer::start([]).await;
    issuer.page("/jwks", 200, KEYS);
    let client = TokenClient::discover(&issuer.url, "client-1").await.unwrap();
    let both = tokio::join!(client.load_metadata(), client.load_metadata());
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    client.load_keys().await.unwrap();
    client.load_keys().await.unwrap();
    assert_eq!((issuer.seen(DISCOVERY).len(), issuer.seen("/jwks").len()), (1, 1));

    let stored = serde_json::to_vec(&client.cached()).unwrap();
    let next = issuer.client();
    assert_eq!(next.issuer(), issuer.url);
    next.prime(serde_json::from_slice(&stored).unwrap());
    assert_eq!(next.issuer(), format!("{}/", issuer.url));
    next.load_metadata().await.unwrap();
    next.load_keys().await.unwrap();
    assert_eq!((issuer.seen(DISCOVERY).len(), issuer.seen("/jwks").len()), (1, 1));
}

#[tokio::test]
async fn what_another_issuer_left_is_ignored_and_so_is_what_is_older() {
    let clock = ManualClock::at(start());
    let issuer = Issuer::start([]).await;
    let client = issuer.builder().clock(Arc::new(clock.clone())).build().unwrap();
    client.prime(scripted::cached_for("https://other.example"));
    assert_eq!(client.cached().metadata, None);
    let mut evil = scripted::discovery(&issuer.url);
    evil = evil.replace(&format!("{}/oauth/token", issuer.url), "http://evil.example/oauth/token");
    client.prime(scripted::cached_from(&evil));
    assert_eq!(client.cached().metadata, None, "an endpoint that secrets must not go to");

    client.load_metadata().await.unwrap();
    let fresh = client.cached();
    assert_eq!(fresh.metadata.as_ref().map(|known| known.fetched_at), Some(clock.wall()));
    let old = scripted::discovery(&issuer.url).replace("/oauth/token", "/old/token");
    client.prime(scripted::cached_from(&old));
    assert_eq!(client.cached(), fresh);
}

#[tokio::test]
async fn an_issuer_that_names_another_is_refused() {
    let issuer = Issuer::start([]).await;
    issuer.page(DISCOVERY, 200, scripted::discovery("https://other.example"));
    let error = TokenClient::discover(&issuer.url, "client-1").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Protocol);
    assert!(error.to_string().contains("https://other.example/"), "{error}");
}

#[tokio::test]
async fn an_issuer_with_a_path_is_asked_below_it() {
    let issuer = Issuer::start([]).await;
    let realm = format!("{}/realms/one", issuer.url);
    issuer.page("/realms/one/.well-known/openid-configuration", 200, scripted::discovery(&realm));
    for spelled in [realm.clone(), format!("{realm}/")] {
        let client = TokenClient::discover(&spelled, "client-1").await.unwrap();
        assert_eq!(client.issuer(), format!("{realm}/"));
    }
}

#[tokio::test]
async fn a_discovery_that_fails_is_tried_again_and_then_told() {
    let issuer = Issuer::start([]).await;
    issuer.page(DISCOVERY, 503, "");
    let error = issuer.client().load_metadata().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts(), issuer.seen(DISCOVERY).len()), (Kind::Unavailable, 3, 3));
    assert!(!error.outcome_unknown());

    issuer.page(DISCOVERY, 404, "");
    let error = issuer.client().load_metadata().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Kind::Protocol, 1));

    issuer.page(DISCOVERY, 200, "x".repeat(1024 * 1024 + 1));
    let client = issuer.builder().max_retries(0).build().unwrap();
    assert_eq!(client.load_metadata().await.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn unknown_keys_are_asked_for_at_most_once_a_minute() {
    let clock = ManualClock::at(start());
    let issuer = Issuer::start([]).await;
    issuer.page("/jwks", 200, KEYS);
    let client = issuer.builder().clock(Arc::new(clock.clone())).build().unwrap();
    assert!(client.reload_keys().await.unwrap());
    assert!(!client.reload_keys().await.unwrap());
    clock.advance(Duration::from_secs(59));
    assert!(!client.reload_keys().await.unwrap());
    clock.advance(Duration::from_secs(1));
    assert!(client.reload_keys().await.unwrap());
    assert_eq!(issuer.seen("/jwks").len(), 2);

    // Another process has just asked.
    let next = issuer.builder().clock(Arc::new(clock.clone())).build().unwrap();
    next.prime(client.cached());
    assert!(!next.reload_keys().await.unwrap());

    // A failure counts as asked too.
    clock.advance(Duration::from_secs(60));
    issuer.page("/jwks", 404, "");
    assert_eq!(client.reload_keys().await.unwrap_err().kind(), Kind::Protocol);
    assert!(!client.reload_keys().await.unwrap());
}

#[tokio::test]
async fn keys_older_than_a_day_are_fetched_anew_and_serve_on_if_that_fails() {
    let clock = ManualClock::at(start());
    let issuer = Issuer::start([]).await;
    issuer.page("/jwks", 200, KEYS);
    let client = issuer.builder().clock(Arc::new(clock.clone())).build().unwrap();
    client.load_keys().await.unwrap();
    clock.advance(Duration::from_secs(24 * 3600));
    client.load_keys().await.unwrap();
    assert_eq!(issuer.seen("/jwks").len(), 2);
    clock.advance(Duration::from_secs(24 * 3600));
    issuer.page("/jwks", 404, "");
    client.load_keys().await.unwrap();
    assert_eq!(issuer.seen("/jwks").len(), 3);
    assert!(client.cached().jwks.is_some());
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_protocol_and_judging_needs_keys() {
    let issuer = Issuer::start([]).await;
    let client = issuer.client();
    for nonsense in ["<html>canary</html>", "[]", "{}"] {
        issuer.page("/jwks", 200, nonsense);
        let error = client.load_keys().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol);
        assert!(!format!("{error:?}").contains("canary"));
    }
    // {"alg":"RS256"}.{}
    let verdict = client.judge_id_token(
        &"eyJhbGciOiJSUzI1NiJ9.e30.AA".into(),
        &IdTokenExpectations::default(),
        start(),
    );
    assert!(matches!(verdict, IdTokenVerdict::KeysNeeded));
}

#[tokio::test]
async fn userinfo_gives_the_profile() {
    let issuer = Issuer::start([]).await;
    issuer.page("/userinfo", 200, r#"{"sub":"auth0|1","name":"Ada"}"#);
    let client = issuer.client();
    let profile = client.userinfo(&"access-1".into()).await.unwrap();
    assert_eq!((profile.sub(), profile.name()), ("auth0|1", Some("Ada")));
    let seen = issuer.seen("/userinfo");
    assert!(seen[0].line.starts_with("GET ") && seen[0].head.contains("authorization: Bearer access-1"));
    assert!(seen[0].head.contains("user-agent: tokenkeep/"));

    for nonsense in ["<html>canary</html>", "{}", r#"{"name":"canary"}"#] {
        issuer.page("/userinfo", 200, nonsense);
        let error = client.userinfo(&"access-1".into()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol);
        assert!(!format!("{error:?}").contains("canary"));
    }
    issuer.page("/userinfo", 401, r#"{"error":"invalid_token"}"#);
    assert_eq!(client.userinfo(&"access-1".into()).await.unwrap_err().kind(), Kind::Rejected);
    assert_eq!(client.userinfo(&"a\nb".into()).await.unwrap_err().kind(), Kind::Configuration);
}

// CM-29, CM-186
#[tokio::test]
async fn a_token_is_revoked_whatever_the_body_of_the_answer() {
    let issuer = Issuer::start([]).await;
    let client = issuer.client();
    for (status, body) in [(200, ""), (200, "OK"), (204, "")] {
        issuer.page("/oauth/revoke", status, body);
        client.revoke(&"r&1".into(), TokenTypeHint::RefreshToken).await.unwrap();
    }
    assert_eq!(
        issuer.seen("/oauth/revoke")[0].body,
        "token=r%261&token_type_hint=refresh_token&client_id=client-1"
    );
}

#[tokio::test]
async fn a_revocation_that_fails_says_how() {
    let issuer = Issuer::start([]).await;
    let client = issuer.client();
    let revoke = async || client.revoke(&"r1".into(), TokenTypeHint::RefreshToken).await.unwrap_err();
    issuer.page("/oauth/revoke", 401, r#"{"error":"invalid_client"}"#);
    assert_eq!(revoke().await.kind(), Kind::Rejected);
    issuer.page("/oauth/revoke", 302, "");
    assert_eq!(revoke().await.kind(), Kind::Protocol);
    issuer.page("/oauth/revoke", 500, "");
    let error = revoke().await;
    assert_eq!((error.kind(), error.attempts()), (Kind::Unavailable, 3));

    let without = scripted::discovery(&issuer.url).replace("revocation_endpoint", "other");
    issuer.page(DISCOVERY, 200, without);
    let error = issuer.client().revoke(&"r1".into(), TokenTypeHint::AccessToken).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
}

#[tokio::test]
async fn an_auth0_domain_is_a_host_name() {
    assert_eq!(
        TokenClient::auth0("Tenant.eu.auth0.com", "c").unwrap().issuer(),
        "https://tenant.eu.auth0.com/"
    );
    for bad in ["", "https://tenant.eu.auth0.com", "tenant/path", "user@host", "a b", "?"] {
        assert_eq!(TokenClient::auth0(bad, "c").unwrap_err().kind(), Kind::Configuration, "{bad}");
    }
}
