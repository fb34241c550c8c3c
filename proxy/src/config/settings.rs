//! Every setting that has a value, gathered from defaults, file or job, variables and flags.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::environment;
use super::error::ConfigError;
use super::file;
use super::given::{self, Given};
use super::keys::Key;
use super::names::{Form, Name};
use super::raw::{Named, Raw, Setting};
use super::renamed::Renamed;
use super::source::Source;
use super::table::KEYS;
use crate::files::FileReader;

/// Everything that settings come from. A flag goes before a variable, a variable before the file or the job, these
/// before the default.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// The settings of an orchestrator's job, which usually take the place of the file and override it if there is one.
    pub given: Vec<Given>,
    /// The flags that were given: the path of the key, and what followed each occurrence.
    pub flags: Vec<(&'static str, Vec<String>)>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The variables of the environment whose value is not Unicode, which no setting can be.
    pub not_unicode: BTreeSet<String>,
    /// What the file, and those that the settings name, are read with.
    pub files: FileReader,
}

/// Every setting that has a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    found: BTreeMap<&'static str, Setting>,
    renamed: Vec<Renamed>,
}

impl Settings {
    /// Collects the settings from everywhere; what cannot be one is added to `errors`.
    pub fn gather(origins: &Origins, errors: &mut Vec<ConfigError>) -> Self {
        let file = origins.file.as_ref().map(|path| file::read(&origins.files, path, errors));
        Self::with_file(file.unwrap_or_default(), origins, errors)
    }

    /// The same, where the file has been read.
    pub(super) fn with_file(file: Vec<Named>, origins: &Origins, errors: &mut Vec<ConfigError>) -> Self {
        let mut settings = Self::default();
        settings.defaults();
        settings.take(file, errors);
        settings.take(given::read(&origins.given, errors), errors);
        settings.take(environment::read(origins, errors), errors);
        settings.take(flags(&origins.flags, errors), errors);
        environment::refuse_unknown(&origins.environment, &settings.password_variables(), errors);
        settings
    }

    /// The setting at `path`.
    pub fn find(&self, path: &str) -> Option<&Setting> {
        self.found.get(path)
    }

    /// The setting at `path`, if somebody gave it.
    pub fn given(&self, path: &str) -> Option<&Setting> {
        self.find(path).filter(|setting| setting.source != Source::Default)
    }

    /// The old names that were used.
    pub fn renamed(&self) -> &[Renamed] {
        &self.renamed
    }

    /// The variables that hold passwords, as the settings name them.
    fn password_variables(&self) -> Vec<String> {
        let keys = KEYS.iter().filter(|key| key.name() == "password_env");
        let named = keys.flat_map(|key| {
            let given = self.find(key.path).map(|setting| setting.raw.to_string());
            given.into_iter().chain(key.default.map(str::to_owned))
        });
        named.collect()
    }

    fn defaults(&mut self) {
        for key in KEYS {
            let raw = key.default.and_then(|text| Raw::from_texts(key.kind.shape(), &[text.to_owned()]).ok());
            if let Some(raw) = raw {
                let setting = Setting { raw, source: Source::Default, path: key.path };
                self.found.insert(key.path, setting);
            }
        }
    }

    /// Puts what one origin gives in front of what was found before. Two names of one key in the same origin contradict
    /// each other; in two origins the usual order decides.
    fn take(&mut self, named: Vec<Named>, errors: &mut Vec<ConfigError>) {
        let mut taken: BTreeMap<&'static str, (Name, Source)> = BTreeMap::new();
        for Named { name, raw, source } in named {
            let key = name.key;
            if let Some((other, at)) = taken.get(key.path).filter(|(other, _)| other.path != name.path) {
                errors.push(twice((other, at), (&name, &source)));
                continue;
            }
            if name.form == Form::Old {
                self.renamed.push(Renamed::name(name, &source));
            }
            let raw = match new_word(key, &raw) {
                None => raw,
                Some(word) => {
                    self.renamed.push(Renamed::word(name, &raw, &source, word));
                    Raw::Text(word.to_owned())
                }
            };
            taken.insert(key.path, (name, source.clone()));
            self.found.insert(key.path, Setting { raw, source, path: name.path });
        }
    }
}

/// The present word, if the value is a word of an earlier version.
fn new_word(key: &Key, raw: &Raw) -> Option<&'static str> {
    let Raw::Text(text) = raw else { return None };
    key.old_words.iter().find(|(old, _)| old == text).map(|(_, new)| *new)
}

fn twice((one, at): (&Name, &Source), (other, source): (&Name, &Source)) -> ConfigError {
    ConfigError {
        subject: source.spelling(other),
        value: None,
        source: source.place(),
        problem: format!(
            "is the same setting as `{}`{}; keep `{}` alone",
            at.spelling(one),
            at.place().map_or_else(String::new, |place| format!(" ({place})")),
            at.spelling(&Name::of(one.key)),
        ),
    }
}

/// The settings that the flags give.
fn flags(flags: &[(&'static str, Vec<String>)], errors: &mut Vec<ConfigError>) -> Vec<Named> {
    let names = flags.iter().filter_map(|(path, texts)| Some((Name::find(path)?, texts)));
    names
        .filter_map(|(name, texts)| Named::from_texts(name, texts, Source::Flag(name.flag()), errors))
        .collect()
}
