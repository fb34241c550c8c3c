//! Signals by name, as Nomad and operators write them.

use std::fmt;

use nix::sys::signal::Signal as Named;
use rustix::process::Signal as Raw;
use serde::{Deserialize, Serialize};

/// A signal with one of the numbers 1 to 31. In JSON it is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(Raw);

/// There is no signal of this name or number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal `{0}`: valid are {names}, with or without SIG, and the numbers 1 to 31", names = names())]
pub struct UnknownSignal(String);

impl Signal {
    /// Makes a daemon read its configuration again.
    pub const HUP: Self = Self(Raw::HUP);
    /// What Ctrl-C sends.
    pub const INT: Self = Self(Raw::INT);
    /// Cannot be caught.
    pub const KILL: Self = Self(Raw::KILL);
    /// Asks a process to end.
    pub const TERM: Self = Self(Raw::TERM);

    /// Parses what an operator or a job may write: `SIGHUP`, `HUP`, `hup` or `1`.
    ///
    /// # Errors
    /// When there is no such signal. The error lists the valid names.
    pub fn parse(text: &str) -> Result<Self, UnknownSignal> {
        let name = text.trim().to_ascii_uppercase();
        let number = name.parse::<i32>().ok().or_else(|| {
            let named = name.parse::<Named>().or_else(|_| format!("SIG{name}").parse());
            named.ok().map(|named| named as i32)
        });
        number.and_then(Raw::from_named_raw).map(Self).ok_or_else(|| UnknownSignal(text.to_owned()))
    }

    /// The signal's number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.as_raw()
    }

    /// The form that system calls take.
    pub(crate) const fn raw(self) -> Raw {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Named::try_from(self.number()) {
            Ok(named) => f.write_str(named.as_str()),
            Err(_) => self.number().fmt(f),
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = UnknownSignal;

    fn try_from(text: String) -> Result<Self, UnknownSignal> {
        Self::parse(&text)
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

fn names() -> String {
    Named::iterator().map(Named::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_parsed_by_name_in_either_case_with_or_without_sig_and_by_number() {
        for text in ["SIGHUP", "HUP", "hup", "SigHup", " SIGHUP ", "1"] {
            assert_eq!(Signal::parse(text), Ok(Signal::HUP), "{text}");
        }
        assert_eq!(Signal::parse("SIGUSR2").unwrap().number(), 12);
        assert_eq!(Signal::parse("9"), Ok(Signal::KILL));
    }

    #[test]
    fn each_number_from_1_to_31_has_a_name() {
        for number in 1..=31 {
            let signal = Signal::parse(&number.to_string()).unwrap();
            assert_eq!((signal.number(), signal.raw().as_raw()), (number, number));
            assert_eq!(Signal::parse(&signal.to_string()), Ok(signal), "{signal}");
        }
    }

    #[test]
    fn the_error_for_an_unknown_signal_lists_the_valid_names() {
        for text in ["", "SIG", "0", "-1", "32", "64", "SIGFOO", "SIGSIGHUP", "TERM INT"] {
            let error = Signal::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("SIGHUP, SIGINT"), "{error}");
        }
    }

    #[test]
    fn in_json_a_signal_is_its_name() {
        assert_eq!(serde_json::to_string(&Signal::TERM).unwrap(), r#""SIGTERM""#);
        assert_eq!(serde_json::from_str::<Signal>(r#""SIGABRT""#).unwrap().to_string(), "SIGABRT");
        assert!(serde_json::from_str::<Signal>(r#""SIGNONE""#).is_err());
    }
}
