//! TLS on a stream, for the raw client.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The ALPN name that a client must offer for direct TLS.
pub const ALPN: &[u8] = b"postgresql";

/// Does the handshake over `stream` and checks the certificate against the CA in the file `ca` and the address.
///
/// # Errors
/// When the handshake fails or the certificate is not valid.
pub fn handshake(stream: TcpStream, ca: &Path, alpn: &[&[u8]]) -> Result<impl Read + Write + Debug + use<>> {
    let name = ServerName::from(stream.peer_addr()?.ip());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).context("read the CA")?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let connection = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).context("the TLS handshake")?;
    }
    Ok(stream)
}
