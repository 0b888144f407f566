//! Keeps one signed-in session fresh: a good access token at hand, renewed exactly once however many tasks, processes and
//! machines ask.
//!
//! This is the only crate that knows both tokens and storage. [`Session`] is what callers hold; the renewal protocol is in
//! `renewal.rs` and what becomes of an answer in `settle.rs`.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `blocking` | | `blocking::Session`, for code that is not async |
//!
//! No call needs more of tokio than a runtime of one thread, and renewals need none of the caller's.

#![forbid(unsafe_code)]

#[cfg(feature = "blocking")]
pub mod blocking;
mod codec;
mod core;
mod deputy;
mod error;
mod events;
mod fingerprint;
mod host;
mod keep_fresh;
mod moment;
mod note;
mod profile;
mod random;
mod record;
mod renewal;
mod serve;
mod session;
mod settings;
mod settle;
mod sign_in;
mod sign_out;
mod snapshot;
mod status;
mod thread;

pub use deputy::Deputy;
pub use error::{Failure, Holder, LoginReason, Refusal, SessionError};
pub use events::{Event, Events};
pub use host::Actor;
pub use keep_fresh::KeepFresh;
pub use record::{End, EndReason};
pub use session::{Session, SessionBuilder, TokenRequest};
pub use settings::{Settings, SignIn};
pub use sign_in::SignedIn;
pub use sign_out::{Revocation, SignOut, SignedOut};
pub use snapshot::{AccessToken, Remark};
pub use status::{SessionState, Status, TokenSet};
pub use tokenkeep_secret::SecretString;
