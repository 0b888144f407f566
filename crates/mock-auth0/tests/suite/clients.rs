//! How clients prove who they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mock_auth0::{Client, ClientAuth, DEMO_AUDIENCE, MockAuth0};

use crate::support::{Got, client, post};

const SECRET: &str = "p+ss=w&rd %";

async fn tenant() -> MockAuth0 {
    MockAuth0::builder()
        .client(Client::public("public"))
        .client(Client::confidential("either:or", SECRET))
        .client(Client::confidential("basic", SECRET).auth(ClientAuth::Basic))
        .client(Client::confidential("post", SECRET).auth(ClientAuth::Post))
        .client(Client::confidential("narrow", SECRET).grants(["refresh_token"]))
        .start()
        .await
        .unwrap()
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn by_basic(mock: &MockAuth0, id: &str, secret: &str, more: &[(&str, &str)]) -> Got {
    let mut form = vec![("grant_type", "client_credentials"), ("audience", DEMO_AUDIENCE)];
    form.extend(more);
    let header = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let request = client().post(mock.url("/oauth/token")).header("authorization", header).form(&form);
    Got::from(request.send().await.unwrap()).await
}

async fn by_post(mock: &MockAuth0, id: &str, secret: Option<&str>) -> Got {
    let mut form = vec![("grant_type", "client_credentials"), ("audience", DEMO_AUDIENCE), ("client_id", id)];
    form.extend(secret.map(|secret| ("client_secret", secret)));
    post(mock, "/oauth/token", &form).await
}

#[tokio::test]
async fn basic_wants_id_and_secret_form_encoded_first() {
    let mock = tenant().await;
    let good = by_basic(&mock, &encoded("either:or"), &encoded(SECRET), &[]).await;
    assert_eq!(good.status, 200);
    assert!(good.json().get("refresh_token").is_none());
    assert_eq!(good.json()["scope"], "read:things write:things");
    let raw = by_basic(&mock, &encoded("either:or"), SECRET, &[]).await;
    assert_eq!(raw.error(), (401, "invalid_client".to_owned()));
    assert_eq!(raw.header("www-authenticate"), Some("Basic realm=\"mock-auth0\""));
}

#[tokio::test]
async fn each_client_authenticates_its_own_way() {
    let mock = tenant().await;
    let secret = encoded(SECRET);
    assert_eq!(by_post(&mock, "either:or", Some(SECRET)).await.status, 200);
    assert_eq!(by_post(&mock, "post", Some(SECRET)).await.status, 200);
    assert_eq!(by_basic(&mock, "basic", &secret, &[]).await.status, 200);
    for refused in [
        by_post(&mock, "basic", Some(SECRET)).await,
        by_basic(&mock, "post", &secret, &[]).await,
        by_post(&mock, "either:or", Some("wrong")).await,
        by_post(&mock, "either:or", None).await,
        by_post(&mock, "nobody", Some(SECRET)).await,
        by_post(&mock, "public", Some(SECRET)).await,
    ] {
        assert_eq!(refused.error(), (401, "invalid_client".to_owned()));
    }
    for refused in [
        by_basic(&mock, "basic", &secret, &[("client_secret", SECRET)]).await,
        by_basic(&mock, "basic", &secret, &[("client_id", "post")]).await,
    ] {
        assert_eq!(refused.error(), (400, "invalid_request".to_owned()));
    }
}

#[tokio::test]
async fn a_grant_that_the_client_may_not_use_is_refused() {
    let mock = tenant().await;
    let unauthorized = (403, "unauthorized_client".to_owned());
    // A public client has no identity to act under.
    assert_eq!(by_post(&mock, "public", None).await.error(), unauthorized);
    assert_eq!(by_post(&mock, "narrow", Some(SECRET)).await.error(), unauthorized);
    let form = [("client_id", "narrow"), ("client_secret", SECRET)];
    assert_eq!(post(&mock, "/oauth/device/code", &form).await.error(), unauthorized);
}

#[tokio::test]
async fn another_clients_refresh_token_is_unknown() {
    let mock = tenant().await;
    let tokens = mock.seed_session().unwrap();
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "post"),
        ("client_secret", SECRET),
        ("refresh_token", tokens.refresh_token()),
    ];
    assert_eq!(post(&mock, "/oauth/token", &form).await.error(), (403, "invalid_grant".to_owned()));
    assert!(mock.is_alive(tokens.refresh_token()));
}
