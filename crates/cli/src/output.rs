//! What is printed, and where: the answer to standard output, everything else to standard error.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::exit::{CommandError, Exit};

/// How this process prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// `--json`.
    pub(crate) json: bool,
    /// `--quiet`.
    pub(crate) quiet: bool,
}

impl Output {
    /// Prints one line to standard output. The bytes go there directly, so that no buffer keeps a token.
    ///
    /// # Errors
    ///
    /// As [`Output::bytes`].
    pub(crate) fn line(self, text: &str) -> Result<(), CommandError> {
        let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
        line.push_str(text);
        line.push('\n');
        self.bytes(line.as_bytes())
    }

    /// Prints one line that may carry colour, which only a terminal gets.
    ///
    /// # Errors
    ///
    /// As [`Output::bytes`].
    pub(crate) fn styled(self, text: impl fmt::Display) -> Result<(), CommandError> {
        let mut out = anstream::stdout();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(unwritten)
    }

    /// Prints a value as one line of JSON.
    ///
    /// # Errors
    ///
    /// As [`Output::bytes`].
    pub(crate) fn object(self, value: &impl Serialize) -> Result<(), CommandError> {
        // Room for most answers at once: a buffer that grows leaves its old self behind, and this one may hold a token.
        let mut line = Zeroizing::new(Vec::with_capacity(16 * 1024));
        serde_json::to_writer(&mut *line, value).map_err(|error| unwritten(error.into()))?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Writes bytes to standard output, through to the other side.
    ///
    /// # Errors
    ///
    /// [`Exit::Done`] if the reader has gone, which is its right; [`Exit::Other`] if they could not be written.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), CommandError> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(unwritten)
    }

    /// Tells the person something that is not the answer. Not with `--quiet`, and not with `--json`, whose readers expect
    /// JSON on both streams.
    pub(crate) fn note(self, text: impl fmt::Display) {
        if !self.quiet && !self.json {
            say(text);
        }
    }

    /// As [`Output::note`]; but what a question is about is told however quiet the run is: nobody is asked blindly.
    pub(crate) fn before_asking(self, asks: bool, text: impl fmt::Display) {
        if asks {
            say(text);
        } else {
            self.note(text);
        }
    }

    /// Tells why the command failed. As JSON with `--json`.
    pub(crate) fn error(self, error: &CommandError) {
        if error.exit == Exit::Done {
            return;
        }
        if self.json {
            let report = ErrorReport {
                error: ErrorFields { code: error.code, message: &error.message, help: &error.help },
            };
            if let Ok(line) = serde_json::to_string(&report) {
                say(line);
            }
        } else {
            let bold = AnsiColor::Red.on_default().bold();
            say(format_args!("{bold}error:{bold:#} {}", error.message));
            if !error.help.is_empty() {
                say(format_args!("  {} {}", paint(AnsiColor::Cyan, "→"), error.help));
            }
        }
    }
}

#[derive(Serialize)]
struct ErrorReport<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'a str,
    message: &'a str,
    help: &'a str,
}

/// Writes a line to standard error. That nobody reads it is no reason to fail.
pub(crate) fn say(text: impl fmt::Display) {
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{text}");
}

/// `text` in a colour, for [`Output::styled`] and [`say`], which drop it where there is no terminal.
pub(crate) fn paint(colour: AnsiColor, text: impl fmt::Display) -> String {
    let style = colour.on_default();
    format!("{style}{text}{style:#}")
}

/// Labels and values under each other, those without a value left out.
pub(crate) fn fields(rows: &[(&str, Option<String>)]) -> String {
    let width =
        rows.iter().filter(|(_, value)| value.is_some()).map(|(label, _)| label.len()).max().unwrap_or(0);
    let dim = Style::new().dimmed();
    rows.iter()
        .filter_map(|(label, value)| {
            value.as_ref().map(|value| format!("{dim}{label:width$}{dim:#}  {value}"))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Rows under each other, each column as wide as its widest cell. Where nobody looks, cells are parted by tabs.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    if !io::stdout().is_terminal() {
        return rows.iter().map(|row| row.join("\t")).collect::<Vec<_>>().join("\n");
    }
    aligned(head, rows)
}

fn aligned(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(at, title)| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(title.len())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let dim = Style::new().dimmed();
    let mut lines = vec![format!("{dim}{}{dim:#}", line(&mut head.iter().copied()))];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Text of others as one line: people choose their names, and a name can hold what moves a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// What a failed write to standard output means.
pub(crate) fn unwritten(error: io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return CommandError::new(Exit::Done, "reader_gone", "the reader of standard output has gone", "");
    }
    CommandError::new(
        Exit::Other,
        "output",
        format!("standard output cannot be written: {error}"),
        "send it elsewhere and run the command again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_without_a_value_are_left_out_and_the_rest_stand_under_each_other() {
        let text =
            fields(&[("state", Some("active".into())), ("a long label", None), ("issuer", Some("x".into()))]);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "state   active\nissuer  x");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = aligned(
            &["NAME", "STATE"],
            &[vec!["default".into(), "active".into()], vec!["ci".into(), "ended".into()]],
        );
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "NAME     STATE\ndefault  active\nci       ended");
    }

    #[test]
    fn text_of_others_cannot_steer_the_terminal() {
        assert_eq!(printable("Ada\u{1b}[2J\nLovelace"), "Ada\u{fffd}[2J\u{fffd}Lovelace");
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is() {
        assert_eq!(unwritten(io::ErrorKind::BrokenPipe.into()).exit, Exit::Done);
        assert_eq!(unwritten(io::ErrorKind::StorageFull.into()).exit, Exit::Other);
    }
}
