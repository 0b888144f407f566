//! Signing in and out beside what others do, and what is left of the session that was there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use mock_auth0::{BadAnswer, BadBody, Endpoint, Fault, FaultRule, MockAuth0, Revocation as Kind, User};
use serde_json::{Value, json};
use support::{Fixture, SCOPE, until};
use tokenkeep_auth0::Password;
use tokenkeep_session::{Revocation, SessionError, SessionState, SignIn, SignOut, TokenRequest};
use tokenkeep_store::{Expected, Key, Secret, SecretStore, StoreError};

const GRACE: (&str, &str) = ("grace@example.com", "another password");

async fn with_grace() -> MockAuth0 {
    MockAuth0::builder()
        .user(User::new(mock_auth0::DEMO_USER.0, mock_auth0::DEMO_USER.1).with_sub(mock_auth0::DEMO_SUB))
        .user(User::new(GRACE.0, GRACE.1).with_sub("auth0|grace"))
        .revocation(Kind::Token)
        .start()
        .await
        .unwrap()
}

fn password((user, password): (&str, &str)) -> Password {
    Password::new(user, password.into())
}

// A token that turns out dead is brought while a renewal is under way: that renewal's answer is what is left.
#[tokio::test]
async fn adopting_a_dead_token_loses_no_renewal_that_is_under_way() {
    let fixture = Fixture::new().await;
    fixture.expire();
    fixture.mock.next_refresh(Fault::HoldAfter);
    let renewing = fixture.other().await;
    let task = tokio::spawn(async move { renewing.access_token().await.map(drop) });
    until("the request to be held", || fixture.mock.held() == 1).await;
    let (adopting, client) = (fixture.other().await, fixture.client());
    let before = fixture.store.reads();
    let adopting =
        tokio::spawn(async move { adopting.adopt(&client, SignIn::new(SCOPE), "v1.dead".into()).await });
    until("it to want the lease", || fixture.store.reads() > before).await;
    fixture.mock.release();
    task.await.unwrap().unwrap();
    assert!(adopting.await.unwrap().unwrap_err().login_required().is_some());
    assert!(fixture.alive().await);
    fixture.session.renew(&[]).await.unwrap();
}

// Signing out wins over an adoption too: the session that was there before is not put back, and does not live on.
#[tokio::test]
async fn a_sign_out_while_a_dead_token_is_adopted_stays_signed_out() {
    let fixture = Fixture::new().await;
    let before = fixture.stored_refresh_token().await.unwrap();
    fixture.mock.next_refresh(Fault::Hold);
    let (adopting, client) = (fixture.other().await, fixture.client());
    let adopting =
        tokio::spawn(async move { adopting.adopt(&client, SignIn::new(SCOPE), "v1.dead".into()).await });
    until("the request to be held", || fixture.mock.held() == 1).await;
    assert!(fixture.session.sign_out(SignOut::Revoke).await.unwrap().was_signed_in);
    fixture.mock.release();
    assert!(adopting.await.unwrap().unwrap_err().login_required().is_some());
    assert_eq!(fixture.session.status().await.unwrap().state, SessionState::Ended);
    assert!(!fixture.mock.is_alive(&before), "what was there before");
}

// A token that cannot be tried now is no reason to give up the session that was there.
#[tokio::test]
async fn adopting_while_the_issuer_turns_everyone_away_leaves_the_session_that_was_there() {
    let fixture = Fixture::new().await;
    let before = fixture.stored_refresh_token().await;
    let tokens = fixture.mock.seed_session().unwrap();
    fixture.mock.next_refresh(Fault::instead(BadAnswer::RateLimited {
        retry_after: mock_auth0::RetryAfter::Seconds(3600),
    }));
    let brought = tokens.refresh_token().into();
    let error = fixture.session.adopt(&fixture.client(), SignIn::new(SCOPE), brought).await.unwrap_err();
    assert!(matches!(error, SessionError::RenewalFailed(_)), "{error}");
    assert_eq!(fixture.stored_refresh_token().await, before);
    fixture.session.access_token().await.unwrap();
}

// Two people sign in to an empty store at once: the later replaces the earlier knowingly, and revokes what it replaced.
#[tokio::test]
async fn a_sign_in_between_the_look_and_the_put_is_replaced_knowingly() {
    let fixture = Fixture::empty_at(with_grace().await).await;
    let (other, client) = (fixture.other().await, fixture.client());
    fixture.store.before_put(move || async move {
        other.sign_in(&client, SignIn::new(SCOPE), password(GRACE)).await.unwrap();
    });
    let ada = password(mock_auth0::DEMO_USER);
    let signed_in = fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), ada).await.unwrap();
    assert!(signed_in.replaced);
    assert_eq!(fixture.mock.counters().at(Endpoint::Revoke), 1, "another person's token is revoked");
}

// An entry that must not be overwritten is found before anybody is asked to sign in.
#[tokio::test]
async fn an_entry_of_a_newer_version_is_refused_before_anything_is_asked() {
    let fixture = Fixture::new().await;
    let key = Key::new("session/default").unwrap();
    let entry = fixture.store.get(&key).await.unwrap().unwrap();
    let mut record: Value = rmp_serde::from_slice(entry.value.expose()).unwrap();
    record["v"] = json!(99);
    let newer = Secret::new(rmp_serde::to_vec_named(&record).unwrap());
    fixture.store.put(&key, &newer, Expected::Any).await.unwrap();
    let ada = password(mock_auth0::DEMO_USER);
    let error = fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), ada).await.unwrap_err();
    assert!(
        matches!(&error, SessionError::Store(error) if matches!(**error, StoreError::NewerVersion { .. })),
        "{error}"
    );
    assert_eq!(fixture.mock.counters().at(Endpoint::Token), 0);
}

