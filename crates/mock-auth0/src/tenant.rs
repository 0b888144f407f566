//! The tenant: whom it knows and what it has issued. A state machine without HTTP and without a clock of its own.

use std::collections::HashMap;

use crate::access::AccessTokens;
use crate::auth_codes::{AuthCodes, AuthRequest};
use crate::device_codes::DeviceCodes;
use crate::directory::{Api, Client, User};
use crate::keys::Keyring;
use crate::message::OAuthError;
use crate::refresh::{FamilyId, RefreshTokens};
use crate::secrets::{fingerprint, random_token};
use crate::settings::Settings;

/// Scopes that every tenant has, whatever the API.
const OPENID_SCOPES: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];

pub(crate) struct Tenant {
    /// Spelled as in `iss`.
    pub(crate) issuer: String,
    pub(crate) settings: Settings,
    pub(crate) keys: Keyring,
    pub(crate) users: Vec<User>,
    pub(crate) clients: Vec<Client>,
    pub(crate) apis: Vec<Api>,
    pub(crate) refresh: RefreshTokens,
    pub(crate) access: AccessTokens,
    pub(crate) devices: DeviceCodes,
    pub(crate) codes: AuthCodes,
    visits: HashMap<String, Visit>,
}

/// A person on their way through the pages, from form to form.
#[derive(Clone, Debug)]
pub(crate) enum Visit {
    /// Signing in for `/authorize`.
    Authorize(AuthRequest),
    /// Signing in for a device; then, with a `sub`, about to confirm.
    Device { user_code: String, sub: Option<String> },
}

impl Tenant {
    pub(crate) fn new(issuer: String, settings: Settings, keys: Keyring) -> Self {
        Self {
            issuer,
            settings,
            keys,
            users: Vec::new(),
            clients: Vec::new(),
            apis: Vec::new(),
            refresh: RefreshTokens::default(),
            access: AccessTokens::default(),
            devices: DeviceCodes::default(),
            codes: AuthCodes::default(),
            visits: HashMap::new(),
        }
    }

    /// `path` at this issuer, for discovery and pages.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer.trim_end_matches('/'))
    }

    pub(crate) fn client(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }

    pub(crate) fn user(&self, sub: &str) -> Option<&User> {
        self.users.iter().find(|user| user.sub == sub)
    }

    /// The user whose e-mail address and password these are, in this connection or in any.
    pub(crate) fn sign_in_of(&self, connection: Option<&str>, email: &str, password: &str) -> Option<&User> {
        self.users.iter().find(|user| {
            connection.is_none_or(|connection| user.connection == connection)
                && user.email.eq_ignore_ascii_case(email)
                && user.password == password
        })
    }

    pub(crate) fn has_connection(&self, name: &str) -> bool {
        name == self.settings.default_connection || self.users.iter().any(|user| user.connection == name)
    }

    pub(crate) fn api(&self, audience: &str) -> Option<&Api> {
        self.apis.iter().find(|api| api.audience == audience)
    }

    /// The API that a request is for, by its `audience` or by default.
    pub(crate) fn api_for(&self, audience: Option<&str>) -> Result<Option<&Api>, OAuthError> {
        match audience.or(self.settings.default_audience.as_deref()) {
            None => Ok(None),
            Some(audience) => match self.api(audience) {
                Some(api) => Ok(Some(api)),
                None => Err(OAuthError::new(403, "access_denied", format!("Service not found: {audience}"))),
            },
        }
    }

    /// What is granted of a requested scope. An API's unknown scopes are left out, as Auth0 does; a request that names
    /// none gets all of the API's.
    pub(crate) fn granted(api: Option<&Api>, requested: Option<&str>) -> Vec<String> {
        let scopes = api.map(|api| api.scopes.as_slice()).unwrap_or_default();
        let offline = api.is_none_or(|api| api.allow_offline_access);
        let Some(requested) = requested else { return scopes.to_vec() };
        let mut granted: Vec<String> = Vec::new();
        for scope in requested.split_whitespace() {
            let known = OPENID_SCOPES.contains(&scope) || scopes.iter().any(|s| s == scope);
            let allowed = scope != "offline_access" || offline;
            if known && allowed && !granted.iter().any(|s| s == scope) {
                granted.push(scope.to_owned());
            }
        }
        granted
    }

    /// The scope of a refresh: what was granted at sign-in, or for another API what that one has, and of it what was
    /// asked for.
    pub(crate) fn narrowed(
        granted: &[String],
        other_api: Option<&Api>,
        requested: Option<&str>,
    ) -> Vec<String> {
        let all: Vec<String> = match other_api {
            None => granted.to_vec(),
            Some(api) => {
                let openid = granted.iter().filter(|s| OPENID_SCOPES.contains(&s.as_str()));
                openid.chain(&api.scopes).cloned().collect()
            }
        };
        match requested {
            None => all,
            Some(requested) => {
                let wanted: Vec<&str> = requested.split_whitespace().collect();
                all.into_iter().filter(|s| wanted.contains(&s.as_str())).collect()
            }
        }
    }

    /// The API refuses what these families were given, if the tenant is set so.
    pub(crate) fn families_revoked(&mut self, families: &[FamilyId]) {
        if self.settings.revoke_access_tokens {
            self.access.reject_where(|token| token.family.is_some_and(|id| families.contains(&id)));
        }
    }

    /// Remembers a person between two forms. Gives the ticket that the next form carries.
    pub(crate) fn visit(&mut self, visit: Visit) -> String {
        let ticket = random_token("");
        self.visits.insert(fingerprint(&ticket), visit);
        ticket
    }

    /// Takes a ticket in; it is good once.
    pub(crate) fn visitor(&mut self, ticket: &str) -> Option<Visit> {
        self.visits.remove(&fingerprint(ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_granted_as_the_api_has_them() {
        let api = Api::new("a").scopes(["read", "write"]);
        let granted = |api: Option<&Api>, requested| Tenant::granted(api, requested).join(" ");
        assert_eq!(
            granted(Some(&api), Some("openid read nonsense offline_access read")),
            "openid read offline_access"
        );
        assert_eq!(granted(Some(&api), None), "read write");
        assert_eq!(granted(None, Some("openid read")), "openid");
        let closed = api.allow_offline_access(false);
        assert_eq!(granted(Some(&closed), Some("openid offline_access")), "openid");
    }

    #[test]
    fn a_refresh_can_ask_for_less_but_not_for_more() {
        let granted: Vec<String> = ["openid", "offline_access", "read"].map(str::to_owned).to_vec();
        let other = Api::new("b").scopes(["mail"]);
        let narrowed = |api, requested| Tenant::narrowed(&granted, api, requested).join(" ");
        assert_eq!(narrowed(None, None), "openid offline_access read");
        assert_eq!(narrowed(None, Some("read write")), "read");
        assert_eq!(narrowed(Some(&other), None), "openid offline_access mail");
        assert_eq!(narrowed(Some(&other), Some("mail read")), "mail");
    }
}
