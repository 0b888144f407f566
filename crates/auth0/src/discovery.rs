//! The issuer's metadata (OpenID Connect Discovery 1.0; RFC 8414): where its endpoints are.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::error::{TokenError, TokenErrorKind};
use crate::jwks::KeySet;

/// The longest endpoint URL accepted, in bytes.
const LONGEST_URL: usize = 2048;

/// Where an issuer's endpoints are. Public data: no member is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IssuerMetadata {
    /// The issuer in its own spelling, which its id tokens carry as `iss`.
    pub issuer: String,
    /// Where tokens are asked for.
    pub token_endpoint: String,
    /// Where the keys are that sign id tokens.
    #[serde(default)]
    pub jwks_uri: Option<String>,
    /// Where a browser is sent to sign in.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// Where a device asks for a code (RFC 8628).
    #[serde(default)]
    pub device_authorization_endpoint: Option<String>,
    /// Where claims about the person are asked for.
    #[serde(default)]
    pub userinfo_endpoint: Option<String>,
    /// Where tokens are revoked (RFC 7009).
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    /// Where a browser is sent to sign out.
    #[serde(default)]
    pub end_session_endpoint: Option<String>,
    /// Where authorization requests are pushed (RFC 9126).
    #[serde(default)]
    pub pushed_authorization_request_endpoint: Option<String>,
}

impl IssuerMetadata {
    /// Reads a discovery document that was asked for at `asked`. Members of a wrong type count as absent.
    pub(crate) fn parse(asked: &str, body: &[u8]) -> Result<Self, TokenError> {
        let document: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)
            .map_err(|_| nonsense(asked, "its discovery document is not a JSON object"))?;
        let text = |name: &str| document.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        let metadata = Self {
            issuer: text("issuer")
                .ok_or_else(|| nonsense(asked, "its discovery document names no issuer"))?,
            token_endpoint: text("token_endpoint")
                .ok_or_else(|| nonsense(asked, "its discovery document has no token_endpoint"))?,
            jwks_uri: text("jwks_uri"),
            authorization_endpoint: text("authorization_endpoint"),
            device_authorization_endpoint: text("device_authorization_endpoint"),
            userinfo_endpoint: text("userinfo_endpoint"),
            revocation_endpoint: text("revocation_endpoint"),
            end_session_endpoint: text("end_session_endpoint"),
            pushed_authorization_request_endpoint: text("pushed_authorization_request_endpoint"),
        };
        metadata.check(asked)?;
        Ok(metadata)
    }

    /// Whether this is the metadata of `asked` and every endpoint that is used may be talked to.
    pub(crate) fn check(&self, asked: &str) -> Result<(), TokenError> {
        if !same_issuer(&self.issuer, asked) {
            let named = crate::reply::presentable(&self.issuer, 200, &[]);
            return Err(nonsense(
                asked,
                &format!(
                    "its discovery document names another issuer, {named}: use that one, if you trust it"
                ),
            ));
        }
        let endpoints = [
            Some(&self.token_endpoint),
            self.jwks_uri.as_ref(),
            self.device_authorization_endpoint.as_ref(),
            self.userinfo_endpoint.as_ref(),
            self.revocation_endpoint.as_ref(),
        ];
        for endpoint in endpoints.into_iter().flatten() {
            endpoint_url(endpoint).map_err(|why| nonsense(asked, &format!("one of its endpoints {why}")))?;
        }
        Ok(())
    }
}

fn nonsense(asked: &str, what: &str) -> TokenError {
    TokenError::new(TokenErrorKind::Protocol, "discovery", format!("{asked}: {what}"))
}

/// What a client knows of its issuer, to be stored beside a session so that the next process needs no discovery.
/// Public data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CachedIssuer {
    /// The endpoints.
    #[serde(default)]
    pub metadata: Option<Cached<IssuerMetadata>>,
    /// The keys.
    #[serde(default)]
    pub jwks: Option<Cached<KeySet>>,
}

/// Something that was fetched, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cached<T> {
    /// What.
    pub value: T,
    /// When, by wall time, to the second.
    #[serde(with = "unix_seconds")]
    pub fetched_at: SystemTime,
}

impl<T> Cached<T> {
    /// `value`, fetched at `fetched_at`.
    pub fn new(value: T, fetched_at: SystemTime) -> Self {
        Self { value, fetched_at }
    }
}

/// Whether two spellings name the same issuer: equal after dropping one trailing slash.
pub fn same_issuer(one: &str, other: &str) -> bool {
    without_slash(one) == without_slash(other)
}

/// `issuer` without one trailing slash.
pub(crate) fn without_slash(issuer: &str) -> &str {
    issuer.strip_suffix('/').unwrap_or(issuer)
}

