//! `tokenkeep renew`: new tokens now.

use clap::Args;
use serde::Serialize;
use tokenkeep::session::{Remark, SessionError};

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
}

/// Runs `renew`.
pub(crate) async fn run(context: &Context, args: &RenewArgs) -> Result<Exit, CommandError> {
    let parameters = input::parameters(&args.param)?;
    let session = context.renewable_session().await?;
    match session.renew(&parameters).await {
        Ok(token) => {
            if let Some(error) = token.remark().and_then(not_renewed) {
                return Err(error);
            }
        }
        // Once they are saved they are the new tokens that were asked for.
        Err(error) => wait::until_saved(context, &session, error).await?,
    }
    let set = session.peek().await?;
    let expires_in = set.as_ref().and_then(|set| set.expires_in);
    if context.output.json {
        context.output.object(&RenewedFields {
            session: session.name(),
            expires_at: set.as_ref().and_then(|set| set.expires_at).map(rfc3339),
            expires_in: expires_in.map(|left| left.as_secs()),
            scope: set.as_ref().and_then(|set| set.scope.as_deref()),
        })?;
    } else {
        let left = expires_in.map(|left| format!("; the access token is good for {}", short(left)));
        context.output.note(format_args!("Renewed{}.", left.unwrap_or_default()));
    }
    Ok(Exit::Done)
}

/// Why there is no new token although there is a valid one: who asked for a new one did not get it.
fn not_renewed(remark: &Remark) -> Option<CommandError> {
    match remark {
        Remark::ShorterThanAsked => None,
        Remark::RenewalFailed(failure) => Some(SessionError::RenewalFailed(failure.clone()).into()),
        Remark::StoreFailed(_) => {
            Some(CommandError::new(Exit::Store, "store_failed", remark.to_string(), "tokenkeep vault status"))
        }
        _ => {
            Some(CommandError::new(Exit::Unavailable, "renewal_slow", remark.to_string(), "tokenkeep status"))
        }
    }
}
