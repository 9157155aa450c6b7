//! The threshold some standard deviations above the mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Basis, Chosen, Over, Source, Threshold};
use contract::{Named, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KSigma {
    /// How many standard deviations.
    #[serde(default = "default_k")]
    k: f64,
    /// The splits whose scores count; by default calibration, or train where there is no calibration.
    #[serde(default)]
    over: Over,
}

fn default_k() -> f64 {
    3.0
}

impl Named for KSigma {
    const NAME: &'static str = "k-sigma";
    const DOC: &'static str = "The mean of the scores plus `k` of their standard deviations.";
}

impl Threshold for KSigma {
    fn basis(&self) -> Basis {
        self.over.basis()
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let count = source.scores.len() as f64;
        let mean = source.scores.iter().sum::<f64>() / count;
        let squares = source
            .scores
            .iter()
            .map(|score| (score - mean) * (score - mean));
        let variance = squares.sum::<f64>() / count;
        let how = format!("mean plus {} standard deviations", self.k);
        Ok(Chosen::constant(mean + self.k * variance.sqrt(), how))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Case;

    #[test]
    fn counts_standard_deviations() {
        let case = Case::new(vec![], vec![], vec![]).unwrap();
        let source = Source {
            scores: &[1.0, 3.0, 1.0, 3.0],
            stretches: &[],
            case: &case,
        };
        let over = Over::default();
        let chosen = KSigma { k: 2.0, over }.choose(&source).unwrap();
        assert_eq!(chosen.value, 4.0);
    }
}
