//! Adds the access token of a [`Session`](tokenkeep_session::Session) to HTTP requests, and renews it when an API
//! answers 401.
//!
//! Two layers do the same for two kinds of client: [`SessionMiddleware`] for `reqwest-middleware` (feature `reqwest`,
//! on by default) and [`SessionLayer`] for `tower` (feature `tower`). For each request to one of the [`Origins`] they
//! were built with, and only for those, they
//!
//! 1. ask the session for a good token and send it as `Authorization: Bearer …` (RFC 6750);
//! 2. on a 401 that another token may help, tell the session that this one was rejected. A thousand 401s for one token
//!    make one renewal;
//! 3. send the request once more with the new token, if its body can be sent again. Otherwise the 401 is passed on, and
//!    the next request has the new token.
//!
//! A 401 may be helped by another token if it holds no challenge, or a Bearer challenge that names no error or
//! `invalid_token`. `insufficient_scope`, other schemes and a 403 renew nothing.
//!
//! A request that already has an `Authorization` header is somebody's own business: it passes through untouched, and so
//! does its answer. The same holds for a request to any other origin.
//!
//! When the person has to sign in again, the request fails, and [`login_required`] finds the reason in whatever error
//! the client made of it.

#![forbid(unsafe_code)]

#[cfg(any(feature = "reqwest", feature = "tower"))]
mod bearer;
#[cfg(any(feature = "reqwest", feature = "tower"))]
mod challenge;
mod error;
mod origin;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(all(test, any(feature = "reqwest", feature = "tower")))]
mod stand_in;
#[cfg(feature = "tower")]
mod tower;

pub use error::{Error, login_required};
pub use origin::Origins;
#[cfg(feature = "reqwest")]
pub use reqwest::{SessionMiddleware, client};
#[cfg(feature = "tower")]
pub use tower::{BoxError, CloneBody, Replay, SessionLayer, SessionService};
