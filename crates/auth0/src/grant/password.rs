//! Signing in by user name and password (RFC 6749, section 4.3), and Auth0's form of it that names a realm.

use std::fmt;

use async_trait::async_trait;
use tokenkeep_secret::SecretString;

use super::{Flow, Grant, SignInRequest};
use crate::client::TokenClient;
use crate::error::TokenError;
use crate::form::Form;
use crate::token_set::Answer;

/// The person's user name and password.
///
/// ```
/// use tokenkeep_auth0::Password;
///
/// let password = Password::new("someone@example.com", "hunter2".to_owned().into());
/// assert!(!format!("{password:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct Password {
    username: String,
    password: SecretString,
    realm: Option<String>,
}

impl Password {
    /// For `username`.
    pub fn new(username: impl Into<String>, password: SecretString) -> Self {
        Self { username: username.into(), password, realm: None }
    }

    /// In an Auth0 realm (a connection's name); in the tenant's default directory without.
    pub fn realm(mut self, realm: Option<String>) -> Self {
        self.realm = realm;
        self
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("realm", &self.realm).finish_non_exhaustive()
    }
}

#[async_trait]
impl Grant for Password {
    fn flow(&self) -> Flow {
        Flow::Password
    }

    async fn run(&self, client: &TokenClient, request: &SignInRequest) -> Result<Answer, TokenError> {
        let mut form = Form::new();
        match &self.realm {
            Some(realm) => {
                form.push("grant_type", "http://auth0.com/oauth/grant-type/password-realm");
                form.push("realm", realm);
            }
            None => form.push("grant_type", "password"),
        }
        form.push("username", &self.username);
        form.push("password", self.password.expose());
        request.fill(&mut form)?;
        client.ask_for_tokens("signing in", form, vec![&self.password]).await
    }
}
