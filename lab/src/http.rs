//! One HTTP request over one connection: all that Patroni's REST interface and the proxy's admin page need.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Sends a GET and reads the answer, `within` the given time altogether.
///
/// # Errors
/// When nothing answers in time, or what answers is not HTTP. A status such as 503 is an answer, not an error.
pub async fn get(address: SocketAddr, path: &str, within: Duration) -> Result<Response> {
    send(address, ("GET", path), "", within).await
}

/// Sends a request with a body (JSON) and reads the answer, `within` the given time altogether.
///
/// # Errors
/// As [`get`].
pub async fn send(
    address: SocketAddr,
    (method, path): (&str, &str),
    body: &str,
    within: Duration,
) -> Result<Response> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        // 1.0, so that the answer is never chunked and its end is the end of the stream.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(within, exchange)
        .await
        .with_context(|| format!("no answer to {method} http://{address}{path} within {within:?}"))?
        .with_context(|| format!("{method} http://{address}{path}"))?;
    parse(&answer).with_context(|| format!("reading the answer to {method} http://{address}{path}"))
}

fn parse(answer: &[u8]) -> Result<Response> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").context("no end of headers")?;
    let status = head.split_whitespace().nth(1).context("no status")?.parse().context("the status")?;
    Ok(Response { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let response = parse(b"HTTP/1.0 503 Service Unavailable\r\nServer: x\r\n\r\n{\"a\": 1}").unwrap();
        assert_eq!(response, Response { status: 503, body: "{\"a\": 1}".to_owned() });
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        assert!(parse(b"EHLO").is_err());
    }
}
