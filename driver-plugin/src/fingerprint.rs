//! Whether this host can run a task, and what Nomad's scheduler may know of it.
