//! `/_mock/…`: the mock's own API, for tests in other processes. JSON in and out; the crate's documentation lists it.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::control;
use crate::error::MockError;
use crate::faults::FaultRule;
use crate::message::{Answer, Incoming};
use crate::seed::Seed;
use crate::settings::Revocation;
use crate::shared::Shared;

/// What any of the requests may bring.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    user: Option<String>,
    user_code: Option<String>,
    refresh_token: Option<String>,
    access_token: Option<String>,
    kind: Option<Revocation>,
    count: Option<usize>,
    offset_ms: Option<i64>,
    advance_ms: Option<i64>,
    keep_old: Option<bool>,
    required: Option<bool>,
}

pub(crate) fn answer(shared: &Shared, request: &Incoming) -> Answer {
    match done(shared, request) {
        Ok(Some(value)) => Answer::json(StatusCode::OK, &value),
        Ok(None) => Answer::json(StatusCode::NOT_FOUND, &json!({"error": "mock-auth0 has no such order"})),
        Err(error) => Answer::json(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()})),
    }
}

fn done(shared: &Shared, request: &Incoming) -> Result<Option<Value>, MockError> {
    let path = request.path.trim_start_matches("/_mock/");
    if request.method == Method::GET {
        return got(shared, path);
    }
    if request.method == Method::DELETE && path == "faults" {
        let id = request.query.get("id").map(str::parse).transpose();
        shared.faults.clear(id.map_err(|_| MockError::Settings("id is not a number".to_owned()))?);
        return Ok(Some(json!({})));
    }
    if request.method != Method::POST {
        return Ok(None);
    }
    let body = if request.body.is_empty() { json!({}) } else { read(&request.body)? };
    match path {
        "configure" => shown(&control::configure(shared, &body)?),
        "faults" => {
            let rule: FaultRule = typed(body)?;
            Ok(Some(json!({ "id": shared.faults.add(rule) })))
        }
        "seed" => {
            let seed: Seed = typed(body)?;
            shown(&control::seed(shared, &seed)?)
        }
        _ => ordered(shared, path, &typed(body)?),
    }
}

fn got(shared: &Shared, path: &str) -> Result<Option<Value>, MockError> {
    match path {
        "counters" => shown(&shared.log.counters()),
        "requests" => shown(&shared.log.requests()),
        "settings" => shown(&shared.tenant().settings),
        "faults" => shown(&shared.faults.active()),
        "held" => Ok(Some(json!({ "held": shared.faults.held() }))),
        "devices" => shown(&control::waiting_devices(shared)),
        _ => Ok(None),
    }
}

fn ordered(shared: &Shared, path: &str, order: &Order) -> Result<Option<Value>, MockError> {
    let needed = |value: &Option<String>, name: &str| {
        value.clone().ok_or_else(|| MockError::Settings(format!("`{name}` is missing")))
    };
    Ok(Some(match path {
        "reset" => {
            shared.log.reset();
            json!({})
        }
        "release" => json!({ "released": shared.faults.release(order.count.unwrap_or(usize::MAX)) }),
        "revoke" => match &order.user {
            Some(user) => json!({ "revoked": control::revoke_user(shared, user)? }),
            None => {
                let token = needed(&order.refresh_token, "refresh_token")?;
                json!({ "revoked": control::revoke(shared, &token, order.kind) })
            }
        },
        "alive" => {
            let token = needed(&order.refresh_token, "refresh_token")?;
            json!({ "alive": control::is_alive(shared, &token) })
        }
        "reject" => match &order.access_token {
            Some(token) => json!({ "rejected": usize::from(shared.tenant().access.reject(token)) }),
            None => json!({ "rejected": shared.tenant().access.reject_where(|_| true) }),
        },
        "devices/approve" => {
            control::approve(shared, &needed(&order.user_code, "user_code")?, &needed(&order.user, "user")?)?;
            json!({})
        }
        "devices/deny" => {
            control::deny(shared, &needed(&order.user_code, "user_code")?)?;
            json!({})
        }
        "clock" => {
            if let Some(offset) = order.offset_ms {
                shared.clock.set_offset_ms(offset);
            }
            if let Some(more) = order.advance_ms {
                shared.clock.set_offset_ms(shared.clock.offset_ms().saturating_add(more));
            }
            json!({ "offset_ms": shared.clock.offset_ms() })
        }
        "keys/rotate" => json!({ "kid": shared.tenant().keys.rotate(order.keep_old.unwrap_or(true))? }),
        "users/delete" => {
            control::delete_user(shared, &needed(&order.user, "user")?)?;
            json!({})
        }
        "users/mfa" => {
            control::require_mfa(shared, &needed(&order.user, "user")?, order.required.unwrap_or(true))?;
            json!({})
        }
        _ => return Ok(None),
    }))
}

fn read(body: &[u8]) -> Result<Value, MockError> {
    serde_json::from_slice(body).map_err(|e| MockError::Settings(e.to_string()))
}

fn typed<T: for<'de> Deserialize<'de>>(body: Value) -> Result<T, MockError> {
    serde_json::from_value(body).map_err(|e| MockError::Settings(e.to_string()))
}

fn shown(value: &impl serde::Serialize) -> Result<Option<Value>, MockError> {
    serde_json::to_value(value).map(Some).map_err(|e| MockError::Settings(e.to_string()))
}
