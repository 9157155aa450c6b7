//! Streaming peaks over threshold (Siffer et al., Anomaly Detection in Streams with Extreme Value Theory, KDD 2017,
//! algorithm 2): the tail is calibrated on the chosen splits and grows with the normal scores of the judged rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pot::Pot;
use super::tail::Tail;
use super::{Basis, Chosen, Source, Threshold};
use contract::{Fault, Named, Trouble};

/// The parameters are those of `pot`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Spot(Pot);

impl Named for Spot {
    const NAME: &'static str = "spot";
    const DOC: &'static str = "Streaming peaks over threshold (Siffer et al., KDD 2017): as `pot`, and each judged score that raises no alarm is added to the tail before the next row is judged. Every segment starts afresh.";
}

impl Threshold for Spot {
    fn check(&self) -> Result<(), Fault> {
        self.0.check()
    }

    fn adapts(&self) -> bool {
        true
    }

    fn basis(&self) -> Basis {
        self.0.basis()
    }

    fn choose(&self, source: &Source<'_>) -> Result<Chosen, Trouble> {
        let risk = self.0.risk;
        let calibrated = self.0.tail(source.scores)?;
        let mut by_row = Vec::with_capacity(source.case.rows());
        for stretch in &source.case.stretches {
            let scores = &source.case.scores[stretch.clone()];
            by_row.extend(stream(calibrated.clone(), risk, scores));
        }
        let how = format!(
            "adapts: a Pareto tail that grows with each normal score exceeds it with probability {risk}"
        );
        Ok(Chosen {
            value: calibrated.threshold(risk),
            by_row: Some(by_row),
            how,
        })
    }
}

/// The threshold that each score is held against.
fn stream(mut tail: Tail, risk: f64, scores: &[f64]) -> Vec<f64> {
    let mut threshold = tail.threshold(risk);
    let mut thresholds = Vec::with_capacity(scores.len());
    for score in scores {
        thresholds.push(threshold);
        // A score above the threshold is an alarm and teaches nothing.
        if *score <= threshold && tail.take(*score) {
            threshold = tail.threshold(risk);
        }
    }
    thresholds
}

#[cfg(test)]
mod tests {
    use super::super::{Over, peaks};
    use super::*;
    use crate::metrics::golden;

    #[test]
    fn agrees_with_the_reference_where_both_choose_the_same_tail() {
        let mut compared = 0;
        for golden in golden::cases() {
            let pot = &golden.expected["pot"];
            let (risk, level) = (pot["q"].as_f64().unwrap(), pot["level"].as_f64().unwrap());
            let params = Spot(Pot {
                risk,
                level,
                search: peaks::Search::Siffer,
                over: Over::default(),
            });
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
    fn alarms_teach_nothing_and_stretches_start_again() {
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
