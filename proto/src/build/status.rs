//! The status of a task, as `InspectTask` tells it.

use std::collections::HashMap;
use std::time::SystemTime;

use prost_types::Timestamp;

use crate::driver::{ExitResult, InspectTaskResponse, TaskDriverStatus, TaskState, TaskStatus};

/// Go's zero time, 0001-01-01T00:00:00Z: how Nomad writes that something has not happened.
pub const fn never() -> Timestamp {
    Timestamp { seconds: -62_135_596_800, nanos: 0 }
}

impl TaskStatus {
    /// A task that runs. Nomad wants an end and a result even so.
    pub fn running(id: String, name: String, started_at: SystemTime) -> Self {
        Self {
            id,
            name,
            state: TaskState::Running.into(),
            started_at: Some(started_at.into()),
            completed_at: Some(never()),
            result: Some(ExitResult::default()),
        }
    }

    /// The same task after its end.
    #[must_use]
    pub fn exited(self, completed_at: SystemTime, result: ExitResult) -> Self {
        Self {
            state: TaskState::Exited.into(),
            completed_at: Some(completed_at.into()),
            result: Some(result),
            ..self
        }
    }
}

impl InspectTaskResponse {
    /// The status, and what else the driver knows. Without the status its reader would panic.
    pub const fn new(task: TaskStatus, attributes: HashMap<String, String>) -> Self {
        Self { task: Some(task), driver: Some(TaskDriverStatus { attributes }), network_override: None }
    }
}
