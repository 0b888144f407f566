//! What happens to a session, as it happens.

use std::time::SystemTime;

use tokio::sync::broadcast;

use crate::error::Failure;
use crate::record::End;

/// Something that happened to a session, in this process or, seen within a second of use, in another.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Somebody signed in.
    #[non_exhaustive]
    SignedIn {},
    /// A new token set is stored.
    #[non_exhaustive]
    Renewed {
        /// The attempt that brought it.
        attempt: u64,
        /// When its access token expires, where the issuer said so.
        expires_at: Option<SystemTime>,
    },
    /// An attempt failed; the session is kept.
    #[non_exhaustive]
    Failed {
        /// Why, and when the next may be made.
        failure: Failure,
    },
    /// The session has ended: someone has to sign in again.
    #[non_exhaustive]
    LoginRequired {
        /// Why.
        end: Box<End>,
    },
    /// Somebody signed out.
    #[non_exhaustive]
    SignedOut {},
}

/// A subscription to a session's events.
///
/// ```
/// use tokenkeep_session::{Event, Session};
///
/// async fn until_somebody_is_needed(session: &Session) {
///     let mut events = session.events();
///     while let Some(event) = events.next().await {
///         match event {
///             Event::LoginRequired { .. } | Event::SignedOut { .. } => return,
///             other => println!("{other:?}"),
///         }
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "it tells only of what happens while it is there"]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self { receiver }
    }

    /// The next event, or `None` when every handle of the session is gone. A subscriber that is far behind misses the
    /// oldest events, never the newest.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
