//! Metrics of anomaly detection, one file each, and the table that names them in a pipeline's `metrics` list.
//! They see scores, labels and alarms, never a model; what they say about a figure travels with it.

mod accuracy;
mod adjustment;
mod affiliation;
mod affiliation_f1;
mod affiliation_precision;
mod affiliation_recall;
mod average_precision;
mod best_f1;
mod best_f1_point_adjusted;
mod case;
mod counts;
mod detection_latency;
mod event_f1;
mod f1;
mod f1_point_adjusted;
#[cfg(test)]
pub(crate) mod golden;
mod pa_k_auc;
mod pa_k_f1;
mod precision;
mod precision_point_adjusted;
mod range_auc_pr;
mod range_auc_roc;
mod range_f1;
mod ranking;
mod recall;
mod recall_point_adjusted;
mod roc_auc;
mod soft_labels;
mod volume;
mod vus_pr;
mod vus_roc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use best_f1::best_threshold;
pub(crate) use best_f1_point_adjusted::best_threshold as best_adjusted_threshold;
pub use case::{Case, events_of};

use crate::artifact::{Direction, Metric};
use crate::contract::{Choice, Entry, Registry};

/// One metric: what it is called, how to read it, and how it is computed.
pub trait MetricKind: 'static {
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
    const AT_THRESHOLD: bool;

    /// What the types of the parameters cannot say.
    ///
    /// # Errors
    /// A sentence about the parameter at fault.
    fn check(_params: &Self::Params) -> Result<(), String> {
        Ok(())
    }

    /// The figure, or `None` where it is undefined for this case.
    fn value(params: &Self::Params, case: &Case) -> Option<f64>;
}

/// The parameters of a metric that has none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// A metric with its types erased.
#[derive(Clone, Copy)]
pub struct Declaration {
    pub name: &'static str,
    pub doc: &'static str,
    pub direction: Direction,
    pub oracle: bool,
    pub inflating: bool,
    pub caveat: &'static str,
    pub at_threshold: bool,
    entry: fn() -> Entry,
    check: fn(&MetricChoice) -> Result<(), String>,
    value: fn(&MetricChoice, &Case) -> Result<Option<f64>, String>,
}

impl Declaration {
    const fn of<M: MetricKind>() -> Self {
        Self {
            name: M::NAME,
            doc: M::DOC,
            direction: M::DIRECTION,
            oracle: M::ORACLE,
            inflating: M::INFLATING,
            caveat: M::CAVEAT,
            at_threshold: M::AT_THRESHOLD,
            entry: || Entry::new::<M::Params>(M::NAME, M::DOC),
            check: |choice| M::check(&choice.parameters()?),
            value: |choice, case| Ok(M::value(&choice.parameters()?, case)),
        }
    }
}

/// All metrics, in the order of the documentation.
pub const METRICS: &[Declaration] = &[
    Declaration::of::<precision::Precision>(),
    Declaration::of::<recall::Recall>(),
    Declaration::of::<f1::F1>(),
    Declaration::of::<accuracy::Accuracy>(),
    Declaration::of::<precision_point_adjusted::PrecisionPointAdjusted>(),
    Declaration::of::<recall_point_adjusted::RecallPointAdjusted>(),
    Declaration::of::<f1_point_adjusted::F1PointAdjusted>(),
    Declaration::of::<pa_k_f1::PaKF1>(),
    Declaration::of::<pa_k_auc::PaKAuc>(),
    Declaration::of::<best_f1::BestF1>(),
    Declaration::of::<best_f1_point_adjusted::BestF1PointAdjusted>(),
    Declaration::of::<detection_latency::DetectionLatency>(),
    Declaration::of::<event_f1::EventF1>(),
    Declaration::of::<range_f1::RangeF1>(),
    Declaration::of::<affiliation_precision::AffiliationPrecision>(),
    Declaration::of::<affiliation_recall::AffiliationRecall>(),
    Declaration::of::<affiliation_f1::AffiliationF1>(),
    Declaration::of::<roc_auc::RocAuc>(),
    Declaration::of::<average_precision::AveragePrecision>(),
    Declaration::of::<range_auc_roc::RangeAucRoc>(),
    Declaration::of::<range_auc_pr::RangeAucPr>(),
    Declaration::of::<vus_roc::VusRoc>(),
    Declaration::of::<vus_pr::VusPr>(),
];

