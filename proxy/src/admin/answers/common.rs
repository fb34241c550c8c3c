//! Answers that are part of several others.

use pg_leader_proxy_core::Reason;
use serde::{Deserialize, Serialize};

/// Why nothing is forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonAnswer {
    /// The label in metrics.
    pub code: String,
    /// The text that clients get.
    pub text: String,
}

impl From<&Reason> for ReasonAnswer {
    fn from(reason: &Reason) -> Self {
        Self { code: reason.code().to_owned(), text: reason.to_string() }
    }
}

/// Something that is wrong, although sessions may go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmAnswer {
    /// The label in metrics.
    pub code: String,
    /// The member that it is about, if that is one.
    pub member: Option<String>,
    /// What is wrong.
    pub text: String,
}

/// A member that says it is out of recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryAnswer {
    /// The member.
    pub member: String,
    /// The timeline that it writes on.
    pub timeline: u32,
}
