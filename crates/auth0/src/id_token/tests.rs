//! Each check of an id token, with keys made for the test.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair};
use serde_json::json;

use super::*;

const ISSUER: &str = "https://tenant.example/";
const CLIENT: &str = "client-1";
const NOW: u64 = 1_800_000_000;

static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static OTHER_RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static EC: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn modulus() -> Vec<u8> {
    RSA.public_key().modulus().big_endian_without_leading_zero().to_vec()
}

fn keys() -> KeySet {
    let exponent = RSA.public_key().exponent().big_endian_without_leading_zero().to_vec();
    let point = EC.public_key().as_ref();
    let set = json!({"keys": [
        {"kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig", "n": encode(modulus()), "e": encode(exponent)},
        {"kty": "EC", "kid": "ec", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])},
    ]});
    KeySet::from_json(set.to_string().as_bytes()).unwrap()
}

fn sign_rsa(key: &RsaKeyPair, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
    signature
}

/// A token with this header and these claims, signed by `sign`.
fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> SecretString {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", encode(signature)).into()
}

fn token(claims: &Value) -> SecretString {
    signed(&json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}), claims, |message| sign_rsa(&RSA, message))
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "auth0|1", "aud": CLIENT, "exp": NOW + 3600, "iat": NOW - 1})
}

/// The claims with `changes`; a null one is taken out.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    let map = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            map.remove(name);
        } else {
            map.insert(name.clone(), value.clone());
        }
    }
    claims
}

fn judge_with(keys: Option<&KeySet>, token: &SecretString, expect: &IdTokenExpectations) -> IdTokenVerdict {
    Judge {
        issuer: ISSUER,
        issuer_is_exact: true,
        client_id: CLIENT,
        keys,
        leeway: Duration::from_secs(60),
        now: UNIX_EPOCH + Duration::from_secs(NOW),
    }
    .judge(token, expect)
}

fn judged(token: &SecretString, expect: &IdTokenExpectations) -> Result<IdTokenClaims, IdTokenRefusal> {
    match judge_with(Some(&keys()), token, expect) {
        IdTokenVerdict::Good(claims) => Ok(claims),
        IdTokenVerdict::Refused(refusal) => Err(refusal),
        IdTokenVerdict::KeysNeeded => panic!("keys needed"),
    }
}

fn good(changes: &Value, expect: &IdTokenExpectations) -> IdTokenClaims {
    judged(&token(&with(changes)), expect).unwrap()
}

fn refused(changes: &Value, expect: &IdTokenExpectations) -> IdTokenRefusal {
    judged(&token(&with(changes)), expect).unwrap_err()
}

fn any() -> IdTokenExpectations {
    IdTokenExpectations::default()
}

// IDT-1, IDT-37, IDT-50, IDT-51, IDT-59, IDT-69, IDT-74
#[test]
fn a_good_token_gives_its_claims() {
    let judged = good(&json!({"email": "a@example.com", "nonce": "n", "nbf": 1, "jti": "j"}), &any());
    assert_eq!((judged.subject(), judged.issuer()), ("auth0|1", ISSUER));
    assert_eq!(judged.audience(), [CLIENT]);
    assert_eq!(judged.issued_at(), UNIX_EPOCH + Duration::from_secs(NOW - 1));
    assert_eq!(judged.expires_at(), UNIX_EPOCH + Duration::from_secs(NOW + 3600));
    assert_eq!((judged.nonce(), judged.auth_time(), judged.organization()), (Some("n"), None, None));
    assert_eq!(judged.profile().email(), Some("a@example.com"));
    // CM-187: what is about the token is no part of the profile
    assert_eq!(judged.profile().claims().keys().collect::<Vec<_>>(), ["email"]);
    assert_eq!(good(&json!({}), &any()).subject(), "auth0|1", "the same keys serve for another token");
}

#[test]
fn es256_is_accepted_by_a_key_of_its_curve() {
    let sign = |message: &[u8]| EC.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    let ec = signed(&json!({"alg": "ES256", "kid": "ec"}), &claims(), sign);
    assert!(judged(&ec, &any()).is_ok());
    let crossed = signed(&json!({"alg": "ES256", "kid": "rsa"}), &claims(), sign);
    assert_eq!(judged(&crossed, &any()), Err(IdTokenRefusal::Key));
}

