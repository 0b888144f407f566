//! Questions on the terminal.
//!
//! Only on a terminal and never with `--no-input`. A secret is read from the terminal itself, so that standard input stays
//! free for data.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};

use tokenkeep::store::Question;
use tokenkeep::{Secret, SecretString};

use crate::exit::{CommandError, Exit};

/// Whether a question was answered by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether there is somebody to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prompt {
    refusal: Option<&'static str>,
    silent: bool,
}

impl Prompt {
    /// Asks if there is a terminal and `no_input` does not forbid it.
    pub(crate) fn new(no_input: bool) -> Self {
        let refusal = if no_input {
            Some("--no-input")
        } else if io::stdin().is_terminal() && io::stderr().is_terminal() {
            None
        } else {
            Some("no terminal")
        };
        Self { refusal, silent: false }
    }

    /// The same for a command that asks nobody: it tells who would be asked, and a question is an error.
    pub(crate) fn silent(self) -> Self {
        Self { silent: true, ..self }
    }

    /// Fails for a command that asks nobody.
    fn speaks(self) -> io::Result<()> {
        if self.silent { Err(io::Error::other("this command asks nobody")) } else { Ok(()) }
    }

    /// Whether a question would be asked.
    pub(crate) fn allowed(self) -> bool {
        self.refusal.is_none()
    }

    /// Why nobody is asked, if nobody is.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        self.refusal
    }

    /// Asks for a secret; what is typed is not shown.
    ///
    /// # Errors
    ///
    /// An error of the terminal, or `Interrupted`.
    pub(crate) fn secret(self, question: &str) -> io::Result<SecretString> {
        let answer = terminal::ask(|| rpassword::prompt_password(question)).map(SecretString::new);
        if answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            INTERRUPTED.store(true, Ordering::SeqCst);
        }
        answer
    }

    /// Asks for something that may be seen.
    ///
    /// # Errors
    ///
    /// An error of the terminal or the end of standard input.
    pub(crate) fn line(self, question: &str) -> io::Result<String> {
        use std::io::Write as _;
        let mut err = io::stderr().lock();
        let _ = write!(err, "{question}");
        let _ = err.flush();
        let mut line = String::new();
        if io::stdin().read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim().to_owned())
    }

    /// Asks whether to go on; anything but `y` or `yes` is a no.
    ///
    /// # Errors
    ///
    /// As [`Prompt::line`].
    pub(crate) fn confirms(self, question: &str) -> io::Result<bool> {
        let answer = self.line(&format!("{question} [y/N] "))?;
        Ok(["y", "yes"].contains(&answer.to_lowercase().as_str()))
    }
}

/// Asks for passphrases of the vault, and what age plugins want to know.
impl tokenkeep::store::Prompt for Prompt {
    fn ask(&self, question: Question<'_>) -> io::Result<Secret> {
        self.speaks()?;
        let question = match question {
            Question::Plugin { program, message, secret: false } => {
                return self
                    .line(&format!("{program}: {message}: "))
                    .map(|line| Secret::from(line.as_bytes()));
            }
            Question::Plugin { program, message, .. } => format!("{program}: {message}: "),
            Question::Existing(path) => format!("Passphrase of the vault at {}: ", path.display()),
            Question::New(path) => format!("New passphrase for the vault at {}: ", path.display()),
            Question::NewAgain(_) => "The same again: ".to_owned(),
            _ => "Passphrase: ".to_owned(),
        };
        self.secret(&question).map(Secret::from)
    }

    fn tell(&self, program: &str, message: &str) -> io::Result<()> {
        use std::io::Write as _;
        self.speaks()?;
        writeln!(io::stderr().lock(), "{program}: {message}")
    }

    fn choose(&self, program: &str, message: &str, yes: &str, no: Option<&str>) -> io::Result<bool> {
        self.speaks()?;
        let question = format!("{program}: {message}\n  y = {yes}, n = {}: ", no.unwrap_or("none of this"));
        loop {
            match self.line(&question)?.as_str() {
                "y" | "Y" => return Ok(true),
                "n" | "N" => return Ok(false),
                _ => {}
            }
        }
    }
}

/// Whether the person answered a question by Ctrl-C, whatever error that became on its way.
pub(crate) fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Shows again what is typed, in case the process ends while a question is open.
pub(crate) fn restore_terminal() {
    terminal::restore();
}

/// An answer that could not be read.
pub(crate) fn unreadable(error: io::Error) -> CommandError {
    CommandError::new(
        Exit::Other,
        "terminal",
        format!("the terminal could not be read: {error}"),
        "run the command again, or name a file that holds the answer: `tokenkeep --help`",
    )
}

/// What the terminal was like before the question.
#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

    static BEFORE: Mutex<Option<(File, Termios)>> = Mutex::new(None);

    /// Runs `question` with SIGINT held back on this thread.
    ///
    /// On Ctrl-C rpassword raises SIGINT while the terminal still hides what is typed. Held back, the signal comes when
    /// the terminal is as it was, and the shell that is returned to is not left blind.
    pub(super) fn ask<T>(question: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        if let Ok(state) = tcgetattr(&terminal) {
            *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some((terminal, state));
        }
        let interrupt = SigSet::from_iter([Signal::SIGINT]);
        let held = interrupt.thread_block().is_ok();
        let answer = question();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if held {
            let _ = interrupt.thread_unblock();
        }
        answer
    }

    pub(super) fn restore() {
        if let Some((terminal, state)) = &*BEFORE.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = tcsetattr(terminal, SetArg::TCSANOW, state);
        }
    }
}

#[cfg(not(unix))]
mod terminal {
    use std::io;

    pub(super) fn ask<T>(question: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        question()
    }

    pub(super) fn restore() {}
}
