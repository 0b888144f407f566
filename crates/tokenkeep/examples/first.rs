//! Calls an API with the session that `tokenkeep login` keeps. `API` is the API's origin.
#![allow(clippy::print_stdout, reason = "an example")]

use tokenkeep::{Session, http::client, open_store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let api = std::env::var("API")?;
    let session = Session::open(open_store().await?, "default").await?; // what `tokenkeep login` keeps
    let http = client(&session, [&api])?; // sends the token to `api` alone, renews it on a 401
    let answer = http.get(format!("{api}/api/things")).send().await?.error_for_status()?;
    println!("{}", answer.text().await?);
    Ok(())
}
