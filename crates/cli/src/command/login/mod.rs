//! `tokenkeep login`: sign in and keep the session.

mod args;
mod device;
mod plan;

use std::time::SystemTime;

use serde::Serialize;
use tokenkeep::SecretString;
use tokenkeep::auth0::{ClientCredentials, Password};
use tokenkeep::clock::SystemClock;
use tokenkeep::session::{Session, SessionError, SignedIn};
use tokenkeep::store::StoreError;

pub(crate) use args::LoginArgs;
use plan::{How, Plan};

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::input;
use crate::moment::rfc3339;
use crate::output::printable;
use crate::prompt::unreadable;
use crate::wait;

/// What is printed with `--json` at the end. Its fields are a contract with scripts.
#[derive(Serialize)]
struct SignedInFields<'a> {
    session: &'a str,
    issuer: &'a str,
    client_id: &'a str,
    subject: Option<&'a str>,
    scope: Option<&'a str>,
    expires_at: Option<String>,
    renewable: bool,
    /// Whether a live session was replaced.
    replaced: bool,
    /// The vault, if this made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    vault_created: Option<String>,
}

/// Runs `login`.
pub(crate) async fn run(context: &Context, args: LoginArgs) -> Result<Exit, CommandError> {
    one_secret_from_stdin(context, &args)?;
    let parameters = input::parameters(&args.param)?;
    // Files are read before a vault is made or the issuer asked: what is wrong with them is said at once.
    let secrets = Secrets::read(&args)?;
    let opened = context.opening(context.prompt)?.open_or_make().await?;
    let made = opened.made.as_ref().map(|_| opened.place.path.display().to_string());
    if let (Some(path), Some(source)) = (&made, &opened.made) {
        context.output.note(format_args!("Made a vault at {path}. What opens it comes from {source}."));
    }
    let session = context.open(opened.store).await?;
    wait::watch(&session);
    let known = match session.settings().await {
        // The flags have to say everything, and the sign-in mends it.
        Err(SessionError::Store(error)) if matches!(*error, StoreError::Corrupt { .. }) => None,
        known => known?,
    };
    let plan = Plan::new(&args, parameters, secrets.client_secret, known)?;
    let client = plan.client(SystemClock::shared())?;
    let request = plan.request();
    let outcome = match (secrets.refresh_token, plan.how) {
        (Some(refresh_token), _) => session.adopt(&client, request, refresh_token).await,
        (None, How::Device) => device::sign_in(context, &session, &client, request).await,
        (None, How::Password) => {
            let (username, password) = credentials(context, plan.username.clone(), secrets.password)?;
            let grant = Password::new(username.as_str(), password).realm(plan.realm.clone());
            session.sign_in(&client, request.username(username), grant).await
        }
        (None, How::ClientCredentials) => session.sign_in(&client, request, ClientCredentials::new()).await,
    };
    match outcome {
        Ok(signed_in) => {
            report(context, &session, client.issuer(), client.client_id(), &signed_in, made)?;
            Ok(Exit::Done)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Secrets that were named by flags.
#[derive(Default)]
struct Secrets {
    client_secret: Option<SecretString>,
    password: Option<SecretString>,
    refresh_token: Option<SecretString>,
}

impl Secrets {
    fn read(args: &LoginArgs) -> Result<Self, CommandError> {
        let read = |flag, path: &Option<_>| path.as_deref().map(|path| input::secret(flag, path)).transpose();
        let refresh_token = if args.refresh_token_stdin {
            Some(input::secret("--refresh-token-stdin", input::STDIN.as_ref())?)
        } else {
            read("--refresh-token-file", &args.refresh_token_file)?
        };
        Ok(Self {
            client_secret: read("--client-secret-file", &args.client_secret_file)?,
            password: read("--password-file", &args.password_file)?,
            refresh_token,
        })
    }
}

/// Refuses two secrets from standard input.
fn one_secret_from_stdin(context: &Context, args: &LoginArgs) -> Result<(), CommandError> {
    let refresh_token = args.refresh_token_stdin.then_some(input::STDIN.as_ref());
    let inputs = [
        ("--refresh-token-stdin", refresh_token),
        ("--refresh-token-file", args.refresh_token_file.as_deref()),
        ("--password-file", args.password_file.as_deref()),
        ("--client-secret-file", args.client_secret_file.as_deref()),
    ];
    context.standard_input_once(&inputs, "put the others into files: --client-secret-file FILE")
}

/// User name and password, asked for where they were not given.
fn credentials(
    context: &Context,
    username: Option<String>,
    given: Option<SecretString>,
) -> Result<(String, SecretString), CommandError> {
    let missing = |flag: &str| {
        CommandError::usage(
            format!("--flow password needs {flag} where nobody can be asked"),
            format!("tokenkeep login --flow password {flag} …"),
        )
    };
    let username = match username {
        Some(name) => name,
        None if context.prompt.allowed() => context.prompt.line("User name: ").map_err(unreadable)?,
        None => return Err(missing("--username")),
    };
    let password = match given {
        Some(password) => password,
        None if context.prompt.allowed() => context.prompt.secret("Password: ").map_err(unreadable)?,
        None => return Err(missing("--password-file")),
    };
    Ok((username, password))
}

fn report(
    context: &Context,
    session: &Session,
    issuer: &str,
    client_id: &str,
    signed_in: &SignedIn,
    vault_created: Option<String>,
) -> Result<(), CommandError> {
    let subject = signed_in.subject.as_deref();
    if context.output.json {
        return context.output.object(&SignedInFields {
            session: session.name(),
            issuer,
            client_id,
            subject,
            scope: signed_in.scope.as_deref(),
            expires_at: signed_in.expires_at.map(rfc3339),
            renewable: signed_in.renewable,
            replaced: signed_in.replaced,
            vault_created,
        });
    }
    let who = subject.map(|subject| format!(" as {}", printable(subject))).unwrap_or_default();
    context.output.note(format_args!("Signed in{who}."));
    if !signed_in.renewable {
        context.output.note(lifetime(signed_in.expires_at));
    }
    Ok(())
}

fn lifetime(expires_at: Option<SystemTime>) -> String {
    let until = expires_at.map(|at| format!(" at {}", rfc3339(at))).unwrap_or_default();
    format!(
        "The issuer gave no refresh token, so this session ends with its access token{until}. With offline_access in --scope it can be renewed."
    )
}

fn failed(error: SessionError) -> CommandError {
    match error {
        // A sign-in that failed leaves whoever was signed in before as they were.
        SessionError::LoginRequired(reason) => CommandError::new(
            Exit::Other,
            "refresh_token_refused",
            format!("the refresh token was not taken over: {reason}"),
            "tokenkeep login --flow device, or another refresh token",
        ),
        error => error.into(),
    }
}