/// The table of metrics for a pipeline: `metrics: [f1, {kind: pa_k_f1, k: 50}]`.
#[derive(Debug)]
pub struct MetricTable;

impl Registry for MetricTable {
    const TAG: &'static str = "kind";
    const WHAT: &'static str = "metric";
    const BARE: bool = true;

    fn entries() -> Vec<Entry> {
        METRICS.iter().map(|declaration| (declaration.entry)()).collect()
    }
}

/// A metric with its parameters, as a pipeline names it.
pub type MetricChoice = Choice<MetricTable>;

fn declaration(choice: &MetricChoice) -> Result<&'static Declaration, String> {
    let found = METRICS.iter().find(|declaration| declaration.name == choice.name());
    found.ok_or_else(|| format!("unknown metric `{}`", choice.name()))
}

/// Checks what the schema cannot say about a metric's parameters.
///
/// # Errors
/// A sentence about the parameter at fault.
pub fn check(choice: &MetricChoice) -> Result<(), String> {
    (declaration(choice)?.check)(choice).map_err(|reason| format!("metric `{}`: {reason}", choice.name()))
}

/// The name under which a figure is reported: the metric's, with those parameters that differ from the default.
pub fn label(choice: &MetricChoice) -> String {
    let parameters = |choice: &MetricChoice| match choice.to_value() {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    let defaults = MetricChoice::new(choice.name(), Value::Object(Map::new())).map(|choice| parameters(&choice));
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
    if changed.is_empty() { choice.name().to_owned() } else { format!("{}({})", choice.name(), changed.join(",")) }
}

/// Computes one metric. `oracle_threshold` says that the threshold itself was chosen with the judged labels.
///
/// # Errors
/// If the parameters do not fit the metric.
pub fn evaluate(choice: &MetricChoice, case: &Case, oracle_threshold: bool) -> Result<Metric, String> {
    let declaration = declaration(choice)?;
    let tainted = declaration.at_threshold && oracle_threshold;
    let mut caveat = declaration.caveat.to_owned();
    if tainted {
        let separator = if caveat.is_empty() { "" } else { "; " };
        caveat = format!("at an oracle threshold, chosen with the judged labels{separator}{caveat}");
    }
    let value = (declaration.value)(choice, case)?;
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
        assert_eq!(label(&choice(r#"{"kind":"pa_k_f1","k":50}"#)), "pa_k_f1(k=50)");
        assert!(check(&choice(r#"{"kind":"pa_k_f1","k":120}"#)).is_err());
    }

    #[test]
    fn an_oracle_threshold_taints_what_depends_on_it() {
        let case = Case::of_one_stretch(vec![0.0, 1.0], vec![false, true]).unwrap().at(0.5);
        let choice = |name: &str| MetricChoice::new(name, Value::Object(Map::new())).unwrap();
        assert!(evaluate(&choice("f1"), &case, true).unwrap().oracle);
        assert!(!evaluate(&choice("roc_auc"), &case, true).unwrap().oracle);
        assert!(evaluate(&choice("best_f1"), &case, false).unwrap().oracle);
    }

    #[test]
    fn names_are_unique_and_documented() {
        let mut names: Vec<&str> = METRICS.iter().map(|declaration| declaration.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        assert!(METRICS.iter().all(|declaration| declaration.doc.ends_with('.')));
        assert!(METRICS.iter().all(|metric| !(metric.inflating || metric.oracle) || !metric.caveat.is_empty()));
    }
}
