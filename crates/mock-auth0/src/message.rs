//! Requests as the handlers see them, and the answers they give.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};

/// A request that has arrived whole.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Params,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The members of a form or JSON body; empty for anything else.
    pub(crate) form: Params,
}

impl Incoming {
    pub(crate) fn new(head: &http::request::Parts, body: Bytes) -> Self {
        let form = Params::of_body(&head.headers, &body);
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: Params::of_form(head.uri.query().unwrap_or_default().as_bytes()),
            headers: head.headers.clone(),
            body,
            form,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The credentials after `Bearer`.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, rest) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
    }
}

/// Names and values of a query, a form or a flat JSON object, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn of_form(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    fn of_body(headers: &HeaderMap, body: &Bytes) -> Self {
        let kind = headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/x-www-form-urlencoded" => Self::of_form(body),
            "application/json" => match serde_json::from_slice::<Map<String, Value>>(body) {
                Ok(members) => Self(members.into_iter().filter_map(text_member).collect()),
                Err(_) => Self::default(),
            },
            _ => Self::default(),
        }
    }

    /// The value of `name`, unless it is empty: an empty parameter counts as left out (RFC 6749, 3.2).
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// A parameter sent more than once, which no request may do (RFC 6749, 3.2).
    pub(crate) fn repeated(&self) -> Option<&str> {
        self.0
            .iter()
            .enumerate()
            .find(|(i, (name, _))| self.0[..*i].iter().any(|(earlier, _)| earlier == name))
            .map(|(_, (name, _))| name.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn text_member((name, value): (String, Value)) -> Option<(String, String)> {
    match value {
        Value::Null => None,
        Value::String(text) => Some((name, text)),
        other => Some((name, other.to_string())),
    }
}

/// An answer, or what happens to the connection in its place.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A whole answer.
    Whole(Answer),
    /// The head of `answer` and the first half of its body, then the end of the connection.
    Half(Answer),
    /// A reset (RST).
    Reset,
    /// An orderly end without an answer.
    Close,
    /// The connection stays open and nothing comes.
    Silence,
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// The body of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// These bytes.
    Bytes(Bytes),
    /// That many bytes of JSON, made while they are sent.
    Filler(u64),
}

impl Answer {
    pub(crate) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: Body::Bytes(body.into()),
        }
    }

    pub(crate) fn json(status: StatusCode, value: &Value) -> Self {
        Self::new(status, "application/json", value.to_string())
    }

    /// An answer with tokens in it, which nothing may cache (RFC 6749, 5.1).
    pub(crate) fn tokens(value: &Value) -> Self {
        Self::json(StatusCode::OK, value).header("cache-control", "no-store").header("pragma", "no-cache")
    }

    pub(crate) fn html(status: StatusCode, page: String) -> Self {
        Self::new(status, "text/html; charset=utf-8", page)
            .header("cache-control", "no-store")
            .header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'")
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Bytes::new()) }
    }

    pub(crate) fn redirect(status: StatusCode, to: &str) -> Self {
        Self::empty(status).header("location", to)
    }

    /// Sets a header, replacing one of that name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body as a JSON object, if it is one.
    pub(crate) fn object(&self) -> Option<Map<String, Value>> {
        match &self.body {
            Body::Bytes(bytes) => serde_json::from_slice(bytes).ok(),
            Body::Filler(_) => None,
        }
    }
}

/// An error answer of an OAuth endpoint (RFC 6749, 5.2) with the statuses that Auth0 uses.
#[derive(Clone, Debug)]
pub(crate) struct OAuthError {
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) description: String,
    pub(crate) more: Map<String, Value>,
    pub(crate) headers: Vec<(String, String)>,
}

impl OAuthError {
    pub(crate) fn new(status: u16, error: &str, description: impl Into<String>) -> Self {
        Self {
            status,
            error: error.to_owned(),
            description: description.into(),
            more: Map::new(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", description)
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::invalid_request(format!("Missing required parameter: {parameter}"))
    }

    /// Auth0 answers a dead grant with 403, where RFC 6749 has 400.
    pub(crate) fn invalid_grant(description: impl Into<String>) -> Self {
        Self::new(403, "invalid_grant", description)
    }

    pub(crate) fn answer(self) -> Answer {
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(self.error));
        body.insert("error_description".to_owned(), json!(self.description));
        body.extend(self.more);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut answer = Answer::json(status, &Value::Object(body)).header("cache-control", "no-store");
        for (name, value) in self.headers {
            answer = answer.header(&name, &value);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: &str, text: &str) -> Params {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        Params::of_body(&headers, &Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn forms_and_json_read_alike() {
        for params in [
            body("application/x-www-form-urlencoded", "a=1&b=x%20y&empty="),
            body("application/json; charset=utf-8", r#"{"a":1,"b":"x y","empty":"","gone":null}"#),
        ] {
            assert_eq!(params.get("a"), Some("1"));
            assert_eq!(params.get("b"), Some("x y"));
            assert_eq!(params.get("empty"), None);
            assert_eq!(params.get("gone"), None);
            assert_eq!(params.repeated(), None);
        }
        assert_eq!(body("text/plain", "a=1").get("a"), None);
        assert_eq!(body("application/json", "[1]").get("a"), None);
        assert_eq!(body("application/x-www-form-urlencoded", "a=1&b=2&a=3").repeated(), Some("a"));
    }
}
