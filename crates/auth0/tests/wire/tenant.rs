//! The flows against a tenant with real keys and rotation.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mock_auth0::{
    BadAnswer, DEMO_AUDIENCE, DEMO_SERVICE, DEMO_SUB, DEMO_USER, Endpoint, Fault, MockAuth0, Signing,
};
use tokenkeep_auth0::{
    Answer, ClientAuthentication, ClientCredentials, Device, DevicePrompt, IdTokenClaims,
    IdTokenExpectations, IdTokenRefusal, IdTokenVerdict, Password, RefreshRequest, SignInRequest,
    TokenClient, TokenErrorKind as Kind, TokenTypeHint,
};
use tokenkeep_secret::SecretString;

fn client(mock: &MockAuth0) -> TokenClient {
    TokenClient::builder(mock.issuer(), &mock.client_id()).build().unwrap()
}

fn everything() -> SignInRequest {
    SignInRequest::new("openid profile email offline_access").audience(DEMO_AUDIENCE)
}

async fn sign_in(client: &TokenClient) -> Answer {
    client.sign_in(&Password::new(DEMO_USER.0, DEMO_USER.1.into()), &everything()).await.unwrap()
}

fn judge(client: &TokenClient, token: &SecretString) -> IdTokenVerdict {
    client.judge_id_token(token, &IdTokenExpectations::default(), client.clock().wall())
}

fn good(verdict: IdTokenVerdict) -> IdTokenClaims {
    match verdict {
        IdTokenVerdict::Good(claims) => claims,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_from_sign_in_to_revocation() {
    let mock = MockAuth0::start().await.unwrap();
    let client = client(&mock);
    let answer = sign_in(&client).await;
    let id_token = answer.id_token.unwrap();
    assert!(matches!(judge(&client, &id_token), IdTokenVerdict::KeysNeeded));
    client.load_keys().await.unwrap();
    let claims = good(judge(&client, &id_token));
    assert_eq!((claims.subject(), claims.issuer()), (DEMO_SUB, mock.issuer()));
    assert_eq!(claims.profile().name(), Some("Ada Lovelace"));

    let refreshed =
        client.refresh(&RefreshRequest::new(answer.refresh_token.clone().unwrap())).await.unwrap();
    assert!(
        refreshed.issuer_date.is_some() && refreshed.expires_in.is_some() && refreshed.malformed.is_empty()
    );
    assert_ne!(refreshed.refresh_token, answer.refresh_token);
    let expect = IdTokenExpectations::refreshed(DEMO_SUB);
    let verdict = client.judge_id_token(&refreshed.id_token.unwrap(), &expect, client.clock().wall());
    assert_eq!(good(verdict).subject(), DEMO_SUB);

    let profile = client.userinfo(&refreshed.access_token.unwrap()).await.unwrap();
    assert_eq!((profile.sub(), profile.email()), (DEMO_SUB, Some(DEMO_USER.0)));
    assert_eq!(client.userinfo(&"not-a-token".into()).await.unwrap_err().kind(), Kind::Rejected);

    let last = refreshed.refresh_token.unwrap();
    assert!(mock.is_alive(last.expose()));
    client.revoke(&last, TokenTypeHint::RefreshToken).await.unwrap();
    assert!(!mock.is_alive(last.expose()));
    let error = client.refresh(&RefreshRequest::new(last)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), error.error()),
        (Kind::InvalidGrant, Some(403), Some("invalid_grant"))
    );
    assert_eq!(mock.counters().at(Endpoint::Discovery), 1);
}

#[tokio::test]
async fn a_device_that_somebody_confirms_or_denies() {
    let mock = MockAuth0::builder()
        .device_codes(Duration::from_secs(60), Duration::from_secs(1))
        .start()
        .await
        .unwrap();
    let mock = Arc::new(mock);
    let client = client(&mock);
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (at_mock, prompts) = (Arc::clone(&mock), Arc::clone(&shown));
    let confirm = Device::new(move |prompt: &DevicePrompt| {
        at_mock.approve_device(&prompt.user_code, DEMO_USER.0).unwrap();
        prompts.lock().unwrap().push(prompt.clone());
    });
    let answer = client.sign_in(&confirm, &everything()).await.unwrap();
    assert!(answer.refresh_token.is_some());
    let prompt = shown.lock().unwrap()[0].clone();
    assert!(prompt.verification_uri_complete.unwrap().contains(&prompt.user_code));
    assert_eq!(prompt.interval, Duration::from_secs(1));

    let at_mock = Arc::clone(&mock);
    let deny = Device::new(move |prompt: &DevicePrompt| at_mock.deny_device(&prompt.user_code).unwrap());
    assert_eq!(client.sign_in(&deny, &everything()).await.unwrap_err().kind(), Kind::AccessDenied);
}

