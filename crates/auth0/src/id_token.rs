//! Judging an id token (OpenID Connect Core, sections 3.1.3.7 and 12.2).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use tokenkeep_secret::SecretString;
use zeroize::Zeroizing;

use crate::discovery::same_issuer;
use crate::jwks::{KeySet, NoKey};
use crate::profile::Profile;

/// The longest id token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 256 * 1024;

/// A `session_expiry` beyond this is in milliseconds, which is a mistake of a rule: it counts as absent. The year 5138.
const LATEST_SECONDS: f64 = 1e11;

/// Times are believed up to this, the year 318857: beyond it a system may have no such time.
const FARTHEST_SECONDS: f64 = 1e13;

/// What the caller knows about the sign-in that an id token must belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdTokenExpectations {
    /// The `sub` it must have: that of the session, for a refreshed token.
    pub subject: Option<String>,
    /// The nonce of the authorization request.
    pub nonce: Option<String>,
    /// The `max_age` of the authorization request: the token must say when the person signed in, and not too long ago.
    pub max_age: Option<Duration>,
    /// The organization of the authorization request: an id (`org_…`) or a name.
    pub organization: Option<String>,
    /// It came from a refresh: the nonce may be missing, and `max_age`, which was about the sign-in, is not asked again.
    pub refreshed: bool,
}

impl IdTokenExpectations {
    /// For an id token that came from a refresh of the session of `subject`.
    pub fn refreshed(subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), refreshed: true, ..Self::default() }
    }
}

/// What came of judging an id token.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "made once a sign-in or renewal, and taken apart at once")]
pub enum IdTokenVerdict {
    /// Every check passed.
    Good(IdTokenClaims),
    /// A check failed: the token must not be used.
    Refused(IdTokenRefusal),
    /// Nothing is known against it, but its signature cannot be checked with the keys in memory: none are there, or
    /// none has the id that the token names. Load or reload the keys and judge again.
    KeysNeeded,
}

/// The check that an id token failed. The text holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IdTokenRefusal {
    /// It is not three parts of base64url, or they are not JSON objects, or a claim has the wrong type.
    #[error("the id token cannot be read")]
    Malformed,
    /// Its algorithm is not one of those allowed, RS256 and ES256. `none` and HS256 are never.
    #[error("the id token is not signed by RS256 or ES256")]
    Algorithm,
    /// No key of the issuer is for its algorithm, or it names none and there are several.
    #[error("the issuer's keys do not fit the algorithm of the id token")]
    Key,
    /// The signature is not the issuer's.
    #[error("the signature of the id token is not its issuer's")]
    Signature,
    /// `iss` is missing or another one.
    #[error("the id token is of another issuer")]
    Issuer,
    /// `sub` is missing or not the one expected.
    #[error("the id token is about another person")]
    Subject,
    /// `aud` is missing or does not name this client.
    #[error("the id token is meant for another client")]
    Audience,
    /// `azp` is missing beside several audiences, or not this client.
    #[error("the id token was issued to another client")]
    AuthorizedParty,
    /// `exp` is missing or passed.
    #[error("the id token has expired, or does not say when; check this machine's clock")]
    Expired,
    /// `iat` is missing.
    #[error("the id token does not say when it was issued")]
    IssuedAt,
    /// `nonce` is missing or not the one sent.
    #[error("the id token belongs to another sign-in")]
    Nonce,
    /// `auth_time` is missing or too long ago for `max_age`.
    #[error("the person signed in too long ago, or the id token does not say when")]
    AuthTime,
    /// `org_id` or `org_name` is missing or another one.
    #[error("the id token is for another organization")]
    Organization,
}

/// The claims of an id token that passed.
#[derive(Clone, Debug, PartialEq)]
pub struct IdTokenClaims {
    issuer: String,
    audience: Vec<String>,
    issued_at: SystemTime,
    expires_at: SystemTime,
    auth_time: Option<SystemTime>,
    nonce: Option<String>,
    organization: Option<String>,
    session_expiry: Option<SystemTime>,
    profile: Profile,
}

impl IdTokenClaims {
    /// Who the token is about: `sub`.
    pub fn subject(&self) -> &str {
        self.profile.sub()
    }

    /// Who issued it: `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whom it is meant for: `aud`.
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// When it was issued: `iat`.
    pub fn issued_at(&self) -> SystemTime {
        self.issued_at
    }

