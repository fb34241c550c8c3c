//! Logging to standard error, as text or JSON, each line with the name of the cluster.

mod budget;
mod seldom;
mod writer;

use std::io::{self, IsTerminal as _};
use std::panic;

use pg_leader_proxy_core::display::Counted;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::fmt::format::{self, Format, FormatEvent, FormatFields, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use self::writer::DroppedLines;
use crate::config::{Config, LogFormat};

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be parsed.
    #[error("the log filter is invalid")]
    Filter(#[from] ParseError),
    /// Logging was already set up.
    #[error("logging is already set up")]
    Started(#[from] TryInitError),
}

pub use budget::LineBudget;
pub(crate) use seldom::Seldom;
pub use writer::LogFlush;

/// Logging that is set up; its filter can be changed.
#[derive(Clone, Debug)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: DroppedLines,
}

impl Logging {
    /// How many lines were dropped, because standard error was not read fast enough.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.count()
    }

    /// Replaces the filter; the old one stays if there is an error.
    ///
    /// # Errors
    /// If the filter cannot be parsed.
    pub fn set_filter(&self, filter: &str) -> Result<(), LoggingError> {
        let filter = EnvFilter::try_new(filter)?;
        // The subscriber lasts as long as the process.
        let _ = self.filter.reload(filter);
        Ok(())
    }
}

/// Logs from this thread until the guard is dropped, for errors in the configuration that says how to log.
#[must_use]
pub fn temporary() -> DefaultGuard {
    let layer = lines(LogFormat::Text, None, io::stderr, io::stderr().is_terminal());
    // Not `set_default` of tracing-subscriber: it also registers the global logger of the `log` crate, which only
    // `start` may do.
    tracing::subscriber::set_default(Registry::default().with(layer.with_filter(EnvFilter::new("info"))))
}

/// Logs from every thread until the process exits. Panics are logged in the same format. Lines go through a queue to a
/// thread that writes them, so that no other thread ever waits for standard error. What is in the queue is written when the
/// [`LogFlush`] is dropped.
///
/// # Errors
/// If the filter cannot be parsed, or logging was already set up.
pub fn start(config: &Config) -> Result<(Logging, LogFlush), LoggingError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&config.log.filter)?);
    let (format, colours) = (config.log.format, io::stderr().is_terminal());
    let cluster = config.cluster.clone();
    let tell = move |count| tell_dropped(count, lines(format, Some(&cluster), io::stderr, colours));
    let (queue, dropped, flush) = writer::start(io::stderr(), tell);
    let layer = lines(format, Some(config.cluster.as_str()), queue, colours);
    Registry::default().with(filter).with(layer).try_init()?;
    panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok((Logging { filter: handle, dropped }, flush))
}

/// Writes at once that lines were dropped, in the format of all others.
fn tell_dropped(count: u64, line: Box<dyn Layer<Registry> + Send + Sync>) {
    // A subscriber without a filter would have every event of the process looked at.
    let direct = Registry::default().with(line.with_filter(LevelFilter::WARN));
    let lines = Counted(count, "log line");
    tracing::subscriber::with_default(direct, || {
        tracing::warn!(dropped = count, "{lines} dropped, because standard error was not read fast enough");
    });
}

fn lines<S, W>(
    log_format: LogFormat,
    cluster: Option<&str>,
    writer: W,
    colours: bool,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match log_format {
        LogFormat::Text => {
            let suffix = cluster.map(|cluster| format!(" cluster={cluster:?}"));
            let format = format::format().with_ansi(colours);
            layer.event_format(TextLine { format, suffix: suffix.unwrap_or_default() }).boxed()
        }
        LogFormat::Json => {
            let prefix = cluster.map(|cluster| format!("\"cluster\":{},", serde_json::json!(cluster)));
            let format = format::format().json().flatten_event(true).with_current_span(false);
            let line = JsonLine { format, prefix: prefix.unwrap_or_default() };
            layer.fmt_fields(JsonFields::new()).event_format(line).boxed()
        }
    }
}

/// A line of text, with the cluster at its end.
struct TextLine {
    format: Format,
    suffix: String,
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{}{}", line.trim_end_matches('\n'), self.suffix)
    }
}

/// A line of JSON, with the cluster as its first field. The format itself cannot be given a field for every line.
struct JsonLine {
    format: Format<Json>,
    prefix: String,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(fields) => write!(writer, "{{{}{fields}", self.prefix),
            None => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, cluster: Option<&str>, colours: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = lines(format, cluster, move || writer.clone(), colours);
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::info!(member = "a", epoch = 2, "forwarding");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_one_line_with_the_fields_and_the_cluster() {
        let line = logged(LogFormat::Text, Some("main"), false);
        assert!(line.contains("INFO"), "{line}");
        assert!(line.ends_with("forwarding member=\"a\" epoch=2 cluster=\"main\"\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
        let coloured = logged(LogFormat::Text, Some("main"), true);
        assert!(coloured.contains("\u{1b}[") && coloured.ends_with(" cluster=\"main\"\n"), "{coloured}");
    }

    #[test]
    fn json_has_the_fields_and_the_cluster_beside_the_message() {
        let line: serde_json::Value =
            serde_json::from_str(&logged(LogFormat::Json, Some("a \"main\" one"), false)).unwrap();
        assert_eq!((&line["member"], &line["epoch"]), (&"a".into(), &2.into()));
        assert_eq!((&line["message"], &line["cluster"]), (&"forwarding".into(), &"a \"main\" one".into()));
    }

    #[test]
    fn before_the_configuration_is_read_there_is_no_cluster() {
        assert!(!logged(LogFormat::Text, None, false).contains("cluster"));
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, None, false)).unwrap();
        assert!(line.get("cluster").is_none());
    }
}
