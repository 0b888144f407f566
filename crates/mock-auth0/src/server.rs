//! The listener and its thread.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::connection::{Line, serve};
use crate::error::MockError;
use crate::shared::Shared;

/// How often a port that another process has taken meanwhile is tried again.
const REBIND_EVERY: Duration = Duration::from_millis(20);

/// The server's thread. Stops when dropped.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on a thread and a runtime of its own, so that nothing the caller's runtime does can stall it.
    pub(crate) fn start(
        shared: Arc<Shared>,
        listener: StdListener,
        tls: Option<TlsAcceptor>,
    ) -> Result<Self, MockError> {
        let address = listener.local_addr().map_err(MockError::Thread)?;
        listener.set_nonblocking(true).map_err(MockError::Thread)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MockError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("mock-auth0".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        () = listen(shared, listener, address, tls) => {}
                    }
                });
                runtime.shutdown_background();
            })
            .map_err(MockError::Thread)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts while the mock is up; while it is down, nobody listens on the port and no connection is left.
async fn listen(shared: Arc<Shared>, first: StdListener, address: SocketAddr, tls: Option<TlsAcceptor>) {
    let mut up = shared.up.subscribe();
    let mut listener = TcpListener::from_std(first).ok();
    loop {
        let Some(open) = listener.take() else {
            listener = bind_again(address).await;
            continue;
        };
        accept_while_up(&shared, open, tls.as_ref(), &mut up).await;
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
    }
}

async fn bind_again(address: SocketAddr) -> Option<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Some(listener),
        Err(_) => {
            tokio::time::sleep(REBIND_EVERY).await;
            None
        }
    }
}

async fn accept_while_up(
    shared: &Arc<Shared>,
    listener: TcpListener,
    tls: Option<&TlsAcceptor>,
    up: &mut tokio::sync::watch::Receiver<bool>,
) {
    // Dropping the set ends the connections; requests that are being processed go on in tasks of their own.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            down = up.wait_for(|up| !*up) => {
                drop(down);
                return;
            }
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    connections.spawn(connection(Arc::clone(shared), socket, tls.cloned()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    shared: Arc<Shared>,
    socket: tokio::net::TcpStream,
    tls: Option<TlsAcceptor>,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let number = shared.log.connected();
    let (line, reset) = Line::new(socket);
    match tls {
        None => serve(shared, line, reset, number).await,
        Some(tls) => serve(shared, tls.accept(line).await?, reset, number).await,
    }
    Ok(())
}
