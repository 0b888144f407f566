//! The renewal thread: one a process, with its own small runtime and connections, so that a caller's runtime that is
//! dropped or not polled neither stops nor stalls a renewal.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle};
use tokio::task::AbortHandle;

use crate::SessionError;

/// Starts `future` on the renewal thread, where it goes on whatever becomes of the handle.
pub(crate) fn spawn<F>(future: F) -> Result<AbortHandle, SessionError>
where
    F: Future<Output = ()> + Send + 'static,
{
    handle().map(|handle| handle.spawn(future).abort_handle())
}

/// Runs `future` on the renewal thread and gives its result, also where the caller has no runtime of tokio's.
pub(crate) async fn run<F>(future: F) -> Result<F::Output, SessionError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (send, receive) = tokio::sync::oneshot::channel();
    spawn(async move {
        // Nobody listens any more if the caller was dropped; the work is done all the same.
        let _ = send.send(future.await);
    })?;
    receive.await.map_err(|_| SessionError::System { what: "the renewal thread's answer" })
}

fn handle() -> Result<Handle, SessionError> {
    // Not a `OnceLock`: a thread that could not be started is tried again at the next call.
    static THREAD: Mutex<Option<Handle>> = Mutex::new(None);
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*thread {
        return Ok(handle.clone());
    }
    let refused = |_| SessionError::System { what: "the renewal thread" };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(refused)?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("tokenkeep-renewal".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(refused)?;
    *thread = Some(handle.clone());
    Ok(handle)
}
