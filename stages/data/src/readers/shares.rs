//! Shares of training, validation, calibration and test parts. Samples with classes are split by these alone; the rows of a
//! series also by number and time, see [`super::Shares`].

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::Split;
use contract::{Fault, Trouble};

/// Fractions of the samples; they add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shares {
    /// Fits weights and statistics.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub train: f64,
    /// Chooses among epochs and hyperparameters.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub validation: f64,
    /// Held out of training and selection; sets thresholds.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub calibration: f64,
    /// Judges the result. Stays 0 where the source has its own test part.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub test: f64,
}

/// Why a test part cannot be cut off.
pub(super) const OWN_TEST: &str =
    "the source has its own test part; only its training part is split, so this must be 0";

/// All fractions are 0: a map in YAML says each one it wants.
impl Default for Shares {
    fn default() -> Self {
        Self {
            train: 0.0,
            validation: 0.0,
            calibration: 0.0,
            test: 0.0,
        }
    }
}

impl Shares {
    /// What the schema cannot say of the fractions. `own_test` says that the source has its own test part.
    pub fn check(&self, own_test: bool) -> Result<(), Fault> {
        if own_test && self.test != 0.0 {
            let reason = OWN_TEST;
            return Err(Fault::new("split.test", reason));
        }
        let sum: f64 = self.fractions().iter().map(|(_, fraction)| fraction).sum();
        if (sum - 1.0).abs() > 1e-9 {
            let reason = format!("the fractions add up to {sum}, not to 1");
            return Err(Fault::new("split", reason));
        }
        Ok(())
    }

    fn fractions(&self) -> [(Split, f64); 4] {
        [
            (Split::Train, self.train),
            (Split::Validation, self.validation),
            (Split::Calibration, self.calibration),
            (Split::Test, self.test),
        ]
    }

    /// Cuts `rows` rows or samples. Every boundary is rounded down; the last part takes what remains.
    ///
    /// # Errors
    /// If a part that was asked for would be empty.
    pub fn cut(&self, rows: usize) -> Result<Vec<(Split, Range<usize>)>, Trouble> {
        let mut parts = Vec::new();
        let (mut sum, mut start) = (0.0, 0);
        for (split, fraction) in self.fractions() {
            if fraction <= 0.0 {
                continue;
            }
            sum += fraction;
            // A hair above the sum, so that 0.7 + 0.1 of 10 rows is 8 whatever the rounding of the sum.
            let end = if sum > 1.0 - 1e-9 {
                rows
            } else {
                (sum * rows as f64 + 1e-6) as usize
            };
            if end == start {
                let message = format!("the split `{split}` would have no rows");
                let hint = format!(
                    "{rows} rows are too few for `{split}: {fraction}`: leave it out or give it more"
                );
                return Err(Trouble::new(message).hint(hint));
            }
            parts.push((split, start..end));
            start = end;
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn says_what_is_wrong() {
        let plan = Shares {
            train: 0.7,
            validation: 0.2,
            ..Shares::default()
        };
        assert_eq!(plan.check(false).unwrap_err().parameter, "split");
        let halves = Shares {
            train: 0.5,
            test: 0.5,
            ..Shares::default()
        };
        assert!(halves.check(false).is_ok() && halves.cut(1).is_err());
        assert_eq!(halves.check(true).unwrap_err().parameter, "split.test");
        let negative = serde_json::json!({"path": "a", "split": {"train": 1.5, "test": -0.5}});
        let fault = crate::readers::fault("csv-classes", negative).unwrap();
        assert_eq!(fault.parameter, "split.train");
    }

    proptest! {
        #[test]
        fn parts_cover_all_rows_in_order(rows in 10_usize..100_000, a in 1_u32..20, b in 0_u32..20, c in 0_u32..20) {
            let total = f64::from(a + b + c);
            let plan = Shares {
                train: f64::from(a) / total, validation: f64::from(b) / total, calibration: 0.0, test: f64::from(c) / total,
            };
            prop_assume!(plan.check(false).is_ok());
            let Ok(parts) = plan.cut(rows) else { return Ok(()) };
            prop_assert_eq!(parts.first().unwrap().1.start, 0);
            prop_assert_eq!(parts.last().unwrap().1.end, rows);
            prop_assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start && pair[0].0 < pair[1].0));
        }
    }
}
