//! OpenSSL for the probes and etcd: certificates and keys from PEM, and what all connections have in common.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use crate::files::FileReader;

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<X509>, String> {
    match X509::stack_from_pem(pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("holds no certificate in PEM form".to_owned()),
        Err(error) => Err(format!("holds no certificate in PEM form ({})", brief(&error))),
    }
}

/// The private key in a PEM file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn private_key(pem: &[u8]) -> Result<PKey<Private>, String> {
    // Without a callback OpenSSL would ask for the passphrase of an encrypted key at the terminal.
    PKey::private_key_from_pem_callback(pem, |_| Ok(0)).map_err(|error| {
        if String::from_utf8_lossy(pem).contains("ENCRYPTED") {
            "holds an encrypted key, and nobody could type its passphrase; store it without one".to_owned()
        } else {
            format!("holds no private key in PEM form ({})", brief(&error))
        }
    })
}

/// What a client presents to a server that asks for a certificate.
pub(crate) struct Identity {
    certificate: X509,
    /// Certificates between this one and the server's CA.
    intermediates: Vec<X509>,
    key: PKey<Private>,
}

impl Identity {
    /// A certificate, with intermediate ones behind it, and its key; all of them PEM.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(crate) fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let mut certificates = certificates(certificate)?.into_iter();
        let certificate = certificates.next().ok_or("holds no certificate in PEM form")?;
        let key = private_key(key)?;
        let fits = certificate.public_key().is_ok_and(|public| public.public_eq(&key));
        if !fits {
            return Err("is not the certificate of this key".to_owned());
        }
        Ok(Self { certificate, intermediates: certificates.collect(), key })
    }
}

/// The CA certificates of the operating system, each once: those of its bundle, and those of its directories that have the
/// names under which OpenSSL looks for them (`openssl-rehash(1)`). A file without certificates is passed over, as OpenSSL
/// does. They are searched for, because this OpenSSL need not be the system's and does not know where they are.
pub(crate) fn system_authorities(files: &FileReader) -> Vec<X509> {
    let places = openssl_probe::probe();
    let in_directories =
        places.cert_dir.iter().flat_map(|directory| files.list(directory).unwrap_or_default());
    let paths = places.cert_file.into_iter().chain(in_directories.filter(|path| is_hashed(path)));
    let mut seen = BTreeSet::new();
    let found = paths
        .flat_map(|path| files.read(&path).ok().and_then(|pem| certificates(&pem).ok()).unwrap_or_default());
    found.filter(|certificate| certificate.to_der().is_ok_and(|der| seen.insert(der))).collect()
}

/// Whether a file has a name such as `1d3472b9.0`: a hash of the certificate's subject, and a number.
fn is_hashed(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).and_then(|name| name.split_once('.'));
    name.is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A client that verifies servers with `authorities` and presents `identity`. TLS 1.2 is the oldest version, as in libpq and
/// in Go.
pub(crate) fn client(
    authorities: X509StoreBuilder,
    identity: Option<&Identity>,
) -> Result<SslConnectorBuilder, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_cert_store(authorities.build());
    if let Some(identity) = identity {
        builder.set_certificate(&identity.certificate)?;
        for intermediate in &identity.intermediates {
            builder.add_extra_chain_cert(intermediate.clone())?;
        }
        builder.set_private_key(&identity.key)?;
    }
    Ok(builder)
}

/// The first reason that OpenSSL gives, without its codes.
fn brief(error: &ErrorStack) -> String {
    let reason = error.errors().first().and_then(openssl::error::Error::reason);
    reason.map_or_else(|| error.to_string(), str::to_lowercase)
}
