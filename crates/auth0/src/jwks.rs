//! The issuer's public keys (RFC 7517).

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};

/// How many keys of a set are looked at. Issuers publish two or three.
const MOST_KEYS: usize = 64;

/// The keys that an issuer signs its id tokens with. Public data.
///
/// Keys of a kind that is not known here are skipped, not an error: issuers publish keys for other purposes too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeySet {
    /// The keys, in the issuer's order.
    pub keys: Vec<PublicKey>,
}

/// One key, as published. Whether it can verify anything is judged when it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublicKey {
    /// Key type: `RSA` or `EC`.
    pub kty: String,
    /// Key id, which a token's header names.
    #[serde(default)]
    pub kid: Option<String>,
    /// The algorithm it is for; any of its type where absent.
    #[serde(default)]
    pub alg: Option<String>,
    /// What it is for: `sig` where absent.
    #[serde(default, rename = "use")]
    pub usage: Option<String>,
    /// RSA modulus, base64url.
    #[serde(default)]
    pub n: Option<String>,
    /// RSA exponent, base64url.
    #[serde(default)]
    pub e: Option<String>,
    /// Curve of an EC key: `P-256`.
    #[serde(default)]
    pub crv: Option<String>,
    /// X coordinate, base64url.
    #[serde(default)]
    pub x: Option<String>,
    /// Y coordinate, base64url.
    #[serde(default)]
    pub y: Option<String>,
}

/// Why no key of a set serves for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// No key has the id that the token names: the set may be out of date.
    Unknown,
    /// There is a key, but not for this algorithm, or the token's choice is not clear.
    Unfit,
}

impl KeySet {
    /// Reads a key set. `None` if it is no JSON object with an array `keys`. Keys that cannot be read are skipped.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let document: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).ok()?;
        let keys = document.get("keys")?.as_array()?;
        let read = |key: &serde_json::Value| PublicKey::deserialize(key).ok();
        Some(Self { keys: keys.iter().take(MOST_KEYS).filter_map(read).collect() })
    }

    /// The key that verifies a token of `algorithm` whose header names `kid`.
    ///
    /// Without a `kid` in the token, the set must leave no choice (OpenID Connect Core, section 10.1).
    pub(crate) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, NoKey> {
        let Some(kid) = kid else {
            let mut fit = self.keys.iter().filter_map(|key| key.decoding_key(algorithm));
            return match (fit.next(), fit.next()) {
                (Some(key), None) => Ok(key),
                _ => Err(NoKey::Unfit),
            };
        };
        // Two keys may share an id where their types differ: the first one that fits serves.
        let mut named = self.keys.iter().filter(|key| key.kid.as_deref() == Some(kid)).peekable();
        if named.peek().is_none() {
            return Err(NoKey::Unknown);
        }
        named.find_map(|key| key.decoding_key(algorithm)).ok_or(NoKey::Unfit)
    }
}

impl PublicKey {
    /// The key for verifying signatures of `algorithm`, if it is one.
    fn decoding_key(&self, algorithm: Algorithm) -> Option<DecodingKey> {
        let (name, kty) = match algorithm {
            Algorithm::RS256 => ("RS256", "RSA"),
            Algorithm::ES256 => ("ES256", "EC"),
            _ => return None,
        };
        let fits = self.kty == kty
            && self.alg.as_deref().is_none_or(|alg| alg == name)
            && self.usage.as_deref().is_none_or(|usage| usage == "sig");
        if !fits {
            return None;
        }
        match algorithm {
            Algorithm::RS256 => {
                let (n, e) = (self.n.as_deref()?, self.e.as_deref()?);
                if n.is_empty() || e.is_empty() {
                    return None;
                }
                DecodingKey::from_rsa_components(n, e).ok()
            }
            _ if self.crv.as_deref() == Some("P-256") => {
                DecodingKey::from_ec_components(self.x.as_deref()?, self.y.as_deref()?).ok()
            }
            _ => None,
        }
    }
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the issuer publishes no key with the id that the token names",
            Self::Unfit => "the issuer's key is not for the algorithm of the token",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa() -> serde_json::Value {
        serde_json::json!({"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "n": "AQAB", "e": "AQAB", "x5c": ["…"]})
    }

    fn set(keys: &[serde_json::Value]) -> KeySet {
        KeySet::from_json(serde_json::json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn found(set: &KeySet, kid: Option<&str>, algorithm: Algorithm) -> Result<(), NoKey> {
        set.find(kid, algorithm).map(drop)
    }

    // IDT-45
    #[test]
    fn a_key_of_the_wrong_kind_is_refused() {
        assert_eq!(found(&set(&[rsa()]), Some("one"), Algorithm::RS256), Ok(()));
        for (member, value) in [
            ("kty", serde_json::json!("EC")),
            ("kty", serde_json::json!("oct")),
            ("alg", serde_json::json!("RS512")),
            ("alg", serde_json::json!("HS256")),
            ("use", serde_json::json!("enc")),
            ("n", serde_json::json!("***")),
            ("n", serde_json::json!("")),
            ("n", serde_json::Value::Null),
            ("e", serde_json::json!("***")),
            ("e", serde_json::json!("")),
            ("e", serde_json::Value::Null),
        ] {
            let mut key = rsa();
            key[member] = value.clone();
            assert_eq!(
                found(&set(&[key]), Some("one"), Algorithm::RS256),
                Err(NoKey::Unfit),
                "{member} {value}"
            );
        }
        assert_eq!(found(&set(&[rsa()]), Some("one"), Algorithm::ES256), Err(NoKey::Unfit));
    }

    // IDT-42, IDT-43
    #[test]
    fn a_token_that_names_a_key_needs_a_key_of_that_name() {
        let mut nameless = rsa();
        nameless["kid"] = serde_json::Value::Null;
        assert_eq!(found(&set(&[nameless.clone()]), Some("one"), Algorithm::RS256), Err(NoKey::Unknown));
        assert_eq!(found(&set(&[rsa()]), Some("two"), Algorithm::RS256), Err(NoKey::Unknown));
        assert_eq!(found(&set(&[]), Some("one"), Algorithm::RS256), Err(NoKey::Unknown));
        assert_eq!(found(&set(&[nameless.clone(), rsa()]), Some("one"), Algorithm::RS256), Ok(()));
    }

    #[test]
    fn a_token_that_names_no_key_needs_a_set_without_choice() {
        let mut other = rsa();
        other["kid"] = "two".into();
        let ec = serde_json::json!({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"});
        assert_eq!(found(&set(&[rsa(), ec]), None, Algorithm::RS256), Ok(()));
        assert_eq!(found(&set(&[rsa(), other]), None, Algorithm::RS256), Err(NoKey::Unfit));
        assert_eq!(found(&set(&[]), None, Algorithm::RS256), Err(NoKey::Unfit));
    }

    #[test]
    fn keys_that_cannot_be_read_are_skipped_and_the_rest_serves() {
        let odd = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": "AQ", "ext": {"deep": [1]}});
        let keys =
            set(&[odd, serde_json::json!(7), serde_json::json!({"kty": 7}), serde_json::json!({}), rsa()]);
        assert_eq!(keys.keys.len(), 2);
        assert_eq!(found(&keys, Some("one"), Algorithm::RS256), Ok(()));
        for nonsense in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            assert_eq!(KeySet::from_json(nonsense.as_bytes()), None, "{nonsense}");
        }
    }

    #[test]
    fn a_set_reads_back() {
        let keys = set(&[rsa()]);
        let json = serde_json::to_vec(&keys).unwrap();
        assert_eq!(KeySet::from_json(&json), Some(keys));
    }
}
