//! JSON that operators write inside a text, in a form that hashes.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Number;

/// Any JSON value; objects in key order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
pub enum JsonValue {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number, as JavaScript has them.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Object(BTreeMap<String, Self>),
}

/// The object that a text holds; `None` if it is no JSON object.
pub fn parse_json_object(text: &str) -> Option<BTreeMap<String, JsonValue>> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::{JsonValue, parse_json_object};

    #[test]
    fn only_objects_are_read() {
        let object = parse_json_object(r#"{"a": "x", "b": [1, null, {"c": true}]}"#).unwrap();
        assert_eq!(object["a"], JsonValue::Text("x".into()));
        assert!(matches!(&object["b"], JsonValue::List(items) if items.len() == 3));
        assert_eq!(parse_json_object("[1]"), None);
        assert_eq!(parse_json_object("{"), None);
    }
}
