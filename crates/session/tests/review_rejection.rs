//! An access token that an API has rejected is not served again, here or elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use mock_auth0::{BadAnswer, BadBody, Endpoint, Fault, FaultRule};
use serde_json::json;
use support::Fixture;
use tokenkeep_session::{SessionError, TokenRequest};

fn down() -> Fault {
    Fault::instead(BadAnswer::Status { status: 500, body: BadBody::Html })
}

// The token to retry with is for the same API and scope as the rejected one.
#[tokio::test]
async fn a_rejected_token_is_replaced_by_one_for_the_same_scope() {
    let fixture = Fixture::new().await;
    let narrow = TokenRequest::new().scope("openid profile");
    let token = fixture.session.token(narrow.clone()).await.unwrap();
    let other = fixture.session.rejected(&token).await.unwrap().expect("another one");
    assert_ne!(other.expose(), token.expose());
    assert_eq!(other.expose(), fixture.session.token(narrow).await.unwrap().expose());
    assert_ne!(other.expose(), fixture.session.access_token().await.unwrap().expose());
    assert_eq!(fixture.mock.counters().refreshes(), 2);
}

// A process that still has it in memory heeds what another one has found out.
#[tokio::test]
async fn what_another_process_had_rejected_is_nothing_to_fall_back_on() {
    let fixture = Fixture::new().await;
    fixture.session.access_token().await.unwrap();
    fixture.mock.add_fault(FaultRule::refresh(down()).always());
    let other = fixture.other().await;
    let token = other.access_token().await.unwrap();
    assert!(other.rejected(&token).await.is_err());
    let outcome = fixture.session.token(TokenRequest::new()).await;
    assert!(matches!(outcome, Err(SessionError::RenewalFailed(_))), "{outcome:?}");
}

#[tokio::test]
async fn it_is_not_served_while_the_new_one_cannot_be_judged() {
    let fixture = Fixture::new().await;
    fixture.mock.rotate_keys(false).unwrap();
    fixture.mock.add_fault(
        FaultRule::new(Fault::instead(BadAnswer::Status { status: 503, body: BadBody::Empty }))
            .at(Endpoint::Jwks)
            .always(),
    );
    let token = fixture.session.access_token().await.unwrap();
    assert!(fixture.session.rejected(&token).await.is_err());
    let outcome = fixture.other().await.access_token().await;
    assert!(matches!(outcome, Err(SessionError::RenewalFailed(_))), "{outcome:?}");
}

#[tokio::test]
async fn it_is_not_served_after_a_renewal_for_another_scope() {
    let fixture = Fixture::new().await;
    let token = fixture.session.access_token().await.unwrap();
    let fault = fixture.mock.add_fault(FaultRule::refresh(down()).always());
    assert!(fixture.session.rejected(&token).await.is_err());
    fixture.mock.clear_fault(fault);
    fixture.pass(Duration::from_secs(301));
    fixture.other().await.token(TokenRequest::new().scope("openid profile")).await.unwrap();
    // What was cut off holds the next rotation back for this long.
    fixture.pass(Duration::from_secs(30));
    assert_ne!(fixture.other().await.access_token().await.unwrap().expose(), token.expose());
}

// While no renewal is due after a failure, the rejection is shared all the same.
#[tokio::test]
async fn a_rejection_during_the_backoff_is_shared() {
    let fixture = Fixture::new().await;
    let token = fixture.session.access_token().await.unwrap();
    fixture.mock.add_fault(FaultRule::refresh(Fault::instead(BadAnswer::RateLimited {
        retry_after: mock_auth0::RetryAfter::Seconds(3600),
    })));
    assert!(fixture.session.renew(&[]).await.is_err());
    assert!(fixture.session.rejected(&token).await.is_err());
    let outcome = fixture.other().await.access_token().await;
    assert!(matches!(outcome, Err(SessionError::RenewalFailed(_))), "{outcome:?}");
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

// Two rejected tokens of one session are both remembered.
#[tokio::test]
async fn two_rejected_tokens_are_both_shared() {
    let fixture = Fixture::new().await;
    let narrow = TokenRequest::new().scope("openid profile");
    let first = fixture.session.access_token().await.unwrap();
    let second = fixture.session.token(narrow.clone()).await.unwrap();
    fixture.mock.add_fault(FaultRule::refresh(down()).always());
    assert!(fixture.session.rejected(&first).await.is_err());
    fixture.pass(Duration::from_secs(301));
    assert!(fixture.session.rejected(&second).await.is_err());
    let other = fixture.other().await;
    assert!(other.access_token().await.is_err());
    assert!(other.token(narrow).await.is_err());
}

// An issuer that gives the very token again has had its say: the 401 is the API's answer.
#[tokio::test]
async fn the_same_token_given_again_is_the_answer() {
    let fixture = Fixture::new().await;
    let token = fixture.session.access_token().await.unwrap();
    fixture.mock.add_fault(FaultRule::refresh(Fault::member("access_token", json!(token.expose()))).always());
    assert!(fixture.session.rejected(&token).await.unwrap().is_none());
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert_eq!(fixture.session.access_token().await.unwrap().expose(), token.expose());
    assert!(fixture.session.rejected(&token).await.unwrap().is_none());
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}
