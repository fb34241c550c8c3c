//! Reads single settings, and collects what is wrong with them instead of stopping at the first.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::super::checked::{PemFile, Secret, without_newline};
use super::super::environment::not_unicode;
use super::super::error::ConfigError;
use super::super::keys::{Key, Kind};
use super::super::raw::{Raw, Setting};
use super::super::renamed::Renamed;
use super::super::settings::{Origins, Settings};
use super::super::source::Source;
use super::super::values;
use crate::files::FileReader;
use crate::networks::Networks;

/// The value cannot be used. The error has been recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// The settings, and the errors found so far.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    origins: &'a Origins,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(settings: &'a Settings, origins: &'a Origins, errors: Vec<ConfigError>) -> Self {
        Self { settings, origins, errors }
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }

    /// The old names that were used.
    pub(super) fn renamed(&self) -> Vec<Renamed> {
        self.settings.renamed().to_vec()
    }

    /// Whether somebody gave a value for this key.
    pub(super) fn is_given(&self, path: &str) -> bool {
        self.settings.given(path).is_some()
    }

    /// Adds an error about the value at `path`.
    pub(super) fn fault(&mut self, path: &str, problem: String) -> Invalid {
        let setting = self.settings.find(path);
        self.errors.push(ConfigError {
            subject: setting.map_or(path, |setting| setting.path).to_owned(),
            value: setting.map(|setting| setting.raw.to_string()),
            source: setting.map(|setting| setting.source.clone()),
            problem,
        });
        Invalid
    }

    /// Adds an error about the value at `path`, without showing the value.
    pub(super) fn fault_unshown(&mut self, path: &str, problem: String) -> Invalid {
        let setting = self.settings.find(path);
        self.errors.push(ConfigError {
            subject: setting.map_or(path, |setting| setting.path).to_owned(),
            value: None,
            source: setting.map(|setting| setting.source.clone()),
            problem,
        });
        Invalid
    }

    /// Adds the error that this key has no value.
    pub(super) fn missing(&mut self, path: &str, why: &str) -> Invalid {
        let (flag, variable) =
            Key::find(path).map_or_else(Default::default, |key| (key.flag(), key.variable()));
        // A job has neither a file nor flags.
        let where_to = match self.origins.given.is_empty() {
            true => format!("in the file, by `--{flag}` or by `{variable}`"),
            false => format!("in {} or by `{variable}`", Source::Given),
        };
        let problem = format!("{why}; set it {where_to}");
        self.errors.push(ConfigError { subject: path.to_owned(), value: None, source: None, problem });
        Invalid
    }

    /// What `parse` makes of the text at `path`, if there is one.
    pub(super) fn optional<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Invalid> {
        match self.settings.find(path) {
            None => Ok(None),
            Some(Setting { raw: Raw::Text(text), .. }) => {
                parse(text).map(Some).map_err(|problem| self.fault(path, problem))
            }
            Some(Setting { raw: Raw::List(_) | Raw::Map(_), .. }) => {
                Err(self.fault(path, "must be one value".to_owned()))
            }
        }
    }

    fn needed<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Invalid> {
        match self.optional(path, parse)? {
            Some(value) => Ok(value),
            None => Err(self.missing(path, "is missing")),
        }
    }

    pub(super) fn text(&mut self, path: &str) -> Result<String, Invalid> {
        self.needed(path, filled)
    }

    pub(super) fn optional_text(&mut self, path: &str) -> Result<Option<String>, Invalid> {
        self.optional(path, filled)
    }

    pub(super) fn duration(&mut self, path: &str) -> Result<Duration, Invalid> {
        self.optional_duration(path)?.ok_or_else(|| self.missing(path, "is missing"))
    }

    pub(super) fn optional_duration(&mut self, path: &str) -> Result<Option<Duration>, Invalid> {
        self.optional(path, |text| match kind(path) {
            Some(Kind::Duration(least, most)) => values::duration(text, least, most),
            _ => values::duration(text, Duration::ZERO, Duration::MAX),
        })
    }

    pub(super) fn count(&mut self, path: &str) -> Result<usize, Invalid> {
        self.optional_count(path)?.ok_or_else(|| self.missing(path, "is missing"))
    }

    pub(super) fn optional_count(&mut self, path: &str) -> Result<Option<usize>, Invalid> {
        self.optional(path, |text| {
            let (least, most) = match kind(path) {
                Some(Kind::Count(least, most)) => (least, most),
                _ => (0, u64::from(u32::MAX)),
            };
            let count = values::count(text, least, most)?;
            usize::try_from(count).map_err(|error| error.to_string())
        })
    }

    pub(super) fn optional_number(&mut self, path: &str) -> Result<Option<u32>, Invalid> {
        // The bounds of the table are below those of the type.
        Ok(self.optional_count(path)?.and_then(|count| u32::try_from(count).ok()))
    }

    pub(super) fn size(&mut self, path: &str) -> Result<Option<u64>, Invalid> {
        self.optional(path, values::size)
    }

    pub(super) fn boolean(&mut self, path: &str) -> Result<bool, Invalid> {
        self.needed(path, values::boolean)
    }

    /// What the chosen word means. The words are those that the table of keys has.
    pub(super) fn choice<T: Copy>(&mut self, path: &str, meanings: &[(&str, T)]) -> Result<T, Invalid> {
        let words: Vec<&str> = meanings.iter().map(|(word, _)| *word).collect();
        self.needed(path, |text| values::choice(text, &words).map(|index| meanings[index].1))
    }

    /// What files are read with.
    pub(super) const fn files(&self) -> &FileReader {
        &self.origins.files
    }

    /// What a file holds.
    pub(super) fn pem(&mut self, path: &str) -> Result<Option<PemFile>, Invalid> {
        let files = &self.origins.files;
        self.optional(path, |text| PemFile::read(files, Path::new(text)).map_err(|error| cannot_read(&error)))
    }

    /// What `parse` makes of each item of the list at `path`; without a list, of none.
    pub(super) fn list<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Invalid> {
        let Some(Setting { raw: Raw::List(items), source, path: subject }) = self.settings.find(path) else {
            return Ok(Vec::new());
        };
        let mut values = Vec::new();
        let mut invalid = None;
        for item in items {
            match parse(item) {
                Ok(value) => values.push(value),
                Err(problem) => {
                    self.errors.push(ConfigError {
                        subject: (*subject).to_owned(),
                        value: (!item.contains('@')).then(|| item.clone()),
                        source: Some(source.clone()),
                        problem,
                    });
                    invalid = Some(Invalid);
                }
            }
        }
        invalid.map_or(Ok(values), Err)
    }

    /// The networks of the list at `path`. A list of none is an error, because it could mean everybody or nobody.
    pub(super) fn networks(&mut self, path: &str) -> Result<Option<Networks>, Invalid> {
        let networks = self.list(path, values::network)?;
        match (self.is_given(path), networks.is_empty()) {
            (true, true) => Err(self.fault(path, "names no network; name one, or remove it".to_owned())),
            (true, false) => Ok(Some(networks.into())),
            (false, _) => Ok(None),
        }
    }

    /// What `parse` makes of both sides of each pair of the map at `path`.
    pub(super) fn map<T: Ord>(
        &mut self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<BTreeMap<T, T>, Invalid> {
        let Some(Setting { raw: Raw::Map(pairs), .. }) = self.settings.find(path) else {
            return Ok(BTreeMap::new());
        };
        pairs
            .iter()
            .map(|(from, to)| Ok((parse(from)?, parse(to)?)))
            .collect::<Result<_, String>>()
            .map_err(|problem| self.fault(path, problem))
    }

    /// The secret in the file that is named at `path`.
    pub(super) fn secret(&mut self, path: &str) -> Result<Option<Secret>, Invalid> {
        let files = &self.origins.files;
        self.optional(path, |file| Secret::read(files, Path::new(file)))
    }

    /// The password of a block, from its file or its variable.
    pub(super) fn password(&mut self, block: &str) -> Result<Option<Secret>, Invalid> {
        let (in_file, in_variable) = (format!("{block}.password_file"), format!("{block}.password_env"));
        if self.is_given(&in_file) {
            if self.is_given(&in_variable) {
                return Err(
                    self.fault(&in_variable, format!("`{in_file}` is given as well; keep one of them"))
                );
            }
            return self.secret(&in_file);
        }
        let Some(variable) = self.optional_text(&in_variable)? else { return Ok(None) };
        if !is_variable_name(&variable) {
            // Probably the password itself, which must not be shown.
            let problem =
                "is not the name of an environment variable; the password itself does not stand here";
            return Err(self.fault_unshown(&in_variable, problem.to_owned()));
        }
        match self.origins.environment.get(&variable) {
            Some(text) => Ok(Some(Secret::new(without_newline(text).to_owned()))),
            None if self.origins.not_unicode.contains(&variable) => {
                Err(self.fault(&in_variable, not_unicode(&variable)))
            }
            None if self.is_given(&in_variable) => {
                Err(self.fault(&in_variable, "there is no such environment variable".to_owned()))
            }
            None => Ok(None),
        }
    }
}

fn cannot_read(error: &io::Error) -> String {
    format!("the file cannot be read: {error}")
}

fn kind(path: &str) -> Option<Kind> {
    Key::find(path).map(|key| key.kind)
}

fn is_variable_name(text: &str) -> bool {
    let named = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    named && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn filled(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}
