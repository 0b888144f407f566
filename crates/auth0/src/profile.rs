//! Who signed in.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Claims that belong to the id token as a token, not to the person (RFC 7519; OpenID Connect Core, sections 2 and
/// 3.3.2.11).
const ENVELOPE: &[&str] =
    &["iss", "aud", "exp", "iat", "nbf", "jti", "nonce", "azp", "at_hash", "c_hash", "s_hash", "sid"];

/// The claims about a person, from an id token or from userinfo (OpenID Connect Core, section 5.1).
///
/// Standard claims have accessors, which give `None` where the claim is absent or of another type. Every claim is
/// kept as it came, see [`claims`](Self::claims). `Debug` shows no claim: names and addresses are personal.
#[derive(Clone, PartialEq)]
pub struct Profile {
    sub: String,
    claims: Map<String, Value>,
}

impl Profile {
    /// Reads a JSON object. `None` if it is none, or has no `sub` (a non-empty string).
    pub fn from_json(json: &[u8]) -> Option<Self> {
        // serde's own text would quote what it could not read: only that it failed leaves this function.
        Self::from_map(serde_json::from_slice(json).ok()?)
    }

    /// From the claims of an id token: all but those about the token itself.
    pub(crate) fn from_id_token(claims: &Map<String, Value>) -> Option<Self> {
        let mut claims = claims.clone();
        claims.retain(|name, _| !ENVELOPE.contains(&name.as_str()));
        Self::from_map(claims)
    }

