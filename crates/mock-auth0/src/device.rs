//! `/activate`: where a person types the code of a device, signs in, and confirms or denies.

use http::{Method, StatusCode};

use crate::message::{Answer, Incoming};
use crate::pages;
use crate::tenant::{Tenant, Visit};

const WRONG_CODE: &str = "That code is not valid, or has expired. Check what your device shows.";

pub(crate) fn page(tenant: &mut Tenant, request: &Incoming, now_ms: i64) -> Answer {
    match (request.method.clone(), request.path.as_str()) {
        (Method::GET, "/activate") => {
            pages::user_code(request.query.get("user_code").unwrap_or_default(), None)
        }
        (Method::POST, "/activate") => code_entered(tenant, request, now_ms),
        (Method::POST, "/activate/login") => signed_in(tenant, request, now_ms),
        (Method::POST, "/activate/confirm") => decided(tenant, request, now_ms),
        _ => pages::message(StatusCode::NOT_FOUND, "Not found", "There is no such page."),
    }
}

fn code_entered(tenant: &mut Tenant, request: &Incoming, now_ms: i64) -> Answer {
    let typed = request.form.get("user_code").unwrap_or_default();
    let Some(code) = tenant.devices.waiting(typed, now_ms) else {
        return pages::user_code(typed, Some(WRONG_CODE));
    };
    let user_code = code.user_code.clone();
    login(tenant, user_code, now_ms, None)
}

fn login(tenant: &mut Tenant, user_code: String, now_ms: i64, error: Option<&str>) -> Answer {
    let Some(client) = tenant.devices.waiting(&user_code, now_ms).map(|code| code.client.clone()) else {
        return pages::user_code("", Some(WRONG_CODE));
    };
    let name = tenant.client(&client).map_or(client.clone(), |client| client.name.clone());
    let ticket = tenant.visit(Visit::Device { user_code, sub: None });
    pages::login("/activate/login", &ticket, &name, error)
}

fn signed_in(tenant: &mut Tenant, request: &Incoming, now_ms: i64) -> Answer {
    let visit = request.form.get("ticket").and_then(|ticket| tenant.visitor(ticket));
    let Some(Visit::Device { user_code, .. }) = visit else { return stale() };
    if request.form.get("action") == Some("deny") {
        tenant.devices.decide(&user_code, None, now_ms);
        return denied();
    }
    let email = request.form.get("username").unwrap_or_default();
    let password = request.form.get("password").unwrap_or_default();
    let Some(user) = tenant.sign_in_of(None, email, password).cloned() else {
        return login(tenant, user_code, now_ms, Some("Wrong e-mail address or password."));
    };
    let Some(code) = tenant.devices.waiting(&user_code, now_ms).cloned() else {
        return pages::user_code("", Some(WRONG_CODE));
    };
    let name = tenant.client(&code.client).map_or(code.client.clone(), |client| client.name.clone());
    let ticket = tenant.visit(Visit::Device { user_code: user_code.clone(), sub: Some(user.sub) });
    pages::confirm(&ticket, &user_code, &name, code.scope.as_deref().unwrap_or_default(), &user.email)
}

fn decided(tenant: &mut Tenant, request: &Incoming, now_ms: i64) -> Answer {
    let visit = request.form.get("ticket").and_then(|ticket| tenant.visitor(ticket));
    let Some(Visit::Device { user_code, sub: Some(sub) }) = visit else { return stale() };
    let confirmed = request.form.get("action") == Some("confirm");
    if !tenant.devices.decide(&user_code, confirmed.then_some(sub.as_str()), now_ms) {
        return pages::user_code("", Some(WRONG_CODE));
    }
    if confirmed {
        pages::message(
            StatusCode::OK,
            "Congratulations, you're all set!",
            "Your device is connected. You can close this page.",
        )
    } else {
        denied()
    }
}

fn denied() -> Answer {
    pages::message(StatusCode::OK, "Device denied", "The device gets nothing. You can close this page.")
}

fn stale() -> Answer {
    pages::message(
        StatusCode::BAD_REQUEST,
        "This page is out of date",
        "Start again with the code of your device.",
    )
}
