//! The plugin's log: lines of JSON on standard error, in the form of the host's logger (hclog).

use std::fmt;
use std::io;
use std::panic;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_serde::AsSerde as _;
use tracing_serde::fields::AsMap as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use super::log_queue::LogQueue;
use crate::clock;

/// The longest line, in bytes. The host reads 64 KiB at once and splits longer lines into parts that are not JSON.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// How many characters are kept of a message whose line would be too long. Escaped, a character takes up to six bytes.
const CUT_CHARACTERS: usize = 4 * 1024;
/// How long a panic waits until its line is written.
const PANIC_FLUSH: Duration = Duration::from_millis(200);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes the log")]
    Thread(#[from] io::Error),
    /// Logging was started before.
    #[error("logging was started before")]
    Started(#[from] TryInitError),
}

/// Logs to `host` from now on, panics included. The host filters by its own level.
///
/// # Errors
/// When the thread that writes cannot be started, or logging was started before.
pub(super) fn start(host: impl io::Write + Send + 'static) -> Result<LogQueue, LogError> {
    let queue = LogQueue::start(host)?;
    let filter = Targets::new()
        .with_default(Level::WARN)
        .with_target("nomad_driver_pg_leader_proxy", Level::DEBUG)
        .with_target("pg_leader_proxy", Level::INFO);
    tracing_subscriber::registry().with(layer(queue.clone()).with_filter(filter)).try_init()?;
    let last = queue.clone();
    panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}");
        last.flush(PANIC_FLUSH);
    }));
    Ok(queue)
}

fn layer<S>(queue: LogQueue) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().event_format(HclogFormat).with_writer(move || queue.clone());
    // It would print them to standard error, and the host would take them for plain text.
    layer.log_internal_errors(false)
}

/// Formats an event as one line for hclog.
struct HclogFormat;

impl<S, N> FormatEvent<S, N> for HclogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let fields = serde_json::to_value(event.field_map()).map_err(|_| fmt::Error)?;
        let fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
        let metadata = event.metadata();
        let level = metadata.level().as_serde();
        let level = serde_json::to_value(level).map_err(|_| fmt::Error)?;
        let level = level.as_str().unwrap_or_default().to_ascii_lowercase();
        writeln!(writer, "{}", line(clock::now(), &level, metadata.target(), fields))
    }
}

/// A line of JSON. The host panics if `@level`, `@message` or `@timestamp` is not a string, so no field can take
/// their place.
fn line(at: SystemTime, level: &str, module: &str, mut fields: Map<String, Value>) -> String {
    let message = fields.remove("message").and_then(|message| message.as_str().map(str::to_owned));
    let message = message.unwrap_or_default();
    let text = |message: &str, fields: Map<String, Value>| {
        let mut keys: Map<String, Value> = fields
            .into_iter()
            .map(|(name, value)| (name.trim_start_matches('@').to_owned(), value))
            .collect();
        keys.insert("@level".into(), level.into());
        keys.insert("@message".into(), message.into());
        keys.insert("@module".into(), module.into());
        // Exactly six digits: the host takes a line with any other form of time for plain text.
        keys.insert("@timestamp".into(), humantime::format_rfc3339_micros(at).to_string().into());
        Value::Object(keys).to_string()
    };
    let line = text(&message, fields);
    if line.len() < LINE_BYTES_MAX {
        return line;
    }
    let cut: String = message.chars().take(CUT_CHARACTERS).collect();
    text(&format!("{cut} … (cut)"), Map::new())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> Value {
        let page = Page::default();
        let queue = LogQueue::start(page.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(queue.clone())), log);
        queue.flush(Duration::from_secs(5));
        let bytes = page.0.lock().unwrap().clone();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn an_event_is_a_line_with_its_fields_beside_the_message() {
        let error = io::Error::other("no");
        let line = logged(|| {
            tracing::warn!(
                task_id = "a/b",
                pid = 7,
                ok = true,
                error = &error as &dyn std::error::Error,
                shown = %error,
                "lost {}\nlines",
                2
            );
        });
        assert_eq!((&line["@level"], &line["@message"]), (&"warn".into(), &"lost 2\nlines".into()));
        assert_eq!((&line["task_id"], &line["pid"], &line["ok"]), (&"a/b".into(), &7.into(), &true.into()));
        assert_eq!((&line["error"], &line["shown"]), (&"no".into(), &"no".into()));
    }

    #[test]
    fn pitfall_02_no_field_can_take_the_place_of_the_hosts_own() {
        let line = logged(|| tracing::info!("@level" = 5, "@message" = true, "@timestamp" = 1.5, "text"));
        assert_eq!((&line["@level"], &line["@message"]), (&"info".into(), &"text".into()));
        assert!(line["@timestamp"].is_string());
        assert_eq!((&line["level"], &line["timestamp"]), (&5.into(), &1.5.into()), "their values are kept");
    }

    #[test]
    fn pitfall_02_the_timestamp_has_six_digits_always() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001);
        let fields =
            Map::from_iter([("message".to_owned(), "m".into()), ("task_id".to_owned(), "a/b".into())]);
        let golden = concat!(
            r#"{"@level":"info","@message":"m","@module":"x","#,
            r#""@timestamp":"2023-11-14T22:13:20.000001Z","task_id":"a/b"}"#
        );
        assert_eq!(line(at, "info", "x", fields), golden);
        let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert!(line(whole, "info", "x", Map::new()).contains("\"2023-11-14T22:13:20.000000Z\""));
    }

    #[test]
    fn a_line_that_would_be_too_long_is_cut_and_still_json() {
        for message in ["é".repeat(100_000), "\u{1}".repeat(100_000)] {
            let fields = Map::from_iter([("message".to_owned(), message.into())]);
            let line = line(clock::now(), "warn", "m", fields);
            assert!(line.len() < LINE_BYTES_MAX, "{}", line.len());
            let line: Value = serde_json::from_str(&line).unwrap();
            assert!(line["@message"].as_str().unwrap().ends_with("… (cut)"));
        }
    }
}
