//! What `ingest` says of a file that is plausible and wrong, and what later stages make of short and undefined parts.

use std::fmt::Write as _;

use crate::environment::TestEnvironment;

/// A pipeline that reads `data.csv` with these parameters.
fn reading(with: &str, more: &str) -> String {
    format!(
        "pipeline: p\nseed: 1\n{more}stages:\n  raw: {{uses: ingest, with: {{dataset: csv, path: data.csv, {with}}}}}\n"
    )
}

/// A wave and another one, row by row.
fn wave(row: usize) -> String {
    let at = row as f64;
    format!("{:.4},{:.4}", (at * 0.3).sin(), (at * 0.17).cos() * 2.0)
}

/// A table with these names whose rows are made by a function.
fn table(names: &str, rows: usize, row: impl Fn(usize) -> String) -> String {
    let mut text = format!("{names}\n");
    for number in 0..rows {
        let _ = writeln!(text, "{}", row(number));
    }
    text
}

const HALVES: &str = "split: {train: 0.5, test: 0.5}";

/// The tables of which something is doubtful, with what is said.
fn doubtful() -> Vec<(String, &'static str, &'static str)> {
    let waves = table("a,b", 60, wave);
    let body: String = waves
        .lines()
        .skip(1)
        .map(|line| format!("{line}\n"))
        .collect();
    vec![
        (
            table(",a,b", 60, |row| format!("{row},{}", wave(row))),
            HALVES,
            "the channel without a name only counts the rows",
        ),
        (body.clone(), HALVES, "the names of the columns are numbers"),
        (
            format!("a,b\n{body}{body}"),
            HALVES,
            "most test rows stand among those that a model learns from",
        ),
        (
            table("a,b,y,z", 60, |row| {
                let label = usize::from(row > 50);
                format!("{},{label},{}", wave(row), 3 - label)
            }),
            "label: y, split: {train: 0.5, test: 0.5}",
            "`z` tells the label of every row",
        ),
        (
            table("t,a,b", 60, |row| {
                format!("{},{}", (row + 1) * 86_400, wave(row))
            })
            .replace("5184000,", "9000000000000000,"),
            "time: {column: t, format: milliseconds}, split: {train: 0.5, test: 0.5}",
            "lies in the year 287169",
        ),
    ]
}

#[test]
fn what_is_doubtful_is_a_warning_that_strict_makes_an_error() {
    for (text, with, message) in doubtful() {
        let environment = TestEnvironment::with_pipeline(&reading(with, ""));
        environment.write("data.csv", &text);
        environment
            .succeed(&["run", "pipeline.yaml"])
            .says("warning")
            .says(message);
        // It is said again when nothing ran, and is in the record.
        environment.succeed(&["run", "pipeline.yaml"]).says(message);
        environment.succeed(&["show", "latest"]).prints(message);
        environment.write("pipeline.yaml", reading(with, "strict: true\n"));
        environment
            .run(&["run", "pipeline.yaml"])
            .expect(1)
            .says("the pipeline is strict")
            .says(message);
    }
}

#[test]
fn what_was_read_is_said_once() {
    let environment =
        TestEnvironment::with_pipeline(&reading("time: t, split: {train: 0.5, test: 0.5}", ""));
    environment.write(
        "data.csv",
        table("t,a,b", 60, |row| {
            let hour = if row < 20 { row / 4 } else { row / 4 + 3 };
            format!("2024-05-01 {hour:02}:{:02},{}", row % 4 * 15, wave(row))
        }),
    );
    let finished = environment.succeed(&["run", "pipeline.yaml"]);
    let extent = "60 rows of 2 channels in 1 entity: train 30, test 30";
    assert_eq!(finished.stderr.matches(extent).count(), 1);
    finished
        .says("a row every 15 min")
        .says("the longest of 3.25 h");
}

