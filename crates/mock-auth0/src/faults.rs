//! Faults on request: what is to go wrong, where, and how often.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bad_answer::BadAnswer;
use crate::endpoint::Endpoint;
use crate::keys::Forgery;

/// A fault with the requests that it is meant for. By default: the next request, wherever it arrives.
///
/// Of several rules that match one request, the oldest of each kind acts: a delay, a hold and a broken answer can meet
/// in one request, while two broken answers are taken one after the other.
///
/// ```
/// use std::time::Duration;
///
/// use mock_auth0::{BadAnswer, Endpoint, Fault, FaultRule, MockAuth0};
///
/// let mock = MockAuth0::start_blocking()?;
/// // The second and third refresh take effect, and their answers are lost.
/// mock.add_fault(FaultRule::refresh(Fault::after(BadAnswer::Reset)).after(1).times(2));
/// // The API is slow until this is taken away.
/// let slow = mock.add_fault(FaultRule::new(Fault::delay(Duration::from_millis(50))).at(Endpoint::Api).always());
/// assert_eq!(mock.faults().len(), 2);
/// mock.clear_fault(slow);
/// assert_eq!(mock.faults().len(), 1);
/// # Ok::<(), mock_auth0::MockError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[must_use = "a rule does nothing until it is added"]
pub struct FaultRule {
    /// Only requests at this endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Only token requests with this `grant_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// How many matching requests go by unharmed first.
    #[serde(default)]
    pub skip: u64,
    /// How many requests are hit; `None` for all, until cleared.
    #[serde(default = "once")]
    pub times: Option<u64>,
    /// What goes wrong.
    pub fault: Fault,
}

fn once() -> Option<u64> {
    Some(1)
}

impl FaultRule {
    /// `fault` for the next request.
    pub fn new(fault: Fault) -> Self {
        Self { endpoint: None, grant: None, skip: 0, times: Some(1), fault }
    }

    /// `fault` for the next refresh: a token request with `grant_type=refresh_token`.
    pub fn refresh(fault: Fault) -> Self {
        Self::new(fault).at(Endpoint::Token).grant("refresh_token")
    }

    /// Only for requests at `endpoint`.
    pub fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Only for token requests with this `grant_type`.
    pub fn grant(mut self, grant: &str) -> Self {
        self.grant = Some(grant.to_owned());
        self
    }

    /// Lets `count` matching requests go by first.
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Hits `count` requests.
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    /// Hits every matching request until cleared.
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    pub(crate) fn matches(&self, endpoint: Endpoint, grant: Option<&str>) -> bool {
        self.endpoint.is_none_or(|wanted| wanted == endpoint)
            && self.grant.as_deref().is_none_or(|wanted| Some(wanted) == grant)
    }
}

/// What goes wrong. In JSON: `{"kind": "delay", "ms": 2000}`, `{"kind": "instead", "answer": {"kind": "reset"}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing is done with the request for so long, then it is processed, though the client may have gone.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The request is processed, its grant takes effect, and the answer comes so much later.
    DelayAfter {
        /// Milliseconds.
        ms: u64,
    },
    /// The request is held back until `release`, then processed, though the client may have gone.
    Hold,
    /// The request is processed, its grant takes effect, and the answer is held back until `release`.
    HoldAfter,
    /// The request is not processed; this happens in its place.
    Instead {
        /// What happens.
        answer: BadAnswer,
    },
    /// The request is processed, its grant takes effect, and this happens in place of the answer.
    After {
        /// What happens.
        answer: BadAnswer,
    },
    /// Members of a JSON answer with status 200 are set to these values; `null` takes a member out.
    Members {
        /// Names and values.
        set: Map<String, Value>,
    },
    /// Headers of the answer are set to these texts; an empty one takes a header out (but for `Date`).
    Headers {
        /// Names and values.
        set: Map<String, Value>,
    },
    /// The id token is made with these claims; `null` takes a claim out.
    Claims {
        /// Names and values.
        set: Map<String, Value>,
    },
    /// The id token is replaced by this text.
    IdTokenText {
        /// The text.
        text: String,
    },
    /// The id token is unsigned: algorithm `none`.
    Unsigned,
    /// The id token is signed with HS256, the published key's PEM being the secret.
    Hs256WithPublicKey,
    /// The id token is signed by another key under the published `kid`.
    WrongKey,
    /// The id token is signed by another key, under a `kid` that the key set lacks.
    UnknownKid,
    /// One bit of the id token's signature is wrong.
    BadSignature,
    /// The tokens are another user's: id token, access token and what `/userinfo` says of it.
    Subject {
        /// The other `sub`.
        sub: String,
    },
}

impl Fault {
    /// [`Fault::Delay`].
    pub fn delay(by: Duration) -> Self {
        Self::Delay { ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }
    }

    /// [`Fault::DelayAfter`].
    pub fn delay_after(by: Duration) -> Self {
        Self::DelayAfter { ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }
    }

    /// [`Fault::Instead`].
    pub fn instead(answer: BadAnswer) -> Self {
        Self::Instead { answer }
    }

    /// [`Fault::After`].
    pub fn after(answer: BadAnswer) -> Self {
        Self::After { answer }
    }

