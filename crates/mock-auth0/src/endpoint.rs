//! Where requests arrive.

use serde::{Deserialize, Serialize};

/// A place where requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// `/.well-known/jwks.json`.
    Jwks,
    /// `/oauth/token`.
    Token,
    /// `/oauth/device/code`.
    DeviceCode,
    /// `/activate` and the pages behind it.
    Activate,
    /// `/authorize` and the pages behind it.
    Authorize,
    /// `/userinfo`.
    Userinfo,
    /// `/oauth/revoke`.
    Revoke,
    /// `/api/…`, the protected API.
    Api,
    /// Anything else.
    Other,
}

impl Endpoint {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/.well-known/openid-configuration" => Self::Discovery,
            "/.well-known/jwks.json" => Self::Jwks,
            "/oauth/token" => Self::Token,
            "/oauth/device/code" => Self::DeviceCode,
            "/userinfo" => Self::Userinfo,
            "/oauth/revoke" => Self::Revoke,
            _ if path == "/activate" || path.starts_with("/activate/") => Self::Activate,
            _ if path == "/authorize" || path.starts_with("/authorize/") => Self::Authorize,
            _ if path == "/api" || path.starts_with("/api/") => Self::Api,
            _ => Self::Other,
        }
    }

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Jwks => "jwks",
            Self::Token => "token",
            Self::DeviceCode => "device_code",
            Self::Activate => "activate",
            Self::Authorize => "authorize",
            Self::Userinfo => "userinfo",
            Self::Revoke => "revoke",
            Self::Api => "api",
            Self::Other => "other",
        }
    }
}
