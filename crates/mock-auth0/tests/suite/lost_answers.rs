//! Statuses in place of answers: rate limits, gateways, redirects, OAuth errors.

use mock_auth0::{BadAnswer, BadBody, Endpoint, Fault, FaultRule, MockAuth0, RetryAfter};

use crate::support::{Got, get, refresh};

async fn with(mock: &MockAuth0, answer: BadAnswer) -> Got {
    let token = mock.seed_session().unwrap().refresh_token.unwrap();
    mock.next_refresh(Fault::instead(answer));
    let got = refresh(mock, &token).await.unwrap();
    assert!(mock.is_alive(&token), "the request was not processed");
    got
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let mock = MockAuth0::start().await.unwrap();
    let got = with(&mock, BadAnswer::RateLimited { retry_after: RetryAfter::Seconds(7) }).await;
    assert_eq!(got.error(), (429, "too_many_requests".to_owned()));
    assert_eq!(got.header("retry-after"), Some("7"));
    assert_eq!(got.header("x-ratelimit-remaining"), Some("0"));
    assert!(got.header("x-ratelimit-limit").is_some() && got.header("x-ratelimit-reset").is_some());

    mock.set_clock_offset_ms(0);
    let dated = with(&mock, BadAnswer::RateLimited { retry_after: RetryAfter::DateIn(3600) }).await;
    let seconds = |name: &str| {
        let time = httpdate::parse_http_date(dated.header(name).unwrap()).unwrap();
        time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    assert!((3599..=3601).contains(&(seconds("retry-after") - seconds("date"))));
    let text = with(&mock, BadAnswer::RateLimited { retry_after: RetryAfter::Text("soon".to_owned()) }).await;
    assert_eq!(text.header("retry-after"), Some("soon"));
    let none = with(&mock, BadAnswer::RateLimited { retry_after: RetryAfter::Absent }).await;
    assert_eq!(none.header("retry-after"), None);
    let busy = BadAnswer::RetryLater { status: 503, retry_after: RetryAfter::Seconds(2) };
    let got = with(&mock, busy).await;
    assert_eq!((got.status, got.header("retry-after")), (503, Some("2")));
}

#[tokio::test]
async fn any_status_comes_with_json_html_or_nothing() {
    let mock = MockAuth0::start().await.unwrap();
    for status in [500, 502, 503, 504] {
        let json = with(&mock, BadAnswer::Status { status, body: BadBody::Json }).await;
        assert_eq!(json.error(), (status, "server_error".to_owned()));
        let html = with(&mock, BadAnswer::Status { status, body: BadBody::Html }).await;
        assert_eq!(html.status, status);
        assert!(
            html.header("content-type").unwrap().starts_with("text/html") && html.text.contains("<html>")
        );
        let empty = with(&mock, BadAnswer::Status { status, body: BadBody::Empty }).await;
        assert_eq!((empty.status, empty.text.as_str()), (status, ""));
    }
    let global = BadAnswer::OAuth {
        status: 500,
        error: "access_denied".to_owned(),
        description: "Global limit has been reached".to_owned(),
    };
    let got = with(&mock, global).await;
    assert_eq!(got.error(), (500, "access_denied".to_owned()));
    assert_eq!(got.json()["error_description"], "Global limit has been reached");
    let away = BadAnswer::Redirect { status: 302, to: "http://elsewhere.example/".to_owned() };
    let got = with(&mock, away).await;
    assert_eq!((got.status, got.header("location")), (302, Some("http://elsewhere.example/")));
}

#[tokio::test]
async fn an_error_after_the_grant_took_effect_spends_the_token() {
    let mock = MockAuth0::start().await.unwrap();
    let token = mock.seed_session().unwrap().refresh_token.unwrap();
    mock.next_refresh(Fault::after(BadAnswer::Status { status: 502, body: BadBody::Html }));
    assert_eq!(refresh(&mock, &token).await.unwrap().status, 502);
    assert!(!mock.is_alive(&token));
    let record = &mock.requests()[0];
    assert!(record.effect);
    assert_eq!(
        (record.outcome.as_deref(), record.faults.as_slice()),
        (Some("502"), &["after".to_owned()][..])
    );
}

#[tokio::test]
async fn faults_hit_any_endpoint_and_are_cleared() {
    let mock = MockAuth0::start().await.unwrap();
    let down = Fault::instead(BadAnswer::Status { status: 503, body: BadBody::Empty });
    let id = mock.add_fault(FaultRule::new(down.clone()).at(Endpoint::Jwks).always());
    mock.add_fault(FaultRule::new(down).at(Endpoint::Userinfo).always());
    for _ in 0..2 {
        assert_eq!(get(&mock, "/.well-known/jwks.json", None).await.status, 503);
    }
    assert_eq!(get(&mock, "/.well-known/openid-configuration", None).await.status, 200);
    assert_eq!(mock.faults()[0].hits, 2);
    mock.clear_fault(id);
    assert_eq!(get(&mock, "/.well-known/jwks.json", None).await.status, 200);
    assert_eq!(get(&mock, "/userinfo", None).await.status, 503);
    mock.clear_faults();
    assert_eq!(get(&mock, "/userinfo", None).await.status, 401);
}
