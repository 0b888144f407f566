//! The grants other than refresh.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenkeep_auth0::{
    ClientAuthentication, ClientCredentials, Device, DevicePrompt, Flow, Grant, Password, SignInRequest,
    TokenClient, TokenErrorKind as Kind,
};

use crate::scripted::{Issuer, Step};

const GOOD: &str = r#"{"access_token":"a1","refresh_token":"r1","token_type":"Bearer","expires_in":60}"#;
const CODE: &str = r#"{"device_code":"canary-device-code-0123456789","user_code":"ABCD-EFGH",
    "verification_uri":"https://i.example/activate","expires_in":900,"interval":1}"#;

fn pending() -> Step {
    Step::status(
        403,
        r#"{"error":"authorization_pending","error_description":"User has yet to authorize device code."}"#,
    )
}

/// A device grant, and what it showed.
fn device() -> (Device, Arc<Mutex<Vec<DevicePrompt>>>) {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let prompts = Arc::clone(&shown);
    (Device::new(move |prompt: &DevicePrompt| prompts.lock().unwrap().push(prompt.clone())), shown)
}

async fn with_code(code: &str, script: impl IntoIterator<Item = Step>) -> Issuer {
    let issuer = Issuer::start(script).await;
    issuer.page("/oauth/device/code", 200, code);
    issuer
}

