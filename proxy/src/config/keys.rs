//! A setting: its path, the kind of its value, its default and the sentence that explains it.
//!
//! The table itself is in `table.rs`. The parser of the file, the flags, the environment variables, the documentation
//! and the schema of the Nomad driver are all made from it, so that none of them can lack a key.

use std::time::Duration;

/// A group of settings: a table of the file, a block of a job.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Its name, the first part of the path of its keys.
    pub name: &'static str,
    /// What it is about, in one sentence.
    pub doc: &'static str,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path in the file, such as `write.listen`.
    pub path: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// The value that it has when nobody gives one, written as for a flag.
    pub default: Option<&'static str>,
    /// Whether it must be given.
    pub required: bool,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// When a new value takes effect.
    pub change: Change,
    /// A shorter name for its flag and its variable.
    pub(super) short: Option<&'static str>,
    /// Its paths in earlier versions.
    pub(super) old_names: &'static [&'static str],
    /// Words of earlier versions, each with the present word for it.
    pub(super) old_words: &'static [(&'static str, &'static str)],
}

impl Key {
    /// A key without a default.
    pub(super) const fn new(path: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            path,
            kind,
            default: None,
            required: false,
            doc,
            change: Change::Reload,
            short: None,
            old_names: &[],
            old_words: &[],
        }
    }

    /// The key with a default, written as for a flag.
    #[must_use]
    pub(super) const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The key, which must be given.
    #[must_use]
    pub(super) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// The key with a short form of its flag and its variable.
    #[must_use]
    pub(super) const fn short(self, short: &'static str) -> Self {
        Self { short: Some(short), ..self }
    }

    /// The key with its paths in earlier versions, which still work.
    #[must_use]
    pub(super) const fn formerly(self, old_names: &'static [&'static str]) -> Self {
        Self { old_names, ..self }
    }

    /// The key with words of earlier versions, which still work, each with the present word for it.
    #[must_use]
    pub(super) const fn renamed_words(self, old_words: &'static [(&'static str, &'static str)]) -> Self {
        Self { old_words, ..self }
    }

    /// The key, whose value only a restart can change.
    #[must_use]
    pub(super) const fn needs_restart(self) -> Self {
        Self { change: Change::Restart, ..self }
    }

    /// The first part of the path.
    pub fn block(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(block, _)| block)
    }

    /// The part of the path after the block.
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    /// The flag, without its two dashes: `write-listen`.
    pub fn flag(&self) -> String {
        flag(self.path)
    }

    /// The environment variable: `PGLP_WRITE_LISTEN`.
    pub fn variable(&self) -> String {
        variable(self.path)
    }
}

/// The flag for a path: `write-listen` for `write.listen`.
pub(super) fn flag(path: &str) -> String {
    path.replace(['.', '_'], "-")
}

/// The environment variable for a path: `PGLP_WRITE_LISTEN` for `write.listen`.
pub(super) fn variable(path: &str) -> String {
    format!("PGLP_{}", path.replace('.', "_").to_uppercase())
}

/// When a new value of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// When the configuration is read again, on SIGHUP.
    Reload,
    /// When the process is started again. A reload that finds a new value is refused as a whole.
    Restart,
}

/// What the value of a key must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// The path of a file.
    Path,
    /// A length of time between two bounds, such as `30s`.
    Duration(Duration, Duration),
    /// A number of bytes, such as `16MiB`.
    Size,
    /// A whole number between two bounds.
    Count(u64, u64),
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One address to listen on, or `off`.
    Address,
    /// Addresses to listen on.
    Addresses,
    /// Servers, by name or address, with their port.
    Servers,
    /// URLs.
    Urls,
    /// Networks of IP addresses.
    Networks,
    /// From one server's address to another.
    ServerMap,
}

/// The type of a value in a language of typed configuration, such as TOML or HCL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// A boolean.
    Boolean,
    /// A list of strings.
    List,
    /// A map from strings to strings.
    Map,
}

impl Shape {
    /// What a value of this type is called in errors.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a whole number",
            Self::Boolean => "true or false",
            Self::List => "a list of strings",
            Self::Map => "a table of strings",
        }
    }
}

impl Kind {
    /// The type of such a value.
    pub const fn shape(self) -> Shape {
        match self {
            Self::Text | Self::Path | Self::Duration(..) | Self::Size | Self::Choice(_) | Self::Address => {
                Shape::Text
            }
            Self::Count(..) => Shape::Number,
            Self::Boolean => Shape::Boolean,
            Self::Addresses | Self::Servers | Self::Urls | Self::Networks => Shape::List,
            Self::ServerMap => Shape::Map,
        }
    }

    /// What stands for such a value in the help, such as `<DURATION>`.
    pub const fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Path => "FILE",
            Self::Duration(..) => "DURATION",
            Self::Size => "SIZE",
            Self::Count(..) => "NUMBER",
            Self::Boolean => "BOOLEAN",
            Self::Choice(_) => "WORD",
            Self::Address | Self::Addresses => "ADDRESS",
            Self::Servers => "HOST:PORT",
            Self::Urls => "URL",
            Self::Networks => "NETWORK",
            Self::ServerMap => "FROM=TO",
        }
    }
}
