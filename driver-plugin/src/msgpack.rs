//! Configurations as Nomad encodes them: go-cty's MessagePack, in all forms that it uses for the same value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A decoded value. Nomad sends a number as integer, float or string and a string as string or bytes; here all of these are `Text`,
/// and the key says what a text has to look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not set. Nomad sends every key of the schema.
    Nil,
    /// A string, a number or a boolean.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A map, in its original order.
    Map(Vec<(String, Self)>),
}

/// Why bytes are not a configuration.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They are not MessagePack, or contain a type that Nomad does not use.
    #[error("the configuration from Nomad cannot be decoded: {0}")]
    Encoding(#[from] rmp_serde::decode::Error),
    /// They are a single value without keys.
    #[error("the configuration from Nomad cannot be decoded: it has no keys")]
    NoKeys,
    /// They continue after the configuration.
    #[error("the configuration from Nomad cannot be decoded: {0} bytes follow its end")]
    TrailingBytes(usize),
}

impl Value {
    /// Decodes a configuration: a map, or nil for no bytes at all.
    ///
    /// # Errors
    /// When the bytes are not a configuration.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::Nil);
        }
        let mut rest = bytes;
        let root = Self::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))?;
        if !rest.is_empty() {
            return Err(DecodeError::TrailingBytes(rest.len()));
        }
        if root.is_block() { Ok(root) } else { Err(DecodeError::NoKeys) }
    }

    /// The content of a block. HCL1 encodes a block as a list of one map.
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

    /// The value of that name in a block.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(entry, _)| entry == name).map(|(_, value)| value)
    }

    /// The text of a `Text`.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nil | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// Whether this can be a block, or the value of a block that is not there.
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
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
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
        let text = std::str::from_utf8(bytes).map_err(|_| E::custom("a string is not UTF-8"))?;
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
                    return Err(A::Error::custom("a key is not a string"));
                }
            }
        }
        Ok(Value::Map(map))
    }
}
