//! Metrics, one file each, and the table that names them in a pipeline's `metrics` list. A folder for each kind of result.
//! They see results and truth, never a model; what they say about a value travels with it.

mod classification;
mod counts;
mod detection;
mod evidence;
mod forecast;

use std::sync::Arc;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use classification::ClassificationCase;
#[cfg(test)]
pub use detection::golden;
pub use detection::{Case, events_of};
pub use detection::{best_adjusted_threshold, best_threshold};
pub use evidence::{Evidence, Judged, Subject};
pub use forecast::{ForecastCase, seasonal_naive_error};

use contract::artifact::{Direction, Metric};
use contract::{Choice, Entry, Holds, Table, Tabled, Trouble};

/// One metric: what it is called, how to read it, and how it is computed.
pub trait MetricKind: 'static {
    /// What it judges: [`Case`], [`ForecastCase`] or [`ClassificationCase`].
    type Judged: Judged;
    /// A struct with `#[serde(deny_unknown_fields)]` and a default for every field.
    type Params: DeserializeOwned + Serialize + JsonSchema + Send + Sync;

    const NAME: &'static str;
    /// One sentence with the definition and its source.
    const DOC: &'static str;
    const DIRECTION: Direction = Direction::Higher;
    /// Whether the value makes use of the judged labels beyond counting hits, such as the best of all thresholds.
    const ORACLE: bool = false;
    /// Whether the value is known to flatter detectors.
    const INFLATING: bool = false;
    /// One sentence on how to read it; may be empty.
    const CAVEAT: &'static str = "";
    /// Whether the value depends on the threshold.
    const AT_THRESHOLD: bool = false;

    /// The value, or `None` where it is undefined for this case.
    fn value(params: &Self::Params, case: &Self::Judged) -> Option<f64>;
}

/// The parameters of a metric that has none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// How to read a metric, where it judges one subject.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub subject: Subject,
    pub direction: Direction,
    pub oracle: bool,
    pub inflating: bool,
    pub caveat: &'static str,
    pub at_threshold: bool,
}

/// A metric with its parameters, whatever it judges.
pub trait AnyMetric: Send + Sync {
    /// How to read it, for each subject that it judges.
    fn readings(&self) -> Vec<Reading>;

    /// The value; `None` if it is undefined, or judges something else.
    fn value(&self, evidence: Evidence<'_>) -> Option<f64>;
}

/// The parameters of a metric that judges one subject.
struct One<M: MetricKind>(M::Params);

impl<M: MetricKind> AnyMetric for One<M> {
    fn readings(&self) -> Vec<Reading> {
        vec![Reading {
            subject: M::Judged::SUBJECT,
            direction: M::DIRECTION,
            oracle: M::ORACLE,
            inflating: M::INFLATING,
            caveat: M::CAVEAT,
            at_threshold: M::AT_THRESHOLD,
        }]
    }

    fn value(&self, evidence: Evidence<'_>) -> Option<f64> {
        M::value(&self.0, M::Judged::of(evidence)?)
    }
}

/// Two metrics of one name and without parameters, which judge different subjects. The first is documented.
struct Both<A, B>(A, B);

impl<A: AnyMetric, B: AnyMetric> AnyMetric for Both<A, B> {
    fn readings(&self) -> Vec<Reading> {
        let mut readings = self.0.readings();
        readings.extend(self.1.readings());
        readings
    }

    fn value(&self, evidence: Evidence<'_>) -> Option<f64> {
        self.0.value(evidence).or_else(|| self.1.value(evidence))
    }
}

impl<M: MetricKind> Holds<M> for dyn AnyMetric {
    type Params = M::Params;
    const NAME: &'static str = M::NAME;
    const DOC: &'static str = M::DOC;
    const EXAMPLE: &'static str = "{}";

    fn hold(params: M::Params) -> Arc<Self> {
        Arc::new(One::<M>(params))
    }
}

impl<A, B> Holds<Both<A, B>> for dyn AnyMetric
where
    A: MetricKind<Params = NoParams>,
    B: MetricKind<Params = NoParams>,
{
    type Params = NoParams;
    const NAME: &'static str = {
        assert!(same(A::NAME, B::NAME), "both have one name");
        // `collect` ranks by the name, and so by one direction.
        let alike = A::DIRECTION as u8 == B::DIRECTION as u8;
        assert!(alike, "both have one direction");
        A::NAME
    };
    const DOC: &'static str = A::DOC;
    const EXAMPLE: &'static str = "{}";