// Signed out while the issuer was down, then signed in again: the next sign-out finishes both.
#[tokio::test]
async fn what_was_still_to_be_revoked_outlives_a_new_sign_in() {
    let fixture = Fixture::at(with_grace().await).await;
    let old = fixture.stored_refresh_token().await.unwrap();
    let down = fixture.mock.add_fault(
        FaultRule::new(Fault::instead(BadAnswer::Status { status: 503, body: BadBody::Empty }))
            .at(Endpoint::Revoke)
            .always(),
    );
    fixture.session.sign_out(SignOut::Revoke).await.unwrap();
    let ada = password(mock_auth0::DEMO_USER);
    fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), ada).await.unwrap();
    let new = fixture.stored_refresh_token().await.unwrap();
    assert!(fixture.mock.is_alive(&old) && fixture.mock.is_alive(&new));
    fixture.session.renew(&[]).await.unwrap();
    fixture.mock.clear_fault(down);
    let out = fixture.session.sign_out(SignOut::Revoke).await.unwrap();
    assert!(matches!(out.revocation, Revocation::Done), "{:?}", out.revocation);
    assert!(!fixture.mock.is_alive(&old) && !fixture.mock.is_alive(&new));
}

// The same for somebody else's sign-in: what is left of the person before is revoked with that person's settings.
#[tokio::test]
async fn what_was_still_to_be_revoked_is_revoked_when_somebody_else_signs_in() {
    let fixture = Fixture::at(with_grace().await).await;
    let old = fixture.stored_refresh_token().await.unwrap();
    let down = fixture.mock.add_fault(
        FaultRule::new(Fault::instead(BadAnswer::Status { status: 503, body: BadBody::Empty }))
            .at(Endpoint::Revoke)
            .always(),
    );
    fixture.session.sign_out(SignOut::Revoke).await.unwrap();
    fixture.mock.clear_fault(down);
    fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), password(GRACE)).await.unwrap();
    assert!(!fixture.mock.is_alive(&old));
    assert!(!fixture.session.status().await.unwrap().revocation_pending);
}

// Nothing of the next person's session goes through the handle of the one before.
#[tokio::test]
async fn a_replaced_handle_gives_no_token_and_signs_nobody_out() {
    let fixture = Fixture::at(with_grace().await).await;
    let ada = fixture.other().await;
    ada.access_token().await.unwrap();
    fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), password(GRACE)).await.unwrap();
    let refused = |outcome: Result<(), SessionError>| matches!(outcome, Err(SessionError::Replaced));
    assert!(refused(ada.peek().await.map(drop)));
    assert!(refused(ada.has_valid(std::time::Duration::ZERO).await.map(drop)));
    assert!(refused(ada.token_set(TokenRequest::new()).await.map(drop)));
    assert!(refused(ada.sign_out(SignOut::Revoke).await.map(drop)));
    assert_eq!(fixture.session.status().await.unwrap().state, SessionState::Active);
    assert!(fixture.alive().await);
}

// A session that has ended by itself is signed out by a sign-out, for good.
#[tokio::test]
async fn signing_out_of_an_ended_session_is_a_sign_out() {
    let fixture = Fixture::new().await;
    let refresh = fixture.stored_refresh_token().await.unwrap();
    fixture.mock.revoke(&refresh, None);
    fixture.session.renew(&[]).await.unwrap_err();
    let out = fixture.session.sign_out(SignOut::Revoke).await.unwrap();
    assert!(!out.was_signed_in);
    let ended = fixture.session.status().await.unwrap().ended.unwrap();
    assert_eq!(ended.reason, tokenkeep_session::EndReason::SignedOut);
    assert!(!fixture.session.sign_out(SignOut::Revoke).await.unwrap().was_signed_in);
}

// The person has signed in; a caller that gives up while the answer is being checked does not undo that.
#[tokio::test]
async fn a_sign_in_outlives_a_caller_that_gives_up_after_the_answer() {
    let fixture = Fixture::empty().await;
    fixture.mock.add_fault(FaultRule::new(Fault::Hold).at(Endpoint::Jwks));
    let (session, client) = (fixture.session.clone(), fixture.client());
    let ada = password(mock_auth0::DEMO_USER);
    let caller =
        tokio::spawn(async move { session.sign_in(&client, SignIn::new(SCOPE), ada).await.map(drop) });
    until("the keys to be asked for", || fixture.mock.held() == 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    fixture.mock.release();
    let store: std::sync::Arc<dyn SecretStore> = std::sync::Arc::clone(&fixture.store) as _;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while tokenkeep_session::Session::list(&store).await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the sign-in is gone");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(fixture.alive().await);
}

// Somebody else signs in while a renewal is under way: whoever waits for it is told, and gets nobody else's token.
#[tokio::test]
async fn another_persons_sign_in_during_a_renewal_is_no_answer_to_who_waits() {
    let fixture = Fixture::at(with_grace().await).await;
    fixture.expire();
    fixture.mock.next_refresh(Fault::HoldAfter);
    let ada = fixture.other().await;
    let waiting =
        tokio::spawn(async move { ada.access_token().await.map(|token| token.expose().to_owned()) });
    until("the request to be held", || fixture.mock.held() == 1).await;
    fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), password(GRACE)).await.unwrap();
    fixture.mock.release();
    let outcome = waiting.await.unwrap();
    assert!(matches!(outcome, Err(SessionError::Replaced)), "{}", outcome.is_ok());
    assert!(fixture.alive().await);
}
