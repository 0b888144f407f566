//! A gRPC call through tonic's channel with the session's token.
//!
//! `API` is the server's origin. Generated clients take the channel as they take tonic's own
//! (`GreeterClient::new(channel)`); here the codec is written by hand.
#![allow(clippy::print_stdout, reason = "an example")]

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokenkeep::http::{grpc_channel, login_required};
use tokenkeep::{Session, open_store};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let session = Session::open(open_store().await?, "default").await?;
    // The token goes to this server alone. A refused call is made once more with a new token.
    let channel = grpc_channel(&session, &Endpoint::from_shared(std::env::var("API")?)?)?;
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let path = PathAndQuery::from_static("/example.Echo/Echo");
    match client.unary(Request::new(Bytes::from_static(b"hello")), path, Raw).await {
        Ok(answer) => println!("{}", String::from_utf8_lossy(answer.get_ref())),
        Err(status) => match login_required(&status) {
            Some(reason) => println!("sign in again: {reason}"),
            None => return Err(status.into()),
        },
    }
    Ok(())
}

/// Messages of plain bytes.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
