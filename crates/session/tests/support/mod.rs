//! What the session's tests share: a signed-in session over a store that can be made to fail, at a mock issuer.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::exhaustive_structs,
    missing_docs,
    unreachable_pub,
    reason = "test support: each suite uses a part of it"
)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mock_auth0::{MockAuth0, Tokens};
use tokenkeep_auth0::TokenClient;
use tokenkeep_clock::{ManualClock, SystemClock};
use tokenkeep_secret::{Secret, SecretString};
use tokenkeep_session::{Session, SignIn};
use tokenkeep_store::{
    Entry, Expected, HandedLease, HeldLease, Key, Lease, MemoryStore, Note, Revision, SecretStore, StoreError,
};

pub const SCOPE: &str = "openid profile email offline_access";

/// A mock issuer, a store, a clock, and a session that is signed in by a seeded refresh token.
pub struct Fixture {
    pub mock: MockAuth0,
    pub store: Arc<FlakyStore>,
    pub clock: ManualClock,
    pub session: Session,
}

impl Fixture {
    /// Signed in, with rotation and no overlap.
    pub async fn new() -> Self {
        Self::at(MockAuth0::start().await.unwrap()).await
    }

    pub async fn at(mock: MockAuth0) -> Self {
        let clock = ManualClock::at(SystemClock::shared().wall());
        let store = Arc::new(FlakyStore::default());
        let session = open(&store, &clock, "default").await;
        let fixture = Self { mock, store, clock, session };
        let tokens = fixture.mock.seed_session().unwrap();
        fixture.adopt(&tokens).await;
        fixture.mock.reset_counters();
        fixture
    }

    /// Nobody signed in yet.
    pub async fn empty() -> Self {
        Self::empty_at(MockAuth0::start().await.unwrap()).await
    }

    pub async fn empty_at(mock: MockAuth0) -> Self {
        let clock = ManualClock::at(SystemClock::shared().wall());
        let store = Arc::new(FlakyStore::default());
        let session = open(&store, &clock, "default").await;
        Self { mock, store, clock, session }
    }

    pub async fn adopt(&self, tokens: &Tokens) {
        let token = SecretString::from(tokens.refresh_token());
        self.session.adopt(&self.client(), SignIn::new(SCOPE), token).await.unwrap();
    }

    pub fn client(&self) -> TokenClient {
        TokenClient::builder(self.mock.issuer(), &self.mock.client_id())
            .clock(Arc::new(self.clock.clone()))
            .build()
            .unwrap()
    }

    /// Another handle of the same session, as another process has it.
    pub async fn other(&self) -> Session {
        open(&self.store, &self.clock, "default").await
    }

    /// Lets so much time pass, here and at the issuer.
    pub fn pass(&self, by: Duration) {
        self.clock.advance(by);
        self.mock.advance(by);
    }

    /// Lets the access token expire.
    pub fn expire(&self) {
        let lifetime = self.mock.settings().access_token_secs;
        self.pass(Duration::from_secs(lifetime + 1));
    }

    /// The refresh token that is stored now, read as the entry's MessagePack has it.
    pub async fn stored_refresh_token(&self) -> Option<String> {
        let entry = self.store.get(&Key::new("session/default").unwrap()).await.unwrap()?;
        let record: serde_json::Value = rmp_serde::from_slice(entry.value.expose()).unwrap();
        record["refresh_token"].as_str().map(str::to_owned)
    }

    /// Whether the session can be renewed once more at the issuer with what is stored.
    pub async fn alive(&self) -> bool {
        match self.stored_refresh_token().await {
            Some(token) => self.mock.is_alive(&token),
            None => false,
        }
    }
}

pub async fn open(store: &Arc<FlakyStore>, clock: &ManualClock, name: &str) -> Session {
    let store: Arc<dyn SecretStore> = Arc::clone(store) as _;
    Session::builder(store, name).clock(Arc::new(clock.clone())).build().await.unwrap()
}

/// Waits until `condition` holds, and fails the test if it does not within 20 s.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited 20 s for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A memory store whose puts can be made to fail, and before whose puts others can get in.
#[derive(Default)]
pub struct FlakyStore {
    inner: Mutex<Arc<MemoryStore>>,
    script: Arc<Script>,
}

#[derive(Default)]
pub struct Script {
    failures: Mutex<VecDeque<StoreError>>,
    before_put: Mutex<Option<Hook>>,
    after_put: Mutex<Option<Hook>>,
    hanging: std::sync::atomic::AtomicBool,
    resumed: tokio::sync::Notify,
    reads: std::sync::atomic::AtomicUsize,
    pub failed_puts: std::sync::atomic::AtomicUsize,
}

