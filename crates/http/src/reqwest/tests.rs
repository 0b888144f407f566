//! The middleware against a real server, with a stand-in for the session.

use http::StatusCode;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};

use super::*;
use crate::stand_in::{Api, StandIn, answer, late, stream};

#[derive(Clone, Debug)]
struct Under {
    tokens: StandIn,
    origins: Origins,
}

#[async_trait]
impl Middleware for Under {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        send(&self.tokens, &self.origins, request, extensions, next).await
    }
}

fn client_of(tokens: &StandIn, origins: Origins) -> ClientWithMiddleware {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    ClientBuilder::new(client).with(Under { tokens: tokens.clone(), origins }).build()
}

#[tokio::test]
async fn a_request_to_a_served_origin_carries_the_token() {
    let api = Api::start(|_| answer(200, &[], "")).await;
    let tokens = StandIn::new();
    let response = client_of(&tokens, api.origins()).get(api.url("/a?b=c")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(api.authorizations(), ["Bearer token-1"]);
    assert!(tokens.rejected().is_empty());
}

#[tokio::test]
async fn no_other_origin_gets_it_and_its_401_renews_nothing() {
    let served = Api::start(|_| answer(200, &[], "")).await;
    let other = Api::start(|_| answer(401, &[], "who are you")).await;
    let tokens = StandIn::new();
    let response = client_of(&tokens, served.origins()).get(other.url("/")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.text().await.unwrap(), "who are you");
    assert_eq!(other.authorizations(), [""]);
    assert!(tokens.rejected().is_empty());
}

#[tokio::test]
async fn a_request_with_its_own_authorization_is_left_alone() {
    let api = Api::start(|_| answer(401, &[], "")).await;
    let tokens = StandIn::new();
    let client = client_of(&tokens, api.origins());
    let response = client.get(api.url("/")).header("Authorization", "Basic YTpi").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.authorizations(), ["Basic YTpi"]);
    assert!(tokens.rejected().is_empty());
}

#[tokio::test]
async fn a_401_renews_and_the_same_request_is_sent_once_more() {
    let api = Api::expired().await;
    let tokens = StandIn::new();
    let client = client_of(&tokens, api.origins());
    let request = client.put(api.url("/things/1?x=y|z")).header("X-Trace", "t").body("the body");
    let response = request.send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "welcome");
    assert_eq!(api.authorizations(), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(tokens.rejected(), ["token-1"]);
    for request in api.seen() {
        assert_eq!((request.method.as_str(), &*request.body), ("PUT", &b"the body"[..]));
        assert_eq!(request.uri, "/things/1?x=y|z");
        assert_eq!(request.headers["x-trace"], "t");
        assert_eq!(request.headers.get_all("authorization").iter().count(), 1);
    }
}

