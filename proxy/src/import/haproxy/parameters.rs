//! The parameters of `bind`, `server` and `default-server` lines: which of them have a value.

use super::words::Word;

/// Parameters with one value (HAProxy's Configuration Manual, sections 5.1 and 5.2).
const WITH_VALUE: [&str; 58] = [
    "accept-netscaler-cip",
    "addr",
    "agent-addr",
    "agent-check-sni",
    "agent-inter",
    "agent-port",
    "agent-send",
    "alpn",
    "backlog",
    "ca-file",
    "ca-verify-file",
    "check-alpn",
    "check-proto",
    "check-sni",
    "check-via-socks4",
    "ciphers",
    "ciphersuites",
    "cookie",
    "crl-file",
    "crt",
    "crt-list",
    "curves",
    "downinter",
    "ecdhe",
    "error-limit",
    "expose-fd",
    "fall",
    "fastinter",
    "gid",
    "group",
    "guid",
    "id",
    "init-addr",
    "inter",
    "interface",
    "level",
    "maxconn",
    "maxqueue",
    "minconn",
    "mode",
    "mss",
    "name",
    "namespace",
    "nice",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "port",
    "process",
    "proto",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "rise",
    "slowstart",
    "sni",
];
const WITH_VALUE_TOO: [&str; 11] = [
    "source",
    "ssl-max-ver",
    "ssl-min-ver",
    "tcp-ut",
    "thread",
    "tls-tickets",
    "track",
    "uid",
    "user",
    "verify",
    "weight",
];

/// A parameter, and its value if it has one.
pub(super) struct Parameter<'a> {
    pub(super) name: &'a str,
    pub(super) value: Option<&'a Word>,
}

/// The parameters that these words are.
pub(super) fn split(words: &[Word]) -> Vec<Parameter<'_>> {
    let mut parameters = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let name = word.text.as_str();
        let has_value = WITH_VALUE.contains(&name) || WITH_VALUE_TOO.contains(&name);
        parameters.push(Parameter { name, value: if has_value { words.next() } else { None } });
    }
    parameters
}
