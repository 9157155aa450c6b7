//! Everything that can be wrong with a pipeline or a command line: the whole report as the user reads it, exit code 2,
//! and not a byte written.

use insta::assert_snapshot;

use crate::environment::TestEnvironment;

/// What is said about this pipeline; nothing may be written to the disk.
fn report_of(pipeline: &str, options: &[&str]) -> String {
    let environment = TestEnvironment::with_pipeline(pipeline);
    report_in(&environment, &[&["run", "pipeline.yaml"], options].concat())
}

fn report_in(environment: &TestEnvironment, arguments: &[&str]) -> String {
    let before = environment.files(".");
    let finished = environment.run(arguments).expect(2);
    assert_eq!(finished.stdout, "", "a report is no result");
    assert_eq!(environment.files("."), before, "nothing is written");
    assert!(!environment.path("cache").exists(), "no store is made");
    environment.neutral(&finished.stderr)
}

/// A sound beginning for faulty stages.
const HEAD: &str = "pipeline: faulty
seed: 1
params: {length: 16}
stages:
  raw: {uses: generate}
  scaled: {uses: normalize, from: raw}
  windows: {uses: window, from: scaled, with: {length: \"${length}\"}}
";

fn report_with(stages: &str) -> String {
    report_of(&format!("{HEAD}{stages}"), &[])
}

#[test]
fn unknown_keys() {
    assert_snapshot!(report_of(
        "pipelin: x\npipeline: faulty\nstages:\n  raw: {use: generate, with: {chanels: 3}}\n  more: {uses: generate, with: {chanels: 3, rows: {tran: 5}}}\n",
        &[]
    ));
}

#[test]
fn a_duplicate_key() {
    assert_snapshot!(report_with(
        "  again: {uses: generate, with: {channels: 3, day: 24, channels: 4}}\n  raw: {uses: generate}\n"
    ));
}

#[test]
fn wrong_types() {
    assert_snapshot!(report_with(
        "  more: {uses: generate, with: {channels: three, rows: [1, 2], noise: \"0.1\"}}\n  yet: [uses, generate]\n"
    ));
}

#[test]
fn an_unknown_stage_kind() {
    assert_snapshot!(report_with(
        "  more: {uses: generat}\n  other: {uses: transmogrify}\n"
    ));
}

#[test]
fn an_unknown_model() {
    assert_snapshot!(report_with(
        "  model: {uses: train, from: windows, with: {model: {kind: tvnet-reco}}}\n"
    ));
}

#[test]
fn a_missing_parameter() {
    assert_snapshot!(report_with(
        "  more: {uses: window, from: raw}\n  model: {uses: train, from: windows}\n"
    ));
}

#[test]
fn a_missing_port() {
    assert_snapshot!(report_with(
        "  scores: {uses: score, from: windows}\n  more: {uses: normalize}\n"
    ));
}

#[test]
fn an_ambiguous_port() {
    assert_snapshot!(report_with(
        "  model: {uses: train, from: windows, with: {model: {kind: tvnet-recon}}}
  a: {uses: score, from: {model: model, windows: windows}}
  figures: {uses: command, from: a, with: {run: [make], outputs: {p: {path: p, kind: metrics}, q: {path: q, kind: metrics}}}}
  plots: {uses: render-plots, from: {scores: a, metrics: figures}}
  both: {uses: collect, from: {items: [model, model]}}
"
    ));
}

#[test]
fn an_unknown_port_or_output() {
    assert_snapshot!(report_with(
        "  a: {uses: normalize, from: {serie: raw}}\n  b: {uses: normalize, from: raw.serie}\n  c: {uses: normalize, from: row}\n"
    ));
}

#[test]
fn a_wrong_artifact_type() {
    assert_snapshot!(report_with(
        "  a: {uses: train, from: raw, with: {model: {kind: tvnet-recon}}}\n  b: {uses: score, from: {model: windows, windows: raw}}\n  c: {uses: generate, from: raw}\n"
    ));
}

#[test]
fn an_unknown_parameter_on_the_command_line() {
    let set = |text: &str| report_of(HEAD, &["--set", text]);
    let all = [
        set("lenght=5"),
        set("windows.with.lenght=5"),
        set("length"),
        set("length=[1,"),
        set("length=\"5\""),
    ];
    assert_snapshot!(all.join("\n"));
}

#[test]
fn values_out_of_range() {
    assert_snapshot!(report_with(
        "  a: {uses: generate, with: {channels: 0, noise: 2, anomaly_ratio: -0.1}}
  b: {uses: window, from: raw, with: {length: 0, stride: 0}}
  c: {uses: normalize, from: raw, with: {clip: [1, -1]}}
  d: {uses: generate, with: {channels: 1000, rows: {train: 99999999999}}}
"
    ));
}

#[test]
fn cycles() {
    assert_snapshot!(report_with(
        "  a: {uses: normalize, from: c}
  b: {uses: normalize, from: a}
  c: {uses: normalize, from: b}
  self: {uses: normalize, from: self}
"
    ));
}

#[test]
fn undefined_references() {
    assert_snapshot!(report_with(
        "  a: {uses: window, from: raw, with: {length: \"${lenght}\"}}\n  b: {uses: window, from: raw, with: {length: \"${length\"}}\n"
    ));
}

#[test]
fn bad_yaml() {
    let texts = [
        "pipeline: faulty\nstages:\n  raw: {uses: generate\n",
        "pipeline: faulty\nstages:\n\traw: {}\n",
        "pipeline: 'faulty\n",
        "",
    ];
    assert_snapshot!(texts.map(|text| report_of(text, &[])).join("\n"));
}

#[test]
fn a_file_that_is_no_text() {
    let environment = TestEnvironment::new();
    environment.write("pipeline.yaml", b"pipeline: \xff\xfe\n");
    assert_snapshot!(report_in(&environment, &["run", "pipeline.yaml"]));
}

#[test]
fn a_document_of_another_kind() {
    assert_snapshot!(
        ["- a\n- b\n", "just text\n", "pipeline: x\n", "stages: {}\n"]
            .map(|text| report_of(text, &[]))
            .join("\n")
    );
}

#[test]
fn an_unknown_target() {
    let all = [
        report_of(HEAD, &["--target", "scalled"]),
        report_of(HEAD, &["--force", "metrics"]),
    ];
    assert_snapshot!(all.join("\n"));
}

#[test]
fn a_missing_pipeline_file() {
    let environment = TestEnvironment::new();
    environment.write("pipelines/other.yaml", HEAD);
    let all =
        ["pipelines/nothing.yaml", "pipelines"].map(|file| report_in(&environment, &["run", file]));
    assert_snapshot!(all.join("\n"));
}

#[test]
fn a_missing_fragment() {
    assert_snapshot!(report_of(
        "pipeline: faulty\ninclude: [shared.yaml]\nstages:\n  raw: {uses: generate}\n",
        &[]
    ));
}

#[test]
fn a_bad_metric_or_threshold() {
    assert_snapshot!(report_with(
        "  model: {uses: train, from: windows, with: {model: {kind: tvnet-recon}}}
  scores: {uses: score, from: {model: model, windows: windows}}
  a: {uses: evaluate, from: scores, with: {threshold: {kind: quantil, anomaly_ratio: 1}}}
  b: {uses: evaluate, from: scores, with: {threshold: {kind: quantile, anomaly_ratio: 200}, metrics: [f1, f2]}}
  c: {uses: evaluate, from: scores, with: {threshold: {kind: fixed}}}
"
    ));
}

#[test]
fn bad_axes() {
    assert_snapshot!(report_with(
        "  a: {matrix: {n: []}, uses: generate, with: {channels: \"${n}\"}}
  b: {matrix: {n: [1, 2]}, foreach: {m: [1]}, uses: generate}
  c: {foreach: [{x: 1}, {y: 2}], uses: generate}
"
    ));
}

/// Faults of every pass are in one report.
#[test]
fn everything_in_one_report() {
    assert_snapshot!(report_with(
        "  a: {uses: generat}
  b: {uses: normalize, from: nowhere, with: {method: zscor}}
  c: {uses: window, from: scaled, with: {length: \"${size}\"}, retry: 3}
  d: {uses: train, from: scaled, with: {model: {kind: tvnet-recon, patch: 0}, epochs: ten}}
"
    ));
}

/// Neither a reference that fails nor a wrong parameter hides what else is wrong with a stage, its inputs and those
/// who take from it.
#[test]
fn no_problem_hides_another() {
    assert_snapshot!(report_with(
        "  a: {uses: window, from: raw.serie, with: {length: \"${lenght}\", stride: 0, strde: 1}}
  b: {uses: train, from: scaled, with: {model: {kind: \"${kind}\"}, optimizer: {kind: adm}, epochs: \"x ${epochs}\"}}
  c: {uses: score, from: {model: a, windows: b.weights}, with: {overlap: middle}}
  d: {uses: command, from: [a], with: {run: [\"${program}\"], outputs: {x: {path: 3}}}}
  e: {uses: render-plots, from: {scores: d.y}}
"
    ));
}

#[test]
fn options_that_make_no_sense() {
    let environment = TestEnvironment::with_pipeline(HEAD);
    let lines: [&[&str]; 8] = [
        &["run", "--jobs", "0", "pipeline.yaml"],
        &["run", "--threads", "many", "pipeline.yaml"],
        &["run", "--device", "tpu", "pipeline.yaml"],
        &["run", "--dvice", "cpu", "pipeline.yaml"],
        &["rum"],
        &["show", "nothing"],
        &["stages", "trian"],
        &["cache", "gc", "--max-size", "lots"],
    ];
    let told = |arguments: &&[&str]| {
        let finished = environment.run(arguments).expect(2);
        assert!(
            !environment.path("cache").exists(),
            "{}",
            finished.describe()
        );
        format!("$ runner {}\n{}", arguments.join(" "), finished.stderr)
    };
    assert_snapshot!(lines.iter().map(told).collect::<Vec<_>>().join("\n"));
}

#[test]
fn as_json_each_problem_has_its_place() {
    let environment = TestEnvironment::with_pipeline(&format!("{HEAD}  a: {{uses: generat}}\n"));
    let finished = environment
        .run(&["run", "--json", "pipeline.yaml"])
        .expect(2);
    assert_eq!(finished.stderr, "");
    insta::assert_json_snapshot!(finished.json());
}
