//! Tokens for the client itself (RFC 6749, section 4.4).

use async_trait::async_trait;

use super::{Flow, Grant, SignInRequest};
use crate::client::{ClientAuthentication, TokenClient};
use crate::error::TokenError;
use crate::form::Form;
use crate::token_set::Answer;

/// The client's own secret, which the [`TokenClient`] holds. Gives no refresh token: the grant is repeated instead.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
#[must_use]
pub struct ClientCredentials;

impl ClientCredentials {
    /// The grant.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Grant for ClientCredentials {
    fn flow(&self) -> Flow {
        Flow::ClientCredentials
    }

    async fn run(&self, client: &TokenClient, request: &SignInRequest) -> Result<Answer, TokenError> {
        if *client.authentication() == ClientAuthentication::None {
            return Err(TokenError::configuration("client credentials need a client secret: give one"));
        }
        let mut form = Form::new();
        form.push("grant_type", "client_credentials");
        request.fill(&mut form)?;
        client.ask_for_tokens("signing in", form, Vec::new()).await
    }
}
