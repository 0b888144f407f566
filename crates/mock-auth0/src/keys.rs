//! The tenant's signing keys: one that signs, retired ones still published, and one that nobody publishes.
//!
//! The first keys are checked in, so that a start costs nothing and a token of one run can be compared with another's.
//! They are test keys. Rotation makes new ones.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::error::MockError;

const RS256: &str = include_str!("../keys/rs256.test-key.pem");
const RS256_UNPUBLISHED: &str = include_str!("../keys/rs256-unpublished.test-key.pem");
const ES256: &str = include_str!("../keys/es256.test-key.pem");
const ES256_UNPUBLISHED: &str = include_str!("../keys/es256-unpublished.test-key.pem");

/// The signature algorithm of id tokens and access tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signing {
    /// RSA with SHA-256, 2048 bits. What Auth0 uses.
    #[default]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// A wrong way to sign a token, to see whether it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgery {
    /// Algorithm `none` and no signature.
    Unsigned,
    /// HS256 with the published key's PEM as the secret.
    Hs256WithPublicKey,
    /// Another key under the published `kid`.
    WrongKey,
    /// Another key under a `kid` that the key set lacks.
    UnknownKid,
    /// The right key, one bit of the signature changed.
    FlippedBit,
}

pub(crate) struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
    jwk: Value,
    public_pem: String,
}

/// All keys of a tenant.
pub(crate) struct Keyring {
    signing: Signing,
    current: SigningKey,
    retired: Vec<SigningKey>,
    unpublished: SigningKey,
}

impl Keyring {
    pub(crate) fn new(signing: Signing) -> Result<Self, MockError> {
        let (current, unpublished) = match signing {
            Signing::Rs256 => (RS256, RS256_UNPUBLISHED),
            Signing::Es256 => (ES256, ES256_UNPUBLISHED),
        };
        Ok(Self {
            signing,
            current: SigningKey::from_pem(signing, current)?,
            retired: Vec::new(),
            unpublished: SigningKey::from_pem(signing, unpublished)?,
        })
    }

    /// Signs with a new key from now on. Old tokens stay verifiable only if the old keys stay published.
    pub(crate) fn rotate(&mut self, keep_old: bool) -> Result<String, MockError> {
        let fresh = SigningKey::generate(self.signing)?;
        let old = std::mem::replace(&mut self.current, fresh);
        if keep_old {
            self.retired.push(old);
        } else {
            self.retired.clear();
        }
        Ok(self.current.kid.clone())
    }

    /// The JSON Web Key Set (RFC 7517, 5).
    pub(crate) fn jwks(&self) -> Value {
        let keys: Vec<&Value> =
            std::iter::once(&self.current).chain(&self.retired).map(|key| &key.jwk).collect();
        json!({ "keys": keys })
    }

    pub(crate) fn algorithm_name(&self) -> &'static str {
        match self.signing {
            Signing::Rs256 => "RS256",
            Signing::Es256 => "ES256",
        }
    }

    /// A signed JWT, or a forged one.
    pub(crate) fn sign(
        &self,
        claims: &Value,
        typ: &str,
        forgery: Option<Forgery>,
    ) -> Result<String, MockError> {
        let current = &self.current;
        match forgery {
            None => current.sign(claims, typ, &current.kid),
            Some(Forgery::WrongKey) => self.unpublished.sign(claims, typ, &current.kid),
            Some(Forgery::UnknownKid) => self.unpublished.sign(claims, typ, &self.unpublished.kid),
            Some(Forgery::FlippedBit) => current.sign(claims, typ, &current.kid).map(flip_signature_bit),
            Some(Forgery::Unsigned) => {
                let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                Ok(format!("{}.{}.", part(&json!({"alg": "none", "typ": typ})), part(claims)))
            }
            Some(Forgery::Hs256WithPublicKey) => {
                let mut header = Header::new(Algorithm::HS256);
                header.kid = Some(current.kid.clone());
                let secret = EncodingKey::from_secret(current.public_pem.as_bytes());
                jsonwebtoken::encode(&header, claims, &secret).map_err(|e| MockError::Key(e.to_string()))
            }
        }
    }
}

