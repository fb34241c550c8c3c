//! Signals by name, as Nomad gives them.

use std::fmt;

use rustix::process::Signal as Raw;
use serde::{Deserialize, Serialize};

/// A signal of the kernel's own numbers, 1 to 31. In JSON it is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(Raw);

/// No signal has this name or number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal `{0}`: known are {names}, with or without SIG, and the numbers 1 to 31", names = names())]
pub struct UnknownSignal(String);

/// Reads what an operator or a job may write: `SIGHUP`, `HUP`, `hup` or `1`.
///
/// # Errors
/// When there is no such signal. The error lists those that there are.
pub fn parse(text: &str) -> Result<Signal, UnknownSignal> {
    let unknown = || UnknownSignal(text.to_owned());
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return Raw::from_named_raw(number).map(Signal).ok_or_else(unknown);
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let found = NAMES.iter().find(|(known, _)| known.strip_prefix("SIG") == Some(name));
    found.map(|(_, raw)| Signal(*raw)).ok_or_else(unknown)
}

impl Signal {
    /// "The terminal is gone": a daemon reads its configuration again.
    pub const HUP: Self = Self(Raw::HUP);
    /// The terminal's Ctrl-C.
    pub const INT: Self = Self(Raw::INT);
    /// The end that cannot be caught.
    pub const KILL: Self = Self(Raw::KILL);
    /// The polite end.
    pub const TERM: Self = Self(Raw::TERM);

    /// The signal's number, as `kill -l` shows it.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.as_raw()
    }

    /// The name with `SIG`, such as `SIGHUP`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, raw)| *raw == self.0).map_or("SIG?", |(name, _)| *name)
    }

    /// What the system calls take.
    #[must_use]
    pub fn raw(self) -> Raw {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TryFrom<String> for Signal {
    type Error = UnknownSignal;

    fn try_from(text: String) -> Result<Self, UnknownSignal> {
        parse(&text)
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.name().to_owned()
    }
}

/// Every signal of signal(7) below the real-time ones. The first name of a number is the one shown.
const NAMES: [(&str, Raw); 34] = [
    ("SIGHUP", Raw::HUP),
    ("SIGINT", Raw::INT),
    ("SIGQUIT", Raw::QUIT),
    ("SIGILL", Raw::ILL),
    ("SIGTRAP", Raw::TRAP),
    ("SIGABRT", Raw::ABORT),
    ("SIGIOT", Raw::ABORT),
    ("SIGBUS", Raw::BUS),
    ("SIGFPE", Raw::FPE),
    ("SIGKILL", Raw::KILL),
    ("SIGUSR1", Raw::USR1),
    ("SIGSEGV", Raw::SEGV),
    ("SIGUSR2", Raw::USR2),
    ("SIGPIPE", Raw::PIPE),
    ("SIGALRM", Raw::ALARM),
    ("SIGTERM", Raw::TERM),
    ("SIGSTKFLT", Raw::STKFLT),
    ("SIGCHLD", Raw::CHILD),
    ("SIGCLD", Raw::CHILD),
    ("SIGCONT", Raw::CONT),
    ("SIGSTOP", Raw::STOP),
    ("SIGTSTP", Raw::TSTP),
    ("SIGTTIN", Raw::TTIN),
    ("SIGTTOU", Raw::TTOU),
    ("SIGURG", Raw::URG),
    ("SIGXCPU", Raw::XCPU),
    ("SIGXFSZ", Raw::XFSZ),
    ("SIGVTALRM", Raw::VTALARM),
    ("SIGPROF", Raw::PROF),
    ("SIGWINCH", Raw::WINCH),
    ("SIGIO", Raw::IO),
    ("SIGPOLL", Raw::IO),
    ("SIGPWR", Raw::POWER),
    ("SIGSYS", Raw::SYS),
];

fn names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_with_and_without_sig_in_either_case_and_by_number() {
        for text in ["SIGHUP", "HUP", "hup", "SigHup", " SIGHUP ", "1"] {
            assert_eq!(parse(text), Ok(Signal::HUP), "{text}");
        }
        assert_eq!(parse("SIGUSR2").unwrap().number(), 12);
        assert_eq!(parse("9"), Ok(Signal::KILL));
    }

    #[test]
    fn each_number_from_1_to_31_has_a_name_that_leads_back_to_it() {
        for number in 1..=31 {
            let signal = parse(&number.to_string()).unwrap();
            assert_eq!(signal.number(), number);
            assert_eq!(parse(signal.name()), Ok(signal), "{signal}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_with_the_names_that_there_are() {
        for text in ["", "SIG", "0", "-1", "32", "64", "SIGFOO", "SIGSIGHUP", "TERM INT"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("SIGHUP, SIGINT"), "{error}");
        }
    }

    #[test]
    fn in_json_a_signal_is_its_name() {
        assert_eq!(serde_json::to_string(&Signal::TERM).unwrap(), r#""SIGTERM""#);
        assert_eq!(serde_json::from_str::<Signal>(r#""SIGABRT""#).unwrap().name(), "SIGABRT");
        assert!(serde_json::from_str::<Signal>(r#""SIGNONE""#).is_err());
    }
}
