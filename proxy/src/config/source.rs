//! Where the value of a setting came from.

use std::fmt;
use std::sync::Arc;

use super::names::Name;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was not given.
    Default,
    /// A line of a file.
    File(Arc<str>, usize),
    /// An orchestrator's job.
    Given,
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl Source {
    /// How `name` is written there.
    pub(super) fn spelling(&self, name: &Name) -> String {
        match self {
            Self::Default | Self::File(..) | Self::Given => name.path.to_owned(),
            Self::Variable(_) => name.variable(),
            Self::Flag(_) => format!("--{}", name.flag()),
        }
    }

    /// The place beside the name. A flag and a variable are named by their place alone.
    pub(super) fn place(&self) -> Option<Self> {
        match self {
            Self::Default | Self::File(..) | Self::Given => Some(self.clone()),
            Self::Variable(_) | Self::Flag(_) => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(name, line) => write!(f, "{name} line {line}"),
            Self::Given => f.write_str("the job's config"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}
