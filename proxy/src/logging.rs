//! Logging to standard error, as text or JSON, with a temporary default until the configuration is read.

use std::io::{self, IsTerminal as _};
use std::panic;

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

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

/// Logging that is set up; its filter can be changed.
#[derive(Clone, Debug)]
pub struct Logging(reload::Handle<EnvFilter, Registry>);

impl Logging {
    /// Replaces the filter by that of `log`. The format stays the same.
    pub fn set_filter(&self, log: &Log) {
        let changed = EnvFilter::try_new(&log.filter).map(|filter| self.0.reload(filter));
        if !matches!(changed, Ok(Ok(()))) {
            tracing::warn!(filter = log.filter, "the log filter cannot be changed; the old one stays");
        }
    }
}

/// Logs from this thread until the guard is dropped, for errors in the configuration that says how to log.
#[must_use]
pub fn temporary() -> DefaultGuard {
    let layer = lines(LogFormat::Text, io::stderr, io::stderr().is_terminal());
    // Not `set_default` of tracing-subscriber: it also registers the global logger of the `log` crate, which only
    // `start` may do.
    tracing::subscriber::set_default(Registry::default().with(layer.with_filter(EnvFilter::new("info"))))
}

/// Logs from every thread until the process exits. Panics are logged in the same format.
///
/// # Errors
/// If the filter cannot be parsed, or logging was already set up.
pub fn start(log: &Log) -> Result<Logging, LoggingError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&log.filter)?);
    let layer = lines(log.format, io::stderr, io::stderr().is_terminal());
    Registry::default().with(filter).with(layer).try_init()?;
    panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(Logging(handle))
}

fn lines<S, W>(format: LogFormat, writer: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => fmt::layer().with_writer(writer).with_ansi(colours).boxed(),
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(writer).boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let page = Page::default();
        let writer = page.clone();
        let layer = lines(format, move || writer.clone(), false);
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            tracing::info!(member = "a", epoch = 2, "forwarding");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_one_line_with_the_fields() {
        let line = logged(LogFormat::Text);
        assert!(line.contains("INFO") && line.contains("forwarding member=\"a\" epoch=2"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn json_has_the_fields_beside_the_message() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!((&line["member"], &line["epoch"]), (&"a".into(), &2.into()));
        assert_eq!(line["message"], "forwarding");
    }
}
