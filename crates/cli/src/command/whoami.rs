//! `tokenkeep whoami`: the profile of who signed in.

use clap::Args;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::output::{fields, printable};

/// Show who is signed in.
///
/// It is read from the vault, without the network. With --json: all claims of the profile.
#[derive(Args, Debug)]
pub(crate) struct WhoamiArgs {}

/// Runs `whoami`.
pub(crate) async fn run(context: &Context) -> Result<Exit, CommandError> {
    let session = context.session().await?;
    let profile = session.profile().await?.ok_or_else(|| {
        CommandError::new(
            Exit::Other,
            "no_profile",
            "the issuer gave no profile for this session",
            "tokenkeep login --scope \"openid profile email offline_access\"",
        )
    })?;
    if context.output.json {
        context.output.object(&profile)?;
        return Ok(Exit::Done);
    }
    let text = |value: Option<&str>| value.map(printable);
    let email = profile.email().map(|email| match profile.email_verified() {
        Some(false) => format!("{} (not verified)", printable(email)),
        _ => printable(email),
    });
    context.output.styled(fields(&[
        ("subject", Some(printable(profile.sub()))),
        ("name", text(profile.name())),
        ("nickname", text(profile.nickname())),
        ("email", email),
        ("phone", text(profile.phone_number())),
        ("locale", text(profile.locale())),
        ("time zone", text(profile.zoneinfo())),
    ]))?;
    Ok(Exit::Done)
}