    /// [`Fault::Members`] with one member set; `Value::Null` takes it out.
    pub fn member(name: &str, value: Value) -> Self {
        Self::Members { set: Map::from_iter([(name.to_owned(), value)]) }
    }

    /// [`Fault::Members`] with one member taken out.
    pub fn without(name: &str) -> Self {
        Self::member(name, Value::Null)
    }

    /// [`Fault::Headers`] with one header set.
    pub fn header(name: &str, value: &str) -> Self {
        Self::Headers { set: Map::from_iter([(name.to_owned(), Value::from(value))]) }
    }

    /// [`Fault::Claims`] with one claim set; `Value::Null` takes it out.
    pub fn claim(name: &str, value: Value) -> Self {
        Self::Claims { set: Map::from_iter([(name.to_owned(), value)]) }
    }

    /// [`Fault::Subject`].
    pub fn subject(sub: &str) -> Self {
        Self::Subject { sub: sub.to_owned() }
    }

    /// The name of the kind, as in JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::DelayAfter { .. } => "delay_after",
            Self::Hold => "hold",
            Self::HoldAfter => "hold_after",
            Self::Instead { .. } => "instead",
            Self::After { .. } => "after",
            Self::Members { .. } => "members",
            Self::Headers { .. } => "headers",
            Self::Claims { .. } => "claims",
            Self::IdTokenText { .. } => "id_token_text",
            Self::Unsigned => "unsigned",
            Self::Hs256WithPublicKey => "hs256_with_public_key",
            Self::WrongKey => "wrong_key",
            Self::UnknownKid => "unknown_kid",
            Self::BadSignature => "bad_signature",
            Self::Subject { .. } => "subject",
        }
    }

    /// Faults of one slot exclude each other within a request.
    pub(crate) fn slot(&self) -> Slot {
        match self {
            Self::Delay { .. } => Slot::Delay,
            Self::DelayAfter { .. } => Slot::DelayAfter,
            Self::Hold => Slot::Hold,
            Self::HoldAfter => Slot::HoldAfter,
            Self::Instead { .. } | Self::After { .. } => Slot::Answer,
            Self::Members { .. } => Slot::Members,
            Self::Headers { .. } => Slot::Headers,
            Self::Claims { .. } => Slot::Claims,
            Self::IdTokenText { .. } => Slot::IdTokenText,
            Self::Unsigned
            | Self::Hs256WithPublicKey
            | Self::WrongKey
            | Self::UnknownKid
            | Self::BadSignature => Slot::Signature,
            Self::Subject { .. } => Slot::Subject,
        }
    }

    pub(crate) fn forgery(&self) -> Option<Forgery> {
        match self {
            Self::Unsigned => Some(Forgery::Unsigned),
            Self::Hs256WithPublicKey => Some(Forgery::Hs256WithPublicKey),
            Self::WrongKey => Some(Forgery::WrongKey),
            Self::UnknownKid => Some(Forgery::UnknownKid),
            Self::BadSignature => Some(Forgery::FlippedBit),
            _ => None,
        }
    }
}

/// The moment of a request at which a fault acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Delay,
    Hold,
    Answer,
    DelayAfter,
    HoldAfter,
    Members,
    Headers,
    Claims,
    IdTokenText,
    Signature,
    Subject,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bad_answer::RetryAfter;

    #[test]
    fn rules_read_from_the_json_that_the_documents_show() {
        let rule: FaultRule = serde_json::from_value(json!({
            "endpoint": "token", "grant": "refresh_token", "times": 3,
            "fault": {"kind": "instead", "answer": {"kind": "rate_limited", "retry_after": {"seconds": 7}}}
        }))
        .unwrap();
        let same = FaultRule::refresh(Fault::instead(BadAnswer::RateLimited {
            retry_after: RetryAfter::Seconds(7),
        }))
        .times(3);
        assert_eq!(rule, same);
        let rule: FaultRule =
            serde_json::from_value(json!({"fault": {"kind": "hold"}, "times": null})).unwrap();
        assert_eq!(rule, FaultRule::new(Fault::Hold).always());
        assert!(serde_json::from_value::<FaultRule>(json!({"fault": {"kind": "hodl"}})).is_err());
        assert!(serde_json::from_value::<FaultRule>(json!({"fault": {"kind": "hold"}, "time": 1})).is_err());
    }

    #[test]
    fn a_rule_matches_by_endpoint_and_grant() {
        let rule = FaultRule::refresh(Fault::Hold);
        assert!(rule.matches(Endpoint::Token, Some("refresh_token")));
        assert!(!rule.matches(Endpoint::Token, Some("password")));
        assert!(!rule.matches(Endpoint::Token, None));
        assert!(!rule.matches(Endpoint::Revoke, Some("refresh_token")));
        assert!(FaultRule::new(Fault::Hold).matches(Endpoint::Api, None));
    }

    #[test]
    fn the_name_of_an_endpoint_and_of_a_fault_are_those_of_json() {
        for endpoint in [Endpoint::Discovery, Endpoint::DeviceCode, Endpoint::Other] {
            assert_eq!(serde_json::to_value(endpoint).unwrap(), endpoint.name());
        }
        for fault in [Fault::Hs256WithPublicKey, Fault::delay_after(Duration::ZERO), Fault::without("x")] {
            assert_eq!(serde_json::to_value(&fault).unwrap()["kind"], fault.name());
        }
    }
}
