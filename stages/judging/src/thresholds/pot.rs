//! Peaks over threshold (Siffer et al., Anomaly Detection in Streams with Extreme Value Theory, KDD 2017): the tail of
//! the scores is fitted by a generalised Pareto distribution, and the threshold is the quantile of a given risk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tail::{self, Tail};
use super::{Basis, Chosen, Over, Source, Threshold, peaks};
use contract::{Fault, Named, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pot {
    /// The probability that a normal score exceeds the threshold.
    #[serde(default = "tail::default_risk")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub(super) risk: f64,
    /// The share of scores that the tail is fitted to.
    #[serde(default = "tail::default_level")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub(super) level: f64,
    /// Where the tail's shape is searched.
    #[serde(default)]
    pub(super) search: peaks::Search,
    /// The splits whose scores count; by default calibration, or train where there is no calibration.
    #[serde(default)]
    pub(super) over: Over,
}

impl Pot {
    /// The tail of the scores that it is learned from.
    pub(super) fn tail(&self, scores: &[f64]) -> Result<Tail, Trouble> {
        Tail::calibrated(scores.to_vec(), self.level, self.search)
    }
}

impl Named for Pot {
    const NAME: &'static str = "pot";
    const DOC: &'static str = "Peaks over threshold (Siffer et al., KDD 2017): the quantile of `risk` of a generalised Pareto tail fitted to the highest scores.";
}

impl Threshold for Pot {
    fn check(&self) -> Result<(), Fault> {
        tail::check(self.risk, self.level)
    }

    fn basis(&self) -> Basis {
        self.over.basis()
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let tail = self.tail(source.scores)?;
        let how = format!("a Pareto tail exceeds it with probability {}", self.risk);
        Ok(Chosen::constant(tail.threshold(self.risk), how))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden;

    /// `|own - reference| <= tolerance |reference|`
    fn near(own: f64, reference: &serde_json::Value, tolerance: f64) -> bool {
        let reference = reference.as_f64().unwrap();
        (own - reference).abs() <= tolerance * reference.abs()
    }

    #[test]
    fn agrees_with_the_reference_with_its_sign_corrected() {
        for golden in golden::cases() {
            let pot = &golden.expected["pot"];
            let (risk, level) = (pot["q"].as_f64().unwrap(), pot["level"].as_f64().unwrap());
            let small = &golden.expected["pot_small_scale"];
            let scales = [
                (1.0, &golden.expected["pot_correct_sign"]),
                (small["scale"].as_f64().unwrap(), &small["correct_sign"]),
            ];
            for (scale, reference) in scales {
                let scores: Vec<f64> = golden.train.iter().map(|score| score * scale).collect();
                let source = Source {
                    scores: &scores,
                    stretches: &[],
                    case: &golden.case,
                };
                let params = Pot {
                    risk,
                    level,
                    search: peaks::Search::Siffer,
                    over: Over::default(),
                };
                let threshold = params.choose(&source).unwrap().value;
                let (_, excesses) = tail::split(scores, level);
                assert_eq!(excesses.len() as u64, pot["peaks"].as_u64().unwrap());
                let fit = peaks::fit(&excesses, peaks::Search::Siffer);
                let seen = format!(
                    "{} {scale}: {threshold} {fit:?}, reference {reference}",
                    golden.name
                );
                assert!(
                    near(threshold, &reference["extreme_quantile"], 2e-3),
                    "{seen}"
                );
                assert!(
                    near(fit.log_likelihood, &reference["log_likelihood"], 2e-3),
                    "{seen}"
                );
                // The reference stops a little short of the maximum, where the shape is hardly determined.
                let likelihood = reference["log_likelihood"].as_f64().unwrap();
                assert!(fit.log_likelihood >= likelihood - 1e-9, "{seen}");
                assert!(
                    (fit.shape - reference["gamma"].as_f64().unwrap()).abs() < 2e-2,
                    "{seen}"
                );
                assert!(near(fit.scale, &reference["sigma"], 2e-2), "{seen}");
                assert!(
                    peaks::fit(&excesses, peaks::Search::Full).log_likelihood >= fit.log_likelihood,
                    "{seen}"
                );
            }
        }
    }
}
