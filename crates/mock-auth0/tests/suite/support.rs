//! A plain HTTP client for the suites, which knows nothing of OAuth.

use std::time::Duration;

use mock_auth0::MockAuth0;
use serde_json::Value;

/// An answer as it came.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Got {
    pub(crate) async fn from(response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and `error`.
    pub(crate) fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap_or_default().to_owned())
    }
}

/// A client without redirects, proxies or a pool, so that each request has a connection of its own. It trusts no CA:
/// loading the system's costs more than all the rest of a request.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_certs_only(std::iter::empty())
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

pub(crate) async fn get(mock: &MockAuth0, path: &str, token: Option<&str>) -> Got {
    let mut request = client().get(mock.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    Got::from(request.send().await.unwrap()).await
}

pub(crate) async fn post(mock: &MockAuth0, path: &str, form: &[(&str, &str)]) -> Got {
    Got::from(client().post(mock.url(path)).form(form).send().await.unwrap()).await
}

/// A refresh of the first client.
pub(crate) async fn refresh(mock: &MockAuth0, token: &str) -> Result<Got, reqwest::Error> {
    let id = mock.client_id();
    let form = [("grant_type", "refresh_token"), ("client_id", &*id), ("refresh_token", token)];
    let response = client().post(mock.url("/oauth/token")).form(&form).send().await?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    Ok(Got { status, headers, text: response.text().await? })
}

/// Waits until `done` holds; fails after a time that no loaded machine needs.
pub(crate) async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The claims of a JWT, unverified.
pub(crate) fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}
