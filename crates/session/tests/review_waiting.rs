//! What callers wait for, and what they do not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use support::Fixture;
use tokenkeep_session::TokenRequest;

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
