//! What Nomad keeps of a task for us, to find it again with after a restart of plugin or agent.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::supervisor::Record;

/// The version of what is written here. Another one must be able to read it, or say that it cannot.
const VERSION: u16 = 1;

/// The version, for the handle.
#[must_use]
pub const fn version() -> NonZeroU16 {
    match NonZeroU16::new(VERSION) {
        Some(version) => version,
        None => NonZeroU16::MIN,
    }
}

/// The bytes that Nomad keeps. Nothing in them is secret: environment and settings are asked of the supervisor again.
///
/// # Errors
/// When a path in the record is no text.
pub fn write(record: &Record) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Written { version: VERSION, record })
}

/// What was written so.
///
/// # Errors
/// When it was written by a version that is not known here, or not by this driver.
pub fn read(bytes: &[u8]) -> Result<Record, Unreadable> {
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version != u64::from(VERSION) {
        return Err(Unreadable::Version(version));
    }
    let Kept { record } = serde_json::from_slice(bytes)?;
    Ok(record)
}

/// Why a task's state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Another version of this driver wrote it.
    #[error("the state of the task has version {0}, and this driver knows version {VERSION} only")]
    Version(u64),
    /// It makes no sense.
    #[error("the state of the task is not what this driver writes: {0}")]
    Form(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Written<'a> {
    version: u16,
    record: &'a Record,
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Deserialize)]
struct Kept {
    record: Record,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_named_whatever_else_it_holds() {
        let refusal = read(br#"{"version":7,"something":["else"]}"#).unwrap_err().to_string();
        assert!(refusal.contains("version 7") && refusal.contains("version 1"), "{refusal}");
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for wrong in [&b""[..], b"{}", b"\x80", br#"{"version":1}"#] {
            let refusal = read(wrong).unwrap_err().to_string();
            assert!(refusal.contains("not what this driver writes"), "{refusal}");
        }
    }
}