impl SigningKey {
    fn from_pem(signing: Signing, pem: &str) -> Result<Self, MockError> {
        let der = der_of(pem)?;
        let (algorithm, private, public_der) = match signing {
            Signing::Rs256 => {
                let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(&der).map_err(|e| key_error(&e))?;
                let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|e| key_error(&e))?;
                (Algorithm::RS256, EncodingKey::from_rsa_pem(pem.as_bytes()), public.as_ref().to_vec())
            }
            Signing::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
                    .map_err(|e| key_error(&e))?;
                let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|e| key_error(&e))?;
                (Algorithm::ES256, EncodingKey::from_ec_pem(pem.as_bytes()), public.as_ref().to_vec())
            }
        };
        let private = private.map_err(|e| key_error(&e))?;
        let mut jwk = Jwk::from_encoding_key(&private, algorithm).map_err(|e| key_error(&e))?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|e| key_error(&e))?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let jwk = serde_json::to_value(&jwk).map_err(|e| key_error(&e))?;
        Ok(Self { kid, algorithm, private, jwk, public_pem: pem_of("PUBLIC KEY", &public_der) })
    }

    fn generate(signing: Signing) -> Result<Self, MockError> {
        let der = match signing {
            Signing::Rs256 => {
                let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|e| key_error(&e))?;
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(|e| key_error(&e))?;
                der.as_ref().to_vec()
            }
            Signing::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                    .map_err(|e| key_error(&e))?
                    .as_ref()
                    .to_vec()
            }
        };
        Self::from_pem(signing, &pem_of("PRIVATE KEY", &der))
    }

    fn sign(&self, claims: &Value, typ: &str, kid: &str) -> Result<String, MockError> {
        let mut header = Header::new(self.algorithm);
        header.typ = Some(typ.to_owned());
        header.kid = Some(kid.to_owned());
        jsonwebtoken::encode(&header, claims, &self.private).map_err(|e| key_error(&e))
    }
}

fn key_error(error: &dyn std::fmt::Display) -> MockError {
    MockError::Key(error.to_string())
}

/// The bytes between the lines of a PEM text (RFC 7468); text before the first line is a remark.
fn der_of(pem: &str) -> Result<Vec<u8>, MockError> {
    let body: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    STANDARD.decode(body).map_err(|e| key_error(&e))
}

fn pem_of(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem + "-----END " + label + "-----\n"
}

fn flip_signature_bit(token: String) -> String {
    let Some((signed, signature)) = token.rsplit_once('.') else { return token };
    let Ok(mut bytes) = URL_SAFE_NO_PAD.decode(signature) else { return token };
    // Not the first byte: an RSA number above the modulus, or a zero one, would be refused for another reason.
    if let Some(byte) = bytes.last_mut() {
        *byte ^= 1;
    }
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    fn verify(keyring: &Keyring, token: &str) -> Result<Value, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|e| e.to_string())?;
        let set: JwkSet = serde_json::from_value(keyring.jwks()).map_err(|e| e.to_string())?;
        let kid = header.kid.ok_or("no kid")?;
        let jwk = set.find(&kid).ok_or("kid not in the set")?;
        let key = DecodingKey::from_jwk(jwk).map_err(|e| e.to_string())?;
        let algorithm = match keyring.signing {
            Signing::Rs256 => Algorithm::RS256,
            Signing::Es256 => Algorithm::ES256,
        };
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        jsonwebtoken::decode::<Value>(token, &key, &validation).map(|d| d.claims).map_err(|e| e.to_string())
    }

    #[test]
    fn tokens_verify_against_the_published_set_and_forged_ones_do_not() {
        for signing in [Signing::Rs256, Signing::Es256] {
            let keyring = Keyring::new(signing).unwrap();
            let claims = json!({"sub": "ada"});
            let good = keyring.sign(&claims, "JWT", None).unwrap();
            assert_eq!(verify(&keyring, &good).unwrap(), claims);
            for forgery in [
                Forgery::Unsigned,
                Forgery::Hs256WithPublicKey,
                Forgery::WrongKey,
                Forgery::UnknownKid,
                Forgery::FlippedBit,
            ] {
                let forged = keyring.sign(&claims, "JWT", Some(forgery)).unwrap();
                assert!(verify(&keyring, &forged).is_err(), "{signing:?} {forgery:?}");
            }
        }
    }

    #[test]
    fn after_rotation_old_tokens_verify_only_if_the_old_key_stays_published() {
        for signing in [Signing::Rs256, Signing::Es256] {
            let mut keyring = Keyring::new(signing).unwrap();
            let old = keyring.sign(&json!({"n": 1}), "JWT", None).unwrap();
            keyring.rotate(true).unwrap();
            assert!(verify(&keyring, &old).is_ok());
            let new = keyring.sign(&json!({"n": 2}), "JWT", None).unwrap();
            assert!(verify(&keyring, &new).is_ok());
            keyring.rotate(false).unwrap();
            assert!(verify(&keyring, &old).is_err());
            assert!(verify(&keyring, &new).is_err());
            assert_eq!(keyring.jwks()["keys"].as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn the_key_set_never_holds_a_private_part() {
        let keyring = Keyring::new(Signing::Rs256).unwrap();
        let set = keyring.jwks();
        let key = set["keys"][0].as_object().unwrap();
        assert_eq!(key["kty"], "RSA");
        assert_eq!(key["use"], "sig");
        assert_eq!(key["e"], "AQAB");
        assert!(key.get("d").is_none());
    }
}
