//! Tests of the stage `evaluate` on small artifacts.

use serde_json::Value;

use super::*;
use contract::artifact::{Artifact, Metrics, Origin, Segment, Table};
use contract::{NullHost, StageKind};

fn scores() -> Scores {
    let segment = |split, rows, labelled| Segment::new(split, "m", rows).labelled(labelled);
    Scores {
        scores: vec![1.0, 2.0, 3.0, 4.0, 0.5, 9.0, 8.0, 0.1, 7.0, 0.2],
        labels: vec![0, 0, 0, 0, 0, 1, 1, 1, 0, 0],
        times: vec![],
        segments: vec![
            segment(Split::Train, 0..4, false),
            segment(Split::Test, 4..7, true),
            segment(Split::Test, 7..10, true),
        ],
        channels: vec![],
        contributions: vec![],
    }
}

/// The artifacts by output port.
fn outputs(
    port: &str,
    judged: Artifact,
    parameters: Value,
) -> Result<Vec<(String, Artifact)>, Trouble> {
    let kind = StageKind::of::<Evaluate>();
    let parameters = kind.parse(parameters).map_err(Trouble::new)?;
    parameters.check()?;
    let mut inputs = Inputs::default();
    inputs.add(port, "", judged);
    let made: Vec<_> = parameters
        .run(&inputs, &NullHost::default().context(0))?
        .into_map()
        .into_iter()
        .collect();
    // Exactly the outputs that are declared for this input.
    let declared = parameters
        .outputs()
        .into_iter()
        .filter(|output| output.only_with.is_none_or(|with| with == port));
    let names = |ports: &mut dyn Iterator<Item = String>| ports.collect::<Vec<_>>();
    assert_eq!(
        names(&mut made.iter().map(|(name, _)| name.clone())),
        names(&mut declared.map(|output| output.name))
    );
    Ok(made)
}

