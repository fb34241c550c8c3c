//! The first packets of a connection, as bytes.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// The code of SSLRequest.
pub const SSL_REQUEST: u32 = 80_877_103;
/// The code of GSSENCRequest.
pub const GSSENC_REQUEST: u32 = 80_877_104;
/// The code of CancelRequest.
pub const CANCEL_REQUEST: u32 = 80_877_102;
/// Protocol 3.0.
pub const PROTOCOL_3_0: u32 = 3 << 16;
/// Protocol 3.2, since PostgreSQL 18.
pub const PROTOCOL_3_2: u32 = 3 << 16 | 2;

/// A packet that is a length, a code and a body.
#[must_use]
pub fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// A StartupMessage with these parameters.
#[must_use]
pub fn startup(protocol: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    packet(protocol, &body)
}

/// A CancelRequest. `secret` has 4 bytes in protocol 3.0 and up to 256 in 3.2.
#[must_use]
pub fn cancel_request(process: u32, secret: &[u8]) -> Vec<u8> {
    packet(CANCEL_REQUEST, &[&process.to_be_bytes(), secret].concat())
}

/// Connects, with a bound on every later read and write.
///
/// # Errors
/// When the connection is refused.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&address, BOUND).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.set_write_timeout(Some(BOUND))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Longer than any single response of a server on this machine.
const BOUND: Duration = Duration::from_secs(30);
