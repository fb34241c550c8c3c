//! The status of a task in the answer to `InspectTask`.

use std::collections::HashMap;
use std::time::SystemTime;

use prost_types::Timestamp;

use crate::driver::{ExitResult, InspectTaskResponse, TaskDriverStatus, TaskState, TaskStatus};

/// Go's zero time, 0001-01-01T00:00:00Z, which stands for no time.
const fn zero_time() -> Timestamp {
    Timestamp { seconds: -62_135_596_800, nanos: 0 }
}

impl TaskStatus {
    /// A running task. Nomad requires a completion time and a result even so.
    pub fn running(id: String, name: String, started_at: SystemTime) -> Self {
        Self {
            id,
            name,
            state: TaskState::Running.into(),
            started_at: Some(started_at.into()),
            completed_at: Some(zero_time()),
            result: Some(ExitResult::default()),
        }
    }

    /// The same task after its exit.
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
    /// The status and the driver's own attributes. Without a status the caller would panic.
    pub const fn new(task: TaskStatus, attributes: HashMap<String, String>) -> Self {
        Self { task: Some(task), driver: Some(TaskDriverStatus { attributes }), network_override: None }
    }
}
