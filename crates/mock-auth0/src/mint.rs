//! Making access tokens and id tokens.

use serde_json::{Map, Value, json};

use crate::directory::User;
use crate::error::MockError;
use crate::fault_book::Plan;
use crate::keys::Keyring;
use crate::secrets::random_token;
use crate::settings::Settings;

/// What an access token is for.
pub(crate) struct AccessGrant<'a> {
    pub(crate) sub: &'a str,
    pub(crate) client: &'a str,
    pub(crate) audience: Option<&'a str>,
    pub(crate) scope: &'a [String],
}

/// What an id token says of a sign-in.
pub(crate) struct Identity<'a> {
    pub(crate) user: &'a User,
    pub(crate) client: &'a str,
    pub(crate) scope: &'a [String],
    pub(crate) auth_time: i64,
    pub(crate) nonce: Option<&'a str>,
    pub(crate) sid: &'a str,
}

/// An access token and what is known of it.
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) claims: Value,
    /// Unix seconds.
    pub(crate) expires: i64,
}

/// The audience of `/userinfo`, which tokens for OpenID scopes carry too.
pub(crate) fn userinfo_audience(issuer: &str) -> String {
    format!("{}/userinfo", issuer.trim_end_matches('/'))
}

pub(crate) fn access_token(
    keys: &Keyring,
    issuer: &str,
    settings: &Settings,
    grant: &AccessGrant<'_>,
    now_secs: i64,
) -> Result<Minted, MockError> {
    let userinfo = userinfo_audience(issuer);
    let openid = grant.scope.iter().any(|s| s == "openid");
    let aud = match grant.audience {
        Some(audience) if openid => json!([audience, userinfo]),
        Some(audience) => json!(audience),
        None => json!(userinfo),
    };
    let expires = now_secs.saturating_add(seconds(settings.access_token_secs));
    let claims = json!({
        "iss": issuer, "sub": grant.sub, "aud": aud, "azp": grant.client, "scope": grant.scope.join(" "),
        "iat": now_secs, "exp": expires, "jti": random_token(""),
    });
    let token = if settings.opaque_access_tokens {
        random_token("opaque.")
    } else {
        keys.sign(&claims, "at+jwt", None)?
    };
    Ok(Minted { token, claims, expires })
}

pub(crate) fn id_token(
    keys: &Keyring,
    issuer: &str,
    settings: &Settings,
    identity: &Identity<'_>,
    now_secs: i64,
    plan: &Plan,
) -> Result<String, MockError> {
    if let Some(text) = plan.id_token_text() {
        return Ok(text.to_owned());
    }
    let mut claims = identity.user.claims_for(identity.scope);
    let own = json!({
        "iss": issuer, "sub": identity.user.sub, "aud": identity.client, "azp": identity.client, "iat": now_secs,
        "exp": now_secs.saturating_add(seconds(settings.id_token_secs)), "auth_time": identity.auth_time,
        "sid": identity.sid,
    });
    if let Value::Object(own) = own {
        claims.extend(own);
    }
    if let Some(nonce) = identity.nonce {
        claims.insert("nonce".to_owned(), json!(nonce));
    }
    if let Some(changes) = plan.claims() {
        lay_over(&mut claims, changes);
    }
    keys.sign(&Value::Object(claims), "JWT", plan.forgery())
}

/// Sets members; `null` takes one out.
pub(crate) fn lay_over(object: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (name, value) in changes {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
}

fn seconds(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX)
}
