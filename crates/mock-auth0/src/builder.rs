//! What the mock is before it runs.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::clock::MockClock;
use crate::directory::{Api, Client, User};
use crate::error::MockError;
use crate::handle::MockAuth0;
use crate::keys::{Keyring, Signing};
use crate::server::Server;
use crate::settings::{Revocation, Settings};
use crate::shared::Shared;
use crate::tenant::Tenant;
use crate::tls::Tls;

/// The public client of a mock that was told of no other.
pub const DEMO_CLIENT: &str = "mock-client";
/// The confidential client of a mock that was told of no other, and its secret.
pub const DEMO_SERVICE: (&str, &str) = ("mock-service", "mock-service-secret");
/// E-mail address and password of the user of a mock that was told of no other.
pub const DEMO_USER: (&str, &str) = ("ada@example.com", "correct horse battery staple");
/// The `sub` of that user.
pub const DEMO_SUB: &str = "auth0|ada";
/// The audience of the API of a mock that was told of no other. Its scopes are `read:things` and `write:things`.
pub const DEMO_AUDIENCE: &str = "https://api.example.com";

/// Sets a mock up; made by [`MockAuth0::builder`].
///
/// ```
/// use std::time::Duration;
///
/// use mock_auth0::{Client, MockAuth0, Revocation, User};
///
/// let mock = MockAuth0::builder()
///     .user(User::new("someone@example.com", "a password"))
///     .client(Client::public("my-client"))
///     .access_token_lifetime(Duration::from_secs(60))
///     .overlap(Duration::ZERO)
///     .revocation(Revocation::Family)
///     .start_blocking()?;
/// assert_eq!(mock.client_id(), "my-client");
/// # Ok::<(), mock_auth0::MockError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MockAuth0Builder {
    host: Option<String>,
    port: u16,
    plain_issuer: bool,
    tls: bool,
    signing: Signing,
    settings: Settings,
    users: Vec<User>,
    clients: Vec<Client>,
    apis: Vec<Api>,
}

impl MockAuth0Builder {
    /// Listens on this port; 0, the default, takes a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The host name in the issuer. Default `127.0.0.1`; `localhost` works too. The mock listens on 127.0.0.1 alone.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Spells the issuer without Auth0's slash at the end.
    pub fn issuer_without_slash(mut self) -> Self {
        self.plain_issuer = true;
        self
    }

    /// Serves TLS under a CA made at start; see [`MockAuth0::ca_pem`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Signs with this algorithm. Default RS256.
    pub fn signing(mut self, signing: Signing) -> Self {
        self.signing = signing;
        self
    }

    /// Adds a user. The first one added takes the place of the demo user.
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// Adds a client. The first one added takes the place of the demo clients.
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// Adds an API. The first one added takes the place of the demo API.
    pub fn api(mut self, api: Api) -> Self {
        self.apis.push(api);
        self
    }

    /// Replaces all switches.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the lifetime of access tokens. Default 24 h.
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.access_token_secs = lifetime.as_secs();
        self
    }

    /// Sets the lifetime of id tokens. Default 10 h.
    pub fn id_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.id_token_secs = lifetime.as_secs();
        self
    }

    /// Sets how long a refresh token lives from the sign-in, and how long it may lie unused. Default 30 and 15 days.
    pub fn refresh_token_lifetime(mut self, absolute: Option<Duration>, idle: Option<Duration>) -> Self {
        self.settings.refresh_absolute_secs = absolute.map(|lifetime| lifetime.as_secs());
        self.settings.refresh_idle_secs = idle.map(|lifetime| lifetime.as_secs());
        self
    }

    /// Switches rotation. Default on.
    pub fn rotation(mut self, on: bool) -> Self {
        self.settings.rotation = on;
        self
    }

    /// Lets the previous refresh token be used again for so long. Default not at all.
    pub fn overlap(mut self, overlap: Duration) -> Self {
        self.settings.overlap_ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets what a revocation kills. Default the family.
    pub fn revocation(mut self, kind: Revocation) -> Self {
        self.settings.revocation = kind;
        self
    }

    /// Issues random strings as access tokens. Default JWTs.
    pub fn opaque_access_tokens(mut self) -> Self {
        self.settings.opaque_access_tokens = true;
        self
    }

    /// Sets lifetime and polling interval of device codes. Default 900 s and 5 s.
    pub fn device_codes(mut self, lifetime: Duration, interval: Duration) -> Self {
        self.settings.device_code_secs = lifetime.as_secs();
        self.settings.device_interval_secs = interval.as_secs();
        self
    }

    /// Changes any of the [`Settings`] by their names in JSON.
    ///
    /// # Errors
    ///
    /// [`MockError::Settings`] for a name or a value that there is not.
    pub fn configure(mut self, changes: &Value) -> Result<Self, MockError> {
        self.settings = self.settings.merged(changes)?;
        Ok(self)
    }

    /// Starts the mock. Does not need a runtime to go on running.
    ///
    /// # Errors
    ///
    /// [`MockError`] where port, thread, keys or certificates cannot be had.
    #[expect(clippy::unused_async, reason = "reads as other servers do, and may wait one day")]
    pub async fn start(self) -> Result<MockAuth0, MockError> {
        self.start_blocking()
    }

    /// Starts the mock from code that is not async.
    ///
    /// # Errors
    ///
    /// As [`MockAuth0Builder::start`].
    pub fn start_blocking(self) -> Result<MockAuth0, MockError> {
        getrandom::fill(&mut [0; 1]).map_err(|e| MockError::Random(e.to_string()))?;
        let asked = format!("127.0.0.1:{}", self.port);
        let listen_error = |source| MockError::Listen { address: asked.clone(), source };
        let listener = TcpListener::bind(&asked).map_err(listen_error)?;
        let port = listener.local_addr().map_err(listen_error)?.port();
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        let scheme = if self.tls { "https" } else { "http" };
        let slash = if self.plain_issuer { "" } else { "/" };
        let domain = format!("{host}:{port}");
        let issuer = format!("{scheme}://{domain}{slash}");
        let tls = if self.tls { Some(Tls::new(host)?) } else { None };

        let mut tenant = Tenant::new(issuer, self.settings, Keyring::new(self.signing)?);
        tenant.users = self.users;
        if tenant.users.is_empty() {
            let (email, password) = DEMO_USER;
            tenant.users.push(User::new(email, password).with_sub(DEMO_SUB).name("Ada Lovelace"));
        }
        tenant.clients = self.clients;
        if tenant.clients.is_empty() {
            let (id, secret) = DEMO_SERVICE;
            tenant.clients.push(Client::public(DEMO_CLIENT));
            tenant.clients.push(Client::confidential(id, secret));
        }
        tenant.apis = self.apis;
        if tenant.apis.is_empty() {
            tenant.apis.push(Api::new(DEMO_AUDIENCE).scopes(["read:things", "write:things"]));
        }

        let shared = Arc::new(Shared::new(MockClock::new(), tenant));
        let (acceptor, ca_pem) = match tls {
            Some(Tls { acceptor, ca_pem }) => (Some(acceptor), Some(ca_pem)),
            None => (None, None),
        };
        let server = Server::start(Arc::clone(&shared), listener, acceptor)?;
        Ok(MockAuth0::new(shared, server, domain, ca_pem))
    }
}