// IDT-38, IDT-39, IDT-50
#[test]
fn only_the_algorithms_of_our_list_are_taken() {
    // Signed with what an attacker has: the public key as an HMAC secret.
    let hs256 = |message: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &modulus()), message).as_ref().to_vec()
    };
    for algorithm in
        ["HS256", "none", "None", "NONE", "RS384", "RS512", "PS256", "ES384", "EdDSA", "rs256", ""]
    {
        let header = json!({"alg": algorithm, "kid": "rsa"});
        assert_eq!(
            judged(&signed(&header, &claims(), hs256), &any()),
            Err(IdTokenRefusal::Algorithm),
            "{algorithm}"
        );
        assert_eq!(
            judged(&signed(&header, &claims(), |_| vec![]), &any()),
            Err(IdTokenRefusal::Algorithm),
            "{algorithm}"
        );
    }
    for header in [
        json!({"kid": "rsa"}),
        json!({"alg": 7}),
        json!({"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": false}),
    ] {
        assert_eq!(
            judged(&signed(&header, &claims(), |m| sign_rsa(&RSA, m)), &any()),
            Err(IdTokenRefusal::Algorithm)
        );
    }
}

// IDT-41, IDT-61, IDT-62
#[test]
fn a_signature_that_is_not_the_issuers_is_refused_before_any_claim_is_looked_at() {
    let header = json!({"alg": "RS256", "kid": "rsa"});
    let wrong = with(&json!({"iss": "https://evil.example/", "exp": 1}));
    for sign in [
        Box::new(|message: &[u8]| sign_rsa(&OTHER_RSA, message)) as Box<dyn Fn(&[u8]) -> Vec<u8>>,
        Box::new(|_| vec![]),
        Box::new(|_| vec![0; 256]),
        Box::new(|message| EC.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()),
    ] {
        assert_eq!(judged(&signed(&header, &wrong, &sign), &any()), Err(IdTokenRefusal::Signature));
        assert_eq!(judged(&signed(&header, &claims(), &sign), &any()), Err(IdTokenRefusal::Signature));
    }
    // The claims of one token under the signature of another.
    let (one, other) = (token(&claims()), token(&with(&json!({"sub": "auth0|2"}))));
    let (head, _) = one.expose().rsplit_once('.').unwrap();
    let (_, tail) = other.expose().rsplit_once('.').unwrap();
    assert_eq!(judged(&format!("{head}.{tail}").into(), &any()), Err(IdTokenRefusal::Signature));
    let padded = format!("{}=", one.expose());
    assert_eq!(judged(&padded.into(), &any()), Err(IdTokenRefusal::Signature));
}

// IDT-46, IDT-47, IDT-49, IDT-73
#[test]
fn what_cannot_be_read_is_malformed_and_sends_nobody_for_keys() {
    let whole = token(&claims());
    let parts: Vec<&str> = whole.expose().split('.').collect();
    let not_json = encode("not json");
    let array = encode("[]");
    for garbage in [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.x.y", whole.expose()),
        format!("{not_json}.{}.{}", parts[1], parts[2]),
        format!("{}.{not_json}.{}", parts[0], parts[2]),
        format!("{}.{array}.{}", parts[0], parts[2]),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        "a".repeat(LONGEST_TOKEN + 1),
    ] {
        let verdict = judge_with(None, &garbage.clone().into(), &any());
        assert!(
            matches!(verdict, IdTokenVerdict::Refused(IdTokenRefusal::Malformed)),
            "{garbage:.40} {verdict:?}"
        );
    }
}

// IDT-42, IDT-43
#[test]
fn an_unknown_key_needs_keys() {
    let unknown = signed(&json!({"alg": "RS256", "kid": "new"}), &claims(), |m| sign_rsa(&RSA, m));
    assert!(matches!(judge_with(Some(&keys()), &unknown, &any()), IdTokenVerdict::KeysNeeded));
    assert!(matches!(judge_with(None, &token(&claims()), &any()), IdTokenVerdict::KeysNeeded));
    let nameless = signed(&json!({"alg": "RS256"}), &claims(), |m| sign_rsa(&RSA, m));
    assert!(judged(&nameless, &any()).is_ok(), "one RSA key leaves no choice");
    let odd = signed(&json!({"alg": "RS256", "kid": 7}), &claims(), |m| sign_rsa(&RSA, m));
    assert_eq!(judged(&odd, &any()), Err(IdTokenRefusal::Malformed));
}

