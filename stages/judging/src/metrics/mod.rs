//! Metrics, one file each, and the table that names them in a pipeline's `metrics` list. A folder for each kind of result.
//! They see results and truth, never a model; what they say about a figure travels with it.

mod classification;
mod counts;
mod detection;
mod evidence;
mod forecast;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use classification::{ClassFigures, ClassificationCase};
#[cfg(test)]
pub use detection::golden;
pub use detection::{Case, events_of};
pub use detection::{best_adjusted_threshold, best_threshold};
pub use evidence::{Evidence, Judged, Subject};
pub use forecast::{ForecastCase, seasonal_naive_error};

use contract::artifact::{Direction, Metric};
use contract::{Choice, Entry, Registry};

/// One metric: what it is called, how to read it, and how it is computed.
pub trait MetricKind: 'static {
    /// What it judges: [`Case`], [`ForecastCase`] or [`ClassificationCase`].
    type Judged: Judged;
    /// A struct with `#[serde(deny_unknown_fields)]` and a default for every field.
    type Params: DeserializeOwned + Serialize + JsonSchema;

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

    /// What the types of the parameters cannot say.
    ///
    /// # Errors
    /// A sentence about the parameter at fault.
    fn check(_params: &Self::Params) -> Result<(), String> {
        Ok(())
    }

    /// The figure, or `None` where it is undefined for this case.
    fn value(params: &Self::Params, case: &Self::Judged) -> Option<f64>;
}

/// The parameters of a metric that has none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// A metric with its types erased.
#[derive(Clone, Copy)]
pub struct Declaration {
    pub name: &'static str,
    pub subject: Subject,
    pub doc: &'static str,
    pub direction: Direction,
    pub oracle: bool,
    pub inflating: bool,
    pub caveat: &'static str,
    pub at_threshold: bool,
    entry: fn() -> Entry,
    check: fn(&MetricChoice) -> Result<(), String>,
    value: fn(&MetricChoice, Evidence<'_>) -> Result<Option<f64>, String>,
}

impl Declaration {
    const fn of<M: MetricKind>() -> Self {
        Self {
            name: M::NAME,
            subject: M::Judged::SUBJECT,
            doc: M::DOC,
            direction: M::DIRECTION,
            oracle: M::ORACLE,
            inflating: M::INFLATING,
            caveat: M::CAVEAT,
            at_threshold: M::AT_THRESHOLD,
            entry: || Entry::new::<M::Params>(M::NAME, M::DOC),
            check: |choice| M::check(&choice.parameters()?),
            value: |choice, evidence| {
                let case =
                    M::Judged::of(evidence).ok_or_else(|| misplaced(choice, evidence.subject()))?;
                Ok(M::value(&choice.parameters()?, case))
            },
        }
    }
}

/// All metrics, in the order of the documentation. One name may stand for several subjects, with the same parameters.
pub const METRICS: &[Declaration] = &[
    Declaration::of::<detection::precision::Precision>(),
    Declaration::of::<detection::recall::Recall>(),
    Declaration::of::<detection::f1::F1>(),
    Declaration::of::<detection::accuracy::Accuracy>(),
    Declaration::of::<detection::precision_point_adjusted::PrecisionPointAdjusted>(),
    Declaration::of::<detection::recall_point_adjusted::RecallPointAdjusted>(),
    Declaration::of::<detection::f1_point_adjusted::F1PointAdjusted>(),
    Declaration::of::<detection::pa_k_f1::PaKF1>(),
    Declaration::of::<detection::pa_k_auc::PaKAuc>(),
    Declaration::of::<detection::best_f1::BestF1>(),
    Declaration::of::<detection::best_f1_point_adjusted::BestF1PointAdjusted>(),
    Declaration::of::<detection::detection_latency::DetectionLatency>(),
    Declaration::of::<detection::event_f1::EventF1>(),
    Declaration::of::<detection::range_f1::RangeF1>(),
    Declaration::of::<detection::affiliation_precision::AffiliationPrecision>(),
    Declaration::of::<detection::affiliation_recall::AffiliationRecall>(),
    Declaration::of::<detection::affiliation_f1::AffiliationF1>(),
    Declaration::of::<detection::roc_auc::RocAuc>(),
    Declaration::of::<detection::average_precision::AveragePrecision>(),
    Declaration::of::<detection::range_auc_roc::RangeAucRoc>(),
    Declaration::of::<detection::range_auc_pr::RangeAucPr>(),
    Declaration::of::<detection::vus_roc::VusRoc>(),
    Declaration::of::<detection::vus_pr::VusPr>(),
    Declaration::of::<forecast::mse::Mse>(),
    Declaration::of::<forecast::mae::Mae>(),
    Declaration::of::<forecast::rmse::Rmse>(),
    Declaration::of::<forecast::mape::Mape>(),
    Declaration::of::<forecast::mspe::Mspe>(),
    Declaration::of::<forecast::rse::Rse>(),
    Declaration::of::<forecast::corr::Corr>(),
    Declaration::of::<forecast::mase::Mase>(),
    Declaration::of::<classification::accuracy::Accuracy>(),
    Declaration::of::<classification::balanced_accuracy::BalancedAccuracy>(),
    Declaration::of::<classification::precision_macro::PrecisionMacro>(),
    Declaration::of::<classification::recall_macro::RecallMacro>(),
    Declaration::of::<classification::f1_macro::F1Macro>(),
    Declaration::of::<classification::precision_micro::PrecisionMicro>(),
    Declaration::of::<classification::recall_micro::RecallMicro>(),
    Declaration::of::<classification::f1_micro::F1Micro>(),
    Declaration::of::<classification::precision_weighted::PrecisionWeighted>(),
    Declaration::of::<classification::recall_weighted::RecallWeighted>(),
    Declaration::of::<classification::f1_weighted::F1Weighted>(),
    Declaration::of::<classification::top_k_accuracy::TopKAccuracy>(),
    Declaration::of::<classification::log_loss::LogLoss>(),
    Declaration::of::<classification::brier_score::BrierScore>(),
    Declaration::of::<classification::expected_calibration_error::ExpectedCalibrationError>(),
];

/// The table of metrics for a pipeline: `metrics: [f1, {kind: pa_k_f1, k: 50}]`.
#[derive(Debug)]
pub struct MetricTable;

impl Registry for MetricTable {
    const TAG: &'static str = "kind";
    const WHAT: &'static str = "metric";
    const BARE: bool = true;

