//! One request over HTTP, and what became of it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Certificate, Client, Method, redirect, retry};
use tokenkeep_clock::Clock;
use tokenkeep_secret::SecretString;
use url::Url;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{TokenError, TokenErrorKind};
use crate::reply::{LONGEST_RETRY_AFTER, Reply, presentable};

/// The longest answer read, in bytes. Token answers and key sets have a few KiB.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// How long data may stay unacknowledged before the peer counts as gone (`TCP_USER_TIMEOUT`, Linux). Long enough for a
/// lost Wi-Fi beacon or a failover, short enough to leave half of the answer limit for a second try.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// How often an HTTP/2 connection with a request out is pinged, and how long the peer may owe the answer. Both add up
/// to [`UNACKNOWLEDGED`].
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWER: Duration = Duration::from_secs(5);

/// What the connections of a client have in common.
pub(crate) struct Settings {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) connect_timeout: Duration,
    pub(crate) user_agent: String,
}

/// Sends requests. Makes its HTTP clients at the first use: reading the system's certificates takes longer than all the
/// rest of a command that needs no network.
pub(crate) struct Transport {
    settings: Settings,
    clock: Arc<dyn Clock>,
    encrypted: OnceLock<Client>,
    local: OnceLock<Client>,
}

/// A request.
pub(crate) struct Call<'a> {
    /// What it is for, as the start of an error: "refreshing".
    pub(crate) doing: &'static str,
    pub(crate) url: Url,
    /// A form to post; a GET without.
    pub(crate) form: Option<Bytes>,
    pub(crate) authorization: Option<HeaderValue>,
    /// The secrets that it carries, so that no error repeats them.
    pub(crate) secrets: Vec<&'a SecretString>,
}

impl Call<'_> {
    /// Scheme, host and port: what errors and logs name.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// In words, without secrets.
    what: String,
}

/// How far a request came that has no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The HTTP client cannot be made or will not take the request. Trying again is in vain.
    Unusable,
    /// No connection: nothing was sent.
    NotSent,
    /// The connection ended after something was sent: the issuer may have done it.
    Lost,
    /// The connection stands, and nothing came within the limit.
    Silent,
}

impl Fault {
    fn new(kind: FaultKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }

    /// As an error for the caller.
    pub(crate) fn into_error(self, doing: &'static str, origin: &str) -> TokenError {
        let what = self.what;
        let text = match self.kind {
            FaultKind::Unusable => return TokenError::configuration(what),
            FaultKind::NotSent => format!("{origin} cannot be reached ({what}), try again later"),
            FaultKind::Lost => {
                format!(
                    "the connection to {origin} ended before the whole answer was there ({what}), try again later"
                )
            }
            FaultKind::Silent => format!("{origin} did not answer within {what}, try again later"),
        };
        TokenError::new(TokenErrorKind::Unavailable, doing, text)
    }
}