fn metrics_of(outputs: &[(String, Artifact)]) -> Metrics {
    match &outputs[0].1 {
        Artifact::Metrics(metrics) => metrics.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

fn table_of(outputs: &[(String, Artifact)], name: &str) -> Table {
    match outputs.iter().find(|(port, _)| port == name) {
        Some((_, Artifact::Table(table))) => table.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

fn run(scores: Scores, parameters: Value) -> Result<Metrics, Trouble> {
    Ok(metrics_of(&outputs("scores", scores.into(), parameters)?))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn threshold_from_training_scores_and_default_metrics() {
    let metrics = run(
        scores(),
        json(r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 50}}"#),
    )
    .unwrap();
    assert_eq!(
        metrics.entries.len(),
        1 + metrics::usual(Subject::Detection).len()
    );
    assert_eq!(metrics.get("threshold"), Some(2.5));
    assert!(
        metrics.entries[0].caveat.contains("train"),
        "{}",
        metrics.entries[0].caveat
    );
    // Alarms at 9, 8 and 7; rows that were left out within the event do not make two of it.
    assert_eq!(metrics.get("precision"), Some(2.0 / 3.0));
    assert_eq!(metrics.get("recall"), Some(2.0 / 3.0));
    assert_eq!(metrics.get("recall_point_adjusted"), Some(1.0));
    // Between entities, an event ends.
    let mut of_two = scores();
    let last = of_two.segments.last_mut().unwrap();
    last.entity = "another".to_owned();
    let parameters = json(r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 50}}"#);
    let metrics_of_two = run(of_two, parameters).unwrap();
    assert_eq!(metrics_of_two.get("recall_point_adjusted"), Some(2.0 / 3.0));
    let oracles: Vec<&str> = metrics
        .entries
        .iter()
        .filter(|entry| entry.oracle)
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(oracles, ["best_f1"]);
}

#[test]
fn an_oracle_is_called_one_in_every_metric_at_the_threshold() {
    let parameters = json(
        r#"{"threshold": {"kind": "best-f1"}, "metrics": ["f1", "best_f1", {"kind": "pa_k_f1", "k": 50}, "roc_auc"]}"#,
    );
    let metrics = run(scores(), parameters.clone()).unwrap();
    assert_eq!(metrics.get("f1"), metrics.get("best_f1"));
    let flags: Vec<(&str, bool)> = metrics
        .entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.oracle))
        .collect();
    let expected = [
        ("threshold", true),
        ("f1", true),
        ("best_f1", true),
        ("pa_k_f1(k=50)", true),
        ("roc_auc", false),
    ];
    assert_eq!(flags, expected);
    let kind = StageKind::of::<Evaluate>();
    let learning = kind.parse(parameters).unwrap().learns();
    assert!(learning[0].oracle && learning[0].labels && learning[0].from == [Split::Test]);
}

#[test]
fn says_what_is_wrong() {
    let quantile = json(r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 1}}"#);
    let mut unlabelled = scores();
    unlabelled
        .segments
        .iter_mut()
        .for_each(|segment| segment.labelled = false);
    let error = run(unlabelled, quantile.clone()).unwrap_err();
    assert!(error.message().contains("`test` have no labels") && error.hint_text().is_some());

    let mut diverged = scores();
    diverged.scores[8] = f32::NAN;
    let error = run(diverged, quantile.clone()).unwrap_err();
    assert!(
        error.message().contains("row 8") && error.message().contains("row 1 of its segment"),
        "{error}"
    );

    let error = run(
        scores(),
        json(r#"{"threshold": {"kind": "fixed", "value": 1}, "on": "validation"}"#),
    )
    .unwrap_err();
    assert!(
        error.message().contains("`validation`")
            && error.hint_text().unwrap().contains("`train`, `test`")
    );

    let over = json(r#"{"threshold": {"kind": "k-sigma", "over": ["calibration"]}}"#);
    assert!(
        run(scores(), over)
            .unwrap_err()
            .message()
            .contains("`calibration`")
    );
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
fn undefined_metrics_are_absent() {
    let mut normal = scores();
    normal.labels.fill(0);
    let metrics = run(
        normal,
        json(r#"{"threshold": {"kind": "fixed", "value": 5}}"#),
    )
    .unwrap();
    for name in ["best_f1", "roc_auc", "average_precision", "vus_pr"] {
        assert_eq!(metrics.get(name), None, "{name}");
    }
}

#[test]
fn the_schema_lists_metrics_by_name_and_with_parameters() {
    let schema = serde_json::to_string(&StageKind::of::<Evaluate>().schema()).unwrap();
    for part in [
        r#""const":"pa_k_f1""#,
        r#""enum":["precision","recall","f1""#,
        r#""const":"best-f1""#,
    ] {
        assert!(schema.contains(part), "{part}");
    }
}

#[test]
fn states_what_the_threshold_is_learned_from() {
    let kind = StageKind::of::<Evaluate>();
    let learns = |text: &str| kind.parse(json(text)).unwrap().learns();
    let thuml = learns(
        r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 1, "over": ["train", "test"]}}"#,
    );
    assert_eq!(thuml[0].from, [Split::Train, Split::Test]);
    assert_eq!(
        (thuml[0].parameter, thuml[0].labels),
        ("threshold.over", false)
    );
    assert!(learns(r#"{"threshold": {"kind": "fixed", "value": 1}}"#).is_empty());
    let judged =
        learns(r#"{"threshold": {"kind": "quantile", "anomaly_ratio": 1}, "on": "calibration"}"#);
    let allowed = |split: &Split| judged[0].purpose.allows(*split);
    assert_eq!(
        judged[0].from.iter().map(allowed).collect::<Vec<_>>(),
        [false, true]
    );
}

#[test]
fn an_adaptive_threshold_is_none_that_all_rows_are_held_against() {
    let parameters =
        json(r#"{"threshold": {"kind": "ewma", "k": 1, "smoothing": 0.5}, "metrics": ["recall"]}"#);
    let metrics = run(scores(), parameters.clone()).unwrap();
    // Mean 2.5 and variance 1.25 of the training scores; the first segment of the test split is 0.5, 9, 8.
    assert_eq!(metrics.get("threshold"), None);
    assert_eq!(
        metrics.get("threshold_at_start"),
        Some(2.5 + 1.25_f64.sqrt())
    );
    assert!(
        metrics.entries[0]
            .caveat
            .starts_with("from the scores of train: adapts"),
        "{}",
        metrics.entries[0].caveat
    );
    assert_eq!(metrics.get("recall"), Some(2.0 / 3.0));
    let kind = StageKind::of::<Evaluate>();
    let configured = kind.parse(parameters).unwrap();
    // What a page draws: alarms above it are those that were counted.
    let moving = configured.moving_threshold(&scores()).unwrap();
    let judged = scores();
    let above = |(row, line): &&(usize, f64)| f64::from(judged.scores[*row]) > *line;
    let hits = moving.iter().filter(above);
    let hits = hits.filter(|(row, _)| judged.labels[*row] != 0).count();
    let anomalous = moving.iter().filter(|(row, _)| judged.labels[*row] != 0);
    assert_eq!((hits, anomalous.count()), (2, 3));
    let fixed = kind.parse(json(r#"{"threshold": {"kind": "fixed", "value": 3}}"#));
    assert_eq!(fixed.unwrap().moving_threshold(&scores()), None);
    let learned = configured.learns();
    assert_eq!(learned[1].purpose, Purpose::Adapt);
    assert_eq!(
        (learned[1].from.as_slice(), learned[1].labels),
        ([Split::Test].as_slice(), false)
    );
    for kind in ["spot", "dspot"] {
        let error = run(
            scores(),
            json(&format!(r#"{{"threshold": {{"kind": "{kind}"}}}}"#)),
        )
        .unwrap_err();
        assert!(
            error.hint_text().is_some(),
            "four scores have no tail: {error}"
        );
    }
}

fn forecasts() -> Forecasts {
    let origin = |split, row| Origin {
        split,
        entity: "m".into(),
        row,
    };
    Forecasts {
        channels: vec!["load".into(), "temperature".into()],
        horizon: 2,
        origins: vec![
            origin(Split::Validation, 3),
            origin(Split::Test, 5),
            origin(Split::Test, 6),
        ],
        predicted: vec![9.0, 9.0, 9.0, 9.0, 1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 2.0],
        actual: vec![0.0; 12],
        times: vec![],
        judged: Vec::new(),
        naive_error: vec![2.0, 0.5],
    }
}

#[test]
fn forecasts_are_judged_as_a_whole_by_step_and_by_channel() {
    let made = outputs(
        "forecasts",
        forecasts().into(),
        json(r#"{"metrics": ["mse", "mae", "mase"]}"#),
    )
    .unwrap();
    let metrics = metrics_of(&made);
    assert_eq!(
        (metrics.get("mse"), metrics.get("mae")),
        (Some(34.0 / 8.0), Some(1.5))
    );
    assert_eq!(metrics.get("mase"), Some((10.0 / 2.0 + 2.0 / 0.5) / 8.0));
    let by_step = table_of(&made, "by_step");
    assert_eq!(by_step.integers("step").unwrap(), [Some(0), Some(1)]);
    assert_eq!(by_step.reals("mae").unwrap(), [Some(1.0), Some(2.0)]);
    let by_channel = table_of(&made, "by_channel");
    assert_eq!(
        by_channel.texts("channel").unwrap(),
        [Some("load".to_owned()), Some("temperature".to_owned())]
    );
    assert_eq!(by_channel.reals("mse").unwrap(), [Some(7.5), Some(1.0)]);

    let mut imputed = forecasts();
    imputed.judged = vec![1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0];
    let made = outputs("forecasts", imputed.into(), json("{}")).unwrap();
    let metrics = metrics_of(&made);
    assert_eq!(
        (metrics.get("mse"), metrics.get("mae")),
        (Some(8.5), Some(2.5))
    );
    assert_eq!(
        table_of(&made, "by_channel").reals("mse").unwrap(),
        [Some(8.5), None]
    );
}

#[test]
fn predictions_are_judged_as_a_whole_and_by_class() {
    let predictions = Predictions {
        classes: vec!["trend".into(), "point".into()],
        samples: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
        splits: vec![Split::Test, Split::Test, Split::Test, Split::Train],
        truth: vec![0, 0, 1, 1],
        probabilities: vec![0.75, 0.25, 0.25, 0.75, 0.0, 1.0, 1.0, 0.0],
        ..Predictions::default()
    };
    let made = outputs("predictions", predictions.clone().into(), json("{}")).unwrap();
    let metrics = metrics_of(&made);
    assert_eq!(
        (metrics.get("accuracy"), metrics.get("balanced_accuracy")),
        (Some(2.0 / 3.0), Some(0.75))
    );
    let confusion = table_of(&made, "confusion");
    assert_eq!(
        confusion.integers("count").unwrap(),
        [Some(1), Some(1), Some(0), Some(1)]
    );
    assert_eq!(
        confusion.texts("class").unwrap()[1..3],
        [Some("trend".to_owned()), Some("point".to_owned())]
    );
    assert_eq!(
        table_of(&made, "by_class").reals("precision").unwrap(),
        [Some(1.0), Some(0.5)]
    );

    let error = outputs(
        "predictions",
        predictions.clone().into(),
        json(r#"{"on": "calibration"}"#),
    )
    .unwrap_err();
    assert!(error.hint_text().unwrap().contains("`train`, `test`"));
    let unlabelled = Predictions {
        truth: Vec::new(),
        ..predictions
    };
    let error = outputs("predictions", unlabelled.into(), json("{}")).unwrap_err();
    assert!(error.message().contains("no true class"), "{error}");
}

#[test]
fn says_what_does_not_go_together() {
    let error = |connected: &[&str], text: &str| {
        let kind = StageKind::of::<Evaluate>();
        let parameters = kind.parse(json(text)).unwrap();
        parameters.check_inputs(connected).unwrap_err()
    };
    assert!(error(&[], "{}").reason.contains("nothing to judge"));
    assert!(
        error(&["scores", "forecasts"], "{}")
            .reason
            .contains("`scores` and `forecasts` are connected")
    );
    assert!(error(&["scores"], "{}").reason.contains("at a threshold"));
    let fault = error(
        &["forecasts"],
        r#"{"threshold": {"kind": "fixed", "value": 1}}"#,
    );
    assert_eq!(fault.parameter, "threshold");
    assert!(fault.reason.contains("forecasts have no threshold"));
    let fault = error(&["predictions"], r#"{"metrics": ["accuracy", "mse"]}"#);
    assert_eq!(fault.parameter, "metrics.1");
    let words = "`mse` judges forecasts, not class predictions";
    assert!(fault.reason.contains(words), "{fault}");
}
