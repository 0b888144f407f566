//! `tokenkeep list`: all sessions of the vault.

use clap::Args;
use serde::Serialize;
use tokenkeep::session::{Session, SessionState};

use crate::command::status::word;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::moment::rfc3339;
use crate::output::table;

/// List all sessions.
///
/// A table on a terminal, else one session a line with tabs: name, state, issuer, subject, expiry.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {}

/// What is printed with `--json`.
#[derive(Serialize)]
struct ListFields {
    sessions: Vec<SessionFields>,
}

/// One session of the list. A session that cannot be read has an `error` and no state.
#[derive(Serialize)]
struct SessionFields {
    session: String,
    state: Option<&'static str>,
    issuer: Option<String>,
    subject: Option<String>,
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs `list`.
pub(crate) async fn run(context: &Context) -> Result<Exit, CommandError> {
    let store = context.store().await?;
    let mut sessions = Vec::new();
    // One damaged session must not hide the others.
    let mut damaged = None;
    for name in Session::list(&store).await? {
        let status = match Session::open(store.clone(), &name).await {
            Ok(session) => session.status().await,
            Err(error) => Err(error),
        };
        match status {
            Ok(status) if status.state == SessionState::Absent => {}
            Ok(status) => sessions.push(SessionFields {
                session: name,
                state: Some(word(status.state)),
                issuer: status.issuer,
                subject: status.subject,
                expires_at: status.expires_at.map(rfc3339),
                error: None,
            }),
            Err(error) => {
                let error = CommandError::from(error);
                sessions.push(SessionFields {
                    session: name,
                    state: None,
                    issuer: None,
                    subject: None,
                    expires_at: None,
                    error: Some(error.code.to_owned()),
                });
                damaged = Some(error);
            }
        }
    }
    if context.output.json {
        context.output.object(&ListFields { sessions })?;
    } else if sessions.is_empty() {
        context.output.note("Nobody has signed in yet.");
    } else {
        let rows: Vec<Vec<String>> = sessions.into_iter().map(row).collect();
        context.output.styled(table(&["SESSION", "STATE", "ISSUER", "SUBJECT", "EXPIRES"], &rows))?;
    }
    damaged.map_or(Ok(Exit::Done), Err)
}

fn row(session: SessionFields) -> Vec<String> {
    let state = session.state.map_or_else(|| session.error.unwrap_or_default(), str::to_owned);
    vec![
        session.session,
        state,
        session.issuer.unwrap_or_default(),
        session.subject.unwrap_or_default(),
        session.expires_at.unwrap_or_default(),
    ]
}
