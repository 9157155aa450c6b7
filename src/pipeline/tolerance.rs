//! How far a recomputed value may be from the recorded one to count as the same. An audit asks for it; no key knows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A value is close enough if it keeps to one of the bounds. Without any, only equal bits are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tolerance {
    /// Largest absolute difference.
    #[serde(serialize_with = "real_in_json")]
    #[schemars(range(min = 0.0))]
    pub abs: f64,
    /// Largest difference as a share of the larger magnitude.
    #[serde(serialize_with = "real_in_json")]
    #[schemars(range(min = 0.0))]
    pub rel: f64,
    /// Representable numbers between the two.
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
