//! A store that cannot be read, and one that holds nothing: two different answers, and neither costs a request.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use support::Fixture;
use tokenkeep_session::{LoginReason, Remark, Session, SessionError};
use tokenkeep_store::{Entry, Expected, Key, Lease, Note, Revision, Secret, SecretStore, StoreError};

/// A store whose reads fail from some moment on.
#[derive(Debug)]
struct Unreadable {
    inner: Arc<dyn SecretStore>,
    broken: AtomicBool,
}

impl Unreadable {
    fn check(&self) -> Result<(), StoreError> {
        match self.broken.load(Ordering::SeqCst) {
            true => Err(StoreError::Corrupt { what: "the entry at byte 77".to_owned() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl SecretStore for Unreadable {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.check()?;
        self.inner.get(key).await
    }
    async fn put(&self, key: &Key, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        self.inner.put(key, value, expected).await
    }
    async fn remove(&self, key: &Key, expected: Expected) -> Result<(), StoreError> {
        self.inner.remove(key, expected).await
    }
    async fn clear(&self) -> Result<(), StoreError> {
        self.inner.clear().await
    }
    async fn keys(&self) -> Result<Vec<Key>, StoreError> {
        self.check()?;
        self.inner.keys().await
    }
    async fn revision(&self, key: &Key) -> Result<Option<Revision>, StoreError> {
        self.check()?;
        self.inner.revision(key).await
    }
    async fn note(&self, key: &Key) -> Result<Option<Note>, StoreError> {
        self.check()?;
        self.inner.note(key).await
    }
    async fn lease(&self, key: &Key, wait: Duration) -> Result<Lease, StoreError> {
        self.inner.lease(key, wait).await
    }
}

fn is_damage(error: &SessionError) -> bool {
    matches!(error, SessionError::Store(error) if matches!(**error, StoreError::Corrupt { .. }))
}

// CM-22, CM-23, CM-25, AM-67: a read error is its own error for each question, never "no credentials" and never false.
#[tokio::test]
async fn a_read_error_is_never_an_absent_session() {
    let fixture = Fixture::new().await;
    let store =
        Arc::new(Unreadable { inner: Arc::clone(&fixture.store) as _, broken: AtomicBool::new(false) });
    let open = || {
        Session::builder(Arc::clone(&store) as _, "default").clock(Arc::new(fixture.clock.clone())).build()
    };
    let (warm, cold) = (open().await.unwrap(), open().await.unwrap());
    warm.access_token().await.unwrap();
    store.broken.store(true, Ordering::SeqCst);
    assert!(is_damage(&cold.profile().await.unwrap_err()));
    assert!(is_damage(&cold.status().await.unwrap_err()));
    assert!(is_damage(&cold.has_valid(Duration::ZERO).await.unwrap_err()));
    assert!(is_damage(&cold.can_renew().await.unwrap_err()));
    assert!(is_damage(&cold.peek().await.unwrap_err()));
    assert!(is_damage(&cold.renew(&[]).await.unwrap_err()));
    assert!(is_damage(&open().await.unwrap_err()));
    // What is in memory and valid is handed out all the same.
    let lifetime = Duration::from_secs(fixture.mock.settings().access_token_secs);
    fixture.pass(lifetime - Duration::from_secs(30));
    let token = warm.access_token().await.unwrap();
    assert!(matches!(token.remark(), Some(Remark::StoreFailed(_))), "{:?}", token.remark());
    fixture.pass(Duration::from_secs(31));
    assert!(is_damage(&warm.access_token().await.unwrap_err()));
    assert!(fixture.mock.requests().is_empty());
    assert!(fixture.alive().await);
}

// CM-38, CM-41, CM-51, CM-147, AM-31, AM-59: nothing is stored, and that is said.
#[tokio::test]
async fn nothing_stored_is_no_error_but_for_who_wants_a_token() {
    let fixture = Fixture::empty().await;
    assert!(!fixture.session.has_valid(Duration::ZERO).await.unwrap());
    assert!(!fixture.session.can_renew().await.unwrap());
    assert!(fixture.session.peek().await.unwrap().is_none());
    assert!(fixture.session.settings().await.unwrap().is_none());
    let never = |error: SessionError| matches!(error.login_required(), Some(LoginReason::NeverSignedIn));
    assert!(never(fixture.session.access_token().await.unwrap_err()));
    assert!(never(fixture.session.renew(&[]).await.unwrap_err()));
    assert!(never(fixture.session.profile().await.unwrap_err()));
    assert!(fixture.mock.requests().is_empty());
}
