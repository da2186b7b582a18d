//! Logs go to stderr, for people or as one JSON object a line; stdout belongs to the data of commands.

use std::io::{self, IsTerminal, Write, stderr};
use std::sync::OnceLock;
use std::time::Duration;

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::lines::Lines;

/// Libraries whose lines below a warning are about themselves, not about events and deliveries.
const QUIET: [&str; 8] =
    ["h2", "hickory_net", "hickory_proto", "hickory_resolver", "hyper", "hyper_util", "rustls", "sqlx"];

/// The lines of this process; not there before logging has started.
static LINES: OnceLock<Lines> = OnceLock::new();
/// The last lines of a process say why it ends: they are waited for, but not by a reader that has stopped reading.
const LAST: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum LoggingError {
    #[error("logging cannot start: {0}")]
    Thread(#[from] io::Error),
    #[error("telemetry.log_level: is not a filter: {0}; use info, or targets such as \"info,posthaste::relay=debug\"")]
    Filter(#[from] ParseError),
    #[error("logging is already set up: {0}")]
    Twice(#[from] TryInitError),
}

/// Starts logging for the whole process.
pub fn init(json: bool, filter: &str) -> Result<(), LoggingError> {
    let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = Lines::to(stderr())?;
    subscriber(json, filter, colour, lines.clone())?.try_init()?;
    LINES.get_or_init(|| lines);
    Ok(())
}

/// Waits a moment for what was logged to be written.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST);
    }
}

/// Says something on stderr that is no log line, after what was logged before it.
pub fn say(text: &str) {
    match LINES.get() {
        Some(lines) => {
            lines.add(format!("{text}\n").as_bytes());
            lines.flush(LAST);
        }
        // Whoever reads may have seen enough, which is no reason to panic.
        None => drop(writeln!(stderr(), "{text}")),
    }
}

type BoxedSubscriber = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(json: bool, filter: &str, colour: bool, writer: W) -> Result<BoxedSubscriber, ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(quiet(filter)?).with_writer(writer).with_ansi(colour);
    Ok(if json {
        Box::new(lines.json().flatten_event(true).with_current_span(false).finish())
    } else {
        Box::new(lines.finish())
    })
}

/// Returns every error that it logs to its caller, who handles it; its own lines only repeat them, also for an orderly
/// close.
const SILENT: &str = "lapin=off";

/// The libraries come first, so a directive of the operator's for the same target wins.
fn quiet(filter: &str) -> Result<EnvFilter, ParseError> {
    let asked = EnvFilter::try_new(filter)?;
    if asked.max_level_hint().is_some_and(|level| level <= LevelFilter::WARN) {
        return EnvFilter::try_new(format!("{SILENT},{filter}"));
    }
    let libraries = QUIET.map(|target| format!("{target}=warn")).join(",");
    EnvFilter::try_new(format!("{SILENT},{libraries},{filter}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, filter: &str, work: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(json, filter, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_hold_their_fields_at_the_top() {
        let line = logged(true, "info", || tracing::info!(attempt = 3, "delivered"));
        let value: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
        assert_eq!(
            (&value["message"], &value["attempt"], &value["level"]),
            (&"delivered".into(), &3.into(), &"INFO".into())
        );
    }

    #[test]
    fn human_lines_have_no_colour_codes_off_a_terminal() {
        let line = logged(false, "info", || tracing::warn!(queue = "a", "blocked"));
        assert!(line.contains("WARN") && line.contains("blocked queue=\"a\"") && !line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn libraries_are_quiet_unless_asked_for() {
        let talk = || {
            tracing::info!(target: "sqlx::query", "chatter");
            tracing::warn!(target: "sqlx::query", "trouble");
            tracing::debug!(target: "posthaste::relay", "detail");
        };
        let usual = logged(false, "info", talk);
        assert!(!usual.contains("chatter") && usual.contains("trouble") && !usual.contains("detail"), "{usual}");
        let asked = logged(false, "info,sqlx=info,posthaste::relay=debug", talk);
        assert!(asked.contains("chatter") && asked.contains("detail"), "{asked}");
        assert_eq!(logged(false, "error", talk), "");
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_its_key() {
        let error = init(false, "a=b=c").unwrap_err().to_string();
        assert!(error.starts_with("telemetry.log_level"), "{error}");
    }

    #[test]
    fn logging_starts_once() {
        init(true, "off").unwrap();
        assert!(matches!(init(true, "off"), Err(LoggingError::Twice(_))));
    }
}
