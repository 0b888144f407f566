//! `tokenkeep token`: a good access token.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokenkeep::SecretString;
use tokenkeep::config::parse_duration;
use tokenkeep::session::{TokenRequest, TokenSet};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::moment::rfc3339;
use crate::wait;

/// Print an access token that is good.
///
/// It is taken from the vault, and renewed first if it would not live long enough. However many processes ask at once, one
/// renews and the others get what it got.
///
/// With --json: access_token, token_type, expires_at (RFC 3339), expires_in (seconds), scope, session, and id_token with
/// --id-token.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  curl -H \"$(tokenkeep token --header)\" https://api.example.com/
  tokenkeep token --min-ttl 10m --json
Variables: TOKENKEEP_SESSION, TOKENKEEP_VAULT, TOKENKEEP_STORE; `tokenkeep --help` has those that open the vault.")]
pub(crate) struct TokenArgs {
    /// Print the id token instead
    #[arg(long)]
    pub(crate) id_token: bool,

    /// How long it must live at least [default: 60s]
    ///
    /// Never more than half the lifetime that the issuer gives its tokens.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "offline")]
    pub(crate) min_ttl: Option<Duration>,

    /// Print a whole header: `Authorization: Bearer …`
    #[arg(long, conflicts_with_all = ["json", "id_token"])]
    pub(crate) header: bool,

    /// Print what is stored, even expired; never use the network
    #[arg(long)]
    pub(crate) offline: bool,

    /// API that the token is for, if not the one of the sign-in
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "offline")]
    pub(crate) audience: Option<String>,

    /// What to ask for, if not what was asked for at the sign-in
    #[arg(long, value_name = "SCOPES", conflicts_with = "offline")]
    pub(crate) scope: Option<String>,
}

/// What is printed with `--json`. Its fields are a contract with scripts.
#[derive(Serialize)]
struct TokenFields<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_at: Option<String>,
    expires_in: Option<u64>,
    scope: Option<&'a str>,
    session: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// Runs `token`.
pub(crate) async fn run(context: &Context, args: &TokenArgs) -> Result<Exit, CommandError> {
    if args.offline {
        let session = context.session().await?;
        let set = session.peek().await?.ok_or_else(no_token)?;
        return print(context, args, session.name(), &set);
    }
    let session = context.renewable_session().await?;
    let set = match session.token_set(wanted(args)).await {
        Ok(set) => set,
        Err(error) => {
            wait::until_saved(context, &session, error).await?;
            session.token_set(wanted(args)).await?
        }
    };
    print(context, args, session.name(), &set)
}

fn wanted(args: &TokenArgs) -> TokenRequest {
    let mut request = TokenRequest::new();
    if let Some(min_ttl) = args.min_ttl {
        request = request.min_ttl(min_ttl);
    }
    if let Some(audience) = &args.audience {
        request = request.audience(audience);
    }
    if let Some(scope) = &args.scope {
        request = request.scope(scope);
    }
    request
}

fn no_token() -> CommandError {
    CommandError::new(Exit::LoginRequired, "no_token", "no token is stored", "tokenkeep login")
}

fn print(context: &Context, args: &TokenArgs, session: &str, set: &TokenSet) -> Result<Exit, CommandError> {
    if args.id_token && set.id_token.is_none() {
        return Err(CommandError::new(
            Exit::Other,
            "no_id_token",
            "the issuer gave no id token",
            "tokenkeep login --scope \"openid profile email offline_access\"",
        ));
    }
    let id_token = set.id_token.as_ref().filter(|_| args.id_token).map(SecretString::expose);
    let expired = args.offline && set.expires_in.is_some_and(|left| left.is_zero());
    let warning = match &set.remark {
        Some(remark) => Some(remark.to_string()),
        None => expired.then(|| "the stored token has expired".to_owned()),
    };
    if let Some(warning) = &warning {
        context.output.note(format_args!("warning: {warning}"));
    }
    let access_token = set.access_token.expose();
    if context.output.json {
        context.output.object(&TokenFields {
            access_token,
            token_type: &set.token_type,
            expires_at: set.expires_at.map(rfc3339),
            expires_in: set.expires_in.map(|left| left.as_secs()),
            scope: set.scope.as_deref(),
            session,
            id_token,
            warning,
        })?;
    } else if args.header {
        let line = Zeroizing::new(format!("Authorization: Bearer {access_token}"));
        context.output.line(&line)?;
    } else {
        context.output.line(id_token.unwrap_or(access_token))?;
    }
    Ok(Exit::Done)
}
