//! Signing in and out beside what others do, and what is left of the session that was there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use mock_auth0::{BadAnswer, Fault};
use support::{Fixture, SCOPE, until};
use tokenkeep_session::{SessionError, SignIn};

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
