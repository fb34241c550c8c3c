//! What Nomad stores of a task for the driver, as `driver_state` of its handle: how to find the task after a restart.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::supervisor::TaskRecord;

/// The version of the format. Another version must be able to decode it, or say that it cannot.
const VERSION: u16 = 1;

/// The version of the format, for the handle.
#[must_use]
pub const fn version() -> NonZeroU16 {
    match NonZeroU16::new(VERSION) {
        Some(version) => version,
        None => NonZeroU16::MIN,
    }
}

/// Encodes a record. The result contains nothing secret: environment and settings are in the supervisor's memory.
///
/// # Errors
/// When a path in the record is not UTF-8.
pub fn encode(record: &TaskRecord) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Encoded { version: VERSION, record })
}

/// Decodes what [`encode`] returned.
///
/// # Errors
/// When it has an unknown version, or was not encoded by this driver.
pub fn decode(bytes: &[u8]) -> Result<TaskRecord, DriverStateError> {
    let Version { version } = serde_json::from_slice(bytes)?;
    if version != u64::from(VERSION) {
        return Err(DriverStateError::Version(version));
    }
    let Decoded { record } = serde_json::from_slice(bytes)?;
    Ok(record)
}

/// Why a task's driver state cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DriverStateError {
    /// Another version of this driver encoded it.
    #[error("the driver state of the task has version {0}; this driver supports version {VERSION}")]
    Version(u64),
    /// It is not a driver state.
    #[error("the driver state of the task is invalid: {0}")]
    Invalid(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Encoded<'a> {
    version: u16,
    record: &'a TaskRecord,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Deserialize)]
struct Decoded {
    record: TaskRecord,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_named_whatever_else_is_there() {
        let error = decode(br#"{"version":7,"something":["else"]}"#).unwrap_err().to_string();
        assert!(error.contains("version 7") && error.contains("version 1"), "{error}");
    }

    #[test]
    fn anything_else_is_an_error() {
        for invalid in [&b""[..], b"{}", b"\x80", br#"{"version":1}"#] {
            let error = decode(invalid).unwrap_err().to_string();
            assert!(error.contains("driver state of the task is invalid"), "{error}");
        }
    }
}