#[test]
fn an_ending_in_capitals_is_an_ending() {
    let pipeline = "pipeline: p\nstages:\n  raw: {uses: ingest, with: {dataset: csv-classes, path: samples, split: {train: 1.0, validation: 0, test: 0}}}\n";
    let environment = TestEnvironment::with_pipeline(pipeline);
    for (name, value) in [("up/1.csv", 1), ("up/2.CSV", 2), ("down/1.Txt", 3)] {
        let file = environment.path(&format!("samples/{name}"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("a\n{value}\n4\n")).unwrap();
    }
    environment
        .succeed(&["run", "pipeline.yaml"])
        .says("in 3 entities");
}

/// A detector on `data.csv` that is judged.
fn judged(with: &str) -> String {
    reading(with, "")
        + "  scaled: {uses: normalize, from: raw}
  windows: {uses: window, from: scaled, with: {length: 8}}
  model: {uses: train, from: windows, with: {model: {kind: kmeans-ad, clusters: 2}}}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics:
    uses: evaluate
    from: scores
    with: {threshold: {kind: quantile, anomaly_ratio: 2}, metrics: [precision, recall, f1, event_f1, best_f1, roc_auc]}
  plots: {uses: render-plots, from: {series: raw, scores: scores, metrics: metrics}}
"
}

#[test]
fn stretches_shorter_than_a_window_are_left_out_everywhere() {
    let with = "label: y, missing: drop, split: {train: 0.5, calibration: 0.2, test: 0.3}";
    let environment = TestEnvironment::with_pipeline(&judged(with));
    // Gaps at 40 and 44, so that three rows between them are alone; and one within the event.
    let text = table("a,b,y", 400, |row| match row {
        40 | 44 | 350 => ",1,1".to_owned(),
        _ => format!("{},{}", wave(row), usize::from((345..356).contains(&row))),
    });
    environment.write("data.csv", &text);
    let finished = environment.succeed(&["run", "pipeline.yaml"]);
    finished.says("3 rows have no score");
}

#[test]
fn a_meter_far_from_zero_is_judged_as_well_as_one_near_zero() {
    let with = "label: y, split: {train: 0.5, calibration: 0.2, test: 0.3}";
    let values = |level: u64| {
        table("a,y", 400, move |row| {
            let jump = if (350..360).contains(&row) { 40 } else { 0 };
            let value = level + (row * 7 % 5) as u64 + jump;
            format!("{value},{}", usize::from(jump > 0))
        })
    };
    let mut found = Vec::new();
    for level in [0, 123_456_789_000] {
        let environment = TestEnvironment::with_pipeline(&judged(with));
        environment.write("data.csv", values(level));
        let finished = environment.succeed(&["run", "pipeline.yaml"]);
        if level > 0 {
            finished.says("`a` is kept in 64 bits");
        }
        let shown = environment.json(&["show", "latest"]);
        found.push(shown["metrics"]["metrics"].clone());
    }
    assert!(found[0].is_array() || found[0].is_object(), "{found:?}");
    assert_eq!(found[0], found[1]);
}

#[test]
fn shares_of_nothing_are_undefined_and_means_say_over_how_many() {
    let mut pipeline = judged("label: y, split: {train: 0.5, calibration: 0.2, test: 0.3}")
        .replace(
            "uses: ingest, with",
            "uses: ingest, foreach: {file: [a.csv, b.csv]}, with",
        )
        .replace("path: data.csv", "path: \"${file}\"");
    pipeline += "  all: {uses: collect, from: {items: metrics}}\n";
    let environment = TestEnvironment::with_pipeline(&pipeline);
    for (file, first) in [("a.csv", 350), ("b.csv", 1000)] {
        let text = table("a,b,y", 400, |row| {
            let is_odd = (first..first + 10).contains(&row);
            let text = if is_odd { "9,9".to_owned() } else { wave(row) };
            format!("{text},{}", usize::from(is_odd))
        });
        environment.write(file, &text);
    }
    let finished = environment.succeed(&["run", "pipeline.yaml"]);
    finished
        .says("no row of split `test` is labelled as an anomaly")
        .prints("mean of the 1 of 2 instances where it is defined");
}

#[test]
fn a_new_pipeline_fits_the_file() {
    let environment = TestEnvironment::new();
    let text = table("when;a;b;note;alarm", 400, |row| {
        let alarm = if (350..356).contains(&row) {
            "True"
        } else {
            "False"
        };
        let values = wave(row).replace(',', ";").replace('.', ",");
        format!(
            "{:02}.{:02}.2024 {:02}:00;{values};ok;{alarm}",
            1 + row / 24 % 28,
            1 + row / 672,
            row % 24
        )
    });
    environment.write("meter.csv", &text);
    environment
        .succeed(&["new", "mine", "--data", "meter.csv"])
        .prints("the delimiter is ';'")
        .prints("`when` is the time")
        .prints("`alarm` is the label")
        .prints("left out: `note` (no numbers)");
    environment
        .succeed(&[
            "run",
            "pipelines/mine.yaml",
            "--set",
            "epochs=1",
            "--set",
            "window=16",
        ])
        .says("400 rows of 2 channels")
        .says("a row every 1 h")
        .says("read with a decimal comma");
    environment
        .run(&["new", "other", "--data", "meter.csv", "--template", "smd"])
        .expect(2)
        .says("only the template `csv`");
    environment
        .run(&["new", "third", "--data", "nothing.csv"])
        .expect(1)
        .says("nothing.csv");
}

#[test]
fn trials_that_are_chosen_by_the_test_rows_are_marked() {
    let pipeline = judged("label: y, split: {train: 0.5, calibration: 0.2, test: 0.3}");
    let environment = TestEnvironment::with_pipeline(&pipeline);
    let text = table("a,b,y", 400, |row| {
        format!("{},{}", wave(row), usize::from((350..356).contains(&row)))
    });
    environment.write("data.csv", &text);
    let sweep = "sweep: s\npipeline: pipeline.yaml\naxes: {model.with.model.clusters: [2, 3]}\nobjective: {stage: metrics, metric: roc_auc}\n";
    environment.write("sweep.yaml", sweep);
    environment
        .succeed(&["sweep", "sweep.yaml"])
        .says("judged on the test rows")
        .prints("so the best value is an upper bound");
    let board = environment.json(&["sweep", "table", "sweep.yaml"]);
    assert_eq!(board["oracle"], serde_json::json!(true));
    environment.write(
        "pipeline.yaml",
        pipeline.replace("seed: 1", "seed: 1\nstrict: true"),
    );
    environment
        .run(&["sweep", "sweep.yaml"])
        .expect(2)
        .says("error[leakage]");
}
