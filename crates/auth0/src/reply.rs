//! Reading an answer of the issuer: JSON members without copies of secrets, and errors by what they mean.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokenkeep_secret::SecretString;
use zeroize::Zeroizing;

use crate::error::{TokenError, TokenErrorKind};

/// The longest `error` kept, in characters. The registered ones are below 30.
const LONGEST_ERROR: usize = 80;

/// The longest `error_description` kept, in characters.
const LONGEST_DESCRIPTION: usize = 400;

/// What the issuer asked to wait is believed up to a day: a slip of a header must not end a session's renewals.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How long a run shared with a secret may be before a text counts as repeating it, in bytes.
const SHARED_RUN: usize = 16;

/// A whole answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) date: Option<SystemTime>,
    /// There is a `WWW-Authenticate: Bearer` (RFC 6750).
    pub(crate) bearer_challenge: bool,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The members of an answer that anyone here looks at, of whatever type they came.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wire {
    pub(crate) access_token: Option<Member>,
    pub(crate) token_type: Option<Member>,
    pub(crate) refresh_token: Option<Member>,
    pub(crate) id_token: Option<Member>,
    pub(crate) scope: Option<Member>,
    pub(crate) expires_in: Option<Member>,
    pub(crate) error: Option<Member>,
    pub(crate) error_description: Option<Member>,
    pub(crate) mfa_token: Option<Member>,
    // Auth0's older shape: {"code", "description", "name", "statusCode"}.
    pub(crate) code: Option<Member>,
    pub(crate) description: Option<Member>,
    // Device authorization (RFC 8628, section 3.2).
    pub(crate) device_code: Option<Member>,
    pub(crate) user_code: Option<Member>,
    pub(crate) verification_uri: Option<Member>,
    pub(crate) verification_url: Option<Member>,
    pub(crate) verification_uri_complete: Option<Member>,
    pub(crate) interval: Option<Member>,
}

impl Wire {
    /// Reads a JSON object. What went wrong is not said: serde's text quotes the value it could not place.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        // serde would read an array as a struct, member by member.
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return None;
        }
        serde_json::from_slice(body).ok()
    }
}

/// One member. Text goes straight from the buffer of the answer, which is wiped, into one that is wiped too.
pub(crate) enum Member {
    Text(SecretString),
    Number(f64),
    Null,
    Other,
}

