//! The shape of a setting: where it stands, of what kind it is, its default and the sentence that explains it.
//!
//! The table itself is in `table.rs`. The parser of the file, the flags, the environment variables, the documentation
//! and the schema of the Nomad driver are all made from it, so that none of them can lack a key.

use std::time::Duration;

use super::table::{BLOCKS, KEYS};

/// A group of settings: a table of the file, a block of a job.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Its name, the first part of the path of its keys.
    pub name: &'static str,
    /// What it is about, in one sentence.
    pub doc: &'static str,
}

impl Block {
    /// The block of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        BLOCKS.iter().find(|block| block.name == name)
    }

    /// The keys of this block, in the order in which they are explained.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        let name = self.name;
        KEYS.iter().filter(move |key| key.block() == name)
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands in the file, such as `write.listen`.
    pub path: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// The value that it has when nobody gives one, written as for a flag.
    pub default: Option<&'static str>,
    /// Whether nothing works without it.
    pub required: bool,
    /// What it does, in one sentence.
    pub doc: &'static str,
    short_name: Option<&'static str>,
}

impl Key {
    /// A key without a default.
    pub(super) const fn new(path: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { path, kind, default: None, required: false, doc, short_name: None }
    }

    /// The key with a default, written as for a flag.
    #[must_use]
    pub(super) const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The key, without which nothing works.
    #[must_use]
    pub(super) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// The key with a flag and a variable that are shorter than its path.
    #[must_use]
    pub(super) const fn named(self, short_name: &'static str) -> Self {
        Self { short_name: Some(short_name), ..self }
    }

    /// The key at that path.
    pub fn find(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path == path)
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
        self.short_name.unwrap_or(self.path).replace(['.', '_'], "-")
    }

    /// The environment variable: `PGLP_WRITE_LISTEN`.
    pub fn variable(&self) -> String {
        format!("PGLP_{}", self.flag().replace('-', "_").to_uppercase())
    }
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
            Self::Addresses | Self::Servers | Self::Urls => Shape::List,
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
            Self::ServerMap => "FROM=TO",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn flag_and_variable_follow_from_the_path() {
        let key = Key::find("write.max_held").unwrap();
        assert_eq!((key.block(), key.name()), ("write", "max_held"));
        assert_eq!(key.flag(), "write-max-held");
        assert_eq!(key.variable(), "PGLP_WRITE_MAX_HELD");
    }

    #[test]
    fn members_are_given_by_a_flag_that_can_be_repeated() {
        assert_eq!(Key::find("cluster.members").unwrap().flag(), "member");
    }

    #[test]
    fn no_two_keys_share_a_name_and_each_belongs_to_a_block() {
        let paths: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
        let flags: BTreeSet<String> = KEYS.iter().map(Key::flag).collect();
        assert_eq!((paths.len(), flags.len()), (KEYS.len(), KEYS.len()));
        assert!(KEYS.iter().all(|key| Block::find(key.block()).is_some()));
        assert_eq!(BLOCKS.iter().flat_map(Block::keys).count(), KEYS.len());
    }

    #[test]
    fn each_key_is_explained_by_a_sentence() {
        for key in KEYS {
            assert!(key.doc.ends_with('.') && key.doc.len() > 20, "{}: {}", key.path, key.doc);
        }
    }
}
