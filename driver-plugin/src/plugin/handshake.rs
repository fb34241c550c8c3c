//! The go-plugin handshake: who may start the plugin, and the line that says where it listens.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use crate::about;

/// Nomad sets this variable for every plugin (`plugins/base/plugin.go`).
const COOKIE: (&str, &str) =
    ("NOMAD_PLUGIN_MAGIC_COOKIE", "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255");

/// The host's certificate, if it wants an encrypted connection.
const CLIENT_CERTIFICATE: &str = "PLUGIN_CLIENT_CERT";

/// The versions of go-plugin's protocol and of Nomad's plugins.
const VERSIONS: &str = "1|2";

/// Why the plugin does not serve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It was not started by Nomad.
    #[error("{} is a plugin: a Nomad client starts it from its plugin_dir; see --help", about::PROGRAM)]
    NotNomad,
    /// The host wants an encrypted connection. Nomad does not.
    #[error(
        "the host asks for an encrypted connection (PLUGIN_CLIENT_CERT), which {} does not support",
        about::PROGRAM
    )]
    Encrypted,
}

/// Checks, by the environment, that a supported host has started this process.
///
/// # Errors
/// When the host is not Nomad, or wants an encrypted connection.
pub(super) fn check_host(variable: impl Fn(&str) -> Option<OsString>) -> Result<(), HandshakeError> {
    let (name, value) = COOKIE;
    if variable(name).is_none_or(|found| found != value) {
        return Err(HandshakeError::NotNomad);
    }
    match variable(CLIENT_CERTIFICATE) {
        Some(certificate) if !certificate.is_empty() => Err(HandshakeError::Encrypted),
        _ => Ok(()),
    }
}

/// Tells the host where the plugin listens, which it must do already. Nothing else may be written to `host`: it stops
/// reading at some point, and a writer would block.
///
/// # Errors
/// When the host has closed its end.
pub(super) fn announce(mut host: impl Write, socket: &Path) -> io::Result<()> {
    host.write_all(format!("{VERSIONS}|unix|{}|grpc\n", socket.display()).as_bytes())?;
    host.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_with(given: &[(&str, &str)]) -> Result<(), HandshakeError> {
        check_host(|name| {
            given.iter().find(|(given, _)| *given == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn only_nomad_is_served_and_only_without_encryption() {
        assert_eq!(check_with(&[]), Err(HandshakeError::NotNomad));
        assert_eq!(check_with(&[(COOKIE.0, "other")]), Err(HandshakeError::NotNomad));
        assert_eq!(check_with(&[COOKIE]), Ok(()));
        assert_eq!(check_with(&[COOKIE, (CLIENT_CERTIFICATE, "")]), Ok(()));
        assert_eq!(check_with(&[COOKIE, (CLIENT_CERTIFICATE, "x")]), Err(HandshakeError::Encrypted));
    }

    #[test]
    fn the_line_has_five_fields() {
        let mut host = Vec::new();
        announce(&mut host, Path::new("/tmp/plugin1/s")).unwrap();
        assert_eq!(host, b"1|2|unix|/tmp/plugin1/s|grpc\n");
    }
}
