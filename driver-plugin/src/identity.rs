//! Which process a number means: pid, start time and boot id, so that a reused pid is never mistaken.
