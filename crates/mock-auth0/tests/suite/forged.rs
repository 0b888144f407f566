//! Id tokens that a client has to refuse.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use mock_auth0::{DEMO_SUB, Fault, MockAuth0, Signing};
use serde_json::{Value, json};

use crate::support::{claims, get, refresh};

/// The claims, if a strict client would take the token.
async fn judged(mock: &MockAuth0, token: &str, algorithm: Algorithm) -> Result<Value, String> {
    let set: JwkSet = serde_json::from_value(get(mock, "/.well-known/jwks.json", None).await.json()).unwrap();
    let header = jsonwebtoken::decode_header(token).map_err(|e| e.to_string())?;
    let jwk = header.kid.and_then(|kid| set.find(&kid).cloned()).ok_or("unknown kid")?;
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[mock.client_id()]);
    validation.set_issuer(&[mock.issuer()]);
    validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    let key = DecodingKey::from_jwk(&jwk).map_err(|e| e.to_string())?;
    let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation).map_err(|e| e.to_string())?;
    Ok(decoded.claims)
}

async fn id_token(mock: &MockAuth0, fault: Option<Fault>) -> String {
    let tokens = mock.seed_session().unwrap();
    if let Some(fault) = fault {
        mock.next_refresh(fault);
    }
    let set = refresh(mock, tokens.refresh_token()).await.unwrap().json();
    set["id_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_forgery_differs_from_a_good_token_in_that_alone() {
    for (signing, algorithm) in [(Signing::Rs256, Algorithm::RS256), (Signing::Es256, Algorithm::ES256)] {
        let mock = MockAuth0::builder().signing(signing).start().await.unwrap();
        let good = id_token(&mock, None).await;
        judged(&mock, &good, algorithm).await.unwrap();
        for fault in [
            Fault::Unsigned,
            Fault::Hs256WithPublicKey,
            Fault::WrongKey,
            Fault::UnknownKid,
            Fault::BadSignature,
            Fault::claim("iss", json!("https://evil.example/")),
            Fault::claim("aud", json!("another-client")),
            Fault::claim("exp", json!(1)),
            Fault::claim("sub", Value::Null),
            Fault::IdTokenText { text: "a.b".to_owned() },
        ] {
            let token = id_token(&mock, Some(fault.clone())).await;
            assert!(judged(&mock, &token, algorithm).await.is_err(), "{fault:?}");
        }
        // The fault was for one token.
        let good = id_token(&mock, None).await;
        judged(&mock, &good, algorithm).await.unwrap();
    }
}

#[tokio::test]
async fn the_headers_of_forgeries_are_what_they_claim_to_be() {
    use base64::Engine as _;
    let mock = MockAuth0::start().await.unwrap();
    let published = get(&mock, "/.well-known/jwks.json", None).await.json()["keys"][0]["kid"].clone();
    for (fault, alg, known) in [
        (Fault::Unsigned, "none", false),
        (Fault::Hs256WithPublicKey, "HS256", true),
        (Fault::WrongKey, "RS256", true),
        (Fault::UnknownKid, "RS256", false),
        (Fault::BadSignature, "RS256", true),
    ] {
        let token = id_token(&mock, Some(fault.clone())).await;
        let part = token.split('.').next().unwrap();
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header["alg"], alg, "{fault:?}");
        assert_eq!(header["kid"] == published, known, "{fault:?}");
        assert_eq!(token.ends_with('.'), fault == Fault::Unsigned);
        assert_eq!(claims(&token)["sub"], DEMO_SUB);
    }
}

#[tokio::test]
async fn claims_can_be_set_and_taken_out() {
    let mock = MockAuth0::start().await.unwrap();
    let set = serde_json::from_value(json!({
        "kind": "claims", "set": {"azp": "evil", "nonce": "n", "auth_time": null, "iat": 1}
    }));
    let token = claims(&id_token(&mock, Some(set.unwrap())).await);
    assert_eq!((&token["azp"], &token["nonce"], &token["iat"]), (&json!("evil"), &json!("n"), &json!(1)));
    assert!(token.get("auth_time").is_none());
}

#[tokio::test]
async fn the_answer_can_be_another_users_as_a_whole() {
    let mock = MockAuth0::start().await.unwrap();
    let tokens = mock.seed_session().unwrap();
    mock.next_refresh(Fault::subject("auth0|mallory"));
    let set = refresh(&mock, tokens.refresh_token()).await.unwrap().json();
    assert_eq!(claims(set["id_token"].as_str().unwrap())["sub"], "auth0|mallory");
    let access = set["access_token"].as_str().unwrap();
    assert_eq!(claims(access)["sub"], "auth0|mallory");
    assert_eq!(get(&mock, "/userinfo", Some(access)).await.json()["sub"], "auth0|mallory");
    // The refresh token is the session's own: the next answer is right again.
    let set = refresh(&mock, set["refresh_token"].as_str().unwrap()).await.unwrap().json();
    assert_eq!(claims(set["id_token"].as_str().unwrap())["sub"], DEMO_SUB);
}

#[tokio::test]
async fn keys_rotate() {
    let mock = MockAuth0::start().await.unwrap();
    let old = id_token(&mock, None).await;
    let kid = mock.rotate_keys(true).unwrap();
    let new = id_token(&mock, None).await;
    assert_eq!(jsonwebtoken::decode_header(&new).unwrap().kid, Some(kid));
    judged(&mock, &old, Algorithm::RS256).await.unwrap();
    judged(&mock, &new, Algorithm::RS256).await.unwrap();
    mock.rotate_keys(false).unwrap();
    assert!(judged(&mock, &new, Algorithm::RS256).await.is_err());
}
