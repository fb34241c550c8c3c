//! An authority, a server certificate for one address, and a second authority that signed nothing.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Paths of the files in PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority that signed the server's certificate.
    pub authority: PathBuf,
    /// An authority that did not; a client that trusts only this one must refuse.
    pub stranger: PathBuf,
    /// The server's certificate. It names the address that clients use, which is the proxy's: TLS passes through.
    pub server: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes all of them in `directory`.
    ///
    /// # Errors
    /// When a key cannot be made or a file not written.
    pub fn make(directory: &Path, address: Ipv4Addr) -> Result<Self> {
        let made = Self {
            authority: directory.join("ca.crt"),
            stranger: directory.join("other-ca.crt"),
            server: directory.join("server.crt"),
            key: directory.join("server.key"),
        };
        let authority = new_authority("pg-leader-proxy test authority")?;
        let stranger = new_authority("pg-leader-proxy other authority")?;
        let key = KeyPair::generate().context("make the server's key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "pg-leader-proxy test server");
        params.subject_alt_names = vec![SanType::IpAddress(address.into())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let server = params.signed_by(&key, &authority).context("sign the server's certificate")?;
        fs::write(&made.authority, authority.pem())?;
        fs::write(&made.stranger, stranger.pem())?;
        fs::write(&made.server, server.pem())?;
        fs::write(&made.key, key.serialize_pem())?;
        Ok(made)
    }
}

fn new_authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("make an authority")
}
