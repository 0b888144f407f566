//! What a client knows of its issuer: endpoints and keys, fetched when needed and kept.

use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::client::TokenClient;
use crate::discovery::{Cached, CachedIssuer, IssuerMetadata, discovery_url};
use crate::error::TokenError;
use crate::jwks::KeySet;

/// How long a fetch of public data may wait for its answer. Shorter than a token request: it can always be asked again.
const METADATA_LIMIT: Duration = Duration::from_secs(10);

/// How often an unknown key id may send for the keys: tokens with made-up ids must not become a load on the issuer.
const KEYS_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// How old keys may be before [`TokenClient::load_keys`] asks for them again: an issuer that withdraws a key is heard
/// within this time.
const KEYS_STALE: Duration = Duration::from_secs(24 * 3600);

/// What is in memory.
#[derive(Default)]
pub(crate) struct Known {
    /// The issuer in its own spelling, once its metadata is known.
    spelled: OnceLock<String>,
    cached: RwLock<CachedIssuer>,
    /// One discovery at a time.
    discovering: Mutex<()>,
    /// One fetch of keys at a time, and when the last one began, by boot time.
    fetching_keys: Mutex<Option<Duration>>,
}

impl Known {
    pub(crate) fn spelled(&self) -> Option<&str> {
        self.spelled.get().map(String::as_str)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, CachedIssuer> {
        self.cached.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, CachedIssuer> {
        self.cached.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenClient {
    /// What is known of the issuer, to be stored beside a session. Public data.
    pub fn cached(&self) -> CachedIssuer {
        self.known().read().clone()
    }

    /// Puts back what [`cached`](Self::cached) gave. Ignored if it is of another issuer, or what is in memory is newer.
    pub fn prime(&self, cached: CachedIssuer) {
        // Keys alone are nobody's: the metadata says whose they are.
        let Some(metadata) = cached.metadata else { return };
        if metadata.value.check(&self.parts().issuer).is_err() {
            return;
        }
        let now = self.clock().wall();
        self.learn_metadata(Cached::new(metadata.value, metadata.fetched_at.min(now)));
        if let Some(jwks) = cached.jwks {
            self.learn_keys(Cached::new(jwks.value, jwks.fetched_at.min(now)));
        }
    }

    fn learn_metadata(&self, fetched: Cached<IssuerMetadata>) {
        let _ = self.known().spelled.set(fetched.value.issuer.clone());
        replace_older(&mut self.known().write().metadata, fetched);
    }

    fn learn_keys(&self, fetched: Cached<KeySet>) {
        replace_older(&mut self.known().write().jwks, fetched);
    }

    fn known_metadata(&self) -> Option<IssuerMetadata> {
        let known = self.known().read();
        known.metadata.as_ref().map(|cached| cached.value.clone())
    }

    /// The issuer's metadata, from memory or its discovery document.
    ///
    /// # Errors
    ///
    /// `Unavailable` or `RateLimited`; `Protocol` where the document cannot be read, names another issuer (compared
    /// after dropping one trailing slash), or has an endpoint that is neither https nor on this machine.
    pub async fn load_metadata(&self) -> Result<IssuerMetadata, TokenError> {
        if let Some(metadata) = self.known_metadata() {
            return Ok(metadata);
        }
        let _one_at_a_time = self.known().discovering.lock().await;
        if let Some(metadata) = self.known_metadata() {
            return Ok(metadata);
        }
        self.fetch_metadata().await
    }

    /// The issuer's metadata from its discovery document, whatever is in memory.
    pub(crate) async fn reload_metadata(&self) -> Result<IssuerMetadata, TokenError> {
        let _one_at_a_time = self.known().discovering.lock().await;
        self.fetch_metadata().await
    }

    async fn fetch_metadata(&self) -> Result<IssuerMetadata, TokenError> {
        let asked = &self.parts().issuer;
        let call = self.get("discovery", discovery_url(asked)?);
        let reply = self.call_repeatedly(&call, METADATA_LIMIT).await?;
        let metadata = IssuerMetadata::parse(asked, &reply.body)?;
        self.learn_metadata(Cached::new(metadata.clone(), self.clock().wall()));
        Ok(metadata)
    }

    /// Sees to it that the issuer's keys are in memory. Keys older than a day are fetched anew; if that fails, they
    /// serve on.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `RateLimited` or `Protocol`; `Unsupported` if the issuer publishes no keys.
    pub async fn load_keys(&self) -> Result<(), TokenError> {
        let fetched_at = self.cached().jwks.map(|keys| keys.fetched_at);
        let fresh = fetched_at.is_some_and(|at| {
            // A time ahead of the clock says nothing: as good as fresh, an unknown key id sends for new ones.
            self.clock().wall().duration_since(at).is_ok_and(|age| age < KEYS_STALE)
        });
        if fresh {
            return Ok(());
        }
        let mut last = self.known().fetching_keys.lock().await;
        if self.cached().jwks.map(|keys| keys.fetched_at) != fetched_at {
            return Ok(());
        }
        match self.fetch_keys(&mut last).await {
            Err(error) if fetched_at.is_some() => {
                tracing::debug!(kind = error.kind().code(), "the keys in memory serve on");
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Fetches the issuer's keys anew, for an id token whose key is not among those in memory. `false` if they were
    /// asked for less than a minute ago: then nothing is sent, and the token's key is unknown.
    ///
    /// # Errors
    ///
    /// As [`load_keys`](Self::load_keys).
    pub async fn reload_keys(&self) -> Result<bool, TokenError> {
        let mut last = self.known().fetching_keys.lock().await;
        let recent = |age: Duration| age < KEYS_AT_MOST_EVERY;
        let asked = last.is_some_and(|at| recent(self.clock().boot().saturating_sub(at)));
        let fetched = self
            .cached()
            .jwks
            .is_some_and(|keys| self.clock().wall().duration_since(keys.fetched_at).is_ok_and(recent));
        if asked || fetched {
            return Ok(false);
        }
        self.fetch_keys(&mut last).await?;
        Ok(true)
    }

    async fn fetch_keys(&self, last: &mut Option<Duration>) -> Result<(), TokenError> {
        let metadata = self.load_metadata().await?;
        let url = self.endpoint("fetching keys", "keys", metadata.jwks_uri.as_deref())?;
        *last = Some(self.clock().boot());
        let call = self.get("fetching keys", url);
        let reply = self.call_repeatedly(&call, METADATA_LIMIT).await?;
        let keys = KeySet::from_json(&reply.body).ok_or_else(|| self.unreadable(&call, &reply))?;
        self.learn_keys(Cached::new(keys, self.clock().wall()));
        Ok(())
    }
}

fn replace_older<T>(slot: &mut Option<Cached<T>>, fetched: Cached<T>) {
    if slot.as_ref().is_none_or(|held| held.fetched_at <= fetched.fetched_at) {
        *slot = Some(fetched);
    }
}