// IDT-2, IDT-6, IDT-7, IDT-9, IDT-11, IDT-13, IDT-15, IDT-19, IDT-63
#[test]
fn each_required_claim_is_required_and_checked() {
    for (changes, refusal) in [
        (json!({"iss": null}), IdTokenRefusal::Issuer),
        (json!({"iss": 7}), IdTokenRefusal::Issuer),
        (json!({"iss": "https://tenant.example"}), IdTokenRefusal::Issuer),
        (json!({"iss": "https://evil.example/"}), IdTokenRefusal::Issuer),
        (json!({"sub": null}), IdTokenRefusal::Subject),
        (json!({"sub": ""}), IdTokenRefusal::Subject),
        (json!({"sub": 7}), IdTokenRefusal::Subject),
        (json!({"aud": null}), IdTokenRefusal::Audience),
        (json!({"aud": "client-2"}), IdTokenRefusal::Audience),
        (json!({"aud": []}), IdTokenRefusal::Audience),
        (json!({"aud": ["client-2", "client-3"]}), IdTokenRefusal::Audience),
        (json!({"aud": [CLIENT, 7]}), IdTokenRefusal::Audience),
        (json!({"aud": {"0": CLIENT}}), IdTokenRefusal::Audience),
        (json!({"exp": null}), IdTokenRefusal::Expired),
        (json!({"exp": "1900000000"}), IdTokenRefusal::Expired),
        (json!({"iat": null}), IdTokenRefusal::IssuedAt),
        (json!({"iat": "now"}), IdTokenRefusal::IssuedAt),
    ] {
        assert_eq!(refused(&changes, &any()), refusal, "{changes}");
    }
}

// IDT-3
#[test]
fn the_first_failure_is_the_one_reported() {
    assert_eq!(refused(&json!({"iss": null, "sub": null, "exp": 1}), &any()), IdTokenRefusal::Issuer);
    assert_eq!(refused(&json!({"aud": null, "exp": 1}), &any()), IdTokenRefusal::Audience);
}

// IDT-5
#[test]
fn before_discovery_the_issuer_is_compared_without_its_slash() {
    let keys = keys();
    let judge = Judge {
        issuer: "https://tenant.example",
        issuer_is_exact: false,
        client_id: CLIENT,
        keys: Some(&keys),
        leeway: Duration::ZERO,
        now: UNIX_EPOCH + Duration::from_secs(NOW),
    };
    assert!(matches!(judge.judge(&token(&claims()), &any()), IdTokenVerdict::Good(_)));
}

// IDT-10, IDT-23, IDT-25, IDT-75
#[test]
fn several_audiences_need_an_authorized_party_and_one_that_is_there_is_checked() {
    let several = json!([CLIENT, "https://api.example"]);
    assert_eq!(good(&json!({"aud": several, "azp": CLIENT}), &any()).audience().len(), 2);
    good(&json!({"aud": [CLIENT]}), &any());
    good(&json!({"azp": CLIENT}), &any());
    for changes in [
        json!({"aud": several}),
        json!({"aud": several, "azp": "client-2"}),
        json!({"aud": several, "azp": 7}),
        json!({"azp": "client-2"}),
    ] {
        assert_eq!(refused(&changes, &any()), IdTokenRefusal::AuthorizedParty, "{changes}");
    }
}

// IDT-14, IDT-17, IDT-18, IDT-67, IDT-70, IDT-78
#[test]
fn expiry_has_a_leeway_and_reads_any_number() {
    good(&json!({"exp": NOW - 60}), &any());
    good(&json!({"exp": NOW as f64 + 0.5}), &any());
    good(&json!({"exp": 1e11, "iat": 4_294_967_296_u64}), &any());
    good(&json!({"exp": u64::MAX}), &any());
    for expired in [json!(NOW - 61), json!(NOW - 120), json!(0), json!(-1), json!(-1e300)] {
        assert_eq!(refused(&json!({"exp": expired}), &any()), IdTokenRefusal::Expired, "{expired}");
    }
    // The issuer's clock may be ahead: that is told elsewhere, and is no reason to end a session.
    good(&json!({"iat": NOW + 3600}), &any());
}

