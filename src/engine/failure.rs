//! A failure as people and records need it: one sentence, where, why, what helps.

use std::error::Error;

use contract::Trouble;
use serde::{Deserialize, Serialize};

use crate::cache::CacheError;

/// Why a stage did not come to its outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub message: String,
    /// `file`, or `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What lies behind it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The inputs on which it happened: port and digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            location: None,
            causes: Vec::new(),
            hint: None,
            inputs: Vec::new(),
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<&Trouble> for Failure {
    fn from(error: &Trouble) -> Self {
        let location = error.location().map(|location| match location.line {
            Some(line) => format!("{}:{line}", location.file.display()),
            None => location.file.display().to_string(),
        });
        Self {
            message: error.message().to_owned(),
            location,
            causes: error.causes().to_vec(),
            hint: error.hint_text().map(str::to_owned),
            inputs: Vec::new(),
        }
    }
}

impl From<&CacheError> for Failure {
    fn from(error: &CacheError) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self {
            hint,
            ..Self::from(&Trouble::new(error.to_string()).with_chain(error.source()))
        }
    }
}
