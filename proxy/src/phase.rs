//! What the process as a whole is doing.

use serde::{Deserialize, Serialize};

/// What the process as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepting clients.
    Serving,
    /// Waiting for the open sessions to end.
    Draining,
}
