//! `tokenkeep status`: how the session is.

use std::time::Duration;

use anstyle::AnsiColor;
use clap::Args;
use serde::Serialize;
use tokenkeep::session::{Actor, End, EndReason, Failure, SessionState, Status};

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::moment::{rfc3339, short};
use crate::output::{fields, paint};

/// Show how the session is.
///
/// Read from the vault, without the network. Exits 3, after printing, if there is no session or it has ended.
///
/// States: active (a token that is valid now), stale (none now, but it can be renewed), ended (sign in again), absent
/// (nobody has signed in).
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {}

/// What is printed with `--json`. Its fields are a contract with scripts; what is not known is null.
#[derive(Serialize)]
struct StatusFields {
    session: String,
    state: &'static str,
    issuer: Option<String>,
    client_id: Option<String>,
    subject: Option<String>,
    flow: Option<String>,
    audience: Option<String>,
    scope: Option<String>,
    requested_scope: Option<String>,
    expires_at: Option<String>,
    expires_in: Option<u64>,
    renewable: bool,
    signed_in_at: Option<String>,
    renewed_at: Option<String>,
    renewed_by: Option<ActorFields>,
    last_failure: Option<FailureFields>,
    renewing: Option<HolderFields>,
    ended: Option<EndFields>,
    /// A refresh token is still to be revoked: another `logout` does it.
    revocation_pending: bool,
    issuer_clock_ahead_s: Option<i64>,
}

#[derive(Serialize)]
struct ActorFields {
    host: String,
    pid: u32,
    user: Option<String>,
}

#[derive(Serialize)]
struct FailureFields {
    code: &'static str,
    message: String,
    retry_at: Option<String>,
    attempt: u64,
    outcome_unknown: bool,
}

#[derive(Serialize)]
struct HolderFields {
    by: Option<ActorFields>,
    since: Option<String>,
    stopped: bool,
}

#[derive(Serialize)]
struct EndFields {
    reason: &'static str,
    message: String,
    at: String,
    by: ActorFields,
    renewers: Vec<ActorFields>,
}

/// Runs `status`.
pub(crate) async fn run(context: &Context) -> Result<Exit, CommandError> {
    let session = context.session().await?;
    let status = session.status().await?;
    if context.output.json {
        context.output.object(&json(session.name(), &status))?;
    } else {
        context.output.styled(text(session.name(), &status))?;
    }
    match status.state {
        SessionState::Absent => Err(CommandError::new(
            Exit::LoginRequired,
            "never_signed_in",
            "nobody has signed in to this session",
            "tokenkeep login --domain DOMAIN --client-id ID",
        )),
        SessionState::Ended => {
            let why =
                status.ended.as_ref().map_or_else(|| "the session has ended".to_owned(), End::to_string);
            Err(CommandError::new(Exit::LoginRequired, "session_ended", why, "tokenkeep login"))
        }
        _ => Ok(Exit::Done),
    }
}

/// The word for a state, in JSON and in text.
pub(crate) fn word(state: SessionState) -> &'static str {
    match state {
        SessionState::Absent => "absent",
        SessionState::Active => "active",
        SessionState::Stale => "stale",
        SessionState::Ended => "ended",
        _ => "unknown",
    }
}

/// The word for a state in its colour.
pub(crate) fn coloured(state: SessionState) -> String {
    let colour = match state {
        SessionState::Active => AnsiColor::Green,
        SessionState::Stale => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    };
    paint(colour, word(state))
}

