//! What a failed check of parameters says.

use std::fmt;

/// A parameter, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path of the parameter, such as `optimizer.lr` or `augment.0.by`; empty if no single one is
    /// at fault.
    pub parameter: String,
    /// A sentence about it, without the parameter's name: `must be at least 1, not 0`.
    pub reason: String,
}

impl Fault {
    pub fn new(parameter: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            parameter: parameter.into(),
            reason: reason.into(),
        }
    }

    /// A fault for which no single parameter is to blame.
    pub fn whole(reason: impl Into<String>) -> Self {
        Self::new("", reason)
    }

    /// The same fault, seen from the parameters that hold these below the key `parent`.
    #[must_use]
    pub fn below(self, parent: impl fmt::Display) -> Self {
        let parameter = if self.parameter.is_empty() {
            parent.to_string()
        } else {
            format!("{parent}.{}", self.parameter)
        };
        Self { parameter, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameter, reason } = self;
        if parameter.is_empty() {
            formatter.write_str(reason)
        } else {
            write!(formatter, "`{parameter}` {reason}")
        }
    }
}
