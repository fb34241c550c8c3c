//! How often a crashed proxy process is started again, and the events that tell of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pg_leader_proxy::app::EventRecord;
use tokio::time::Instant;

use crate::supervisor::launch::StartError;
use crate::supervisor::record::TaskExit;

/// How many times within [`WINDOW`] a proxy process is started again. Afterwards the task exits, and Nomad's restart
/// policy decides.
const RESTARTS_MAX: usize = 5;
/// How long a restart counts.
const WINDOW: Duration = Duration::from_secs(300);

/// The restarts that count.
#[derive(Debug, Default)]
pub(super) struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// Whether the process may be started again. If so, it counts.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        self.0.retain(|earlier| now.duration_since(*earlier) < WINDOW);
        let allowed = self.0.len() < RESTARTS_MAX;
        if allowed {
            self.0.push_back(now);
        }
        allowed
    }

    /// The event of a restart that took so long.
    pub(super) fn started_again(&self, exit: &TaskExit, took: Duration) -> EventRecord {
        let (cause, count) = (cause(exit), self.0.len());
        let took = took.as_millis();
        event(format!(
            "{cause}: its open sessions are lost; it was started again in {took} ms and accepts from the same sockets \
             (restart {count} of at most {RESTARTS_MAX} within {})",
            humantime::format_duration(WINDOW)
        ))
    }
}

/// The event of a process that crashed too often.
pub(super) fn given_up(exit: &TaskExit) -> EventRecord {
    event(format!(
        "{}, and was started again {RESTARTS_MAX} times within {} already: the task exits, and Nomad's restart policy \
         decides",
        cause(exit),
        humantime::format_duration(WINDOW)
    ))
}

/// The event of a process that could not be started again.
pub(super) fn failed(exit: &TaskExit, error: &StartError) -> EventRecord {
    event(format!("{}, and could not be started again: {error}", cause(exit)))
}

fn cause(exit: &TaskExit) -> String {
    match (exit.oom_killed, exit.signal) {
        (true, _) => "the proxy process was killed for lack of memory".to_owned(),
        (false, 0) => format!("the proxy process exited with code {}", exit.code),
        (false, signal) => format!("the proxy process was killed by signal {signal}"),
    }
}

fn event(message: String) -> EventRecord {
    EventRecord { kind: "restart".to_owned(), message, annotations: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_restarts_within_five_minutes_are_allowed() {
        let mut restarts = Restarts::default();
        let began = Instant::now();
        for second in 0..5 {
            assert!(restarts.allow(began + Duration::from_secs(second)));
        }
        assert!(!restarts.allow(began + Duration::from_secs(299)));
        assert!(restarts.allow(began + Duration::from_secs(300)), "the first no longer counts");
        assert!(!restarts.allow(began + Duration::from_secs(300)));
    }

    #[test]
    fn an_event_tells_the_cause() {
        let exit = TaskExit { signal: 9, code: 137, ..TaskExit::unknown(String::new()) };
        assert!(given_up(&exit).message.starts_with("the proxy process was killed by signal 9, and"));
        let exit = TaskExit { oom_killed: true, ..exit };
        assert!(given_up(&exit).message.contains("lack of memory"));
        let exit = TaskExit { code: 1, ..TaskExit::unknown(String::new()) };
        let failed = failed(&exit, &StartError::Fatal("no such file".to_owned()));
        assert!(
            failed.message.ends_with("code 1, and could not be started again: no such file"),
            "{failed:?}"
        );
    }
}
