//! An access token that an API has rejected is not served again, here or elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use support::Fixture;
use tokenkeep_session::TokenRequest;

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
