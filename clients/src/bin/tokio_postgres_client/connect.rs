//! Connecting in each way that the behaviours need.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The server under test and how to trust it.
pub(crate) struct Target {
    config: Config,
    trusting: ClientConfig,
    mistrusting: ClientConfig,
    anyone: ClientConfig,
}

/// A session, and the future that moves its bytes.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Session {
    /// Ends it and says how the connection ended.
    pub(crate) async fn close(self) -> Result<()> {
        drop(self.client);
        self.connection.await?.context("the connection's end")
    }
}

impl Target {
    pub(crate) fn new(url: &str, authority: &str, stranger: &str) -> Result<Self> {
        let config = url.parse::<Config>().context("the connection string")?;
        let provider = Arc::new(ring::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()
        };
        let with_roots = |file: &str| -> Result<ClientConfig> {
            Ok(builder()?.with_root_certificates(roots(Path::new(file))?).with_no_client_auth())
        };
        let verifier = Arc::new(Anyone(Arc::clone(&provider)));
        let anyone = builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Self { config, trusting: with_roots(authority)?, mistrusting: with_roots(stranger)?, anyone })
    }

    /// Without TLS.
    pub(crate) async fn plain(&self) -> Result<Session> {
        self.plain_as(|_| {}).await
    }

    /// Without TLS, after a change of the settings.
    pub(crate) async fn plain_as(&self, change: impl FnOnce(&mut Config)) -> Result<Session> {
        let mut config = self.config.clone();
        config.ssl_mode(SslMode::Disable);
        change(&mut config);
        let (client, connection) = config.connect(NoTls).await.context("connect")?;
        Ok(Session { client, connection: tokio::spawn(connection) })
    }

    /// Without TLS; the caller moves the bytes, because it wants to see what the server sends unasked.
    pub(crate) async fn plain_raw(
        &self,
    ) -> Result<(Client, tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>)>
    {
        let mut config = self.config.clone();
        config.ssl_mode(SslMode::Disable);
        config.connect(NoTls).await.context("connect")
    }

    /// With TLS, trusting whoever answers: libpq's `require`.
    pub(crate) async fn require(&self) -> Result<Session> {
        self.tls(&self.anyone, ChannelBinding::Disable).await
    }

    /// With TLS, checking certificate and name: libpq's `verify-full`.
    pub(crate) async fn verify_full(&self) -> Result<Session> {
        self.tls(&self.trusting, ChannelBinding::Disable).await
    }

    /// As [`Self::verify_full`], with an authority that signed nothing.
    pub(crate) async fn verify_against_stranger(&self) -> Result<Session> {
        self.tls(&self.mistrusting, ChannelBinding::Disable).await
    }

    /// With TLS, and SCRAM bound to the very certificate that the server holds.
    pub(crate) async fn channel_bound(&self) -> Result<Session> {
        self.tls(&self.trusting, ChannelBinding::Require).await
    }

    /// What a CancelRequest over TLS needs.
    pub(crate) fn connector(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new(self.trusting.clone())
    }

    async fn tls(&self, tls: &ClientConfig, binding: ChannelBinding) -> Result<Session> {
        let mut config = self.config.clone();
        config.ssl_mode(SslMode::Require).channel_binding(binding);
        let connect = config.connect(MakeRustlsConnect::new(tls.clone()));
        let (client, connection) = connect.await.context("connect with TLS")?;
        Ok(Session { client, connection: tokio::spawn(connection) })
    }
}

fn roots(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).context("read an authority")? {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// Accepts every certificate, as libpq does with `sslmode=require`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
