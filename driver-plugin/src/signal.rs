//! Signals by name, as Nomad gives them.