#[tokio::test]
async fn a_service_gets_tokens_for_itself() {
    let mock = MockAuth0::start().await.unwrap();
    let (id, secret) = DEMO_SERVICE;
    let request = SignInRequest::default().audience(DEMO_AUDIENCE);
    for authentication in
        [ClientAuthentication::Basic(secret.into()), ClientAuthentication::Post(secret.into())]
    {
        let client =
            TokenClient::builder(mock.issuer(), id).client_authentication(authentication).build().unwrap();
        let answer = client.sign_in(&ClientCredentials::new(), &request).await.unwrap();
        assert!(answer.access_token.is_some() && answer.refresh_token.is_none());
    }
    let wrong = ClientAuthentication::Post("wrong-secret-0123456789".into());
    let client = TokenClient::builder(mock.issuer(), id).client_authentication(wrong).build().unwrap();
    let error = client.sign_in(&ClientCredentials::new(), &request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected);
    assert_eq!(mock.counters().grant("client_credentials"), 3, "a refusal is not asked for again");
}

#[tokio::test]
async fn a_realm_is_passed_on() {
    let mock = MockAuth0::start().await.unwrap();
    let password = || Password::new(DEMO_USER.0, DEMO_USER.1.into());
    let realm = password().realm(Some(mock_auth0::DEFAULT_CONNECTION.into()));
    client(&mock).sign_in(&realm, &everything()).await.unwrap();
    let nowhere = password().realm(Some("no-such-realm".into()));
    assert!(client(&mock).sign_in(&nowhere, &everything()).await.is_err());
}

// What the resending is for: the token was rotated, and the answer never came.
#[tokio::test]
async fn an_answer_lost_after_rotation_is_got_back_within_the_overlap_window() {
    let mock = MockAuth0::builder().overlap(Duration::from_secs(10)).start().await.unwrap();
    let client = client(&mock);
    for loss in [
        BadAnswer::Reset,
        BadAnswer::Close,
        BadAnswer::Half,
        BadAnswer::MalformedJson,
        BadAnswer::Empty,
        BadAnswer::CaptivePortal,
    ] {
        let session = mock.seed_session().unwrap();
        mock.next_refresh(Fault::after(loss.clone()));
        let answer = client.refresh(&RefreshRequest::new(session.refresh_token().into())).await.unwrap();
        assert_eq!((answer.resent, mock.counters().presented(session.refresh_token())), (1, 2), "{loss:?}");
        assert!(mock.is_alive(answer.refresh_token.unwrap().expose()), "{loss:?}");
    }
}

#[tokio::test]
async fn without_an_overlap_window_a_lost_answer_ends_the_session_and_says_so() {
    let mock = MockAuth0::start().await.unwrap();
    let session = mock.seed_session().unwrap();
    mock.next_refresh(Fault::after(BadAnswer::Reset));
    let error =
        client(&mock).refresh(&RefreshRequest::new(session.refresh_token().into())).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown(), error.attempts()), (Kind::InvalidGrant, true, 2));
}

#[tokio::test]
async fn an_answer_with_odd_members_keeps_its_refresh_token() {
    let mock = MockAuth0::start().await.unwrap();
    let client = client(&mock);
    mock.next_refresh(Fault::member("expires_in", serde_json::json!([1])));
    let session = mock.seed_session().unwrap();
    let answer = client.refresh(&RefreshRequest::new(session.refresh_token().into())).await.unwrap();
    assert_eq!((answer.malformed, answer.expires_in), (vec!["expires_in"], None));
    let next = answer.refresh_token.unwrap();
    mock.next_refresh(Fault::without("access_token"));
    let answer = client.refresh(&RefreshRequest::new(next)).await.unwrap();
    assert!(answer.access_token.is_none() && mock.is_alive(answer.refresh_token.unwrap().expose()));
}

