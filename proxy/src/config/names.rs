//! The names of keys: the present one, a short form, and those of earlier versions; and how to find a key by them.

use super::keys::{self, Block, Key};
use super::table::{BLOCKS, KEYS};

/// One of the names by which a key can be given.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// The key.
    pub key: &'static Key,
    /// The name as a path, such as `write.listen`. A short form has no block: `member`.
    pub path: &'static str,
    /// Which of the key's names this is.
    pub form: Form,
}

/// Which of a key's names a [`Name`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The name that the documentation uses.
    Present,
    /// A shorter form, for flags and variables only.
    Short,
    /// A name of an earlier version. It still works, with a warning.
    Old,
}

impl Name {
    /// The present name of a key.
    pub const fn of(key: &'static Key) -> Self {
        Self { key, path: key.path, form: Form::Present }
    }

    /// The name at that path in a file or a job.
    pub fn find(path: &str) -> Option<Self> {
        KEYS.iter().flat_map(Key::names).find(|name| name.path == path && name.form != Form::Short)
    }

    /// The first part of the path; a short form has none.
    pub fn block(&self) -> Option<&'static str> {
        self.path.split_once('.').map(|(block, _)| block)
    }

    /// The part of the path after the block.
    pub fn last(&self) -> &'static str {
        last(self.path)
    }

    /// The flag, without its two dashes: `write-listen`.
    pub fn flag(&self) -> String {
        keys::flag(self.path)
    }

    /// The environment variable: `PGLP_WRITE_LISTEN`.
    pub fn variable(&self) -> String {
        keys::variable(self.path)
    }
}

/// The part of a path after its block.
pub(super) fn last(path: &str) -> &str {
    path.split_once('.').map_or(path, |(_, last)| last)
}

impl Key {
    /// The key at that path, by its present name.
    pub fn find(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// The short form of this key's name, if it has one.
    pub fn short_name(&'static self) -> Option<Name> {
        self.short.map(|path| Name { key: self, path, form: Form::Short })
    }

    /// All names of this key, the present one first.
    pub fn names(&'static self) -> impl Iterator<Item = Name> {
        let old = self.old_names.iter().map(move |path| Name { key: self, path, form: Form::Old });
        std::iter::once(Name::of(self)).chain(self.short_name()).chain(old)
    }
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

    /// The names that can stand in this block of a file or a job, old ones too.
    pub fn names(&self) -> impl Iterator<Item = Name> + use<> {
        let block = self.name;
        KEYS.iter().flat_map(Key::names).filter(move |name| name.block() == Some(block))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all() -> Vec<Name> {
        KEYS.iter().flat_map(Key::names).collect()
    }

    #[test]
    fn flag_and_variable_follow_from_the_path() {
        let name = Name::find("write.max_held").unwrap();
        assert_eq!((name.block(), name.last()), (Some("write"), "max_held"));
        assert_eq!((name.flag(), name.variable()), ("write-max-held".into(), "PGLP_WRITE_MAX_HELD".into()));
    }

    #[test]
    fn members_have_a_short_flag_that_a_file_does_not_know() {
        let names: Vec<String> =
            Key::find("cluster.members").unwrap().names().map(|name| name.flag()).collect();
        assert_eq!(names, ["cluster-members", "member"]);
        assert!(Name::find("member").is_none());
    }

    #[test]
    fn an_old_name_leads_to_its_key() {
        let name = Name::find("write.hold").unwrap();
        assert_eq!((name.key.path, name.form), ("write.hold_timeout", Form::Old));
    }

    #[test]
    fn no_two_names_are_the_same_and_each_belongs_to_a_block() {
        let names = all();
        let paths: BTreeSet<&str> = names.iter().map(|name| name.path).collect();
        let flags: BTreeSet<String> = names.iter().map(Name::flag).collect();
        assert_eq!((paths.len(), flags.len()), (names.len(), names.len()));
        for name in names.iter().filter(|name| name.form != Form::Short) {
            assert!(name.block().is_some_and(|block| Block::find(block).is_some()), "{}", name.path);
        }
    }
}