impl std::fmt::Debug for FlakyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlakyStore")
    }
}

impl FlakyStore {
    /// The next puts under a lease fail like this, one after another.
    pub fn fail_puts(&self, errors: impl IntoIterator<Item = StoreError>) {
        self.script.failures.lock().unwrap().extend(errors);
    }

    pub fn failed_puts(&self) -> usize {
        self.script.failed_puts.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Reads wait until `resume`, as those of a store whose disk is away do.
    pub fn hang(&self) {
        self.script.hanging.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    pub fn resume(&self) {
        self.script.hanging.store(false, std::sync::atomic::Ordering::SeqCst);
        self.script.resumed.notify_waiters();
    }

    /// How many reads there were, tries for the lease among them.
    pub fn reads(&self) -> usize {
        self.script.reads.load(std::sync::atomic::Ordering::SeqCst)
    }

    async fn reading(&self) {
        self.script.reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut resumed = Box::pin(self.script.resumed.notified());
        resumed.as_mut().enable();
        if self.script.hanging.load(std::sync::atomic::Ordering::SeqCst) {
            resumed.await;
        }
    }

    /// Before the next put, under a lease or not, this happens.
    pub fn before_put<F, Fut>(&self, hook: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        *self.script.before_put.lock().unwrap() = Some(Box::new(move || Box::pin(hook())));
    }

    /// After the next put under a lease, while it is not durable yet but can be read, this happens.
    pub fn before_sync<F, Fut>(&self, hook: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        *self.script.after_put.lock().unwrap() = Some(Box::new(move || Box::pin(hook())));
    }

    /// A copy of this value from an older store is put in this one's place, at an older revision.
    pub async fn put_back(&self, key: &Key, value: &Secret) {
        let older = MemoryStore::new();
        older.put(key, value, Expected::Absent).await.unwrap();
        *self.inner.lock().unwrap() = Arc::new(older);
    }

    fn inner(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.inner.lock().unwrap())
    }
}

#[async_trait]
impl SecretStore for FlakyStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.reading().await;
        self.inner().get(key).await
    }
    async fn put(&self, key: &Key, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        let hook = self.script.before_put.lock().unwrap().take();
        if let Some(hook) = hook {
            hook().await;
        }
        self.inner().put(key, value, expected).await
    }
    async fn remove(&self, key: &Key, expected: Expected) -> Result<(), StoreError> {
        self.inner().remove(key, expected).await
    }
    async fn clear(&self) -> Result<(), StoreError> {
        self.inner().clear().await
    }
    async fn keys(&self) -> Result<Vec<Key>, StoreError> {
        self.inner().keys().await
    }
    async fn revision(&self, key: &Key) -> Result<Option<Revision>, StoreError> {
        self.reading().await;
        self.inner().revision(key).await
    }
    async fn note(&self, key: &Key) -> Result<Option<Note>, StoreError> {
        self.reading().await;
        self.inner().note(key).await
    }
    async fn lease(&self, key: &Key, wait: Duration) -> Result<Lease, StoreError> {
        self.script.reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let lease = self.inner().lease(key, wait).await?;
        Ok(Lease::new(FlakyLease { lease, script: Arc::clone(&self.script) }))
    }
}

#[derive(Debug)]
struct FlakyLease {
    lease: Lease,
    script: Arc<Script>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

#[async_trait]
impl HeldLease for FlakyLease {
    async fn put(&self, value: &Secret, expected: Expected) -> Result<Revision, StoreError> {
        let hook = self.script.before_put.lock().unwrap().take();
        if let Some(hook) = hook {
            hook().await;
        }
        let failure = self.script.failures.lock().unwrap().pop_front();
        match failure {
            Some(error) => {
                self.script.failed_puts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Err(error)
            }
            None => {
                let put = self.lease.put(value, expected).await;
                let hook = self.script.after_put.lock().unwrap().take();
                if let Some(hook) = hook {
                    hook().await;
                }
                put
            }
        }
    }
    async fn set_note(&self, note: &Note) -> Result<(), StoreError> {
        self.lease.set_note(note).await
    }
    fn hand_over(&self) -> Result<HandedLease, StoreError> {
        Err(StoreError::Unsupported { what: "handing a lease to another process" })
    }
    async fn release(self: Box<Self>) -> Result<(), StoreError> {
        self.lease.release().await
    }
}
