//! The role a stretch of rows plays in an experiment.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What rows may be used for. Leakage is judged by these names.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Fits weights and statistics.
    Train,
    /// Chooses among epochs and hyperparameters.
    Validation,
    /// Held out of training and selection; sets thresholds.
    Calibration,
    /// Judges the result. Nothing may be learned from it.
    Test,
}

impl Split {
    pub const ALL: [Self; 4] = [Self::Train, Self::Validation, Self::Calibration, Self::Test];

    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Calibration => "calibration",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|split| split.name() == text);
        found.ok_or_else(|| format!("unknown split `{}`", super::Shown(text)))
    }
}
