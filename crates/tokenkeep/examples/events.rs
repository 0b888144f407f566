//! Tells what happens to a session: in this process, and in others that share its store.
#![allow(clippy::print_stdout, reason = "an example")]

use tokenkeep::session::Event;
use tokenkeep::{Session, SignOut, open_store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let session = Session::open(open_store().await?, "default").await?;
    let mut events = session.events();
    let telling = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::SignedIn { .. } => println!("somebody signed in"),
                Event::Renewed { attempt, .. } => println!("renewed, attempt {attempt}"),
                Event::Failed { failure, .. } => println!("not renewed: {failure}"),
                Event::LoginRequired { .. } => println!("somebody has to sign in again"),
                Event::SignedOut { .. } => {
                    println!("signed out");
                    break;
                }
                _ => {}
            }
        }
    });
    session.renew(&[]).await?;
    session.sign_out(SignOut::Revoke).await?;
    telling.await?;
    Ok(())
}
