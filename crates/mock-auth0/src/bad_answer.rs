//! Bad answers: their description, and what goes over the wire.

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::http_date;
use crate::message::{Answer, Body, OAuthError, Reply};
use crate::mint::lay_over;

/// What comes in place of a good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BadAnswer {
    /// This status with a body of that sort, such as a 503 with HTML.
    Status {
        /// The HTTP status.
        status: u16,
        /// The sort of body.
        #[serde(default)]
        body: BadBody,
    },
    /// An OAuth error (RFC 6749, 5.2) with any status.
    OAuth {
        /// The HTTP status.
        status: u16,
        /// `error`.
        error: String,
        /// `error_description`.
        #[serde(default)]
        description: String,
    },
    /// 429 `too_many_requests` as Auth0 sends it, with its `X-RateLimit-…` headers.
    RateLimited {
        /// What `Retry-After` says.
        retry_after: RetryAfter,
    },
    /// A status with a `Retry-After`, such as a 503 for maintenance.
    RetryLater {
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` says.
        retry_after: RetryAfter,
    },
    /// A redirect to elsewhere.
    Redirect {
        /// The HTTP status: 301, 302, 303, 307, 308.
        status: u16,
        /// The address.
        to: String,
    },
    /// 200 with an HTML page: a captive portal.
    CaptivePortal,
    /// 200 with no body.
    Empty,
    /// 200 with JSON that breaks off in the middle of a text.
    MalformedJson,
    /// 200 with a well-formed JSON object of that size.
    Oversized {
        /// Size in bytes.
        bytes: u64,
    },
    /// The head and half the body, then the end of the connection.
    Half,
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed in order, without an answer.
    Close,
    /// The connection stays open and nothing comes.
    Silence,
}

/// The sort of body that comes with a bad status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BadBody {
    /// JSON with `error` and `error_description`.
    #[default]
    Json,
    /// An HTML page, as a proxy makes it.
    Html,
    /// Nothing.
    Empty,
}

/// What a `Retry-After` header says (RFC 9110, 10.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetryAfter {
    /// So many seconds.
    Seconds(u64),
    /// The date that lies so many seconds ahead of the mock's clock.
    DateIn(i64),
    /// This text, for nonsense.
    Text(String),
    /// No such header.
    Absent,
}

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
