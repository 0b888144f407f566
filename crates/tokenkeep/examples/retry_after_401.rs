//! A reqwest client of one's own with the session's middleware: a 401 renews the token, and the request is sent once more.
//!
//! `API` is the API's origin. A body that is a stream cannot be sent again: its 401 is passed on, and the next request has
//! the new token.
#![allow(clippy::print_stdout, reason = "an example")]

use std::env::var;
use std::time::Duration;

use reqwest_middleware::ClientBuilder;
use tokenkeep::http::{Origins, SessionMiddleware, login_required};
use tokenkeep::{Session, open_store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let api = var("API")?;
    let session = Session::open(open_store().await?, "default").await?;
    let own = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    // The token goes to these origins and to no other, redirects included.
    let origins = Origins::parse([&api])?;
    let http = ClientBuilder::new(own).with(SessionMiddleware::new(&session, origins)).build();
    match http.post(format!("{api}/api/things")).body("a thing").send().await {
        Ok(answer) => println!("the API answers {}", answer.status()),
        Err(error) => match login_required(&error) {
            Some(reason) => println!("sign in again: {reason}"),
            None => return Err(error.into()),
        },
    }
    Ok(())
}
