//! The device flow: shows URL and code, and how long they are good.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstyle::Style;
use serde::Serialize;
use tokenkeep::auth0::{Device, DevicePrompt, TokenClient};
use tokenkeep::session::{Session, SessionError, SignIn, SignedIn};
use tokio::time::Instant;

use crate::context::Context;
use crate::moment::short;
use crate::output::{Output, printable, say};
use crate::qr;

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// What is printed with `--json` as soon as it is known. Its fields are a contract with scripts.
#[derive(Serialize)]
struct PromptFields<'a> {
    verification_uri: &'a str,
    verification_uri_complete: Option<&'a str>,
    user_code: &'a str,
    expires_in: u64,
}

/// Signs in while somebody confirms the code elsewhere.
pub(super) async fn sign_in(
    context: &Context,
    session: &Session,
    client: &TokenClient,
    request: SignIn,
) -> Result<SignedIn, SessionError> {
    let output = context.output;
    let deadline = Arc::new(Mutex::new(None));
    let shown = Arc::clone(&deadline);
    let grant = Device::new(move |prompt| {
        show(output, prompt);
        *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + prompt.expires_in);
    });
    let signing_in = session.sign_in(client, request, grant);
    tokio::pin!(signing_in);
    if output.json || output.quiet || !io::stderr().is_terminal() {
        return signing_in.await;
    }
    let mut spinner = Spinner::default();
    let mut turns = tokio::time::interval(TURN);
    loop {
        tokio::select! {
            biased;
            outcome = &mut signing_in => return outcome,
            _ = turns.tick() => {
                let until = *deadline.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(until) = until {
                    spinner.draw(until.saturating_duration_since(Instant::now()));
                }
            }
        }
    }
}

fn show(output: Output, prompt: &DevicePrompt) {
    if output.json {
        // A reader that has gone is found out when the session is printed.
        let _ = output.object(&PromptFields {
            verification_uri: &prompt.verification_uri,
            verification_uri_complete: prompt.verification_uri_complete.as_deref(),
            user_code: &prompt.user_code,
            expires_in: prompt.expires_in.as_secs(),
        });
        return;
    }
    let complete = prompt.verification_uri_complete.as_deref();
    if io::stderr().is_terminal() {
        let (columns, rows) = terminal_size::terminal_size()
            .map_or((80, 24), |(columns, rows)| (usize::from(columns.0), usize::from(rows.0)));
        if let Some(code) = qr::render(complete.unwrap_or(&prompt.verification_uri), columns, rows) {
            say(code);
        }
    }
    let bold = Style::new().bold();
    let [uri, code] = [&prompt.verification_uri, &prompt.user_code].map(|text| printable(text));
    say(format_args!("Open   {bold}{uri}{bold:#}\nEnter  {bold}{code}{bold:#}"));
    if let Some(complete) = complete {
        say(format_args!("Or     {}", printable(complete)));
    }
    say(format_args!("The code is good for {}.", short(prompt.expires_in)));
}

/// A line on the terminal that is drawn over and over, and gone when it is dropped.
#[derive(Default)]
struct Spinner {
    turn: usize,
}

impl Spinner {
    fn draw(&mut self, left: Duration) {
        const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
        self.turn = (self.turn + 1) % FRAMES.len();
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r\x1b[K{} Waiting for you to confirm; {} left", FRAMES[self.turn], short(left));
        let _ = err.flush();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r\x1b[K");
        let _ = err.flush();
    }
}
