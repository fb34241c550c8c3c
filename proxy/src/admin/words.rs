//! Lengths of time and sizes as people read them.

use std::fmt;

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age(pub(crate) u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        match seconds {
            0 => write!(f, "{} ms", self.0),
            1..=59 => write!(f, "{seconds}.{} s", self.0 % 1000 / 100),
            60..=3599 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3600..=86399 => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
            _ => write!(f, "{} d {} h", seconds / 86400, seconds % 86400 / 3600),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => write!(f, "{}.{} {name}", self.0 / unit, self.0 % unit * 10 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A number of things, such as `1 client` or `2 clients`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Of(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_get_coarser_as_they_grow() {
        let told = [7, 1_250, 61_000, 7_260_000, 90_000_000].map(|ms| Age(ms).to_string());
        assert_eq!(told, ["7 ms", "1.2 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn sizes_have_one_decimal() {
        let told = [12, 1536, 16 << 20, u64::MAX].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(told, ["12 B", "1.5 KiB", "16.0 MiB", "16777215.9 TiB"]);
    }
}
