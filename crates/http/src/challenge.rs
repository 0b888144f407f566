//! What a 401 asks for: the `WWW-Authenticate` header (RFC 9110, sections 11.2 to 11.6.1) and what RFC 6750 says in it.
//!
//! The grammar is ambiguous at its commas, which stand between challenges and between the parameters of one, and APIs
//! get it wrong: an `error_description` without quotes is common. So a piece that is malformed is skipped up to its
//! comma, and what was understood before and after it counts. Reading is linear in the header's length.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

/// One scheme that an API would accept, with what it says about it.
#[derive(Debug)]
struct Challenge<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl Challenge<'_> {
    fn is_bearer(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Bearer")
    }

    /// The value of a parameter. A name that occurs twice, which the RFC forbids, counts by its first.
    fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// Whether a 401 with these headers says that another access token may help.
///
/// It does if it holds no challenge at all, or a Bearer challenge that names no error or `invalid_token` (RFC 6750,
/// section 3.1). Where several Bearer challenges disagree, one that names an error is believed over one that is silent.
pub(crate) fn asks_for_another_token(headers: &HeaderMap) -> bool {
    let challenges: Vec<Challenge<'_>> = headers.get_all(WWW_AUTHENTICATE).iter().flat_map(parse).collect();
    if challenges.is_empty() {
        return true;
    }
    let mut bearer = challenges.iter().filter(|challenge| challenge.is_bearer()).peekable();
    if bearer.peek().is_none() {
        return false;
    }
    let mut errors = bearer.filter_map(|challenge| challenge.parameter("error")).peekable();
    errors.peek().is_none() || errors.any(|error| error == b"invalid_token")
}

/// The challenges of one header field.
fn parse(value: &HeaderValue) -> Vec<Challenge<'_>> {
    let mut reader = Reader { rest: value.as_bytes() };
    let mut challenges: Vec<Challenge<'_>> = Vec::new();
    loop {
        reader.skip(|byte| is_space(byte) || byte == b',');
        if reader.rest.is_empty() {
            return challenges;
        }
        // Malformed from its first byte: nothing of this piece can be used.
        let Some(word) = reader.token() else {
            reader.skip(|byte| byte != b',');
            continue;
        };
        let spaced = reader.skip(is_space);
        let parameter = match reader.parameter_value() {
            Value::Some(value) => Some((word, value)),
            Value::None if spaced || reader.at_end_of_piece() => {
                challenges.push(Challenge { scheme: word, parameters: Vec::new() });
                reader.first_parameter()
            }
            Value::None | Value::Malformed => None,
            Value::Unterminated => return challenges,
        };
        if let (Some(parameter), Some(challenge)) = (parameter, challenges.last_mut()) {
            challenge.parameters.push(parameter);
        }
        reader.skip(|byte| byte != b',');
    }
}

