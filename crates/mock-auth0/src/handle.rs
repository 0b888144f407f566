//! The handle on a running mock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::builder::MockAuth0Builder;
use crate::control;
use crate::directory::{Api, Client, User};
use crate::error::MockError;
use crate::fault_book::ActiveFault;
use crate::faults::{Fault, FaultRule};
use crate::log::{Counters, RequestRecord};
use crate::seed::{Seed, Tokens};
use crate::server::Server;
use crate::settings::{Revocation, Settings};
use crate::shared::Shared;

/// A running tenant. It has a thread and a runtime of its own, and stops when dropped.
///
/// ```
/// use mock_auth0::MockAuth0;
///
/// let mock = MockAuth0::start_blocking()?;
/// println!("an issuer is at {}", mock.issuer());
/// assert_eq!(mock.requests().len(), 0);
/// # Ok::<(), mock_auth0::MockError>(())
/// ```
#[must_use = "the tenant stops when its handle is dropped"]
pub struct MockAuth0 {
    shared: Arc<Shared>,
    domain: String,
    issuer: String,
    ca_pem: Option<String>,
    _server: Server,
}

impl MockAuth0 {
    /// Starts a tenant with a demo user, demo clients and a demo API on a free port.
    ///
    /// # Errors
    ///
    /// [`MockError`] where port, thread or keys cannot be had.
    pub async fn start() -> Result<Self, MockError> {
        Self::builder().start().await
    }

    /// The same from code that is not async.
    ///
    /// # Errors
    ///
    /// As [`MockAuth0::start`].
    pub fn start_blocking() -> Result<Self, MockError> {
        Self::builder().start_blocking()
    }

    /// Sets up a tenant of one's own.
    pub fn builder() -> MockAuth0Builder {
        MockAuth0Builder::default()
    }

    pub(crate) fn new(shared: Arc<Shared>, server: Server, domain: String, ca_pem: Option<String>) -> Self {
        let issuer = shared.tenant().issuer.clone();
        Self { shared, domain, issuer, ca_pem, _server: server }
    }

