//! Sessions for code that is not async (feature `blocking`).
//!
//! The same sessions as [`crate::Session`], over the same store, and the same renewals: they run on the renewal thread,
//! which every process that renews has. The caller needs no runtime. Inside of one these calls are allowed too, and hold
//! up the thread that makes them: on a runtime of one thread nothing else goes on meanwhile. A warm
//! [`Session::access_token`] holds up nothing.
//!
//! A callback that runs on the renewal thread, such as the one that shows a device's code, must not call these:
//! whatever would wait there is [`SessionError::System`].

use std::sync::Arc;
use std::time::Duration;

use tokenkeep_auth0::{Grant, Profile, TokenClient, TokenError};
use tokenkeep_secret::SecretString;
use tokenkeep_store::SecretStore;

use crate::thread::{block_on, wait};
use crate::{
    AccessToken, Event, KeepFresh, SessionBuilder, SessionError, Settings, SignIn, SignOut, SignedIn,
    SignedOut, Status, TokenRequest, TokenSet,
};

/// One session, kept fresh, for code that is not async. Clones share everything. See [`crate::Session`] for what each
/// call does.
///
/// ```
/// use std::sync::Arc;
///
/// use tokenkeep_session::SessionState;
/// use tokenkeep_session::blocking::Session;
/// use tokenkeep_store::MemoryStore;
///
/// let session = Session::open(Arc::new(MemoryStore::new()), "default")?;
/// assert_eq!(session.status()?.state, SessionState::Absent);
/// assert!(session.access_token().is_err_and(|error| error.login_required().is_some()));
/// # Ok::<(), tokenkeep_session::SessionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    inner: crate::Session,
}

impl Session {
    /// As [`crate::Session::open`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::open`].
    pub fn open(store: Arc<dyn SecretStore>, name: &str) -> Result<Self, SessionError> {
        Self::build(crate::Session::builder(store, name))
    }

    /// Opens it with the waits and the clock of `builder`.
    ///
    /// # Errors
    ///
    /// As [`SessionBuilder::build`].
    pub fn build(builder: SessionBuilder) -> Result<Self, SessionError> {
        Ok(block_on(builder.build())??.into())
    }

    /// As [`crate::Session::list`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::list`].
    pub fn list(store: &Arc<dyn SecretStore>) -> Result<Vec<String>, SessionError> {
        let store = Arc::clone(store);
        block_on(async move { crate::Session::list(&store).await })?
    }

    /// The same session for async code.
    pub fn as_async(&self) -> &crate::Session {
        &self.inner
    }