    fn entries() -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(METRICS.len());
        for metric in METRICS {
            if entries.iter().all(|entry| entry.name != metric.name) {
                entries.push((metric.entry)());
            }
        }
        entries
    }
}

/// A metric with its parameters, as a pipeline names it.
pub type MetricChoice = Choice<MetricTable>;

/// The metrics of a name, one for each subject that it judges.
fn named(name: &str) -> impl Iterator<Item = &'static Declaration> {
    METRICS
        .iter()
        .filter(move |declaration| declaration.name == name)
}

fn declaration(choice: &MetricChoice, subject: Subject) -> Result<&'static Declaration, String> {
    let found = named(choice.name()).find(|declaration| declaration.subject == subject);
    found.ok_or_else(|| misplaced(choice, subject))
}

fn misplaced(choice: &MetricChoice, subject: Subject) -> String {
    let judges: Vec<&str> = named(choice.name())
        .map(|declaration| declaration.subject.name())
        .collect();
    let others: Vec<&str> = METRICS
        .iter()
        .filter(|metric| metric.subject == subject)
        .map(|metric| metric.name)
        .collect();
    format!(
        "metric `{}` judges {}, not {}; for these there are {}",
        choice.name(),
        judges.join(" and "),
        subject.name(),
        others.join(", ")
    )
}

/// Checks what the schema cannot say about a metric's parameters.
///
/// # Errors
/// A sentence about the parameter at fault.
pub fn check(choice: &MetricChoice) -> Result<(), String> {
    let declaration = named(choice.name())
        .next()
        .ok_or_else(|| format!("unknown metric `{}`", choice.name()))?;
    (declaration.check)(choice).map_err(|reason| format!("metric `{}`: {reason}", choice.name()))
}

/// Checks that a metric judges this subject.
///
/// # Errors
/// A sentence that says what it judges instead.
pub fn check_subject(choice: &MetricChoice, subject: Subject) -> Result<(), String> {
    declaration(choice, subject).map(|_| ())
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
    names
        .iter()
        .filter_map(|name| MetricChoice::new(name, Value::Object(Map::new())).ok())
        .collect()
}

