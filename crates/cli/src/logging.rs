//! Warnings and, with `-v`, what is being done, on standard error.
//!
//! Only tokenkeep's own crates speak. HTTP and TLS libraries log headers and bodies at their lower levels, and those carry
//! tokens: nothing but their warnings is ever let through, whatever `-vvv` or `RUST_LOG` asks for.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, Targets, filter_fn};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, Layer};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::exit::CommandError;

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verbosity {
    /// `-q`: errors alone.
    pub(crate) quiet: bool,
    /// How many `-v`.
    pub(crate) verbose: u8,
    /// `--json`: warnings would stand between the lines of JSON, so they take a `-v`.
    pub(crate) json: bool,
}

impl Verbosity {
    /// The lowest level that is shown.
    fn level(self) -> LevelFilter {
        match self.verbose {
            _ if self.quiet => LevelFilter::ERROR,
            0 if self.json => LevelFilter::ERROR,
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}

/// Starts logging. `RUST_LOG` says more or less for single crates of tokenkeep; `-q` and `-v` beat it.
///
/// # Errors
///
/// A usage error if `RUST_LOG` cannot be read.
pub(crate) fn start(verbosity: Verbosity) -> Result<(), CommandError> {
    let asked = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() && !verbosity.quiet && verbosity.verbose == 0 => {
            text.parse::<Targets>().map_err(|_| {
                CommandError::usage(
                    "RUST_LOG is not a list of levels",
                    "RUST_LOG=tokenkeep_session=debug tokenkeep …",
                )
            })?
        }
        _ => Targets::new().with_default(verbosity.level()),
    };
    let terminal = io::stderr().is_terminal();
    let colour = terminal && anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let layer = Layer::default()
        .with_writer(io::stderr)
        .with_ansi(colour)
        .event_format(Plain { source: verbosity.verbose > 1 })
        .with_filter(asked.and(filter_fn(may_speak)));
    // A second call (in a test) keeps the first subscriber, which is as good.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    Ok(())
}

/// Whether something of this origin may be shown at all.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target == "tokenkeep" || target.starts_with("tokenkeep_") || target.starts_with("tokenkeep::");
    ours || *metadata.level() <= Level::WARN
}

/// One event as one line: `warning: what happened field=value`.
struct Plain {
    /// Whether the module is named.
    source: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(writer, "{level}: ")?;
        if self.source {
            write!(writer, "{}: ", metadata.target())?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(quiet: bool, verbose: u8, json: bool) -> LevelFilter {
        Verbosity { quiet, verbose, json }.level()
    }

    #[test]
    fn each_v_says_more_and_q_only_errors() {
        assert_eq!(level(false, 0, false), LevelFilter::WARN);
        assert_eq!(level(false, 1, false), LevelFilter::INFO);
        assert_eq!(level(false, 2, false), LevelFilter::DEBUG);
        assert_eq!(level(false, 3, false), LevelFilter::TRACE);
        assert_eq!(level(false, 9, false), LevelFilter::TRACE);
        assert_eq!(level(true, 3, false), LevelFilter::ERROR);
        assert_eq!(level(false, 0, true), LevelFilter::ERROR);
        assert_eq!(level(false, 1, true), LevelFilter::INFO);
    }

    #[test]
    fn libraries_are_never_heard_below_a_warning() {
        struct Ask(std::sync::Mutex<Vec<(String, bool)>>);
        impl<S: Subscriber> tracing_subscriber::Layer<S> for &'static Ask {
            fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                let metadata = event.metadata();
                let asked = (format!("{} {}", metadata.target(), metadata.level()), may_speak(metadata));
                self.0.lock().unwrap().push(asked);
            }
        }
        let ask: &'static Ask = Box::leak(Box::new(Ask(std::sync::Mutex::default())));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(ask), || {
            tracing::trace!(target: "tokenkeep", "");
            tracing::trace!(target: "tokenkeep::session::renewal", "");
            tracing::trace!(target: "h2::proto", "");
            tracing::debug!(target: "hyper_util::client", "");
            tracing::info!(target: "rustls", "");
            tracing::info!(target: "tokenkeeper", "");
            tracing::warn!(target: "rustls", "");
        });
        let heard: Vec<bool> = ask.0.lock().unwrap().iter().map(|(_, heard)| *heard).collect();
        assert_eq!(heard, [true, true, false, false, false, false, true]);
    }
}
