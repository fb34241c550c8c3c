//! The handshake with the host: who may start us, and the one line that says where we listen.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use crate::about;

/// What Nomad puts into the environment of every plugin (`plugins/base/plugin.go`).
const COOKIE: (&str, &str) =
    ("NOMAD_PLUGIN_MAGIC_COOKIE", "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255");

/// The host's certificate, when it wants the connection encrypted.
const CLIENT_CERTIFICATE: &str = "PLUGIN_CLIENT_CERT";

/// go-plugin's own version, and that of Nomad's plugins.
const VERSIONS: &str = "1|2";

/// Why the program does not serve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Nobody, or somebody else than Nomad, started it.
    #[error(
        "{} is started by a Nomad client from its plugin_dir, and by nobody else; --help says more",
        about::PROGRAM
    )]
    NotNomad,
    /// The host wants an encrypted connection, which Nomad never does.
    #[error(
        "the host asks for an encrypted connection (PLUGIN_CLIENT_CERT), which {} does not speak",
        about::PROGRAM
    )]
    Encrypted,
}

/// Whether a host that we can serve started us, by the environment that it gave.
///
/// # Errors
/// When it is not Nomad, or wants what we cannot.
pub(super) fn invited(variable: impl Fn(&str) -> Option<OsString>) -> Result<(), Refusal> {
    let (name, value) = COOKIE;
    if variable(name).is_none_or(|found| found != value) {
        return Err(Refusal::NotNomad);
    }
    match variable(CLIENT_CERTIFICATE) {
        Some(certificate) if !certificate.is_empty() => Err(Refusal::Encrypted),
        _ => Ok(()),
    }
}

/// Tells the host where the plugin listens, which it must do already. Nothing else may ever be written to `host`: it is
/// read by nobody after a while, and whoever wrote would wait.
///
/// # Errors
/// When the host does not take it.
pub(super) fn announce(mut host: impl Write, socket: &Path) -> io::Result<()> {
    host.write_all(format!("{VERSIONS}|unix|{}|grpc\n", socket.display()).as_bytes())?;
    host.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invited_with(given: &[(&str, &str)]) -> Result<(), Refusal> {
        invited(|name| given.iter().find(|(given, _)| *given == name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn only_nomad_is_served_and_only_in_the_clear() {
        assert_eq!(invited_with(&[]), Err(Refusal::NotNomad));
        assert_eq!(invited_with(&[(COOKIE.0, "other")]), Err(Refusal::NotNomad));
        assert_eq!(invited_with(&[COOKIE]), Ok(()));
        assert_eq!(invited_with(&[COOKIE, (CLIENT_CERTIFICATE, "")]), Ok(()));
        assert_eq!(invited_with(&[COOKIE, (CLIENT_CERTIFICATE, "x")]), Err(Refusal::Encrypted));
    }

    #[test]
    fn the_line_has_five_fields() {
        let mut host = Vec::new();
        announce(&mut host, Path::new("/tmp/plugin1/s")).unwrap();
        assert_eq!(host, b"1|2|unix|/tmp/plugin1/s|grpc\n");
    }
}
