//! The refresh exchange: what is sent again, when, and what never is.

use std::time::Duration;

use tokenkeep_auth0::{Answer, RefreshRequest, TokenClient, TokenError, TokenErrorKind as Kind};
use tokenkeep_secret::SecretString;

use crate::scripted::{self, Issuer, Step};

const TOKEN: &str = "v1.canary-refresh-token-0123456789";
const GOOD: &str =
    r#"{"access_token":"a2","refresh_token":"r2","id_token":"i2","token_type":"Bearer","expires_in":3600}"#;

fn request() -> RefreshRequest {
    RefreshRequest::new(TOKEN.into())
}

async fn refresh(client: &TokenClient) -> Result<Answer, TokenError> {
    let outcome = client.refresh(&request()).await;
    if let Err(error) = &outcome {
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
    outcome
}

async fn refused(issuer: &Issuer, client: &TokenClient) -> TokenError {
    let error = refresh(client).await.unwrap_err();
    assert_eq!(usize::from(error.attempts()), issuer.token_requests(), "{error}");
    error
}

#[tokio::test]
async fn an_answer_is_handed_over_as_it_came() {
    let headers = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned();
    let issuer = Issuer::start([Step::Answer(200, headers, GOOD.into())]).await;
    let client = issuer.client();
    let mut request = request();
    request.scope = Some("openid a&b".into());
    request.audience = Some("https://api.example".into());
    request.parameters = vec![("device".into(), "a b".into())];
    let answer = client.refresh(&request).await.unwrap();
    assert_eq!(answer.access_token, Some("a2".into()));
    assert_eq!(answer.refresh_token, Some("r2".into()));
    assert_eq!((answer.resent, answer.expires_in), (0, Some(Duration::from_secs(3600))));
    assert_eq!(answer.issuer_date, Some(std::time::UNIX_EPOCH + Duration::from_secs(784_111_777)));
    assert_eq!(answer.boot_id, client.clock().boot_id());
    let seen = issuer.seen("/oauth/token");
    assert_eq!(
        seen[0].body,
        format!(
            "grant_type=refresh_token&refresh_token={TOKEN}&scope=openid+a%26b&audience=https%3A%2F%2Fapi.example&device=a+b&client_id=client-1"
        )
    );
    assert_eq!(seen[0].line, "POST /oauth/token HTTP/1.1");
    assert!(!seen[0].head.to_lowercase().contains("auth0-client"));
    assert_eq!(client.issuer(), format!("{}/", issuer.url), "the issuer's own spelling");
}

// CM-101
#[tokio::test]
async fn a_lost_answer_is_asked_for_again_at_once_and_once_more_a_second_later() {
    for lost in [
        Step::Close,
        Step::Reset,
        Step::Truncate(GOOD.into()),
        Step::status(502, "<html>"),
        Step::status(504, ""),
        Step::ok("<html>welcome to the airport</html>"),
        Step::ok(""),
        Step::ok(r#"{"access_token":"a2""#),
        Step::ok(&format!(r#"{{"access_token":"a2","padding":"{}"}}"#, "x".repeat(1024 * 1024))),
    ] {
        let issuer = Issuer::start([lost.clone(), Step::ok(GOOD)]).await;
        let answer = refresh(&issuer.client()).await.unwrap();
        assert_eq!((answer.resent, issuer.token_requests()), (1, 2), "{lost:?}");
        let seen = issuer.seen("/oauth/token");
        assert_eq!(seen[0].body, seen[1].body, "the same token again");
    }
    let issuer = Issuer::start([Step::Reset, Step::Close, Step::ok(GOOD)]).await;
    assert_eq!(refresh(&issuer.client()).await.unwrap().resent, 2);
    let seen = issuer.seen("/oauth/token");
    assert!(seen[2].at - seen[1].at >= Duration::from_secs(1));
}

// CM-103
#[tokio::test]
async fn three_lost_answers_are_the_end_and_the_token_may_be_spent() {
    let issuer = Issuer::start([Step::Close, Step::Reset, Step::Truncate("{".into()), Step::ok(GOOD)]).await;
    let error = refused(&issuer, &issuer.client()).await;
    assert_eq!((error.kind(), error.attempts(), error.outcome_unknown()), (Kind::Unavailable, 3, true));
    assert!(error.is_transient());

    let html = || Step::ok("<html>canary</html>");
    let issuer = Issuer::start([html(), html(), html(), Step::ok(GOOD)]).await;
    let error = refused(&issuer, &issuer.client()).await;
    assert_eq!((error.kind(), error.status(), error.outcome_unknown()), (Kind::Protocol, Some(200), true));
}

#[tokio::test]
async fn a_silent_issuer_gets_no_second_request() {
    let issuer = Issuer::start([Step::Silence, Step::ok(GOOD)]).await;
    let client = issuer.builder().answer_timeout(Duration::from_secs(2)).build().unwrap();
    client.load_metadata().await.unwrap();
    let error = refused(&issuer, &client).await;
    assert_eq!((error.kind(), error.attempts(), error.outcome_unknown()), (Kind::Unavailable, 1, true));
}

#[tokio::test]
async fn a_slow_issuer_is_waited_for() {
    let issuer = Issuer::start([Step::Late(Duration::from_secs(2), 200, GOOD.into())]).await;
    assert_eq!(refresh(&issuer.client()).await.unwrap().resent, 0);
    assert_eq!(issuer.token_requests(), 1);
}

#[tokio::test]
async fn with_an_overlap_window_a_second_request_goes_out_beside_a_silent_first() {
    let issuer = Issuer::start([Step::Silence, Step::ok(GOOD)]).await;
    let mut request = request();
    request.overlap = Some(Duration::from_secs(2));
    let answer = issuer.client().refresh(&request).await.unwrap();
    assert_eq!((answer.resent, issuer.token_requests()), (1, 2));

    // A refusal of the second is not the last word while the first is out.
    let late = Step::Late(Duration::from_secs(3), 200, GOOD.into());
    let issuer = Issuer::start([late, Step::status(403, r#"{"error":"invalid_grant"}"#)]).await;
    let answer = issuer.client().refresh(&request).await.unwrap();
    assert_eq!((answer.refresh_token, issuer.token_requests()), (Some("r2".into()), 2));

    // Both silent: nothing more.
    let issuer = Issuer::start([Step::Silence, Step::Silence, Step::ok(GOOD)]).await;
    let client = issuer.builder().answer_timeout(Duration::from_secs(3)).build().unwrap();
    let error = client.refresh(&request).await.unwrap_err();
    assert_eq!(
        (error.kind(), issuer.token_requests(), error.outcome_unknown()),
        (Kind::Unavailable, 2, true)
    );
}

#[tokio::test]
async fn the_whole_exchange_has_a_limit() {
    let issuer = Issuer::start([Step::Close, Step::Silence, Step::ok(GOOD)]).await;
    let client = issuer.builder().exchange_limit(Duration::from_secs(2)).build().unwrap();
    let error = refused(&issuer, &client).await;
    assert_eq!((error.kind(), error.attempts()), (Kind::Unavailable, 2));
}

// CM-105
#[tokio::test]
async fn a_429_or_503_waits_as_asked_if_that_fits() {
    let wait = |status, seconds| {
        Step::Answer(status, format!("retry-after: {seconds}\r\n"), r#"{"error":"too_many_requests"}"#.into())
    };
    for status in [429, 503] {
        let issuer = Issuer::start([wait(status, "1"), Step::ok(GOOD)]).await;
        assert_eq!(refresh(&issuer.client()).await.unwrap().resent, 1);
        let seen = issuer.seen("/oauth/token");
        assert!(seen[1].at - seen[0].at >= Duration::from_secs(1));
    }
    for (status, kind) in [(429, Kind::RateLimited), (503, Kind::Unavailable)] {
        let issuer = Issuer::start([wait(status, "3600"), Step::ok(GOOD)]).await;
        let error = refused(&issuer, &issuer.client()).await;
        assert_eq!((error.kind(), error.attempts()), (kind, 1));
        assert_eq!((error.retry_after(), error.outcome_unknown()), (Some(Duration::from_secs(3600)), false));

        let issuer =
            Issuer::start([wait(status, "0"), wait(status, "0"), wait(status, "0"), Step::ok(GOOD)]).await;
        let error = refused(&issuer, &issuer.client()).await;
        assert_eq!((error.kind(), error.attempts(), error.outcome_unknown()), (kind, 3, false));
    }
}

// CM-106, CM-107
#[tokio::test]
async fn a_500_is_tried_again_and_its_text_is_never_final() {
    let denied = || {
        Step::status(500, r#"{"error":"access_denied","error_description":"Global limit has been reached"}"#)
    };
    let issuer = Issuer::start([denied(), Step::ok(GOOD)]).await;
    assert_eq!(refresh(&issuer.client()).await.unwrap().resent, 1);

    let issuer = Issuer::start([denied(), denied(), denied(), Step::ok(GOOD)]).await;
    let error = refused(&issuer, &issuer.client()).await;
    assert_eq!((error.kind(), error.attempts(), error.outcome_unknown()), (Kind::Unavailable, 3, true));
    assert_eq!((error.error(), error.status()), (Some("access_denied"), Some(500)));
}

// CM-109
#[tokio::test]
async fn a_refusal_is_the_answer_and_is_not_asked_for_again() {
    for (status, body, kind) in [
        (401, r#"{"error":"invalid_client"}"#, Kind::Rejected),
        (401, "", Kind::Protocol),
        (
            403,
            r#"{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}"#,
            Kind::InvalidGrant,
        ),
        (400, r#"{"error":"invalid_grant"}"#, Kind::InvalidGrant),
        (403, r#"{"error":"mfa_required","mfa_token":"canary"}"#, Kind::MfaRequired),
        (403, r#"{"error":"access_denied"}"#, Kind::AccessDenied),
        (403, "<html>blocked, canary</html>", Kind::Protocol),
        (403, "", Kind::Protocol),
        (404, "", Kind::Protocol),
        (200, r#"{"error":"invalid_grant"}"#, Kind::Protocol),
    ] {
        let issuer = Issuer::start([Step::status(status, body), Step::ok(GOOD)]).await;
        let error = refused(&issuer, &issuer.client()).await;
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{status} {body}");
        assert_eq!((error.status(), error.outcome_unknown()), (Some(status), false));
    }
}

#[tokio::test]
async fn an_invalid_grant_after_a_lost_answer_says_that_one_was_lost() {
    let issuer = Issuer::start([Step::Close, Step::status(403, r#"{"error":"invalid_grant"}"#)]).await;
    let error = refused(&issuer, &issuer.client()).await;
    assert_eq!((error.kind(), error.attempts(), error.outcome_unknown()), (Kind::InvalidGrant, 2, true));
}

// CM-110
#[tokio::test]
async fn without_retries_there_is_one_request() {
    for step in [Step::Close, Step::status(500, ""), Step::status(429, "")] {
        let issuer = Issuer::start([step, Step::ok(GOOD)]).await;
        let client = issuer.builder().max_retries(0).build().unwrap();
        assert_eq!(refused(&issuer, &client).await.attempts(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let away = Issuer::start([]).await;
    let headers = format!("location: {}/oauth/token\r\n", away.url);
    for status in [301, 302, 303, 307, 308] {
        let issuer = Issuer::start([Step::Answer(status, headers.clone(), String::new())]).await;
        assert_eq!(refused(&issuer, &issuer.client()).await.kind(), Kind::Protocol);
    }
    assert_eq!(away.token_requests(), 0);
}

#[tokio::test]
async fn an_answer_without_an_access_token_is_still_handed_over() {
    let issuer = Issuer::start([Step::ok(r#"{"refresh_token":"r2","expires_in":"soon"}"#)]).await;
    let answer = refresh(&issuer.client()).await.unwrap();
    assert_eq!((answer.access_token, answer.refresh_token), (None, Some("r2".into())));
    assert_eq!(answer.malformed, ["expires_in"]);
}

// CM-102, CM-103
#[tokio::test]
async fn without_a_connection_nothing_was_sent_and_it_is_tried_again() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let client = TokenClient::builder(&format!("http://{address}"), "client-1").build().unwrap();
    client.prime(scripted::cached_for(&format!("http://{address}")));
    let error = client.refresh(&request()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts(), error.outcome_unknown()), (Kind::Unavailable, 3, false));
    assert_eq!(error.status(), None);

    // The issuer comes back while it is tried again.
    let client =
        TokenClient::builder(&format!("http://{address}"), "client-1").max_retries(200).build().unwrap();
    client.prime(scripted::cached_for(&format!("http://{address}")));
    let trying = tokio::spawn(async move { client.refresh(&request()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let back = Issuer::serve(listener, [Step::ok(GOOD)]);
    let answer = trying.await.unwrap().unwrap();
    assert_eq!((answer.resent, back.token_requests()), (0, 1), "what was not sent is not counted as sent");
}

#[tokio::test]
async fn a_token_endpoint_that_moved_is_found_again() {
    let issuer = Issuer::start([Step::ok(GOOD)]).await;
    let client = issuer.client();
    let moved = scripted::discovery(&issuer.url).replace("/oauth/token", "/old/token");
    client.prime(scripted::cached_from(&moved));
    let answer = refresh(&client).await.unwrap();
    assert_eq!((answer.resent, issuer.token_requests()), (1, 1));
    assert_eq!(issuer.seen("/old/token").len(), 1);
}

// The description must not carry the token out.
#[tokio::test]
async fn an_issuer_that_repeats_the_token_is_not_quoted() {
    let body = format!(r#"{{"error":"invalid_grant","error_description":"token {TOKEN} is dead"}}"#);
    let issuer = Issuer::start([Step::status(403, &body)]).await;
    let error = refused(&issuer, &issuer.client()).await;
    assert_eq!(error.kind(), Kind::InvalidGrant);
    assert_eq!(error.error_description(), Some("[withheld: it repeated a secret]"));
}

#[tokio::test]
async fn the_client_secret_goes_where_it_belongs() {
    use tokenkeep_auth0::ClientAuthentication;
    let secret = || SecretString::from("s&cret");
    let issuer = Issuer::start([Step::ok(GOOD), Step::ok(GOOD)]).await;
    let basic =
        issuer.builder().client_authentication(ClientAuthentication::Basic(secret())).build().unwrap();
    let post = issuer.builder().client_authentication(ClientAuthentication::Post(secret())).build().unwrap();
    refresh(&basic).await.unwrap();
    refresh(&post).await.unwrap();
    let seen = issuer.seen("/oauth/token");
    // "client-1:s%26cret"
    assert!(seen[0].head.contains("authorization: Basic Y2xpZW50LTE6cyUyNmNyZXQ="), "{}", seen[0].head);
    assert!(!seen[0].body.contains("client_id"));
    assert!(seen[1].body.ends_with("&client_id=client-1&client_secret=s%26cret"));
    assert!(!seen[1].head.contains("authorization"));
}
