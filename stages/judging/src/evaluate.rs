//! The stage `evaluate`: judges what a model made of one split. Anomaly scores are judged at a threshold by the labels,
//! forecasts and filled-in values by what was measured, class predictions by the true classes.
//! It trains nothing and draws nothing; each metric says how far it can be trusted.

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
    /// The metrics to compute, in this order; by default those usual for what is judged. A threshold always comes first.
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
    /// The metrics to compute.
    fn choices(&self, subject: Subject) -> Vec<MetricChoice> {
        match &self.metrics {
            Some(metrics) => metrics.clone(),
            None => metrics::usual(subject),
        }
    }
}

const SCORES: &str = "scores";
const FORECASTS: &str = "forecasts";
const PREDICTIONS: &str = "predictions";

/// What the connected inputs ask to be judged.
fn subject(connected: &[&str]) -> Result<Subject, String> {
    let mut given = vec![
        (SCORES, Subject::Detection),
        (FORECASTS, Subject::Forecast),
        (PREDICTIONS, Subject::Classification),
    ];
    given.retain(|(port, _)| connected.contains(port));
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

/// Says that there is nothing of these splits, and of which there is something.
fn none_of_split(
    what: &str,
    wanted: &[Split],
    purpose: &str,
    has_some: impl Fn(Split) -> bool,
) -> Trouble {
    let mut present = Split::ALL.to_vec();
    present.retain(|split| has_some(*split));
    let hint = if present.is_empty() {
        format!("there are no {what} at all")
    } else {
        format!("there are {what} of {}", listed(&present))
    };
    let wanted = listed(wanted);
    Trouble::new(format!(
        "there are no {what} of split {wanted} to be {purpose}"
    ))
    .hint(hint)
}

fn listed(splits: &[Split]) -> String {
    let names: Vec<String> = splits.iter().map(|split| format!("`{split}`")).collect();
    names.join(", ")
}

impl Stage for Evaluate {
    type Params = Params;

    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 3;
    const DOC: &'static str = "Judges one split: anomaly scores at a threshold, forecasts or filled-in values, or class predictions.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;
    const EXAMPLE: &'static str = r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 0.5}}"#;

    fn inputs(_: &Params) -> Vec<Port> {
        let scores = "anomaly scores with labels";
        let forecasts = "forecast or filled-in values";
        let predictions = "class probabilities";
        vec![
            Port::new(SCORES, ArtifactKind::Scores, scores).optional(),
            Port::new(FORECASTS, ArtifactKind::Forecasts, forecasts).optional(),
            Port::new(PREDICTIONS, ArtifactKind::Predictions, predictions).optional(),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        let metrics = "the metrics; of scores, the threshold first";
        let by_step = "the metrics of each step of the horizon";
        let by_channel = "the metrics of each channel";
        let confusion = "true class, predicted class, number of samples";
        let by_class = "precision, recall, F1 and number of samples of each class";
        vec![
            Port::new("metrics", ArtifactKind::Metrics, metrics),
            Port::new("by_step", ArtifactKind::Table, by_step).only_with(FORECASTS),
            Port::new("by_channel", ArtifactKind::Table, by_channel).only_with(FORECASTS),
            Port::new("confusion", ArtifactKind::Table, confusion).only_with(PREDICTIONS),
            Port::new("by_class", ArtifactKind::Table, by_class).only_with(PREDICTIONS),
        ]
    }

    fn check(params: &Params) -> Result<(), Fault> {
        if let Some(threshold) = &params.threshold {
            let checked = threshold.check();
            checked.map_err(|fault| fault.below("threshold"))?;
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
        let basis = threshold.basis();
        let oracle = basis == Basis::JudgedLabels;
        let from = match basis {
            Basis::Nothing => None,
            Basis::Scores(splits) if splits.is_empty() => {
                let either = vec![Split::Calibration, Split::Train];
                Some((either, "threshold"))
            }
            Basis::Scores(splits) => Some((splits, "threshold.over")),
            Basis::JudgedLabels => Some((vec![params.on], "threshold.kind")),
        };
        let mut learned = Vec::new();
        if let Some((from, parameter)) = from {
            learned.push(Learning {
                what: "threshold",
                purpose: Purpose::Threshold { judged: params.on },
                from,
                labels: oracle,
                oracle,
                parameter,
            });
        }
        if threshold.adapts() {
            learned.push(Learning {
                what: "threshold",
                purpose: Purpose::Adapt,
                from: vec![params.on],
                labels: false,
                oracle: false,
                parameter: "threshold.kind",
            });
        }
        learned
    }

    fn judges(params: &Params) -> Option<Split> {
        Some(params.on)
    }

    fn moving_threshold(params: &Params, scores: &Scores) -> Option<Vec<(usize, f64)>> {
        let threshold = params.threshold.as_ref()?;
        threshold
            .adapts()
            .then(|| detection::moving(threshold, scores, params.on))?
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        Self::check_inputs(params, &inputs.connected())
            .map_err(|fault| Trouble::new(fault.reason))?;
        if let Some(scores) = inputs.optional::<Scores>(SCORES)? {
            let metrics = detection::judge(params, &scores, context)?;
            return Ok(Outputs::one("metrics", metrics));
        }
        if let Some(forecasts) = inputs.optional::<Forecasts>(FORECASTS)? {
            return forecast::judge(params, forecasts, context);
        }
        classification::judge(params, inputs.get::<Predictions>(PREDICTIONS)?, context)
    }
}
