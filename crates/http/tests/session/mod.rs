//! A session at a mock issuer, as every suite here needs one.

use std::sync::Arc;

use mock_auth0::{DEMO_AUDIENCE, DEMO_CLIENT, MockAuth0};
use tokenkeep_auth0::TokenClient;
use tokenkeep_session::{SecretString, Session, SignIn};
use tokenkeep_store::MemoryStore;

/// A session at `mock` that was just signed in; the mock's counters stand at zero.
pub(crate) async fn signed_in(mock: &MockAuth0) -> Session {
    let session = Session::open(Arc::new(MemoryStore::new()), "default").await.unwrap();
    let token = mock.seed_session().unwrap();
    let issuer = TokenClient::discover(mock.issuer(), DEMO_CLIENT).await.unwrap();
    let wanted = SignIn::new("openid profile offline_access read:things").audience(DEMO_AUDIENCE);
    session.adopt(&issuer, wanted, SecretString::from(token.refresh_token())).await.unwrap();
    mock.reset_counters();
    session
}

/// Its token, as a request carries it.
pub(crate) async fn bearer(session: &Session) -> String {
    format!("Bearer {}", session.access_token().await.unwrap().expose())
}
