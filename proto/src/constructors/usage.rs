//! Statistics of a task.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::driver::{CpuUsage, MemoryUsage, TaskResourceUsage, TaskStats, TaskStatsResponse};

impl TaskResourceUsage {
    /// Processor and memory use.
    pub const fn new(cpu: CpuUsage, memory: MemoryUsage) -> Self {
        Self { cpu: Some(cpu), memory: Some(memory) }
    }
}

impl TaskStatsResponse {
    /// One sample. Without `all` the agent would panic; without `at` it would drop the sample.
    pub fn new(
        task_id: String,
        at: SystemTime,
        all: TaskResourceUsage,
        by_pid: HashMap<String, TaskResourceUsage>,
    ) -> Self {
        Self {
            stats: Some(TaskStats {
                id: task_id,
                timestamp: Some(at.into()),
                agg_resource_usage: Some(all),
                resource_usage_by_pid: by_pid,
            }),
        }
    }
}
