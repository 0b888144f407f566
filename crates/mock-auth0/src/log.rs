//! What reached the server: every request with its outcome, and the counts that tests assert on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::message::Params;
use crate::secrets::fingerprint;

/// One request. Secrets in it are replaced by `sha256:` and their [`fingerprint`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RequestRecord {
    /// Number of the request, from 1, in order of arrival.
    pub id: u64,
    /// Number of the connection it came on, from 1.
    pub connection: u64,
    /// Where it arrived.
    pub endpoint: Endpoint,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// `grant_type`, at the token endpoint.
    pub grant: Option<String>,
    /// `client_id`, from the body or from Basic.
    pub client_id: Option<String>,
    /// Fingerprint of the refresh token that was presented.
    pub refresh_token: Option<String>,
    /// All parameters of query and body.
    pub params: BTreeMap<String, String>,
    /// All headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Size of the body in bytes.
    pub body_bytes: u64,
    /// Milliseconds from the mock's start to the arrival of the head.
    pub arrived_ms: u64,
    /// Milliseconds from the mock's start to the end of processing. `None` while it lasts.
    pub finished_ms: Option<u64>,
    /// The status of the answer; `None` if there was none.
    pub status: Option<u16>,
    /// `error` of a JSON answer, `reset`, `close`, `silence`, `half`, or `ok`.
    pub outcome: Option<String>,
    /// Whether a grant took effect: tokens were issued, or something was revoked.
    pub effect: bool,
    /// Whether the client had gone before the answer was ready.
    pub client_gone: bool,
    /// The kinds of faults that hit it.
    pub faults: Vec<String>,
}

/// What was counted since the start, or since the last `reset_counters`.
///
/// ```
/// use mock_auth0::{Endpoint, MockAuth0};
///
/// let mock = MockAuth0::start_blocking()?;
/// let tokens = mock.seed_session()?;
/// // … run what is tested, then look at what reached the server:
/// let counters = mock.counters();
/// assert_eq!(counters.refreshes(), 0, "requests with a refresh token");
/// assert_eq!(counters.took_effect("refresh_token"), 0, "those that rotated it, answered or not");
/// assert_eq!(counters.presented(tokens.refresh_token()), 0, "how often this very one was shown");
/// assert_eq!(counters.at(Endpoint::Api), 0);
/// # Ok::<(), mock_auth0::MockError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Requests by endpoint.
    pub by_endpoint: BTreeMap<Endpoint, u64>,
    /// Requests at the token endpoint by grant type.
    pub by_grant: BTreeMap<String, u64>,
    /// Requests by `endpoint outcome` or `endpoint grant outcome`, such as `token refresh_token invalid_grant`.
    pub by_outcome: BTreeMap<String, u64>,
    /// How often each refresh token was presented, by fingerprint.
    pub refresh_tokens: BTreeMap<String, u64>,
    /// Token requests by grant type that took effect, whether the answer arrived or not.
    pub effects: BTreeMap<String, u64>,
    /// Connections accepted.
    pub connections: u64,
    /// Token requests that a client is waiting for now.
    pub open_token_requests: u64,
    /// The most token requests that were waited for at the same time.
    pub max_open_token_requests: u64,
    /// Requests that are being processed now, those of clients that have gone included.
    pub processing: u64,
}

impl Counters {
    /// Requests at `endpoint`.
    pub fn at(&self, endpoint: Endpoint) -> u64 {
        self.by_endpoint.get(&endpoint).copied().unwrap_or_default()
    }

    /// Token requests with this grant type.
    pub fn grant(&self, grant: &str) -> u64 {
        self.by_grant.get(grant).copied().unwrap_or_default()
    }

    /// Token requests with `grant_type=refresh_token`.
    pub fn refreshes(&self) -> u64 {
        self.grant("refresh_token")
    }

    /// Token requests with this grant type that took effect.
    pub fn took_effect(&self, grant: &str) -> u64 {
        self.effects.get(grant).copied().unwrap_or_default()
    }

