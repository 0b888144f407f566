//! Signing in by a code that is confirmed on another device (RFC 8628).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokenkeep_secret::SecretString;
use tokio::time::Instant;

use super::{Flow, Grant, SignInRequest};
use crate::client::TokenClient;
use crate::error::{TokenError, TokenErrorKind};
use crate::form::Form;
use crate::reply::{Member, Wire};
use crate::token_set::{Answer, lifetime};
use crate::transport::Call;

/// How long to wait between two questions where the issuer does not say (RFC 8628, section 3.2).
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// How much longer after each `slow_down` (RFC 8628, section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// How long a code is good where the issuer does not say, though it must.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);

/// The longest wait between two questions that is believed.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// The longest lifetime of a code that is believed.
const LONGEST_LIFETIME: Duration = Duration::from_secs(3600);

/// Signs in by a code that a person confirms on another device.
///
/// ```
/// use tokenkeep_auth0::Device;
///
/// let device = Device::new(|prompt| eprintln!("open {} and enter {}", prompt.verification_uri, prompt.user_code));
/// # drop(device);
/// ```
#[must_use]
pub struct Device {
    show: Box<dyn Fn(&DevicePrompt) + Send + Sync>,
}

/// What the person must be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DevicePrompt {
    /// Where to go.
    pub verification_uri: String,
    /// Where to go with the code filled in, for a QR code.
    pub verification_uri_complete: Option<String>,
    /// What to type there.
    pub user_code: String,
    /// How long the code is good.
    pub expires_in: Duration,
    /// How often the issuer is asked whether it was confirmed.
    pub interval: Duration,
}

impl Device {
    /// `show` is called once, as soon as the code is known, and should return at once.
    pub fn new(show: impl Fn(&DevicePrompt) + Send + Sync + 'static) -> Self {
        Self { show: Box::new(show) }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}

#[async_trait]
impl Grant for Device {
    fn flow(&self) -> Flow {
        Flow::Device
    }

    async fn run(&self, client: &TokenClient, request: &SignInRequest) -> Result<Answer, TokenError> {
        let asked = ask_for_code(client, request).await?;
        (self.show)(&asked.prompt);
        poll(client, &asked).await
    }
}

/// The issuer's answer to the first question.
struct Asked {
    device_code: SecretString,
    prompt: DevicePrompt,
}

async fn ask_for_code(client: &TokenClient, request: &SignInRequest) -> Result<Asked, TokenError> {
    let doing = "asking for a device code";
    let metadata = client.load_metadata().await?;
    let url =
        client.endpoint(doing, "device authorization", metadata.device_authorization_endpoint.as_deref())?;
    let mut form = Form::new();
    request.fill(&mut form)?;
    let call = client.post(doing, url, form, Vec::new())?;
    let reply = client.call_repeatedly(&call, client.limits().answer).await?;
    Wire::parse(&reply.body).and_then(read_asked).ok_or_else(|| client.unreadable(&call, &reply))
}

fn read_asked(wire: Wire) -> Option<Asked> {
    let text = |member: &Option<Member>| {
        let text = member.as_ref().and_then(Member::text)?;
        // It is printed on a terminal, which must do nothing but show it.
        let fits = text.len() <= 2048 && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned())
    };
    let seconds = |member: &Option<Member>| member.as_ref().and_then(lifetime).filter(|time| !time.is_zero());
    Some(Asked {
        prompt: DevicePrompt {
            verification_uri: text(&wire.verification_uri).or_else(|| text(&wire.verification_url))?,
            verification_uri_complete: text(&wire.verification_uri_complete),
            user_code: text(&wire.user_code)?,
            expires_in: seconds(&wire.expires_in).unwrap_or(DEFAULT_LIFETIME).min(LONGEST_LIFETIME),
            interval: seconds(&wire.interval).unwrap_or(DEFAULT_INTERVAL).min(LONGEST_INTERVAL),
        },
        device_code: wire.device_code.and_then(Member::into_secret)?,
    })
}