    fn hold(_: NoParams) -> Arc<Self> {
        Arc::new(Both(One::<A>(NoParams {}), One::<B>(NoParams {})))
    }
}

/// `==`, for constants.
const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

impl Tabled for dyn AnyMetric {
    fn table() -> &'static Table<Self> {
        &METRICS
    }
}

/// The table of metrics for a pipeline: `metrics: [f1, {kind: pa_k_f1, k: 50}]`.
static METRICS: Table<dyn AnyMetric> = Table::new(
    "metric",
    &[
        detection::METRICS,
        forecast::METRICS,
        classification::METRICS,
        SHARED,
    ],
)
.or_bare();

/// Metrics that judge more than one kind of result.
const SHARED: &[Entry<dyn AnyMetric>] = &[Entry::of::<
    Both<detection::accuracy::Accuracy, classification::accuracy::Accuracy>,
>()];

/// A metric with its parameters, as a pipeline names it.
pub type MetricChoice = Choice<dyn AnyMetric>;

/// All metrics with their default parameters, in the order of the documentation.
pub fn all() -> impl Iterator<Item = MetricChoice> {
    METRICS.examples()
}

/// How to read a metric of this subject.
///
/// # Errors
/// A sentence that says what it judges instead.
pub fn reading(choice: &MetricChoice, subject: Subject) -> Result<Reading, String> {
    let readings = choice.readings();
    let found = readings.iter().find(|reading| reading.subject == subject);
    match found {
        Some(reading) => Ok(*reading),
        None => Err(misplaced(choice, &readings, subject)),
    }
}

fn misplaced(choice: &MetricChoice, readings: &[Reading], subject: Subject) -> String {
    let subjects = readings.iter().map(|reading| reading.subject.name());
    let judges: Vec<&str> = subjects.collect();
    let mut others = Vec::new();
    for other in all() {
        let readings = other.readings();
        if readings.iter().any(|reading| reading.subject == subject) {
            others.push(other.name());
        }
    }
    format!(
        "metric `{}` judges {}, not {}; for these there are {}",
        choice.name(),
        judges.join(" and "),
        subject.name(),
        others.join(", ")
    )
}

/// The metrics that are computed if none are named.
pub fn usual(subject: Subject) -> Vec<MetricChoice> {
    let names: &[&str] = match subject {
        Subject::Detection => &[
            "precision",
            "recall",
            "f1",
            "precision_point_adjusted",
            "recall_point_adjusted",
            "f1_point_adjusted",
            "best_f1",
            "roc_auc",
            "average_precision",
            "vus_pr",
        ],
        Subject::Forecast => &["mse", "mae", "rmse", "rse", "corr"],
        Subject::Classification => &[
            "accuracy",
            "balanced_accuracy",
            "precision_macro",
            "recall_macro",
            "f1_macro",
            "f1_weighted",
            "log_loss",
        ],
    };
    names.iter().map(|name| plain(name)).collect()
}

/// A metric with its default parameters.
fn plain(name: &str) -> MetricChoice {
    // A test parses every metric without parameters.
    MetricChoice::plain(name).expect("metrics have defaults")
}

/// The name under which a value is reported: the metric's, with those parameters that differ from the default.
pub fn label(choice: &MetricChoice) -> String {
    let defaults = plain(choice.name());
    let mut changed = Vec::new();
    for (name, value) in choice.parameters() {
        if defaults.parameters().get(name) == Some(value) {
            continue;
        }
        changed.push(match (value.as_str(), value.as_f64()) {
            (Some(text), _) => format!("{name}={text}"),
            // 50 and 50.0 are one number and get one name.
            (None, Some(number)) => format!("{name}={number}"),
            (None, None) => format!("{name}={value}"),
        });
    }
    if changed.is_empty() {
        choice.name().to_owned()
    } else {
        format!("{}({})", choice.name(), changed.join(","))
    }
}

/// Computes one metric. `oracle_threshold` says that the threshold itself was chosen with the judged labels.
///
/// # Errors
/// If it judges something else.
pub fn evaluate<'a>(
    choice: &MetricChoice,
    evidence: impl Into<Evidence<'a>>,
    oracle_threshold: bool,
) -> Result<Metric, String> {
    let evidence = evidence.into();
    let reading = reading(choice, evidence.subject())?;
    let tainted = reading.at_threshold && oracle_threshold;
    let mut caveat = reading.caveat.to_owned();
    if tainted {
        let separator = if caveat.is_empty() { "" } else { "; " };
        caveat =
            format!("at an oracle threshold, chosen with the judged labels{separator}{caveat}");
    }
    let value = choice.value(evidence);
    Ok(Metric {
        name: label(choice),
        value: value.filter(|value| value.is_finite()),
        direction: reading.direction,
        oracle: reading.oracle || tainted,
        inflating: reading.inflating,
        caveat,
    })
}

