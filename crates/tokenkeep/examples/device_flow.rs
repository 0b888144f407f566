//! Signs a person in on a machine without a browser: a code is shown here and confirmed on any other device.
//!
//! `ISSUER` and `CLIENT_ID` say where, `AUDIENCE` for which API.
#![allow(clippy::print_stdout, reason = "an example")]

use std::env::var;

use tokenkeep::{Device, Session, SignIn, TokenClient, open_or_make_store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let session = Session::open(open_or_make_store().await?, "default").await?;
    let issuer = TokenClient::discover(&var("ISSUER")?, &var("CLIENT_ID")?).await?;
    // Without offline_access there is no refresh token, and the session ends with its first access token.
    let wanted = SignIn::new("openid profile offline_access").audience(var("AUDIENCE")?);
    let device = Device::new(|prompt| {
        println!("open {} and enter {}", prompt.verification_uri, prompt.user_code);
    });
    let signed_in = session.sign_in(&issuer, wanted, device).await?;
    println!("signed in as {}", signed_in.subject.as_deref().unwrap_or("somebody"));
    Ok(())
}
