//! The settings of an orchestrator's job, looked up in the table of keys.

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::keys::Shape;
use super::names::Name;
use super::raw::{Named, Raw};
use super::source::Source;
use super::unknown;

/// A setting as a job gives it. The reader of the job's own language passes the value on without checking it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The path of the key, such as `write.hold_timeout`.
    pub path: String,
    /// The value. A text also stands for a list or a map, as in a flag: `a,b` and `from=to,from=to`.
    pub raw: Raw,
}

/// The settings of a job; what cannot be one is added to `errors`. If a key is given twice, the last one counts.
pub(super) fn read(given: &[Given], errors: &mut Vec<ConfigError>) -> Vec<Named> {
    let mut named = Vec::new();
    for Given { path, raw } in given {
        let (subject, problem) = match Name::find(path) {
            None => unknown::key(path),
            Some(name) => match fitted(name.key.kind.shape(), raw) {
                Ok(raw) => {
                    named.push(Named { name, raw, source: Source::Given });
                    continue;
                }
                Err(problem) => (path.clone(), problem),
            },
        };
        errors.push(ConfigError { subject, value: None, source: Some(Source::Given), problem });
    }
    named
}

/// The value in the form that its key wants.
fn fitted(shape: Shape, raw: &Raw) -> Result<Raw, String> {
    let found = match raw {
        Raw::Text(text) => return Raw::from_texts(shape, std::slice::from_ref(text)),
        Raw::List(_) if shape == Shape::List => return Ok(raw.clone()),
        Raw::Map(_) if shape == Shape::Map => return Ok(raw.clone()),
        Raw::List(_) => "a list",
        Raw::Map(_) => "a map",
    };
    Err(format!("must be {}, not {found}", shape.noun()))
}
