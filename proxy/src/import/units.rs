//! Lengths of time as the other programs write them.

use std::time::Duration;

use crate::config::show_duration;

/// HAProxy's: a number of milliseconds unless it has a unit (`us`, `ms`, `s`, `m`, `h`, `d`).
pub(super) fn haproxy(text: &str) -> Option<String> {
    let (number, unit) = split(text)?;
    let micros = match unit {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60 * 1_000_000,
        "h" => 3_600 * 1_000_000,
        "d" => 86_400 * 1_000_000,
        _ => return None,
    };
    show(Duration::from_micros(number.checked_mul(micros)?))
}

/// PgBouncer's: a number of seconds, which may have a fraction.
pub(super) fn seconds(text: &str) -> Option<String> {
    let seconds: f64 = text.parse().ok()?;
    show(Duration::try_from_secs_f64(seconds).ok()?)
}

/// A number of milliseconds.
pub(super) fn milliseconds(text: &str) -> Option<String> {
    show(Duration::from_millis(text.parse().ok()?))
}

/// The text of a length of time; none for one of 0, by which these programs mean "without a limit".
fn show(duration: Duration) -> Option<String> {
    (!duration.is_zero()).then(|| show_duration(duration))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_its_own_unit() {
        assert_eq!(haproxy("5000").as_deref(), Some("5s"));
        assert_eq!(haproxy("30m").as_deref(), Some("30m"));
        assert_eq!(haproxy("1500ms").as_deref(), Some("1s500ms"));
        assert_eq!(seconds("15.5").as_deref(), Some("15s500ms"));
        assert_eq!(milliseconds("250").as_deref(), Some("250ms"));
        for wrong in ["", "s", "5 s", "-1", "5x", "99999999999999999999s", "0", "0s"] {
            assert_eq!(haproxy(wrong), None, "{wrong}");
        }
        assert!(seconds("1e300").is_none() && seconds("NaN").is_none() && seconds("-1").is_none());
    }
}
