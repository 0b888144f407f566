//! A real HTTP server that behaves as an Auth0 tenant, for tests.
//!
//! It signs real tokens (RS256 or ES256) and publishes their keys, rotates refresh tokens with an overlap and detects
//! their reuse, answers with Auth0's error shapes, has pages on which a person can sign in and confirm a device, and a
//! protected API that refuses expired and revoked tokens. On request it misbehaves, see [`Fault`], and it counts all
//! that reaches it, see [`Counters`] and [`RequestRecord`].
//!
//! ```
//! use std::time::Duration;
//!
//! use mock_auth0::{BadAnswer, Fault, MockAuth0};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mock = MockAuth0::builder().overlap(Duration::from_secs(10)).start().await?;
//! let tokens = mock.seed_session()?;
//! let client_id = mock.client_id();
//! let form = [
//!     ("grant_type", "refresh_token"),
//!     ("client_id", client_id.as_str()),
//!     ("refresh_token", tokens.refresh_token()),
//! ];
//! let http = reqwest::Client::new();
//!
//! // The grant takes effect, but the connection is reset before the answer.
//! mock.next_refresh(Fault::after(BadAnswer::Reset));
//! assert!(http.post(mock.url("/oauth/token")).form(&form).send().await.is_err());
//! assert_eq!(mock.counters().took_effect("refresh_token"), 1);
//!
//! // Inside the overlap the same refresh token still gets an answer.
//! let again = http.post(mock.url("/oauth/token")).form(&form).send().await?;
//! assert_eq!(again.status(), 200);
//!
//! // Later it is reuse, and ends the family.
//! mock.advance(Duration::from_secs(11));
//! let late = http.post(mock.url("/oauth/token")).form(&form).send().await?;
//! assert_eq!(late.status(), 403);
//! assert_eq!(mock.counters().presented(tokens.refresh_token()), 3);
//! # Ok(())
//! # }
//! ```
//!
//! # Starting
//!
//! [`MockAuth0::start`] in async code, [`MockAuth0::start_blocking`] elsewhere. The server has a thread and a runtime of
//! its own: a test whose runtime is blocked, or a process that is stopped, does not stall it. It listens on 127.0.0.1
//! alone and stops when the handle is dropped. Without further words it has
//!
//! | what | is |
//! |---|---|
//! | a user | [`DEMO_USER`] with the `sub` [`DEMO_SUB`] in [`DEFAULT_CONNECTION`] |
//! | a public client | [`DEMO_CLIENT`], for every grant but `client_credentials` |
//! | a confidential client | [`DEMO_SERVICE`] |
//! | an API | [`DEMO_AUDIENCE`] with `read:things` and `write:things`, offline access allowed |
//!
//! # In a test of yours
//!
//! One line starts it, one seeds a session, and the program is pointed at [`MockAuth0::issuer`] and, for the API, at
//! [`MockAuth0::url`]. Three kinds of question are asked afterwards:
//!
//! - **how often**: [`MockAuth0::counters`] by endpoint and grant, what took effect, and how often one very token was
//!   presented. These are the server's own, so nothing that a client does hides from them;
//! - **with what**: [`MockAuth0::requests`] has each request with its headers and the answer that it got. Secrets stand
//!   there as [`fingerprint`]s;
//! - **is it alive**: [`MockAuth0::is_alive`] says whether a refresh token would still be taken.
//!
//! ```
//! use mock_auth0::{BadAnswer, BadBody, DEMO_CLIENT, Endpoint, Fault, MockAuth0, RetryAfter};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mock = MockAuth0::start().await?;
//! let session = mock.seed_session()?;
//! // What happens, in order: one refresh is rate-limited, the next is answered with a page of a proxy's, then all is well.
//! mock.next_refresh(Fault::instead(BadAnswer::RateLimited { retry_after: RetryAfter::Seconds(1) }));
//! mock.next_refresh(Fault::instead(BadAnswer::Status { status: 502, body: BadBody::Html }));
//!
//! # let form = [("grant_type", "refresh_token"), ("client_id", DEMO_CLIENT), ("refresh_token", session.refresh_token())];
//! # let refresh = || async { reqwest::Client::new().post(mock.url("/oauth/token")).form(&form).send().await };
//! // … the program under test; here it is three requests:
//! assert_eq!(refresh().await?.status(), 429);
//! assert_eq!(refresh().await?.status(), 502);
//! assert_eq!(refresh().await?.status(), 200);
//!
//! let counters = mock.counters();
//! assert_eq!(counters.refreshes(), 3);
//! assert_eq!(counters.took_effect("refresh_token"), 1);
//! assert_eq!(counters.presented(session.refresh_token()), 3);
//! assert!(mock.requests().iter().all(|request| request.endpoint == Endpoint::Token));
//! assert!(mock.faults().is_empty(), "all that was scripted has happened");
//! # Ok(())
//! # }
//! ```
//!
//! The binary of the same name runs the same tenant in the foreground; see its `--help`.
//!
//! # Where it takes sides
//!
//! Where Auth0's documents leave room, the mock does what is hardest on a client:
//!
//! - of the refresh tokens that one token gave inside the overlap, the others count as superseded as soon as one of
//!   them is used;
//! - the overlap counts from the rotation, not from the last reuse;
//! - a public client that sends a secret is refused, and so is a Basic header that was not form-encoded;
//! - the code of `/authorize` is spent by a failed attempt.
//!
//! [`MockAuth0::advance`] moves the issuer's clock, so that tokens it issues afterwards are dated ahead of the system's,
//! and so is its `Date` header. To test against a client on the system's clock, seed a session that is old already:
//! [`Seed::issued_ago`].
//!
//! # From another process
//!
//! Whatever the handle does can be asked for under `/_mock/` too, with JSON in and out. These requests are neither
//! counted nor hit by faults.
//!
//! | request | does |
//! |---|---|
//! | `GET /_mock/counters` | the counts |
//! | `GET /_mock/requests` | the request log |
//! | `POST /_mock/reset` | forgets both |
//! | `GET /_mock/settings` | the tenant's switches |
//! | `POST /_mock/configure` | changes any of them |
//! | `GET /_mock/faults` | the rules in force |
//! | `POST /_mock/faults` | adds one; answers `{"id": 1}` |
//! | `DELETE /_mock/faults` | takes all away, or one with `?id=1` |
//! | `GET /_mock/held` | how many requests are held |
//! | `POST /_mock/release` | lets them go on: `{"count": 1}`, or all |
//! | `POST /_mock/seed` | a session without a flow: `{"user", "client_id", "audience", "scope", "issued_ago_secs"}`, all optional |
//! | `POST /_mock/revoke` | `{"refresh_token", "kind"}`, or `{"user"}` for all of a user's |
//! | `POST /_mock/alive` | whether a refresh with `{"refresh_token"}` would be granted now; asking is not presenting |
//! | `POST /_mock/reject` | the API refuses `{"access_token"}`, or all issued so far |
//! | `GET /_mock/devices` | user codes that wait |
//! | `POST /_mock/devices/approve` | `{"user_code", "user"}` |
//! | `POST /_mock/devices/deny` | `{"user_code"}` |
//! | `POST /_mock/clock` | `{"offset_ms"}` sets, `{"advance_ms"}` adds |
//! | `POST /_mock/keys/rotate` | `{"keep_old": true}` |
//! | `POST /_mock/users/delete` | `{"user"}`: its refresh tokens then name a user who is gone |
//! | `POST /_mock/users/mfa` | `{"user", "required"}` |
//!
//! A fault in JSON is a [`FaultRule`]:
//!
//! ```json
//! {"endpoint": "token", "grant": "refresh_token", "times": 2,
//!  "fault": {"kind": "instead", "answer": {"kind": "rate_limited", "retry_after": {"seconds": 7}}}}
//! ```