/// The name under which a figure is reported: the metric's, with those parameters that differ from the default.
pub fn label(choice: &MetricChoice) -> String {
    let parameters = |choice: &MetricChoice| match choice.to_value() {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    let defaults = MetricChoice::new(choice.name(), Value::Object(Map::new()))
        .map(|choice| parameters(&choice));
    let defaults = defaults.unwrap_or_default();
    let differs = |(name, value): &(String, Value)| defaults.get(name) != Some(value);
    let text = |value: &Value| match (value.as_str(), value.as_f64()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(number)) => number.to_string(),
        (None, None) => value.to_string(),
    };
    let changed: Vec<String> = parameters(choice)
        .into_iter()
        .filter(differs)
        .map(|(name, value)| format!("{name}={}", text(&value)))
        .collect();
    if changed.is_empty() {
        choice.name().to_owned()
    } else {
        format!("{}({})", choice.name(), changed.join(","))
    }
}

/// Computes one metric. `oracle_threshold` says that the threshold itself was chosen with the judged labels.
///
/// # Errors
/// If the parameters do not fit the metric, or it judges something else.
pub fn evaluate<'a>(
    choice: &MetricChoice,
    evidence: impl Into<Evidence<'a>>,
    oracle_threshold: bool,
) -> Result<Metric, String> {
    let evidence = evidence.into();
    let declaration = declaration(choice, evidence.subject())?;
    let tainted = declaration.at_threshold && oracle_threshold;
    let mut caveat = declaration.caveat.to_owned();
    if tainted {
        let separator = if caveat.is_empty() { "" } else { "; " };
        caveat =
            format!("at an oracle threshold, chosen with the judged labels{separator}{caveat}");
    }
    let value = (declaration.value)(choice, evidence)?;
    Ok(Metric {
        name: label(choice),
        value: value.filter(|value| value.is_finite()),
        direction: declaration.direction,
        oracle: declaration.oracle || tainted,
        inflating: declaration.inflating,
        caveat,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_parameters_that_differ() {
        let choice = |text: &str| serde_json::from_str::<MetricChoice>(text).unwrap();
        assert_eq!(label(&choice(r#""f1""#)), "f1");
        assert_eq!(label(&choice(r#"{"kind":"pa_k_f1","k":20}"#)), "pa_k_f1");
        assert_eq!(
            label(&choice(r#"{"kind":"pa_k_f1","k":50}"#)),
            "pa_k_f1(k=50)"
        );
        assert!(check(&choice(r#"{"kind":"pa_k_f1","k":120}"#)).is_err());
    }

    #[test]
    fn an_oracle_threshold_taints_what_depends_on_it() {
        let case = Case::of_one_stretch(vec![0.0, 1.0], vec![false, true])
            .unwrap()
            .at(0.5);
        let choice = |name: &str| MetricChoice::new(name, Value::Object(Map::new())).unwrap();
        assert!(evaluate(&choice("f1"), &case, true).unwrap().oracle);
        assert!(!evaluate(&choice("roc_auc"), &case, true).unwrap().oracle);
        assert!(evaluate(&choice("best_f1"), &case, false).unwrap().oracle);
    }

    #[test]
    fn a_metric_of_one_kind_refuses_another() {
        let case = Case::of_one_stretch(vec![0.0, 1.0], vec![false, true]).unwrap();
        let choice = |name: &str| MetricChoice::new(name, Value::Object(Map::new())).unwrap();
        let error = evaluate(&choice("mse"), &case, false).unwrap_err();
        assert!(
            error.contains("judges forecasts, not anomaly scores") && error.contains("vus_pr"),
            "{error}"
        );
        let error = check_subject(&choice("accuracy"), Subject::Forecast).unwrap_err();
        assert!(
            error.contains("anomaly scores and class predictions, not forecasts"),
            "{error}"
        );
        for subject in Subject::ALL {
            assert!(usual(subject).len() > 3);
            assert!(
                usual(subject)
                    .iter()
                    .all(|choice| check_subject(choice, subject).is_ok())
            );
        }
    }

    #[test]
    fn names_are_unique_and_documented() {
        for (index, metric) in METRICS.iter().enumerate() {
            let mut others = METRICS[..index]
                .iter()
                .filter(|other| other.name == metric.name);
            assert!(
                others.all(|other| other.subject != metric.subject),
                "{}",
                metric.name
            );
            // The schema lists a name once: its parameters are those of all its subjects.
            let choice = MetricChoice::new(metric.name, Value::Object(Map::new())).unwrap();
            assert_eq!((metric.check)(&choice), Ok(()), "{}", metric.name);
        }
        assert!(
            METRICS
                .iter()
                .all(|declaration| declaration.doc.ends_with('.'))
        );
        assert!(
            METRICS
                .iter()
                .all(|metric| !(metric.inflating || metric.oracle) || !metric.caveat.is_empty())
        );
    }
}