// IDT-21, IDT-22, IDT-53, IDT-65
#[test]
fn a_nonce_that_was_sent_must_come_back() {
    let expect = IdTokenExpectations { nonce: Some("n".into()), ..any() };
    good(&json!({"nonce": "n"}), &expect);
    assert_eq!(refused(&json!({}), &expect), IdTokenRefusal::Nonce);
    assert_eq!(refused(&json!({"nonce": "m"}), &expect), IdTokenRefusal::Nonce);
    assert_eq!(refused(&json!({"nonce": 7}), &expect), IdTokenRefusal::Nonce);
    good(&json!({}), &any());
    // OpenID Connect Core 12.2: a refreshed one should have none; if it has, it is the same.
    let refreshed = IdTokenExpectations { refreshed: true, ..expect };
    good(&json!({}), &refreshed);
    assert_eq!(refused(&json!({"nonce": "m"}), &refreshed), IdTokenRefusal::Nonce);
}

// IDT-26, IDT-27, IDT-29, IDT-54
#[test]
fn max_age_is_about_the_sign_in() {
    let expect = IdTokenExpectations { max_age: Some(Duration::from_secs(100)), ..any() };
    assert_eq!(refused(&json!({}), &expect), IdTokenRefusal::AuthTime);
    assert_eq!(refused(&json!({"auth_time": "x"}), &expect), IdTokenRefusal::AuthTime);
    good(&json!({"auth_time": NOW - 160}), &expect);
    assert_eq!(refused(&json!({"auth_time": NOW - 161}), &expect), IdTokenRefusal::AuthTime);
    good(&json!({"auth_time": NOW - 161}), &IdTokenExpectations { refreshed: true, ..expect });
    let huge = IdTokenExpectations { max_age: Some(Duration::MAX), ..any() };
    good(&json!({"auth_time": 1}), &huge);
}

#[test]
fn another_subject_is_refused() {
    let expect = IdTokenExpectations { subject: Some("auth0|1".into()), ..any() };
    good(&json!({}), &expect);
    assert_eq!(refused(&json!({"sub": "auth0|2"}), &expect), IdTokenRefusal::Subject);
}

// IDT-30, IDT-31, IDT-33, IDT-34, IDT-35, IDT-55, IDT-57, IDT-58, IDT-65, IDT-66
#[test]
fn an_organization_is_an_id_or_a_name() {
    let expect = |wanted: &str| IdTokenExpectations { organization: Some(wanted.into()), ..any() };
    assert_eq!(good(&json!({"org_id": "org_1"}), &expect("org_1")).organization(), Some("org_1"));
    assert_eq!(good(&json!({"org_name": "acme"}), &expect("acme")).organization(), Some("acme"));
    good(&json!({"org_name": "acme"}), &expect("ACME"));
    good(&json!({}), &any());
    for (changes, wanted) in [
        (json!({}), "org_1"),
        (json!({"org_id": "org_2"}), "org_1"),
        (json!({"org_id": "ORG_1"}), "org_1"),
        (json!({"org_name": "org_1"}), "org_1"),
        (json!({}), "acme"),
        (json!({"org_name": "other"}), "acme"),
        (json!({"org_name": "Acme"}), "acme"),
        (json!({"org_id": "acme"}), "acme"),
    ] {
        assert_eq!(refused(&changes, &expect(wanted)), IdTokenRefusal::Organization, "{changes} {wanted}");
    }
}

// CM-82, CM-86, CM-87, CM-91, CM-95, CM-175
#[test]
fn the_session_ceiling_is_read_in_seconds_and_fails_open() {
    let ceiling = |value: Value| good(&json!({"session_expiry": value}), &any()).session_expiry();
    let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(ceiling(json!(NOW)), at(NOW));
    assert_eq!(ceiling(json!(NOW as f64 + 0.9)), at(NOW));
    for absent in [Value::Null, json!(0), json!(-5), json!(NOW * 1000), json!("soon")] {
        assert_eq!(ceiling(absent.clone()), None, "{absent}");
    }
}

#[test]
fn debug_of_a_verdict_shows_nothing_of_the_person() {
    let verdict =
        judge_with(Some(&keys()), &token(&with(&json!({"name": "Canary", "sub": "canary"}))), &any());
    assert!(matches!(verdict, IdTokenVerdict::Good(_)));
    assert!(!format!("{verdict:?}").to_lowercase().contains("canary"));
}
