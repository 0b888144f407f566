//! Two servers for what the mock's HTTP/1.1 does not have: gRPC, and connections that leave HTTP behind. Each writes down
//! the tokens it gets and refuses those it is told to.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server has seen, and what it refuses.
#[derive(Clone, Debug, Default)]
pub struct Door {
    seen: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Door {
    /// The `authorization` of every request, in order; empty where there was none.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Refuses this token from now on.
    pub fn refuse(&self, token: &str) {
        self.refused.lock().unwrap().push(format!("Bearer {token}"));
    }

    fn lets_in(&self, authorization: &str) -> bool {
        self.seen.lock().unwrap().push(authorization.to_owned());
        authorization.starts_with("Bearer ")
            && !self.refused.lock().unwrap().iter().any(|token| token == authorization)
    }
}

/// A gRPC server whose only method, whatever its name, answers what it was sent. Gives its origin.
pub async fn grpc(door: Door) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let door = door.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(door.clone(), request));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(connection), service).await;
            });
        }
    });
    origin
}

type Answer = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn answer(door: Door, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let authorization = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap());
    let response = Response::builder().header("content-type", "application/grpc");
    if !door.lets_in(authorization) {
        let refusal = response.header("grpc-status", "16").header("grpc-message", "no such token");
        return Ok(refusal.body(Empty::new().boxed_unsync()).unwrap());
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let done = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let body = Full::new(body).with_trailers(async move { Some(Ok(done)) });
    Ok(response.body(body.boxed_unsync()).unwrap())
}

/// A server that switches protocols on every request that it lets in, and then sends back what it gets. Gives its origin.
pub async fn upgrading(door: Door) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            tokio::spawn(switch(door.clone(), connection));
        }
    });
    origin
}

async fn switch(door: Door, mut connection: TcpStream) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match connection.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
        let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("");
        if door.lets_in(authorization) {
            break;
        }
        connection.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    connection.write_all(switched).await.unwrap();
    let (mut from, mut to) = connection.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
}
