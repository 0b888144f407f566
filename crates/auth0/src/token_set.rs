//! What the token endpoint answered.

use std::time::{Duration, SystemTime};

use tokenkeep_clock::Clock;
use tokenkeep_secret::SecretString;

use crate::reply::{Member, Wire};

/// The longest lifetime believed, ten years: what is longer is taken for this, so that no sum of times overflows.
const LONGEST_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A successful answer of the token endpoint (RFC 6749, section 5.1), before anyone has judged it.
///
/// Members that are absent or `null` are `None`. Members of a wrong type are `None` too and listed in `malformed`: a
/// refresh token that came beside nonsense must still be saved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The access token: visible ASCII only (RFC 6749, appendix A.12), so that it fits a header.
    pub access_token: Option<SecretString>,
    /// How it is to be used, such as `Bearer`.
    pub token_type: Option<String>,
    /// The next refresh token; absent where the issuer does not rotate.
    pub refresh_token: Option<SecretString>,
    /// The id token, unjudged.
    pub id_token: Option<SecretString>,
    /// The scope granted; absent where it is the one asked for.
    pub scope: Option<String>,
    /// The access token's lifetime from the receipt on: a number or decimal text, fractions dropped, negative is
    /// zero, at most ten years.
    pub expires_in: Option<Duration>,
    /// The members that were there but not of their type, by name.
    pub malformed: Vec<&'static str>,
    /// When the answer had arrived, by wall time.
    pub received_wall: SystemTime,
    /// When the answer had arrived, by boot time.
    pub received_boot: Duration,
    /// The boot that `received_boot` belongs to.
    pub boot_id: String,
    /// The issuer's own time: its `Date` header.
    pub issuer_date: Option<SystemTime>,
    /// How often the request was sent again before this answer came.
    pub resent: u8,
}

impl Answer {
    /// An answer without any member, received now by `clock`.
    pub fn received(clock: &dyn Clock) -> Self {
        Self {
            access_token: None,
            token_type: None,
            refresh_token: None,
            id_token: None,
            scope: None,
            expires_in: None,
            malformed: Vec::new(),
            received_wall: clock.wall(),
            received_boot: clock.boot(),
            boot_id: clock.boot_id().to_owned(),
            issuer_date: None,
            resent: 0,
        }
    }

    /// Takes the members of `wire`.
    pub(crate) fn fill(&mut self, wire: Wire) {
        let malformed = &mut self.malformed;
        self.access_token = secret("access_token", wire.access_token, malformed, is_visible_ascii);
        // A refresh token goes into a form, which carries anything: never lose one for its spelling.
        self.refresh_token = secret("refresh_token", wire.refresh_token, malformed, |_| true);
        self.id_token = secret("id_token", wire.id_token, malformed, is_visible_ascii);
        self.token_type = text("token_type", wire.token_type, malformed);
        self.scope = text("scope", wire.scope, malformed);
        self.expires_in = match wire.expires_in {
            None | Some(Member::Null) => None,
            Some(member) => {
                let read = lifetime(&member);
                if read.is_none() {
                    malformed.push("expires_in");
                }
                read
            }
        };
    }
}

fn is_visible_ascii(text: &str) -> bool {
    text.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
}

fn secret(
    name: &'static str,
    member: Option<Member>,
    malformed: &mut Vec<&'static str>,
    fits: impl Fn(&str) -> bool,
) -> Option<SecretString> {
    match member {
        None | Some(Member::Null) => None,
        Some(Member::Text(text)) if !text.is_empty() && fits(text.expose()) => Some(text),
        Some(_) => {
            malformed.push(name);
            None
        }
    }
}

fn text(name: &'static str, member: Option<Member>, malformed: &mut Vec<&'static str>) -> Option<String> {
    match member {
        None | Some(Member::Null) => None,
        Some(Member::Text(text)) => Some(text.expose().to_owned()),
        Some(_) => {
            malformed.push(name);
            None
        }
    }
}

/// Reads `expires_in`: a number or decimal text.
pub(crate) fn lifetime(member: &Member) -> Option<Duration> {
    let seconds = match member {
        Member::Number(number) => *number,
        Member::Text(text) => decimal(text.expose())?,
        Member::Null | Member::Other => return None,
    };
    if seconds.is_nan() {
        return None;
    }
    // Fractions are dropped; the cast saturates, so that a negative number is zero and a huge one is capped.
    Some(Duration::from_secs(seconds as u64).min(LONGEST_LIFETIME))
}

