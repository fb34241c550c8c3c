//! Environment variables: those that are settings, and those that look like one and are none.

use std::collections::BTreeMap;

use super::elsewhere;
use super::error::ConfigError;
use super::keys::Key;
use super::names::Name;
use super::nearest;
use super::raw::Named;
use super::settings::Origins;
use super::source::Source;
use super::table::{BLOCKS, KEYS};

/// The variable that names the configuration file.
pub const FILE_VARIABLE: &str = "PGLP_CONFIG";

/// The settings that variables give; what cannot be one is added to `errors`.
pub(super) fn read(origins: &Origins, errors: &mut Vec<ConfigError>) -> Vec<Named> {
    let given = KEYS.iter().flat_map(Key::names).filter_map(|name| {
        let variable = name.variable();
        if origins.not_unicode.contains(&variable) {
            let (subject, problem) = (name.key.path.to_owned(), not_unicode(&variable));
            errors.push(ConfigError { subject, value: None, source: None, problem });
            return None;
        }
        // A template that has nothing to fill in leaves an empty variable: it means "not set".
        let text = origins.environment.get(&variable).filter(|text| !text.trim().is_empty())?;
        Named::from_texts(name, std::slice::from_ref(text), Source::Variable(variable), errors)
    });
    given.collect()
}

/// The problem with a variable whose value is not Unicode.
pub(super) fn not_unicode(variable: &str) -> String {
    format!("the value of the environment variable {variable} is not valid UTF-8")
}

/// A misspelt variable must not be ignored silently. Only names that look like ours are judged, because orchestrators
/// add variables of their own, such as `PGLP_SERVICE_HOST`. `passwords` names the variables that hold passwords.
pub(super) fn refuse_unknown(
    environment: &BTreeMap<String, String>,
    passwords: &[String],
    errors: &mut Vec<ConfigError>,
) {
    let known: Vec<String> = KEYS.iter().flat_map(Key::names).map(|name| Name::variable(&name)).collect();
    for name in environment.keys().filter(|name| name.starts_with("PGLP_")) {
        if known.contains(name) || passwords.contains(name) || name == FILE_VARIABLE {
            continue;
        }
        let near = nearest::variable(name, &known).map(|near| format!("did you mean `{near}`?"));
        let in_block = path(name);
        let elsewhere = || in_block.as_ref().and_then(|path| elsewhere::hint(path));
        if in_block.is_some() || near.is_some() {
            errors.push(ConfigError {
                subject: format!("unknown environment variable `{name}`"),
                value: None,
                source: None,
                problem: near.or_else(elsewhere).unwrap_or_else(|| "there is no such setting".to_owned()),
            });
        }
    }
}

/// The path that a variable stands for, if it begins with one of our blocks.
fn path(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix("PGLP_")?.to_lowercase();
    BLOCKS.iter().find_map(|block| {
        let name = rest.strip_prefix(block.name)?.strip_prefix('_')?;
        Some(format!("{}.{name}", block.name))
    })
}
