//! Settings as they were given: path, raw value, and where each came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::file;
use super::given::{self, Given};
use super::keys::{Key, Shape};
use super::nearest;
use super::table::{BLOCKS, KEYS};

/// The variable that names the configuration file.
pub const FILE_VARIABLE: &str = "PGLP_CONFIG";

/// Everything that settings come from. A flag goes before a variable, a variable before the file or the job, these
/// before the default.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// What an orchestrator's job said, which takes the place of the file; it goes before a file that is there as well.
    pub given: Vec<Given>,
    /// The flags that were given: the path of the key, and what followed each occurrence.
    pub flags: Vec<(&'static str, Vec<String>)>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave it.
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

/// A value as it was given, its form fitting its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    /// One value.
    Text(String),
    /// A list.
    List(Vec<String>),
    /// A map, in the order in which it was given.
    Map(Vec<(String, String)>),
}

impl Raw {
    /// A value from texts, as flags and variables give it: lists are separated by commas, pairs joined by `=`.
    pub(super) fn from_texts(shape: Shape, texts: &[String]) -> Result<Self, String> {
        match shape {
            Shape::Text | Shape::Number | Shape::Boolean => {
                Ok(Self::Text(texts.last().cloned().unwrap_or_default()))
            }
            Shape::List => Ok(Self::List(split(texts).map(str::to_owned).collect())),
            Shape::Map => split(texts)
                .map(|pair| {
                    let (from, to) = pair.split_once('=').ok_or("each entry is FROM=TO")?;
                    Ok((from.trim().to_owned(), to.trim().to_owned()))
                })
                .collect::<Result<_, String>>()
                .map(Self::Map),
        }
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(list) => f.write_str(&list.join(",")),
            Self::Map(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(from, to)| format!("{from}={to}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

fn split(texts: &[String]) -> impl Iterator<Item = &str> {
    texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

/// A raw value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub raw: Raw,
    /// Where it came from.
    pub source: Source,
}

/// Every setting that has a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    /// Collects the settings from everywhere; what cannot be one is added to `errors`.
    pub fn gather(origins: &Origins, errors: &mut Vec<ConfigError>) -> Self {
        let mut settings = Self::default();
        for key in KEYS {
            if let Some(default) = key.default {
                settings.take(key, &[default.to_owned()], Source::Default, errors);
            }
        }
        if let Some(path) = &origins.file {
            for (key, setting) in file::read(path, errors) {
                settings.0.insert(key.path, setting);
            }
        }
        for (key, setting) in given::read(&origins.given, errors) {
            settings.0.insert(key.path, setting);
        }
        for key in KEYS {
            let variable = key.variable();
            // A template that has nothing to fill in leaves an empty variable: it means "not set".
            if let Some(text) = origins.environment.get(&variable).filter(|text| !text.trim().is_empty()) {
                settings.take(key, std::slice::from_ref(text), Source::Variable(variable), errors);
            }
        }
        for (path, texts) in &origins.flags {
            if let Some(key) = Key::find(path) {
                settings.take(key, texts, Source::Flag(key.flag()), errors);
            }
        }
        settings.refuse_unknown_variables(&origins.environment, errors);
        settings
    }

    /// The setting at `path`.
    pub fn find(&self, path: &str) -> Option<&Setting> {
        self.0.get(path)
    }

    /// The setting at `path`, if somebody gave it.
    pub fn given(&self, path: &str) -> Option<&Setting> {
        self.find(path).filter(|setting| setting.source != Source::Default)
    }

    fn take(&mut self, key: &'static Key, texts: &[String], source: Source, errors: &mut Vec<ConfigError>) {
        match Raw::from_texts(key.kind.shape(), texts) {
            Ok(raw) => {
                self.0.insert(key.path, Setting { raw, source });
            }
            Err(problem) => errors.push(ConfigError {
                subject: key.path.to_owned(),
                value: Some(texts.join(",")),
                source: Some(source),
                problem,
            }),
        }
    }

    /// A misspelt variable must not be passed over in silence. Only names that look like ours are judged, because
    /// orchestrators add variables of their own, such as `PGLP_SERVICE_HOST`.
    fn refuse_unknown_variables(
        &self,
        environment: &BTreeMap<String, String>,
        errors: &mut Vec<ConfigError>,
    ) {
        let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
        let passwords = KEYS.iter().filter(|key| key.name() == "password_env").flat_map(|key| {
            let given = self.find(key.path).map(|setting| setting.raw.to_string());
            given.into_iter().chain(key.default.map(str::to_owned))
        });
        let passwords: Vec<String> = passwords.collect();
        for name in environment.keys().filter(|name| name.starts_with("PGLP_")) {
            if known.contains(name) || passwords.contains(name) || name == FILE_VARIABLE {
                continue;
            }
            let in_block =
                BLOCKS.iter().any(|block| name.starts_with(&format!("PGLP_{}_", block.name.to_uppercase())));
            let near = nearest::variable(name, &known);
            if in_block || near.is_some() {
                let hint = near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
                errors.push(ConfigError {
                    subject: format!("environment variable `{name}`"),
                    value: None,
                    source: None,
                    problem: format!("names no setting{hint}"),
                });
            }
        }
    }
}