    /// The session's name.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// As [`crate::Session::sign_in`]. Waits for as long as the grant does: for a person, with the device flow.
    ///
    /// # Errors
    ///
    /// As [`crate::Session::sign_in`].
    pub fn sign_in<G: Grant + 'static>(
        &self,
        client: &TokenClient,
        request: SignIn,
        grant: G,
    ) -> Result<SignedIn, SessionError> {
        let (session, client) = (self.inner.clone(), client.clone());
        block_on(async move { session.sign_in(&client, request, grant).await })?
    }

    /// As [`crate::Session::adopt`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::adopt`].
    pub fn adopt(
        &self,
        client: &TokenClient,
        request: SignIn,
        refresh_token: SecretString,
    ) -> Result<SignedIn, SessionError> {
        wait(self.inner.adopt(client, request, refresh_token))?
    }

    /// As [`crate::Session::access_token`]: from memory if it is good, without a lock or another thread.
    ///
    /// # Errors
    ///
    /// As [`crate::Session::access_token`].
    pub fn access_token(&self) -> Result<AccessToken, SessionError> {
        wait(self.inner.access_token())?
    }

    /// As [`crate::Session::token`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::token`].
    pub fn token(&self, request: TokenRequest) -> Result<AccessToken, SessionError> {
        wait(self.inner.token(request))?
    }

    /// As [`crate::Session::token_set`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::token_set`].
    pub fn token_set(&self, request: TokenRequest) -> Result<TokenSet, SessionError> {
        let session = self.inner.clone();
        block_on(async move { session.token_set(request).await })?
    }

    /// As [`crate::Session::renew`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::renew`].
    pub fn renew(&self, parameters: &[(String, String)]) -> Result<AccessToken, SessionError> {
        let (session, parameters) = (self.inner.clone(), parameters.to_vec());
        block_on(async move { session.renew(&parameters).await })?
    }

    /// As [`crate::Session::rejected`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::rejected`].
    pub fn rejected(&self, token: &AccessToken) -> Result<Option<AccessToken>, SessionError> {
        wait(self.inner.rejected(token))?
    }

    /// As [`crate::Session::profile`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::profile`].
    pub fn profile(&self) -> Result<Option<Profile>, SessionError> {
        let session = self.inner.clone();
        block_on(async move { session.profile().await })?
    }

    /// As [`crate::Session::status`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::status`].
    pub fn status(&self) -> Result<Status, SessionError> {
        let session = self.inner.clone();
        block_on(async move { session.status().await })?
    }

    /// As [`crate::Session::has_valid`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::has_valid`].
    pub fn has_valid(&self, ttl: Duration) -> Result<bool, SessionError> {
        let session = self.inner.clone();
        block_on(async move { session.has_valid(ttl).await })?
    }

    /// As [`crate::Session::can_renew`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::can_renew`].
    pub fn can_renew(&self) -> Result<bool, SessionError> {
        let session = self.inner.clone();
        block_on(async move { session.can_renew().await })?
    }

    /// As [`crate::Session::peek`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::peek`].
    pub fn peek(&self) -> Result<Option<TokenSet>, SessionError> {
        let session = self.inner.clone();
        block_on(async move { session.peek().await })?
    }

    /// As [`crate::Session::settings`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::settings`].
    pub fn settings(&self) -> Result<Option<Settings>, SessionError> {
        let session = self.inner.clone();
        block_on(async move { session.settings().await })?
    }

    /// As [`crate::Session::sign_out`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::sign_out`].
    pub fn sign_out(&self, how: SignOut) -> Result<SignedOut, SessionError> {
        wait(self.inner.sign_out(how))?
    }

    /// As [`crate::Session::forget`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::forget`].
    pub fn forget(&self) -> Result<(), SessionError> {
        let session = self.inner.clone();
        block_on(async move { session.forget().await })?
    }

    /// As [`crate::Session::keep_fresh`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::keep_fresh`].
    pub fn keep_fresh(&self) -> Result<KeepFresh, SessionError> {
        self.inner.keep_fresh()
    }

    /// As [`crate::Session::events`].
    pub fn events(&self) -> Events {
        Events { inner: self.inner.events() }
    }

    /// As [`crate::Session::close`].
    ///
    /// # Errors
    ///
    /// As [`crate::Session::close`].
    pub fn close(&self, limit: Duration) -> Result<(), SessionError> {
        wait(self.inner.close(limit))?
    }
}

impl From<crate::Session> for Session {
    fn from(inner: crate::Session) -> Self {
        Self { inner }
    }
}

/// A subscription to a session's events. Each step waits for the next one; it ends with the session's last handle.
#[derive(Debug)]
#[must_use = "events that nobody takes are dropped"]
pub struct Events {
    inner: crate::Events,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        wait(self.inner.next()).ok().flatten()
    }
}

/// As [`TokenClient::discover`].
///
/// # Errors
///
/// [`SessionError::SignIn`] with what [`TokenClient::discover`] says.
pub fn discover(issuer: &str, client_id: &str) -> Result<TokenClient, SessionError> {
    let (issuer, client_id) = (issuer.to_owned(), client_id.to_owned());
    let failed = |error: TokenError| SessionError::SignIn(Arc::new(error));
    block_on(async move { TokenClient::discover(&issuer, &client_id).await })?.map_err(failed)
}

/// Runs any future of this or the layers below on the renewal thread, and waits for it: opening a store, for example.
///
/// # Errors
///
/// [`SessionError::System`] where there can be no such thread, or when called on it.
pub fn run<F>(future: F) -> Result<F::Output, SessionError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    block_on(future)
}
