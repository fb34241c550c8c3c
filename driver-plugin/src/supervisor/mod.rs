//! The supervisor: one process for each task, which outlives the plugin.
