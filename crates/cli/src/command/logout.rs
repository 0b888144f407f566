//! `tokenkeep logout`: end the session here and at the issuer.

use clap::Args;
use serde::Serialize;
use tokenkeep::session::{Revocation, SignOut};

use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// Sign out: here first, then at the issuer.
///
/// The refresh token is revoked at the issuer. If the issuer cannot be told, you are signed out here all the same, the exit
/// code is 5, and another `tokenkeep logout` finishes it. The settings stay, so that `tokenkeep login` needs no flags.
#[derive(Args, Debug)]
pub(crate) struct LogoutArgs {
    /// Do not tell the issuer
    #[arg(long)]
    pub(crate) local: bool,

    /// Drop the settings too
    #[arg(long)]
    pub(crate) forget: bool,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct SignedOutFields<'a> {
    session: &'a str,
    /// Whether somebody was signed in.
    was_signed_in: bool,
    /// `done`, `pending` (the issuer could not be told yet) or `nothing` (there was nothing to revoke).
    revoked: &'static str,
    /// Whether the settings were dropped too.
    forgotten: bool,
}

/// Runs `logout`.
pub(crate) async fn run(context: &Context, args: &LogoutArgs) -> Result<Exit, CommandError> {
    let session = context.session().await?;
    let signed_out = session.sign_out(if args.local { SignOut::LocalOnly } else { SignOut::Revoke }).await?;
    let pending = match &signed_out.revocation {
        Revocation::Pending(failure) => Some(failure.to_string()),
        _ => None,
    };
    // What is still to be revoked is kept with the settings: forgetting both would leave the token alive at the issuer.
    let forgotten = args.forget && pending.is_none();
    if forgotten {
        session.forget().await?;
    }
    if context.output.json {
        context.output.object(&SignedOutFields {
            session: session.name(),
            was_signed_in: signed_out.was_signed_in,
            revoked: match signed_out.revocation {
                Revocation::Done => "done",
                Revocation::Pending(_) => "pending",
                _ => "nothing",
            },
            forgotten,
        })?;
    } else if pending.is_none() {
        context.output.note(if signed_out.was_signed_in { "Signed out." } else { "Nobody was signed in." });
    }
    match pending {
        None => Ok(Exit::Done),
        Some(failure) => Err(CommandError::new(
            Exit::Unavailable,
            "revocation_pending",
            format!("signed out here, but the issuer could not be told yet: {failure}"),
            "another `tokenkeep logout` finishes it",
        )),
    }
}