#[tokio::test]
async fn the_rest_of_a_short_401_is_read_so_that_its_connection_serves_the_retry() {
    let api = Api::start(late).await;
    let response = client_of(&StandIn::new(), api.origins()).get(api.url("/")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let seen = api.seen();
    assert_eq!(seen[0].peer, seen[1].peer);
}

#[tokio::test]
async fn a_fresh_token_that_is_rejected_too_is_the_apis_answer() {
    let api = Api::start(|seen| answer(401, &[], seen.authorization().to_owned())).await;
    let tokens = StandIn::new();
    let response = client_of(&tokens, api.origins()).get(api.url("/")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.text().await.unwrap(), "Bearer token-2");
    assert_eq!(api.authorizations(), ["Bearer token-1", "Bearer token-2"], "exactly one retry");
    assert_eq!(tokens.rejected(), ["token-1"]);
}

#[tokio::test]
async fn answers_that_no_other_token_can_help_are_passed_on_whole() {
    let api = Api::start(|seen| {
        let challenge = seen.uri.path().strip_prefix("/401/").map(|path| path.replace('+', " "));
        match challenge {
            Some(challenge) => answer(401, &[("www-authenticate", &challenge)], "why"),
            None => answer(403, &[("www-authenticate", "Bearer error=\"invalid_token\"")], "why"),
        }
    })
    .await;
    let tokens = StandIn::new();
    let client = client_of(&tokens, api.origins());
    for path in ["/401/Bearer+error=insufficient_scope", "/401/Basic+realm=x", "/401/DPoP", "/403"] {
        let response = client.get(api.url(path)).send().await.unwrap();
        assert!(matches!(response.status().as_u16(), 401 | 403));
        assert_eq!(response.text().await.unwrap(), "why", "{path}");
    }
    assert_eq!(api.seen().len(), 4);
    assert!(tokens.rejected().is_empty());
}

#[tokio::test]
async fn challenges_in_several_headers_are_all_read() {
    let api = Api::start(|seen| match seen.authorization() {
        "Bearer token-1" => {
            answer(401, &[("www-authenticate", "Basic realm=\"a, b\""), ("www-authenticate", "bearer")], "")
        }
        _ => answer(204, &[], ""),
    })
    .await;
    let response = client_of(&StandIn::new(), api.origins()).get(api.url("/")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_stream_is_not_sent_again_but_the_next_request_has_the_new_token() {
    let api = Api::expired().await;
    let tokens = StandIn::new();
    let client = client_of(&tokens, api.origins());
    let request = client.post(api.url("/")).body(reqwest::Body::wrap(stream("once")));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.text().await.unwrap(), "old token");
    assert_eq!(&*api.seen()[0].body, b"once");
    assert_eq!(tokens.rejected(), ["token-1"]);
    assert_eq!(client.post(api.url("/")).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(api.authorizations(), ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test]
async fn where_there_is_no_better_token_the_401_is_passed_on_whole() {
    let api = Api::expired().await;
    let tokens = StandIn::new();
    tokens.make_last();
    let response = client_of(&tokens, api.origins()).get(api.url("/")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.text().await.unwrap(), "old token");
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_session_that_has_ended_fails_the_request_with_the_reason() {
    let api = Api::expired().await;
    let tokens = StandIn::new();
    tokens.kill();
    let error = client_of(&tokens, api.origins()).get(api.url("/")).send().await.unwrap_err();
    assert!(crate::login_required(&error).is_some());
    assert!(!format!("{error:?}").contains("token-1"));
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn a_long_401_does_not_stand_in_the_way() {
    let api = Api::start(|seen| match seen.authorization() {
        "Bearer token-1" => answer(401, &[], vec![b'x'; 4 * 1024 * 1024]),
        _ => answer(200, &[], "welcome"),
    })
    .await;
    let response = client_of(&StandIn::new(), api.origins()).get(api.url("/")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "welcome");
}

/// A server that redirects to `to` whatever it gets with a token.
async fn redirecting(status: u16, to: String) -> Api {
    Api::start(move |_| answer(status, &[("location", &to)], "")).await
}

#[tokio::test]
async fn a_redirect_to_another_port_does_not_carry_the_token() {
    let target = Api::start(|_| answer(401, &[], "target")).await;
    for status in [301, 302, 303, 307, 308] {
        let before = target.seen().len();
        let api = redirecting(status, target.url("/elsewhere")).await;
        let tokens = StandIn::new();
        let response = client_of(&tokens, api.origins()).post(api.url("/")).body("b").send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "target");
        assert_eq!(api.authorizations(), ["Bearer token-1"]);
        assert_eq!(target.authorizations()[before..], [""], "{status}");
        // The token was never shown to who answered 401.
        assert!(tokens.rejected().is_empty());
    }
}

#[tokio::test]
async fn a_redirect_to_another_name_of_the_same_server_does_not_carry_the_token() {
    let api = Api::start(|seen| match seen.headers["host"].to_str().unwrap().split_once(':').unwrap() {
        ("127.0.0.1", port) => answer(302, &[("location", &format!("http://localhost:{port}/"))], ""),
        _ => answer(200, &[], "by name"),
    })
    .await;
    let response = client_of(&StandIn::new(), api.origins()).get(api.url("/")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "by name");
    assert_eq!(api.authorizations(), ["Bearer token-1", ""]);
}

#[tokio::test]
async fn a_redirect_within_the_origin_carries_it_and_is_followed_again_after_a_401() {
    let api = Api::start(|seen| match (seen.uri.path(), seen.authorization()) {
        ("/start", _) => answer(302, &[("location", "/end")], ""),
        (_, "Bearer token-1") => answer(401, &[], "old token"),
        _ => answer(200, &[], "welcome"),
    })
    .await;
    let response = client_of(&StandIn::new(), api.origins()).get(api.url("/start")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "welcome");
    let paths: Vec<String> = api.seen().iter().map(|seen| seen.uri.to_string()).collect();
    assert_eq!(paths, ["/start", "/end", "/start", "/end"]);
}

#[tokio::test]
async fn a_post_that_was_redirected_is_not_sent_twice() {
    let api = Api::start(|seen| match (seen.uri.path(), seen.authorization()) {
        ("/orders", _) => answer(303, &[("location", "/orders/1")], ""),
        (_, "Bearer token-1") => answer(401, &[], "old token"),
        _ => answer(200, &[], "welcome"),
    })
    .await;
    let tokens = StandIn::new();
    let client = client_of(&tokens, api.origins());
    let response = client.post(api.url("/orders")).body("one of these").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(tokens.rejected(), ["token-1"]);
    let posts = api.seen().iter().filter(|seen| seen.method == Method::POST).count();
    assert_eq!(posts, 1);
    assert_eq!(client.get(api.url("/orders/1")).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_fragment_is_no_redirect() {
    let api = Api::expired().await;
    let client = client_of(&StandIn::new(), api.origins());
    assert_eq!(client.post(api.url("/a#b")).body("b").send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_proxy_gets_nothing_that_is_meant_for_loopback() {
    let api = Api::start(|_| answer(200, &[], "api")).await;
    let proxy = Api::start(|_| answer(200, &[], "proxy")).await;
    let tokens = StandIn::new();
    let through_proxy =
        reqwest::Client::builder().proxy(reqwest::Proxy::all(&proxy.origin).unwrap()).build().unwrap();
    let http = ClientBuilder::new(through_proxy)
        .with(Under { tokens: tokens.clone(), origins: api.origins() })
        .with(Direct::new(api.origins()).unwrap())
        .build();
    assert_eq!(http.get(api.url("/")).send().await.unwrap().text().await.unwrap(), "api");
    assert_eq!(api.authorizations(), ["Bearer token-1"]);
    assert!(proxy.seen().is_empty());
    // Everything else goes the way it was told to, without a token.
    assert_eq!(http.get("http://other.test/").send().await.unwrap().text().await.unwrap(), "proxy");
    assert_eq!(proxy.authorizations(), [""]);
}
