//! Opens a WebSocket with the session's token in the request that upgrades the connection. What is spoken over it from
//! then on is a WebSocket library's business; here it is plain bytes.
//!
//! `API` is the server's origin. The token was judged when the socket was opened: a server that keeps sockets for longer
//! than tokens live closes them, and the next one is opened with a new token.
#![allow(clippy::print_stdout, reason = "an example")]

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokenkeep::http::{Origins, SessionLayer};
use tokenkeep::{Session, open_store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let api = std::env::var("API")?;
    let session = Session::open(open_store().await?, "default").await?;
    let client = ServiceBuilder::new()
        .layer(SessionLayer::new(&session, Origins::parse([&api])?))
        .service(Client::builder(TokioExecutor::new()).build_http());
    let request = Request::get(format!("{api}/socket"))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Empty::<Bytes>::new())?;
    let answer = client.oneshot(request).await.map_err(anyhow::Error::from_boxed)?;
    anyhow::ensure!(answer.status() == StatusCode::SWITCHING_PROTOCOLS, "no socket: {}", answer.status());
    let mut socket = TokioIo::new(hyper::upgrade::on(answer).await?);
    socket.write_all(b"hello").await?;
    let mut echo = [0; 5];
    socket.read_exact(&mut echo).await?;
    println!("{}", String::from_utf8_lossy(&echo));
    Ok(())
}