    /// When it expires: `exp`.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// When the person signed in: `auth_time`.
    pub fn auth_time(&self) -> Option<SystemTime> {
        self.auth_time
    }

    /// The nonce of the sign-in.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// The organization: `org_id`, else `org_name`.
    pub fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    /// When the session ends whatever is renewed: `session_expiry`. Absent, zero, negative and milliseconds are `None`.
    pub fn session_expiry(&self) -> Option<SystemTime> {
        self.session_expiry
    }

    /// The claims about the person.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The claims about the person, taken out.
    pub fn into_profile(self) -> Profile {
        self.profile
    }
}

/// What a token is judged by beside the caller's expectations.
pub(crate) struct Judge<'a> {
    pub(crate) issuer: &'a str,
    /// Whether `issuer` is the provider's own spelling, which `iss` must equal to the letter.
    pub(crate) issuer_is_exact: bool,
    pub(crate) client_id: &'a str,
    pub(crate) keys: Option<&'a KeySet>,
    pub(crate) leeway: Duration,
    pub(crate) now: SystemTime,
}

impl Judge<'_> {
    /// Judges `token`: first that it can be read, then its signature, and only then its claims.
    pub(crate) fn judge(&self, token: &SecretString, expect: &IdTokenExpectations) -> IdTokenVerdict {
        match self.check(token.expose(), expect) {
            Ok(Some(claims)) => IdTokenVerdict::Good(claims),
            Ok(None) => IdTokenVerdict::KeysNeeded,
            Err(refusal) => IdTokenVerdict::Refused(refusal),
        }
    }

    fn check(
        &self,
        token: &str,
        expect: &IdTokenExpectations,
    ) -> Result<Option<IdTokenClaims>, IdTokenRefusal> {
        let parts = Parts::split(token)?;
        let header = object(parts.header)?;
        let algorithm = allowed_algorithm(&header)?;
        // Read before the keys are asked, so that garbage never sends anyone for new keys.
        let claims = object(parts.payload)?;
        let kid = match header.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(IdTokenRefusal::Malformed),
        };
        let Some(keys) = self.keys else { return Ok(None) };
        let key = match keys.find(kid, algorithm) {
            Ok(key) => key,
            Err(NoKey::Unknown) => return Ok(None),
            Err(NoKey::Unfit) => return Err(IdTokenRefusal::Key),
        };
        if !is_signed(&parts, &key, algorithm) {
            return Err(IdTokenRefusal::Signature);
        }
        self.check_claims(&claims, expect).map(Some)
    }

    fn check_claims(
        &self,
        claims: &Map<String, Value>,
        expect: &IdTokenExpectations,
    ) -> Result<IdTokenClaims, IdTokenRefusal> {
        let issuer = text(claims, "iss").ok_or(IdTokenRefusal::Issuer)?;
        let same =
            if self.issuer_is_exact { issuer == self.issuer } else { same_issuer(issuer, self.issuer) };
        if !same {
            return Err(IdTokenRefusal::Issuer);
        }
        let profile = Profile::from_id_token(claims).ok_or(IdTokenRefusal::Subject)?;
        if expect.subject.as_deref().is_some_and(|subject| subject != profile.sub()) {
            return Err(IdTokenRefusal::Subject);
        }
        let audience = audience(claims).ok_or(IdTokenRefusal::Audience)?;
        if !audience.iter().any(|client| client == self.client_id) {
            return Err(IdTokenRefusal::Audience);
        }
        match claims.get("azp") {
            None | Some(Value::Null) if audience.len() > 1 => return Err(IdTokenRefusal::AuthorizedParty),
            None | Some(Value::Null) => {}
            Some(azp) if azp.as_str() == Some(self.client_id) => {}
            Some(_) => return Err(IdTokenRefusal::AuthorizedParty),
        }
        let expires_at = time(claims, "exp").ok_or(IdTokenRefusal::Expired)?;
        if is_past(expires_at, self.leeway, self.now) {
            return Err(IdTokenRefusal::Expired);
        }
        let issued_at = time(claims, "iat").ok_or(IdTokenRefusal::IssuedAt)?;
        let nonce = text(claims, "nonce");
        if let Some(sent) = &expect.nonce {
            let may_lack = expect.refreshed && !claims.contains_key("nonce");
            if nonce != Some(sent) && !may_lack {
                return Err(IdTokenRefusal::Nonce);
            }
        }
        let auth_time = time(claims, "auth_time");
        if let Some(max_age) = expect.max_age.filter(|_| !expect.refreshed) {
            let signed_in = auth_time.ok_or(IdTokenRefusal::AuthTime)?;
            if is_past(signed_in, max_age.saturating_add(self.leeway), self.now) {
                return Err(IdTokenRefusal::AuthTime);
            }
        }
        if let Some(wanted) = &expect.organization {
            check_organization(claims, wanted)?;
        }
        Ok(IdTokenClaims {
            issuer: issuer.to_owned(),
            audience,
            issued_at,
            expires_at,
            auth_time,
            nonce: nonce.map(str::to_owned),
            organization: text(claims, "org_id").or_else(|| text(claims, "org_name")).map(str::to_owned),
            session_expiry: session_expiry(claims),
            profile,
        })
    }
}

