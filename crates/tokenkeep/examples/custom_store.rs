//! A store of one's own: it passes everything on to the vault, and counts what is written.
//!
//! `ISSUER` and `CLIENT_ID` say where to sign in, `AUDIENCE` for which API. The feature `conformance` has the suite that
//! every store must pass; this one does.
#![allow(clippy::print_stdout, reason = "an example")]

use std::env::var;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokenkeep::store::{Entry, Expected, HandedLease, HeldLease, Key, Lease, Note, Revision, SecretStore};
use tokenkeep::{Device, Secret, Session, SignIn, StoreError, TokenClient, open_or_make_store};

/// Another store, and how often an entry of it was written here.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    inner: Arc<dyn SecretStore>,
    writes: Arc<AtomicU64>,
}

impl Counting {
    pub(crate) fn new(inner: Arc<dyn SecretStore>) -> Self {
        Self { inner, writes: Arc::default() }
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl SecretStore for Counting {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        let revision = self.inner.put(key, value, expected).await?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(revision)
    }

    async fn remove(&self, key: &Key, expected: Expected) -> Result<(), StoreError> {
        self.inner.remove(key, expected).await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.inner.clear().await
    }

    async fn keys(&self) -> Result<Vec<Key>, StoreError> {
        self.inner.keys().await
    }

    async fn revision(&self, key: &Key) -> Result<Option<Revision>, StoreError> {
        self.inner.revision(key).await
    }

    async fn note(&self, key: &Key) -> Result<Option<Note>, StoreError> {
        self.inner.note(key).await
    }

    async fn lease(&self, key: &Key, wait: Duration) -> Result<Lease, StoreError> {
        let held = self.inner.lease(key, wait).await?;
        Ok(Lease::new(CountingLease { held, writes: self.writes.clone() }))
    }

    async fn receive_lease(&self, key: &Key, handed: HandedLease) -> Result<Lease, StoreError> {
        let held = self.inner.receive_lease(key, handed).await?;
        Ok(Lease::new(CountingLease { held, writes: self.writes.clone() }))
    }
}

/// What is written under a lease does not pass by the store's own `put`. The lease ends when it is dropped.
#[derive(Debug)]
struct CountingLease {
    held: Lease,
    writes: Arc<AtomicU64>,
}

#[async_trait]
impl HeldLease for CountingLease {
    async fn put(&self, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        let revision = self.held.put(value, expected).await?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(revision)
    }

    async fn set_note(&self, note: &Note) -> Result<(), StoreError> {
        self.held.set_note(note).await
    }

    async fn release(self: Box<Self>) -> Result<(), StoreError> {
        self.held.release().await
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = Counting::new(open_or_make_store().await?);
    let session = Session::open(Arc::new(store.clone()), "reports").await?;
    let issuer = TokenClient::discover(&var("ISSUER")?, &var("CLIENT_ID")?).await?;
    let wanted = SignIn::new("openid offline_access").audience(var("AUDIENCE")?);
    let device = Device::new(|prompt| {
        println!("open {} and enter {}", prompt.verification_uri, prompt.user_code);
    });
    session.sign_in(&issuer, wanted, device).await?;
    println!("written after the sign-in: {}", store.writes());
    session.renew(&[]).await?;
    println!("and after a renewal: {}", store.writes());
    Ok(())
}
