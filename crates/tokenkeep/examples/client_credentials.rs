//! A service that signs in as itself. The secret comes from a file, never from an argument, and is kept in the vault with
//! the session: from then on the service needs neither.
//!
//! `ISSUER`, `CLIENT_ID` and `CLIENT_SECRET_FILE` are asked for once, `AUDIENCE` says for which API, `API` is its origin.
#![allow(clippy::print_stdout, reason = "an example")]

use std::env::var;

use tokenkeep::http::client;
use tokenkeep::{
    ClientAuthentication, ClientCredentials, SecretString, Session, SessionState, SignIn, TokenClient,
    open_or_make_store,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let session = Session::open(open_or_make_store().await?, "service").await?;
    if session.status().await?.state == SessionState::Absent {
        let secret = std::fs::read_to_string(var("CLIENT_SECRET_FILE")?)?;
        let secret = ClientAuthentication::Basic(SecretString::from(secret.trim_end()));
        let issuer = TokenClient::builder(&var("ISSUER")?, &var("CLIENT_ID")?)
            .client_authentication(secret)
            .build()?;
        let wanted = SignIn::new("read:things").audience(var("AUDIENCE")?);
        session.sign_in(&issuer, wanted, ClientCredentials::new()).await?;
        println!("signed in");
    }
    let api = var("API")?;
    let http = client(&session, [&api])?;
    let answer = http.get(format!("{api}/api/things")).send().await?.error_for_status()?;
    println!("the API answers {}", answer.status());
    Ok(())
}
