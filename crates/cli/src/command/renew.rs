//! `tokenkeep renew`: new tokens now.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::input;
use crate::moment::{rfc3339, short};
use crate::wait;

/// Renew the tokens now.
///
/// Not needed in everyday use: `tokenkeep token` renews by itself. Renewals of several processes at once join. Skips the
/// backoff after a failure, but not what the issuer asked for (Retry-After).
#[derive(Args, Debug)]
pub(crate) struct RenewArgs {
    /// Extra parameter for the issuer; repeatable
    ///
    /// Never a secret: other users of the machine can read arguments.
    #[arg(long, value_name = "K=V")]
    pub(crate) param: Vec<String>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct RenewedFields<'a> {
    session: &'a str,
    expires_at: Option<String>,
    expires_in: Option<u64>,
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// Runs `renew`.
pub(crate) async fn run(context: &Context, args: &RenewArgs) -> Result<Exit, CommandError> {
    let parameters = input::parameters(&args.param)?;
    let session = context.session().await?;
    let remark = match session.renew(&parameters).await {
        Ok(token) => token.remark().map(ToString::to_string),
        Err(error) => return Err(wait::until_saved(context, &session, error).await),
    };
    let set = session.peek().await?;
    let expires_in = set.as_ref().and_then(|set| set.expires_in);
    if let Some(remark) = &remark {
        context.output.note(format_args!("warning: {remark}"));
    }
    if context.output.json {
        context.output.object(&RenewedFields {
            session: session.name(),
            expires_at: set.as_ref().and_then(|set| set.expires_at).map(rfc3339),
            expires_in: expires_in.map(|left| left.as_secs()),
            scope: set.as_ref().and_then(|set| set.scope.as_deref()),
            warning: remark,
        })?;
    } else {
        let left = expires_in.map(|left| format!("; the access token is good for {}", short(left)));
        context.output.note(format_args!("Renewed{}.", left.unwrap_or_default()));
    }
    Ok(Exit::Done)
}
