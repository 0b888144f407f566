//! Adds the access token of a [`Session`](tokenkeep_session::Session) to HTTP requests, and renews it when an API
//! answers 401.
//!
//! Layers do the same for several kinds of client. For each request to one of the [`Origins`] they were built with, and
//! only for those, they
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
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `reqwest` | yes | `SessionMiddleware` for reqwest 0.13 with reqwest-middleware 0.5, and `client` |
//! | `tower` | | `SessionLayer` for every tower client over `http::Request`: hyper's first of all |
//! | `tonic` | | `grpc_channel` for the clients of tonic 0.14 |
//!
//! None of them brings a TLS stack but `reqwest`: rustls with aws-lc-rs.

#![forbid(unsafe_code)]

#[cfg(any(feature = "reqwest", feature = "tower", feature = "tonic"))]
mod bearer;
#[cfg(any(feature = "reqwest", feature = "tower", feature = "tonic"))]
mod challenge;
mod error;
#[cfg(feature = "tonic")]
mod grpc;
mod origin;
#[cfg(feature = "reqwest")]
mod reqwest;
#[cfg(all(test, any(feature = "reqwest", feature = "tower")))]
mod stand_in;
#[cfg(feature = "tower")]
mod tower;

pub use error::{Error, login_required};
#[cfg(feature = "tonic")]
pub use grpc::{SessionChannel, grpc_channel};
pub use origin::Origins;
#[cfg(feature = "reqwest")]
pub use reqwest::{SessionMiddleware, client};
#[cfg(feature = "tower")]
pub use tower::{BoxError, CloneBody, Replay, SessionLayer, SessionService};
