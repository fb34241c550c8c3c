//! The form of a log line, as the host's hclog reads it.

use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::Level;

use crate::clock;

/// How long a line may be. The host's buffer takes 64 KiB and cuts what is longer into pieces that are no JSON.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// How much of a message is kept in a line that would be too long. Escaped, a character takes up to six bytes.
const CUT_CHARACTERS_MAX: usize = 4 * 1024;

/// One line with its newline: JSON, whose keys with `@` are texts always. The host does not ask whether they are, and
/// panics when they are not.
pub(in crate::plugin) fn line(
    level: Level,
    module: &str,
    message: &str,
    fields: Map<String, Value>,
) -> Vec<u8> {
    let line = of_length(clock::now(), level, module, message, fields);
    if line.len() <= LINE_BYTES_MAX {
        return line;
    }
    let cut: String = message.chars().take(CUT_CHARACTERS_MAX).collect();
    of_length(clock::now(), level, module, &format!("{cut} … (cut)"), Map::new())
}

fn of_length(
    at: SystemTime,
    level: Level,
    module: &str,
    message: &str,
    fields: Map<String, Value>,
) -> Vec<u8> {
    let mut keys: Map<String, Value> =
        fields.into_iter().map(|(name, value)| (name.trim_start_matches('@').to_owned(), value)).collect();
    keys.insert("@level".into(), word(level).into());
    keys.insert("@message".into(), message.into());
    keys.insert("@module".into(), module.into());
    // Six digits exactly: with any other number of them the whole line counts as text.
    keys.insert("@timestamp".into(), humantime::format_rfc3339_micros(at).to_string().into());
    let mut line = Value::Object(keys).to_string().into_bytes();
    line.push(b'\n');
    line
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_line_is_the_one_that_hclog_reads() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001);
        let fields = Map::from_iter([("task_id".to_owned(), Value::from("a/b"))]);
        let line = of_length(at, Level::INFO, "m", "two\nlines", fields);
        let golden = concat!(
            r#"{"@level":"info","@message":"two\nlines","@module":"m","#,
            r#""@timestamp":"2023-11-14T22:13:20.000001Z","task_id":"a/b"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), golden);
    }

    #[test]
    fn pitfall_02_whole_seconds_have_six_digits_too() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let line = of_length(at, Level::INFO, "m", "", Map::new());
        assert!(String::from_utf8(line).unwrap().contains("\"2023-11-14T22:13:20.000000Z\""));
    }

    #[test]
    fn a_line_that_would_be_too_long_is_cut_and_still_json() {
        for message in ["é".repeat(100_000), "\u{1}".repeat(100_000)] {
            let line = line(Level::WARN, "m", &message, Map::new());
            assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
            let line: Value = serde_json::from_slice(&line).unwrap();
            assert!(line["@message"].as_str().unwrap().ends_with("… (cut)"));
        }
    }
}
