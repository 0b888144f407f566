//! Issuing tokens: at a sign-in, for a refresh token, for a service.

use serde_json::{Map, Value, json};

use crate::access::AccessRecord;
use crate::error::MockError;
use crate::fault_book::Plan;
use crate::message::OAuthError;
use crate::mint::{self, AccessGrant, Identity};
use crate::refresh::{FamilyId, Refused, SignIn};
use crate::secrets::random_token;
use crate::tenant::Tenant;

/// A person's sign-in that has succeeded.
pub(crate) struct SignedIn<'a> {
    pub(crate) sub: &'a str,
    pub(crate) client: &'a str,
    pub(crate) audience: Option<&'a str>,
    pub(crate) scope: Option<&'a str>,
    pub(crate) nonce: Option<&'a str>,
    /// Unix seconds.
    pub(crate) auth_time: i64,
}

/// A refresh that was asked for.
pub(crate) struct Refresh<'a> {
    pub(crate) token: &'a str,
    pub(crate) client: &'a str,
    pub(crate) audience: Option<&'a str>,
    pub(crate) scope: Option<&'a str>,
}

/// The members of a token answer, and the family behind it.
pub(crate) struct Issued {
    pub(crate) answer: Value,
    pub(crate) family: Option<FamilyId>,
}

struct Set<'a> {
    sub: &'a str,
    client: &'a str,
    audience: Option<&'a str>,
    scope: &'a [String],
    auth_time: i64,
    nonce: Option<&'a str>,
    sid: &'a str,
    family: Option<FamilyId>,
    refresh_token: Option<String>,
}

impl Tenant {
    /// Gives a person's client its first tokens.
    pub(crate) fn sign_in(
        &mut self,
        signed_in: &SignedIn<'_>,
        now_ms: i64,
        plan: &Plan,
    ) -> Result<Issued, OAuthError> {
        let api = self.api_for(signed_in.audience)?;
        let scope = Self::granted(api, signed_in.scope);
        let audience = api.map(|api| api.audience.clone());
        let sid = random_token("");
        let mut family = None;
        let mut refresh_token = None;
        if scope.iter().any(|s| s == "offline_access") {
            let start = SignIn {
                sub: signed_in.sub.to_owned(),
                client: signed_in.client.to_owned(),
                audience: audience.clone(),
                scope: scope.clone(),
                auth_time: signed_in.auth_time,
                sid: sid.clone(),
            };
            let (id, token) = self.refresh.start(start, now_ms, &self.settings);
            family = Some(id);
            refresh_token = Some(token);
        }
        let set = Set {
            sub: signed_in.sub,
            client: signed_in.client,
            audience: audience.as_deref(),
            scope: &scope,
            auth_time: signed_in.auth_time,
            nonce: signed_in.nonce,
            sid: &sid,
            family,
            refresh_token,
        };
        self.answer(set, now_ms, plan)
    }

    /// Exchanges a refresh token.
    pub(crate) fn refreshed(
        &mut self,
        refresh: &Refresh<'_>,
        now_ms: i64,
        plan: &Plan,
    ) -> Result<Issued, OAuthError> {
        let checked = self.refresh.check(refresh.token, refresh.client, now_ms, &self.settings);
        let family = checked.map_err(|refused| {
            OAuthError::invalid_grant(match refused {
                Refused::Unknown => "Unknown or invalid refresh token.",
                Refused::Reused => "Unsuccessful Refresh Token exchange, reused refresh token detected",
            })
        })?;
        let Some(user) = self.user(&family.sub) else {
            return Err(OAuthError::invalid_grant(
                "The refresh_token was generated for a user who doesn't exist anymore.",
            ));
        };
        if user.mfa && self.settings.mfa_on_refresh {
            return Err(mfa_required());
        }
        // An audience that the tenant does not know is ignored, as Auth0 does with one outside the policy.
        let other_api =
            refresh.audience.filter(|a| family.audience.as_deref() != Some(*a)).and_then(|a| self.api(a));
        let audience = other_api.map(|api| api.audience.clone()).or_else(|| family.audience.clone());
        let scope = Self::narrowed(&family.scope, other_api, refresh.scope);
        let refresh_token = self.refresh.advance(refresh.token, now_ms, self.settings.rotation);
        let set = Set {
            sub: &family.sub,
            client: &family.client,
            audience: audience.as_deref(),
            scope: &scope,
            auth_time: family.auth_time,
            nonce: None,
            sid: &family.sid,
            family: Some(family.id),
            refresh_token,
        };
        self.answer(set, now_ms, plan)
    }

