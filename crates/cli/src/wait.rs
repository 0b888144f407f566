//! How long a command may take, and how it is stopped without losing what it holds.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use tokenkeep_session::{Session, SessionError};

use crate::context::Context;
use crate::exit::{CommandError, Exit, busy};
use crate::output::say;
use crate::prompt;

/// How long new tokens are waited for to be saved, where `--timeout` does not say.
const SAVING_LIMIT: Duration = Duration::from_secs(60);

/// How long a stopped command waits for a renewal that is under way: longer than one exchange may last.
const STOPPING_LIMIT: Duration = Duration::from_secs(50);

thread_local! {
    /// The session that the command has open. The command runs on one thread.
    static OPEN: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// Remembers the session whose renewal must not be cut off when the command is stopped.
pub(crate) fn watch(session: &Session) {
    OPEN.with_borrow_mut(|open| *open = Some(session.clone()));
}

/// Runs `command` until it is done, `--timeout` is over, or somebody stops it.
pub(crate) async fn in_time(
    context: &Context,
    command: impl Future<Output = Result<Exit, CommandError>>,
) -> Result<Exit, CommandError> {
    let limit = context.timeout();
    let elapsed = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // First, so that a command that is done is never called late.
        biased;
        outcome = command => outcome.map_err(|error| if prompt::was_interrupted() { stop() } else { error }),
        () = stopped() => {
            prompt::restore_terminal();
            Err(interrupted().await)
        }
        () = elapsed => {
            prompt::restore_terminal();
            Err(timed_out(limit.unwrap_or_default()).await)
        }
    }
}

/// Waits until new tokens that are only in memory are saved, and says what came of it. The process must not end before:
/// the old refresh token is spent.
pub(crate) async fn until_saved(context: &Context, session: &Session, error: SessionError) -> CommandError {
    let SessionError::NotSaved { source } = &error else { return error.into() };
    let limit = context.timeout().unwrap_or(SAVING_LIMIT);
    if !context.output.json {
        say(format_args!(
            "The new tokens could not be saved yet ({source}). Waiting up to {} s for the store; stopping now would end the session.",
            limit.as_secs()
        ));
    }
    match session.close(limit).await {
        Ok(()) => CommandError::new(
            Exit::Store,
            "saved_late",
            format!("the store was not writable for a while ({source}); the new tokens are saved now"),
            "run the command again",
        ),
        Err(_) => error.into(),
    }
}

/// Resolves at Ctrl-C, or when the service manager asks to stop.
async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Lets a renewal that is under way finish, since its refresh token may be spent already, unless asked again to stop.
async fn interrupted() -> CommandError {
    if let Some(session) = OPEN.with_borrow(Clone::clone) {
        let finished = session.close(STOPPING_LIMIT);
        tokio::pin!(finished);
        let patience = tokio::time::sleep(Duration::from_millis(300));
        tokio::select! {
            _ = &mut finished => return stop(),
            () = patience => say("Letting the renewal under way finish. Ctrl-C again stops at once and may end the session."),
        }
        tokio::select! {
            _ = finished => {}
            () = stopped() => {}
        }
    }
    stop()
}

fn stop() -> CommandError {
    CommandError::new(Exit::Interrupted, "interrupted", "interrupted", "run the command again")
}

/// What the command was waiting for when its time was over.
async fn timed_out(limit: Duration) -> CommandError {
    if let Some(session) = OPEN.with_borrow(Clone::clone)
        && let Ok(status) = session.status().await
        && let Some(holder) = status.renewing
        && holder.actor.as_ref().is_none_or(|actor| actor.pid != std::process::id())
    {
        return busy(&holder);
    }
    CommandError::new(
        Exit::Unavailable,
        "timeout",
        format!("not done within {limit:?}"),
        "run the command again with a longer --timeout",
    )
}
