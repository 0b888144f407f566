//! Who and what the tenant knows: users, clients, APIs.

use serde_json::{Map, Value, json};

/// The connection that users are in unless told otherwise.
pub const DEFAULT_CONNECTION: &str = "Username-Password-Authentication";

/// A person who can sign in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct User {
    /// The `sub` claim.
    pub sub: String,
    /// E-mail address, which is also the user name.
    pub email: String,
    /// Password in clear: this is a test double.
    pub password: String,
    /// The connection (realm) the user is in.
    pub connection: String,
    /// Whether sign-in by password answers `mfa_required`.
    pub mfa: bool,
    /// Claims about the person, for the id token and `/userinfo`.
    pub claims: Map<String, Value>,
}

impl User {
    /// A user of the default connection. The `sub` is made from the e-mail address; see [`User::with_sub`].
    pub fn new(email: &str, password: &str) -> Self {
        let name = email.split('@').next().unwrap_or(email);
        let mut claims = Map::new();
        claims.insert("name".to_owned(), json!(name));
        claims.insert("nickname".to_owned(), json!(name));
        claims.insert("picture".to_owned(), json!(format!("https://pictures.example/{name}.png")));
        claims.insert("updated_at".to_owned(), json!("2026-01-02T03:04:05.678Z"));
        claims.insert("email_verified".to_owned(), json!(true));
        Self {
            sub: format!("auth0|{}", crate::secrets::fingerprint(email)),
            email: email.to_owned(),
            password: password.to_owned(),
            connection: DEFAULT_CONNECTION.to_owned(),
            mfa: false,
            claims,
        }
    }

    /// Sets the `sub` claim.
    #[must_use]
    pub fn with_sub(mut self, sub: &str) -> Self {
        sub.clone_into(&mut self.sub);
        self
    }

    /// Sets the full name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.claim("name", json!(name))
    }

    /// Puts the user into another connection (realm).
    #[must_use]
    pub fn connection(mut self, connection: &str) -> Self {
        connection.clone_into(&mut self.connection);
        self
    }

    /// Sets one claim about the person.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    /// Makes sign-in by password answer `mfa_required`.
    #[must_use]
    pub fn mfa(mut self) -> Self {
        self.mfa = true;
        self
    }

    /// The claims that `scope` opens (OpenID Connect Core, 5.4): `profile`, `email`; others come with `profile`.
    pub(crate) fn claims_for(&self, scope: &[String]) -> Map<String, Value> {
        let has = |wanted: &str| scope.iter().any(|s| s == wanted);
        let mut claims = Map::new();
        if has("email") {
            claims.insert("email".to_owned(), json!(self.email));
        }
        for (name, value) in &self.claims {
            let opened_by = if name == "email_verified" { "email" } else { "profile" };
            if has(opened_by) {
                claims.insert(name.clone(), value.clone());
            }
        }
        claims
    }
}

/// How a client proves who it is at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Not at all: a public client.
    None,
    /// HTTP Basic, id and secret form-encoded first (RFC 6749, 2.3.1).
    Basic,
    /// `client_id` and `client_secret` in the body.
    Post,
    /// Either of the two.
    BasicOrPost,
}

/// An application that may ask for tokens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// Secret in clear, for confidential clients: this is a test double.
    pub secret: Option<String>,
    /// How it has to authenticate.
    pub auth: ClientAuth,
    /// The grant types it may use; `None` for all.
    pub grants: Option<Vec<String>>,
    /// Where `/authorize` may send a person back to. A loopback address matches with any port (RFC 8252, 7.3).
    pub redirect_uris: Vec<String>,
    /// The name that pages show.
    pub name: String,
}

impl Client {
    /// A client without a secret.
    pub fn public(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            secret: None,
            auth: ClientAuth::None,
            grants: None,
            redirect_uris: vec!["http://127.0.0.1/callback".to_owned()],
            name: id.to_owned(),
        }
    }

    /// A client with a secret, sent either way; see [`Client::auth`].
    pub fn confidential(id: &str, secret: &str) -> Self {
        Self { secret: Some(secret.to_owned()), auth: ClientAuth::BasicOrPost, ..Self::public(id) }
    }

    /// Sets how it has to authenticate.
    #[must_use]
    pub fn auth(mut self, auth: ClientAuth) -> Self {
        self.auth = auth;
        self
    }

    /// Limits the client to these grant types.
    #[must_use]
    pub fn grants<'a>(mut self, grants: impl IntoIterator<Item = &'a str>) -> Self {
        self.grants = Some(grants.into_iter().map(str::to_owned).collect());
        self
    }

    /// Adds an address that `/authorize` may send a person back to.
    #[must_use]
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.redirect_uris.push(uri.to_owned());
        self
    }

    /// Sets the name that pages show.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    pub(crate) fn may_use(&self, grant: &str) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.iter().any(|g| g == grant))
    }

    pub(crate) fn may_return_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|known| known == uri || same_but_for_loopback_port(known, uri))
    }
}

fn same_but_for_loopback_port(known: &str, uri: &str) -> bool {
    let (Ok(known), Ok(mut uri)) = (url::Url::parse(known), url::Url::parse(uri)) else { return false };
    let loopback = matches!(known.host_str(), Some("127.0.0.1" | "[::1]"));
    loopback && known.scheme() == "http" && uri.set_port(known.port()).is_ok() && known == uri
}

/// An API that access tokens are issued for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Api {
    /// The audience, which names the API in requests and tokens.
    pub audience: String,
    /// Scopes that the API defines.
    pub scopes: Vec<String>,
    /// Whether `offline_access` gets a refresh token for this API. Default yes.
    pub allow_offline_access: bool,
}

impl Api {
    /// An API without scopes that allows offline access.
    pub fn new(audience: &str) -> Self {
        Self { audience: audience.to_owned(), scopes: Vec::new(), allow_offline_access: true }
    }

    /// Sets the scopes that the API defines.
    #[must_use]
    pub fn scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.scopes = scopes.into_iter().map(str::to_owned).collect();
        self
    }

    /// Sets whether `offline_access` gets a refresh token for this API.
    #[must_use]
    pub fn allow_offline_access(mut self, allow: bool) -> Self {
        self.allow_offline_access = allow;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_redirect_matches_with_any_port_and_nothing_else_does() {
        let client = Client::public("c").redirect_uri("https://app.example/cb");
        assert!(client.may_return_to("http://127.0.0.1:49152/callback"));
        assert!(client.may_return_to("https://app.example/cb"));
        for bad in [
            "https://app.example:8443/cb",
            "https://app.example/cb/",
            "http://127.0.0.1:1/elsewhere",
            "http://127.0.0.1.evil.example/callback",
            "http://user@127.0.0.1/callback",
            "not a url",
        ] {
            assert!(!client.may_return_to(bad), "{bad}");
        }
    }

    #[test]
    fn claims_come_with_their_scope() {
        let user = User::new("ada@example.com", "pw").claim("team", json!("red"));
        let scope = |s: &str| s.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(user.claims_for(&scope("openid")).is_empty());
        let email = user.claims_for(&scope("openid email"));
        assert_eq!(email.keys().collect::<Vec<_>>(), ["email", "email_verified"]);
        let profile = user.claims_for(&scope("openid profile"));
        assert_eq!(profile["team"], "red");
        assert!(!profile.contains_key("email"));
    }
}
