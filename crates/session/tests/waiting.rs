//! What callers wait for, and what they do not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mock_auth0::{BadAnswer, Fault};
use support::{Fixture, until};
use tokenkeep_auth0::TokenErrorKind;
use tokenkeep_session::{Remark, Session, SessionError, SignOut, TokenRequest};
use tokenkeep_store::{SecretStore as _, StoreError};

// Each scope is a renewal of its own, one after another; nobody gives up because others were served first.
#[tokio::test]
async fn many_scopes_at_once_are_all_served() {
    let fixture = Fixture::new().await;
    let words = ["openid", "profile", "email"];
    let mut tasks = Vec::new();
    for mask in 1..8_usize {
        let scope: Vec<&str> = (0..3).filter(|bit| mask & (1 << bit) != 0).map(|bit| words[bit]).collect();
        let (session, request) = (fixture.session.clone(), TokenRequest::new().scope(scope.join(" ")));
        tasks.push(tokio::spawn(async move { session.token(request).await.map(drop) }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(fixture.mock.counters().refreshes(), 7);
    assert!(fixture.alive().await);
}

// While a token set is being saved nothing else can be renewed, and whoever asks for another scope hears that.
#[tokio::test]
async fn an_unsaved_token_set_is_told_to_callers_with_another_scope() {
    let fixture = Fixture::new().await;
    fixture.expire();
    fixture.store.fail_puts((0..4).map(|_| StoreError::Full { path: None }));
    let error = fixture.session.access_token().await.unwrap_err();
    assert!(matches!(error, SessionError::NotSaved { .. }), "{error}");
    let error = fixture.session.token(TokenRequest::new().scope("openid")).await.unwrap_err();
    assert!(matches!(error, SessionError::NotSaved { .. }), "{error}");
    fixture.session.close(Duration::from_secs(60)).await.unwrap();
    fixture.session.token(TokenRequest::new().scope("openid")).await.unwrap();
    assert!(fixture.alive().await);
}

// A store that hangs does not keep back a token that is in memory, whichever scope it is of.
#[tokio::test]
async fn a_hung_store_keeps_back_no_valid_token() {
    let fixture = Fixture::new().await;
    let narrow = TokenRequest::new().scope("openid profile");
    let token = fixture.session.token(narrow.clone()).await.unwrap().expose().to_owned();
    fixture.store.hang();
    let asked = tokio::time::timeout(Duration::from_secs(20), fixture.session.token(narrow));
    let again = asked.await.expect("an answer").unwrap();
    assert_eq!(again.expose(), token);
    assert!(matches!(again.remark(), Some(Remark::RenewalSlow)), "{:?}", again.remark());
    fixture.store.resume();
}

// A refusal of what one caller wished says nothing about the others.
#[tokio::test]
async fn a_wish_that_is_refused_holds_back_no_other_renewal() {
    let fixture = Fixture::new().await;
    fixture.expire();
    fixture.mock.next_refresh(Fault::instead(BadAnswer::OAuth {
        status: 400,
        error: "invalid_scope".into(),
        description: "no such scope".into(),
    }));
    let wish = TokenRequest::new().scope("openid everything");
    let error = fixture.session.token(wish.clone()).await.unwrap_err();
    let SessionError::RenewalFailed(failure) = error else { panic!("{error}") };
    assert_eq!(failure.kind, TokenErrorKind::Rejected);
    let other = fixture.other().await;
    other.token(wish).await.expect_err("the same wish waits for its time");
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    other.access_token().await.unwrap();
    fixture.session.access_token().await.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 2);
    // Nor does a parameter that cannot be sent.
    let reserved = [("client_id".to_owned(), "another".to_owned())];
    fixture.session.renew(&reserved).await.unwrap_err();
    fixture.expire();
    fixture.session.access_token().await.unwrap();
}

// Waiting for any time at all is a wait, not a panic.
#[tokio::test]
async fn closing_may_wait_for_ever() {
    let fixture = Fixture::new().await;
    fixture.session.close(Duration::MAX).await.unwrap();
}

// Somebody signs in while a forced renewal waits: that is a newer token set, and nothing more is sent.
#[tokio::test]
async fn a_sign_in_satisfies_a_forced_renewal_that_was_waiting() {
    let fixture = Fixture::new().await;
    for _ in 0..3 {
        fixture.session.renew(&[]).await.unwrap();
    }
    fixture.mock.reset_counters();
    fixture.mock.next_refresh(Fault::HoldAfter);
    let (first, second) = (fixture.other().await, fixture.other().await);
    let first = tokio::spawn(async move { first.renew(&[]).await.map(|token| token.expose().to_owned()) });
    until("the request to be held", || fixture.mock.held() == 1).await;
    let second = tokio::spawn(async move { second.renew(&[]).await.map(|token| token.expose().to_owned()) });
    let password = tokenkeep_auth0::Password::new(mock_auth0::DEMO_USER.0, mock_auth0::DEMO_USER.1.into());
    let request = tokenkeep_session::SignIn::new(support::SCOPE);
    // Both have seen the old number by the time the sign-in is through.
    let entered = fixture.store.reads();
    until("both to wait", || fixture.store.reads() > entered + 20).await;
    fixture.session.sign_in(&fixture.client(), request, password).await.unwrap();
    let new = fixture.session.access_token().await.unwrap().expose().to_owned();
    fixture.mock.release();
    assert_eq!(first.await.unwrap().unwrap(), new);
    assert_eq!(second.await.unwrap().unwrap(), new);
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(fixture.alive().await);
}

// Durable first: what the store shows already while a renewal's put waits for the disk is not handed out.
#[tokio::test]
async fn what_is_not_durable_yet_is_shown_to_nobody() {
    let fixture = Fixture::new().await;
    fixture.expire();
    let (session, seen) = (fixture.session.clone(), Arc::new(Mutex::new(None)));
    let told = Arc::clone(&seen);
    fixture.store.before_sync(move || async move {
        *told.lock().unwrap() = Some(session.has_valid(Duration::ZERO).await.unwrap());
    });
    fixture.session.access_token().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), Some(false), "before the put was durable");
    assert!(fixture.session.has_valid(Duration::ZERO).await.unwrap());
}

// Revisions go back where an older copy of the store is put in its place: what stands there now counts, and no write of
// this process waits for ever for the revision that it has seen.
#[tokio::test]
async fn an_older_copy_of_the_store_is_written_over() {
    let fixture = Fixture::new().await;
    let key = Session::key_of("default").unwrap();
    let entry = fixture.store.get(&key).await.unwrap().unwrap();
    fixture.store.put_back(&key, &entry.value).await;
    assert!(fixture.store.get(&key).await.unwrap().unwrap().revision < entry.revision);
    fixture.expire();
    let asked = tokio::time::timeout(Duration::from_secs(20), fixture.session.access_token());
    asked.await.expect("an answer").unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(fixture.alive().await);
    let signed_out =
        tokio::time::timeout(Duration::from_secs(20), fixture.session.sign_out(SignOut::LocalOnly));
    signed_out.await.expect("an answer").unwrap();
}
