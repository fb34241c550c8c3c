//! One request to the admin address or the control socket of a running proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime;
use tokio::time::timeout;

use crate::config::Secret;
use crate::control_socket::answers::CLUSTER_HEADER;
use crate::http_client::exchange;

/// How long a request to the admin address may take.
const REQUEST_TIME: Duration = Duration::from_secs(3);
/// How long a command on the control socket may take: longer than the proxy itself waits for anything.
const COMMAND_TIME: Duration = Duration::from_secs(30);

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

    /// The body of the answer to `GET path`, where it is 200; with the token of `admin.token_file`, if there is one.
    pub(super) fn get(&self, path: &str, token: Option<&Secret>) -> anyhow::Result<String> {
        let exchange = async {
            let stream = TcpStream::connect(&self.host_and_port).await?;
            let mut request = Request::get(path).header(HOST, &self.host_and_port);
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
            }
            exchange(stream, request.body(Full::default())?).await
        };
        let (status, body) = within(REQUEST_TIME, exchange).with_context(|| {
            format!("no proxy answers at {} (give its admin.listen address with --admin)", self.host_and_port)
        })?;
        ensure!(
            status == StatusCode::OK,
            "{path} at {} answered {status}: {}",
            self.host_and_port,
            body.trim()
        );
        Ok(body)
    }
}

/// The answer to `POST path` with a body in JSON, on the control socket at `socket`. The proxy there refuses it unless it is
/// one of `cluster`, if that is known.
pub(super) fn post(
    socket: &Path,
    cluster: Option<&str>,
    path: &str,
    json: String,
) -> anyhow::Result<(StatusCode, String)> {
    let exchange = async {
        let stream = UnixStream::connect(socket).await?;
        let mut request = Request::post(path).header(HOST, "proxy").header(CONTENT_TYPE, "application/json");
        if let Some(cluster) = cluster {
            request = request.header(CLUSTER_HEADER, cluster.as_bytes());
        }
        exchange(stream, request.body(Full::from(json))?).await
    };
    within(COMMAND_TIME, exchange).with_context(|| format!("no proxy answers at {}", socket.display()))
}

fn within<T>(time: Duration, exchange: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { timeout(time, exchange).await.context("no answer in time")? })
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
