//! `/oauth/token`: one function a grant.

use crate::auth_codes::BadCode;
use crate::client_auth::client_of;
use crate::device_codes::Polled;
use crate::directory::ClientAuth;
use crate::fault_book::Plan;
use crate::issue::{Issued, Refresh, SignedIn, mfa_required};
use crate::message::{Answer, Incoming, OAuthError};
use crate::tenant::Tenant;

/// The device grant's name (RFC 8628, 3.4).
pub(crate) const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Auth0's password grant for a named connection.
pub(crate) const REALM_GRANT: &str = "http://auth0.com/oauth/grant-type/password-realm";

/// Every grant the endpoint knows, as discovery lists them.
pub(crate) const GRANTS: [&str; 6] =
    ["authorization_code", "refresh_token", "password", "client_credentials", DEVICE_GRANT, REALM_GRANT];

/// Answers a token request. An error has had no effect, but for the reuse of a refresh token or code.
pub(crate) fn answer(
    tenant: &mut Tenant,
    request: &Incoming,
    plan: &Plan,
    now_ms: i64,
) -> Result<Answer, OAuthError> {
    if request.method != http::Method::POST {
        return Err(OAuthError::new(405, "invalid_request", "Method not allowed."));
    }
    if let Some(name) = request.form.repeated() {
        return Err(OAuthError::invalid_request(format!("Repeated parameter: {name}")));
    }
    let grant = required(request, "grant_type")?;
    let client = client_of(tenant, request)?;
    if !GRANTS.contains(&grant) {
        return Err(OAuthError::new(
            400,
            "unsupported_grant_type",
            format!("Unsupported grant type: {grant}"),
        ));
    }
    let confidential = client.auth != ClientAuth::None;
    if !client.may_use(grant) || (grant == "client_credentials" && !confidential) {
        return Err(OAuthError::new(
            403,
            "unauthorized_client",
            format!("Grant type '{grant}' not allowed for the client."),
        ));
    }
    let client = client.id.clone();
    let issued = match grant {
        "refresh_token" => refresh(tenant, &client, request, plan, now_ms),
        "password" => password(tenant, &client, None, request, plan, now_ms),
        REALM_GRANT => {
            let realm = required(request, "realm")?;
            password(tenant, &client, Some(realm), request, plan, now_ms)
        }
        "client_credentials" => {
            tenant.service(&client, request.form.get("audience"), request.form.get("scope"), now_ms)
        }
        DEVICE_GRANT => device(tenant, &client, request, plan, now_ms),
        _ => code(tenant, &client, request, plan, now_ms),
    }?;
    Ok(Answer::tokens(&issued.answer))
}

fn refresh(
    tenant: &mut Tenant,
    client: &str,
    request: &Incoming,
    plan: &Plan,
    now_ms: i64,
) -> Result<Issued, OAuthError> {
    let refresh = Refresh {
        token: required(request, "refresh_token")?,
        client,
        audience: request.form.get("audience"),
        scope: request.form.get("scope"),
    };
    tenant.refreshed(&refresh, now_ms, plan)
}

fn password(
    tenant: &mut Tenant,
    client: &str,
    realm: Option<&str>,
    request: &Incoming,
    plan: &Plan,
    now_ms: i64,
) -> Result<Issued, OAuthError> {
    let username = required(request, "username")?;
    let password = required(request, "password")?;
    let connection = realm.unwrap_or(&tenant.settings.default_connection);
    if !tenant.has_connection(connection) {
        return Err(OAuthError::invalid_request(format!("Unknown realm: {connection}")));
    }
    let Some(user) = tenant.sign_in_of(Some(connection), username, password) else {
        return Err(OAuthError::invalid_grant("Wrong email or password."));
    };
    if user.mfa {
        return Err(mfa_required());
    }
    let sub = user.sub.clone();
    let signed_in = SignedIn {
        sub: &sub,
        client,
        audience: request.form.get("audience"),
        scope: request.form.get("scope"),
        nonce: None,
        auth_time: now_ms.div_euclid(1000),
    };
    tenant.sign_in(&signed_in, now_ms, plan)
}

fn device(
    tenant: &mut Tenant,
    client: &str,
    request: &Incoming,
    plan: &Plan,
    now_ms: i64,
) -> Result<Issued, OAuthError> {
    match tenant.devices.poll(required(request, "device_code")?, client, now_ms) {
        Polled::Unknown => Err(OAuthError::invalid_grant("Invalid or expired device code.")),
        Polled::Pending => {
            Err(OAuthError::new(403, "authorization_pending", "User has yet to authorize device code."))
        }
        Polled::TooSoon => {
            Err(OAuthError::new(429, "slow_down", "You are polling faster than the specified interval."))
        }
        Polled::Expired => Err(OAuthError::new(403, "expired_token", "The device code has expired.")),
        Polled::Denied => {
            Err(OAuthError::new(403, "access_denied", "The end-user denied the authorization request."))
        }
        Polled::Approved { sub, code, auth_time } => {
            let signed_in = SignedIn {
                sub: &sub,
                client,
                audience: code.audience.as_deref(),
                scope: code.scope.as_deref(),
                nonce: None,
                auth_time,
            };
            tenant.sign_in(&signed_in, now_ms, plan)
        }
    }
}

fn code(
    tenant: &mut Tenant,
    client: &str,
    request: &Incoming,
    plan: &Plan,
    now_ms: i64,
) -> Result<Issued, OAuthError> {
    let code = required(request, "code")?;
    let redeemed = tenant.codes.redeem(
        code,
        client,
        request.form.get("redirect_uri"),
        request.form.get("code_verifier"),
        now_ms,
        &tenant.settings,
    );
    let redeemed = match redeemed {
        Ok(redeemed) => redeemed,
        Err(bad) => {
            let description = match bad {
                BadCode::WrongVerifier => "Failed to verify code verifier",
                BadCode::WrongRedirect => "Wrong redirect_uri",
                BadCode::Unknown => "Invalid authorization code",
                BadCode::Reused(family) => {
                    if let Some(family) = family {
                        tenant.refresh.revoke_family(family);
                        tenant.families_revoked(&[family]);
                    }
                    "Invalid authorization code"
                }
            };
            return Err(OAuthError::invalid_grant(description));
        }
    };
    let signed_in = SignedIn {
        sub: &redeemed.sub,
        client,
        audience: redeemed.request.audience.as_deref(),
        scope: redeemed.request.scope.as_deref(),
        nonce: redeemed.request.nonce.as_deref(),
        auth_time: redeemed.auth_time,
    };
    let issued = tenant.sign_in(&signed_in, now_ms, plan)?;
    tenant.codes.gave(code, issued.family);
    Ok(issued)
}

fn required<'a>(request: &'a Incoming, name: &str) -> Result<&'a str, OAuthError> {
    request.form.get(name).ok_or_else(|| OAuthError::missing(name))
}
