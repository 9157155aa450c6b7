//! Learning from rows that are not meant for it is found before anything runs: a warning, or an error where the
//! pipeline is strict. What knows the test labels on purpose says so in its results.

use insta::assert_snapshot;

use crate::environment::TestEnvironment;
use crate::pipelines::SMALL;

/// The pipeline with one thing changed.
fn changed(from: &str, to: &str) -> String {
    let text = SMALL.replace(from, to);
    assert_ne!(text, SMALL, "`{from}` is not in the pipeline");
    text
}

/// Every kind of leak that a stage kind can declare.
fn leaks() -> [(&'static str, String); 4] {
    [
        (
            "a normaliser fitted on all rows",
            changed("{method: zscore}", "{method: zscore, fit: all}"),
        ),
        (
            "a normaliser fitted on test rows",
            changed("{method: zscore}", "{method: zscore, fit: [train, test]}"),
        ),
        (
            "windows across boundaries",
            changed("{length: 16}", "{length: 16, cross_boundaries: true}"),
        ),
        (
            "a threshold from test scores",
            changed(
                "anomaly_ratio: 2}",
                "anomaly_ratio: 2, over: [train, test]}",
            ),
        ),
    ]
}

fn strict(pipeline: &str) -> String {
    pipeline.replace("seed: 7", "seed: 7\nstrict: true")
}

#[test]
fn each_leak_is_a_warning_and_the_pipeline_runs() {
    let mut told = Vec::new();
    for (name, pipeline) in leaks() {
        let environment = TestEnvironment::with_pipeline(&pipeline);
        let planned = environment.succeed(&["plan", "pipeline.yaml"]);
        assert_eq!(
            planned.stderr.matches("warning[leakage]").count(),
            1,
            "{name}: {}",
            planned.describe()
        );
        told.push(planned.stderr);
        environment
            .succeed(&["run", "--quiet", "pipeline.yaml"])
            .says("warning[leakage]");
    }
    assert_snapshot!(told.join("\n"));
}

#[test]
fn a_strict_pipeline_does_not_run_with_a_leak() {
    for (name, pipeline) in leaks() {
        let environment = TestEnvironment::with_pipeline(&strict(&pipeline));
        for verb in ["run", "plan"] {
            let refused = environment.run(&[verb, "pipeline.yaml"]).expect(2);
            assert_eq!(
                refused.stderr.matches("error[leakage]").count(),
                1,
                "{name}: {}",
                refused.describe()
            );
        }
        assert!(!environment.path("cache").exists(), "{name}");
    }
}

/// A threshold is not sound where the rows that it is learned from are the ones that are judged, be they test rows or
/// not; named others are.
#[test]
fn a_threshold_from_the_judged_rows_is_a_leak() {
    let judging = |more: &str| {
        let pipeline = changed(
            "anomaly_ratio: 2}",
            &format!("anomaly_ratio: 2{more}}}, on: calibration"),
        );
        TestEnvironment::with_pipeline(&pipeline)
            .succeed(&["plan", "pipeline.yaml"])
            .stderr
    };
    for default_or_named in [
        "",
        ", over: [calibration]",
        ", over: [validation, calibration]",
    ] {
        let told = judging(default_or_named);
        let message = "learns its threshold from calibration rows, which are judged by it";
        assert_eq!(told.matches(message).count(), 1, "{told}");
        assert!(
            told.contains("these are allowed: train, validation\n"),
            "{told}"
        );
    }
    assert_eq!(judging(", over: [validation]"), "");
}

#[test]
fn a_sound_pipeline_is_no_leak() {
    let environment = TestEnvironment::with_pipeline(&strict(SMALL));
    let planned = environment.succeed(&["plan", "pipeline.yaml"]);
    assert_eq!(planned.stderr, "");
}

/// Fitting nothing leaks nothing, whatever rows are named.
#[test]
fn no_statistics_no_leak() {
    let environment = TestEnvironment::with_pipeline(&strict(&changed(
        "{method: zscore}",
        "{method: none, fit: all}",
    )));
    assert_eq!(environment.succeed(&["plan", "pipeline.yaml"]).stderr, "");
}

#[test]
fn an_oracle_is_allowed_and_marked() {
    let pipeline = strict(&changed(
        "{kind: quantile, anomaly_ratio: 2}",
        "{kind: best-f1}",
    ));
    let environment = TestEnvironment::with_pipeline(&pipeline);
    let finished = environment.succeed(&["run", "pipeline.yaml"]);
    assert!(
        !finished.stderr.contains("leakage"),
        "{}",
        finished.describe()
    );
    for metric in ["threshold", "precision", "recall", "f1", "best_f1"] {
        let row = finished
            .stdout
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{metric} ")))
            .unwrap();
        assert!(row.contains("oracle: knows the test labels"), "{row}");
    }
}

/// Without an oracle threshold only the best F1 carries the mark.
#[test]
fn an_honest_threshold_is_not_marked() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let finished = environment.succeed(&["run", "pipeline.yaml"]);
    let marked: Vec<&str> = finished
        .stdout
        .lines()
        .filter(|line| line.contains("oracle"))
        .collect();
    assert_eq!(marked.len(), 1, "{marked:?}");
    assert!(marked[0].trim_start().starts_with("best_f1 "));
}

/// The instances of a stage leak alike: one warning for all.
#[test]
fn instances_are_told_once() {
    let text = changed(
        "  scaled: {uses: normalize, from: raw, with: {method: zscore}}",
        "  scaled: {foreach: {clip: [3, 4, 5]}, uses: normalize, from: raw, with: {fit: all, clip: \"${clip}\"}}",
    );
    let environment = TestEnvironment::with_pipeline(&text);
    let planned = environment.succeed(&["plan", "pipeline.yaml"]);
    assert_eq!(
        planned.stderr.matches("warning[leakage]").count(),
        1,
        "{}",
        planned.describe()
    );
}
