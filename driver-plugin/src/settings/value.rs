//! Values as Nomad encodes them: go-cty's MessagePack, read with all its freedom.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A value, as far as a configuration tells values apart: numbers come as integers, floats or texts, booleans as
/// booleans or texts, texts as texts or bytes. The key says what a text must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not given. Nomad sends every key of the schema, also the ones that nobody gave.
    Nil,
    /// A text, a number or a boolean.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A map, in its own order.
    Map(Vec<(String, Self)>),
}

/// Why bytes are no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They are no MessagePack, or not of a kind that Nomad makes.
    #[error("the configuration from Nomad cannot be read: {0}")]
    Encoding(#[from] rmp_serde::decode::Error),
    /// They are a single value, where keys are wanted.
    #[error("the configuration from Nomad cannot be read: it has no keys")]
    NoKeys,
    /// Something follows the configuration.
    #[error("the configuration from Nomad cannot be read: {0} bytes follow its end")]
    TooLong(usize),
}

impl Value {
    /// The configuration in `bytes`; a map, or nil for no bytes at all.
    ///
    /// # Errors
    /// When the bytes are no configuration.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.is_empty() {
            return Ok(Self::Nil);
        }
        let mut rest = bytes;
        let root = Self::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))?;
        if !rest.is_empty() {
            return Err(Unreadable::TooLong(rest.len()));
        }
        if root.is_block() { Ok(root) } else { Err(Unreadable::NoKeys) }
    }

    /// What is in a block. HCL1 writes a block as a list of one map, so that is one, too.
    #[must_use]
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            Self::List(items) => match items.as_slice() {
                [Self::Map(entries)] => entries,
                _ => &[],
            },
            Self::Nil | Self::Text(_) => &[],
        }
    }

    /// The entry of that name.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(entry, _)| entry == name).map(|(_, value)| value)
    }

    /// The text, of what is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nil | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// Whether it can be the body of a block, also of one that nobody gave.
    #[must_use]
    pub fn is_block(&self) -> bool {
        match self {
            Self::Nil | Self::Map(_) => true,
            Self::List(items) => matches!(items.as_slice(), [] | [Self::Map(_)]),
            Self::Text(_) => false,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a configuration")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Text(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
        let text = std::str::from_utf8(bytes).map_err(|_| E::custom("a text is not UTF-8"))?;
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((name, value)) = entries.next_entry::<Value, Value>()? {
            match name {
                Value::Text(name) => map.push((name, value)),
                Value::Nil | Value::List(_) | Value::Map(_) => {
                    return Err(A::Error::custom("a key is not a text"));
                }
            }
        }
        Ok(Value::Map(map))
    }
}
