//! The ways to connect that the behaviours need.

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
    /// Trusts the server's CA.
    verifying: ClientConfig,
    /// Trusts only a CA that has not signed the server's certificate.
    trusting_other_ca: ClientConfig,
    /// Trusts every certificate.
    trusting_all: ClientConfig,
}

/// A session, and the task that drives its connection.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Session {
    /// Ends it, and returns how the connection ended.
    pub(crate) async fn close(self) -> Result<()> {
        drop(self.client);
        self.connection.await?.context("the connection's end")
    }
}

impl Target {
    pub(crate) fn new(url: &str, ca: &str, other_ca: &str) -> Result<Self> {
        let config = url.parse::<Config>().context("the connection string")?;
        let provider = Arc::new(ring::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()
        };
        let with_roots = |file: &str| -> Result<ClientConfig> {
            Ok(builder()?.with_root_certificates(roots(Path::new(file))?).with_no_client_auth())
        };
        let verifier = Arc::new(AcceptAll(Arc::clone(&provider)));
        let trusting_all =
            builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Self {
            config,
            verifying: with_roots(ca)?,
            trusting_other_ca: with_roots(other_ca)?,
            trusting_all,
        })
    }

    /// Without TLS.
    pub(crate) async fn plain(&self) -> Result<Session> {
        self.plain_as(|_| {}).await
    }

    /// Without TLS, with changed settings.
    pub(crate) async fn plain_as(&self, change: impl FnOnce(&mut Config)) -> Result<Session> {
        let mut config = self.config.clone();
        config.ssl_mode(SslMode::Disable);
        change(&mut config);
        let (client, connection) = config.connect(NoTls).await.context("connect")?;
        Ok(Session { client, connection: tokio::spawn(connection) })
    }

    /// Without TLS. The caller drives the connection, to see what the server sends on its own.
    pub(crate) async fn plain_raw(
        &self,
    ) -> Result<(Client, tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>)>
    {
        let mut config = self.config.clone();
        config.ssl_mode(SslMode::Disable);
        config.connect(NoTls).await.context("connect")
    }

    /// With TLS, without verification: libpq's `require`.
    pub(crate) async fn require(&self) -> Result<Session> {
        self.tls(&self.trusting_all, ChannelBinding::Disable).await
    }

    /// With TLS, verifying certificate and name: libpq's `verify-full`.
    pub(crate) async fn verify_full(&self) -> Result<Session> {
        self.tls(&self.verifying, ChannelBinding::Disable).await
    }

    /// As [`Self::verify_full`], with a CA that signed nothing.
    pub(crate) async fn verify_with_other_ca(&self) -> Result<Session> {
        self.tls(&self.trusting_other_ca, ChannelBinding::Disable).await
    }

    /// With TLS, and SCRAM with channel binding.
    pub(crate) async fn channel_bound(&self) -> Result<Session> {
        self.tls(&self.verifying, ChannelBinding::Require).await
    }

    /// What a CancelRequest over TLS needs.
    pub(crate) fn connector(&self) -> MakeRustlsConnect {
        MakeRustlsConnect::new(self.verifying.clone())
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
    for certificate in CertificateDer::pem_file_iter(file).context("read a CA")? {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// Accepts every certificate, as libpq does with `sslmode=require`.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
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
