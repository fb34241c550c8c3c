//! One HTTP request over one connection, for Patroni's REST interface and the proxy's admin page.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The longest body that is read, in bytes.
const MAX_BODY: usize = 16 << 20;

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Sends a GET request and reads the response, both `within` the given time.
///
/// # Errors
/// When there is no response in time, or it is not HTTP. A status such as 503 is a response, not an error.
pub async fn get(address: SocketAddr, path: &str, within: Duration) -> Result<Response> {
    send(address, ("GET", path), "", within).await
}

/// Sends a request with a JSON body and reads the response, both `within` the given time.
///
/// # Errors
/// As [`get`].
pub async fn send(
    address: SocketAddr,
    (method, path): (&str, &str),
    body: &str,
    within: Duration,
) -> Result<Response> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body.to_owned()))
        .context("building a request")?;
    tokio::time::timeout(within, exchange(address, request))
        .await
        .with_context(|| format!("no response to {method} http://{address}{path} within {within:?}"))?
        .with_context(|| format!("{method} http://{address}{path}"))
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body =
            Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|error| anyhow!(error))?;
        Ok(Response { status, body: String::from_utf8_lossy(&body.to_bytes()).into_owned() })
    };
    match tokio::join!(connection, exchange) {
        (_, Ok(response)) => Ok(response),
        // The exchange then only says that it was cancelled.
        (Err(error), Err(_)) => Err(error.into()),
        (Ok(()), Err(error)) => Err(error),
    }
}
