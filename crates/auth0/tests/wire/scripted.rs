//! An issuer that does with each token request what a script says, down to the connection: what no well-behaved server
//! can be made to do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenkeep_auth0::{CachedIssuer, TokenClient, TokenClientBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What to do with a request to `/oauth/token`.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Answer with this status, these header lines and this body.
    Answer(u16, String, String),
    /// Close the connection without a word once the request is there.
    Close,
    /// Reset it.
    Reset,
    /// Claim a longer body than is sent, then close.
    Truncate(String),
    /// Never answer, and keep the connection.
    Silence,
    /// Answer after this time.
    Late(Duration, u16, String),
}

impl Step {
    pub(crate) fn ok(body: &str) -> Self {
        Self::Answer(200, String::new(), body.to_owned())
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Answer(status, String::new(), body.to_owned())
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    url: String,
    script: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<Seen>>,
    /// Answers for other paths: path, status and body.
    pages: Mutex<Vec<(String, u16, String)>>,
}

impl Issuer {
    pub(crate) async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, script)
    }

    pub(crate) fn serve(listener: TcpListener, script: impl IntoIterator<Item = Step>) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            url: url.clone(),
            script: Mutex::new(script.into_iter().collect()),
            seen: Mutex::default(),
            pages: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handle(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state }
    }

    /// What `path` answers from now on.
    pub(crate) fn page(&self, path: &str, status: u16, body: impl Into<String>) {
        let mut pages = self.state.pages.lock().unwrap();
        pages.retain(|(known, _, _)| known != path);
        pages.push((path.to_owned(), status, body.into()));
    }

    /// The requests to `path` so far.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap();
        seen.iter().filter(|request| request.line.split(' ').nth(1) == Some(path)).cloned().collect()
    }

    /// Every request so far.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn token_requests(&self) -> usize {
        self.seen("/oauth/token").len()
    }

    pub(crate) fn builder(&self) -> TokenClientBuilder {
        TokenClient::builder(&self.url, "client-1")
    }

    pub(crate) fn client(&self) -> TokenClient {
        self.builder().build().unwrap()
    }
}

pub(crate) fn discovery(url: &str) -> String {
    format!(
        r#"{{"issuer":"{url}/","token_endpoint":"{url}/oauth/token","jwks_uri":"{url}/jwks","userinfo_endpoint":"{url}/userinfo",
            "revocation_endpoint":"{url}/oauth/revoke","device_authorization_endpoint":"{url}/oauth/device/code"}}"#
    )
}

/// What another client of this issuer would have stored.
pub(crate) fn cached_for(url: &str) -> CachedIssuer {
    cached_from(&discovery(url))
}

pub(crate) fn cached_from(discovery: &str) -> CachedIssuer {
    let cached = format!(r#"{{"metadata":{{"value":{discovery},"fetched_at":1700000000}}}}"#);
    serde_json::from_str(&cached).unwrap()
}

async fn handle(mut stream: TcpStream, state: Arc<State>) {
    let Some(request) = read_request(&mut stream).await else { return };
    let path = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
    state.seen.lock().unwrap().push(request);
    let page = state.pages.lock().unwrap().iter().find(|(known, _, _)| *known == path).cloned();
    if let Some((_, status, body)) = page {
        return answer(&mut stream, status, "", &body).await;
    }
    match path.as_str() {
        "/oauth/token" => {
            let step = state.script.lock().unwrap().pop_front().unwrap_or_else(|| Step::status(599, ""));
            act(stream, step).await;
        }
        "/.well-known/openid-configuration" => answer(&mut stream, 200, "", &discovery(&state.url)).await,
        _ => answer(&mut stream, 404, "", "").await,
    }
}

async fn act(mut stream: TcpStream, step: Step) {
    match step {
        Step::Answer(status, headers, body) => answer(&mut stream, status, &headers, &body).await,
        Step::Late(after, status, body) => {
            tokio::time::sleep(after).await;
            answer(&mut stream, status, "", &body).await;
        }
        Step::Close => drop(stream),
        Step::Reset => stream.set_zero_linger().unwrap(),
        Step::Truncate(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len() + 100);
            let _ = stream.write_all(head.as_bytes()).await;
        }
        Step::Silence => {
            // Until the client goes.
            let _ = stream.read(&mut [0; 1]).await;
        }
    }
}

async fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let line = head.lines().next()?.to_owned();
    Some(Seen { line, body: String::from_utf8(bytes[end + 4..].to_vec()).ok()?, head, at: Instant::now() })
}
