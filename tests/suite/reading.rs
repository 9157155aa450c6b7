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

/// Files of waves below a folder.
fn write_waves(environment: &TestEnvironment, names: &[&str]) {
    for (index, name) in names.iter().enumerate() {
        let file = environment.path(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let text = table("a,b", 40 + index, |row| wave(row * (index + 1)));
        std::fs::write(file, text).unwrap();
    }
}

/// A pipeline that reads these files, a value of YAML.
fn reading_files(path: &str) -> String {
    format!(
        "pipeline: p\nstages:\n  raw: {{uses: ingest, with: {{dataset: csv, path: {path}, {HALVES}}}}}\n"
    )
}

#[test]
fn a_pattern_means_files_that_enter_the_key_each_by_itself() {
    let environment = TestEnvironment::with_pipeline(&reading_files("\"d/*.csv\""));
    environment
        .run(&["run", "pipeline.yaml"])
        .expect(1)
        .says("d/*.csv was not found");
    write_waves(
        &environment,
        &["d/b.csv", "d/A.CSV", "d/.c.csv", "d/notes.md"],
    );
    let ran = |environment: &TestEnvironment| crate::store::ran(&environment.latest());
    environment
        .succeed(&["run", "pipeline.yaml"])
        .says("81 rows of 2 channels in 2 entities");
    assert_eq!(ran(&environment), ["raw"]);
    environment.succeed(&["run", "pipeline.yaml"]);
    assert_eq!(ran(&environment), [] as [&str; 0]);
    write_waves(&environment, &["d/notes.md", "d/c.csv"]);
    environment
        .succeed(&["why", "raw", "pipeline.yaml"])
        .prints("files.\"d/*.csv/c.csv\": (absent) -> blake3:");
    environment
        .succeed(&["run", "pipeline.yaml"])
        .says("in 3 entities");
    // A folder means the same files, and a pattern that has none says so.
    environment.write("pipeline.yaml", reading_files("d"));
    environment
        .succeed(&["run", "pipeline.yaml"])
        .says("in 3 entities");
    environment.write("pipeline.yaml", reading_files("[d/c.csv, \"d/*.tsv\"]"));
    environment
        .run(&["run", "pipeline.yaml"])
        .expect(1)
        .says("no file matches the pattern");
    environment.write("pipeline.yaml", reading_files("[d/c.csv, \"d/?.csv\"]"));
    environment
        .run(&["run", "pipeline.yaml"])
        .expect(1)
        .says("the file is read twice");
}

#[test]
fn files_of_one_name_are_entities_of_their_own() {
    let environment = TestEnvironment::with_pipeline(&reading_files("\"*/pump.csv\""));
    write_waves(&environment, &["north/pump.csv", "south/pump.csv"]);
    environment
        .succeed(&["run", "pipeline.yaml"])
        .says("in 2 entities: train 40, test 41");
}

#[test]
fn rows_are_split_by_number_and_by_time() {
    let with = |split: &str, time: &str| reading(&format!("{time}split: {split}"), "");
    let environment = TestEnvironment::new();
    environment.write(
        "data.csv",
        table("t,a,b", 96, |row| {
            format!(
                "2024-05-{:02} {:02}:00,{}",
                1 + row / 24,
                row % 24,
                wave(row)
            )
        }),
    );
    let time = "time: t, ";
    for (split, says) in [
        (
            "{train: {before: 2024-05-02}, validation: {rows: 10}, test: rest}",
            "train 24, validation 10, test 62",
        ),
        (
            "{train: {rows: 50}, test: {from: 2024-05-04T12:00}}",
            "train 50, test 12",
        ),
        (
            "{train: {rows: 50}, test: {from: 2024-05-04T12:00}}",
            "34 of 96 rows of `data` are in no part of `split`",
        ),
        (
            "{train: 0.75, calibration: 0.25, test: {rows: 16}}",
            "train 60, calibration 20, test 16",
        ),
    ] {
        environment.write("pipeline.yaml", with(split, time));
        environment
            .succeed(&["run", "--force", "raw", "pipeline.yaml"])
            .says(says);
    }
    for (split, time, code, says) in [
        (
            "{train: {before: 2024-05-02}, test: rest}",
            "columns: [a, b], ",
            2,
            "name their column with `time`",
        ),
        (
            "{train: {before: 2023-05-02}, test: rest}",
            time,
            1,
            "outside of the times of the rows",
        ),
        ("{train: {rows: 97}}", time, 1, "more rows than there are"),
        ("{train: {rows: many}}", time, 2, "many"),
        ("{train: 0.5, test: 0.6}", time, 2, "add up to 1.1"),
    ] {
        environment.write("pipeline.yaml", with(split, time));
        environment
            .run(&["run", "pipeline.yaml"])
            .expect(code)
            .says(says);
    }
}

#[test]
fn a_table_in_the_long_form_is_known_and_read() {
    let environment = TestEnvironment::new();
    let mut text = "unit,stamp,metric,value\n".to_owned();
    for row in 0..300 {
        for (unit, level) in [("p-2", 1.0), ("p-1", 5.0)] {
            let (hour, day) = (row % 24, 1 + row / 24);
            let at = row as f64 * 0.3;
            for (metric, value) in [("flow", at.sin() + level), ("heat", at.cos() * level)] {
                let _ = writeln!(
                    text,
                    "{unit},2024-05-{day:02} {hour:02}:00,{metric},{value:.4}"
                );
            }
        }
    }
    environment.write("all.csv", text.replace("unit,", "machine,"));
    environment
        .succeed(&["new", "mine", "--data", "all.csv"])
        .prints("`machine` says which entity a row belongs to, `metric` says what `value` is");
    environment
        .succeed(&[
            "run",
            "pipelines/mine.yaml",
            "--set",
            "epochs=1",
            "--set",
            "window=16",
        ])
        .says("600 rows of 2 channels in 2 entities")
        .says("a row every 1 h");
}
