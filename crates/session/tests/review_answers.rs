//! Answers that cannot be used or kept as they are, and what is told of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use mock_auth0::{BadAnswer, BadBody, Endpoint, Fault, FaultRule};
use serde_json::json;
use support::Fixture;
use tokenkeep_session::{Event, SessionError, TokenRequest};
use tokenkeep_store::StoreError;

// Two tokens that do not fit into one entry together: the older of the two makes room.
#[tokio::test]
async fn an_entry_that_is_full_makes_room_for_the_new_token() {
    let fixture = Fixture::new().await;
    for scope in ["openid", "openid profile", "openid email"] {
        fixture.mock.next_refresh(Fault::member(
            "access_token",
            json!("x".repeat(600_000) + scope.trim_start_matches("openid ").trim()),
        ));
        let token = fixture.session.token(TokenRequest::new().scope(scope)).await.unwrap();
        assert!(token.expose().len() > 600_000);
        assert!(fixture.alive().await, "{scope}");
    }
    fixture.session.access_token().await.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 3);
}

// An answer too long to be kept: its refresh token is kept all the same.
#[tokio::test]
async fn an_answer_too_long_to_be_kept_leaves_its_refresh_token() {
    let fixture = Fixture::new().await;
    let old = fixture.stored_refresh_token().await;
    let token = "x".repeat(1_046_500);
    fixture.mock.next_refresh(Fault::member("access_token", json!(token)));
    let error = fixture.session.renew(&[]).await.unwrap_err();
    assert!(matches!(error, SessionError::RenewalFailed(_)), "{error}");
    assert_ne!(fixture.stored_refresh_token().await, old);
    assert!(fixture.alive().await);
}

// However many scopes are asked for in a session's life, it keeps a bounded number of tokens.
#[tokio::test]
async fn tokens_for_many_scopes_do_not_pile_up() {
    let fixture = Fixture::new().await;
    for nth in 0..40 {
        fixture.session.token(TokenRequest::new().scope(format!("openid x{nth}"))).await.unwrap();
    }
    let key = tokenkeep_store::Key::new("session/default").unwrap();
    let entry = tokenkeep_store::SecretStore::get(&*fixture.store, &key).await.unwrap().unwrap();
    let record: serde_json::Value = rmp_serde::from_slice(entry.value.expose()).unwrap();
    assert!(record["access"].as_array().unwrap().len() <= 33);
    fixture.session.access_token().await.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 40, "the sign-in's own stays");
}

// Expired at birth: a failure, with a wait before the next attempt, not a reason to ask again and again.
#[tokio::test]
async fn a_token_that_is_expired_at_birth_is_a_failure() {
    let fixture = Fixture::new().await;
    fixture.mock.add_fault(FaultRule::refresh(Fault::member("expires_in", json!(0))).always());
    fixture.expire();
    let error = fixture.session.access_token().await.unwrap_err();
    assert!(matches!(error, SessionError::RenewalFailed(_)), "{error}");
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(fixture.alive().await);
}

// What was refused is told as a failure, not as a new token set; what is judged later is told then.
#[tokio::test]
async fn events_tell_of_a_new_token_set_when_there_is_one() {
    let fixture = Fixture::new().await;
    let mut events = fixture.session.events();
    fixture.mock.next_refresh(Fault::WrongKey);
    fixture.session.renew(&[]).await.unwrap_err();
    assert!(matches!(events.next().await, Some(Event::Failed { .. })));
    fixture.pass(Duration::from_secs(301));
    fixture.mock.rotate_keys(false).unwrap();
    let away = fixture.mock.add_fault(
        FaultRule::new(Fault::instead(BadAnswer::Status { status: 503, body: BadBody::Empty }))
            .at(Endpoint::Jwks)
            .always(),
    );
    fixture.session.renew(&[]).await.unwrap_err();
    assert!(matches!(events.next().await, Some(Event::Failed { .. })));
    fixture.mock.clear_fault(away);
    fixture.pass(Duration::from_secs(301));
    fixture.session.renew(&[]).await.unwrap();
    let event = events.next().await;
    assert!(matches!(event, Some(Event::Renewed { .. })), "{event:?}");
}

// The end of a session that cannot be written down is not asked for again by every call.
#[tokio::test]
async fn an_end_that_cannot_be_stored_is_a_failure_with_a_wait() {
    let fixture = Fixture::new().await;
    let refresh = fixture.stored_refresh_token().await.unwrap();
    fixture.mock.revoke(&refresh, None);
    fixture.expire();
    let broken = || StoreError::Invalid { what: "broken".into() };
    fixture.store.fail_puts((0..100).map(|_| broken()));
    // Attempts in a row wait longer and longer, so that of many calls at one time only the first few can ask.
    for _ in 0..30 {
        fixture.session.access_token().await.unwrap_err();
    }
    assert!(fixture.mock.counters().refreshes() < 30, "{}", fixture.mock.counters().refreshes());
}

// Scope and audience among the parameters are what the token is for.
#[tokio::test]
async fn a_scope_among_the_parameters_does_not_become_the_sign_ins_own() {
    let fixture = Fixture::new().await;
    let own = fixture.session.access_token().await.unwrap().expose().to_owned();
    let narrow = [("scope".to_owned(), "openid profile".to_owned())];
    let token = fixture.session.renew(&narrow).await.unwrap().expose().to_owned();
    assert_ne!(token, own);
    assert_eq!(fixture.session.access_token().await.unwrap().expose(), own);
    let again = fixture.session.token(TokenRequest::new().scope("openid profile")).await.unwrap();
    assert_eq!(again.expose(), token);
}
