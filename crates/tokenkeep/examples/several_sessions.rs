//! A service that acts for several people: one store, one session a name, each with its own token. It keeps all of them
//! fresh, so that no request waits for a renewal.
//!
//! `API` is the API's origin.
#![allow(clippy::print_stdout, reason = "an example")]

use std::env::var;

use tokenkeep::http::{client, login_required};
use tokenkeep::{Session, open_store};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let api = var("API")?;
    // Opened once and shared: unlocking may cost a fraction of a second.
    let store = open_store().await?;
    let mut kept = Vec::new();
    for name in Session::list(&store).await? {
        let session = Session::open(store.clone(), &name).await?;
        kept.push(session.keep_fresh()?);
        let http = client(&session, [&api])?;
        match http.get(format!("{api}/api/things")).send().await {
            Ok(answer) => println!("{name}: {}", answer.status()),
            // One session that has ended is no reason to stop serving the others.
            Err(error) => match login_required(&error) {
                Some(reason) => println!("{name}: sign in again: {reason}"),
                None => return Err(error.into()),
            },
        }
    }
    Ok(())
}