/// Computes several metrics of one case; see [`evaluate`].
///
/// # Errors
/// If one of them judges something else.
pub fn evaluate_all<'a>(
    choices: &[MetricChoice],
    evidence: impl Into<Evidence<'a>>,
    oracle_threshold: bool,
) -> Result<Vec<Metric>, Trouble> {
    let evidence = evidence.into();
    let metrics = choices.par_iter();
    let metrics = metrics.map(|choice| evaluate(choice, evidence, oracle_threshold));
    metrics.collect::<Result<_, String>>().map_err(Trouble::new)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use serde_json::json;

    #[test]
    fn names_carry_the_parameters_that_differ() {
        let choice = |text: &str| serde_json::from_str::<MetricChoice>(text).unwrap();
        assert_eq!(label(&choice(r#""f1""#)), "f1");
        assert_eq!(label(&choice(r#"{"kind":"pa_k_f1","k":20}"#)), "pa_k_f1");
        assert_eq!(
            label(&choice(r#"{"kind":"pa_k_f1","k":50}"#)),
            "pa_k_f1(k=50)"
        );
    }

    #[test]
    fn an_oracle_threshold_taints_what_depends_on_it() {
        let case = Case::of_one_stretch(vec![0.0, 1.0], vec![false, true])
            .unwrap()
            .at(0.5);
        let choice = |name: &str| MetricChoice::plain(name).unwrap();
        assert!(evaluate(&choice("f1"), &case, true).unwrap().oracle);
        assert!(!evaluate(&choice("roc_auc"), &case, true).unwrap().oracle);
        assert!(evaluate(&choice("best_f1"), &case, false).unwrap().oracle);
    }

    #[test]
    fn a_metric_of_one_kind_refuses_another() {
        let case = Case::of_one_stretch(vec![0.0, 1.0], vec![false, true]).unwrap();
        let choice = |name: &str| MetricChoice::plain(name).unwrap();
        let error = evaluate(&choice("mse"), &case, false).unwrap_err();
        assert!(
            error.contains("judges forecasts, not anomaly scores") && error.contains("vus_pr"),
            "{error}"
        );
        let error = reading(&choice("accuracy"), Subject::Forecast).unwrap_err();
        assert!(
            error.contains("anomaly scores and class predictions, not forecasts"),
            "{error}"
        );
        for subject in Subject::ALL {
            assert!(usual(subject).len() > 3);
            assert!(
                usual(subject)
                    .iter()
                    .all(|choice| reading(choice, subject).is_ok())
            );
        }
    }

    #[test]
    fn names_are_unique_and_documented() {
        let mut names = BTreeSet::new();
        for (entry, metric) in METRICS.entries().zip(all()) {
            assert!(names.insert(entry.name), "{}", entry.name);
            assert!(entry.doc.ends_with('.'), "{}", entry.name);
            let subjects = metric.readings().into_iter().map(|reading| reading.subject);
            let subjects: BTreeSet<&str> = subjects.map(Subject::name).collect();
            assert_eq!(subjects.len(), metric.readings().len(), "{}", entry.name);
            for reading in metric.readings() {
                let flatters = reading.inflating || reading.oracle;
                assert!(!flatters || !reading.caveat.is_empty(), "{}", entry.name);
            }
        }
    }

    #[test]
    fn unusable_parameters_are_named() {
        for (kind, parameters, parameter) in [
            ("pa_k_f1", json!({"k": 120}), "k"),
            ("vus_pr", json!({"window": 5001}), "window"),
            ("vus_roc", json!({"thresholds": 1}), "thresholds"),
            ("range_auc_pr", json!({"window": 1_000_001}), "window"),
            ("top_k_accuracy", json!({"k": 0}), "k"),
            ("expected_calibration_error", json!({"bins": 1001}), "bins"),
        ] {
            let fault = MetricChoice::new(kind, parameters).unwrap_err();
            assert_eq!(fault.parameter, parameter);
        }
    }

    #[test]
    fn every_file_has_its_line_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics");
        contract::testing::assert_listed(&METRICS, folder);
    }
}