    /// Gives a service its access token (RFC 6749, 4.4). Never a refresh token.
    pub(crate) fn service(
        &mut self,
        client: &str,
        audience: Option<&str>,
        scope: Option<&str>,
        now_ms: i64,
    ) -> Result<Issued, OAuthError> {
        let Some(api) = self.api_for(audience)? else { return Err(OAuthError::missing("audience")) };
        let asked = |s: &String| scope.is_none_or(|wanted| wanted.split_whitespace().any(|w| w == s));
        let scope: Vec<String> = api.scopes.iter().filter(|s| asked(s)).cloned().collect();
        let audience = api.audience.clone();
        let sub = format!("{client}@clients");
        let grant = AccessGrant { sub: &sub, client, audience: Some(&audience), scope: &scope };
        let mut answer = self.access_members(&grant, None, now_ms)?;
        answer.insert("scope".to_owned(), json!(scope.join(" ")));
        Ok(Issued { answer: Value::Object(answer), family: None })
    }

    fn answer(&mut self, set: Set<'_>, now_ms: i64, plan: &Plan) -> Result<Issued, OAuthError> {
        let mut user =
            self.user(set.sub).cloned().ok_or_else(|| OAuthError::invalid_grant("Unknown user."))?;
        if let Some(sub) = plan.subject() {
            user = user.with_sub(sub);
        }
        let grant =
            AccessGrant { sub: &user.sub, client: set.client, audience: set.audience, scope: set.scope };
        let mut answer = self.access_members(&grant, set.family, now_ms)?;
        answer.insert("scope".to_owned(), json!(set.scope.join(" ")));
        if let Some(token) = set.refresh_token {
            answer.insert("refresh_token".to_owned(), json!(token));
        }
        if set.scope.iter().any(|s| s == "openid") {
            let identity = Identity {
                user: &user,
                client: set.client,
                scope: set.scope,
                auth_time: set.auth_time,
                nonce: set.nonce,
                sid: set.sid,
            };
            let now_secs = now_ms.div_euclid(1000);
            let token = mint::id_token(&self.keys, &self.issuer, &self.settings, &identity, now_secs, plan);
            answer.insert("id_token".to_owned(), json!(token.map_err(|e| server_error(&e))?));
        }
        Ok(Issued { answer: Value::Object(answer), family: set.family })
    }

    fn access_members(
        &mut self,
        grant: &AccessGrant<'_>,
        family: Option<FamilyId>,
        now_ms: i64,
    ) -> Result<Map<String, Value>, OAuthError> {
        let now_secs = now_ms.div_euclid(1000);
        let minted = mint::access_token(&self.keys, &self.issuer, &self.settings, grant, now_secs);
        let minted = minted.map_err(|e| server_error(&e))?;
        let record = AccessRecord::new(
            grant.sub.to_owned(),
            grant.scope.to_vec(),
            minted.claims,
            minted.expires,
            family,
        );
        self.access.issued(&minted.token, record);
        let mut members = Map::new();
        members.insert("access_token".to_owned(), json!(minted.token));
        members.insert("token_type".to_owned(), json!("Bearer"));
        members.insert("expires_in".to_owned(), json!(self.settings.access_token_secs));
        Ok(members)
    }
}

pub(crate) fn mfa_required() -> OAuthError {
    let mut error = OAuthError::new(403, "mfa_required", "Multifactor authentication required");
    error.more.insert("mfa_token".to_owned(), json!(random_token("mfa.")));
    error.more.insert(
        "mfa_requirements".to_owned(),
        json!({"challenge": [{"type": "otp"}, {"type": "recovery-code"}], "enroll": []}),
    );
    error
}

fn server_error(error: &MockError) -> OAuthError {
    OAuthError::new(500, "server_error", error.to_string())
}
