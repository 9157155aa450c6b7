//! The stage `evaluate`: chooses a threshold and judges the scores of one split by their labels.
//! It trains nothing and draws nothing; each figure says itself how far it can be trusted.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::artifact::{ArtifactKind, Direction, Metric, Metrics, Scores, Segment, Split};
use crate::contract::{Inputs, Learning, Numerics, Outputs, Port, Purpose, Stage, StageContext, StageError, Threads};
use crate::metrics::{self, Case, MetricChoice};
use crate::thresholds::{self, Basis, Chosen, Source, ThresholdChoice};

/// The stage kind.
pub struct Evaluate;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// How the score is chosen above which a row raises an alarm.
    pub threshold: ThresholdChoice,
    /// The figures to compute, in this order. The threshold always comes first.
    #[serde(default = "default_metrics")]
    pub metrics: Vec<MetricChoice>,
    /// The split that is judged.
    #[serde(default = "default_split")]
    pub on: Split,
}

const DEFAULT_METRICS: [&str; 10] = [
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
];

fn default_metrics() -> Vec<MetricChoice> {
    let choice = |name: &&str| MetricChoice::new(name, Value::Object(Map::new())).ok();
    DEFAULT_METRICS.iter().filter_map(choice).collect()
}

fn default_split() -> Split {
    Split::Test
}

impl Stage for Evaluate {
    type Params = Params;

    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 1;
    const DOC: &'static str = "Chooses a threshold and judges anomaly scores by the labels of one split.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;
    const EXAMPLE: &'static str = r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 0.5}}"#;

    fn inputs(_: &Params) -> Vec<Port> {
        vec![Port::new("scores", ArtifactKind::Scores, "anomaly scores with labels")]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![Port::new("metrics", ArtifactKind::Metrics, "the threshold and the figures")]
    }

    fn check(params: &Params) -> Result<(), (String, String)> {
        thresholds::check(&params.threshold).map_err(|reason| ("threshold".to_owned(), reason))?;
        for (index, choice) in params.metrics.iter().enumerate() {
            let blame = |reason: String| (format!("metrics.{index}"), reason);
            metrics::check(choice).map_err(blame)?;
            if params.metrics[..index].contains(choice) {
                return Err(blame(format!("metric `{}` is asked for twice", metrics::label(choice))));
            }
        }
        Ok(())
    }

    fn learns(params: &Params) -> Vec<Learning> {
        let learning = |from, oracle, parameter| Learning {
            what: "threshold",
            purpose: Purpose::Threshold { judged: params.on },
            from,
            labels: oracle,
            oracle,
            parameter,
        };
        match thresholds::basis(&params.threshold) {
            Ok(Basis::Scores(splits)) if splits.is_empty() => {
                vec![learning(vec![Split::Calibration, Split::Train], false, "threshold")]
            }
            Ok(Basis::Scores(splits)) => vec![learning(splits, false, "threshold.over")],
            Ok(Basis::JudgedLabels) => vec![learning(vec![params.on], true, "threshold.kind")],
            Ok(Basis::Nothing) | Err(_) => Vec::new(),
        }
    }

    fn run(params: &Params, inputs: &Inputs, context: &StageContext<'_>) -> Result<Outputs, StageError> {
        let scores = inputs.get::<Scores>("scores")?;
        let case = judged_case(&scores, params.on, context)?;
        if case.events.is_empty() {
            context.host.note(&format!(
                "no row of split `{}` is labelled as an anomaly: most figures are undefined",
                params.on
            ));
        }
        let (threshold, case) = apply_threshold(params, &scores, case)?;
        context.check_cancelled()?;
        let figures = params.metrics.par_iter().map(|choice| metrics::evaluate(choice, &case, threshold.oracle));
        let figures = figures.collect::<Result<Vec<_>, _>>().map_err(StageError::new)?;
        let entries = std::iter::once(threshold).chain(figures).collect();
        Ok(Outputs::one("metrics", Metrics { entries }))
    }
}

/// The labelled rows of a split, segment after segment.
fn judged_case(scores: &Scores, split: Split, context: &StageContext<'_>) -> Result<Case, StageError> {
    let segments: Vec<&Segment> = scores.of_split(split).filter(|segment| !segment.rows.is_empty()).collect();
    if segments.is_empty() {
        return Err(no_rows(scores, &[split], "judged"));
    }
    let labelled: Vec<&Segment> =
        segments.iter().copied().filter(|segment| segment.labelled && !scores.labels.is_empty()).collect();
    if labelled.is_empty() {
        return Err(StageError::new(format!("the rows of split `{split}` have no labels to judge by"))
            .hint("judge a split with labels (`on: …`), or ingest a data set that has some; scores alone can be drawn by `render-plots`"));
    }
    if labelled.len() < segments.len() {
        let left_out = segments.len() - labelled.len();
        context.host.note(&format!("{left_out} segments of split `{split}` have no labels and are not judged"));
    }
    let (mut values, mut labels, mut stretches) = (Vec::new(), Vec::new(), Vec::new());
    for segment in labelled {
        let start = values.len();
        extend_finite(&mut values, scores, segment)?;
        labels.extend(scores.labels[segment.rows.clone()].iter().map(|label| *label != 0));
        stretches.push(start..values.len());
    }
    Case::new(values, labels, stretches).map_err(StageError::new)
}