fn text(name: &str, status: &Status) -> String {
    let expires = status.expires_at.map(|at| match status.expires_in {
        Some(left) if !left.is_zero() => format!("{} (in {})", rfc3339(at), short(left)),
        _ => format!("{} (expired)", rfc3339(at)),
    });
    let renewed = status.renewed_at.map(|at| match &status.renewed_by {
        Some(actor) => format!("{} by {actor}", rfc3339(at)),
        None => rfc3339(at),
    });
    let failure = status.last_failure.as_ref().map(|failure| match failure.retry_at {
        Some(at) => format!("{failure}; next attempt after {}", rfc3339(at)),
        None => failure.to_string(),
    });
    let requested = status
        .requested_scope
        .clone()
        .filter(|requested| !requested.is_empty() && status.scope.as_ref() != Some(requested));
    let present = status.state != SessionState::Absent;
    fields(&[
        ("session", Some(name.to_owned())),
        ("state", Some(coloured(status.state))),
        ("ended", status.ended.as_ref().map(|end| format!("{}: {end}", rfc3339(end.at)))),
        ("issuer", status.issuer.clone()),
        ("client", status.client_id.clone()),
        ("subject", status.subject.clone()),
        ("flow", status.flow.clone()),
        ("audience", status.audience.clone()),
        ("scope", status.scope.clone().filter(|scope| !scope.is_empty())),
        ("asked for", requested),
        ("expires", expires),
        ("renewable", present.then(|| if status.renewable { "yes" } else { "no" }.to_owned())),
        ("signed in", status.signed_in_at.map(rfc3339)),
        ("renewed", renewed),
        ("last failure", failure),
        (
            "revocation",
            status.revocation_pending.then(|| "pending: another `tokenkeep logout` finishes it".to_owned()),
        ),
        ("issuer's clock", skew(status.issuer_clock_ahead_s)),
        ("renewing", status.renewing.as_ref().map(ToString::to_string)),
    ])
}

fn json(name: &str, status: &Status) -> StatusFields {
    StatusFields {
        session: name.to_owned(),
        state: word(status.state),
        issuer: status.issuer.clone(),
        client_id: status.client_id.clone(),
        subject: status.subject.clone(),
        flow: status.flow.clone(),
        audience: status.audience.clone(),
        scope: status.scope.clone(),
        requested_scope: status.requested_scope.clone(),
        expires_at: status.expires_at.map(rfc3339),
        expires_in: status.expires_in.map(|left| left.as_secs()),
        renewable: status.renewable,
        signed_in_at: status.signed_in_at.map(rfc3339),
        renewed_at: status.renewed_at.map(rfc3339),
        renewed_by: status.renewed_by.as_ref().map(actor),
        last_failure: status.last_failure.as_ref().map(failure),
        renewing: status.renewing.as_ref().map(|holder| HolderFields {
            by: holder.actor.as_ref().map(actor),
            since: holder.since.map(rfc3339),
            stopped: holder.stopped,
        }),
        ended: status.ended.as_ref().map(|end| EndFields {
            reason: reason(end.reason),
            message: end.to_string(),
            at: rfc3339(end.at),
            by: actor(&end.by),
            renewers: end.renewers.iter().map(actor).collect(),
        }),
        revocation_pending: status.revocation_pending,
        issuer_clock_ahead_s: status.issuer_clock_ahead_s,
    }
}

/// How far the two clocks are apart, where that is worth a word.
fn skew(ahead: Option<i64>) -> Option<String> {
    let seconds = ahead.filter(|ahead| ahead.unsigned_abs() > 60)?;
    let by = short(Duration::from_secs(seconds.unsigned_abs()));
    Some(if seconds > 0 {
        format!("{by} ahead of this machine's")
    } else {
        format!("{by} behind this machine's")
    })
}

fn actor(actor: &Actor) -> ActorFields {
    ActorFields { host: actor.host.clone(), pid: actor.pid, user: actor.user.clone() }
}

fn failure(failure: &Failure) -> FailureFields {
    FailureFields {
        code: failure.kind.code(),
        message: failure.to_string(),
        retry_at: failure.retry_at.map(rfc3339),
        attempt: failure.attempt,
        outcome_unknown: failure.outcome_unknown,
    }
}

fn reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Revoked => "revoked",
        EndReason::Reused => "reused",
        EndReason::SignedOut => "signed_out",
        _ => "other",
    }
}
