//! The shape of a task's `config` block, made from the proxy's own table of settings.
