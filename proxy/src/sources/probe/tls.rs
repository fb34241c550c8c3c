//! TLS between probes and servers, as strict as `sslmode` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::{TlsConnector, TlsStream};
use tokio::net::TcpStream;
use tokio_postgres::tls::TlsConnect;

use super::error::{BoxError, ProbeError};
use super::host_name;
use crate::config::{self, SslMode};
use crate::tls::{self, Identity};

/// Makes TLS connections to servers.
pub(super) struct Tls {
    connector: SslConnector,
    verifies_names: bool,
}

impl Tls {
    /// What `config` says. Without a CA file `verify-full` uses the system's CA certificates, like libpq with
    /// `sslrootcert=system`.
    pub(super) fn new(config: &config::Probe) -> Result<Self, ProbeError> {
        let invalid = |what: String| ProbeError::Files { what };
        let (authorities, verifies) = match (&config.ca_file, config.sslmode) {
            (Some(file), mode) => {
                let certificates = tls::certificates(&file.pem)
                    .map_err(|what| invalid(format!("{} {what}", file.path.display())))?;
                // libpq verifies whenever it has a CA file, also with `require`.
                (certificates, mode >= SslMode::Require)
            }
            (None, SslMode::VerifyCa | SslMode::VerifyFull) => {
                (config.system_ca.certificates().map_err(ProbeError::Tls)?, true)
            }
            (None, SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require) => {
                (Vec::new(), false)
            }
        };
        let identity = match &config.identity {
            Some((certificate, key)) => Some(
                Identity::parse(&certificate.pem, &key.pem)
                    .map_err(|what| invalid(format!("{} {what}", certificate.path.display())))?,
            ),
            None => None,
        };
        let connector = connector(authorities, identity.as_ref(), verifies).map_err(ProbeError::Tls)?;
        Ok(Self { connector, verifies_names: config.sslmode == SslMode::VerifyFull })
    }

    /// Performs the handshake with the server, which is known as `host`.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, BoxError> {
        let mut ssl = self.connector.configure()?;
        // OpenSSL's own check of names differs from libpq's.
        ssl.set_verify_hostname(false);
        let wrong_host = Arc::new(AtomicBool::new(false));
        if self.verifies_names {
            let (host, wrong_host) = (host.to_owned(), Arc::clone(&wrong_host));
            ssl.set_verify_callback(SslVerifyMode::PEER, move |trusted, context| {
                if !trusted || context.error_depth() > 0 {
                    return trusted;
                }
                let certificate = context.current_cert();
                let fits = certificate.is_some_and(|certificate| host_name::is_for(certificate, &host));
                wrong_host.store(!fits, Ordering::Relaxed);
                fits
            });
        }
        TlsConnector::new(ssl, host).connect(stream).await.map_err(|error| {
            if wrong_host.load(Ordering::Relaxed) {
                format!("the server's certificate is not for {host}").into()
            } else {
                error
            }
        })
    }
}

fn connector(
    authorities: Vec<X509>,
    identity: Option<&Identity>,
    verifies: bool,
) -> Result<SslConnector, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for certificate in authorities {
        store.add_cert(certificate)?;
    }
    let mut builder = tls::client(store, identity)?;
    builder.set_verify(if verifies { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
    Ok(builder.build())
}
