//! How far a recomputed value may be from the recorded one to count as the same. An audit asks for it; no key knows it.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::node::Node;
use super::scalar::Resolved;
use crate::diagnostic::Spanned;

/// A value is close enough if it keeps to one of the bounds. Without any, only equal bits are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Tolerance {
    /// Of the absolute difference.
    #[serde(serialize_with = "real_in_json")]
    pub abs: f64,
    /// Of the difference as a share of the larger of the two magnitudes.
    #[serde(serialize_with = "real_in_json")]
    pub rel: f64,
    /// Of the representable numbers between the two.
    pub ulps: u64,
}

impl Tolerance {
    /// Only equal bits will do.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A number in JSON, which has no infinite ones: these, and what is no number, are the texts `inf`, `-inf` and `nan`.
///
/// # Errors
/// Those of the serializer.
pub fn real_in_json<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        value if value.is_finite() => serializer.serialize_f64(value),
        value if value.is_nan() => serializer.serialize_str("nan"),
        value => serializer.serialize_str(if value > 0.0 { "inf" } else { "-inf" }),
    }
}

/// What a stage may say about its outputs: port to bounds.
pub(super) fn schema() -> Value {
    let bound = |doc: &str| json!({"type": "number", "minimum": 0, "description": doc});
    json!({
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {
                "abs": bound("Largest absolute difference."),
                "rel": bound("Largest difference as a share of the larger magnitude."),
                "ulps": {"type": "integer", "minimum": 0, "description": "Representable numbers between the two."},
            },
            "additionalProperties": false,
        },
        "description": "How far an output may be from its record when it is audited, by port; no result depends on it.",
    })
}

/// The tolerances of a stage by port, once they were checked against the schema.
pub(super) fn read(node: Option<&Node>) -> Vec<(Spanned<String>, Tolerance)> {
    let entries = node.and_then(Node::entries).unwrap_or_default();
    entries
        .iter()
        .map(|(port, node)| (Spanned::new(port.text.to_string(), port.span), bounds(node)))
        .collect()
}

fn bounds(node: &Node) -> Tolerance {
    let real = |key: &str| match node.get(key).and_then(Node::resolve) {
        Some(Resolved::Integer(value)) => value as f64,
        Some(Resolved::Float(value)) => value,
        _ => 0.0,
    };
    let ulps = match node.get("ulps").and_then(Node::resolve) {
        Some(Resolved::Integer(value)) => u64::try_from(value).unwrap_or(u64::MAX),
        _ => 0,
    };
    Tolerance {
        abs: real("abs"),
        rel: real("rel"),
        ulps,
    }
}
