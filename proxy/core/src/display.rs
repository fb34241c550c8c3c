//! Lengths of time, sizes and counts as a person reads them: the one place that says how they are written.

use std::fmt;
use std::time::Duration;

/// A length of time: `310 ms`, `12.4 s`, `2 min 5 s`, `1 h 30 min`, `3 d 4 h`. What is smaller is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// A length of time in milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, tenths) = (self.0.as_secs(), self.0.subsec_millis() / 100);
        match (seconds, tenths) {
            (0, _) => write!(f, "{} ms", self.0.as_millis()),
            (1..60, 0) => write!(f, "{seconds} s"),
            (1..60, _) => write!(f, "{seconds}.{tenths} s"),
            (60..3600, _) => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            (3600..86_400, _) => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
            (86_400.., _) => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

/// A number of bytes: `12 B`, `1.5 KiB`, `16 MiB`. What is smaller is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanBytes(pub u64);

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 >= *unit) {
            None => write!(f, "{} B", self.0),
            Some((unit, name)) => match self.0 % unit * 10 / unit {
                0 => write!(f, "{} {name}", self.0 / unit),
                tenths => write!(f, "{}.{tenths} {name}", self.0 / unit),
            },
        }
    }
}

/// A number of things, with the word for one of them: `1 client`, `2 clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted(pub u64, pub &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, noun) = self;
        write!(f, "{count} {noun}{}", if *count == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_get_coarser_as_they_grow() {
        let shown = |millis| HumanDuration::from_millis(millis).to_string();
        assert_eq!([shown(0), shown(999), shown(1000)], ["0 ms", "999 ms", "1 s"]);
        assert_eq!([shown(12_490), shown(59_999), shown(60_000)], ["12.4 s", "59.9 s", "1 min 0 s"]);
        assert_eq!(
            [shown(125_000), shown(5_400_000), shown(90_000_000)],
            ["2 min 5 s", "1 h 30 min", "1 d 1 h"]
        );
    }

    #[test]
    fn sizes_have_one_decimal_at_most() {
        let shown = [12, 1536, 16 << 20, u64::MAX].map(|bytes| HumanBytes(bytes).to_string());
        assert_eq!(shown, ["12 B", "1.5 KiB", "16 MiB", "16777215.9 TiB"]);
    }

    #[test]
    fn one_of_a_thing_is_no_plural() {
        assert_eq!(
            [0, 1, 2].map(|count| Counted(count, "client").to_string()),
            ["0 clients", "1 client", "2 clients"]
        );
    }
}
