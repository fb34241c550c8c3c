//! One operation of a client: what it asked for, when, and what became of it.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

/// What a client asks for, of one register or of one group of two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The register's value, as a plain `select`.
    Read,
    /// The same with `for update`, so that the answer waits for the synchronous replica like a write.
    ConfirmedRead,
    /// Sets the register. Values are unique.
    Write(i64),
    /// Sets the register to `value` if it is `expected`.
    CompareAndSet {
        /// The value that it must have.
        expected: i64,
        /// The value that it is given.
        value: i64,
    },
    /// Both lists of the group, as a plain `select`.
    ReadLists,
    /// A transaction that reads both lists, locks them, and appends a unique id to the first, the second or both.
    Append {
        /// The id.
        id: i64,
        /// Whether it is appended to the first list and to the second.
        lists: [bool; 2],
    },
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The register was written.
    Done,
    /// The register's value.
    Value(i64),
    /// Whether the register had the expected value.
    Swapped(bool),
    /// Both lists; of an append, as they were before.
    Lists([Vec<i64>; 2]),
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Acknowledged {
        /// The answer.
        answer: Answer,
        /// The server's own address.
        server: IpAddr,
        /// What the server said of itself in the same statement.
        in_recovery: bool,
    },
    /// It has not been executed.
    Failed(String),
    /// It may have been executed, or may yet be.
    Unknown(String),
}

/// An operation, from its first byte to its end.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The client, which gets a new number after each unknown outcome: this one may still be at work.
    pub process: usize,
    /// The register or the group of lists.
    pub key: i64,
    /// What was asked.
    pub request: Request,
    /// When it was sent, from the start of the run. The session was open by then.
    pub invoked: Duration,
    /// When the client knew the outcome.
    pub completed: Duration,
    /// The outcome.
    pub outcome: Outcome,
}

impl Request {
    /// Its name in the history.
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ConfirmedRead => "confirmed-read",
            Self::Write(_) => "write",
            Self::CompareAndSet { .. } => "cas",
            Self::ReadLists => "read-lists",
            Self::Append { .. } => "append",
        }
    }

    fn arguments(self) -> Value {
        match self {
            Self::Read | Self::ConfirmedRead | Self::ReadLists => Value::Null,
            Self::Write(value) => json!(value),
            Self::CompareAndSet { expected, value } => json!([expected, value]),
            Self::Append { id, lists } => json!({ "id": id, "lists": lists }),
        }
    }
}

impl Operation {
    /// As two events in the manner of Jepsen's histories: `invoke`, then `ok`, `fail` or `info`. Times are nanoseconds.
    pub(crate) fn events(&self) -> [Value; 2] {
        let event = |kind: &str, at: Duration, value: Value| {
            json!({
                "process": self.process,
                "type": kind,
                "f": self.request.name(),
                "key": self.key,
                "value": value,
                "time": u64::try_from(at.as_nanos()).unwrap_or(u64::MAX),
            })
        };
        let invoke = event("invoke", self.invoked, self.request.arguments());
        let mut end = match &self.outcome {
            Outcome::Acknowledged { answer: Answer::Swapped(false), .. } | Outcome::Failed(_) => {
                event("fail", self.completed, self.request.arguments())
            }
            Outcome::Acknowledged { answer, .. } => event("ok", self.completed, self.value(answer)),
            Outcome::Unknown(_) => event("info", self.completed, self.request.arguments()),
        };
        match &self.outcome {
            Outcome::Acknowledged { server, in_recovery, .. } => {
                end["server"] = json!(server);
                end["in-recovery"] = json!(in_recovery);
            }
            Outcome::Failed(error) | Outcome::Unknown(error) => end["error"] = json!(error),
        }
        [invoke, end]
    }

    fn value(&self, answer: &Answer) -> Value {
        match (answer, self.request) {
            (Answer::Value(value), _) => json!(value),
            (Answer::Lists(before), Request::Append { id, lists }) => {
                json!({ "id": id, "lists": lists, "before": before })
            }
            (Answer::Lists(lists), _) => json!(lists),
            (Answer::Done | Answer::Swapped(_), _) => self.request.arguments(),
        }
    }
}