fn extend_finite(values: &mut Vec<f64>, scores: &Scores, segment: &Segment) -> Result<(), StageError> {
    for (row, score) in segment.rows.clone().zip(&scores.scores[segment.rows.clone()]) {
        if !score.is_finite() {
            let message = format!(
                "the score of row {row} (split `{}`, {}, row {} of its segment) is {score}, not a finite number",
                segment.split,
                segment.entity,
                row - segment.rows.start
            );
            return Err(StageError::new(message)
                .hint("the model has probably diverged: look at its training log, or lower its learning rate"));
        }
        values.push(f64::from(*score));
    }
    Ok(())
}

fn no_rows(scores: &Scores, wanted: &[Split], purpose: &str) -> StageError {
    let list = |splits: &[Split]| splits.iter().map(|split| format!("`{split}`")).collect::<Vec<_>>().join(", ");
    let present: Vec<Split> = Split::ALL
        .into_iter()
        .filter(|split| scores.of_split(*split).any(|segment| !segment.rows.is_empty()))
        .collect();
    let hint = if present.is_empty() {
        "the scores have no rows at all".to_owned()
    } else {
        format!("there are scores of {}", list(&present))
    };
    StageError::new(format!("no scores of split {} to be {purpose}", list(wanted))).hint(hint)
}

/// Chooses the threshold; gives it as a figure, and the case with its alarms.
fn apply_threshold(params: &Params, scores: &Scores, case: Case) -> Result<(Metric, Case), StageError> {
    let basis = thresholds::basis(&params.threshold).map_err(StageError::new)?;
    let (over, values) = match &basis {
        Basis::Scores(splits) => threshold_scores(scores, splits)?,
        Basis::Nothing | Basis::JudgedLabels => (Vec::new(), Vec::new()),
    };
    let source = Source { scores: &values, case: &case };
    let Chosen { value, how } = thresholds::choose(&params.threshold, &source)?;
    let names = over.iter().map(Split::to_string).collect::<Vec<_>>().join(" and ");
    let metric = Metric {
        name: "threshold".to_owned(),
        value: Some(value),
        direction: Direction::Neither,
        oracle: basis == Basis::JudgedLabels,
        inflating: false,
        caveat: if over.is_empty() { how } else { format!("from the scores of {names}: {how}") },
    };
    Ok((metric, case.at(value)))
}

