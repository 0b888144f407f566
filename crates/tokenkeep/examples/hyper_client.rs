//! hyper's client under the session's tower layer.
//!
//! `API` is the API's origin. Bodies that can be cloned are sent again after a 401; `.replay(|_: &Incoming| None)` is for
//! streams.
#![allow(clippy::print_stdout, reason = "an example")]

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokenkeep::http::{Origins, SessionLayer};
use tokenkeep::{Session, open_store};
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let api = std::env::var("API")?;
    let session = Session::open(open_store().await?, "default").await?;
    let mut client = ServiceBuilder::new()
        .layer(SessionLayer::new(&session, Origins::parse([&api])?))
        .service(Client::builder(TokioExecutor::new()).build_http());
    let request =
        Request::put(format!("{api}/api/things")).body(Full::new(Bytes::from_static(b"a thing")))?;
    let ready = client.ready().await.map_err(anyhow::Error::from_boxed)?;
    let answer = ready.call(request).await.map_err(anyhow::Error::from_boxed)?;
    println!("{}", answer.status());
    println!("{}", String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()));
    Ok(())
}
