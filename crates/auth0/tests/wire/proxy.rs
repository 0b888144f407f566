//! Proxies of the environment. A test sets variables by running itself again: a process must not change its own while
//! other threads run.

use std::process::Command;

use tokenkeep_auth0::{RefreshRequest, TokenClient, TokenErrorKind as Kind};

use crate::scripted::{self, Issuer, Step};

/// Names the issuer to the process that runs with the proxy set.
const ISSUER: &str = "TOKENKEEP_WIRE_TEST_ISSUER";

/// Runs the test `name` again with `proxy` for everything, and gives what it printed.
async fn again(name: &str, issuer: &str, proxy: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(ISSUER, issuer);
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(variable, proxy);
    }
    command.env_remove("no_proxy").env_remove("NO_PROXY");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test]
async fn plain_http_stays_on_this_machine() {
    if let Ok(issuer) = std::env::var(ISSUER) {
        let client = TokenClient::builder(&issuer, "client-1").build().unwrap();
        let answer = client.refresh(&RefreshRequest::new("r1".into())).await.unwrap();
        println!("got {:?}", answer.refresh_token.unwrap().expose());
        return;
    }
    let issuer = Issuer::start([Step::ok(r#"{"access_token":"a2","refresh_token":"r2"}"#)]).await;
    let proxy = Issuer::start([]).await;
    let printed = again("proxy::plain_http_stays_on_this_machine", &issuer.url, &proxy.url).await;
    assert!(printed.contains(r#"got "r2""#), "{printed}");
    assert_eq!((issuer.token_requests(), proxy.all().len()), (1, 0));
}

#[tokio::test]
async fn https_goes_through_the_proxy_and_one_that_refuses_means_nothing_was_sent() {
    if let Ok(issuer) = std::env::var(ISSUER) {
        let client = TokenClient::builder(&issuer, "client-1").build().unwrap();
        client.prime(scripted::cached_for(&issuer));
        let error = client.refresh(&RefreshRequest::new("r1".into())).await.unwrap_err();
        println!("got {:?} {}", error.kind() == Kind::Unavailable, error.outcome_unknown());
        return;
    }
    let proxy = Issuer::start([]).await;
    let name = "proxy::https_goes_through_the_proxy_and_one_that_refuses_means_nothing_was_sent";
    let printed = again(name, "https://issuer.example", &proxy.url).await;
    assert!(printed.contains("got true false"), "{printed}");
    let seen = proxy.all();
    assert!(
        !seen.is_empty() && seen.iter().all(|request| request.line == "CONNECT issuer.example:443 HTTP/1.1")
    );
}
