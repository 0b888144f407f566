//! The admin API, as tests in other processes use it.

use mock_auth0::{Counters, DEMO_USER, MockAuth0, RequestRecord, fingerprint};
use serde_json::{Value, json};

use crate::support::{Got, client, get, post, refresh, until};

async fn order(mock: &MockAuth0, path: &str, body: Value) -> Value {
    let got = Got::from(client().post(mock.url(path)).json(&body).send().await.unwrap()).await;
    assert_eq!(got.status, 200, "{path}: {}", got.text);
    got.json()
}

async fn refused(mock: &MockAuth0, path: &str, body: Value) -> u16 {
    client().post(mock.url(path)).json(&body).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn it_seeds_counts_and_lists_without_secrets() {
    let mock = MockAuth0::start().await.unwrap();
    let seeded =
        order(&mock, "/_mock/seed", json!({"user": DEMO_USER.0, "scope": "openid offline_access"})).await;
    let token = seeded["refresh_token"].as_str().unwrap();
    assert_eq!(seeded["scope"], "openid offline_access");
    refresh(&mock, token).await.unwrap();

    let counters: Counters =
        serde_json::from_value(get(&mock, "/_mock/counters", None).await.json()).unwrap();
    assert_eq!(counters, mock.counters());
    assert_eq!((counters.refreshes(), counters.presented(token)), (1, 1));
    let listed = get(&mock, "/_mock/requests", None).await;
    assert!(!listed.text.contains(token));
    let listed: Vec<RequestRecord> = serde_json::from_str(&listed.text).unwrap();
    assert_eq!(listed.len(), 1, "the admin's own requests are not listed");
    assert_eq!(listed[0].refresh_token, Some(fingerprint(token)));
    order(&mock, "/_mock/reset", json!({})).await;
    assert!(mock.requests().is_empty());
}

#[tokio::test]
async fn it_configures_and_refuses_what_it_does_not_know() {
    let mock = MockAuth0::start().await.unwrap();
    let settings = order(&mock, "/_mock/configure", json!({"rotation": false, "access_token_secs": 5})).await;
    assert_eq!(settings, get(&mock, "/_mock/settings", None).await.json());
    assert!(!mock.settings().rotation);
    assert_eq!(mock.settings().access_token_secs, 5);
    assert_eq!(refused(&mock, "/_mock/configure", json!({"rotatoin": true})).await, 400);
    assert_eq!(refused(&mock, "/_mock/seed", json!({"user": "nobody"})).await, 400);
    assert_eq!(refused(&mock, "/_mock/seed", json!({"audience": "nowhere"})).await, 400);
    assert_eq!(refused(&mock, "/_mock/revoke", json!({})).await, 400);
    assert_eq!(refused(&mock, "/_mock/nonsense", json!({})).await, 404);
    assert_eq!(refused(&mock, "/_mock/release", json!({"cuont": 1})).await, 400);
}

#[tokio::test]
async fn it_adds_faults_holds_and_releases() {
    let mock = MockAuth0::start().await.unwrap();
    let rule = json!({"endpoint": "token", "grant": "refresh_token", "fault": {"kind": "hold"}});
    assert_eq!(order(&mock, "/_mock/faults", rule).await, json!({"id": 1}));
    let token = mock.seed_session().unwrap().refresh_token.unwrap();
    let waiting = refresh(&mock, &token);
    let releasing = async {
        until("it is held", || mock.held() == 1).await;
        assert_eq!(get(&mock, "/_mock/held", None).await.json(), json!({"held": 1}));
        order(&mock, "/_mock/release", json!({})).await
    };
    let (answer, released) = tokio::join!(waiting, releasing);
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(released, json!({"released": 1}));

    let rule =
        json!({"fault": {"kind": "instead", "answer": {"kind": "status", "status": 503}}, "times": null});
    order(&mock, "/_mock/faults", rule).await;
    assert_eq!(get(&mock, "/api/x", None).await.status, 503);
    assert_eq!(get(&mock, "/_mock/faults", None).await.json()[0]["hits"], 1);
    let cleared = client().delete(mock.url("/_mock/faults?id=2")).send().await.unwrap();
    assert_eq!(cleared.status(), 200);
    assert_eq!(get(&mock, "/api/x", None).await.status, 401);
    assert_eq!(refused(&mock, "/_mock/faults", json!({"fault": {"kind": "gremlins"}})).await, 400);
}

#[tokio::test]
async fn it_revokes_rejects_and_deletes() {
    let mock = MockAuth0::start().await.unwrap();
    let tokens = mock.seed_session().unwrap();
    let gone =
        order(&mock, "/_mock/revoke", json!({"refresh_token": tokens.refresh_token, "kind": "token"})).await;
    assert_eq!(gone, json!({"revoked": true}));
    let alive = async |token: &str| order(&mock, "/_mock/alive", json!({"refresh_token": token})).await;
    assert_eq!(alive(tokens.refresh_token()).await, json!({"alive": false}));
    let again = mock.seed_session().unwrap();
    assert_eq!(alive(again.refresh_token()).await, json!({"alive": true}));
    assert_eq!(order(&mock, "/_mock/revoke", json!({"user": DEMO_USER.0})).await, json!({"revoked": 2}));
    assert!(!mock.is_alive(again.refresh_token()));

    let body = json!({"access_token": tokens.access_token});
    assert_eq!(order(&mock, "/_mock/reject", body).await, json!({"rejected": 1}));
    assert_eq!(get(&mock, "/api/x", Some(&tokens.access_token)).await.status, 401);
    assert_eq!(order(&mock, "/_mock/reject", json!({})).await, json!({"rejected": 1}));

    order(&mock, "/_mock/users/mfa", json!({"user": DEMO_USER.0})).await;
    let id = mock.client_id();
    let form = [
        ("grant_type", "password"),
        ("client_id", &*id),
        ("username", DEMO_USER.0),
        ("password", DEMO_USER.1),
    ];
    assert_eq!(post(&mock, "/oauth/token", &form).await.error().1, "mfa_required");
    order(&mock, "/_mock/users/delete", json!({"user": DEMO_USER.0})).await;
    assert_eq!(post(&mock, "/oauth/token", &form).await.error().1, "invalid_grant");
}

#[tokio::test]
async fn it_decides_on_devices_moves_the_clock_and_rotates_keys() {
    let mock = MockAuth0::start().await.unwrap();
    let id = mock.client_id();
    let code = post(&mock, "/oauth/device/code", &[("client_id", &id)]).await.json();
    assert_eq!(get(&mock, "/_mock/devices", None).await.json(), json!([code["user_code"]]));
    let body = json!({"user_code": code["user_code"], "user": DEMO_USER.0});
    order(&mock, "/_mock/devices/approve", body.clone()).await;
    assert_eq!(refused(&mock, "/_mock/devices/approve", body).await, 400);
    let other = post(&mock, "/oauth/device/code", &[("client_id", &id)]).await.json();
    order(&mock, "/_mock/devices/deny", json!({"user_code": other["user_code"]})).await;
    assert!(mock.waiting_devices().is_empty());

    assert_eq!(order(&mock, "/_mock/clock", json!({"offset_ms": -5})).await, json!({"offset_ms": -5}));
    assert_eq!(order(&mock, "/_mock/clock", json!({"advance_ms": 15})).await, json!({"offset_ms": 10}));
    let kid = order(&mock, "/_mock/keys/rotate", json!({"keep_old": false})).await["kid"].clone();
    assert_eq!(mock.jwks()["keys"][0]["kid"], kid);
}
