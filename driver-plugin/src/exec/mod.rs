//! Commands beside the relay, in the task's cgroup, environment and user: `nomad alloc exec`, script checks.