#![forbid(unsafe_code)]

mod access;
mod admin;
mod api;
mod auth_codes;
mod authorize;
mod bad_answer;
mod builder;
mod client_auth;
mod clock;
mod connection;
mod control;
mod device;
mod device_codes;
mod directory;
mod endpoint;
mod error;
mod fault_book;
mod faults;
mod handle;
mod issue;
mod keys;
mod log;
mod message;
mod mint;
mod oauth;
mod pages;
mod process;
mod refresh;
mod secrets;
mod seed;
mod server;
mod settings;
mod shared;
mod tenant;
mod tls;
mod token;

pub use crate::bad_answer::{BadAnswer, BadBody, RetryAfter};
pub use crate::builder::{DEMO_AUDIENCE, DEMO_CLIENT, DEMO_SERVICE, DEMO_SUB, DEMO_USER, MockAuth0Builder};
pub use crate::directory::{Api, Client, ClientAuth, DEFAULT_CONNECTION, User};
pub use crate::endpoint::Endpoint;
pub use crate::error::MockError;
pub use crate::fault_book::ActiveFault;
pub use crate::faults::{Fault, FaultRule};
pub use crate::handle::MockAuth0;
pub use crate::keys::Signing;
pub use crate::log::{Counters, RequestRecord};
pub use crate::secrets::fingerprint;
pub use crate::seed::{Seed, Tokens};
pub use crate::settings::{Revocation, Settings};
