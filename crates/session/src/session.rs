//! What callers hold.

use std::sync::Arc;
use std::time::Duration;

use tokenkeep_auth0::{Grant, Profile, TokenClient};
use tokenkeep_clock::{Clock, SystemClock};
use tokenkeep_secret::SecretString;
use tokenkeep_store::{Key, SecretStore};

use crate::core::{Core, KEY_PREFIX, Waits};
use crate::deputy::Deputy;
use crate::error::LoginReason;
use crate::events::Events;
use crate::keep_fresh::KeepFresh;
use crate::record::same_scope;
use crate::renewal::{Order, is_renewable};
use crate::settings::{Settings, SignIn};
use crate::sign_in::SignedIn;
use crate::sign_out::{SignOut, SignedOut};
use crate::snapshot::AccessToken;
use crate::status::{Status, TokenSet, token_set};
use crate::{SessionError, thread};

/// After a rejection, a token that is this young and was itself got because of a rejection is not replaced again: that the
/// API rejects it too is the API's answer.
const YOUNG: Duration = Duration::from_secs(30);

/// One session, kept fresh. Clones share everything; any number of tasks, processes and machines may hold one.
///
/// ```
/// use std::sync::Arc;
///
/// use mock_auth0::{DEMO_AUDIENCE, DEMO_CLIENT, MockAuth0};
/// use tokenkeep_auth0::TokenClient;
/// use tokenkeep_session::{SecretString, Session, SignIn, SignOut};
/// use tokenkeep_store::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mock = MockAuth0::start().await?;
/// let session = Session::open(Arc::new(MemoryStore::new()), "default").await?;
/// assert!(session.access_token().await.is_err_and(|error| error.login_required().is_some()));
///
/// let issuer = TokenClient::discover(mock.issuer(), DEMO_CLIENT).await?;
/// let wanted = SignIn::new("openid offline_access").audience(DEMO_AUDIENCE);
/// let refresh_token = SecretString::from(mock.seed_session()?.refresh_token());
/// session.adopt(&issuer, wanted, refresh_token).await?;
///
/// let token = session.access_token().await?;
/// // Send token.expose() to the API. It answers 401? Then there may be another token:
/// let other = session.rejected(&token).await?.ok_or("the 401 is the API's answer")?;
/// assert_ne!(token.expose(), other.expose());
///
/// session.sign_out(SignOut::Revoke).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    core: Arc<Core>,
}

/// How to open a session otherwise than [`Session::open`] does.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use tokenkeep_session::Session;
/// use tokenkeep_store::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let session = Session::builder(Arc::new(MemoryStore::new()), "default")
///     .patience(Duration::from_millis(200))
///     .lease_wait(Duration::from_secs(10))
///     .build()
///     .await?;
/// assert_eq!(session.name(), "default");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct SessionBuilder {
    store: Arc<dyn SecretStore>,
    name: String,
    clock: Arc<dyn Clock>,
    waits: Waits,
    deputy: Option<Arc<dyn Deputy>>,
}

/// What a token is wanted for.
///
/// ```
/// use std::time::Duration;
///
/// use tokenkeep_session::{AccessToken, Session, SessionError, TokenRequest};
///
/// /// A token for another API, alive for as long as the upload may take.
/// async fn for_upload(session: &Session) -> Result<AccessToken, SessionError> {
///     let request = TokenRequest::new()
///         .audience("https://files.example.com")
///         .min_ttl(Duration::from_secs(600));
///     session.token(request).await
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TokenRequest {
    order: Order,
}

impl TokenRequest {
    /// A token as [`Session::access_token`] gives it.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long it should be alive (60 s if this is not called); at most half the lifetime it was born with is insisted on.
    pub fn min_ttl(mut self, min_ttl: Duration) -> Self {
        self.order.min_ttl = min_ttl;
        self
    }

    /// For another API than the sign-in's. The issuer must allow its refresh token to serve several.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.order.audience = Some(audience.into());
        self
    }

    /// With another scope than the sign-in's. Asked for once, then kept beside what was granted.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.order.scope = Some(scope.into());
        self
    }
}

