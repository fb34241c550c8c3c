//! The detail of an error by which Nomad decides whether to try again.

use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};

use crate::rpc;
use crate::structs::RecoverableError;

/// The type of the message in `Any`. Nomad recognises no other.
const TYPE_URL: &str = "type.googleapis.com/hashicorp.nomad.plugins.shared.structs.RecoverableError";

impl RecoverableError {
    /// An error of `StartTask` or `TaskStats` with this detail. Nomad takes an error without it for final.
    pub fn status(self, message: impl Into<String>) -> Status {
        let message = message.into();
        let details = rpc::Status {
            code: Code::FailedPrecondition.into(),
            message: message.clone(),
            details: vec![Any { type_url: TYPE_URL.to_owned(), value: self.encode_to_vec() }],
        };
        Status::with_details(Code::FailedPrecondition, message, details.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Go host decodes these bytes as a recoverable error: Status{9, "m", [Any{url, {1: true}}]}.
    #[test]
    fn the_detail_has_the_bytes_that_nomad_reads() {
        let status = RecoverableError { recoverable: true }.status("m");
        let mut golden = vec![0x08, 9, 0x12, 1, b'm', 0x1a, 81, 0x0a, 75];
        golden.extend_from_slice(TYPE_URL.as_bytes());
        golden.extend_from_slice(&[0x12, 2, 0x08, 1]);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.details(), golden);
    }

    #[test]
    fn a_final_error_has_an_empty_detail() {
        let status = RecoverableError { recoverable: false }.status("m");
        assert!(status.details().ends_with(TYPE_URL.as_bytes()), "{:?}", status.details());
    }
}
