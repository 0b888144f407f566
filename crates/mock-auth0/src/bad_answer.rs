//! From the fault's description to what goes over the wire.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::clock::http_date;
use crate::faults::{BadAnswer, BadBody, RetryAfter};
use crate::message::{Answer, Body, OAuthError, Reply};
use crate::mint::lay_over;

const RATE_LIMIT: u32 = 100;

/// What `fault` makes of a request. `real` is the good answer, where the request was processed.
pub(crate) fn reply(fault: &BadAnswer, real: Option<Answer>, now_ms: i64) -> Reply {
    let answer = match fault {
        BadAnswer::Reset => return Reply::Reset,
        BadAnswer::Close => return Reply::Close,
        BadAnswer::Silence => return Reply::Silence,
        BadAnswer::Half => {
            let whole = real.unwrap_or_else(|| Answer::json(StatusCode::OK, &json!({"token_type": "Bearer"})));
            return Reply::Half(whole);
        }
        BadAnswer::Status { status, body } => with_body(status_of(*status), *body),
        BadAnswer::OAuth { status, error, description } => {
            OAuthError::new(*status, error, description.as_str()).answer()
        }
        BadAnswer::RateLimited { retry_after } => {
            let reset = (now_ms.div_euclid(1000) + 1).to_string();
            let answer =
                OAuthError::new(429, "too_many_requests", "Global limit has been reached").answer();
            let answer = answer
                .header("x-ratelimit-limit", &RATE_LIMIT.to_string())
                .header("x-ratelimit-remaining", "0")
                .header("x-ratelimit-reset", &reset);
            with_retry_after(answer, retry_after, now_ms)
        }
        BadAnswer::RetryLater { status, retry_after } => {
            with_retry_after(with_body(status_of(*status), BadBody::Json), retry_after, now_ms)
        }
        BadAnswer::Redirect { status, to } => Answer::redirect(status_of(*status), to),
        BadAnswer::CaptivePortal => Answer::html(
            StatusCode::OK,
            "<!doctype html><title>Welcome</title><h1>Welcome to the hotel</h1><p>Accept the terms to go online."
                .to_owned(),
        ),
        BadAnswer::Empty => Answer::empty(StatusCode::OK),
        BadAnswer::MalformedJson => {
            Answer::new(StatusCode::OK, "application/json", Bytes::from(broken_json(real.as_ref())))
        }
        BadAnswer::Oversized { bytes } => Answer {
            status: StatusCode::OK,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Body::Filler(*bytes),
        },
    };
    Reply::Whole(answer)
}

/// Changes members of a good JSON answer.
pub(crate) fn with_members(answer: Answer, changes: &Map<String, Value>) -> Answer {
    match answer.object() {
        Some(mut object) if answer.status == StatusCode::OK => {
            lay_over(&mut object, changes);
            Answer { body: Body::Bytes(Value::Object(object).to_string().into()), ..answer }
        }
        _ => answer,
    }
}

/// Changes headers of any answer.
pub(crate) fn with_headers(mut answer: Answer, changes: &Map<String, Value>) -> Answer {
    for (name, value) in changes {
        answer.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            answer.headers.push((name.clone(), text.to_owned()));
        }
    }
    answer
}

fn with_body(status: StatusCode, body: BadBody) -> Answer {
    let reason = status.canonical_reason().unwrap_or("Unknown");
    match body {
        BadBody::Json => Answer::json(status, &json!({"error": "server_error", "error_description": reason})),
        BadBody::Html => Answer::html(
            status,
            format!("<html><head><title>{status}</title></head><body>{reason}</body></html>"),
        ),
        BadBody::Empty => Answer::empty(status),
    }
}

fn with_retry_after(answer: Answer, retry_after: &RetryAfter, now_ms: i64) -> Answer {
    let text = match retry_after {
        RetryAfter::Seconds(seconds) => seconds.to_string(),
        RetryAfter::DateIn(seconds) => http_date(now_ms.saturating_add(seconds.saturating_mul(1000))),
        RetryAfter::Text(text) => text.clone(),
        RetryAfter::Absent => return answer,
    };
    answer.header("retry-after", &text)
}

fn broken_json(real: Option<&Answer>) -> Vec<u8> {
    let text = match real.map(|answer| &answer.body) {
        Some(Body::Bytes(bytes)) if bytes.len() > 2 => bytes.to_vec(),
        _ => br#"{"token_type":"Bearer"}"#.to_vec(),
    };
    // Without the closing quote and brace the last member is a text that never ends.
    let end = text.len().saturating_sub(2);
    text.into_iter().take(end).collect()
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