#[tokio::test]
async fn an_id_token_that_is_not_the_issuers_is_refused_by_the_right_check() {
    let mock = MockAuth0::start().await.unwrap();
    let client = client(&mock);
    client.load_keys().await.unwrap();
    for (fault, refusal) in [
        (Fault::WrongKey, IdTokenRefusal::Signature),
        (Fault::BadSignature, IdTokenRefusal::Signature),
        (Fault::Unsigned, IdTokenRefusal::Algorithm),
        (Fault::Hs256WithPublicKey, IdTokenRefusal::Algorithm),
        (Fault::claim("iss", "https://evil.example/".into()), IdTokenRefusal::Issuer),
        (Fault::claim("aud", "another-client".into()), IdTokenRefusal::Audience),
        (Fault::claim("exp", 1.into()), IdTokenRefusal::Expired),
    ] {
        let session = mock.seed_session().unwrap();
        mock.next_refresh(fault.clone());
        let answer = client.refresh(&RefreshRequest::new(session.refresh_token().into())).await.unwrap();
        match judge(&client, &answer.id_token.unwrap()) {
            IdTokenVerdict::Refused(found) => assert_eq!(found, refusal, "{fault:?}"),
            other => panic!("{fault:?}: {other:?}"),
        }
    }
    let session = mock.seed_session().unwrap();
    mock.next_refresh(Fault::subject("auth0|another"));
    let answer = client.refresh(&RefreshRequest::new(session.refresh_token().into())).await.unwrap();
    let expect = IdTokenExpectations::refreshed(DEMO_SUB);
    let verdict = client.judge_id_token(&answer.id_token.unwrap(), &expect, client.clock().wall());
    assert!(matches!(verdict, IdTokenVerdict::Refused(IdTokenRefusal::Subject)), "{verdict:?}");
}

#[tokio::test]
async fn new_keys_are_found_by_asking_once() {
    let mock = MockAuth0::start().await.unwrap();
    let clock = tokenkeep_clock::ManualClock::at(tokenkeep_clock::SystemClock::shared().wall());
    let client = TokenClient::builder(mock.issuer(), &mock.client_id())
        .clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    client.load_keys().await.unwrap();
    mock.rotate_keys(true).unwrap();
    let id_token = sign_in(&client).await.id_token.unwrap();
    assert!(matches!(judge(&client, &id_token), IdTokenVerdict::KeysNeeded));
    assert!(!client.reload_keys().await.unwrap(), "asked less than a minute ago");
    clock.advance(Duration::from_secs(60));
    assert!(client.reload_keys().await.unwrap());
    assert_eq!(good(judge(&client, &id_token)).subject(), DEMO_SUB);
    assert_eq!(mock.counters().at(Endpoint::Jwks), 2);
}

#[tokio::test]
async fn es256_and_an_issuer_without_a_slash() {
    let mock = MockAuth0::builder().signing(Signing::Es256).issuer_without_slash().start().await.unwrap();
    let client = TokenClient::builder(&format!("{}/", mock.issuer()), &mock.client_id()).build().unwrap();
    let id_token = sign_in(&client).await.id_token.unwrap();
    client.load_keys().await.unwrap();
    assert_eq!(good(judge(&client, &id_token)).issuer(), mock.issuer());
    assert_eq!(client.issuer(), mock.issuer());
}

#[tokio::test]
async fn a_private_ca_is_trusted_when_given_and_only_then() {
    let mock = MockAuth0::builder().tls().start().await.unwrap();
    let pem = mock.ca_pem().unwrap().to_owned();
    let builder = || TokenClient::builder(mock.issuer(), &mock.client_id());
    sign_in(&builder().ca_pem(pem.clone()).build().unwrap()).await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let client = builder().ca_file(&file).build().unwrap();
    let session = mock.seed_session().unwrap();
    client.refresh(&RefreshRequest::new(session.refresh_token().into())).await.unwrap();

    let session = mock.seed_session().unwrap();
    let stranger = builder().build().unwrap();
    stranger.prime(client.cached());
    let error = stranger.refresh(&RefreshRequest::new(session.refresh_token().into())).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown()), (Kind::Unavailable, false), "{error}");
    assert_eq!(mock.counters().presented(session.refresh_token()), 0);
    assert!(error.to_string().contains("certificate"), "{error}");
}