    /// Host and port, as in `127.0.0.1:49152`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The issuer as it is spelled in `iss`, by default with a slash at the end.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `path`, which begins with a slash, at this mock.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer.trim_end_matches('/'))
    }

    /// The first client's id.
    pub fn client_id(&self) -> String {
        self.shared.tenant().clients.first().map(|client| client.id.clone()).unwrap_or_default()
    }

    /// The first API's audience.
    pub fn audience(&self) -> String {
        self.shared.tenant().apis.first().map(|api| api.audience.clone()).unwrap_or_default()
    }

    /// The CA's certificate in PEM, where the mock serves TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Adds a user.
    pub fn add_user(&self, user: User) {
        self.shared.tenant().users.push(user);
    }

    /// Adds a client.
    pub fn add_client(&self, client: Client) {
        self.shared.tenant().clients.push(client);
    }

    /// Adds an API.
    pub fn add_api(&self, api: Api) {
        self.shared.tenant().apis.push(api);
    }

    /// Deletes a user, named by `sub` or e-mail address. Their refresh tokens stay and name a user who is gone.
    ///
    /// # Errors
    ///
    /// [`MockError::Unknown`] if there is no such user.
    pub fn delete_user(&self, user: &str) -> Result<(), MockError> {
        control::delete_user(&self.shared, user)
    }

    /// Makes a user need MFA, or not; on refreshes too if `mfa_on_refresh` is set.
    ///
    /// # Errors
    ///
    /// [`MockError::Unknown`] if there is no such user.
    pub fn require_mfa(&self, user: &str, required: bool) -> Result<(), MockError> {
        control::require_mfa(&self.shared, user, required)
    }

    /// The switches as they are.
    pub fn settings(&self) -> Settings {
        self.shared.tenant().settings.clone()
    }

    /// Changes switches.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.tenant().settings);
    }

    /// Makes a session without a flow.
    ///
    /// # Errors
    ///
    /// [`MockError::Unknown`] if user, client or audience are not known.
    pub fn seed(&self, seed: &Seed) -> Result<Tokens, MockError> {
        control::seed(&self.shared, seed)
    }

    /// Makes the default session without a flow.
    ///
    /// # Errors
    ///
    /// [`MockError::Unknown`] in a mock without users or clients.
    pub fn seed_session(&self) -> Result<Tokens, MockError> {
        self.seed(&Seed::new())
    }

    /// Revokes a refresh token at the server, as an administrator does: by the setting, or by `kind`. Says whether it
    /// was known.
    pub fn revoke(&self, refresh_token: &str, kind: Option<Revocation>) -> bool {
        control::revoke(&self.shared, refresh_token, kind)
    }

    /// Revokes all refresh tokens of a user. Gives the number of sign-ins that ended.
    ///
    /// # Errors
    ///
    /// [`MockError::Unknown`] if there is no such user.
    pub fn revoke_user(&self, user: &str) -> Result<usize, MockError> {
        control::revoke_user(&self.shared, user)
    }

    /// Whether a refresh with this token would be granted now. Asking is not presenting.
    pub fn is_alive(&self, refresh_token: &str) -> bool {
        control::is_alive(&self.shared, refresh_token)
    }

    /// The API refuses this access token from now on. Says whether it was known.
    pub fn reject_access_token(&self, access_token: &str) -> bool {
        self.shared.tenant().access.reject(access_token)
    }

    /// The API refuses every access token issued so far. Gives their number.
    pub fn reject_access_tokens(&self) -> usize {
        self.shared.tenant().access.reject_where(|_| true)
    }

    /// The user codes of devices that wait for a decision.
    pub fn waiting_devices(&self) -> Vec<String> {
        control::waiting_devices(&self.shared)
    }

    /// A user, named by `sub` or e-mail address, confirms a device.
    ///
    /// # Errors
    ///
    /// [`MockError::Unknown`] if there is no such user, or no device that waits under this code.
    pub fn approve_device(&self, user_code: &str, user: &str) -> Result<(), MockError> {
        control::approve(&self.shared, user_code, user)
    }

    /// Somebody denies a device.
    ///
    /// # Errors
    ///
    /// [`MockError::Unknown`] if no device waits under this code.
    pub fn deny_device(&self, user_code: &str) -> Result<(), MockError> {
        control::deny(&self.shared, user_code)
    }

    /// Adds a fault. Gives its number.
    pub fn add_fault(&self, rule: FaultRule) -> u64 {
        self.shared.faults.add(rule)
    }

    /// Adds a fault for the next refresh.
    pub fn next_refresh(&self, fault: Fault) -> u64 {
        self.add_fault(FaultRule::refresh(fault))
    }

    /// The rules in force.
    pub fn faults(&self) -> Vec<ActiveFault> {
        self.shared.faults.active()
    }

    /// Takes all faults away. Requests that are held stay held until [`MockAuth0::release`].
    pub fn clear_faults(&self) {
        self.shared.faults.clear(None);
    }

    /// Takes one fault away.
    pub fn clear_fault(&self, id: u64) {
        self.shared.faults.clear(Some(id));
    }

    /// How many requests are held back now.
    pub fn held(&self) -> usize {
        self.shared.faults.held()
    }

    /// Lets all held requests go on. Gives their number.
    pub fn release(&self) -> usize {
        self.shared.faults.release(usize::MAX)
    }

    /// Lets the oldest `count` held requests go on. Gives their number.
    pub fn release_some(&self, count: usize) -> usize {
        self.shared.faults.release(count)
    }

    /// The counts since the start or the last reset.
    pub fn counters(&self) -> Counters {
        self.shared.log.counters()
    }

    /// Every request since the start or the last reset.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.log.requests()
    }

    /// Forgets counts and requests.
    pub fn reset_counters(&self) {
        self.shared.log.reset();
    }

    /// Moves the mock's clock ahead: what it issued ages, what it issues now is dated from there.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// Sets how far the mock's clock is from the system's, in milliseconds.
    pub fn set_clock_offset_ms(&self, offset: i64) {
        self.shared.clock.set_offset_ms(offset);
    }

    /// The mock's time in seconds since 1970.
    pub fn now(&self) -> i64 {
        self.shared.clock.now_ms().div_euclid(1000)
    }

    /// Signs with a new key from now on, whose `kid` it gives. The old keys stay published only if `keep_old`.
    ///
    /// # Errors
    ///
    /// [`MockError::Key`] if no key can be made.
    pub fn rotate_keys(&self, keep_old: bool) -> Result<String, MockError> {
        self.shared.tenant().keys.rotate(keep_old)
    }

    /// The published key set.
    pub fn jwks(&self) -> Value {
        self.shared.tenant().keys.jwks()
    }

    /// Stops listening and drops all connections, as an issuer that is down. Requests in work go on.
    pub fn go_down(&self) {
        self.shared.up.send_replace(false);
    }

    /// Listens again, on the same port.
    pub fn come_up(&self) {
        self.shared.up.send_replace(true);
    }
}

impl fmt::Debug for MockAuth0 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockAuth0").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
