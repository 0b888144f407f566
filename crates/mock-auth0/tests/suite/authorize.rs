//! The code flow: `/authorize`, its login page, and the code at the token endpoint.

use mock_auth0::{DEMO_USER, MockAuth0};

use crate::support::{Got, claims, get, post};

// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const BACK: &str = "http://127.0.0.1:49152/callback";

async fn ask(mock: &MockAuth0, change: &[(&str, &str)]) -> Got {
    let id = mock.client_id();
    let mut query: Vec<(&str, &str)> = vec![
        ("response_type", "code"),
        ("client_id", &id),
        ("redirect_uri", BACK),
        ("state", "s&t"),
        ("nonce", "n-1"),
        ("scope", "openid offline_access"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    query.retain(|(name, _)| change.iter().all(|(changed, _)| changed != name));
    query.extend(change.iter().filter(|(_, value)| !value.is_empty()));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    get(mock, &format!("/authorize?{query}"), None).await
}

/// The parameters that the application gets back.
fn returned(got: &Got) -> Vec<(String, String)> {
    assert_eq!(got.status, 303, "{}", got.text);
    let url = url::Url::parse(got.header("location").unwrap()).unwrap();
    assert_eq!(url.port(), Some(49152));
    url.query_pairs().into_owned().collect()
}

async fn code(mock: &MockAuth0) -> String {
    let page = ask(mock, &[]).await;
    let ticket = page.text.split_once("name=ticket value=\"").unwrap().1.split_once('"').unwrap().0;
    let form =
        [("ticket", ticket), ("username", DEMO_USER.0), ("password", DEMO_USER.1), ("action", "login")];
    let back = returned(&post(mock, "/authorize/login", &form).await);
    assert_eq!(back[1], ("state".to_owned(), "s&t".to_owned()));
    assert_eq!(back[0].0, "code");
    back[0].1.clone()
}

async fn redeem(mock: &MockAuth0, code: &str, verifier: &str, back: &str) -> Got {
    let id = mock.client_id();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", &*id),
        ("code", code),
        ("code_verifier", verifier),
        ("redirect_uri", back),
    ];
    post(mock, "/oauth/token", &form).await
}

#[tokio::test]
async fn a_person_signs_in_and_the_application_gets_tokens_once() {
    let mock = MockAuth0::start().await.unwrap();
    let first = code(&mock).await;
    let got = redeem(&mock, &first, VERIFIER, BACK).await;
    assert_eq!(got.status, 200);
    let set = got.json();
    assert_eq!(claims(set["id_token"].as_str().unwrap())["nonce"], "n-1");
    let refresh_token = set["refresh_token"].as_str().unwrap();
    assert!(mock.is_alive(refresh_token));
    // Reuse of the code takes back what it gave (RFC 6749, 4.1.2).
    assert_eq!(redeem(&mock, &first, VERIFIER, BACK).await.error(), (403, "invalid_grant".to_owned()));
    assert!(!mock.is_alive(refresh_token));
}

#[tokio::test]
async fn a_wrong_verifier_or_redirect_gets_nothing() {
    let mock = MockAuth0::start().await.unwrap();
    let wrong = VERIFIER.replace('d', "e");
    for (verifier, back) in [(&*wrong, BACK), ("", BACK), (VERIFIER, "http://127.0.0.1:1/callback")] {
        let code = code(&mock).await;
        assert_eq!(redeem(&mock, &code, verifier, back).await.error(), (403, "invalid_grant".to_owned()));
    }
    assert!(mock.counters().effects.is_empty());
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_is_not_registered() {
    let mock = MockAuth0::start().await.unwrap();
    for change in [
        ("redirect_uri", "https://evil.example/callback"),
        ("redirect_uri", ""),
        ("client_id", "nobody"),
        ("client_id", ""),
    ] {
        let got = ask(&mock, &[change]).await;
        assert_eq!(got.status, 400, "{change:?}");
        assert!(got.header("location").is_none());
    }
}

#[tokio::test]
async fn other_mistakes_go_back_to_the_application() {
    let mock = MockAuth0::start().await.unwrap();
    for (change, error) in [
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("audience", "https://nowhere.example"), "access_denied"),
        (("prompt", "none"), "login_required"),
    ] {
        let back = returned(&ask(&mock, &[change]).await);
        assert_eq!(back[0], ("error".to_owned(), error.to_owned()), "{change:?}");
    }
}

#[tokio::test]
async fn a_person_can_cancel_and_can_mistype() {
    let mock = MockAuth0::start().await.unwrap();
    let page = ask(&mock, &[]).await;
    let ticket = |page: &Got| {
        page.text.split_once("name=ticket value=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
    };
    let wrong = [("ticket", &*ticket(&page)), ("username", DEMO_USER.0), ("password", "wrong")];
    let again = post(&mock, "/authorize/login", &wrong).await;
    assert_eq!(again.status, 400);
    let cancel = [("ticket", &*ticket(&again)), ("action", "deny")];
    let back = returned(&post(&mock, "/authorize/login", &cancel).await);
    assert_eq!(back[0], ("error".to_owned(), "access_denied".to_owned()));
    assert_eq!(post(&mock, "/authorize/login", &cancel).await.status, 400, "a form is good once");
}
