//! Configurations as Nomad encodes them: values of go-cty in MessagePack.

use serde::Deserialize as _;
use serde_json::{Map, Value};

/// The content of a block: values by name. Nomad sends every key of the schema, and null for keys that are not set.
pub type Block = Map<String, Value>;

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

/// Decodes a configuration. No bytes at all are an empty one.
///
/// # Errors
/// When the bytes are not a configuration.
pub fn decode(bytes: &[u8]) -> Result<Block, DecodeError> {
    if bytes.is_empty() {
        return Ok(Block::new());
    }
    let mut rest = bytes;
    let root = Value::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))?;
    if !rest.is_empty() {
        return Err(DecodeError::TrailingBytes(rest.len()));
    }
    block(root).ok_or(DecodeError::NoKeys)
}

/// The content of a block, which is empty for a block that is not there. HCL1 encodes a block as a list of one map.
#[must_use]
pub fn block(value: Value) -> Option<Block> {
    match value {
        Value::Null => Some(Block::new()),
        Value::Object(block) => Some(block),
        Value::Array(mut items) => match (items.pop(), items.is_empty()) {
            (None, _) => Some(Block::new()),
            (Some(Value::Object(block)), true) => Some(block),
            _ => None,
        },
        Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The text of a string, a number or a boolean. go-cty encodes a number as integer, float or string; the key says
/// which texts it accepts.
#[must_use]
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) if number.is_f64() => number.as_f64().map(|number| number.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
