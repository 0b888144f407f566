//! Sessions that exist without a flow, for tests that start in the middle.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a seeded session is to be. The default: the first user, the first client, `openid profile email
/// offline_access`, for the first API, just now.
///
/// ```
/// use std::time::Duration;
///
/// use mock_auth0::{DEMO_SUB, MockAuth0, Seed};
///
/// let mock = MockAuth0::start_blocking()?;
/// // The access token has expired already; the refresh token is good.
/// let old = mock.seed(&Seed::new().user(DEMO_SUB).issued_ago(Duration::from_secs(2 * 86_400)))?;
/// assert!(mock.is_alive(old.refresh_token()));
/// # Ok::<(), mock_auth0::MockError>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[must_use]
pub struct Seed {
    /// `sub` or e-mail address.
    pub user: Option<String>,
    /// Client.
    pub client_id: Option<String>,
    /// Audience; an empty text for none.
    pub audience: Option<String>,
    /// Scope, space-separated.
    pub scope: Option<String>,
    /// So many seconds ago: the tokens are that old already. Older than the access token's lifetime, and the session
    /// starts out expired.
    pub issued_ago_secs: u64,
}

impl Seed {
    /// The default session.
    pub fn new() -> Self {
        Self::default()
    }

    /// For this user: `sub` or e-mail address.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// For this client.
    pub fn client(mut self, client_id: &str) -> Self {
        self.client_id = Some(client_id.to_owned());
        self
    }

    /// For this audience; an empty text for none.
    pub fn audience(mut self, audience: &str) -> Self {
        self.audience = Some(audience.to_owned());
        self
    }

    /// With this scope.
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(scope.to_owned());
        self
    }

    /// Signed in so long ago.
    pub fn issued_ago(mut self, ago: Duration) -> Self {
        self.issued_ago_secs = ago.as_secs();
        self
    }
}

/// The tokens of a seeded session.
#[derive(Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tokens {
    /// Access token.
    pub access_token: String,
    /// Id token, if the scope has `openid`.
    pub id_token: Option<String>,
    /// Refresh token, if the scope has `offline_access` and the API allows it.
    pub refresh_token: Option<String>,
    /// `Bearer`.
    pub token_type: String,
    /// Lifetime in seconds at issue.
    pub expires_in: i64,
    /// Granted scope.
    pub scope: String,
    /// `sub` of the user.
    pub sub: String,
    /// When it was issued, in seconds since 1970.
    pub issued_at: i64,
}

impl Tokens {
    /// The refresh token, or an empty text.
    pub fn refresh_token(&self) -> &str {
        self.refresh_token.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("expires_in", &self.expires_in)
            .field("scope", &self.scope)
            .field("sub", &self.sub)
            .field("issued_at", &self.issued_at)
            .finish_non_exhaustive()
    }
}
