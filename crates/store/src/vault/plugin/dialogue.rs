//! One conversation with a plugin: what it asks goes to a person, if there is one.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use tokio::time::Instant;

use super::process::{Deaf, Process};
use super::{Plugins, Reason, wire};
use crate::{Prompt, Question};

/// The most commands that are listened to: a plugin that talks without end is no plugin.
const MAX_COMMANDS: usize = 1000;
/// The most characters of what a plugin says that are shown.
const MAX_SHOWN: usize = 300;

/// What a plugin is asked to do.
#[derive(Clone, Copy)]
pub(super) enum Machine {
    Recipient,
    Identity,
}

pub(super) struct Dialogue<'a> {
    plugins: &'a Plugins,
    program: String,
    process: Process,
    deadline: Instant,
    heard: usize,
    /// The first thing that it wanted of a person and did not get.
    refused: Option<Reason>,
    /// The first error that it reported.
    reported: Option<Reason>,
}

impl<'a> Dialogue<'a> {
    /// Starts the plugin `name`.
    pub(super) fn start(plugins: &'a Plugins, name: &str, machine: Machine) -> Result<Self, Reason> {
        let program = super::program(name);
        let machine = match machine {
            Machine::Recipient => "--age-plugin=recipient-v1",
            Machine::Identity => "--age-plugin=identity-v1",
        };
        let path = plugins.find(name)?;
        let deadline = Instant::now() + plugins.limit;
        let process = Process::start(&path, machine)
            .map_err(|error| format!("{} cannot be started: {error}", path.display()))?;
        Ok(Self { plugins, program, process, deadline, heard: 0, refused: None, reported: None })
    }

    pub(super) fn send(&self, command: &str, args: &[&str], body: &[u8]) {
        self.process.send(wire::encode(command, args, body));
    }

    /// The next command that is not for a person; `None` once the plugin is done.
    pub(super) fn next(&mut self) -> Result<Option<wire::Command>, Reason> {
        loop {
            self.heard += 1;
            if self.heard > MAX_COMMANDS {
                return Err(format!("{} talked without end and was killed", self.program));
            }
            let command = self.process.hear(self.deadline).map_err(|deaf| self.explain(&deaf))?;
            match (command.tag(), command.args()) {
                ("done", _) => {
                    self.process.end();
                    return Ok(None);
                }
                ("msg", _) => self.show(&shown(&command.body)),
                ("confirm", [yes]) => self.choose(&shown(&command.body), yes, None)?,
                ("confirm", [yes, no]) => self.choose(&shown(&command.body), yes, Some(no))?,
                ("request-public", _) => self.ask(&shown(&command.body), false),
                ("request-secret", _) => self.ask(&shown(&command.body), true),
                ("error", _) => {
                    let said = format!("{} says: {}", self.program, quoted(&shown(&command.body)));
                    self.reported.get_or_insert(said);
                    self.send("ok", &[], &[]);
                }
                _ => return Ok(Some(command)),
            }
        }
    }

    /// Answers a command that is not known here.
    pub(super) fn unsupported(&self) {
        self.send("unsupported", &[], &[]);
    }

    /// Why it did not do what it was asked for, as far as it said: what it could not ask a person comes first, since
    /// the error that follows from that explains nothing.
    pub(super) fn failure(&self) -> Option<Reason> {
        self.refused.as_ref().or(self.reported.as_ref()).cloned()
    }

    /// Whether it reported an error.
    pub(super) fn reported(&self) -> bool {
        self.reported.is_some()
    }

    pub(super) fn program(&self) -> &str {
        &self.program
    }

    pub(super) fn nonsense(&self) -> Reason {
        format!(
            "{} says what is not in the protocol of age plugins; is it one, and up to date?",
            self.program
        )
    }

    fn explain(&self, deaf: &Deaf) -> Reason {
        let program = &self.program;
        let ended = match deaf {
            Deaf::Nonsense => return self.nonsense(),
            Deaf::TooLong => {
                let limit = self.plugins.limit;
                return match &self.refused {
                    Some(refused) => format!("{refused}; it was killed after {limit:?}"),
                    None => format!("{program} was not done within {limit:?} and was killed"),
                };
            }
            Deaf::Ended(Some(status)) => format!("{program} ended before it was done ({status})"),
            Deaf::Ended(None) => format!("{program} closed its output before it was done and was killed"),
        };
        match self.failure() {
            Some(failure) => format!("{failure}; then {ended}"),
            None => ended,
        }
    }

    fn show(&mut self, message: &str) {
        let shown = match &self.plugins.person {
            Ok(person) => person.tell(&self.program, message).is_ok(),
            Err(_) => false,
        };
        if !shown {
            tracing::warn!(program = self.program, message, "an age plugin has something to say to a person");
        }
        self.send(if shown { "ok" } else { "fail" }, &[], &[]);
    }

    fn choose(&mut self, message: &str, yes: &str, no: Option<&String>) -> Result<(), Reason> {
        let choice = |text: &String| BASE64.decode(text).ok().map(|text| shown(&text));
        let (Some(yes), Ok(no)) = (choice(&yes.to_owned()), no.map(|no| choice(no).ok_or(())).transpose())
        else {
            return Err(self.nonsense());
        };
        match self.person(message, |person, program| person.choose(program, message, &yes, no.as_deref())) {
            Some(chosen) => self.send("ok", &[if chosen { "yes" } else { "no" }], &[]),
            None => self.send("fail", &[], &[]),
        }
        Ok(())
    }

    fn ask(&mut self, message: &str, secret: bool) {
        let answer =
            self.person(message, |person, program| person.ask(Question::Plugin { program, message, secret }));
        match answer {
            Some(answer) => self.send("ok", &[], answer.expose()),
            None => self.send("fail", &[], &[]),
        }
    }

    /// What a person answers, whose time is not the plugin's.
    fn person<T>(
        &mut self,
        message: &str,
        answer: impl FnOnce(&dyn Prompt, &str) -> io::Result<T>,
    ) -> Option<T> {
        let asked = Instant::now();
        let answered = match &self.plugins.person {
            Ok(person) => answer(person.as_ref(), &self.program).map_err(|error| error.to_string()),
            Err(reason) => Err(reason.clone()),
        };
        self.deadline += asked.elapsed();
        match answered {
            Ok(answer) => Some(answer),
            Err(reason) => {
                let refused =
                    format!("{} asked {} and got no answer ({reason})", self.program, quoted(message));
                self.refused.get_or_insert(refused);
                None
            }
        }
    }
}

/// What a plugin says, as far as it can be shown: in one line, without what redraws a terminal or turns text around.
fn shown(bytes: &[u8]) -> String {
    let hidden = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control() || hidden(c));
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "nothing in words".to_owned() } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_says_is_shown_on_one_line_without_what_redraws_a_terminal() {
        assert_eq!(shown(b"touch\n  your\x1b[2Jkey\t!\n"), "touch your [2Jkey !");
        assert_eq!(shown(&[b'x'; 301]), format!("{}…", "x".repeat(300)));
        assert_eq!(shown("\u{202e}".as_bytes()).len(), 0);
        assert_eq!(quoted(&shown(b"\n")), "nothing in words");
    }
}
