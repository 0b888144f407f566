//! The server itself: its thread, its clock, its port, TLS.

use std::time::Duration;

use mock_auth0::MockAuth0;

use crate::support::{claims, client, get, until};

#[test]
fn it_answers_while_the_callers_runtime_is_blocked() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockAuth0::start()).unwrap();
    // No runtime is polled here.
    let answer = std::thread::scope(|scope| {
        let ask = scope.spawn(|| {
            let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            own.block_on(get(&mock, "/.well-known/jwks.json", None)).status
        });
        ask.join().unwrap()
    });
    assert_eq!(answer, 200);
}

#[test]
fn it_stops_when_dropped() {
    let mock = MockAuth0::start_blocking().unwrap();
    let domain = mock.domain().to_owned();
    std::net::TcpStream::connect(&domain).unwrap();
    drop(mock);
    assert!(std::net::TcpStream::connect(&domain).is_err());
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let mock = MockAuth0::start_blocking().unwrap();
    let port = mock.domain().rsplit_once(':').unwrap().1.parse().unwrap();
    let error = MockAuth0::builder().port(port).start_blocking().unwrap_err();
    assert!(error.to_string().contains(mock.domain()), "{error}");
}

#[tokio::test]
async fn it_goes_down_and_comes_up_on_the_same_port_with_all_it_knew() {
    let mock = MockAuth0::start().await.unwrap();
    let tokens = mock.seed_session().unwrap();
    mock.go_down();
    until("nobody listens", || std::net::TcpStream::connect(mock.domain()).is_err()).await;
    assert!(client().get(mock.url("/api/x")).send().await.unwrap_err().is_connect());
    mock.come_up();
    until("it listens", || std::net::TcpStream::connect(mock.domain()).is_ok()).await;
    assert_eq!(get(&mock, "/api/x", Some(&tokens.access_token)).await.status, 200);
}

#[tokio::test]
async fn its_clock_moves_what_it_issues_and_the_date_it_tells() {
    let mock = MockAuth0::start().await.unwrap();
    let before = mock.seed_session().unwrap();
    mock.advance(Duration::from_secs(86_400));
    let after = mock.seed_session().unwrap();
    let iat = |token: &str| claims(token)["iat"].as_i64().unwrap();
    let moved = iat(&after.access_token) - iat(&before.access_token);
    assert!((86_400..86_460).contains(&moved), "{moved}");
    let date = get(&mock, "/.well-known/jwks.json", None).await;
    let told = httpdate::parse_http_date(date.header("date").unwrap()).unwrap();
    let told = told.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(told.abs_diff(u64::try_from(mock.now()).unwrap()) < 60);
    mock.set_clock_offset_ms(0);
    assert!(mock.now() < iat(&after.access_token));
}

#[tokio::test]
async fn an_issuer_can_do_without_its_slash() {
    let mock = MockAuth0::builder().issuer_without_slash().host("localhost").start().await.unwrap();
    assert_eq!(mock.issuer(), format!("http://{}", mock.domain()));
    assert!(mock.domain().starts_with("localhost:"));
    let discovery = get(&mock, "/.well-known/openid-configuration", None).await.json();
    assert_eq!(discovery["issuer"], mock.issuer());
    assert_eq!(discovery["jwks_uri"], format!("{}/.well-known/jwks.json", mock.issuer()));
}

#[tokio::test]
async fn tls_is_trusted_by_its_ca_alone() {
    let mock = MockAuth0::builder().tls().start().await.unwrap();
    assert!(mock.issuer().starts_with("https://"));
    let ca = reqwest::Certificate::from_pem(mock.ca_pem().unwrap().as_bytes()).unwrap();
    let trusting = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let answer = trusting.get(mock.url("/.well-known/openid-configuration")).send().await.unwrap();
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["issuer"], mock.issuer());
    assert!(client().get(mock.url("/")).send().await.is_err());
    assert!(MockAuth0::start().await.unwrap().ca_pem().is_none());
}
