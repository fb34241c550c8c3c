//! The mock server's answers: enough for logins, poolers and the proxy's probes.

use crate::wire::protocol::{READY, message};

/// AuthenticationOk, the parameters that a client or pooler may need, BackendKeyData, ReadyForQuery.
pub(super) fn login() -> Vec<u8> {
    let mut bytes = message(b'R', &0_u32.to_be_bytes());
    for (name, value) in [
        ("server_version", "15.0"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("standard_conforming_strings", "on"),
        ("integer_datetimes", "on"),
    ] {
        bytes.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
    }
    bytes.extend(message(b'K', &[0, 0, 0, 1, 0, 0, 0, 1]));
    bytes.extend(READY);
    bytes
}

/// The answer to a simple query: a row for the proxy's probe, no row for any other query.
pub(super) fn query(query: &[u8], in_recovery: impl FnOnce() -> bool) -> Vec<u8> {
    let sql = String::from_utf8_lossy(query);
    let (mut bytes, tag) = if sql.contains("pg_is_in_recovery") {
        let columns: [(&str, Option<&str>); 8] = if in_recovery() {
            [
                ("recovers", Some("true")),
                ("system_id", Some("1")),
                ("started", Some("1")),
                ("timeline", Some("1")),
                ("written", None),
                ("received", Some("0/1000000")),
                ("replayed", Some("0/1000000")),
                ("streaming", Some("false")),
            ]
        } else {
            [
                ("recovers", Some("false")),
                ("system_id", Some("1")),
                ("started", Some("1")),
                ("timeline", Some("00000001")),
                ("written", Some("0/1000000")),
                ("received", None),
                ("replayed", None),
                ("streaming", Some("false")),
            ]
        };
        (row(&columns), "SELECT 1")
    } else {
        (Vec::new(), "SELECT 0")
    };
    bytes.extend(message(b'C', format!("{tag}\0").as_bytes()));
    bytes.extend(READY);
    bytes
}

/// RowDescription and DataRow of text columns.
fn row(columns: &[(&str, Option<&str>)]) -> Vec<u8> {
    const TEXT: u32 = 25;
    let count = u16::try_from(columns.len()).unwrap_or(u16::MAX).to_be_bytes();
    let (mut description, mut data) = (count.to_vec(), count.to_vec());
    for (name, value) in columns {
        description.extend(name.as_bytes());
        // No table, no column number, the type, a variable length, no type modifier, text format.
        description.extend([0, 0, 0, 0, 0, 0, 0]);
        description.extend(TEXT.to_be_bytes());
        description.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        data.extend(length.to_be_bytes());
        data.extend(value.unwrap_or_default().as_bytes());
    }
    [message(b'T', &description), message(b'D', &data)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_probe_gets_a_row() {
        let select = query(b"select 1\0", || true);
        assert_eq!(select, [message(b'C', b"SELECT 0\0"), READY.to_vec()].concat());
        let probe = query(b"SELECT pg_catalog.pg_is_in_recovery()\0", || true);
        assert_eq!(probe.first(), Some(&b'T'));
        assert!(probe.windows(4).any(|bytes| bytes == b"true") && probe.ends_with(READY));
    }
}
