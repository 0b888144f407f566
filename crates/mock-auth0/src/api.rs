//! The protected API under `/api/`: says what it saw, or refuses the token.

use http::StatusCode;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::message::{Answer, Incoming};
use crate::oauth::{invalid_token, unauthorized};
use crate::tenant::Tenant;

/// The most of a text body that is echoed.
const ECHO_LIMIT: usize = 4096;

pub(crate) fn answer(tenant: &Tenant, request: &Incoming, now_ms: i64) -> Answer {
    if request.path == "/api/redirect" {
        return redirect(request);
    }
    let Some(token) = request.bearer() else { return unauthorized("Bearer") };
    let record = match tenant.access.check(token, now_ms.div_euclid(1000)) {
        Ok(record) => record,
        Err(why) => {
            let usual = invalid_token(why);
            return unauthorized(tenant.settings.api_challenge.as_deref().unwrap_or(&usual));
        }
    };
    let required = request.query.get("require_scope").or(tenant.settings.api_required_scope.as_deref());
    if let Some(required) = required.filter(|required| !record.scope.iter().any(|s| s == required)) {
        return Answer::json(StatusCode::FORBIDDEN, &json!({"error": "insufficient_scope"})).header(
            "www-authenticate",
            &format!("Bearer error=\"insufficient_scope\", scope=\"{required}\""),
        );
    }
    let seen = json!({
        "method": request.method.as_str(),
        "path": request.path,
        "query": request.query.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
        "headers": headers(request),
        "claims": record.claims,
        "body": body(request),
    });
    Answer::json(StatusCode::OK, &seen)
}

/// Sends anyone anywhere, so that a test can see whether a token goes along. `?to=URL&status=307`.
fn redirect(request: &Incoming) -> Answer {
    let status = request.query.get("status").and_then(|text| text.parse().ok()).unwrap_or(302);
    let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_redirection);
    match (request.query.get("to"), status) {
        (Some(to), Some(status)) => Answer::redirect(status, to),
        _ => Answer::json(StatusCode::BAD_REQUEST, &json!({"error": "to and a 3xx status are needed"})),
    }
}

fn headers(request: &Incoming) -> Map<String, Value> {
    let shown =
        request.headers.iter().filter(|(name, _)| !matches!(name.as_str(), "authorization" | "cookie"));
    shown
        .map(|(name, value)| (name.as_str().to_owned(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect()
}

fn body(request: &Incoming) -> Value {
    let sha256: String = Sha256::digest(&request.body).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = std::str::from_utf8(&request.body).ok().filter(|text| text.len() <= ECHO_LIMIT);
    json!({"bytes": request.body.len(), "sha256": sha256, "text": text})
}
