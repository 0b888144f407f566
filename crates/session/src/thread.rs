//! The renewal thread: one a process, with its own small runtime and connections, so that a caller's runtime that is
//! dropped or not polled neither stops nor stalls a renewal.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle};
use tokio::task::AbortHandle;

use crate::SessionError;

const NAME: &str = "tokenkeep-renewal";

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

/// Runs `future` on the renewal thread and holds this one up until it is done. Code that is itself called on the renewal
/// thread, such as a grant's callback, is refused: it would wait for itself.
#[cfg(feature = "blocking")]
pub(crate) fn block_on<F>(future: F) -> Result<F::Output, SessionError>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    wait(run(future))?
}

/// Waits on this thread for a future that needs no runtime of its caller's.
#[cfg(feature = "blocking")]
pub(crate) fn wait<F: Future>(future: F) -> Result<F::Output, SessionError> {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = std::pin::pin!(future);
    // The warm path allocates nothing.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(output);
    }
    if std::thread::current().name() == Some(NAME) {
        return Err(SessionError::System {
            what: "to wait on the renewal thread, which would wait for itself",
        });
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        std::thread::park();
    }
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
        .name(NAME.to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(refused)?;
    *thread = Some(handle.clone());
    Ok(handle)
}