/// Asks until the code is confirmed, refused or run out.
async fn poll(client: &TokenClient, asked: &Asked) -> Result<Answer, TokenError> {
    let doing = "signing in";
    let metadata = client.load_metadata().await?;
    let url = client.endpoint(doing, "token", Some(&metadata.token_endpoint))?;
    let deadline = Instant::now() + asked.prompt.expires_in;
    let mut pace = Pace::new(asked.prompt.interval);
    let mut attempts: u8 = 0;
    let mut was_lost = false;
    loop {
        if Instant::now() + pace.wait >= deadline {
            tokio::time::sleep_until(deadline).await;
            let what = "the code ran out before it was confirmed, start again";
            return Err(TokenError::new(TokenErrorKind::ExpiredCode, doing, what).with_attempts(attempts));
        }
        tokio::time::sleep(pace.wait).await;
        let mut form = Form::new();
        form.push("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
        form.push("device_code", asked.device_code.expose());
        let call = client.post(doing, url.clone(), form, vec![&asked.device_code])?;
        attempts = attempts.saturating_add(1);
        let error = match ask_once(client, &call).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        was_lost |= error.outcome_unknown();
        if !pace.goes_on_after(&error) {
            return Err(error.with_attempts(attempts).with_outcome_unknown(was_lost));
        }
    }
}

async fn ask_once(client: &TokenClient, call: &Call<'_>) -> Result<Answer, TokenError> {
    let reply = client.call(call, client.limits().answer).await?;
    match Wire::parse(&reply.body) {
        Some(wire) => client.answer(wire, &reply, 0, call),
        None => Err(client.unreadable(call, &reply).with_outcome_unknown(true)),
    }
}

/// How often the issuer is asked.
struct Pace {
    interval: Duration,
    /// The wait before the next question.
    wait: Duration,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self { interval, wait: interval }
    }

    /// Whether to ask again after `error`; sets the wait until then.
    fn goes_on_after(&mut self, error: &TokenError) -> bool {
        let asked = error.retry_after().unwrap_or_default();
        self.wait = match (error.kind(), error.error()) {
            // Auth0 answers 403, the standard says 400.
            (TokenErrorKind::Rejected, Some("authorization_pending")) => self.interval,
            // `slow_down`, with 400 or Auth0's 429, or a 429 without a word.
            (TokenErrorKind::RateLimited, _) => {
                self.interval += SLOW_DOWN;
                self.interval.max(asked)
            }
            // A network that fails is asked less often (RFC 8628, section 3.5), and is no end of the sign-in.
            (TokenErrorKind::Unavailable | TokenErrorKind::Protocol, _) => {
                (self.wait * 2).min(LONGEST_INTERVAL).max(self.interval).max(asked)
            }
            _ => return false,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<DevicePrompt> {
        Wire::parse(json.as_bytes()).and_then(read_asked).map(|asked| asked.prompt)
    }

    fn error(kind: TokenErrorKind, error: &str) -> TokenError {
        TokenError::new(kind, "signing in", "").with_oauth(Some(error.to_owned()), None)
    }

    #[test]
    fn the_pace_slows_as_told_and_never_below_the_interval() {
        use TokenErrorKind as Kind;
        let seconds = Duration::from_secs;
        let mut pace = Pace::new(seconds(5));
        assert!(pace.goes_on_after(&error(Kind::Rejected, "authorization_pending")));
        assert_eq!(pace.wait, seconds(5));
        assert!(pace.goes_on_after(&error(Kind::RateLimited, "slow_down")));
        assert_eq!(pace.wait, seconds(10));
        assert!(
            pace.goes_on_after(&error(Kind::RateLimited, "slow_down").with_retry_after(Some(seconds(40))))
        );
        assert_eq!(pace.wait, seconds(40));
        assert!(pace.goes_on_after(&error(Kind::Rejected, "authorization_pending")));
        assert_eq!(pace.wait, seconds(15), "what was slowed down stays so");
        for longer in [30, 60, 60] {
            assert!(pace.goes_on_after(&error(Kind::Unavailable, "server_error")));
            assert_eq!(pace.wait, seconds(longer));
        }
        assert!(pace.goes_on_after(&error(Kind::Protocol, "")));
        assert!(pace.goes_on_after(&error(Kind::Rejected, "authorization_pending")));
        assert_eq!(pace.wait, seconds(15));
    }

    #[test]
    fn a_refusal_ends_the_questions() {
        use TokenErrorKind as Kind;
        for kind in
            [Kind::AccessDenied, Kind::ExpiredCode, Kind::InvalidGrant, Kind::Rejected, Kind::Configuration]
        {
            assert!(!Pace::new(DEFAULT_INTERVAL).goes_on_after(&error(kind, "x")), "{kind:?}");
        }
    }

    #[test]
    fn what_the_person_is_shown_is_read_with_defaults_and_bounds() {
        let full = read(
            r#"{"device_code":"d","user_code":"AB-CD","verification_uri":"https://i.example/activate",
                "verification_uri_complete":"https://i.example/activate?user_code=AB-CD","expires_in":900,"interval":7}"#,
        )
        .unwrap();
        assert_eq!(full.user_code, "AB-CD");
        assert_eq!(
            full.verification_uri_complete.as_deref(),
            Some("https://i.example/activate?user_code=AB-CD")
        );
        assert_eq!((full.expires_in.as_secs(), full.interval.as_secs()), (900, 7));

        let bare =
            read(r#"{"device_code":"d","user_code":"A","verification_url":"https://i.example"}"#).unwrap();
        assert_eq!((bare.expires_in, bare.interval), (DEFAULT_LIFETIME, DEFAULT_INTERVAL));
        let huge = read(
            r#"{"device_code":"d","user_code":"A","verification_uri":"u","expires_in":1e12,"interval":1e12}"#,
        )
        .unwrap();
        assert_eq!((huge.expires_in, huge.interval), (LONGEST_LIFETIME, LONGEST_INTERVAL));
    }

    #[test]
    fn an_answer_without_a_code_or_place_is_none_and_so_is_one_that_would_move_the_cursor() {
        for json in [
            "{}",
            r#"{"user_code":"A","verification_uri":"u"}"#,
            r#"{"device_code":"d","verification_uri":"u"}"#,
            r#"{"device_code":"d","user_code":"A"}"#,
            r#"{"device_code":7,"user_code":"A","verification_uri":"u"}"#,
            r#"{"device_code":"d","user_code":"A\u001b[2J","verification_uri":"u"}"#,
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
