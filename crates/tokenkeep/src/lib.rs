//! Keeps a signed-in session alive on a machine without a keychain or a person at the keyboard.
//!
//! A person or a service signs in once. tokenkeep stores the session encrypted on disk, hands out an access token that
//! is always good, renews it exactly once however many tasks, processes and machines ask, retries a request that came
//! back 401, and says plainly when somebody has to sign in again.
//!
//! This is the crate to embed. It re-exports the layers below as modules and what most programs need from them at the
//! root:
//!
//! - [`store`]: secrets under keys. `open_store` finds and opens the vault as the `tokenkeep` command does.
//! - [`auth0`]: the token API of Auth0 and of any other OpenID provider.
//! - [`session`]: one session, kept fresh.
//! - `config` (feature `vault`, on by default): what `config.toml` says, which `open_store` obeys too.
//! - `http` (features `reqwest`, on by default, `tower` and `tonic`): its token in HTTP requests.
//! - `blocking` (feature `blocking`): the same for code that is not async.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `vault` | yes | the vault file, `open_store` and `config` |
//! | `keychain` | yes | a way into the vault that the OS keychain holds |
//! | `reqwest` | yes | `http::client`, `http::SessionMiddleware` |
//! | `tower` | | `http::SessionLayer`, for hyper and every other tower client |
//! | `tonic` | | `http::grpc_channel` |
//! | `blocking` | | `blocking::Session` |
//! | `ssh` | | ways into the vault by SSH keys |
//! | `plugin` | | ways into the vault by keys that age plugins hold |
//! | `conformance` | | the suite that every [`SecretStore`] must pass |
//!
//! Features only add: none changes what another does.
//!
//! # In one function
//!
//! `docs/embedding.md` is the guide, `examples/` has a program for each part of it, and the whole in one function is this:
//!
#![cfg_attr(all(feature = "vault", feature = "reqwest"), doc = include_str!("example.md"))]
#![forbid(unsafe_code)]

#[cfg(feature = "blocking")]
pub mod blocking;
#[cfg(feature = "vault")]
pub mod config;
#[cfg(feature = "vault")]
mod open;

pub use tokenkeep_auth0 as auth0;
pub use tokenkeep_clock as clock;
#[cfg(any(feature = "reqwest", feature = "tower", feature = "tonic"))]
pub use tokenkeep_http as http;
pub use tokenkeep_session as session;
pub use tokenkeep_store as store;

#[cfg(feature = "vault")]
pub use open::{open_or_make_store, open_store};
pub use tokenkeep_auth0::{
    ClientAuthentication, ClientCredentials, Device, DevicePrompt, Password, Profile, TokenClient, TokenError,
};
pub use tokenkeep_secret::{Secret, SecretString};
pub use tokenkeep_session::{
    AccessToken, LoginReason, Session, SessionError, SessionState, SignIn, SignOut, SignedIn, SignedOut,
    Status, TokenRequest, TokenSet,
};
pub use tokenkeep_store::{MemoryStore, SecretStore, StoreError};
