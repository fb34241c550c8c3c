//! `import`: a configuration for this proxy, made from one of HAProxy, PgBouncer or patroni_proxy.
//!
//! Pure functions from a text to settings, each with the lines that it comes from, and to a list of what could not be
//! carried over. What every word becomes stands in `config/elsewhere`, from which the documentation is made as well.

mod draft;
mod haproxy;
mod patroni_proxy;
mod pgbouncer;
mod render;
mod units;
mod yaml;

use std::fmt;

use crate::config::{Program, Raw};

/// The longest text that is read, in bytes. Nobody writes a configuration of this size.
pub const MAX_BYTES: usize = 1 << 20;

/// Another program's kind of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `haproxy.cfg`.
    Haproxy,
    /// `pgbouncer.ini`.
    Pgbouncer,
    /// The YAML of patroni_proxy.
    PatroniProxy,
}

impl Kind {
    /// Each kind, with the word for it on the command line.
    pub const ALL: [(&'static str, Self); 3] =
        [("haproxy", Self::Haproxy), ("pgbouncer", Self::Pgbouncer), ("patroni_proxy", Self::PatroniProxy)];

    /// What kind of configuration `text` is, by the names of its sections; `None` if it has none that is known.
    pub fn guess(text: &str) -> Option<Self> {
        text.lines().find_map(|line| match line.split_whitespace().next()? {
            "global" | "defaults" | "listen" | "frontend" | "backend" => Some(Self::Haproxy),
            "[databases]" | "[pgbouncer]" => Some(Self::Pgbouncer),
            "clusters:" => Some(Self::PatroniProxy),
            _ => None,
        })
    }

    /// The program whose configuration it is.
    pub const fn program(self) -> Program {
        match self {
            Self::Haproxy => Program::Haproxy,
            Self::Pgbouncer => Program::Pgbouncer,
            Self::PatroniProxy => Program::PatroniProxy,
        }
    }
}

/// What came of another program's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Which program's it was.
    pub kind: Kind,
    /// The settings that were carried over, in the order of the table of keys.
    pub carried: Vec<Carried>,
    /// The keys that must be filled in.
    pub missing: Vec<Missing>,
    /// The servers that the source names, for a cluster without etcd.
    pub servers: Option<Carried>,
    /// What could not be carried over, in the order of its first line.
    pub lost: Vec<Lost>,
}

/// A setting that was carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The path of its key.
    pub path: &'static str,
    /// Its value.
    pub raw: Raw,
    /// Where the value comes from: lines, counted from 1, and what stands there.
    pub origins: Vec<(usize, String)>,
}

/// A key that the source cannot know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The path of the key.
    pub path: &'static str,
    /// What belongs there.
    pub what: String,
}

/// Something in the source that could not be carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The lines, counted from 1, in ascending order; at least one.
    pub lines: Vec<usize>,
    /// The directive, without its value, which might be secret.
    pub what: String,
    /// What became of it, as the end of a sentence that begins with it.
    pub why: String,
}

/// Why a text could not be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportError {
    /// It is longer than [`MAX_BYTES`].
    TooLong,
    /// It is not what it should be.
    Syntax {
        /// The line, counted from 1, if it is known.
        line: Option<usize>,
        /// What is wrong there.
        problem: String,
    },
}

impl ImportError {
    fn at(line: usize, problem: impl Into<String>) -> Self {
        Self::Syntax { line: Some(line), problem: problem.into() }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {MAX_BYTES} bytes"),
            Self::Syntax { line: Some(line), problem } => write!(f, "line {line}: {problem}"),
            Self::Syntax { line: None, problem } => f.write_str(problem),
        }
    }
}

impl std::error::Error for ImportError {}

/// Makes a configuration of this proxy from one of another program.
///
/// # Errors
/// When the text is too long, or is not what that program would read.
pub fn import(kind: Kind, text: &str) -> Result<Imported, ImportError> {
    if text.len() > MAX_BYTES {
        return Err(ImportError::TooLong);
    }
    let draft = match kind {
        Kind::Haproxy => haproxy::read(text),
        Kind::Pgbouncer => pgbouncer::read(text),
        Kind::PatroniProxy => patroni_proxy::read(text),
    }?;
    Ok(draft.finish(kind))
}
