//! News: what is worth telling an operator who does not read the log, in the form in which it leaves the process.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing worth telling. [`Display`](fmt::Display) gives the sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// What sort of news it is, for programs: `leader`, `leader_change`, `resumed`, `fenced`, `two_primaries` or
    /// `two_primaries_over`.
    pub kind: String,
    /// The sentence, for people.
    pub message: String,
    /// The facts in it by name, as far as they apply: `member`, `timeline`, `epoch`, `severed` and `held` (counts),
    /// `gap_ms` (how long nothing was forwarded) and `reason` (the code of a reason).
    pub annotations: BTreeMap<String, String>,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
