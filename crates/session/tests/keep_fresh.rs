//! Renewing ahead of time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use mock_auth0::{BadAnswer, Fault, MockAuth0, RetryAfter};
use support::{Fixture, SCOPE, until};
use tokenkeep_session::{Event, Events, SecretString, SessionError, SignIn, SignOut};

/// Lets a part of the access token's lifetime pass.
fn pass(fixture: &Fixture, part: f64) {
    fixture.pass(Duration::from_secs(fixture.mock.settings().access_token_secs).mul_f64(part));
}

/// Waits until every keeper that runs has had its turn: until another one has looked three times.
async fn looks() {
    let other = Fixture::new().await;
    let _kept = other.session.keep_fresh().unwrap();
    let before = other.store.reads();
    until("three looks", || other.store.reads() >= before + 6).await;
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(Duration::from_secs(20), events.next()).await.expect("an event").unwrap()
}

#[tokio::test]
async fn a_token_is_renewed_before_anyone_has_to_wait() {
    let fixture = Fixture::new().await;
    let (mut events, _kept) = (fixture.session.events(), fixture.session.keep_fresh().unwrap());
    pass(&fixture, 0.69);
    looks().await;
    assert_eq!(fixture.mock.counters().refreshes(), 0, "renewed with three tenths of its life left");
    pass(&fixture, 0.12);
    assert!(matches!(next(&mut events).await, Event::Renewed { .. }));
    looks().await;
    let token = fixture.session.access_token().await.unwrap();
    assert!(token.remark().is_none());
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(fixture.alive().await);
}

// Many processes that keep one session fresh are one request, and each has the new token without asking for it.
#[tokio::test]
async fn one_of_many_renews() {
    let fixture = Fixture::new().await;
    let mut kept = Vec::new();
    for _ in 0..20 {
        let session = fixture.other().await;
        let (events, keep) = (session.events(), session.keep_fresh().unwrap());
        kept.push((session, events, keep));
    }
    pass(&fixture, 0.85);
    for (session, events, _) in &mut kept {
        assert!(matches!(next(events).await, Event::Renewed { .. }));
        session.access_token().await.unwrap();
    }
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(fixture.alive().await);
}

// A life so short that requests insist on half of it: still nobody waits, and it is not renewed over and over.
#[tokio::test]
async fn a_short_life_is_renewed_ahead_too() {
    let mock = MockAuth0::builder().access_token_lifetime(Duration::from_secs(60)).start().await.unwrap();
    let fixture = Fixture::at(mock).await;
    let _kept = fixture.session.keep_fresh().unwrap();
    pass(&fixture, 0.3);
    looks().await;
    assert_eq!(fixture.mock.counters().refreshes(), 0);
    pass(&fixture, 0.1);
    until("a renewal", || fixture.mock.counters().refreshes() == 1).await;
    looks().await;
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

// Failures keep the time that their note names, whoever keeps the session fresh.
#[tokio::test]
async fn a_failure_is_not_repeated_before_its_time() {
    let fixture = Fixture::new().await;
    let (other, mut events) = (fixture.other().await, fixture.session.events());
    let _kept = [fixture.session.keep_fresh().unwrap(), other.keep_fresh().unwrap()];
    fixture.mock.next_refresh(Fault::instead(BadAnswer::RetryLater {
        status: 503,
        retry_after: RetryAfter::Seconds(300),
    }));
    pass(&fixture, 0.85);
    assert!(matches!(next(&mut events).await, Event::Failed { .. }));
    looks().await;
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    fixture.session.access_token().await.expect("the old token is still good");
    fixture.pass(Duration::from_secs(301));
    assert!(matches!(next(&mut events).await, Event::Renewed { .. }));
    assert_eq!(fixture.mock.counters().refreshes(), 2);
    assert!(fixture.alive().await);
}

#[tokio::test]
async fn what_others_do_is_told_without_a_request() {
    let fixture = Fixture::new().await;
    let (mut events, _kept) = (fixture.session.events(), fixture.session.keep_fresh().unwrap());
    let other = fixture.other().await;
    other.renew(&[]).await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Renewed { .. }));
    other.sign_out(SignOut::Revoke).await.unwrap();
    assert!(matches!(next(&mut events).await, Event::SignedOut { .. }));
    looks().await;
    let refreshes = fixture.mock.counters().refreshes();
    // Watched until somebody signs in, and kept fresh from then on.
    let tokens = fixture.mock.seed_session().unwrap();
    let token = SecretString::from(tokens.refresh_token());
    other.adopt(&fixture.client(), SignIn::new(SCOPE), token).await.unwrap();
    assert!(matches!(next(&mut events).await, Event::SignedIn { .. }));
    pass(&fixture, 0.85);
    assert!(matches!(next(&mut events).await, Event::Renewed { .. }));
    assert!(fixture.mock.counters().refreshes() > refreshes);
}

#[tokio::test]
async fn dropping_it_ends_it() {
    let fixture = Fixture::new().await;
    let kept = fixture.session.keep_fresh().unwrap();
    let before = fixture.store.reads();
    until("a look", || fixture.store.reads() > before).await;
    drop(kept);
    looks().await;
    let reads = fixture.store.reads();
    fixture.expire();
    looks().await;
    assert_eq!(fixture.store.reads(), reads);
    assert_eq!(fixture.mock.counters().refreshes(), 0);
}

// A renewal that has started is not stopped with the keeper.
#[tokio::test]
async fn dropping_it_in_the_middle_of_a_renewal_loses_nothing() {
    let fixture = Fixture::new().await;
    let kept = fixture.session.keep_fresh().unwrap();
    fixture.mock.next_refresh(Fault::Hold);
    pass(&fixture, 0.85);
    until("the request", || fixture.mock.held() == 1).await;
    drop(kept);
    fixture.mock.release();
    let token = fixture.session.renew(&[]).await;
    assert!(!matches!(token, Err(SessionError::LoginRequired(_))), "{token:?}");
    fixture.session.close(Duration::from_secs(20)).await.unwrap();
    assert!(fixture.alive().await);
}
