//! The token API of Auth0 and of any other OpenID provider.
//!
//! [`TokenClient`] talks to one issuer for one client: discovery, the grants, refresh with its resend rules,
//! revocation, userinfo, and judging id tokens against the issuer's keys. It knows nothing of storage: what it
//! receives is handed to the caller as it came ([`Answer`]), so that a rotated refresh token can be saved before
//! anything about the answer is judged.
//!
//! ```no_run
//! use tokenkeep_auth0::{Device, RefreshRequest, SignInRequest, TokenClient, TokenErrorKind};
//!
//! # async fn example() -> Result<(), tokenkeep_auth0::TokenError> {
//! let client = TokenClient::auth0("tenant.eu.auth0.com", "client-id")?;
//! let device = Device::new(|prompt| eprintln!("Go to {} and enter {}", prompt.verification_uri, prompt.user_code));
//! let answer = client.sign_in(&device, &SignInRequest::new("openid offline_access")).await?;
//! if let Some(refresh_token) = answer.refresh_token {
//!     match client.refresh(&RefreshRequest::new(refresh_token)).await {
//!         Ok(answer) => { /* save answer.refresh_token before anything else */ }
//!         Err(error) if error.kind() == TokenErrorKind::InvalidGrant => { /* sign in again */ }
//!         Err(error) if error.is_transient() => { /* keep what is there, try again later */ }
//!         Err(error) => return Err(error),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod builder;
mod call;
mod client;
mod discovery;
mod error;
mod form;
mod grant;
mod id_token;
mod jwks;
mod known;
mod profile;
mod reply;
mod token_set;
mod transport;

pub use builder::TokenClientBuilder;
pub use client::{ClientAuthentication, TokenClient};
pub use discovery::{Cached, CachedIssuer, IssuerMetadata, same_issuer};
pub use error::{TokenError, TokenErrorKind};
pub use grant::client_credentials::ClientCredentials;
pub use grant::device::{Device, DevicePrompt};
pub use grant::password::Password;
pub use grant::refresh::RefreshRequest;
pub use grant::revoke::TokenTypeHint;
pub use grant::{Flow, Grant, SignInRequest, UnknownFlow};
pub use id_token::{IdTokenClaims, IdTokenExpectations, IdTokenRefusal, IdTokenVerdict};
pub use jwks::{KeySet, PublicKey};
pub use profile::Profile;
pub use token_set::Answer;
