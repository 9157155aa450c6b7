//! What is possible, and probably not what was meant: a stage reports it and goes on.

use serde::{Deserialize, Serialize};

/// Something doubtful that a stage found in what it read. A run reports it as a warning, keeps it with the result, and
/// reports it again when the result is used again. In a strict pipeline it is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// A stable name of this sort of doubt, such as `row-numbers`.
    pub code: String,
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Doubt {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}
