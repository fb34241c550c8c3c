//! Old names that a configuration still uses, each with what to write instead.

use std::fmt;

use super::names::Name;
use super::raw::Raw;
use super::source::Source;

/// An old name of a key, or an old word for its value. [`Display`](fmt::Display) gives the warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// What was written, such as `write.hold` or `--write-hold`.
    pub old: String,
    /// Where, unless the name tells that by itself.
    pub place: Option<Source>,
    /// What to write instead.
    pub new: String,
}

impl Renamed {
    /// `name` is an old name of its key.
    pub(super) fn name(name: Name, source: &Source) -> Self {
        let present = Name::of(name.key);
        Self { old: source.spelling(&name), place: source.place(), new: source.spelling(&present) }
    }

    /// `raw` is an old word for the value of `name`, which is `word` now.
    pub(super) fn word(name: Name, raw: &Raw, source: &Source, word: &str) -> Self {
        let old = format!("{} = \"{raw}\"", source.spelling(&name));
        Self { old, place: source.place(), new: format!("\"{word}\"") }
    }
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.old)?;
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        write!(f, ": renamed to {}; the old name still works", self.new)
    }
}