impl SessionBuilder {
    /// Where the time comes from; the system if this is not called.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How long a caller with a valid token waits for anything (1 s if this is not called).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.waits.patience = patience;
        self
    }

    /// How long a caller without a valid token waits for another process's renewal (60 s if this is not called, which is
    /// more than one exchange takes).
    pub fn lease_wait(mut self, wait: Duration) -> Self {
        self.waits.lease = wait;
        self
    }

    /// Hands each renewal to another process, which `deputy` starts, so that it outlives this one. Only for a store whose
    /// leases can be handed over.
    pub fn deputy(mut self, deputy: Arc<dyn Deputy>) -> Self {
        self.deputy = Some(deputy);
        self
    }

    /// Opens the session. No network; it may be absent yet.
    ///
    /// # Errors
    ///
    /// [`SessionError::InvalidName`], and [`SessionError::Store`] if its entry cannot be read. A damaged entry is told by
    /// whatever reads it, but not here.
    pub async fn build(self) -> Result<Session, SessionError> {
        if !is_name(&self.name) {
            return Err(SessionError::InvalidName);
        }
        let mut core = Core::new(self.store, self.name, self.clock, self.waits)?;
        core.deputy = self.deputy;
        let core = Arc::new(core);
        // A damaged entry must not keep the sign-in away that would mend it; all else reads it again and says so.
        let known = core.reload_to_replace().await?;
        if let Some(record) = &known.record {
            core.bind(record)?;
        }
        core.heed_note(&known).await?;
        Ok(Session { core })
    }
}

impl Session {
    /// Opens the session of this name. Its settings come from the entry; no network. It may be absent yet.
    ///
    /// # Errors
    ///
    /// As [`SessionBuilder::build`].
    pub async fn open(store: Arc<dyn SecretStore>, name: &str) -> Result<Self, SessionError> {
        Self::builder(store, name).build().await
    }

    /// Opens it with other waits or another clock.
    pub fn builder(store: Arc<dyn SecretStore>, name: &str) -> SessionBuilder {
        SessionBuilder {
            store,
            name: name.to_owned(),
            clock: SystemClock::shared(),
            waits: Waits { patience: Duration::from_secs(1), lease: Duration::from_secs(60) },
            deputy: None,
        }
    }

    pub(crate) fn into_core(self) -> Arc<Core> {
        self.core
    }

    /// The names of all sessions in `store`, sorted.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`].
    pub async fn list(store: &Arc<dyn SecretStore>) -> Result<Vec<String>, SessionError> {
        let keys = store.keys().await?;
        Ok(keys.iter().filter_map(Self::name_of).map(str::to_owned).collect())
    }

    /// The key under which a store keeps the session of this name.
    ///
    /// # Errors
    ///
    /// [`SessionError::InvalidName`].
    pub fn key_of(name: &str) -> Result<Key, SessionError> {
        if !is_name(name) {
            return Err(SessionError::InvalidName);
        }
        Ok(Key::new(format!("{KEY_PREFIX}{name}"))?)
    }

    /// The name of the session that a store keeps under `key`, if it is one's.
    pub fn name_of(key: &Key) -> Option<&str> {
        key.as_str().strip_prefix(KEY_PREFIX)
    }

    /// The session's name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Signs in with `grant` and replaces whatever is stored under the name. What was stored stays if the sign-in fails.
    ///
    /// # Errors
    ///
    /// [`SessionError::SignIn`] and [`SessionError::SignInRefused`]; [`SessionError::Store`], before anything is asked of
    /// the issuer if the store cannot be written.
    pub async fn sign_in<G: Grant>(
        &self,
        client: &TokenClient,
        request: SignIn,
        grant: G,
    ) -> Result<SignedIn, SessionError> {
        self.core.sign_in(client, &request, &grant).await
    }

    /// Takes over a refresh token from elsewhere and rotates it at once, so that no copy of it is worth anything.
    ///
    /// # Errors
    ///
    /// As [`Session::access_token`]; if the token cannot be used, what was stored before is put back.
    pub async fn adopt(
        &self,
        client: &TokenClient,
        request: SignIn,
        refresh_token: SecretString,
    ) -> Result<SignedIn, SessionError> {
        let (core, client) = (Arc::clone(&self.core), client.clone());
        thread::run(async move { core.adopt(&client, &request, refresh_token).await }).await?
    }

