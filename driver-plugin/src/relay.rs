//! The relay: the proxy, in a process of its own, of the task's cgroup and user.
