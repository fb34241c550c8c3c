//! A go-plugin server: handshake, log lines, the services that every plugin has, and the end.
