//! What the agent's `plugin` block can say: a small table of its own, its schema, and its values.

use std::path::PathBuf;
use std::time::Duration;

use nomad_plugin_proto::hclspec::Spec;

use crate::settings::Value;

/// One key of the agent's `plugin` block; all of them are texts.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its value when nobody gives one.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

const STATE_DIR: Key = Key {
    name: "state_dir",
    default: "/run/nomad-driver-pg-leader-proxy",
    doc: "Where each task's supervisor keeps its control socket and the task's exit; an absolute path, which a \
          restart of the machine may empty.",
};

const KEEP_LISTENING: Key = Key {
    name: "keep_listening",
    default: "10s",
    doc: "How long the listening sockets of a task stay open after it ended, so that clients wait for its \
          successor and are not refused.",
};

/// Every key of the agent's `plugin` block.
pub const KEYS: [Key; 2] = [STATE_DIR, KEEP_LISTENING];

/// Longer than this, clients of a task that does not come back would wait for nothing.
const KEEP_LISTENING_MAX: Duration = Duration::from_secs(600);

/// What the agent's `plugin` block said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Where supervisors keep what must be found again.
    pub state_dir: PathBuf,
    /// How long listening sockets outlive the relay that used them.
    pub keep_listening: Duration,
}

impl Default for Agent {
    fn default() -> Self {
        Self { state_dir: PathBuf::from(STATE_DIR.default), keep_listening: Duration::from_secs(10) }
    }
}

/// Why the agent's `plugin` block is refused. The agent does not start then, and shows this text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value:?} (the agent's plugin block): {problem}")]
pub struct Unfit {
    key: &'static str,
    value: String,
    problem: String,
}

impl Agent {
    /// What `config` says, with the defaults for what it does not say. Whether the host can live with it is not judged
    /// here: an error would keep the whole agent from starting.
    ///
    /// # Errors
    /// When a value cannot mean anything.
    pub fn read(config: &Value) -> Result<Self, Unfit> {
        let default = Self::default();
        Ok(Self {
            state_dir: given(config, STATE_DIR, directory)?.unwrap_or(default.state_dir),
            keep_listening: given(config, KEEP_LISTENING, duration)?.unwrap_or(default.keep_listening),
        })
    }
}

/// The schema of the agent's `plugin` block.
#[must_use]
pub fn schema() -> Spec {
    Spec::object(KEYS.iter().map(|key| (key.name.to_owned(), Spec::attr(key.name, "string"))))
}

fn given<T>(
    config: &Value,
    key: Key,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Unfit> {
    let Some(text) = config.entry(key.name).and_then(Value::text) else { return Ok(None) };
    parse(text).map(Some).map_err(|problem| Unfit { key: key.name, value: text.to_owned(), problem })
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(format!("must be an absolute path, such as {:?}", STATE_DIR.default));
    }
    Ok(path)
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= KEEP_LISTENING_MAX => Ok(duration),
        Ok(_) => Err(format!("too long; at most {}", humantime::format_duration(KEEP_LISTENING_MAX))),
        Err(_) => Err(format!("not a duration; write it like {:?}", KEEP_LISTENING.default)),
    }
}

#[cfg(test)]
mod tests {
    use nomad_plugin_proto::hclspec::spec;

    use super::*;

    fn value(bytes: &[u8]) -> Value {
        Value::read(bytes).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Agent, Unfit> {
        Agent::read(&value(bytes))
    }

    #[test]
    fn the_table_says_what_the_default_is() {
        let Agent { state_dir, keep_listening } = Agent::default();
        assert_eq!(directory(STATE_DIR.default), Ok(state_dir));
        assert_eq!(duration(KEEP_LISTENING.default), Ok(keep_listening));
    }

    #[test]
    fn nothing_and_nil_mean_the_default() {
        assert_eq!(read(b""), Ok(Agent::default()));
        assert_eq!(read(b"\x82\xaekeep_listening\xc0\xa9state_dir\xc0"), Ok(Agent::default()));
    }

    #[test]
    fn what_is_said_holds() {
        let agent = read(b"\x82\xaekeep_listening\xa23s\xa9state_dir\xc4\x02/x").unwrap();
        assert_eq!(agent, Agent { state_dir: "/x".into(), keep_listening: Duration::from_secs(3) });
    }

    #[test]
    fn an_error_names_key_and_value() {
        let soon = read(b"\x81\xaekeep_listening\xa4soon").unwrap_err().to_string();
        assert!(soon.starts_with("keep_listening = \"soon\" (the agent's plugin block): "), "{soon}");
        let long = read(b"\x81\xaekeep_listening\xa21h").unwrap_err().to_string();
        assert!(long.contains("at most 10m"), "{long}");
        let here = read(b"\x81\xa9state_dir\xa1x").unwrap_err().to_string();
        assert!(here.contains("state_dir = \"x\"") && here.contains("absolute"), "{here}");
    }

    #[test]
    fn the_schema_has_every_key_of_the_table_as_a_text() {
        let Some(spec::Block::Object(object)) = schema().block else { panic!("not an object") };
        assert_eq!(object.attributes.len(), KEYS.len());
        for key in KEYS {
            assert_eq!(object.attributes.get(key.name), Some(&Spec::attr(key.name, "string")));
            assert!(key.doc.ends_with('.'), "{}", key.doc);
        }
    }
}