    /// A good access token: from memory if there is one, else from the store, else renewed.
    ///
    /// # Errors
    ///
    /// [`SessionError::LoginRequired`] when a person is needed; [`SessionError::RenewalFailed`] with the time of the next
    /// attempt; [`SessionError::Busy`], [`SessionError::NotSaved`], [`SessionError::Replaced`], [`SessionError::Store`].
    /// None of them while a token is still valid, but for a session that has ended or was replaced.
    pub async fn access_token(&self) -> Result<AccessToken, SessionError> {
        let snapshot = self.core.snapshot.load();
        let now = self.core.clock.boot();
        if now < snapshot.good_until {
            self.core.check_soon(now);
            return Ok(AccessToken::warm(snapshot));
        }
        drop(snapshot);
        self.ask(Order::default()).await
    }

    /// A good access token for this request.
    ///
    /// # Errors
    ///
    /// As [`Session::access_token`].
    pub async fn token(&self, request: TokenRequest) -> Result<AccessToken, SessionError> {
        self.ask(request.order).await
    }

    /// A good access token with the id token and everything else that is known of it.
    ///
    /// # Errors
    ///
    /// As [`Session::access_token`].
    pub async fn token_set(&self, request: TokenRequest) -> Result<TokenSet, SessionError> {
        let token = self.ask(request.order.clone()).await?;
        let known = self.core.reload_own().await?;
        let remark = token.remark().cloned();
        known
            .record
            .as_ref()
            .and_then(|record| token_set(record, &request.order, &*self.core.clock, remark))
            .ok_or(SessionError::LoginRequired(LoginReason::NeverSignedIn))
    }

    /// A new token set, even if the stored one is good; `parameters` go with the request. Renewals that are asked for at
    /// the same time, by whatever process, join unless they have parameters. Skips the backoff after a failure, but not
    /// what the issuer asked for.
    ///
    /// # Errors
    ///
    /// As [`Session::access_token`].
    pub async fn renew(&self, parameters: &[(String, String)]) -> Result<AccessToken, SessionError> {
        let known = self.core.reload().await?;
        let after = known.record.as_ref().map_or(0, |record| record.attempt);
        let mut order = Order { after: Some(after), explicit: true, ..Order::default() };
        for (name, value) in parameters {
            match name.as_str() {
                // These two say what the token is for, so it must not be kept as the sign-in's own.
                "audience" => order.audience = Some(value.clone()),
                "scope" => order.scope = Some(value.clone()),
                _ => order.parameters.push((name.clone(), value.clone())),
            }
        }
        self.ask(order).await
    }

    /// An API has answered 401 to `token`: gives another one to retry with, or `None` if the 401 is the API's answer, since
    /// a token that was got because of a rejection moments ago is rejected too.
    ///
    /// # Errors
    ///
    /// As [`Session::access_token`].
    pub async fn rejected(&self, token: &AccessToken) -> Result<Option<AccessToken>, SessionError> {
        let snapshot = token.snapshot();
        let age = self.core.clock.boot().saturating_sub(snapshot.received);
        if snapshot.after_rejection && age < YOUNG {
            return Ok(None);
        }
        let fingerprint = snapshot.fingerprint();
        if self.core.is_fresh_after_rejection(&fingerprint, YOUNG) {
            return Ok(None);
        }
        self.core.reject(fingerprint.clone());
        let mut order =
            Order { rejected: Some(fingerprint.clone()), min_ttl: Duration::ZERO, ..Order::default() };
        if let Some((audience, scope)) = self.core.own_wishes() {
            // What the sign-in asked for stays unsaid, as it does in the request.
            order.audience = snapshot.audience.clone().filter(|wanted| audience.as_ref() != Some(wanted));
            order.scope = Some(snapshot.scope.clone()).filter(|wanted| !same_scope(wanted, &scope));
        }
        let other = self.ask(order).await?;
        // An issuer that insists on the very token has had its say.
        Ok(Some(other).filter(|other| other.snapshot().fingerprint() != fingerprint))
    }

    async fn ask(&self, order: Order) -> Result<AccessToken, SessionError> {
        thread::run(Arc::clone(&self.core).serve(order)).await?
    }

    /// The stored profile of whoever signed in. No network.
    ///
    /// # Errors
    ///
    /// [`SessionError::LoginRequired`] if nobody has; [`SessionError::Store`].
    pub async fn profile(&self) -> Result<Option<Profile>, SessionError> {
        let known = self.core.reload().await?;
        let record = known.record.as_ref().ok_or(SessionError::LoginRequired(LoginReason::NeverSignedIn))?;
        self.core.bind(record)?;
        match record.end() {
            Some(end) => Err(SessionError::LoginRequired(LoginReason::Ended(Box::new(end)))),
            None => Ok(record.profile.clone()),
        }
    }

