//! The failure of a stage as events and the journal keep it.

use contract::Trouble;
use serde::Serialize;

/// Why a stage has no outputs: the stored form of a [`Trouble`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub message: String,
    /// `file`, or `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What lies behind it, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The inputs on which it happened: port and digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
}

impl Failure {
    pub(super) fn of(trouble: &Trouble, inputs: Vec<String>) -> Self {
        let location = trouble.location().map(|location| match location.line {
            Some(line) => format!("{}:{line}", location.file.display()),
            None => location.file.display().to_string(),
        });
        Self {
            message: trouble.message().to_owned(),
            location,
            causes: trouble.causes().to_vec(),
            hint: trouble.hint_text().map(str::to_owned),
            inputs,
        }
    }
}
