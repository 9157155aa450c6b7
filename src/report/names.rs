//! Names and values as others can take them: in paths, addresses and identifiers.

use serde_json::Value;

/// The text with everything but letters, digits, `-`, `.`, `_` and `~` as `%XX`, as in addresses.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A value as text: a string without its quotes, anything else as JSON.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A path whose parts are encoded one by one.
pub(super) fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_where_they_stand() {
        assert_eq!(encoded("model[a=1,b=ü]"), "model%5Ba%3D1%2Cb%3D%C3%BC%5D");
        assert_eq!(encoded_path("a b/c.png"), "a%20b/c.png");
    }
}