/// Checks an issuer as the caller gave it.
pub(crate) fn issuer_url(issuer: &str) -> Result<Url, TokenError> {
    let refused = |why: &str| {
        // A password in the URL is the one part that must not be repeated.
        let shown = issuer.rsplit('@').next().unwrap_or_default();
        let shown = crate::reply::presentable(shown, 200, &[]);
        TokenError::configuration(format!("the issuer {shown} {why}"))
    };
    let url = endpoint_url(issuer).map_err(|why| refused(&why))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("has a query or fragment: an issuer is scheme, host and path"));
    }
    Ok(url)
}

/// Where the discovery document of `issuer` is.
pub(crate) fn discovery_url(issuer: &str) -> Result<Url, TokenError> {
    issuer_url(&format!("{}/.well-known/openid-configuration", without_slash(issuer)))
}

/// A URL that secrets may be sent to: https, or http to this machine. The error completes "X …".
pub(crate) fn endpoint_url(text: &str) -> Result<Url, String> {
    if text.len() > LONGEST_URL {
        return Err("is too long for a URL".to_owned());
    }
    let url = Url::parse(text).map_err(|_| "is not a URL".to_owned())?;
    let host = url.host().ok_or("is not a URL with a host")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in its URL".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&host) => Ok(url),
        "http" => {
            Err("is not https: plain http is for this machine only (localhost, 127.0.0.1, [::1])".to_owned())
        }
        _ => Err("is not https".to_owned()),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
    }
}

mod unix_seconds {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let seconds = u64::deserialize(deserializer)?;
        // A time that cannot be is as old as can be: it loses against anything fetched.
        Ok(UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const DOCUMENT: &str = r#"{"issuer":"https://tenant.example/","token_endpoint":"https://tenant.example/oauth/token",
        "jwks_uri":"https://tenant.example/.well-known/jwks.json","userinfo_endpoint":7,"extra":[1,2]}"#;

    #[test]
    fn a_document_is_read_and_keeps_the_issuers_own_spelling() {
        for asked in ["https://tenant.example", "https://tenant.example/"] {
            let metadata = IssuerMetadata::parse(asked, DOCUMENT.as_bytes()).unwrap();
            assert_eq!(metadata.issuer, "https://tenant.example/");
            assert_eq!(metadata.userinfo_endpoint, None);
        }
    }

    #[test]
    fn a_document_that_names_another_issuer_is_refused_by_name() {
        for asked in [
            "https://tenant.example//",
            "https://other.example",
            "https://tenant.example/path",
            "HTTPS://tenant.example",
        ] {
            let error = IssuerMetadata::parse(asked, DOCUMENT.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Protocol, "{asked}");
            assert!(error.to_string().contains("another issuer, https://tenant.example/"), "{error}");
        }
    }

    #[test]
    fn a_document_that_cannot_be_read_is_protocol_and_is_not_quoted() {
        for body in [
            "",
            "<html>canary</html>",
            "[]",
            "{\"issuer\":\"canary\"",
            "{}",
            r#"{"issuer":"https://tenant.example"}"#,
        ] {
            let error = IssuerMetadata::parse("https://tenant.example", body.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Protocol, "{body}");
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn an_endpoint_must_be_https_or_on_this_machine() {
        let body =
            DOCUMENT.replace("https://tenant.example/oauth/token", "http://tenant.example/oauth/token");
        let error = IssuerMetadata::parse("https://tenant.example", body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("not https"), "{error}");
    }

    #[test]
    fn only_https_and_loopback_issuers_are_taken() {
        for good in [
            "https://a.example",
            "https://a.example/realms/x/",
            "http://localhost:8080",
            "http://127.0.0.1:1",
            "http://127.9.9.9/",
            "http://[::1]:1/",
        ] {
            assert!(issuer_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "http://a.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "ftp://localhost",
            "file:///etc/passwd",
            "https://user:canary@a.example",
            "https://a.example/?q=1",
            "https://a.example/#f",
            "http://[::2]/",
        ] {
            let error = issuer_url(bad).unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Configuration, "{bad}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{bad}");
        }
    }

    #[test]
    fn what_is_cached_reads_back() {
        let metadata = IssuerMetadata::parse("https://tenant.example", DOCUMENT.as_bytes()).unwrap();
        let cached = CachedIssuer {
            metadata: Some(Cached::new(metadata, UNIX_EPOCH + Duration::from_secs(1_700_000_000))),
            jwks: None,
        };
        let json = serde_json::to_vec(&cached).unwrap();
        assert_eq!(serde_json::from_slice::<CachedIssuer>(&json).unwrap(), cached);
        let packed = rmp_serde::to_vec_named(&cached).unwrap();
        assert_eq!(rmp_serde::from_slice::<CachedIssuer>(&packed).unwrap(), cached);
    }
}
