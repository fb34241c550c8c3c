//! Reading the PROXY protocol header with which a balancer's connection begins.

use tokio::net::TcpStream;

use super::first_packet::Deadline;
use super::read_buffer::{ReadBuffer, Received};
use super::rejection::Rejection;
use crate::proxy_protocol::Header;

/// Reads the header and leaves in `bytes` what follows it; `None` if the connection ends before its first byte, as that of
/// a health check does.
///
/// # Errors
/// A [`Rejection`] if the header is invalid or breaks off, or is not complete in time.
pub(super) async fn read(
    balancer: &mut TcpStream,
    read_buffer: &ReadBuffer,
    bytes: &mut Vec<u8>,
    deadline: Deadline,
) -> Result<Option<Header>, Rejection> {
    let received = read_buffer.receive(balancer, bytes, deadline.at, Header::parse).await;
    match received.map_err(|error| Rejection::bad_proxy_header(error.to_string()))? {
        Received::Complete(header) => {
            bytes.drain(..header.length);
            Ok(Some(header))
        }
        Received::Closed if bytes.is_empty() => Ok(None),
        Received::Closed => Err(Rejection::bad_proxy_header(format!(
            "the connection ended within the PROXY header: \"{}\"",
            bytes.escape_ascii()
        ))),
        Received::Late => Err(Rejection::late_proxy_header(deadline.bound, bytes)),
    }
}
