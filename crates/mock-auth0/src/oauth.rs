//! The smaller endpoints of the issuer: discovery, keys, device codes, revocation, userinfo.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::access::NotLetIn;
use crate::client_auth::client_of;
use crate::message::{Answer, Incoming, OAuthError};
use crate::tenant::Tenant;
use crate::token::{DEVICE_GRANT, GRANTS};

/// The provider's metadata (OpenID Connect Discovery 1.0, 3).
pub(crate) fn discovery(tenant: &Tenant) -> Answer {
    let url = |path| tenant.url(path);
    let document = json!({
        "issuer": tenant.issuer,
        "authorization_endpoint": url("/authorize"),
        "token_endpoint": url("/oauth/token"),
        "device_authorization_endpoint": url("/oauth/device/code"),
        "userinfo_endpoint": url("/userinfo"),
        "jwks_uri": url("/.well-known/jwks.json"),
        "revocation_endpoint": url("/oauth/revoke"),
        "grant_types_supported": GRANTS,
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [tenant.keys.algorithm_name()],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "claims_supported": ["iss", "sub", "aud", "azp", "exp", "iat", "auth_time", "nonce", "sid", "name", "nickname",
            "picture", "email", "email_verified", "updated_at"],
    });
    Answer::json(StatusCode::OK, &document)
}

pub(crate) fn jwks(tenant: &Tenant) -> Answer {
    Answer::json(StatusCode::OK, &tenant.keys.jwks()).header("cache-control", "public, max-age=15")
}

/// Device authorization (RFC 8628, 3.1).
pub(crate) fn device_code(
    tenant: &mut Tenant,
    request: &Incoming,
    now_ms: i64,
) -> Result<Answer, OAuthError> {
    only_post(request)?;
    let client = client_of(tenant, request)?;
    if !client.may_use(DEVICE_GRANT) {
        return Err(OAuthError::new(
            403,
            "unauthorized_client",
            format!("Grant type '{DEVICE_GRANT}' not allowed for the client."),
        ));
    }
    let client = client.id.clone();
    let audience = request.form.get("audience");
    tenant.api_for(audience)?;
    let scope = request.form.get("scope");
    let issued = tenant.devices.issue(&client, scope, audience, now_ms, &tenant.settings);
    let page = tenant.url("/activate");
    Ok(Answer::tokens(&json!({
        "device_code": issued.device_code,
        "user_code": issued.user_code,
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={}", issued.user_code),
        "expires_in": tenant.settings.device_code_secs,
        "interval": tenant.settings.device_interval_secs,
    })))
}

/// Revocation (RFC 7009). Answers 200 for a token it does not know. The flag says whether something was revoked.
pub(crate) fn revoke(tenant: &mut Tenant, request: &Incoming) -> Result<(Answer, bool), OAuthError> {
    only_post(request)?;
    let client = client_of(tenant, request)?.id.clone();
    let token = request.form.get("token").ok_or_else(|| OAuthError::missing("token"))?;
    let hit = tenant.refresh.revoke(token, Some(&client), tenant.settings.revocation);
    tenant.families_revoked(&hit);
    Ok((Answer::empty(StatusCode::OK), !hit.is_empty()))
}

/// The claims about the person that an access token opens (OpenID Connect Core, 5.3).
pub(crate) fn userinfo(tenant: &Tenant, request: &Incoming, now_ms: i64) -> Answer {
    if request.method != Method::GET && request.method != Method::POST {
        return OAuthError::new(405, "invalid_request", "Method not allowed.").answer();
    }
    let Some(token) = request.bearer() else { return unauthorized("Bearer") };
    let record = match tenant.access.check(token, now_ms.div_euclid(1000)) {
        Ok(record) => record,
        Err(why) => return unauthorized(&invalid_token(why)),
    };
    if !record.scope.iter().any(|scope| scope == "openid") {
        return Answer::json(StatusCode::FORBIDDEN, &json!({"error": "insufficient_scope"}))
            .header("www-authenticate", "Bearer error=\"insufficient_scope\", scope=\"openid\"");
    }
    let mut claims: Map<String, Value> =
        tenant.user(&record.sub).map(|user| user.claims_for(&record.scope)).unwrap_or_default();
    claims.insert("sub".to_owned(), json!(record.sub));
    Answer::json(StatusCode::OK, &Value::Object(claims))
}

/// 401 with this challenge; without one if it is empty.
pub(crate) fn unauthorized(challenge: &str) -> Answer {
    let answer = Answer::json(StatusCode::UNAUTHORIZED, &json!({"error": "Unauthorized"}));
    if challenge.is_empty() { answer } else { answer.header("www-authenticate", challenge) }
}

/// The challenge to a token that is not let in (RFC 6750, 3.1).
pub(crate) fn invalid_token(why: NotLetIn) -> String {
    let description = match why {
        NotLetIn::Unknown => "The access token is not known",
        NotLetIn::Expired => "The access token expired",
        NotLetIn::Rejected => "The access token was revoked",
    };
    format!("Bearer error=\"invalid_token\", error_description=\"{description}\"")
}

fn only_post(request: &Incoming) -> Result<(), OAuthError> {
    if request.method == Method::POST {
        Ok(())
    } else {
        Err(OAuthError::new(405, "invalid_request", "Method not allowed."))
    }
}
