//! A certificate authority for test servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::user::User;

/// A CA whose certificate is in a file. Its key stays in memory.
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").field("file", &self.file).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Makes one and writes its certificate to `file`, in PEM.
    ///
    /// # Errors
    /// When no key can be made or the file cannot be written.
    pub fn create(name: &str, file: PathBuf) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("making the CA's key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).context("making the CA's certificate")?;
        fs::write(&file, issuer.pem()).with_context(|| format!("writing {}", file.display()))?;
        Ok(Self { issuer, file })
    }

    /// The file with its certificate.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Writes a server's certificate for these DNS names and IP addresses to `server.crt` in `directory`, and its key to
    /// `server.key`. Both belong to `user`, as PostgreSQL demands.
    ///
    /// # Errors
    /// When a name is invalid or a file cannot be written.
    pub fn issue(&self, names: Vec<String>, directory: &Path, user: &User) -> Result<()> {
        let key = KeyPair::generate().context("making a server's key")?;
        let mut params = CertificateParams::new(names).context("naming a server in its certificate")?;
        params.distinguished_name.push(DnType::CommonName, "test server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).context("signing a server's certificate")?;
        for (name, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
            let file = directory.join(name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            // PostgreSQL refuses a key that others may read.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
                .with_context(|| format!("restricting {}", file.display()))?;
            user.take_ownership(&file)?;
        }
        Ok(())
    }
}