/// Digits with an optional sign and fraction. Narrower than Rust's own `f64`, which reads `inf`, `nan` and `1e9`.
fn decimal(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits(whole) && all_digits(fraction) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use tokenkeep_clock::ManualClock;

    use super::*;

    fn answer(json: &str) -> Answer {
        let mut answer = Answer::received(&ManualClock::at(UNIX_EPOCH));
        answer.fill(Wire::parse(json.as_bytes()).expect("an object"));
        answer
    }

    fn expires_in(json: &str) -> (Option<u64>, bool) {
        let answer = answer(&format!(r#"{{"expires_in":{json}}}"#));
        (answer.expires_in.map(|life| life.as_secs()), answer.malformed == ["expires_in"])
    }

    // CM-171
    #[test]
    fn all_members_are_read_and_only_the_required_ones_are_enough() {
        let full = answer(
            r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r","id_token":"i","scope":"openid",
                "expires_in":3600,"recovery_code":"ignored","nested":{"access_token":"x"}}"#,
        );
        assert_eq!(full.access_token, Some("a".into()));
        assert_eq!(full.refresh_token, Some("r".into()));
        assert_eq!(full.id_token, Some("i".into()));
        assert_eq!((full.token_type.as_deref(), full.scope.as_deref()), (Some("Bearer"), Some("openid")));
        assert_eq!(full.expires_in, Some(Duration::from_secs(3600)));
        assert!(full.malformed.is_empty());

        let only = answer(r#"{"access_token":"a","refresh_token":null}"#);
        assert_eq!(only.access_token, Some("a".into()));
        assert!(only.refresh_token.is_none() && only.id_token.is_none() && only.scope.is_none());
        assert!(only.token_type.is_none() && only.expires_in.is_none() && only.malformed.is_empty());

        // CM-171: defaults when empty
        let empty = answer("{}");
        assert!(empty.access_token.is_none() && empty.malformed.is_empty());
    }

    // CM-177: four forms, and what is none
    #[test]
    fn expires_in_is_a_number_or_decimal_text() {
        assert_eq!(expires_in("3600"), (Some(3600), false));
        assert_eq!(expires_in("3600.9"), (Some(3600), false));
        assert_eq!(expires_in("\"3600\""), (Some(3600), false));
        assert_eq!(expires_in("\"3600.9\""), (Some(3600), false));
        assert_eq!(expires_in("-5"), (Some(0), false));
        assert_eq!(expires_in("\"-5\""), (Some(0), false));
        let cap = LONGEST_LIFETIME.as_secs();
        assert_eq!(expires_in("1e300"), (Some(cap), false));
        assert_eq!(expires_in("18446744073709551615"), (Some(cap), false));
        assert_eq!(expires_in("\"99999999999999999999\""), (Some(cap), false));
        for malformed in [
            "\"soon\"", "\"\"", "\" 5\"", "\"5s\"", "\"1e3\"", "\"inf\"", "\"nan\"", "\".\"", "true", "[]",
            "{}",
        ] {
            assert_eq!(expires_in(malformed), (None, true), "{malformed}");
        }
        assert_eq!(expires_in("null"), (None, false));
    }

    #[test]
    fn members_of_a_wrong_type_are_named_and_the_others_are_kept() {
        let answer = answer(
            r#"{"access_token":7,"refresh_token":"keep me\n","id_token":{"a":1},"scope":["openid"],"token_type":false}"#,
        );
        assert_eq!(answer.malformed, ["access_token", "id_token", "token_type", "scope"]);
        assert_eq!(answer.refresh_token, Some("keep me\n".into()));
    }

    #[test]
    fn a_token_that_fits_no_header_is_malformed() {
        for token in ["", "a b", "a\\nb", "ä", "a\\u0000"] {
            assert_eq!(
                answer(&format!(r#"{{"access_token":"{token}"}}"#)).malformed,
                ["access_token"],
                "{token}"
            );
        }
        assert_eq!(answer(r#"{"refresh_token":""}"#).malformed, ["refresh_token"]);
    }

    // CM-174
    #[test]
    fn debug_never_shows_a_token() {
        let full = answer(r#"{"access_token":"canary-a","refresh_token":"canary-r","id_token":"canary-i"}"#);
        assert!(!format!("{full:?} {full:#?}").contains("canary"));
        assert!(!format!("{:?}", answer("{}")).contains("canary"));
    }
}
