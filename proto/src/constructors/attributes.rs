//! Attributes of a node.

use crate::structs::{Attribute, attribute::Value};

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self { value: Some(Value::StringVal(text.to_owned())), unit: String::new() }
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self { value: Some(Value::StringVal(text)), unit: String::new() }
    }
}

impl From<bool> for Attribute {
    fn from(value: bool) -> Self {
        Self { value: Some(Value::BoolVal(value)), unit: String::new() }
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self { value: Some(Value::IntVal(number)), unit: String::new() }
    }
}
