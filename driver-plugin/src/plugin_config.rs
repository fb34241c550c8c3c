//! The `config` block of the driver's `plugin` block in the agent's configuration: its keys, its schema, its values.

use std::path::PathBuf;
use std::time::Duration;

use nomad_plugin_proto::hclspec::Spec;
use pg_leader_proxy::config;

use crate::msgpack::{self, Block};

/// A key of the block. All of them are strings.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The value of a block that does not set it.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

const STATE_DIR: Key = Key {
    name: "state_dir",
    default: "/run/nomad-driver-pg-leader-proxy",
    doc: "The directory for the control sockets and exit records of the tasks' supervisors: an absolute path, which \
          a restart of the machine may empty, and in which nobody but root can write.",
};

const KEEP_LISTENING: Key = Key {
    name: "keep_listening",
    default: "10s",
    doc: "How long the listening sockets of a task stay open after it has exited, so that clients wait for the next \
          task of the same job instead of being refused.",
};

/// Every key of the block.
pub const KEYS: [Key; 2] = [STATE_DIR, KEEP_LISTENING];

/// With more, clients of a task that does not come back would wait in vain.
const KEEP_LISTENING_MAX: Duration = Duration::from_secs(600);

/// The values of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginConfig {
    /// Holds a directory for each supervisor.
    pub state_dir: PathBuf,
    /// How long listening sockets outlive the task that used them.
    pub keep_listening: Duration,
}

impl Default for PluginConfig {
    fn default() -> Self {
        Self { state_dir: PathBuf::from(STATE_DIR.default), keep_listening: Duration::from_secs(10) }
    }
}

/// A value of the block that is invalid. The agent shows this text and does not start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value:?} (the agent's plugin block): {problem}")]
pub struct PluginConfigError {
    key: &'static str,
    value: String,
    problem: String,
}

impl PluginConfig {
    /// Reads the block. Only the form of the values is checked: whether the host suits them is part of the
    /// fingerprint, since an error here would keep the whole agent from starting.
    ///
    /// # Errors
    /// When a value is invalid.
    pub fn read(block: &Block) -> Result<Self, PluginConfigError> {
        let default = Self::default();
        Ok(Self {
            state_dir: value(block, STATE_DIR, directory)?.unwrap_or(default.state_dir),
            keep_listening: value(block, KEEP_LISTENING, keep_listening)?.unwrap_or(default.keep_listening),
        })
    }
}

/// The schema of the block.
#[must_use]
pub fn schema() -> Spec {
    Spec::object(KEYS.iter().map(|key| (key.name.to_owned(), Spec::attr(key.name, "string"))))
}

fn value<T>(
    block: &Block,
    key: Key,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, PluginConfigError> {
    let Some(value) = block.get(key.name).and_then(msgpack::text) else { return Ok(None) };
    parse(&value).map(Some).map_err(|problem| PluginConfigError { key: key.name, value, problem })
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(format!("must be an absolute path, such as {:?}", STATE_DIR.default));
    }
    Ok(path)
}

fn keep_listening(text: &str) -> Result<Duration, String> {
    config::duration(text, Duration::ZERO, KEEP_LISTENING_MAX)
}

#[cfg(test)]
mod tests {
    use nomad_plugin_proto::hclspec::spec;

    use super::*;

    fn decode(bytes: &[u8]) -> Block {
        msgpack::decode(bytes).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<PluginConfig, PluginConfigError> {
        PluginConfig::read(&decode(bytes))
    }

    #[test]
    fn the_table_states_the_defaults() {
        let PluginConfig { state_dir, keep_listening: default } = PluginConfig::default();
        assert_eq!(directory(STATE_DIR.default), Ok(state_dir));
        assert_eq!(keep_listening(KEEP_LISTENING.default), Ok(default));
    }

    #[test]
    fn missing_and_null_values_have_defaults() {
        assert_eq!(read(b""), Ok(PluginConfig::default()));
        assert_eq!(read(b"\x82\xaekeep_listening\xc0\xa9state_dir\xc0"), Ok(PluginConfig::default()));
    }

    #[test]
    fn values_are_read() {
        let config = read(b"\x82\xaekeep_listening\xa23s\xa9state_dir\xa2/x").unwrap();
        assert_eq!(config, PluginConfig { state_dir: "/x".into(), keep_listening: Duration::from_secs(3) });
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
    fn the_schema_has_every_key_of_the_table_as_a_string() {
        let Some(spec::Block::Object(object)) = schema().block else { panic!("not an object") };
        assert_eq!(object.attributes.len(), KEYS.len());
        for key in KEYS {
            assert_eq!(object.attributes.get(key.name), Some(&Spec::attr(key.name, "string")));
            assert!(key.doc.ends_with('.'), "{}", key.doc);
        }
    }
}