/// The scores of these splits; if none is named, of calibration, or else of train.
fn threshold_scores(scores: &Scores, splits: &[Split]) -> Result<(Vec<Split>, Vec<f64>), StageError> {
    let has_rows = |split: &Split| scores.of_split(*split).any(|segment| !segment.rows.is_empty());
    let over = if splits.is_empty() {
        let fallback = [Split::Calibration, Split::Train];
        let first = fallback.into_iter().find(has_rows).ok_or_else(|| no_rows(scores, &fallback, "learned from"))?;
        vec![first]
    } else if let Some(missing) = splits.iter().find(|split| !has_rows(split)) {
        return Err(no_rows(scores, &[*missing], "learned from"));
    } else {
        splits.to_vec()
    };
    let mut values = Vec::new();
    for segment in over.iter().flat_map(|split| scores.of_split(*split)) {
        extend_finite(&mut values, scores, segment)?;
    }
    Ok((over, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{NullHost, StageKind};

    fn scores() -> Scores {
        let segment = |split, rows, labelled| Segment::new(split, "m", rows).labelled(labelled);
        Scores {
            scores: vec![1.0, 2.0, 3.0, 4.0, 0.5, 9.0, 8.0, 0.1, 7.0, 0.2],
            labels: vec![0, 0, 0, 0, 0, 1, 1, 1, 0, 0],
            segments: vec![
                segment(Split::Train, 0..4, false),
                segment(Split::Test, 4..7, true),
                segment(Split::Test, 7..10, true),
            ],
            channels: vec![],
            contributions: vec![],
        }
    }

    fn run(scores: Scores, parameters: Value) -> Result<Metrics, StageError> {
        let kind = StageKind::of::<Evaluate>();
        let parameters = kind.complete(parameters).map_err(StageError::new)?;
        kind.check(&parameters).map_err(|(at, reason)| StageError::new(format!("{at}: {reason}")))?;
        let mut inputs = Inputs::default();
        inputs.add("scores", "", scores.into());
        let outputs = kind.run(&parameters, &inputs, &NullHost::default().context(0))?;
        let artifact = outputs.into_map().swap_remove("metrics").unwrap();
        match artifact {
            crate::artifact::Artifact::Metrics(metrics) => Ok(metrics.as_ref().clone()),
            other => panic!("{other:?}"),
        }
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn threshold_from_training_scores_and_default_figures() {
        let metrics = run(scores(), json(r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 50}}"#)).unwrap();
        assert_eq!(metrics.entries.len(), 1 + DEFAULT_METRICS.len());
        assert_eq!(metrics.get("threshold"), Some(2.5));
        assert!(metrics.entries[0].caveat.contains("train"), "{}", metrics.entries[0].caveat);
        // Alarms at 9, 8 and 7; the event is cut in two by the end of the segment.
        assert_eq!(metrics.get("precision"), Some(2.0 / 3.0));
        assert_eq!(metrics.get("recall"), Some(2.0 / 3.0));
        assert_eq!(metrics.get("recall_point_adjusted"), Some(2.0 / 3.0));
        let oracles: Vec<&str> =
            metrics.entries.iter().filter(|entry| entry.oracle).map(|entry| entry.name.as_str()).collect();
        assert_eq!(oracles, ["best_f1"]);
    }

    #[test]
    fn an_oracle_is_called_one_in_every_figure_at_the_threshold() {
        let parameters = json(
            r#"{"threshold": {"kind": "best-f1"}, "metrics": ["f1", "best_f1", {"kind": "pa_k_f1", "k": 50}, "roc_auc"]}"#,
        );
        let metrics = run(scores(), parameters.clone()).unwrap();
        assert_eq!(metrics.get("f1"), metrics.get("best_f1"));
        let flags: Vec<(&str, bool)> =
            metrics.entries.iter().map(|entry| (entry.name.as_str(), entry.oracle)).collect();
        let expected =
            [("threshold", true), ("f1", true), ("best_f1", true), ("pa_k_f1(k=50)", true), ("roc_auc", false)];
        assert_eq!(flags, expected);
        let kind = StageKind::of::<Evaluate>();
        let learning = kind.learns(&kind.complete(parameters).unwrap());
        assert!(learning[0].oracle && learning[0].labels && learning[0].from == [Split::Test]);
    }

    #[test]
    fn says_what_is_wrong() {
        let quantile = json(r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 1}}"#);
        let mut unlabelled = scores();
        unlabelled.segments.iter_mut().for_each(|segment| segment.labelled = false);
        let error = run(unlabelled, quantile.clone()).unwrap_err();
        assert!(error.message().contains("`test` have no labels") && error.hint_text().is_some());

        let mut diverged = scores();
        diverged.scores[8] = f32::NAN;
        let error = run(diverged, quantile.clone()).unwrap_err();
        assert!(error.message().contains("row 8") && error.message().contains("row 1 of its segment"), "{error}");

        let error =
            run(scores(), json(r#"{"threshold": {"kind": "fixed", "value": 1}, "on": "validation"}"#)).unwrap_err();
        assert!(error.message().contains("`validation`") && error.hint_text().unwrap().contains("`train`, `test`"));

        let over = json(r#"{"threshold": {"kind": "k-sigma", "over": ["calibration"]}}"#);
        assert!(run(scores(), over).unwrap_err().message().contains("`calibration`"));
        for wrong in [
            r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 0}}"#,
            r#"{"threshold": {"kind": "quantil"}}"#,
            r#"{"threshold": {"kind": "pot", "risk": 0.5}}"#,
            r#"{"threshold": {"kind": "best-f1"}, "metrics": ["f1", "f1"]}"#,
            r#"{"threshold": {"kind": "best-f1"}, "metrics": [{"kind": "vus_pr", "window": 100000}]}"#,
            r#"{}"#,
        ] {
            assert!(run(scores(), json(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn undefined_figures_are_absent() {
        let mut normal = scores();
        normal.labels.fill(0);
        let metrics = run(normal, json(r#"{"threshold": {"kind": "fixed", "value": 5}}"#)).unwrap();
        for name in ["best_f1", "roc_auc", "average_precision", "vus_pr"] {
            assert_eq!(metrics.get(name), None, "{name}");
        }
    }

    #[test]
    fn the_schema_lists_metrics_by_name_and_with_parameters() {
        let schema = serde_json::to_string(&StageKind::of::<Evaluate>().schema()).unwrap();
        for part in [r#""const":"pa_k_f1""#, r#""enum":["precision","recall","f1""#, r#""const":"best-f1""#] {
            assert!(schema.contains(part), "{part}");
        }
    }

    #[test]
    fn states_what_the_threshold_is_learned_from() {
        let kind = StageKind::of::<Evaluate>();
        let learns = |text: &str| kind.learns(&kind.complete(json(text)).unwrap());
        let thuml = learns(r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 1, "over": ["train", "test"]}}"#);
        assert_eq!(thuml[0].from, [Split::Train, Split::Test]);
        assert_eq!((thuml[0].parameter, thuml[0].labels), ("threshold.over", false));
        assert!(learns(r#"{"threshold": {"kind": "fixed", "value": 1}}"#).is_empty());
        let judged = learns(r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 1}, "on": "calibration"}"#);
        let allowed = |split: &Split| judged[0].purpose.allows(*split);
        assert_eq!(judged[0].from.iter().map(allowed).collect::<Vec<_>>(), [false, true]);
    }
}
