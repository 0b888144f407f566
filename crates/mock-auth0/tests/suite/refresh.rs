//! Refresh tokens over the wire: rotation, overlap, lifetimes, revocation, other audiences.

use std::time::Duration;

use mock_auth0::{Api, DEMO_AUDIENCE, DEMO_USER, MockAuth0, Revocation, Seed};

use crate::support::{claims, get, post, refresh};

const UNKNOWN: &str = "Unknown or invalid refresh token.";
const REUSED: &str = "Unsuccessful Refresh Token exchange, reused refresh token detected";

async fn next(mock: &MockAuth0, token: &str) -> Result<String, String> {
    let got = refresh(mock, token).await.unwrap();
    let body = got.json();
    if got.status == 200 {
        return Ok(body["refresh_token"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(got.error(), (403, "invalid_grant".to_owned()));
    Err(body["error_description"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn reuse_ends_the_family() {
    let mock = MockAuth0::start().await.unwrap();
    let first = mock.seed_session().unwrap().refresh_token.unwrap();
    let second = next(&mock, &first).await.unwrap();
    assert_eq!(next(&mock, &first).await, Err(REUSED.to_owned()));
    assert_eq!(next(&mock, &second).await, Err(UNKNOWN.to_owned()));
    assert_eq!(next(&mock, "v1.nonsense").await, Err(UNKNOWN.to_owned()));
}

#[tokio::test]
async fn inside_the_overlap_the_previous_token_gives_another_one() {
    let mock = MockAuth0::builder().overlap(Duration::from_secs(3600)).start().await.unwrap();
    let first = mock.seed_session().unwrap().refresh_token.unwrap();
    let second = next(&mock, &first).await.unwrap();
    let third = next(&mock, &first).await.unwrap();
    assert_ne!(second, third);
    let fourth = next(&mock, &third).await.unwrap();
    assert_eq!(next(&mock, &first).await, Err(REUSED.to_owned()), "one before the previous one");
    assert_eq!(next(&mock, &fourth).await, Err(UNKNOWN.to_owned()));

    let first = mock.seed_session().unwrap().refresh_token.unwrap();
    next(&mock, &first).await.unwrap();
    mock.advance(Duration::from_secs(3601));
    assert_eq!(next(&mock, &first).await, Err(REUSED.to_owned()), "after the overlap");
}

#[tokio::test]
async fn without_rotation_the_answer_has_no_refresh_token() {
    let mock = MockAuth0::builder().rotation(false).start().await.unwrap();
    let only = mock.seed_session().unwrap().refresh_token.unwrap();
    for _ in 0..3 {
        let got = refresh(&mock, &only).await.unwrap();
        assert_eq!(got.status, 200);
        assert!(got.json().get("refresh_token").is_none());
    }
    assert_eq!(mock.counters().presented(&only), 3);
}

#[tokio::test]
async fn refresh_tokens_die_of_age_and_of_idleness() {
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let mock = MockAuth0::start().await.unwrap();
    let mut token = mock.seed_session().unwrap().refresh_token.unwrap();
    let idle = mock.seed_session().unwrap().refresh_token.unwrap();
    mock.advance(days(14));
    token = next(&mock, &token).await.unwrap();
    mock.advance(days(14));
    assert_eq!(next(&mock, &idle).await, Err(UNKNOWN.to_owned()));
    token = next(&mock, &token).await.unwrap();
    mock.advance(days(2));
    assert_eq!(next(&mock, &token).await, Err(UNKNOWN.to_owned()));
}

#[tokio::test]
async fn a_seeded_session_can_be_as_old_as_asked() {
    let mock = MockAuth0::builder().access_token_lifetime(Duration::from_secs(60)).start().await.unwrap();
    let old = mock.seed(&Seed::new().issued_ago(Duration::from_secs(3600))).unwrap();
    assert_eq!(get(&mock, "/api/x", Some(&old.access_token)).await.status, 401);
    assert!(next(&mock, old.refresh_token()).await.is_ok());
}

#[tokio::test]
async fn revocation_kills_what_the_tenant_is_set_to() {
    for (kind, other_lives) in
        [(Revocation::Token, true), (Revocation::Family, true), (Revocation::Grant, false)]
    {
        let mock = MockAuth0::builder().revocation(kind).start().await.unwrap();
        let (gone, other) = (mock.seed_session().unwrap(), mock.seed_session().unwrap());
        let id = mock.client_id();
        let revoke =
            async |token: &str| post(&mock, "/oauth/revoke", &[("client_id", &*id), ("token", token)]).await;
        let answer = revoke(gone.refresh_token()).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""));
        assert_eq!(revoke("unknown").await.status, 200);
        assert_eq!(next(&mock, gone.refresh_token()).await, Err(UNKNOWN.to_owned()));
        assert_eq!(mock.is_alive(other.refresh_token()), other_lives, "{kind:?}");
        let effects: Vec<_> = mock.requests().iter().map(|request| request.effect).collect();
        assert_eq!(effects, [true, false, false]);
        // A self-contained access token outlives its session.
        assert_eq!(get(&mock, "/api/x", Some(&gone.access_token)).await.status, 200);
    }
}

#[tokio::test]
async fn revocation_refuses_strangers_and_can_take_access_tokens_along() {
    let mock = MockAuth0::start().await.unwrap();
    let tokens = mock.seed_session().unwrap();
    let id = mock.client_id();
    let stranger = [("client_id", "nobody"), ("token", tokens.refresh_token())];
    assert_eq!(post(&mock, "/oauth/revoke", &stranger).await.error(), (401, "invalid_client".to_owned()));
    assert_eq!(post(&mock, "/oauth/revoke", &[("client_id", &id)]).await.error().0, 400);
    assert!(mock.is_alive(tokens.refresh_token()));

    mock.configure(|settings| settings.revoke_access_tokens = true);
    let form = [("client_id", &*id), ("token", tokens.refresh_token())];
    assert_eq!(post(&mock, "/oauth/revoke", &form).await.status, 200);
    assert_eq!(get(&mock, "/api/x", Some(&tokens.access_token)).await.status, 401);
}

#[tokio::test]
async fn a_deleted_user_and_an_administrators_revocation_end_sessions() {
    let mock = MockAuth0::start().await.unwrap();
    let (a, b) = (mock.seed_session().unwrap(), mock.seed_session().unwrap());
    assert!(mock.revoke(a.refresh_token(), None));
    assert_eq!(next(&mock, a.refresh_token()).await, Err(UNKNOWN.to_owned()));
    mock.delete_user(DEMO_USER.0).unwrap();
    let text = "The refresh_token was generated for a user who doesn't exist anymore.";
    assert_eq!(next(&mock, b.refresh_token()).await, Err(text.to_owned()));

    let mock = MockAuth0::start().await.unwrap();
    let c = mock.seed_session().unwrap();
    assert_eq!(mock.revoke_user(DEMO_USER.0).unwrap(), 1);
    assert!(!mock.is_alive(c.refresh_token()));
    assert!(mock.revoke_user("nobody").is_err());
}

#[tokio::test]
async fn another_audience_and_less_scope_can_be_asked_for() {
    let mock = MockAuth0::start().await.unwrap();
    mock.add_api(Api::new("https://mail.example").scopes(["mail:read"]));
    mock.configure(|settings| settings.rotation = false);
    let tokens = mock.seed_session().unwrap();
    let id = mock.client_id();
    let ask = async |more: &[(&str, &str)]| {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", &*id),
            ("refresh_token", tokens.refresh_token()),
        ];
        form.extend(more);
        post(&mock, "/oauth/token", &form).await.json()
    };
    let audience = |set: &serde_json::Value| claims(set["access_token"].as_str().unwrap())["aud"].clone();
    let mail = ask(&[("audience", "https://mail.example")]).await;
    assert_eq!(audience(&mail)[0], "https://mail.example");
    assert_eq!(mail["scope"], "openid profile email offline_access mail:read");
    // An audience outside the policy is ignored: the token is for the default one.
    let other = ask(&[("audience", "https://nowhere.example")]).await;
    assert_eq!(audience(&other)[0], DEMO_AUDIENCE);
    let less = ask(&[("scope", "read:things delete:everything")]).await;
    assert_eq!(less["scope"], "read:things");
    assert!(less.get("id_token").is_none(), "openid was not asked for");
}

#[tokio::test]
async fn an_api_can_forbid_offline_access() {
    let mock = MockAuth0::builder()
        .api(Api::new("https://strict").allow_offline_access(false))
        .start()
        .await
        .unwrap();
    let tokens = mock.seed_session().unwrap();
    assert!(tokens.refresh_token.is_none());
    assert_eq!(tokens.scope, "openid profile email");
}