#[tokio::test]
async fn a_device_code_is_shown_and_asked_for_until_it_is_confirmed() {
    let (grant, shown) = device();
    assert_eq!(grant.flow(), Flow::Device);
    let issuer = with_code(
        CODE,
        [pending(), Step::status(400, r#"{"error":"authorization_pending"}"#), Step::ok(GOOD)],
    )
    .await;
    let request = SignInRequest::new("openid offline_access").audience("api");
    let answer = issuer.client().sign_in(&grant, &request).await.unwrap();
    assert_eq!(answer.refresh_token, Some("r1".into()));
    let asked = issuer.seen("/oauth/device/code");
    assert_eq!(asked[0].body, "scope=openid+offline_access&audience=api&client_id=client-1");
    let polls = issuer.seen("/oauth/token");
    assert_eq!(polls.len(), 3);
    assert_eq!(
        polls[0].body,
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=canary-device-code-0123456789&client_id=client-1"
    );
    assert!(polls[1].at - polls[0].at >= Duration::from_secs(1), "no faster than the interval");
    let shown = shown.lock().unwrap();
    assert_eq!((shown.len(), shown[0].user_code.as_str()), (1, "ABCD-EFGH"));
    assert_eq!(shown[0].expires_in, Duration::from_secs(900));
}

#[tokio::test]
async fn a_network_that_fails_is_no_end_of_the_sign_in() {
    let (grant, _) = device();
    let issuer = with_code(CODE, [Step::Reset, Step::status(500, "<html>"), Step::ok(GOOD)]).await;
    issuer.client().sign_in(&grant, &SignInRequest::new("openid")).await.unwrap();
    assert_eq!(issuer.token_requests(), 3);
}

#[tokio::test]
async fn each_end_of_a_device_code_has_its_kind() {
    let sign_in = async |code: &str, script: Vec<Step>| {
        let (grant, _) = device();
        let issuer = with_code(code, script).await;
        let error = issuer.client().sign_in(&grant, &SignInRequest::new("openid")).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
        (error.kind(), error.attempts())
    };
    let ends = async |status, body| sign_in(CODE, vec![pending(), Step::status(status, body)]).await;
    // Two seconds of life and one between questions: it runs out while nobody answers.
    let short = CODE.replace("900", "2");
    let outcomes = tokio::join!(
        ends(403, r#"{"error":"expired_token"}"#),
        ends(403, r#"{"error":"access_denied","error_description":"User cancelled"}"#),
        ends(403, r#"{"error":"invalid_grant"}"#),
        ends(401, r#"{"error":"invalid_client"}"#),
        sign_in(&short, vec![pending(), pending(), pending()]),
    );
    assert_eq!(outcomes.0, (Kind::ExpiredCode, 2));
    assert_eq!(outcomes.1, (Kind::AccessDenied, 2));
    assert_eq!(outcomes.2, (Kind::InvalidGrant, 2));
    assert_eq!(outcomes.3, (Kind::Rejected, 2));
    assert_eq!(outcomes.4.0, Kind::ExpiredCode);
}

#[tokio::test]
async fn an_issuer_without_device_codes_says_so() {
    let issuer = Issuer::start([]).await;
    let (grant, shown) = device();
    let without = crate::scripted::discovery(&issuer.url).replace("device_authorization_endpoint", "other");
    issuer.page("/.well-known/openid-configuration", 200, without);
    let error = issuer.client().sign_in(&grant, &SignInRequest::new("openid")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Kind::Unsupported, 0));
    assert!(shown.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_password_goes_with_or_without_a_realm() {
    let issuer = Issuer::start([Step::ok(GOOD), Step::ok(GOOD)]).await;
    let client = issuer.client();
    let password = Password::new("ada@example.com", "p&ss".into());
    assert_eq!(password.flow(), Flow::Password);
    let request = SignInRequest::new("openid");
    client.sign_in(&password, &request).await.unwrap();
    client.sign_in(&password.clone().realm(Some("staff".into())), &request).await.unwrap();
    let seen = issuer.seen("/oauth/token");
    assert_eq!(
        seen[0].body,
        "grant_type=password&username=ada%40example.com&password=p%26ss&scope=openid&client_id=client-1"
    );
    assert!(seen[1].body.starts_with(
        "grant_type=http%3A%2F%2Fauth0.com%2Foauth%2Fgrant-type%2Fpassword-realm&realm=staff&username="
    ));
    assert!(!format!("{password:?}").contains("p&ss"));
}

#[tokio::test]
async fn a_wrong_password_is_asked_once_and_mfa_is_told() {
    let wrong =
        Step::status(403, r#"{"error":"invalid_grant","error_description":"Wrong email or password."}"#);
    let mfa = Step::status(403, r#"{"error":"mfa_required","mfa_token":"m"}"#);
    let issuer = Issuer::start([wrong, mfa]).await;
    let password = Password::new("ada", "wrong".into());
    let error = issuer.client().sign_in(&password, &SignInRequest::default()).await.unwrap_err();
    assert_eq!((error.kind(), issuer.token_requests()), (Kind::InvalidGrant, 1));
    assert_eq!(error.error_description(), Some("Wrong email or password."));
    let error = issuer.client().sign_in(&password, &SignInRequest::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.mfa_token()), (Kind::MfaRequired, Some(&"m".into())));
}

#[tokio::test]
async fn client_credentials_need_a_secret_and_are_repeated_after_a_failure_that_passes() {
    let issuer = Issuer::start([
        Step::status(500, ""),
        Step::Close,
        Step::ok(r#"{"access_token":"a1","expires_in":60}"#),
    ])
    .await;
    let grant = ClientCredentials::new();
    assert_eq!(grant.flow(), Flow::ClientCredentials);
    let request = SignInRequest::new("").audience("api").parameter("organization", "org_1");
    let error = issuer.client().sign_in(&grant, &request).await.unwrap_err();
    assert_eq!((error.kind(), issuer.token_requests()), (Kind::Configuration, 0));
    let client =
        issuer.builder().client_authentication(ClientAuthentication::Post("s".into())).build().unwrap();
    let answer = client.sign_in(&grant, &request).await.unwrap();
    assert_eq!((answer.access_token, answer.refresh_token), (Some("a1".into()), None));
    let seen = issuer.seen("/oauth/token");
    assert_eq!(seen.len(), 3);
    assert_eq!(
        seen[2].body,
        "grant_type=client_credentials&audience=api&organization=org_1&client_id=client-1&client_secret=s"
    );
}

#[tokio::test]
async fn a_reserved_parameter_is_refused_before_anything_is_sent() {
    let issuer = Issuer::start([]).await;
    let client = issuer.client();
    let request = SignInRequest::new("openid").parameter("grant_type", "other");
    let error = client.sign_in(&Password::new("a", "b".into()), &request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    let mut refresh = tokenkeep_auth0::RefreshRequest::new("r".into());
    refresh.parameters.push(("refresh_token".into(), "other".into()));
    assert_eq!(client.refresh(&refresh).await.unwrap_err().kind(), Kind::Configuration);
    assert_eq!(issuer.token_requests(), 0);
}

#[tokio::test]
async fn grants_work_behind_a_dyn() {
    let issuer = Issuer::start([Step::ok(GOOD)]).await;
    let grant: Box<dyn Grant> = Box::new(Password::new("a", "b".into()));
    let client: TokenClient = issuer.client();
    client.sign_in(&*grant, &SignInRequest::default()).await.unwrap();
}
