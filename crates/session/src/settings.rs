//! What a sign-in asked for, kept so that renewals and the next sign-in need no flags.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokenkeep_auth0::{ClientAuthentication, Flow, TokenClient};
use tokenkeep_clock::Clock;
use tokenkeep_secret::SecretString;

use crate::SessionError;
use crate::codec::optional_secret_text;

/// What to ask for at a sign-in.
///
/// ```
/// use std::time::Duration;
///
/// use tokenkeep_session::SignIn;
///
/// let wanted = SignIn::new("openid profile offline_access")
///     .audience("https://api.example.com")
///     .parameter("organization", "org_a1b2c3")
///     .overlap(Duration::from_secs(10));
/// # drop(wanted);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SignIn {
    pub(crate) scope: String,
    pub(crate) audience: Option<String>,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) overlap: Option<Duration>,
    pub(crate) username: Option<String>,
    pub(crate) realm: Option<String>,
}

impl SignIn {
    /// Asks for `scope`, space-separated. With `offline_access` in it the session can be renewed.
    pub fn new(scope: impl Into<String>) -> Self {
        Self {
            scope: scope.into(),
            audience: None,
            parameters: Vec::new(),
            ca_file: None,
            overlap: None,
            username: None,
            realm: None,
        }
    }

    /// The user name, kept so that the next sign-in needs to be told the password alone.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The realm (Auth0's connection) that the user name belongs to, kept likewise.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// The API the access token is for (Auth0's `audience`).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// One more parameter of the request. Parameters are stored with the session: no secrets here.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// A PEM file with further certificate authorities, read again by every process that renews.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// How long the issuer takes the previous refresh token again after a rotation (Auth0's rotation overlap period). With
    /// it, a silent issuer is asked a second time beside the first; without it never, as that would be reuse.
    pub fn overlap(mut self, overlap: Duration) -> Self {
        self.overlap = Some(overlap);
        self
    }
}

/// The client's settings of the last sign-in. They stay when the session ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The issuer, in its own spelling.
    pub issuer: String,
    /// The client id.
    pub client_id: String,
    /// How the client proves itself.
    pub authentication: ClientAuthentication,
    /// The API the access token is for.
    pub audience: Option<String>,
    /// The scope that was asked for.
    pub scope: String,
    /// How the sign-in was done.
    pub flow: Flow,
    /// Further parameters of the sign-in.
    pub parameters: Vec<(String, String)>,
    /// A PEM file with further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// How long the issuer takes the previous refresh token again.
    pub overlap: Option<Duration>,
    /// The user name of a sign-in by password.
    pub username: Option<String>,
    /// The realm that the user name belongs to.
    pub realm: Option<String>,
}

impl Settings {
    pub(crate) fn of(client: &TokenClient, request: &SignIn, flow: Flow) -> Self {
        Self {
            issuer: client.issuer().to_owned(),
            client_id: client.client_id().to_owned(),
            authentication: client.authentication().clone(),
            audience: request.audience.clone(),
            scope: request.scope.clone(),
            flow,
            parameters: request.parameters.clone(),
            ca_file: request.ca_file.clone(),
            overlap: request.overlap,
            username: request.username.clone(),
            realm: request.realm.clone(),
        }
    }

    /// A token client with these settings. No network.
    ///
    /// # Errors
    ///
    /// [`SessionError::Settings`] if the CA file cannot be used.
    pub fn client(&self, clock: Arc<dyn Clock>) -> Result<TokenClient, SessionError> {
        let mut builder = TokenClient::builder(&self.issuer, &self.client_id)
            .client_authentication(self.authentication.clone())
            .clock(clock);
        if let Some(path) = &self.ca_file {
            builder = builder.ca_file(path);
        }
        builder.build().map_err(|error| SessionError::Settings(Arc::new(error)))
    }
}

/// The stored form of [`Settings`].
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredSettings {
    pub issuer: String,
    pub client_id: String,
    #[serde(default)]
    pub client_auth: String,
    #[serde(default, with = "optional_secret_text", skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    pub scope: String,
    pub flow: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
}

impl StoredSettings {
    pub(crate) fn from_settings(settings: &Settings) -> Self {
        let (client_auth, client_secret) = match &settings.authentication {
            ClientAuthentication::Basic(secret) => ("client_secret_basic", Some(secret.clone())),
            ClientAuthentication::Post(secret) => ("client_secret_post", Some(secret.clone())),
            _ => ("none", None),
        };
        Self {
            issuer: settings.issuer.clone(),
            client_id: settings.client_id.clone(),
            client_auth: client_auth.to_owned(),
            client_secret,
            audience: settings.audience.clone(),
            scope: settings.scope.clone(),
            flow: settings.flow.as_str().to_owned(),
            parameters: settings.parameters.clone(),
            ca_file: settings.ca_file.clone(),
            overlap_ms: settings.overlap.map(crate::moment::whole_ms),
            username: settings.username.clone(),
            realm: settings.realm.clone(),
        }
    }

    pub(crate) fn to_settings(&self) -> Settings {
        let authentication = match (self.client_auth.as_str(), &self.client_secret) {
            ("client_secret_basic", Some(secret)) => ClientAuthentication::Basic(secret.clone()),
            ("client_secret_post", Some(secret)) => ClientAuthentication::Post(secret.clone()),
            _ => ClientAuthentication::None,
        };
        Settings {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            authentication,
            audience: self.audience.clone(),
            scope: self.scope.clone(),
            flow: self.flow.parse().unwrap_or(Flow::RefreshToken),
            parameters: self.parameters.clone(),
            ca_file: self.ca_file.clone(),
            overlap: self.overlap_ms.map(Duration::from_millis),
            username: self.username.clone(),
            realm: self.realm.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokenkeep_clock::SystemClock;

    use super::*;
    use crate::codec;

    fn stored(request: &SignIn) -> StoredSettings {
        let client = TokenClient::builder("https://issuer.example/", "id")
            .clock(SystemClock::shared())
            .build()
            .unwrap();
        StoredSettings::from_settings(&Settings::of(&client, request, Flow::Password))
    }

    #[test]
    fn user_name_and_realm_are_kept_for_the_next_sign_in() {
        let stored = stored(&SignIn::new("openid").username("ada").realm("staff"));
        let settings =
            codec::decode::<StoredSettings>(&codec::encode(&stored).unwrap()).unwrap().to_settings();
        assert_eq!((settings.username.as_deref(), settings.realm.as_deref()), (Some("ada"), Some("staff")));
    }

    #[test]
    fn settings_without_a_user_name_are_stored_and_read_as_before_there_was_one() {
        #[derive(Serialize)]
        struct Before {
            issuer: &'static str,
            client_id: &'static str,
            client_auth: &'static str,
            scope: &'static str,
            flow: &'static str,
        }
        let before = codec::encode(&Before {
            issuer: "https://issuer.example/",
            client_id: "id",
            client_auth: "none",
            scope: "openid",
            flow: "password",
        })
        .unwrap();
        assert_eq!(*codec::encode(&stored(&SignIn::new("openid"))).unwrap(), *before);
        let settings = codec::decode::<StoredSettings>(&before).unwrap().to_settings();
        assert_eq!((settings.username, settings.realm), (None, None));
    }
}
