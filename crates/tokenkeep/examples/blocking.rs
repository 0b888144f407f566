//! Calls an API from a program without a runtime.
//!
//! `API` is the API's host and port over plain http, which is allowed for loopback only.
#![allow(clippy::print_stdout, reason = "an example")]

use std::io::{Read, Write};
use std::net::TcpStream;

use tokenkeep::AccessToken;
use tokenkeep::blocking::{Session, open_store};

fn main() -> anyhow::Result<()> {
    let session = Session::open(open_store()?, "default")?;
    let token = session.access_token()?;
    let mut status = call(&token)?;
    if status.contains(" 401 ")
        && let Some(other) = session.rejected(&token)?
    {
        status = call(&other)?;
    }
    println!("{status}");
    Ok(())
}

/// Any HTTP client serves; this one is the smallest there is.
fn call(token: &AccessToken) -> anyhow::Result<String> {
    let api = std::env::var("API")?;
    let host = api.strip_prefix("http://").unwrap_or(&api);
    let mut connection = TcpStream::connect(host)?;
    write!(
        connection,
        "GET /api/things HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        token.expose()
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
