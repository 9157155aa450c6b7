//! The stage `evaluate`: judges what a model made of one split. Anomaly scores are judged at a threshold by the labels,
//! forecasts and filled-in values by what was measured, class predictions by the true classes.
//! It trains nothing and draws nothing; each figure says itself how far it can be trusted.

mod classification;
mod detection;
mod forecast;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::{self, MetricChoice, Subject};
use crate::thresholds::{Basis, ThresholdChoice};
use contract::artifact::{ArtifactKind, Forecasts, Predictions, Scores, Split};
use contract::{
    Fault, Inputs, Learning, Numerics, Outputs, Port, Purpose, Stage, StageContext, Threads,
    Trouble,
};

/// The stage kind.
pub struct Evaluate;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// How the score is chosen above which a row raises an alarm. Scores need one; forecasts and predictions have none.
    #[serde(default)]
    pub threshold: Option<ThresholdChoice>,
    /// The figures to compute, in this order; by default those usual for what is judged. A threshold always comes first.
    #[serde(default)]
    pub metrics: Option<Vec<MetricChoice>>,
    /// The split that is judged.
    #[serde(default = "default_split")]
    pub on: Split,
}

fn default_split() -> Split {
    Split::Test
}

impl Params {
    /// The figures to compute.
    fn choices(&self, subject: Subject) -> Vec<MetricChoice> {
        self.metrics
            .clone()
            .unwrap_or_else(|| metrics::usual(subject))
    }
}

const SCORES: &str = "scores";
const FORECASTS: &str = "forecasts";
const PREDICTIONS: &str = "predictions";

/// What the connected inputs ask to be judged.
fn subject(connected: &[&str]) -> Result<Subject, String> {
    let subjects = [
        (SCORES, Subject::Detection),
        (FORECASTS, Subject::Forecast),
        (PREDICTIONS, Subject::Classification),
    ];
    let given: Vec<_> = subjects
        .into_iter()
        .filter(|(port, _)| connected.contains(port))
        .collect();
    match given[..] {
        [(_, subject)] => Ok(subject),
        [] => Err(
            "there is nothing to judge: connect one of `scores`, `forecasts` and `predictions`"
                .to_owned(),
        ),
        [..] => {
            let names: Vec<String> = given.iter().map(|(port, _)| format!("`{port}`")).collect();
            Err(format!(
                "{} are connected, but one evaluation judges one of them",
                names.join(" and ")
            ))
        }
    }
}

impl Stage for Evaluate {
    type Params = Params;

    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 2;
    const DOC: &'static str = "Judges one split: anomaly scores at a threshold, forecasts or filled-in values, or class predictions.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;
    const EXAMPLE: &'static str = r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 0.5}}"#;

    fn inputs(_: &Params) -> Vec<Port> {
        vec![
            Port::new(SCORES, ArtifactKind::Scores, "anomaly scores with labels").optional(),
            Port::new(
                FORECASTS,
                ArtifactKind::Forecasts,
                "forecast or filled-in values",
            )
            .optional(),
            Port::new(
                PREDICTIONS,
                ArtifactKind::Predictions,
                "class probabilities",
            )
            .optional(),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let table =
            |name: &str, input, doc| Port::new(name, ArtifactKind::Table, doc).only_with(input);
        vec![
            Port::new(
                "metrics",
                ArtifactKind::Metrics,
                "the figures; of scores, the threshold first",
            ),
            table(
                "by_step",
                FORECASTS,
                "the figures of each step of the horizon",
            ),
            table("by_channel", FORECASTS, "the figures of each channel"),
            table(
                "confusion",
                PREDICTIONS,
                "true class, predicted class, number of samples",
            ),
            table(
                "by_class",
                PREDICTIONS,
                "precision, recall, F1 and number of samples of each class",
            ),
        ]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        if let Some(threshold) = &params.threshold {
            threshold
                .check()
                .map_err(|fault| fault.below("threshold"))?;
        }
        let choices = params.metrics.as_deref().unwrap_or_default();
        for (index, choice) in choices.iter().enumerate() {
            if choices[..index].contains(choice) {
                let reason = format!("metric `{}` is asked for twice", metrics::label(choice));
                return Err(Fault::new(format!("metrics.{index}"), reason));
            }
        }
        Ok(())
    }

    fn check_inputs(params: &Params, connected: &[&str]) -> Result<(), Fault> {
        let subject = subject(connected).map_err(Fault::whole)?;
        match (subject, &params.threshold) {
            (Subject::Detection, None) => {
                let reason = "`scores` are judged at a threshold: say how it is chosen, such as `threshold: {kind: quantile, anomaly_ratio: 1.0}`";
                return Err(Fault::whole(reason));
            }
            (Subject::Forecast | Subject::Classification, Some(_)) => {
                let reason = format!("{} have no threshold: remove it", subject.name());
                return Err(Fault::new("threshold", reason));
            }
            _ => {}
        }
        for (index, choice) in params.metrics.iter().flatten().enumerate() {
            if let Err(reason) = metrics::reading(choice, subject) {
                return Err(Fault::new(format!("metrics.{index}"), reason));
            }
        }
        Ok(())
    }

    fn learns(params: &Params) -> Vec<Learning> {
        let Some(threshold) = &params.threshold else {
            return Vec::new();
        };
        let learning = |purpose, from, oracle, parameter| Learning {
            what: "threshold",
            purpose,
            from,
            labels: oracle,
            oracle,
            parameter,
        };
        let purpose = Purpose::Threshold { judged: params.on };
        let mut learned = match threshold.basis() {
            Basis::Scores(splits) if splits.is_empty() => {
                vec![learning(
                    purpose,
                    vec![Split::Calibration, Split::Train],
                    false,
                    "threshold",
                )]
            }
            Basis::Scores(splits) => vec![learning(purpose, splits, false, "threshold.over")],
            Basis::JudgedLabels => {
                vec![learning(purpose, vec![params.on], true, "threshold.kind")]
            }
            Basis::Nothing => Vec::new(),
        };
        if threshold.adapts() {
            learned.push(learning(
                Purpose::Adapt,
                vec![params.on],
                false,
                "threshold.kind",
            ));
        }
        learned
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        Self::check_inputs(params, &inputs.connected())
            .map_err(|fault| Trouble::new(fault.reason))?;
        if let Some(scores) = inputs.optional::<Scores>(SCORES)? {
            return Ok(Outputs::one(
                "metrics",
                detection::judge(params, &scores, context)?,
            ));
        }
        if let Some(forecasts) = inputs.optional::<Forecasts>(FORECASTS)? {
            return forecast::judge(params, forecasts, context);
        }
        classification::judge(params, inputs.get::<Predictions>(PREDICTIONS)?, context)
    }
}
