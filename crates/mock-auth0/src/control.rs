//! What a test can make the tenant do, for the handle and for the admin API alike.

use serde_json::Value;

use crate::directory::User;
use crate::error::MockError;
use crate::fault_book::Plan;
use crate::issue::SignedIn;
use crate::seed::{Seed, Tokens};
use crate::settings::{Revocation, Settings};
use crate::shared::Shared;
use crate::tenant::Tenant;

const SEED_SCOPE: &str = "openid profile email offline_access";

pub(crate) fn configure(shared: &Shared, changes: &Value) -> Result<Settings, MockError> {
    let mut tenant = shared.tenant();
    tenant.settings = tenant.settings.merged(changes)?;
    Ok(tenant.settings.clone())
}

pub(crate) fn seed(shared: &Shared, seed: &Seed) -> Result<Tokens, MockError> {
    let ago_ms = i64::try_from(seed.issued_ago_secs).unwrap_or(i64::MAX).saturating_mul(1000);
    let at_ms = shared.clock.now_ms().saturating_sub(ago_ms);
    let mut tenant = shared.tenant();
    let sub = match &seed.user {
        Some(name) => find(&tenant, name)?.sub.clone(),
        None => tenant.users.first().map(|user| user.sub.clone()).ok_or_else(|| unknown("user", "first"))?,
    };
    let client = match &seed.client_id {
        Some(id) => tenant.client(id).map(|client| client.id.clone()).ok_or_else(|| unknown("client", id))?,
        None => tenant.clients.first().map(|c| c.id.clone()).ok_or_else(|| unknown("client", "first"))?,
    };
    let audience = match seed.audience.as_deref() {
        Some("") => None,
        Some(audience) => Some(audience.to_owned()),
        None => tenant.apis.first().map(|api| api.audience.clone()),
    };
    let all_scopes;
    let scope = match seed.scope.as_deref() {
        Some(scope) => scope,
        None => {
            let api = audience.as_deref().and_then(|audience| tenant.api(audience));
            let own = api.map(|api| api.scopes.join(" ")).unwrap_or_default();
            all_scopes = format!("{SEED_SCOPE} {own}");
            &all_scopes
        }
    };
    let signed_in = SignedIn {
        sub: &sub,
        client: &client,
        audience: audience.as_deref(),
        scope: Some(scope),
        nonce: None,
        auth_time: at_ms.div_euclid(1000),
    };
    let issued = tenant.sign_in(&signed_in, at_ms, &Plan::default()).map_err(|error| MockError::Unknown {
        what: "thing that this session needs",
        name: error.description,
    })?;
    let text = |name: &str| issued.answer.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Tokens {
        access_token: text("access_token").unwrap_or_default(),
        id_token: text("id_token"),
        refresh_token: text("refresh_token"),
        token_type: text("token_type").unwrap_or_default(),
        expires_in: issued.answer.get("expires_in").and_then(Value::as_i64).unwrap_or_default(),
        scope: text("scope").unwrap_or_default(),
        sub,
        issued_at: at_ms.div_euclid(1000),
    })
}

/// Revokes at the server. By the tenant's setting unless `kind` is given. Says whether the token was known.
pub(crate) fn revoke(shared: &Shared, token: &str, kind: Option<Revocation>) -> bool {
    let mut tenant = shared.tenant();
    let kind = kind.unwrap_or(tenant.settings.revocation);
    let hit = tenant.refresh.revoke(token, None, kind);
    tenant.families_revoked(&hit);
    !hit.is_empty()
}

/// Whether a refresh with this token would be granted now. Asking is not presenting.
pub(crate) fn is_alive(shared: &Shared, token: &str) -> bool {
    let now_ms = shared.clock.now_ms();
    let tenant = shared.tenant();
    tenant.refresh.is_alive(token, now_ms, &tenant.settings)
}

/// Revokes every refresh token of a user. Gives the number of sign-ins that ended.
pub(crate) fn revoke_user(shared: &Shared, name: &str) -> Result<usize, MockError> {
    let mut tenant = shared.tenant();
    let sub = find(&tenant, name)?.sub.clone();
    let hit = tenant.refresh.revoke_user(&sub);
    tenant.families_revoked(&hit);
    Ok(hit.len())
}

pub(crate) fn waiting_devices(shared: &Shared) -> Vec<String> {
    let now_ms = shared.clock.now_ms();
    shared.tenant().devices.all_waiting(now_ms)
}

pub(crate) fn approve(shared: &Shared, user_code: &str, user: &str) -> Result<(), MockError> {
    let now_ms = shared.clock.now_ms();
    let mut tenant = shared.tenant();
    let sub = find(&tenant, user)?.sub.clone();
    decided(tenant.devices.decide(user_code, Some(&sub), now_ms), user_code)
}

pub(crate) fn deny(shared: &Shared, user_code: &str) -> Result<(), MockError> {
    let now_ms = shared.clock.now_ms();
    decided(shared.tenant().devices.decide(user_code, None, now_ms), user_code)
}

pub(crate) fn delete_user(shared: &Shared, name: &str) -> Result<(), MockError> {
    let mut tenant = shared.tenant();
    let sub = find(&tenant, name)?.sub.clone();
    tenant.users.retain(|user| user.sub != sub);
    Ok(())
}

pub(crate) fn require_mfa(shared: &Shared, name: &str, required: bool) -> Result<(), MockError> {
    let mut tenant = shared.tenant();
    let sub = find(&tenant, name)?.sub.clone();
    for user in tenant.users.iter_mut().filter(|user| user.sub == sub) {
        user.mfa = required;
    }
    Ok(())
}

fn find<'a>(tenant: &'a Tenant, name: &str) -> Result<&'a User, MockError> {
    let mut users = tenant.users.iter();
    users.find(|user| user.sub == name || user.email == name).ok_or_else(|| unknown("user", name))
}

fn decided(was_waiting: bool, user_code: &str) -> Result<(), MockError> {
    if was_waiting { Ok(()) } else { Err(unknown("waiting device code", user_code)) }
}

fn unknown(what: &'static str, name: &str) -> MockError {
    MockError::Unknown { what, name: name.to_owned() }
}
