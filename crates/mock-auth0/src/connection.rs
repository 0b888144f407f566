//! One client's connection: HTTP/1.1 by hyper, on a socket that this crate can break at will.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::Incoming as HyperBody;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::admin;
use crate::client_auth::basic_id;
use crate::clock::http_date;
use crate::endpoint::Endpoint;
use crate::log::Finish;
use crate::message::{Answer, Body, Incoming, Reply};
use crate::process::{Job, outcome, process};
use crate::shared::Shared;

/// The largest request body that is taken in.
const BODY_LIMIT: usize = 64 << 20;
const FILLER_CHUNK: u64 = 64 << 10;

type WireBody = UnsyncBoxBody<Bytes, io::Error>;

/// A socket that is reset (RST) in place of closed (FIN) once told so.
pub(crate) struct Line {
    socket: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Line {
    pub(crate) fn new(socket: TcpStream) -> (Self, Arc<AtomicBool>) {
        let reset = Arc::new(AtomicBool::new(false));
        (Self { socket, reset: Arc::clone(&reset) }, reset)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            // Best effort: a socket that takes no option is gone already.
            let _ = self.socket.set_zero_linger();
        }
    }
}

/// Serves requests until the client leaves or a fault ends the connection.
pub(crate) async fn serve<S>(shared: Arc<Shared>, stream: S, reset: Arc<AtomicBool>, connection: u64)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(|request| handle(Arc::clone(&shared), Arc::clone(&reset), connection, request));
    // An error is the client's going or a fault of ours: nothing is left to say to it.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn handle(
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
    connection: u64,
    request: Request<HyperBody>,
) -> Result<Response<WireBody>, io::Error> {
    let (head, body) = request.into_parts();
    if head.uri.path().starts_with("/_mock/") {
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else { return Err(broken("body")) };
        let answer = admin::answer(&shared, &Incoming::new(&head, body.to_bytes()));
        return whole(&shared, answer);
    }
    let endpoint = Endpoint::of(head.uri.path());
    let id = shared.log.arrived(connection, endpoint, &head, shared.clock.since_start_ms());
    let mut waiting =
        Waiting { shared: Arc::clone(&shared), id, endpoint, answered: false, handed_over: false };
    let body = match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            waiting.answered = true;
            let answer = Answer::json(StatusCode::PAYLOAD_TOO_LARGE, &json!({"error": "request_too_large"}));
            return whole(&shared, answer);
        }
        Err(_) => return Err(broken("body")),
    };
    let incoming = Incoming::new(&head, body);
    let client_id = basic_id(&incoming);
    shared.log.read(id, &incoming.query, &incoming.form, client_id.as_deref(), incoming.body.len());

    let (sender, receiver) = oneshot::channel();
    waiting.handed_over = true;
    tokio::spawn(run(Arc::clone(&shared), Job { id, endpoint, request: incoming }, sender));
    let Ok(reply) = receiver.await else { return Err(broken("task")) };
    match reply {
        Reply::Whole(answer) => {
            waiting.answered = true;
            whole(&shared, answer)
        }
        Reply::Half(answer) => {
            waiting.answered = true;
            half(&shared, answer)
        }
        Reply::Reset => {
            waiting.answered = true;
            reset.store(true, Ordering::SeqCst);
            Err(broken("reset on request"))
        }
        Reply::Close => {
            waiting.answered = true;
            Err(broken("closed on request"))
        }
        Reply::Silence => std::future::pending().await,
    }
}

async fn run(shared: Arc<Shared>, job: Job, sender: oneshot::Sender<Reply>) {
    let reply = process(&shared, &job).await;
    let outcome = outcome(&reply);
    let status = match &reply {
        Reply::Whole(answer) | Reply::Half(answer) => Some(answer.status.as_u16()),
        Reply::Reset | Reply::Close | Reply::Silence => None,
    };
    let finish = Finish { at_ms: shared.clock.since_start_ms(), status, outcome: &outcome };
    shared.log.finished(job.id, &finish);
    // The client may have gone; what was done stays done.
    let _ = sender.send(reply);
}

/// Tells the log when the client no longer waits, however that comes about.
struct Waiting {
    shared: Arc<Shared>,
    id: u64,
    endpoint: Endpoint,
    answered: bool,
    /// Whether a task of its own finishes the request.
    handed_over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.handed_over {
            let finish = Finish {
                at_ms: self.shared.clock.since_start_ms(),
                status: None,
                outcome: "body not received",
            };
            self.shared.log.finished(self.id, &finish);
        }
        self.shared.log.let_go(self.id, self.endpoint, self.answered);
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, what.to_owned())
}

fn whole(shared: &Shared, answer: Answer) -> Result<Response<WireBody>, io::Error> {
    let body = match answer.body.clone() {
        Body::Bytes(bytes) => Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync(),
        Body::Filler(size) => filler(size),
    };
    response(shared, answer, body)
}

/// Announces the whole length and breaks off after half of it.
fn half(shared: &Shared, answer: Answer) -> Result<Response<WireBody>, io::Error> {
    let Body::Bytes(bytes) = answer.body.clone() else { return Err(broken("half of a filler")) };
    let announced = bytes.len().max(2).to_string();
    let part = bytes.slice(..bytes.len() / 2);
    let end = stream::once(async {
        // Gives hyper its turn to send what it has before the error drops it.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(broken("half on request"))
    });
    let frames = stream::once(async move { Ok(Frame::data(part)) }).chain(end);
    response(shared, answer.header("content-length", &announced), StreamBody::new(frames).boxed_unsync())
}

/// A JSON object of `size` bytes that is never in memory as a whole.
fn filler(size: u64) -> WireBody {
    const OPEN: &[u8] = br#"{"access_token":""#;
    const CLOSE: &[u8] = br#""}"#;
    let middle = size.saturating_sub((OPEN.len() + CLOSE.len()) as u64);
    let chunks = stream::unfold(middle, |left| async move {
        let next = left.min(FILLER_CHUNK);
        let length = usize::try_from(next).unwrap_or(0);
        (next > 0).then(|| (Bytes::from(vec![b'a'; length]), left - next))
    });
    let all = stream::once(async { Bytes::from_static(OPEN) })
        .chain(chunks)
        .chain(stream::once(async { Bytes::from_static(CLOSE) }));
    StreamBody::new(all.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}

fn response(shared: &Shared, answer: Answer, body: WireBody) -> Result<Response<WireBody>, io::Error> {
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    let date = ("date".to_owned(), http_date(shared.clock.now_ms()));
    // The first `date` stands: a fault may have set one.
    for (name, value) in answer.headers.into_iter().chain([date]) {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            continue;
        };
        response.headers_mut().entry(name).or_insert(value);
    }
    Ok(response)
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::SeqCst) {
            // No FIN before the RST.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
