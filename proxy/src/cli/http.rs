//! One request to the admin address, over HTTP/1.0: no chunks, no connection to keep.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// How long each step of the request may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is read. The longest real one, with 32 failovers and many members, is far below it.
const LONGEST: u64 = 16 << 20;

/// Where a running proxy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminAddress {
    host_and_port: String,
}

impl AdminAddress {
    /// Reads `127.0.0.1:9433`, `http://127.0.0.1:9433/` or what a proxy listens on, such as `0.0.0.0:9433`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if text.starts_with("https://") {
            bail!("{text}: the admin address speaks http, not https");
        }
        let host_and_port = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = host_and_port.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() || host_and_port.contains('/') {
            bail!(
                "{text}: not an admin address; write it like \"127.0.0.1:9433\" or \"http://127.0.0.1:9433\""
            );
        }
        let listening: Option<SocketAddr> = host_and_port.parse().ok();
        // A proxy that listens on every address is reached on this machine's own.
        let host_and_port = match listening {
            Some(SocketAddr::V4(addr)) if addr.ip().is_unspecified() => format!("127.0.0.1:{}", addr.port()),
            Some(SocketAddr::V6(addr)) if addr.ip().is_unspecified() => format!("[::1]:{}", addr.port()),
            Some(_) | None => host_and_port.to_owned(),
        };
        Ok(Self { host_and_port })
    }

    /// The body of the answer to `GET path`, where it is 200.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.exchange(path).with_context(|| {
            format!("no proxy answers at {} (admin.listen; give it by --admin)", self.host_and_port)
        })?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        if status != "200" {
            bail!("{path} at {} answered {status}: {}", self.host_and_port, body.trim());
        }
        Ok(body.to_owned())
    }

    fn exchange(&self, path: &str) -> io::Result<String> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.host_and_port)?;
        let mut answer = String::new();
        stream.take(LONGEST).read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in self.host_and_port.to_socket_addrs()? {
            match TcpStream::connect_timeout(&addr, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        AdminAddress::parse(text).unwrap().host_and_port
    }

    #[test]
    fn addresses_come_in_many_forms() {
        assert_eq!(parsed("127.0.0.1:9433"), "127.0.0.1:9433");
        assert_eq!(parsed("http://db-1:9433/"), "db-1:9433");
        assert_eq!(parsed("0.0.0.0:9433"), "127.0.0.1:9433");
        assert_eq!(parsed("[::]:9433"), "[::1]:9433");
        for wrong in ["https://db-1:9433", "db-1", "http://db-1:9433/routing", "off"] {
            assert!(AdminAddress::parse(wrong).is_err(), "{wrong}");
        }
    }
}