    /// How often `token` was presented as a refresh token.
    pub fn presented(&self, token: &str) -> u64 {
        self.refresh_tokens.get(&fingerprint(token)).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    requests: Vec<RequestRecord>,
    counters: Counters,
    connections: u64,
    next_id: u64,
}

/// How a request ended.
pub(crate) struct Finish<'a> {
    pub(crate) at_ms: u64,
    pub(crate) status: Option<u16>,
    pub(crate) outcome: &'a str,
}

impl Log {
    pub(crate) fn connected(&self) -> u64 {
        let mut inner = self.lock();
        inner.counters.connections += 1;
        inner.connections += 1;
        inner.connections
    }

    /// A head has arrived. Gives the request's number.
    pub(crate) fn arrived(
        &self,
        connection: u64,
        endpoint: Endpoint,
        head: &http::request::Parts,
        at_ms: u64,
    ) -> u64 {
        let mut inner = self.lock();
        inner.next_id += 1;
        let id = inner.next_id;
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), shown_header(name.as_str(), value)))
            .collect();
        inner.requests.push(RequestRecord {
            id,
            connection,
            endpoint,
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            grant: None,
            client_id: None,
            refresh_token: None,
            params: BTreeMap::new(),
            headers,
            body_bytes: 0,
            arrived_ms: at_ms,
            finished_ms: None,
            status: None,
            outcome: None,
            effect: false,
            client_gone: false,
            faults: Vec::new(),
        });
        *inner.counters.by_endpoint.entry(endpoint).or_default() += 1;
        inner.counters.processing += 1;
        if endpoint == Endpoint::Token {
            inner.counters.open_token_requests += 1;
            let open = inner.counters.open_token_requests;
            inner.counters.max_open_token_requests = inner.counters.max_open_token_requests.max(open);
        }
        id
    }

    /// The body has arrived too.
    pub(crate) fn read(&self, id: u64, query: &Params, form: &Params, client_id: Option<&str>, bytes: usize) {
        let mut inner = self.lock();
        let grant = form.get("grant_type").map(str::to_owned);
        let presented = match grant.as_deref() {
            Some("refresh_token") => form.get("refresh_token").map(fingerprint),
            _ => None,
        };
        let Some(record) = inner.record(id) else { return };
        record.body_bytes = bytes as u64;
        record.client_id = client_id.or(form.get("client_id")).or(query.get("client_id")).map(str::to_owned);
        record.params = query
            .iter()
            .chain(form.iter())
            .map(|(name, value)| (name.to_owned(), shown_param(name, value)))
            .collect();
        record.refresh_token.clone_from(&presented);
        if record.endpoint != Endpoint::Token {
            return;
        }
        record.grant.clone_from(&grant);
        if let Some(grant) = grant {
            *inner.counters.by_grant.entry(grant).or_default() += 1;
        }
        if let Some(presented) = presented {
            *inner.counters.refresh_tokens.entry(presented).or_default() += 1;
        }
    }

    pub(crate) fn hit_by(&self, id: u64, faults: &[&str]) {
        if let Some(record) = self.lock().record(id) {
            record.faults = faults.iter().map(|&name| name.to_owned()).collect();
        }
    }

    /// A grant took effect. Told at once, since the request may still be delayed or held.
    pub(crate) fn took_effect(&self, id: u64) {
        let mut inner = self.lock();
        let Some(record) = inner.record(id) else { return };
        record.effect = true;
        if let Some(grant) = record.grant.clone() {
            *inner.counters.effects.entry(grant).or_default() += 1;
        }
    }

    pub(crate) fn finished(&self, id: u64, finish: &Finish<'_>) {
        let mut inner = self.lock();
        inner.counters.processing = inner.counters.processing.saturating_sub(1);
        let Some(record) = inner.record(id) else { return };
        record.finished_ms = Some(finish.at_ms);
        record.status = finish.status;
        record.outcome = Some(finish.outcome.to_owned());
        let name = record.endpoint.name();
        let key = match &record.grant {
            Some(grant) => format!("{name} {grant} {}", finish.outcome),
            None => format!("{name} {}", finish.outcome),
        };
        *inner.counters.by_outcome.entry(key).or_default() += 1;
    }

    /// The client no longer waits for this request, answered or not.
    pub(crate) fn let_go(&self, id: u64, endpoint: Endpoint, answered: bool) {
        let mut inner = self.lock();
        if endpoint == Endpoint::Token {
            inner.counters.open_token_requests = inner.counters.open_token_requests.saturating_sub(1);
        }
        if !answered && let Some(record) = inner.record(id) {
            record.client_gone = true;
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.lock().counters.clone()
    }

    pub(crate) fn requests(&self) -> Vec<RequestRecord> {
        self.lock().requests.clone()
    }

    /// Forgets requests and counts. What is open or being processed now stays counted as such.
    pub(crate) fn reset(&self) {
        let mut inner = self.lock();
        let (open, processing) = (inner.counters.open_token_requests, inner.counters.processing);
        inner.requests.clear();
        inner.counters = Counters {
            open_token_requests: open,
            max_open_token_requests: open,
            processing,
            ..Counters::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn record(&mut self, id: u64) -> Option<&mut RequestRecord> {
        let at = self.requests.binary_search_by_key(&id, |record| record.id).ok()?;
        self.requests.get_mut(at)
    }
}

fn shown_param(name: &str, value: &str) -> String {
    const SECRET: [&str; 12] = [
        "refresh_token",
        "access_token",
        "id_token",
        "token",
        "password",
        "client_secret",
        "client_assertion",
        "code",
        "code_verifier",
        "device_code",
        "subject_token",
        "mfa_token",
    ];
    if SECRET.contains(&name) { format!("sha256:{}", fingerprint(value)) } else { value.to_owned() }
}

fn shown_header(name: &str, value: &http::HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    match name {
        "authorization" | "proxy-authorization" => match text.split_once(' ') {
            Some((scheme, secret)) => format!("{scheme} sha256:{}", fingerprint(secret)),
            None => format!("sha256:{}", fingerprint(&text)),
        },
        "cookie" => format!("sha256:{}", fingerprint(&text)),
        _ => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> http::request::Parts {
        let request = http::Request::post("/oauth/token").header("authorization", "Basic c2VjcmV0").body(());
        request.unwrap().into_parts().0
    }

    #[test]
    fn secrets_appear_as_fingerprints_only() {
        let log = Log::default();
        let id = log.arrived(1, Endpoint::Token, &head(), 5);
        let form = Params::of_form(b"grant_type=refresh_token&refresh_token=SECRET&client_id=c&scope=openid");
        log.read(id, &Params::default(), &form, None, 70);
        log.took_effect(id);
        let finish = Finish { at_ms: 9, status: Some(200), outcome: "ok" };
        log.finished(id, &finish);
        log.let_go(id, Endpoint::Token, true);
        let requests = log.requests();
        let text = serde_json::to_string(&requests).unwrap();
        assert!(!text.contains("SECRET") && !text.contains("c2VjcmV0"), "{text}");
        assert_eq!(requests[0].params["refresh_token"], format!("sha256:{}", fingerprint("SECRET")));
        assert_eq!(requests[0].params["scope"], "openid");
        let counters = log.counters();
        assert_eq!(counters.presented("SECRET"), 1);
        assert_eq!(counters.refreshes(), 1);
        assert_eq!(counters.took_effect("refresh_token"), 1);
        assert_eq!(counters.by_outcome["token refresh_token ok"], 1);
        assert_eq!((counters.open_token_requests, counters.max_open_token_requests), (0, 1));
    }

    #[test]
    fn a_reset_forgets_the_past_but_not_what_is_open() {
        let log = Log::default();
        let open = log.arrived(1, Endpoint::Token, &head(), 0);
        log.reset();
        let counters = log.counters();
        assert_eq!((counters.open_token_requests, counters.processing), (1, 1));
        assert_eq!(counters.at(Endpoint::Token), 0);
        log.let_go(open, Endpoint::Token, false);
        assert_eq!(log.counters().open_token_requests, 0);
        assert!(log.requests().is_empty());
    }
}