/// What stands where a parameter's `= value` may stand.
enum Value<'a> {
    Some(Cow<'a, [u8]>),
    /// There is no `=`.
    None,
    Malformed,
    /// A quoted string without its closing quote: all the rest of the header is inside it.
    Unterminated,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Skips bytes, and says whether there were any.
    fn skip(&mut self, which: impl Fn(u8) -> bool) -> bool {
        let count = self.rest.iter().take_while(|byte| which(**byte)).count();
        self.rest = &self.rest[count..];
        count > 0
    }

    fn at_end_of_piece(&self) -> bool {
        self.rest.first().is_none_or(|byte| *byte == b',')
    }

    /// `token` (RFC 9110, section 5.6.2).
    fn token(&mut self) -> Option<&'a str> {
        let count = self.rest.iter().take_while(|byte| is_token(**byte)).count();
        let (token, rest) = self.rest.split_at(count);
        self.rest = rest;
        str::from_utf8(token).ok().filter(|token| !token.is_empty())
    }

    /// What follows the scheme: its first parameter, or nothing or a token68, which no scheme we answer uses.
    fn first_parameter(&mut self) -> Option<(&'a str, Cow<'a, [u8]>)> {
        let name = self.token()?;
        self.skip(is_space);
        match self.parameter_value() {
            Value::Some(value) => Some((name, value)),
            Value::Unterminated => {
                self.rest = &[];
                None
            }
            Value::None | Value::Malformed => None,
        }
    }

    /// `BWS "=" BWS ( token / quoted-string )` up to the end of the piece. The space before `=` is behind us.
    fn parameter_value(&mut self) -> Value<'a> {
        let Some(after) = self.rest.strip_prefix(b"=") else { return Value::None };
        self.rest = after;
        self.skip(is_space);
        let value = match self.rest.first() {
            Some(b'"') => match self.quoted_string() {
                Some(value) => value,
                None => return Value::Unterminated,
            },
            _ => match self.token() {
                Some(token) => Cow::Borrowed(token.as_bytes()),
                None => return Value::Malformed,
            },
        };
        self.skip(is_space);
        // `realm=My API`: not one token. A token68 with one `=` of padding looks the same as a name without a value.
        if self.at_end_of_piece() { Value::Some(value) } else { Value::Malformed }
    }

    /// `quoted-string` (RFC 9110, section 5.6.4), without quotes and backslashes; `None` if it does not end.
    fn quoted_string(&mut self) -> Option<Cow<'a, [u8]>> {
        let text = &self.rest[1..];
        let mut plain = Vec::new();
        let mut escaped = false;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                _ if escaped => {
                    plain.push(*byte);
                    escaped = false;
                }
                b'\\' => escaped = true,
                b'"' => {
                    self.rest = &text[at + 1..];
                    return Some(Cow::Owned(plain));
                }
                _ => plain.push(*byte),
            }
        }
        None
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `tchar` (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headers of an answer with one `WWW-Authenticate` field a value.
    fn headers(values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (WWW_AUTHENTICATE, HeaderValue::from_bytes(value).unwrap())).collect()
    }

    /// Scheme and parameters as text, joined so that one line shows all.
    fn read(value: &[u8]) -> Vec<String> {
        let value = HeaderValue::from_bytes(value).unwrap();
        let show =
            |(name, value): &(&str, Cow<'_, [u8]>)| format!("{name}={}", String::from_utf8_lossy(value));
        parse(&value)
            .iter()
            .map(|challenge| {
                let parameters: Vec<_> = challenge.parameters.iter().map(show).collect();
                format!("{}({})", challenge.scheme, parameters.join(";"))
            })
            .collect()
    }

    #[test]
    fn the_grammar_of_rfc_9110() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"Bearer", &["Bearer()"]),
            (b"Bearer realm=\"a\"", &["Bearer(realm=a)"]),
            (b"Bearer realm=a, error=invalid_token", &["Bearer(realm=a;error=invalid_token)"]),
            // The example of section 11.6.1: commas both between challenges and between parameters.
            (
                b"Basic realm=\"simple\", Newauth realm=\"apps\", type=1, title=\"Login to \\\"apps\\\"\"",
                &["Basic(realm=simple)", "Newauth(realm=apps;type=1;title=Login to \"apps\")"],
            ),
            (b"Bearer realm=\"a, error=\\\"x\\\", b\"", &["Bearer(realm=a, error=\"x\", b)"]),
            (b"Bearer realm=\"Basic realm=x, Digest\"", &["Bearer(realm=Basic realm=x, Digest)"]),
            (b"Bearer realm = \"a\" ,\terror\t=\tb", &["Bearer(realm=a;error=b)"]),
            (b"Negotiate YWJj, Bearer", &["Negotiate()", "Bearer()"]),
            (b"Negotiate YWI=, Bearer error=a", &["Negotiate()", "Bearer(error=a)"]),
            (b"Negotiate YQ==", &["Negotiate()"]),
            (b"Negotiate a/b+c=", &["Negotiate()"]),
            (b"Basic, Bearer, Digest", &["Basic()", "Bearer()", "Digest()"]),
            (b",, ,Bearer ,, realm=a,,error=b, ,", &["Bearer(realm=a;error=b)"]),
            (b"   Bearer   realm=a", &["Bearer(realm=a)"]),
            (b"Bearer realm=\"\"", &["Bearer(realm=)"]),
            (b"Bearer realm=\"caf\xe9\xff\"", &["Bearer(realm=caf\u{fffd}\u{fffd})"]),
            (b"Bearer error=\"a\", error=\"b\"", &["Bearer(error=a;error=b)"]),
            (b"", &[]),
            (b" , ,, ", &[]),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value), *expected, "{}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn a_malformed_piece_is_skipped_up_to_its_comma() {
        let cases: &[(&[u8], &[&str])] = &[
            // Seen in the wild: values with spaces and no quotes.
            (b"Bearer realm=My API, error=invalid_token", &["Bearer(error=invalid_token)"]),
            (
                b"Bearer error=invalid_token, error_description=The token expired",
                &["Bearer(error=invalid_token)"],
            ),
            (b"Bearer error=\"a\" realm=\"b\", scope=c", &["Bearer(scope=c)"]),
            (b"Bearer =x, error=b", &[]),
            (b"=, Bearer error=b", &["Bearer(error=b)"]),
            (b"\"Bearer\", Basic", &["Basic()"]),
            (b"Bearer, error=\"b\"x, scope=c", &["Bearer(scope=c)"]),
            (b"Bearer scope=a, error=\"invalid", &["Bearer(scope=a)"]),
            (b"Bearer error=\"invalid\\\"", &["Bearer()"]),
            (b"Bearer\xff, Basic", &["Basic()"]),
            (b"error=\"invalid_token\"", &[]),
        ];
        for (value, expected) in cases {
            assert_eq!(read(value), *expected, "{}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn which_401_asks_for_another_token() {
        let cases: &[(&[&[u8]], bool)] = &[
            (&[], true),
            (&[b""], true),
            (&[b"Bearer"], true),
            (&[b"bearer realm=x"], true),
            (&[b"BEARER ERROR=invalid_token"], true),
            (&[b"Bearer realm=\"x\", error=\"invalid_token\", error_description=\"expired\""], true),
            (&[b"Bearer error=\"invalid\\_token\""], true),
            (&[b"Basic realm=\"x\", Bearer"], true),
            (&[b"Basic realm=\"x\"", b"Bearer realm=\"x\""], true),
            (&[b"DPoP error=\"invalid_token\", Bearer realm=x"], true),
            (&[b"Bearer realm=x", b"Bearer error=invalid_token"], true),
            (&[b"Bearer error=\"insufficient_scope\", scope=\"a b\""], false),
            (&[b"Bearer error=\"invalid_request\""], false),
            (&[b"Bearer error=\"Invalid_Token\""], false),
            (&[b"Bearer error=\"\""], false),
            (&[b"Bearer error=\"something_else\""], false),
            (&[b"Bearer realm=x", b"Bearer error=insufficient_scope"], false),
            (&[b"Basic realm=\"x\""], false),
            (&[b"Basic realm=\"Bearer\""], false),
            (&[b"Basic realm=\"x, Bearer error=invalid_token\""], false),
            (&[b"Negotiate", b"NTLM"], false),
            (&[b"DPoP error=\"invalid_token\""], false),
            (&[b"Bearers"], false),
        ];
        for (values, expected) in cases {
            let shown: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value)).collect();
            assert_eq!(asks_for_another_token(&headers(values)), *expected, "{shown:?}");
        }
    }

    /// Every short header over the bytes that steer the reader, and long ones of each: it ends and does not panic.
    #[test]
    fn hostile_headers_are_read_to_their_end() {
        let steering = b"Ba=\"\\, \t\x80";
        let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..5 {
            let longer: Vec<Vec<u8>> = texts
                .iter()
                .flat_map(|text| steering.iter().map(|byte| text.iter().copied().chain([*byte]).collect()))
                .collect();
            for text in &longer {
                let value = HeaderValue::from_bytes(text).unwrap();
                let size: usize =
                    parse(&value).iter().map(|found| found.scheme.len() + found.parameters.len()).sum();
                assert!(size <= text.len(), "{text:?}");
            }
            texts = longer;
        }
        for piece in [&b"B a=\"\\\""[..], b"a=\"", b"B a=\"x\",", b"=,", b"\\", b"B "] {
            let value = HeaderValue::from_bytes(&piece.repeat(50_000)).unwrap();
            assert!(parse(&value).len() <= 50_000);
        }
    }
}
