//! What a tenant's administrator can switch: lifetimes, rotation, revocation. All of it can change while the mock runs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::MockError;

/// The switches of the tenant. The default is what a new Auth0 tenant with rotation does.
///
/// Changed with `MockAuth0::configure`, or by `POST /_mock/configure` with any subset of these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Lifetime of an access token in seconds. Default 86 400.
    pub access_token_secs: u64,
    /// Lifetime of an id token in seconds. Default 36 000.
    pub id_token_secs: u64,
    /// Lifetime of a refresh token and all that rotate out of it, in seconds from the sign-in. Default 30 days, `None`
    /// for no limit.
    pub refresh_absolute_secs: Option<u64>,
    /// How long a refresh token may lie unused, in seconds. Default 15 days, `None` for no limit.
    pub refresh_idle_secs: Option<u64>,
    /// Whether a refresh answers with a new refresh token. Default on.
    pub rotation: bool,
    /// For how many milliseconds the previous refresh token may be used again. Default 0: any reuse is detected.
    pub overlap_ms: u64,
    /// What `/oauth/revoke` kills. Default the family.
    pub revocation: Revocation,
    /// Whether a revocation also makes the API refuse the access tokens of what was revoked. Default off, as with
    /// self-contained tokens.
    pub revoke_access_tokens: bool,
    /// Whether access tokens are random strings in place of JWTs. Default off.
    pub opaque_access_tokens: bool,
    /// Lifetime of a device code in seconds. Default 900.
    pub device_code_secs: u64,
    /// The polling interval told to devices, in seconds; a poll that comes sooner gets `slow_down`. Default 5.
    pub device_interval_secs: u64,
    /// Lifetime of an authorization code in seconds. Default 60.
    pub authorization_code_secs: u64,
    /// How many refresh tokens a user has at most for one client; the oldest goes first. Default 200.
    pub max_refresh_tokens: usize,
    /// The audience of a request that names none.
    pub default_audience: Option<String>,
    /// The connection that the plain `password` grant asks. Default `Username-Password-Authentication`.
    pub default_connection: String,
    /// A scope that the protected API wants; a token without it gets 403 `insufficient_scope`.
    pub api_required_scope: Option<String>,
    /// In place of the API's usual challenge to a refused token: this `WWW-Authenticate`; an empty text sends none.
    pub api_challenge: Option<String>,
    /// Whether a user flagged for MFA needs it on a refresh too. Default off.
    pub mfa_on_refresh: bool,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            access_token_secs: DAY,
            id_token_secs: 36_000,
            refresh_absolute_secs: Some(30 * DAY),
            refresh_idle_secs: Some(15 * DAY),
            rotation: true,
            overlap_ms: 0,
            revocation: Revocation::Family,
            revoke_access_tokens: false,
            opaque_access_tokens: false,
            device_code_secs: 900,
            device_interval_secs: 5,
            authorization_code_secs: 60,
            max_refresh_tokens: 200,
            default_audience: None,
            default_connection: "Username-Password-Authentication".to_owned(),
            api_required_scope: None,
            api_challenge: None,
            mfa_on_refresh: false,
        }
    }
}

impl Settings {
    /// These settings with the members of `changes` laid over them.
    pub(crate) fn merged(&self, changes: &Value) -> Result<Self, MockError> {
        let Value::Object(changes) = changes else {
            return Err(MockError::Settings("a JSON object is needed".to_owned()));
        };
        let mut all = serde_json::to_value(self).map_err(|e| MockError::Settings(e.to_string()))?;
        for (name, value) in changes {
            all[name] = value.clone();
        }
        serde_json::from_value(all).map_err(|e| MockError::Settings(e.to_string()))
    }
}

/// What a revocation kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Revocation {
    /// The one refresh token that was sent.
    Token,
    /// Every refresh token that rotated out of the same sign-in.
    Family,
    /// Every refresh token that the user has for this client.
    Grant,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_laid_over_and_unknown_names_refused() {
        let settings = Settings::default();
        let merged = settings.merged(&json!({"rotation": false, "revocation": "grant"})).unwrap();
        assert!(!merged.rotation);
        assert_eq!(merged.revocation, Revocation::Grant);
        assert_eq!(merged.access_token_secs, settings.access_token_secs);
        assert!(settings.merged(&json!({"rotatoin": false})).is_err());
        assert!(settings.merged(&json!({"overlap_ms": "soon"})).is_err());
        assert!(settings.merged(&json!([])).is_err());
    }
}