    fn from_map(mut claims: Map<String, Value>) -> Option<Self> {
        match claims.remove("sub") {
            Some(Value::String(sub)) if !sub.is_empty() => Some(Self { sub, claims }),
            _ => None,
        }
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    fn flag(&self, claim: &str) -> Option<bool> {
        // Some providers send booleans as text.
        match self.claims.get(claim)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The person's identifier at the issuer. Never reused, never empty.
    pub fn sub(&self) -> &str {
        &self.sub
    }

    /// Full name.
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// Given name or names.
    pub fn given_name(&self) -> Option<&str> {
        self.text("given_name")
    }

    /// Surname or surnames.
    pub fn family_name(&self) -> Option<&str> {
        self.text("family_name")
    }

    /// Middle name or names.
    pub fn middle_name(&self) -> Option<&str> {
        self.text("middle_name")
    }

    /// Casual name.
    pub fn nickname(&self) -> Option<&str> {
        self.text("nickname")
    }

    /// The name the person wishes to be known by. Not unique.
    pub fn preferred_username(&self) -> Option<&str> {
        self.text("preferred_username")
    }

    /// URL of the profile page.
    pub fn profile_page(&self) -> Option<&str> {
        self.text("profile")
    }

    /// URL of the picture.
    pub fn picture(&self) -> Option<&str> {
        self.text("picture")
    }

    /// URL of the web page.
    pub fn website(&self) -> Option<&str> {
        self.text("website")
    }

    /// E-mail address.
    pub fn email(&self) -> Option<&str> {
        self.text("email")
    }

    /// Whether the issuer has verified the e-mail address.
    pub fn email_verified(&self) -> Option<bool> {
        self.flag("email_verified")
    }

    /// Gender, in the issuer's words.
    pub fn gender(&self) -> Option<&str> {
        self.text("gender")
    }

    /// Birthday, `YYYY-MM-DD` or `YYYY`.
    pub fn birthdate(&self) -> Option<&str> {
        self.text("birthdate")
    }

    /// Time zone, such as `Europe/Paris`.
    pub fn zoneinfo(&self) -> Option<&str> {
        self.text("zoneinfo")
    }

    /// Language, such as `en-US`.
    pub fn locale(&self) -> Option<&str> {
        self.text("locale")
    }

    /// Telephone number.
    pub fn phone_number(&self) -> Option<&str> {
        self.text("phone_number")
    }

    /// Whether the issuer has verified the telephone number.
    pub fn phone_number_verified(&self) -> Option<bool> {
        self.flag("phone_number_verified")
    }

    /// Postal address: an object of `formatted`, `street_address`, `locality`, `region`, `postal_code`, `country`.
    pub fn address(&self) -> Option<&Map<String, Value>> {
        self.claims.get("address")?.as_object()
    }

    /// When the profile last changed. OpenID sends seconds, Auth0 sends RFC 3339 text: both are read.
    pub fn updated_at(&self) -> Option<SystemTime> {
        match self.claims.get("updated_at")? {
            Value::String(text) => {
                let at = text.parse::<jiff::Timestamp>().ok()?;
                let seconds = u64::try_from(at.as_second()).ok()?;
                let nanoseconds = u32::try_from(at.subsec_nanosecond()).ok()?;
                UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
            }
            Value::Number(number) => {
                let seconds = number.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
                UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
            }
            _ => None,
        }
    }

    /// Any claim by name, custom ones too. Not `sub`.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// Every claim but `sub`, as it came.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Profile([personal])")
    }
}

impl Serialize for Profile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.claims.len() + 1))?;
        map.serialize_entry("sub", &self.sub)?;
        for (name, value) in &self.claims {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let claims = Map::<String, Value>::deserialize(deserializer)?;
        Self::from_map(claims).ok_or_else(|| serde::de::Error::custom("a profile without `sub`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // CM-187
    #[test]
    fn no_profile_without_an_object_that_has_a_sub() {
        for json in [
            "",
            "null",
            "[]",
            "\"sub\"",
            "{}",
            r#"{"sub":""}"#,
            r#"{"sub":7}"#,
            r#"{"name":"A"}"#,
            "{\"sub\":\"a\"",
        ] {
            assert!(Profile::from_json(json.as_bytes()).is_none(), "{json}");
        }
        let only = Profile::from_json(br#"{"sub":"auth0|1"}"#).unwrap();
        assert_eq!(only.sub(), "auth0|1");
        assert!(only.claims().is_empty() && only.name().is_none() && only.updated_at().is_none());
    }

    // CM-187
    #[test]
    fn standard_claims_are_typed_and_all_others_kept() {
        let json = br#"{"sub":"auth0|1","name":"Ada L","given_name":"Ada","family_name":"L","nickname":"ada",
            "email":"ada@example.com","email_verified":true,"phone_number":"+1","phone_number_verified":"false",
            "picture":"https://p.example","locale":"en-GB","zoneinfo":"Europe/London","updated_at":"2026-01-02T03:04:05.678Z",
            "address":{"country":"UK"},"https://app.example/roles":["a","b"],"act":{"sub":"agent","act":{"sub":"inner"}}}"#;
        let profile = Profile::from_json(json).unwrap();
        assert_eq!(profile.name(), Some("Ada L"));
        assert_eq!(profile.given_name(), Some("Ada"));
        assert_eq!(profile.family_name(), Some("L"));
        assert_eq!(profile.nickname(), Some("ada"));
        assert_eq!(profile.email(), Some("ada@example.com"));
        assert_eq!(profile.email_verified(), Some(true));
        assert_eq!(profile.phone_number(), Some("+1"));
        assert_eq!(profile.phone_number_verified(), Some(false));
        assert_eq!(profile.locale(), Some("en-GB"));
        assert_eq!(profile.zoneinfo(), Some("Europe/London"));
        assert_eq!(profile.address().and_then(|a| a.get("country")).and_then(Value::as_str), Some("UK"));
        assert_eq!(profile.updated_at(), Some(UNIX_EPOCH + Duration::from_millis(1_767_323_045_678)));
        assert_eq!(profile.claim("https://app.example/roles"), Some(&serde_json::json!(["a", "b"])));
        assert_eq!(profile.claim("act").unwrap()["act"]["sub"], "inner");
    }

    // CM-187
    #[test]
    fn updated_at_is_read_in_seconds_too_and_nonsense_is_none() {
        let at = |value: &str| {
            Profile::from_json(format!(r#"{{"sub":"a","updated_at":{value}}}"#).as_bytes())
                .unwrap()
                .updated_at()
        };
        assert_eq!(at("1767323045"), Some(UNIX_EPOCH + Duration::from_secs(1_767_323_045)));
        for nonsense in ["-1", "1e300", "\"yesterday\"", "{}", "null"] {
            assert_eq!(at(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_claim_of_the_wrong_type_is_none_and_still_kept() {
        let profile = Profile::from_json(br#"{"sub":"a","name":7,"email_verified":"maybe"}"#).unwrap();
        assert_eq!((profile.name(), profile.email_verified()), (None, None));
        assert_eq!(profile.claim("name"), Some(&Value::from(7)));
    }

    #[test]
    fn stored_and_read_back_it_is_the_same_and_debug_shows_nothing() {
        let profile =
            Profile::from_json(br#"{"sub":"auth0|canary","name":"Canary","n":[1,{"x":null}]}"#).unwrap();
        let json = serde_json::to_vec(&profile).unwrap();
        assert_eq!(Profile::from_json(&json), Some(profile.clone()));
        assert_eq!(serde_json::from_slice::<Profile>(&json).unwrap(), profile);
        let packed = rmp_serde::to_vec_named(&profile).unwrap();
        assert_eq!(rmp_serde::from_slice::<Profile>(&packed).unwrap(), profile);
        assert!(!format!("{profile:?}").to_lowercase().contains("canary"));
    }
}
