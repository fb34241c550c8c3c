//! The configuration file: TOML in, raw settings with their lines out.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::keys::{Block, Kind, Shape};
use super::names::Name;
use super::raw::{Named, Raw};
use super::source::Source;
use super::unknown;
use crate::files::FileReader;

/// The settings of the file at `path`; what cannot be one is added to `errors`.
pub(super) fn read(files: &FileReader, path: &Path, errors: &mut Vec<ConfigError>) -> Vec<Named> {
    match files.read_to_string(path) {
        Ok(text) => parse(&path.display().to_string(), &text, errors),
        Err(error) => {
            errors.push(ConfigError {
                subject: path.display().to_string(),
                value: None,
                source: None,
                problem: format!("the configuration file cannot be read: {error}"),
            });
            Vec::new()
        }
    }
}

/// The settings in the text of the file `name`; what cannot be one is added to `errors`.
pub(super) fn parse(name: &str, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Named> {
    Reading { name: Arc::from(name), text, errors }.document()
}

struct Reading<'a> {
    name: Arc<str>,
    text: &'a str,
    errors: &'a mut Vec<ConfigError>,
}

impl Reading<'_> {
    fn document(&mut self) -> Vec<Named> {
        let document = match DeTable::parse(self.text) {
            Ok(document) => document.into_inner(),
            Err(error) => {
                let source = error.span().map(|span| self.source(span.start));
                let problem = error.message().trim().replace('\n', "; ");
                self.errors.push(ConfigError { subject: "syntax".to_owned(), value: None, source, problem });
                return Vec::new();
            }
        };
        let mut named = Vec::new();
        for (name, value) in in_order(&document) {
            self.block(name, value, &mut named);
        }
        named
    }

    fn block(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        named: &mut Vec<Named>,
    ) {
        let word: &str = name.get_ref();
        let at = name.span().start;
        match (Block::find(word), value.get_ref()) {
            (Some(_), DeValue::Table(table)) => {
                for (key, value) in in_order(table) {
                    self.key(&format!("{word}.{}", key.get_ref()), key.span().start, value, named);
                }
            }
            (Some(_), _) => {
                self.fault(
                    word,
                    at,
                    format!("is a block: write `[{word}]`, and its keys on the lines below"),
                );
            }
            (None, DeValue::Table(_)) => self.unknown(unknown::block(word), at),
            (None, _) => self.unknown(unknown::key(word), at),
        }
    }

    fn key(&mut self, path: &str, at: usize, value: &Spanned<DeValue<'_>>, named: &mut Vec<Named>) {
        let Some(name) = Name::find(path) else { return self.unknown(unknown::key(path), at) };
        match raw(name.key.kind, value.get_ref()) {
            Ok(raw) => named.push(Named { name, raw, source: self.source(at) }),
            Err(problem) => self.fault(path, at, problem),
        }
    }

    fn unknown(&mut self, (subject, problem): (String, String), at: usize) {
        self.fault(&subject, at, problem);
    }

    fn fault(&mut self, subject: &str, at: usize, problem: String) {
        let source = Some(self.source(at));
        self.errors.push(ConfigError { subject: subject.to_owned(), value: None, source, problem });
    }

    fn source(&self, at: usize) -> Source {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        Source::File(Arc::clone(&self.name), line)
    }
}

type Entry<'a, 'i> = (&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

/// The entries as they follow each other in the file, so that faults are told from top to bottom.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Entry<'a, 'i>> {
    let mut entries: Vec<Entry<'a, 'i>> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn raw(kind: Kind, value: &DeValue<'_>) -> Result<Raw, String> {
    match (kind.shape(), value) {
        (Shape::List | Shape::Map, DeValue::String(text)) => {
            Raw::from_texts(kind.shape(), &[text.clone().into_owned()])
        }
        (Shape::Text | Shape::Number | Shape::Boolean, DeValue::String(text)) => {
            Ok(Raw::Text(text.clone().into_owned()))
        }
        (Shape::Number, DeValue::Integer(number)) => Ok(Raw::Text(number.to_string())),
        (Shape::Text, DeValue::Integer(number)) if matches!(kind, Kind::Duration(..) | Kind::Size) => {
            Ok(Raw::Text(number.to_string()))
        }
        (Shape::Boolean, DeValue::Boolean(is)) => Ok(Raw::Text(is.to_string())),
        (Shape::List, DeValue::Array(items)) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned).ok_or("must be a list of strings"))
            .collect::<Result<_, _>>()
            .map(Raw::List)
            .map_err(str::to_owned),
        (Shape::Map, DeValue::Table(table)) => in_order(table)
            .into_iter()
            .map(|(from, to)| {
                let to = to.get_ref().as_str().ok_or("must be a table of strings")?;
                Ok((from.get_ref().clone().into_owned(), to.to_owned()))
            })
            .collect::<Result<_, String>>()
            .map(Raw::Map),
        (shape, _) => Err(format!("must be {}, not {}", shape.noun(), article(value.type_str()))),
    }
}

fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}
