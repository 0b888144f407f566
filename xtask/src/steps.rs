//! What the tasks print: one heading a step, its time, one line for a failure. All of it goes to standard error.
#![expect(clippy::print_stderr, reason = "this is where xtask prints")]

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Steps that run one after the other, each with its time. The first that fails ends them.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Outcome)>,
}

/// How a step went that did not fail.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It ran, in this time.
    Took(Duration),
    /// It was left out, for this reason.
    Skipped(String),
}

impl Steps {
    /// Runs a step.
    pub(crate) fn run(
        &mut self,
        name: &str,
        step: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.run_or_skip(name, || step().map(|()| None))
    }

    /// Runs a step that may find that it has to be left out; it then gives the reason.
    pub(crate) fn run_or_skip(
        &mut self,
        name: &str,
        step: impl FnOnce() -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<()> {
        heading(name);
        let start = now();
        let skipped =
            step().with_context(|| format!("the step `{name}` failed after {}", shown(start.elapsed())))?;
        let outcome = match skipped {
            Some(reason) => Outcome::Skipped(reason),
            None => Outcome::Took(start.elapsed()),
        };
        match &outcome {
            Outcome::Took(time) => say(&format!("{name}: {}", shown(*time))),
            Outcome::Skipped(reason) => say(&format!("{name} skipped: {reason}")),
        }
        self.done.push((name.to_owned(), outcome));
        Ok(())
    }

    /// Prints all steps with their times.
    pub(crate) fn summary(&self) {
        heading("all steps passed");
        let mut total = Duration::ZERO;
        for (name, outcome) in &self.done {
            match outcome {
                Outcome::Took(time) => {
                    total += *time;
                    eprintln!("  {:>9}  {name}", shown(*time));
                }
                Outcome::Skipped(reason) => eprintln!("  {:>9}  {name}: {reason}", "skipped"),
            }
        }
        eprintln!("  {:>9}  in all", shown(total));
    }
}

/// A line that begins something.
pub(crate) fn heading(text: &str) {
    eprintln!("\n{}", painted("1;36", &format!("==> {text}")));
}

/// A line of news.
pub(crate) fn say(text: &str) {
    eprintln!("{} {text}", painted("36", "xtask:"));
}

/// A line to be copied: nothing before it.
pub(crate) fn copyable(text: &str) {
    eprintln!("    {text}");
}

/// The line that ends a task that failed.
pub(crate) fn failed(text: &str) {
    eprintln!("\n{} {text}", painted("1;31", "xtask failed:"));
}

fn painted(style: &str, text: &str) -> String {
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    if colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A time as a person reads it: `4.2 s`, `3 min 07 s`.
fn shown(time: Duration) -> String {
    let tenths = time.as_millis().div_ceil(100);
    if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time of a step is shown to people, and nothing follows from it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!(shown(Duration::from_millis(4_200)), "4.2 s");
        assert_eq!(shown(Duration::from_millis(1)), "0.1 s");
        assert_eq!(shown(Duration::from_secs(187)), "3 min 07 s");
    }

    #[test]
    fn the_first_failure_ends_the_steps_and_names_itself() {
        let mut steps = Steps::default();
        steps.run("first", || Ok(())).unwrap();
        steps.run_or_skip("second", || Ok(Some("not today".to_owned()))).unwrap();
        let error = steps.run("third", || anyhow::bail!("broken")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("the step `third` failed after ") && text.ends_with(": broken"), "{text}");
        assert_eq!(steps.done.len(), 2);
    }
}