    /// What is known of the session. No network.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`].
    pub async fn status(&self) -> Result<Status, SessionError> {
        self.core.status().await
    }

    /// Whether there is an access token that is alive for `ttl`. No network.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`] and [`SessionError::Replaced`].
    pub async fn has_valid(&self, ttl: Duration) -> Result<bool, SessionError> {
        let known = self.core.reload_own().await?;
        let note = self.core.note().await?;
        Ok(known.record.as_ref().is_some_and(|record| {
            let note = note.as_ref().filter(|note| note.is_about(record));
            self.core
                .usable(&Order::default(), record, note)
                .is_some_and(|snapshot| snapshot.lives_for(ttl, &*self.core.clock))
        }))
    }

    /// Whether a new token set can be got without a person. No network.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`].
    pub async fn can_renew(&self) -> Result<bool, SessionError> {
        Ok(self.core.reload().await?.record.as_ref().is_some_and(is_renewable))
    }

    /// The stored token set, even if it has expired; `None` if there is none. Never touches the network.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`] and [`SessionError::Replaced`].
    pub async fn peek(&self) -> Result<Option<TokenSet>, SessionError> {
        self.core.peek().await
    }

    /// The settings of the last sign-in, which stay when the session ends.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`].
    pub async fn settings(&self) -> Result<Option<Settings>, SessionError> {
        self.core.settings().await
    }

    /// Signs out here, at once and whatever is under way, then at the issuer. Signing out twice is no error.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`] and [`SessionError::Replaced`]. An issuer that cannot be told is no error: see [`SignedOut::revocation`].
    pub async fn sign_out(&self, how: SignOut) -> Result<SignedOut, SessionError> {
        let core = Arc::clone(&self.core);
        thread::run(async move { core.sign_out(how).await }).await?
    }

    /// Removes the session with its settings. Sign out first: what was still to be revoked is lost.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`].
    pub async fn forget(&self) -> Result<(), SessionError> {
        self.core.forget().await
    }

    /// Renews in the background before the access token expires, so that no request waits for it: with a fifth to
    /// three tenths of its life left, drawn anew for each token. Of many processes that do so, one renews and the others
    /// find its token. After a suspend it renews within a second; after a failure, at the time that the failure names.
    /// A session that has ended, or is absent, is watched until somebody signs in.
    ///
    /// [`Session::events`] also tells what other processes do within a second while this is held.
    ///
    /// # Errors
    ///
    /// [`SessionError::System`] where no thread can be started.
    pub fn keep_fresh(&self) -> Result<KeepFresh, SessionError> {
        KeepFresh::start(Arc::clone(&self.core))
    }

    /// A subscription to what happens from now on.
    pub fn events(&self) -> Events {
        Events::new(self.core.events.subscribe())
    }

    /// As [`Session::close`], for a process that has handed its renewals to others ([`SessionBuilder::deputy`]) and is
    /// ending: what a deputy has is left to it, and no renewal begins here any more. One that this process does itself is
    /// waited for, and so is a token set that cannot be stored yet.
    ///
    /// # Errors
    ///
    /// As [`Session::close`].
    pub async fn leave(&self, limit: Duration) -> Result<(), SessionError> {
        let must_stay = {
            let mut shared = self.core.shared();
            shared.leaving = true;
            shared.renewing_here > 0 || shared.unsaved.is_some()
        };
        if must_stay { self.close(limit).await } else { Ok(()) }
    }

    /// Waits until nothing is being renewed or saved any more, at most for `limit`. Call it before a process ends.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotSaved`] if a token set is still only in memory then.
    pub async fn close(&self, limit: Duration) -> Result<(), SessionError> {
        let core = Arc::clone(&self.core);
        thread::run(async move {
            let idle = async {
                let is_busy = || {
                    let shared = core.shared();
                    shared.flight.is_some() || shared.renewing_here > 0
                };
                while is_busy() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let _ = tokio::time::timeout(limit, idle).await;
            match core.still_unsaved().await {
                Some(source) => Err(SessionError::NotSaved { source }),
                None => Ok(()),
            }
        })
        .await?
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["default", "a", "A.b_c-9", &"x".repeat(64)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn handles_are_shared_between_threads() {
        fn shared<T: Clone + Send + Sync>() {}
        fn sent<T: Send>() {}
        shared::<Session>();
        sent::<AccessToken>();
    }
}
