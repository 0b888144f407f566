//! `/authorize` (RFC 6749, 4.1.1): checks the request, lets a person sign in, sends them back with a code.

use http::{Method, StatusCode};
use url::Url;

use crate::auth_codes::AuthRequest;
use crate::directory::ClientAuth;
use crate::message::{Answer, Incoming, Params};
use crate::pages;
use crate::tenant::{Tenant, Visit};

pub(crate) fn page(tenant: &mut Tenant, request: &Incoming, now_ms: i64) -> Answer {
    match (request.method.clone(), request.path.as_str()) {
        (Method::GET, "/authorize") => asked(tenant, &request.query),
        (Method::POST, "/authorize") => asked(tenant, &request.form),
        (Method::POST, "/authorize/login") => signed_in(tenant, request, now_ms),
        _ => pages::message(StatusCode::NOT_FOUND, "Not found", "There is no such page."),
    }
}

fn asked(tenant: &mut Tenant, params: &Params) -> Answer {
    // Until client and address are known to belong together, nobody is sent anywhere (RFC 6749, 4.1.2.1).
    let Some(client) = params.get("client_id").and_then(|id| tenant.client(id)).cloned() else {
        return refused("Unknown client.");
    };
    let Some(redirect_uri) = params.get("redirect_uri").filter(|uri| client.may_return_to(uri)) else {
        return refused("Callback URL mismatch: redirect_uri is not registered for this client.");
    };
    let request = AuthRequest {
        client: client.id.clone(),
        redirect_uri: redirect_uri.to_owned(),
        state: params.get("state").map(str::to_owned),
        scope: params.get("scope").map(str::to_owned),
        audience: params.get("audience").map(str::to_owned),
        nonce: params.get("nonce").map(str::to_owned),
        connection: params.get("connection").map(str::to_owned),
        challenge: params.get("code_challenge").map(str::to_owned),
    };
    match objection(tenant, params, &request, client.auth == ClientAuth::None) {
        Some((error, description)) => {
            back(&request, &[("error", error), ("error_description", &description)])
        }
        None => {
            let ticket = tenant.visit(Visit::Authorize(request));
            pages::login("/authorize/login", &ticket, &client.name, None)
        }
    }
}

fn objection(
    tenant: &Tenant,
    params: &Params,
    request: &AuthRequest,
    public: bool,
) -> Option<(&'static str, String)> {
    let invalid = |text: &str| Some(("invalid_request", text.to_owned()));
    if let Some(name) = params.repeated() {
        return invalid(&format!("Repeated parameter: {name}"));
    }
    if params.get("response_type") != Some("code") {
        return Some(("unsupported_response_type", "Only response_type=code is supported.".to_owned()));
    }
    if !tenant.client(&request.client).is_some_and(|client| client.may_use("authorization_code")) {
        return Some(("unauthorized_client", "The client may not use this grant.".to_owned()));
    }
    match &request.challenge {
        None if public => return invalid("Missing required parameter: code_challenge"),
        Some(_) if params.get("code_challenge_method") != Some("S256") => {
            return invalid("code_challenge_method must be S256.");
        }
        Some(challenge) if challenge.len() != 43 => {
            return invalid("code_challenge is not a SHA-256 in base64url.");
        }
        _ => {}
    }
    if let Err(error) = tenant.api_for(request.audience.as_deref()) {
        return Some(("access_denied", error.description));
    }
    if params.get("prompt") == Some("none") {
        return Some(("login_required", "Login required".to_owned()));
    }
    None
}

fn signed_in(tenant: &mut Tenant, request: &Incoming, now_ms: i64) -> Answer {
    let visit = request.form.get("ticket").and_then(|ticket| tenant.visitor(ticket));
    let Some(Visit::Authorize(asked)) = visit else {
        return refused("This page is out of date. Start again from the application.");
    };
    if request.form.get("action") == Some("deny") {
        return back(&asked, &[("error", "access_denied"), ("error_description", "The user cancelled.")]);
    }
    let email = request.form.get("username").unwrap_or_default();
    let password = request.form.get("password").unwrap_or_default();
    let Some(user) = tenant.sign_in_of(asked.connection.as_deref(), email, password) else {
        let name = tenant.client(&asked.client).map(|client| client.name.clone()).unwrap_or_default();
        let ticket = tenant.visit(Visit::Authorize(asked));
        return pages::login("/authorize/login", &ticket, &name, Some("Wrong e-mail address or password."));
    };
    let sub = user.sub.clone();
    let code = tenant.codes.issue(asked.clone(), &sub, now_ms);
    back(&asked, &[("code", &code)])
}

fn back(request: &AuthRequest, answer: &[(&str, &str)]) -> Answer {
    let Ok(mut url) = Url::parse(&request.redirect_uri) else { return refused("redirect_uri is not a URL.") };
    url.query_pairs_mut().extend_pairs(answer);
    if let Some(state) = &request.state {
        url.query_pairs_mut().append_pair("state", state);
    }
    // 303, so that the form's POST becomes a GET at the application.
    Answer::redirect(StatusCode::SEE_OTHER, url.as_str()).header("cache-control", "no-store")
}

fn refused(why: &str) -> Answer {
    pages::message(StatusCode::BAD_REQUEST, "The application asked for something impossible", why)
}
