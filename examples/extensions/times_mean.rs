//! A multiple of the mean score.

use crate::thresholds::{Basis, Chosen, Source, Threshold};
use contract::artifact::Split;
use contract::{Named, Trouble};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A multiple of the mean score.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimesMean {
    /// What the mean is multiplied by.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    factor: f64,
}

impl Named for TimesMean {
    const NAME: &'static str = "times-mean";
    const DOC: &'static str = "The mean of the training scores, times `factor`.";
    const EXAMPLE: &'static str = r#"{"factor": 3.0}"#;
}

impl Threshold for TimesMean {
    fn basis(&self) -> Basis {
        Basis::Scores(vec![Split::Train])
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let mean = source.scores.iter().sum::<f64>() / source.scores.len() as f64;
        let how = format!("{} times the mean", self.factor);
        Ok(Chosen {
            value: self.factor * mean,
            by_row: None,
            how,
        })
    }
}
