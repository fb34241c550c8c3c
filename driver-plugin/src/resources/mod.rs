//! The task's cgroup: its limits, who is in it, and what it uses.
