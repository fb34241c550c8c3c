//! One request to the admin address of a running proxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::time::timeout;

/// How long a request may take.
const REQUEST_TIME: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes. A real one, with 32 changes of leader and many members, is far shorter.
const MAX_BODY: usize = 16 << 20;

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
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let exchange =
            async { timeout(REQUEST_TIME, self.exchange(path)).await.context("no answer in time")? };
        let (status, body) = runtime.block_on(exchange).with_context(|| {
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

    async fn exchange(&self, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let stream = TcpStream::connect(&self.host_and_port).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(path).header(HOST, &self.host_and_port).body(Empty::<Bytes>::new())?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response, MAX_BODY).collect().await.map_err(anyhow::Error::from_boxed)?;
            Ok((status, String::from_utf8(body.to_bytes().into())?))
        };
        tokio::pin!(answer);
        // The connection does the work; its end, which the proxy brings about, may come before the answer is taken.
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended?;
                answer.await
            }
        }
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
