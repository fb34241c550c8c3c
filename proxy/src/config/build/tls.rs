//! Files for TLS: CA certificates, and a client certificate with its key.

use super::super::checked::PemFile;
use super::reader::{Invalid, Reader};
use crate::tls::{self, Identity};

/// CA certificates. A file that cannot be used is an error here, so that a reload does not put it in force.
pub(super) fn authorities(reader: &mut Reader<'_>, path: &str) -> Result<Option<PemFile>, Invalid> {
    let Some(file) = reader.pem(path)? else { return Ok(None) };
    match tls::certificates(&file.pem) {
        Ok(_) => Ok(Some(file)),
        Err(problem) => Err(reader.fault(path, problem)),
    }
}

/// The client certificate of a block and its key.
pub(super) fn identity(reader: &mut Reader<'_>, block: &str) -> Result<Option<(PemFile, PemFile)>, Invalid> {
    let (in_cert, in_key) = (format!("{block}.cert_file"), format!("{block}.key_file"));
    let (cert, key) = (authorities(reader, &in_cert), reader.pem(&in_key));
    match (cert?, key?) {
        (Some(cert), Some(key)) => {
            if let Err(problem) = tls::private_key(&key.pem) {
                return Err(reader.fault(&in_key, problem));
            }
            match Identity::parse(&cert.pem, &key.pem) {
                Ok(_) => Ok(Some((cert, key))),
                Err(problem) => Err(reader.fault(&in_cert, problem)),
            }
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(reader.missing(&in_key, &format!("is missing, though `{in_cert}` is given"))),
        (None, Some(_)) => Err(reader.missing(&in_cert, &format!("is missing, though `{in_key}` is given"))),
    }
}
