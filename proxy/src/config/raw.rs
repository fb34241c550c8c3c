//! Values as they were given: raw, with the name and the place of each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::keys::Shape;
use super::names::Name;
use super::source::Source;

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

/// A raw value, the name it was given by, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub raw: Raw,
    /// Where it came from.
    pub source: Source,
    /// The path by which it was given, which may be an old name of its key.
    pub path: &'static str,
}

/// A value under one of the names of its key, as one origin gives it.
pub(super) struct Named {
    pub(super) name: Name,
    pub(super) raw: Raw,
    pub(super) source: Source,
}

impl Named {
    /// A setting as flags and variables give it; what cannot be one is added to `errors`.
    pub(super) fn from_texts(
        name: Name,
        texts: &[String],
        source: Source,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        match Raw::from_texts(name.key.kind.shape(), texts) {
            Ok(raw) => Some(Self { name, raw, source }),
            Err(problem) => {
                let (subject, value) = (name.key.path.to_owned(), Some(texts.join(",")));
                errors.push(ConfigError { subject, value, source: Some(source), problem });
                None
            }
        }
    }
}
