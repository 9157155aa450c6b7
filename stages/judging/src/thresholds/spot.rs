//! Streaming peaks over threshold (Siffer et al., Anomaly Detection in Streams with Extreme Value Theory, KDD 2017,
//! algorithm 2): the tail is calibrated on the chosen splits and grows with the normal scores of the judged rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tail::{self, Tail};
use super::{Basis, Chosen, Over, Source, Threshold, peaks};
use contract::{Fault, Named, Trouble};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spot {
    /// The probability that a normal score exceeds the threshold.
    #[serde(default = "tail::default_risk")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    risk: f64,
    /// The share of the calibrating scores that the tail is fitted to.
    #[serde(default = "tail::default_level")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    level: f64,
    /// Where the tail's shape is searched.
    #[serde(default)]
    search: peaks::Search,
    /// The splits whose scores calibrate it; by default calibration, or train where there is no calibration.
    #[serde(default)]
    over: Over,
}

impl Named for Spot {
    const NAME: &'static str = "spot";
    const DOC: &'static str = "Streaming peaks over threshold (Siffer et al., KDD 2017): as `pot`, and each judged score that raises no alarm is added to the tail before the next row is judged. Every segment starts afresh.";
}

impl Threshold for Spot {
    fn check(&self) -> Result<(), Fault> {
        tail::check(self.risk, self.level)
    }

    fn adapts(&self) -> bool {
        true
    }

    fn basis(&self) -> Basis {
        self.over.basis()
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let calibrated = Tail::calibrated(source.scores.to_vec(), self.level, self.search)?;
        let by_row = source.case.stretches.iter().flat_map(|stretch| {
            stream(
                calibrated.clone(),
                self.risk,
                &source.case.scores[stretch.clone()],
            )
        });
        let how = format!(
            "adapts: a Pareto tail that grows with each normal score exceeds it with probability {}",
            self.risk
        );
        Ok(Chosen {
            value: calibrated.threshold(self.risk),
            by_row: Some(by_row.collect()),
            how,
        })
    }
}

/// The threshold that each score is held against.
fn stream(mut tail: Tail, risk: f64, scores: &[f64]) -> Vec<f64> {
    let mut threshold = tail.threshold(risk);
    let judge = |score: &f64| {
        let held_against = threshold;
        // A score above the threshold is an alarm and teaches nothing.
        if *score <= threshold && tail.take(*score) {
            threshold = tail.threshold(risk);
        }
        held_against
    };
    scores.iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden;

    #[test]
    fn agrees_with_the_reference_where_both_choose_the_same_tail() {
        let mut compared = 0;
        for golden in golden::cases() {
            let pot = &golden.expected["pot"];
            let (risk, level) = (pot["q"].as_f64().unwrap(), pot["level"].as_f64().unwrap());
            let params = Spot {
                risk,
                level,
                search: peaks::Search::Siffer,
                over: Over::default(),
            };
            let source = Source {
                scores: &golden.train,
                stretches: &[],
                case: &golden.case,
            };
            let chosen = params.choose(&source).unwrap();
            let thresholds = chosen.by_row.unwrap();
            assert_eq!(
                (thresholds.len(), thresholds[0]),
                (golden.case.rows(), chosen.value)
            );
            // The reference compares an exponential tail by a likelihood of the wrong sign.
            let [_, reference] = &golden.adaptive;
            if (reference[0] - chosen.value).abs() > 2e-3 * reference[0] {
                continue;
            }
            compared += 1;
            // It records the threshold after each row, not the one that the row was held against.
            for (row, (own, reference)) in thresholds[1..].iter().zip(reference).enumerate() {
                assert!(
                    (own - reference).abs() <= 1e-9 * reference,
                    "{} {row}: {own} {reference}",
                    golden.name
                );
            }
        }
        assert!(compared > 0);
    }

    #[test]
    fn alarms_teach_nothing_and_stretches_start_anew() {
        let mut random = contract::Random::new(8, "scores");
        let mut draw =
            |count: usize| -> Vec<f64> { (0..count).map(|_| random.uniform()).collect() };
        let (calibration, mut judged) = (draw(400), draw(300));
        let tail = Tail::calibrated(calibration, 0.1, peaks::Search::Full).unwrap();
        let calm = stream(tail.clone(), 0.01, &judged);
        judged[120] = 50.0;
        let with_alarm = stream(tail.clone(), 0.01, &judged);
        assert!(judged[120] > with_alarm[120]);
        assert_eq!(calm[..=120], with_alarm[..=120]);
        assert!(
            with_alarm.windows(2).any(|pair| pair[0] != pair[1]),
            "it adapts"
        );
        assert!(with_alarm.iter().all(|threshold| *threshold < 2.0));
        assert_eq!(with_alarm[0], tail.threshold(0.01));
    }
}
