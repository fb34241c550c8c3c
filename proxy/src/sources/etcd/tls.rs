//! TLS with etcd, as strict as etcdctl, which is written in Go.

use std::error::Error;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslConnector};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509CheckFlags, X509VerifyFlags};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_openssl::SslStream;
use tower::{Service, service_fn};
use tracing::warn;

use super::super::chain;
use super::error::EtcdError;
use crate::config;
use crate::files::FileReader;
use crate::tls::{self, Identity};

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<SslStream<TcpStream>>, BoxError>> + Send>>;

/// HTTP/2, which etcd demands of a client that speaks gRPC.
const ALPN: &[u8] = b"\x02h2";

/// How long the files may take to be read. A file system that answers takes milliseconds.
const READ_TIME: Duration = Duration::from_secs(2);

/// The files for TLS with etcd. They are read again for each connection, so that renewed certificates are used without a
/// restart.
pub(super) struct TlsFiles {
    config: config::EtcdTls,
    files: FileReader,
    /// The only reading that runs, on a thread of its own, because its file system may hang.
    reading: Option<JoinHandle<Result<SslConnector, EtcdError>>>,
    /// What the files gave when they could be used last.
    last: Option<SslConnector>,
    /// Whether it was logged that they cannot be used.
    logged: bool,
}

impl TlsFiles {
    pub(super) fn new(config: &config::EtcdTls) -> Self {
        let (config, files) = (config.clone(), FileReader::default());
        Self { config, files, reading: None, last: None, logged: false }
    }

    /// The settings from the files as they are now; if they cannot be used, as they were last.
    ///
    /// # Errors
    /// If they cannot be used, and never could.
    pub(super) async fn read(&mut self) -> Result<Tls, EtcdError> {
        match (self.present().await, &self.last) {
            (Ok(connector), _) => {
                self.logged = false;
                self.last = Some(connector.clone());
                Ok(Tls(connector))
            }
            (Err(error), Some(last)) => {
                if !std::mem::replace(&mut self.logged, true) {
                    warn!(
                        error = chain(&error),
                        "TLS with etcd goes on with the certificates that were read before"
                    );
                }
                Ok(Tls(last.clone()))
            }
            (Err(error), None) => Err(error),
        }
    }

    /// An earlier reading that has not ended is not waited for once more. What one found that has ended since may be old, so
    /// another one begins.
    async fn present(&mut self) -> Result<SslConnector, EtcdError> {
        if self.reading.as_ref().is_some_and(|earlier| !earlier.is_finished()) {
            return Err(EtcdError::FileHangs { file: self.files.waits_for() });
        }
        let (config, files) = (self.config.clone(), self.files.clone());
        let reading = self.reading.insert(spawn_blocking(move || read(&config, &files)));
        let Ok(ended) = timeout(READ_TIME, reading).await else {
            return Err(EtcdError::FileHangs { file: self.files.waits_for() });
        };
        self.reading = None;
        ended.unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
    }
}

/// Makes TLS connections to etcd.
pub(super) struct Tls(SslConnector);

impl Tls {
    /// The connector for a channel. The addresses of a name share `timeout`, so that a dead first one leaves time for the
    /// next; `keepalive` is the interval of TCP's keepalive probes.
    pub(super) fn into_connector(
        self,
        timeout: Duration,
        keepalive: Duration,
    ) -> impl Service<Uri, Response = TokioIo<SslStream<TcpStream>>, Error = BoxError, Future = Connecting> + Send
    {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(keepalive));
        tcp.set_connect_timeout(Some(timeout));
        service_fn(move |uri: Uri| -> Connecting {
            let ssl = ssl(&self.0, &uri);
            let connecting = tcp.call(uri);
            Box::pin(async move {
                let stream = connecting.await?.into_inner();
                let mut stream = SslStream::new(ssl?, stream)?;
                Pin::new(&mut stream).connect().await.map_err(|error| failed(error, &stream))?;
                Ok(TokioIo::new(stream))
            })
        })
    }
}

fn read(config: &config::EtcdTls, files: &FileReader) -> Result<SslConnector, EtcdError> {
    let read =
        |path: &Path| files.read(path).map_err(|source| EtcdError::File { path: path.to_owned(), source });
    let authorities = match &config.ca_file {
        Some(path) => parsed(path, tls::certificates(&read(path)?))?,
        None => tls::system_authorities(files),
    };
    let identity = match &config.identity {
        Some((cert, key)) => Some(parsed(cert, Identity::parse(&read(cert)?, &read(key)?))?),
        None => None,
    };
    connector(authorities, identity.as_ref()).map_err(EtcdError::Tls)
}

fn connector(authorities: Vec<X509>, identity: Option<&Identity>) -> Result<SslConnector, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    // In Go any certificate of the CA file is an end of the chain, also one that others signed.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    for certificate in authorities {
        store.add_cert(certificate)?;
    }
    let mut builder = tls::client(store, identity)?;
    builder.set_alpn_protos(ALPN)?;
    Ok(builder.build())
}

/// In Go the common name of a certificate is no name of a host.
fn ssl(connector: &SslConnector, uri: &Uri) -> Result<Ssl, ErrorStack> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let mut ssl = connector.configure()?;
    ssl.set_verify_hostname(false);
    let names = ssl.param_mut();
    names.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT);
    match host.parse::<IpAddr>() {
        Ok(ip) => names.set_ip(ip)?,
        Err(_) => names.set_host(host)?,
    }
    ssl.into_ssl(host)
}

/// The failure of a handshake, with what is wrong with the server's certificate.
fn failed(error: openssl::ssl::Error, stream: &SslStream<TcpStream>) -> BoxError {
    let verdict = stream.ssl().verify_result();
    if verdict == openssl::x509::X509VerifyResult::OK {
        error.into()
    } else {
        format!("etcd's certificate: {verdict}").into()
    }
}

fn parsed<T>(path: &Path, parsed: Result<T, String>) -> Result<T, EtcdError> {
    parsed.map_err(|what| EtcdError::InvalidFile { path: path.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_reading_that_ended_long_after_its_time_is_not_taken_for_the_present_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        // A pipe that nobody writes stands for a file whose file system hangs.
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut files = TlsFiles::new(&config::EtcdTls { ca_file: Some(path.clone()), identity: None });
        for _ in 0..2 {
            assert!(matches!(files.read().await, Err(EtcdError::FileHangs { .. })));
        }
        fs::write(&path, "no certificate").unwrap();
        while !files.reading.as_ref().unwrap().is_finished() {
            tokio::task::yield_now().await;
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(files.read().await, Err(EtcdError::File { .. })), "the file is gone");
    }
}
