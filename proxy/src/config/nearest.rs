//! The known name that is nearest to an unknown one, for "did you mean".

use super::keys::Key;
use super::names::Name;
use super::table::{BLOCKS, KEYS};

/// Other words for the same thing, which no single program owns.
const SYNONYMS: &[(&str, &str)] = &[
    ("cacert", "etcd.ca_file"),
    ("cert", "etcd.cert_file"),
    ("dbname", "probe.database"),
    ("group", "cluster.citus_group"),
    ("host", "etcd.endpoints"),
    ("hosts", "etcd.endpoints"),
    ("key", "etcd.key_file"),
    ("level", "log.filter"),
    ("name", "cluster.scope"),
    ("nodes", "cluster.members"),
    ("port", "write.listen"),
    ("sslcert", "probe.cert_file"),
    ("sslkey", "probe.key_file"),
    ("sslrootcert", "probe.ca_file"),
    ("username", "probe.user"),
];

/// Whether `word` is another word for something here, whatever another program means by it.
pub(super) fn is_synonym(word: &str) -> bool {
    SYNONYMS.iter().any(|(synonym, _)| *synonym == word)
}

/// The key that was probably meant by `path`, which may lack its block.
pub(super) fn key(path: &str) -> Option<&'static str> {
    let (block, last) = path.split_once('.').unwrap_or(("", path));
    let names = || KEYS.iter().flat_map(Key::names);
    let in_block = || names().filter(|name| name.block() == Some(block));
    closest(path, in_block())
        .or_else(|| {
            let meant =
                SYNONYMS.iter().find(|(word, _)| *word == last).and_then(|(_, path)| Key::find(path))?;
            let sibling = in_block().find(|name| name.last() == meant.name());
            Some(sibling.map_or(meant, |name| name.key).path)
        })
        .or_else(|| names().find(|name| name.last() == last).map(|name| name.key.path))
        .or_else(|| closest(path, names()))
}

/// The present name of the key one of whose names is closest to `path`.
fn closest(path: &str, names: impl Iterator<Item = Name>) -> Option<&'static str> {
    names
        .filter(|name| close(name.path, path))
        .min_by_key(|name| strsim::damerau_levenshtein(name.path, path))
        .map(|name| name.key.path)
}

/// The block that was probably meant.
pub(super) fn block(name: &str) -> Option<&'static str> {
    nearest(name, BLOCKS.iter().map(|block| block.name))
}

/// The variable that was probably meant.
pub(super) fn variable<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    nearest(name, known.iter().map(String::as_str))
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.filter(|known| close(known, name)).min_by_key(|known| strsim::damerau_levenshtein(known, name))
}

/// Whether two names differ by a typing error or two.
fn close(one: &str, other: &str) -> bool {
    strsim::damerau_levenshtein(one, other) <= (one.len().max(other.len()) / 6).clamp(1, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_synonyms_are_understood() {
        assert_eq!(key("etcd.endpoint"), Some("etcd.endpoints"));
        assert_eq!(key("wirte.listen"), Some("write.listen"));
        assert_eq!(key("write.max_lag"), Some("read.max_lag"));
        assert_eq!(key("sesion.drain"), Some("session.drain_timeout"));
        assert_eq!(key("scope"), Some("cluster.scope"));
        assert_eq!(key("etcd.hosts"), Some("etcd.endpoints"));
        assert_eq!(key("etcd.username"), Some("etcd.user"));
        assert_eq!(key("read.port"), Some("read.listen"));
        assert_eq!(key("probe.sslrootcert"), Some("probe.ca_file"));
        assert_eq!(key("etcd.cert"), Some("etcd.cert_file"));
        assert_eq!(key("log.level"), Some("log.filter"));
        assert_eq!(key("write.tomatoes"), None);
    }

    #[test]
    fn blocks_are_understood() {
        assert_eq!(block("sesion"), Some("session"));
        assert_eq!(block("tomatoes"), None);
    }
}