impl Transport {
    pub(crate) fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, clock, encrypted: OnceLock::new(), local: OnceLock::new() }
    }

    /// Sends `call` once and reads the whole answer, within `limit`.
    pub(crate) async fn send(&self, call: &Call<'_>, limit: Duration) -> Result<Reply, Fault> {
        match tokio::time::timeout(limit, self.send_unlimited(call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Fault::new(FaultKind::Silent, format!("{:.1} s", limit.as_secs_f64()))),
        }
    }

    async fn send_unlimited(&self, call: &Call<'_>) -> Result<Reply, Fault> {
        let client = self.client(&call.url)?;
        let method = if call.form.is_some() { Method::POST } else { Method::GET };
        let mut request = client.request(method, call.url.clone()).header(ACCEPT, "application/json");
        if let Some(authorization) = &call.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(form) = &call.form {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        }
        let response = request.send().await.map_err(|error| {
            let kind = if error.is_builder() {
                FaultKind::Unusable
            } else if error.is_connect() {
                FaultKind::NotSent
            } else {
                FaultKind::Lost
            };
            Fault::new(kind, cause(&error))
        })?;
        self.read(response).await
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Reply, Fault> {
        let status = response.status().as_u16();
        let headers = response.headers();
        let date = headers.get(DATE).and_then(http_date);
        let retry_after = wait_asked(status, headers, date.unwrap_or_else(|| self.clock.wall()));
        let bearer_challenge = headers.get_all(WWW_AUTHENTICATE).iter().any(|challenge| {
            let scheme = challenge.as_bytes().get(..6);
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
        });
        let body = match read_body(&mut response).await {
            Ok(body) => body,
            // What these two mean does not hang on their text.
            Err(_) if matches!(status, 429 | 503) => Zeroizing::default(),
            Err(fault) => return Err(fault),
        };
        Ok(Reply { status, retry_after, date, bearer_challenge, body })
    }

    /// The client for `url`. Plain http is for this machine alone, so it never goes through a proxy, which would carry
    /// the secrets in clear to another one.
    fn client(&self, url: &Url) -> Result<&Client, Fault> {
        let (slot, is_local) =
            if url.scheme() == "http" { (&self.local, true) } else { (&self.encrypted, false) };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let made = self.make(is_local).map_err(|error| {
            Fault::new(FaultKind::Unusable, format!("the HTTP client cannot be set up: {}", cause(&error)))
        })?;
        Ok(slot.get_or_init(|| made))
    }

    fn make(&self, is_local: bool) -> reqwest::Result<Client> {
        let settings = &self.settings;
        let mut builder = Client::builder()
            .user_agent(&settings.user_agent)
            .connect_timeout(settings.connect_timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            // An idle connection may be closed by the peer as the next request leaves, which looks like a lost answer.
            // It also belongs to the runtime that opened it, and callers come from several.
            .pool_max_idle_per_host(0)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_ANSWER);
        #[cfg(target_os = "linux")]
        {
            builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
        }
        builder = if is_local {
            builder.no_proxy().tls_certs_only([])
        } else {
            builder.https_only(true).tls_certs_merge(settings.certificates.iter().cloned())
        };
        builder.build()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// An `Authorization: Bearer` header, marked as sensitive and wiped when dropped. `None` if the token fits no header.
pub(crate) fn bearer(token: &SecretString) -> Option<HeaderValue> {
    authorization("Bearer ", token.expose())
}

/// An `Authorization: Basic` header for `client_secret_basic` (RFC 6749, section 2.3.1).
pub(crate) fn basic(client_id: &str, secret: &SecretString) -> Option<HeaderValue> {
    use base64::Engine;
    let encode = |text: &str| {
        Zeroizing::new(url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>())
    };
    let (id, secret) = (encode(client_id), encode(secret.expose()));
    let pair = Zeroizing::new(format!("{}:{}", *id, *secret));
    let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
    authorization("Basic ", &encoded)
}

fn authorization(scheme: &str, credentials: &str) -> Option<HeaderValue> {
    let mut value = Zeroizing::new(Vec::with_capacity(scheme.len() + credentials.len()));
    value.extend_from_slice(scheme.as_bytes());
    value.extend_from_slice(credentials.as_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Reads a bounded body into a buffer that is wiped; the pieces it came in are wiped where nobody else holds them.
async fn read_body(response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let expected = response.content_length().unwrap_or(0);
    let too_long = || Fault::new(FaultKind::Lost, "it is longer than 1 MiB");
    if expected > LONGEST_ANSWER as u64 {
        return Err(too_long());
    }
    let mut body = Zeroizing::new(Vec::with_capacity(usize::try_from(expected).unwrap_or(0).max(16 * 1024)));
    while let Some(piece) =
        response.chunk().await.map_err(|error| Fault::new(FaultKind::Lost, cause(&error)))?
    {
        if body.len() + piece.len() > LONGEST_ANSWER {
            return Err(too_long());
        }
        if body.capacity() - body.len() < piece.len() {
            // A vector that grows by itself leaves its old buffer behind unwiped.
            let mut grown = Zeroizing::new(Vec::with_capacity(2 * (body.len() + piece.len())));
            grown.extend_from_slice(&body);
            body = grown;
        }
        body.extend_from_slice(&piece);
        if let Ok(mut own) = piece.try_into_mut() {
            own.as_mut().zeroize();
        }
    }
    Ok(body)
}

/// How long a 429 or 5xx asks to wait: `Retry-After` (RFC 9110, section 10.2.3), else Auth0's `X-RateLimit-Reset`.
fn wait_asked(status: u16, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let until = |at: SystemTime| at.duration_since(now).unwrap_or_default();
    let seconds = |value: &HeaderValue| value.to_str().ok()?.trim().parse::<u64>().ok();
    let asked = match headers.get(RETRY_AFTER) {
        Some(value) => seconds(value).map(Duration::from_secs).or_else(|| http_date(value).map(until)),
        None if status == 429 => headers
            .get("x-ratelimit-reset")
            .and_then(seconds)
            .and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at)))
            .map(until),
        None => None,
    };
    asked.map(|wait| wait.min(LONGEST_RETRY_AFTER))
}

fn http_date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// The innermost reason: the outer ones only say that a request failed, and repeat its URL.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    presentable(&innermost.to_string(), 200, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(status: u16, headers: &[(&'static str, &str)], now: u64) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        wait_asked(status, &map, UNIX_EPOCH + Duration::from_secs(now)).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_wait_asked_for_is_read_in_each_of_its_forms() {
        assert_eq!(asked(429, &[], 0), None);
        assert_eq!(asked(429, &[("retry-after", "7")], 0), Some(7));
        assert_eq!(asked(503, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 784_111_770), Some(7));
        assert_eq!(asked(503, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 784_111_800), Some(0));
        assert_eq!(asked(429, &[("x-ratelimit-reset", "1000")], 940), Some(60));
        assert_eq!(asked(429, &[("x-ratelimit-reset", "1000"), ("retry-after", "5")], 940), Some(5));
        assert_eq!(asked(500, &[("x-ratelimit-reset", "1000")], 940), None);
        for nonsense in ["", "-1", "soon", "1e3", "99999999999999999999"] {
            assert_eq!(asked(429, &[("retry-after", nonsense)], 0), None, "{nonsense}");
        }
        assert_eq!(asked(429, &[("retry-after", "999999999")], 0), Some(LONGEST_RETRY_AFTER.as_secs()));
        assert_eq!(asked(429, &[("x-ratelimit-reset", "18446744073709551615")], 0), None);
    }

    #[test]
    fn basic_authentication_encodes_both_parts_as_a_form_does() {
        let header = basic("client:1", &"p+ss wörd".into()).unwrap();
        // base64 of "client%3A1:p%2Bss+w%C3%B6rd"
        assert_eq!(header.to_str().unwrap(), "Basic Y2xpZW50JTNBMTpwJTJCc3MrdyVDMyVCNnJk");
        assert!(header.is_sensitive());
        assert!(!format!("{header:?}").contains("Basic"));
    }

    #[test]
    fn a_token_that_fits_no_header_makes_none() {
        assert!(bearer(&"abc".into()).unwrap().is_sensitive());
        assert!(bearer(&"a\nb".into()).is_none());
    }
}
