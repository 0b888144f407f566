//! Revoking a token (RFC 7009).

use tokenkeep_secret::SecretString;

use crate::client::TokenClient;
use crate::error::TokenError;
use crate::form::Form;

/// Which token is revoked: spares the issuer a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenTypeHint {
    /// An access token.
    AccessToken,
    /// A refresh token.
    RefreshToken,
}

impl TokenTypeHint {
    /// As sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
        }
    }
}

impl TokenClient {
    /// Revokes `token`. A token that the issuer does not know counts as revoked. Sent again after a failure that may
    /// pass: revoking twice does no harm.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the issuer offers no revocation; `Unavailable` or `RateLimited`: not known to be revoked, try
    /// again later; `Rejected`: the issuer refuses, such as `invalid_client`.
    pub async fn revoke(&self, token: &SecretString, hint: TokenTypeHint) -> Result<(), TokenError> {
        let doing = "revoking";
        let metadata = self.load_metadata().await?;
        let url = self.endpoint(doing, "revocation", metadata.revocation_endpoint.as_deref())?;
        let mut form = Form::new();
        form.push("token", token.expose());
        form.push("token_type_hint", hint.as_str());
        let call = self.post(doing, url, form, vec![token])?;
        // RFC 7009, section 2.2: the body of a success has no meaning.
        self.call_repeatedly(&call, self.limits().answer).await.map(drop)
    }
}
