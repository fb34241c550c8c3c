//! Log lines for the host: JSON on standard error, from a thread of its own, so that nobody waits for a reader.

mod line;
mod queue;

use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::time::Duration;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

pub(super) use self::line::line;
pub(super) use self::queue::Queue;

/// How long a panic waits until its line is out.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The thread that writes cannot be started.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[from] io::Error),
    /// Somebody else set up logging before.
    #[error("logging was started before")]
    Started(#[from] TryInitError),
}

/// Logs to `host` from now on, panics included. The host filters by its own level; what libraries have to say below a
/// warning is never for it.
///
/// # Errors
/// When the thread cannot be started, or logging was started before.
pub(super) fn start(host: impl Write + Send + 'static) -> Result<Queue, LogError> {
    let queue = Queue::start(host)?;
    let filter = Targets::new()
        .with_default(Level::WARN)
        .with_target("nomad_driver_pg_leader_proxy", Level::DEBUG)
        .with_target("pg_leader_proxy", Level::INFO);
    tracing_subscriber::registry().with(HostLog(queue.clone()).with_filter(filter)).try_init()?;
    let last = queue.clone();
    panic::set_hook(Box::new(move |panic| {
        last.push(line(Level::ERROR, "panic", &panic.to_string(), Map::new()));
        last.flush(LAST_WORDS);
    }));
    Ok(queue)
}

/// Turns events into lines.
struct HostLog(Queue);

impl<S: Subscriber> Layer<S> for HostLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        self.0.push(line(*metadata.level(), metadata.target(), &said.message, said.fields));
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
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

    fn logged(say: impl FnOnce()) -> Value {
        let page = Page::default();
        let queue = Queue::start(page.clone()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(HostLog(queue.clone())), say);
        queue.flush(Duration::from_secs(5));
        let bytes = page.0.lock().unwrap().clone();
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
                "lost {}",
                1
            );
        });
        assert_eq!((&line["@level"], &line["@message"]), (&"warn".into(), &"lost 1".into()));
        assert_eq!((&line["task_id"], &line["pid"], &line["ok"]), (&"a/b".into(), &7.into(), &true.into()));
        assert_eq!(line["error"], "no");
    }

    /// A `@level` that is no text panics the agent.
    #[test]
    fn pitfall_02_no_field_can_take_the_place_of_the_hosts_own() {
        let line = logged(|| tracing::info!("@level" = 5, "@message" = true, "@timestamp" = 1.5, "text"));
        assert_eq!((&line["@level"], &line["@message"]), (&"info".into(), &"text".into()));
        assert!(line["@timestamp"].is_string());
        assert_eq!((&line["level"], &line["message"]), (&5.into(), &true.into()), "what they hold is kept");
    }
}
