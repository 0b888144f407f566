//! The refresh exchange (RFC 6749, section 6) and when its token is sent again.

use std::time::Duration;

use tokenkeep_secret::SecretString;

use super::push_wishes;
use crate::client::TokenClient;
use crate::error::TokenError;
use crate::form::Form;
use crate::token_set::Answer;

/// What a refresh asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefreshRequest {
    /// The refresh token.
    pub refresh_token: SecretString,
    /// The scope, space-separated; as at sign-in where absent.
    pub scope: Option<String>,
    /// The API that the access token is for; as at sign-in where absent.
    pub audience: Option<String>,
    /// Extra parameters, sent as they are. They replace `scope` and `audience`; those that the grant sets itself are
    /// refused.
    pub parameters: Vec<(String, String)>,
    /// How long the issuer still takes a refresh token after it has rotated it, if that is known. Only then may a second
    /// request go out beside a first one that is silent.
    pub overlap: Option<Duration>,
}

impl RefreshRequest {
    /// A refresh that asks for nothing but new tokens.
    pub fn new(refresh_token: SecretString) -> Self {
        Self { refresh_token, scope: None, audience: None, parameters: Vec::new(), overlap: None }
    }

    fn form(&self) -> Result<Form, TokenError> {
        let mut form = Form::new();
        form.push("grant_type", "refresh_token");
        form.push("refresh_token", self.refresh_token.expose());
        push_wishes(&mut form, self.scope.as_deref(), self.audience.as_deref(), &self.parameters)?;
        Ok(form)
    }
}

impl TokenClient {
    /// Gets new tokens with a refresh token.
    ///
    /// # Errors
    ///
    /// `InvalidGrant` is final for this refresh token.
    pub async fn refresh(&self, request: &RefreshRequest) -> Result<Answer, TokenError> {
        self.ask_for_tokens("refreshing", request.form()?, vec![&request.refresh_token]).await
    }
}
