//! The words of HAProxy, PgBouncer, patroni_proxy and Patroni: what each is here, or why there is nothing like it.
//!
//! Hints for unknown keys, `import` and the tables in docs/src/how-to are all made from these.

mod haproxy;
mod patroni;
mod pgbouncer;

use std::fmt::Write as _;

use super::keys::Key;
use super::names;
use super::nearest;
use super::table::KEYS;

/// Another program, whose settings somebody may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// HAProxy, as it is set up in front of Patroni.
    Haproxy,
    /// PgBouncer.
    Pgbouncer,
    /// patroni_proxy, a part of pg_doorman.
    PatroniProxy,
    /// Patroni itself.
    Patroni,
}

impl Program {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Pgbouncer => "PgBouncer",
            Self::PatroniProxy => "patroni_proxy",
            Self::Patroni => "Patroni",
        }
    }

    const fn words(self) -> &'static [Word] {
        match self {
            Self::Haproxy => haproxy::WORDS,
            Self::Pgbouncer => pgbouncer::WORDS,
            Self::PatroniProxy => patroni::PROXY_WORDS,
            Self::Patroni => patroni::WORDS,
        }
    }
}

const PROGRAMS: [Program; 4] =
    [Program::Haproxy, Program::Pgbouncer, Program::PatroniProxy, Program::Patroni];

/// A setting of another program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    /// The setting as that program writes it, with other spellings of the same.
    spellings: &'static [&'static str],
    /// What there is here for it.
    pub(crate) answer: Answer,
}

/// What there is here for such a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// The path of a key, and what it does differently.
    Key(&'static str, &'static str),
    /// Nothing has to be set, because...
    NotNeeded(&'static str),
    /// The proxy does not do it: ...
    Absent(&'static str),
}

const fn key(spellings: &'static [&'static str], path: &'static str, difference: &'static str) -> Word {
    Word { spellings, answer: Answer::Key(path, difference) }
}

const fn not_needed(spellings: &'static [&'static str], because: &'static str) -> Word {
    Word { spellings, answer: Answer::NotNeeded(because) }
}

const fn absent(spellings: &'static [&'static str], why: &'static str) -> Word {
    Word { spellings, answer: Answer::Absent(why) }
}

/// What several programs have, and the proxy has not.
const NO_IDLE_LIMIT: &str = "idle sessions are not ended; PostgreSQL can do that (`idle_session_timeout`), and `session.keepalive` \
                             finds clients that are gone";
const ASKED_BY_SQL: &str = "each server is asked by SQL over a kept connection (the keys in `[probe]`)";
const NO_TLS: &str =
    "client and server agree on TLS, and the proxy passes it through; `probe.sslmode` is for its own probes";
const FOREGROUND: &str =
    "it stays in the foreground, and systemd or an orchestrator sets its user, directory and limits";
const STANDARD_ERROR: &str = "the log goes to standard error; `log.sessions` logs the end of each session";

/// The setting of `program` that is spelled so.
pub(crate) fn word(program: Program, spelling: &str) -> Option<&'static Word> {
    let sought = normal(spelling);
    program.words().iter().find(|word| word.spellings.iter().any(|spelling| normal(spelling) == sought))
}

/// What to say to somebody who wrote a setting of another program as `path`, with or without one of our blocks before it.
/// A word that is a name of ours as well is taken for ours.
pub(super) fn hint(path: &str) -> Option<String> {
    let last = names::last(path);
    if KEYS.iter().any(|key| key.name() == last) || nearest::is_synonym(last) {
        return None;
    }
    let found = |program| word(program, path).or_else(|| word(program, last)).map(|word| (program, word));
    let (program, word) = PROGRAMS.into_iter().find_map(found)?;
    Some(format!("{}'s `{last}` {}", program.name(), word.explain(path)))
}

impl Word {
    /// What became of this word, as the end of a sentence that begins with it. `path` may name one of our blocks.
    pub(crate) fn explain(&self, path: &str) -> String {
        match self.answer {
            Answer::Key(key, difference) => format!("is `{}` here: {difference}", beside(path, key)),
            Answer::NotNeeded(because) => format!("is not needed, because {because}"),
            Answer::Absent(why) => format!("has no counterpart: {why}"),
        }
    }
}

/// The key of the same name in the block of `path`, if there is one: `read.listen` for `read.bind`.
pub(crate) fn beside(path: &str, key: &'static str) -> &'static str {
    let name = names::last(key);
    let block = path.split_once('.').map_or("", |(block, _)| block);
    Key::find(&format!("{block}.{name}")).map_or(key, |key| key.path)
}

/// One spelling for `timeout queue`, `timeout_queue` and `timeout-queue`.
fn normal(word: &str) -> String {
    word.to_lowercase().replace([' ', '-', '.'], "_")
}

/// A table in Markdown of what becomes of each setting of `program`.
pub fn replacements(program: Program) -> String {
    let mut table = format!("| {} | pg-leader-proxy |\n| --- | --- |\n", program.name());
    for word in program.words() {
        let spellings: Vec<String> = word.spellings.iter().map(|word| format!("`{word}`")).collect();
        let here = match word.answer {
            Answer::Key(key, difference) => format!("`{key}`: {difference}"),
            Answer::NotNeeded(because) => format!("not needed: {because}"),
            Answer::Absent(why) => format!("**nothing**: {why}"),
        };
        // Writing to a `String` cannot fail.
        let _ = writeln!(table, "| {} | {here} |", spellings.join(", "));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_word_leads_to_a_key_or_says_why_there_is_none() {
        let told = |path: &str| hint(path).unwrap();
        assert!(
            told("probe.fastinter").starts_with("HAProxy's `fastinter` is `probe.fast_interval` here: it ")
        );
        assert!(told("write.timeout queue").contains("`write.hold_timeout`"));
        assert!(told("read.timeout_queue").contains("`read.hold_timeout`"));
        assert!(told("read.bind").contains("`read.listen`") && told("bind").contains("`write.listen`"));
        assert!(
            told("probe.rise").starts_with("HAProxy's `rise` is not needed, because no checks are counted")
        );
        assert!(told("session.default_pool_size").contains("has no counterpart: connections are not pooled"));
        assert!(hint("write.tomatoes").is_none());
    }

    #[test]
    fn the_keys_exist_and_a_name_of_ours_is_nobody_elses() {
        for word in PROGRAMS.iter().flat_map(|program| program.words()) {
            if let Answer::Key(key, _) = word.answer {
                assert!(Key::find(key).is_some(), "{key}");
            }
        }
        assert!(word(Program::Haproxy, "user").is_some() && hint("session.user").is_none());
    }

    #[test]
    fn no_program_has_a_word_twice() {
        for program in PROGRAMS {
            let all: Vec<String> =
                program.words().iter().flat_map(|word| word.spellings).map(|word| normal(word)).collect();
            let distinct: BTreeSet<&String> = all.iter().collect();
            let twice: Vec<_> = distinct
                .iter()
                .filter(|word| all.iter().filter(|other| other == *word).count() > 1)
                .collect();
            assert!(twice.is_empty(), "{}: {twice:?}", program.name());
        }
    }
}
