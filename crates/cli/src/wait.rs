//! How long a command may take, and how it ends without losing what it holds.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use tokenkeep::session::{Session, SessionError};

use crate::context::Context;
use crate::exit::{CommandError, Exit, busy};
use crate::prompt;

/// How long new tokens are waited for to be saved, where `--timeout` does not say: longer than one exchange may last.
const SAVING_LIMIT: Duration = Duration::from_secs(60);

/// How long a renewal under way may take before the person is told what is being waited for.
const UNREMARKED: Duration = Duration::from_millis(300);

thread_local! {
    /// The session that this command may renew. Commands run on one thread.
    static RENEWS: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// Remembers a session that the command may renew: the process is not to end in the middle of that.
pub(crate) fn watch(session: &Session) {
    RENEWS.with_borrow_mut(|watched| *watched = Some(session.clone()));
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
        outcome = command => outcome.map_err(|error| if prompt::was_interrupted() { interrupted() } else { error }),
        () = stopped() => {
            prompt::restore_terminal();
            Err(interrupted())
        }
        () = elapsed => {
            prompt::restore_terminal();
            Err(timed_out(limit.unwrap_or_default()).await)
        }
    }
}

/// Waits until what this process renews is saved, since its refresh token may be spent already; a process of its own that
/// renews needs nobody. The command's answer or error has been printed by then.
///
/// # Errors
///
/// New tokens that could not be saved within the limit.
pub(crate) async fn settled(context: &Context) -> Result<(), CommandError> {
    let Some(session) = RENEWS.take() else { return Ok(()) };
    let limit = context.timeout().unwrap_or_default().max(SAVING_LIMIT);
    let finished =
        async { if ends_others() { session.close(limit).await } else { session.leave(limit).await } };
    tokio::pin!(finished);
    tokio::select! {
        biased;
        outcome = &mut finished => return outcome.map_err(CommandError::from),
        () = tokio::time::sleep(UNREMARKED) => {
            context.output.note("A renewal is under way; staying until it is saved. Stopping now could end the session.");
        }
    }
    tokio::select! {
        outcome = finished => outcome.map_err(CommandError::from),
        () = stopped() => Err(interrupted()),
    }
}

/// Whether other processes may end with this one: it is the first of a container, or what that one, or a service manager,
/// was started for.
#[cfg(unix)]
fn ends_others() -> bool {
    nix::unistd::getppid().as_raw() <= 1
}

#[cfg(not(unix))]
fn ends_others() -> bool {
    false
}

/// Waits for new tokens that are only in memory to be saved. Then what failed can be tried again.
///
/// # Errors
///
/// `error` itself if it is another one, or if the tokens could not be saved.
pub(crate) async fn until_saved(
    context: &Context,
    session: &Session,
    error: SessionError,
) -> Result<(), CommandError> {
    let SessionError::NotSaved { source } = &error else { return Err(error.into()) };
    let limit = context.timeout().unwrap_or(SAVING_LIMIT);
    context.output.note(format_args!(
        "The new tokens cannot be saved yet: {source}. Trying for up to {} s; stopping now could end the session.",
        limit.as_secs()
    ));
    session.close(limit).await.map_err(|_| {
        // That was the wait; the end of the process does not wait again.
        RENEWS.take();
        error.into()
    })
}

/// Whether `pid` is this process, or one that renews for it.
fn is_own(pid: u32) -> bool {
    #[cfg(target_os = "linux")]
    if crate::deputy::is_own(pid) {
        return true;
    }
    pid == std::process::id()
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

fn interrupted() -> CommandError {
    CommandError::new(Exit::Interrupted, "interrupted", "interrupted", "run the command again")
}

/// What the command was waiting for when its time was over.
async fn timed_out(limit: Duration) -> CommandError {
    let session = RENEWS.with_borrow(Clone::clone);
    if let Some(session) = &session
        && let Err(unsaved @ SessionError::NotSaved { .. }) = session.close(Duration::ZERO).await
    {
        RENEWS.take();
        return unsaved.into();
    }
    if let Some(session) = &session
        && let Ok(status) = session.status().await
        && let Some(holder) = status.renewing
        && (holder.stopped || holder.actor.as_ref().is_none_or(|actor| !is_own(actor.pid)))
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