impl Member {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text.expose()),
            _ => None,
        }
    }

    pub(crate) fn into_secret(self) -> Option<SecretString> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(SecretString::from(text)))
    }

    fn visit_string<E>(self, text: String) -> Result<Member, E> {
        Ok(Member::Text(SecretString::new(text)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Member, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Member, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Member, E> {
        Ok(Member::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

/// What an answer other than the one asked for means. `sent` are the secrets of the request: a text that repeats one is
/// not kept.
pub(crate) fn refusal(
    doing: &'static str,
    origin: &str,
    reply: &Reply,
    sent: &[&SecretString],
) -> TokenError {
    let wire = Wire::parse(&reply.body).unwrap_or_default();
    let (error, description) = oauth_texts(&wire, sent);
    let kind = kind(reply.status, error.as_deref());
    let what = match kind {
        TokenErrorKind::InvalidGrant => format!("{origin} does not accept it any more, sign in again"),
        TokenErrorKind::MfaRequired => format!("{origin} asks for a second factor"),
        TokenErrorKind::AccessDenied => format!("{origin} denied access"),
        TokenErrorKind::ExpiredCode => "the code ran out before it was confirmed, start again".to_owned(),
        TokenErrorKind::RateLimited => format!("{origin} was asked too often"),
        TokenErrorKind::Unavailable => {
            format!("{origin} is unavailable (HTTP {}), try again later", reply.status)
        }
        TokenErrorKind::Protocol => {
            format!("{origin} gave an answer that makes no sense (HTTP {}), try again later", reply.status)
        }
        _ => format!("{origin} refused (HTTP {})", reply.status),
    };
    let waits = matches!(kind, TokenErrorKind::RateLimited | TokenErrorKind::Unavailable);
    let mfa_token = match kind {
        TokenErrorKind::MfaRequired => wire.mfa_token.and_then(Member::into_secret),
        _ => None,
    };
    TokenError::new(kind, doing, what)
        .with_status(reply.status)
        .with_oauth(error, description)
        .with_retry_after(reply.retry_after.filter(|_| waits))
        .with_mfa_token(mfa_token)
}

/// The kind follows from the OAuth `error`, but only where the issuer itself can have said it: a 5xx or 429 is a state
/// of the service whatever its text says (Auth0's global limit is a 500 with `access_denied`), and neither a 2xx nor a
/// redirect is an OAuth error.
fn kind(status: u16, error: Option<&str>) -> TokenErrorKind {
    use TokenErrorKind as Kind;
    match (status, error) {
        (429, _) => Kind::RateLimited,
        (408 | 425 | 500.., _) => Kind::Unavailable,
        (400..=499, Some(error)) => match error {
            "invalid_grant" => Kind::InvalidGrant,
            "mfa_required" | "a0.mfa_required" => Kind::MfaRequired,
            "access_denied" => Kind::AccessDenied,
            "expired_token" => Kind::ExpiredCode,
            "server_error" | "temporarily_unavailable" => Kind::Unavailable,
            "too_many_requests" | "slow_down" => Kind::RateLimited,
            _ => Kind::Rejected,
        },
        _ => Kind::Protocol,
    }
}

/// `error` and `error_description`, or `code` and `description` of Auth0's older shape, fit for a log.
fn oauth_texts(wire: &Wire, sent: &[&SecretString]) -> (Option<String>, Option<String>) {
    let show = |member: &Option<Member>, longest| {
        member.as_ref().and_then(Member::text).map(|text| presentable(text, longest, sent))
    };
    let error = show(&wire.error, LONGEST_ERROR).or_else(|| show(&wire.code, LONGEST_ERROR));
    let description = show(&wire.error_description, LONGEST_DESCRIPTION)
        .or_else(|| show(&wire.description, LONGEST_DESCRIPTION));
    (error.filter(|text| !text.is_empty()), description.filter(|text| !text.is_empty()))
}

/// Bounded, without control characters, and withheld where it repeats a secret that was sent.
pub(crate) fn presentable(text: &str, longest: usize, sent: &[&SecretString]) -> String {
    if sent.iter().any(|secret| repeats(text, secret.expose())) {
        return "[withheld: it repeated a secret]".to_owned();
    }
    let mut shown: String = text.chars().filter(|c| !is_unfit(*c)).take(longest + 1).collect();
    if shown.chars().count() > longest {
        shown.pop();
        shown.push('…');
    }
    shown.trim().to_owned()
}

/// Control characters, and those that reorder or hide text on a terminal.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether `text` has a run in common with `secret` that is too long for chance.
fn repeats(text: &str, secret: &str) -> bool {
    let run = SHARED_RUN.min(secret.len());
    // Too short to tell from chance: a password such as "password" is in many texts.
    run >= 8
        && text
            .as_bytes()
            .windows(run)
            .any(|window| secret.as_bytes().windows(run).any(|part| part == window))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> TokenError {
        let reply = Reply {
            status,
            retry_after: None,
            date: None,
            bearer_challenge: false,
            body: Zeroizing::new(body.as_bytes().to_vec()),
        };
        refusal("refreshing", "https://issuer.example", &reply, &[])
    }

    fn kind_of(status: u16, error: &str) -> TokenErrorKind {
        judged(status, &format!(r#"{{"error":"{error}"}}"#)).kind()
    }

    // CM-178, CM-179
    #[test]
    fn the_kind_comes_from_the_error_member() {
        use TokenErrorKind as Kind;
        // Auth0 answers a dead refresh token with 403, the standard says 400.
        for status in [400, 401, 403] {
            assert_eq!(kind_of(status, "invalid_grant"), Kind::InvalidGrant);
            assert_eq!(kind_of(status, "access_denied"), Kind::AccessDenied);
            assert_eq!(kind_of(status, "mfa_required"), Kind::MfaRequired);
            assert_eq!(kind_of(status, "a0.mfa_required"), Kind::MfaRequired);
            assert_eq!(kind_of(status, "expired_token"), Kind::ExpiredCode);
            assert_eq!(kind_of(status, "temporarily_unavailable"), Kind::Unavailable);
            for rejected in [
                "invalid_client",
                "invalid_request",
                "unauthorized_client",
                "invalid_scope",
                "login_required",
                "invalid_user_password",
                "password_leaked",
                "unauthorized",
                "requires_verification",
            ] {
                assert_eq!(kind_of(status, rejected), Kind::Rejected, "{rejected}");
            }
        }
    }

    #[test]
    fn a_state_of_the_service_is_never_final_whatever_it_says() {
        use TokenErrorKind as Kind;
        for error in ["access_denied", "invalid_grant", "mfa_required"] {
            assert_eq!(kind_of(500, error), Kind::Unavailable);
            assert_eq!(kind_of(503, error), Kind::Unavailable);
            assert_eq!(kind_of(429, error), Kind::RateLimited);
            assert_eq!(kind_of(200, error), Kind::Protocol);
            assert_eq!(kind_of(302, error), Kind::Protocol);
        }
    }

    // CM-178
    #[test]
    fn what_is_no_oauth_error_is_protocol_and_its_body_is_dropped() {
        for body in [
            "",
            "canary",
            "<html>canary</html>",
            "[\"canary\"]",
            "{\"canary\":1}",
            "{\"error\":7}",
            "{\"error\":\"\"}",
            "{\"error\":\"invalid_grant\"",
            "{\"error\":\"invalid_grant\"} trailing",
        ] {
            let error = judged(403, body);
            assert_eq!(error.kind(), TokenErrorKind::Protocol, "{body}");
            assert_eq!((error.status(), error.error()), (Some(403), None));
            assert!(!format!("{error} {error:?}").contains("canary"), "{body}");
        }
    }

    // CM-178: Auth0's older shape
    #[test]
    fn code_and_description_are_read_where_error_is_missing() {
        let error = judged(
            400,
            r#"{"code":"user_exists","description":"The user already exists.","name":"X","statusCode":400}"#,
        );
        assert_eq!(error.kind(), TokenErrorKind::Rejected);
        assert_eq!(
            (error.error(), error.error_description()),
            (Some("user_exists"), Some("The user already exists."))
        );
        let error = judged(400, r#"{"code":"invalid_password","description":{"rules":[]}}"#);
        assert_eq!((error.error(), error.error_description()), (Some("invalid_password"), None));
    }

    // CM-181
    #[test]
    fn the_mfa_token_is_kept_with_and_without_requirements() {
        for body in [
            r#"{"error":"mfa_required","error_description":"MFA","mfa_token":"canary"}"#,
            r#"{"error":"mfa_required","mfa_token":"canary","mfa_requirements":{"challenge":[{"type":"otp"}]}}"#,
        ] {
            let error = judged(403, body);
            assert_eq!(error.mfa_token(), Some(&SecretString::from("canary")));
            assert!(!format!("{error:?}").contains("canary"));
        }
        assert_eq!(judged(403, r#"{"error":"invalid_grant","mfa_token":"x"}"#).mfa_token(), None);
    }

    #[test]
    fn texts_are_bounded_and_cannot_move_the_cursor() {
        let long = "x".repeat(1000);
        let error = judged(
            400,
            &format!("{{\"error\":\"{long}\",\"error_description\":\"a\\u001b[2Jb\\nc\\u202e {long}\"}}"),
        );
        assert_eq!(error.error().map(|text| text.chars().count()), Some(LONGEST_ERROR + 1));
        let description = error.error_description().unwrap();
        assert!(description.starts_with("a[2Jbc ") && description.chars().count() <= LONGEST_DESCRIPTION + 1);
    }

    #[test]
    fn a_text_that_repeats_what_was_sent_is_withheld() {
        let token = SecretString::from("v1.MjM0NTY3ODkwYWJjZGVmZ2hpamts");
        let whole = presentable(&format!("unknown token {}", token.expose()), 400, &[&token]);
        let part = presentable("unknown token …NTY3ODkwYWJjZGVm…", 400, &[&token]);
        assert_eq!(whole, "[withheld: it repeated a secret]");
        assert_eq!(part, whole);
        assert_eq!(
            presentable("Unknown or invalid refresh token.", 400, &[&token]),
            "Unknown or invalid refresh token."
        );
    }
}