/// The three parts of a token, still encoded.
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, IdTokenRefusal> {
        if token.len() > LONGEST_TOKEN {
            return Err(IdTokenRefusal::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(IdTokenRefusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(IdTokenRefusal::Malformed)?;
        if payload.contains('.') {
            return Err(IdTokenRefusal::Malformed);
        }
        Ok(Self { header, payload, signature, signed })
    }
}

fn object(part: &str) -> Result<Map<String, Value>, IdTokenRefusal> {
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(part).map_err(|_| IdTokenRefusal::Malformed)?);
    serde_json::from_slice(&json).map_err(|_| IdTokenRefusal::Malformed)
}

/// The algorithm, if it is one of ours: the list is here, the token only picks from it. An extension that the token
/// calls critical is one we do not know (RFC 7515, section 4.1.11).
fn allowed_algorithm(header: &Map<String, Value>) -> Result<Algorithm, IdTokenRefusal> {
    if header.contains_key("crit") {
        return Err(IdTokenRefusal::Algorithm);
    }
    match header.get("alg").and_then(Value::as_str) {
        Some("RS256") => Ok(Algorithm::RS256),
        Some("ES256") => Ok(Algorithm::ES256),
        _ => Err(IdTokenRefusal::Algorithm),
    }
}

fn is_signed(parts: &Parts<'_>, key: &DecodingKey, algorithm: Algorithm) -> bool {
    let Ok(signature) = URL_SAFE_NO_PAD.decode(parts.signature) else { return false };
    // The provider by name: the crate's default panics if some other crate of the build enables a second one.
    let provider = &jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
    let Ok(verifier) = (provider.verifier_factory)(&algorithm, key) else { return false };
    verifier.verify(parts.signed.as_bytes(), &signature).is_ok()
}

fn text<'a>(claims: &'a Map<String, Value>, claim: &str) -> Option<&'a str> {
    claims.get(claim)?.as_str()
}

/// `aud`: one text, or several.
fn audience(claims: &Map<String, Value>) -> Option<Vec<String>> {
    match claims.get("aud")? {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(several) => several.iter().map(|client| client.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A time in seconds since 1970 (RFC 7519, NumericDate); fractions are dropped.
fn time(claims: &Map<String, Value>, claim: &str) -> Option<SystemTime> {
    from_seconds(claims.get(claim)?.as_f64()?)
}

fn from_seconds(seconds: f64) -> Option<SystemTime> {
    if !seconds.is_finite() {
        return None;
    }
    // Before 1970 is as past as 1970, and beyond the cap is as far as the cap; the cast saturates.
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds.min(FARTHEST_SECONDS) as u64))
}

fn session_expiry(claims: &Map<String, Value>) -> Option<SystemTime> {
    let seconds = claims.get("session_expiry")?.as_f64()?;
    if (1.0..LATEST_SECONDS).contains(&seconds) { from_seconds(seconds) } else { None }
}

/// Whether `now` is later than `at` and `by` together. A sum too late for any clock is not past.
fn is_past(at: SystemTime, by: Duration, now: SystemTime) -> bool {
    at.checked_add(by).is_some_and(|end| end < now)
}

/// An id (`org_…`) is compared to the letter with `org_id`; a name in lower case with `org_name`, which Auth0 keeps in
/// lower case.
fn check_organization(claims: &Map<String, Value>, wanted: &str) -> Result<(), IdTokenRefusal> {
    let same = if wanted.starts_with("org_") {
        text(claims, "org_id") == Some(wanted)
    } else {
        text(claims, "org_name") == Some(wanted.to_lowercase().as_str())
    };
    if same { Ok(()) } else { Err(IdTokenRefusal::Organization) }
}

#[cfg(test)]
#[path = "id_token/tests.rs"]
mod tests;
