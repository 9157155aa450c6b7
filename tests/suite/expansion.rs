//! `matrix`, `foreach`, `collect` and `include` from end to end, and the choice of stages on the command line.

use serde_json::Value;

use crate::environment::TestEnvironment;
use crate::pipelines::{SMALL, SMALL_STAGES};
use crate::store::{in_state, ran, stages};

/// Two axes, figures gathered in a table.
const GRID: &str = r#"pipeline: grid
stages:
  figure:
    matrix:
      size: [2, 1]
      kind: [b, a]
    uses: command
    with:
      run: [sh, -c, "echo '{\"figure\": ${size}}' > {out.figures}"]
      outputs: {figures: {path: figures.json, kind: metrics}}
  all: {uses: collect, from: figure}
"#;

fn names(run: &Value) -> Vec<&str> {
    stages(run)
        .iter()
        .map(|stage| stage["name"].as_str().unwrap())
        .collect()
}

#[test]
fn every_combination_runs_the_first_axis_slowest() {
    let environment = TestEnvironment::with_pipeline(GRID);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest();
    let expected = [
        "figure[size=2,kind=b]",
        "figure[size=2,kind=a]",
        "figure[size=1,kind=b]",
        "figure[size=1,kind=a]",
        "all",
    ];
    assert_eq!(names(&run), expected);
    assert_eq!(run["metrics"]["all"]["figure"], 1.5);
    assert_eq!(run["metrics"]["figure[size=2,kind=a]"]["figure"], 2.0);
}

/// The rows of the table stand in the order of the axes, whatever finished first.
#[test]
fn the_rows_of_a_collection_are_in_the_order_of_the_axes() {
    let slow = GRID.replace("[sh, -c, \"", "[sh, -c, \"sleep 0.${size}; ");
    let environment = TestEnvironment::with_pipeline(&slow);
    environment.succeed(&["run", "--quiet", "--jobs", "4", "pipeline.yaml"]);
    let record = crate::store::action(&environment, "all");
    let table = crate::store::open(&environment)
        .load(record.output("table").unwrap())
        .unwrap();
    let contract::artifact::Artifact::Table(table) = table else {
        panic!("not a table")
    };
    let sizes: Vec<i64> = table
        .integers("size")
        .unwrap()
        .into_iter()
        .flatten()
        .collect();
    let kinds: Vec<String> = table.texts("kind").unwrap().into_iter().flatten().collect();
    assert_eq!(
        (sizes, kinds.concat()),
        (vec![2, 2, 1, 1], "baba".to_owned())
    );
}

#[test]
fn an_axis_may_depend_on_an_earlier_one() {
    let depends = GRID.replace("kind: [b, a]", "kind: {by: size, 2: [x, y], default: [z]}");
    let environment = TestEnvironment::with_pipeline(&depends);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let expected = [
        "figure[size=2,kind=x]",
        "figure[size=2,kind=y]",
        "figure[size=1,kind=z]",
        "all",
    ];
    assert_eq!(names(&environment.latest()), expected);
}

/// What an earlier axis decides need not be said again; a value from outside takes the place of a whole map.
#[test]
fn names_leave_out_what_an_earlier_axis_decides() {
    let implied = GRID.replace("kind: [b, a]", "kind: {by: size, 2: [x], default: [z]}");
    let environment = TestEnvironment::with_pipeline(&implied);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(
        names(&environment.latest()),
        ["figure[size=2]", "figure[size=1]", "all"]
    );
    let set = GRID.replace("kind: [b, a]", "kind: \"${kinds}\"")
        + "params: {kinds: {by: size, 2: [x], default: [z]}}\n";
    environment.write("pipeline.yaml", set);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert!(ran(&environment.latest()).is_empty());
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "kinds=q"]);
    assert_eq!(
        names(&environment.latest()),
        ["figure[size=2]", "figure[size=1]", "all"]
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "kinds=[q]"]);
    assert_eq!(
        names(&environment.latest()),
        ["figure[size=2,kind=q]", "figure[size=1,kind=q]", "all"]
    );
}

/// Stages below an expanded one are expanded with it; `collect` ends that.
#[test]
fn axes_flow_downstream_to_the_collection() {
    let text = SMALL.replace(
        "  scaled: {uses",
        "  scaled: {foreach: {method: [zscore, minmax]}, uses",
    );
    let text = text.replace("{method: zscore}", "{method: \"${method}\"}")
        + "  all: {uses: collect, from: metrics}\n";
    let environment = TestEnvironment::with_pipeline(&text);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest();
    assert_eq!(stages(&run).len(), 1 + 7 * 2 + 1);
    let best = |name: &str| run["metrics"][name]["best_f1"].as_f64().unwrap();
    let mean = (best("metrics[method=zscore]") + best("metrics[method=minmax]")) / 2.0;
    assert!((best("all") - mean).abs() < 1e-12);
}

#[test]
fn a_new_point_runs_alone() {
    let pipeline = GRID;
    let environment = TestEnvironment::with_pipeline(pipeline);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.write(
        "pipeline.yaml",
        pipeline.replace("size: [2, 1]", "size: [2, 3, 1]"),
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    // Both kinds of a size run the same command, so one of them does it for both.
    let finished = ran(&environment.latest());
    let [figure, all] = &finished[..] else {
        panic!("{finished:?} ran")
    };
    assert!(
        figure.starts_with("figure[size=3,kind=") && all == "all",
        "{figure}, {all}"
    );
}

#[test]
fn listed_points_run_as_they_are_listed() {
    let pipeline = GRID.replace(
        "    matrix:\n      size: [2, 1]\n      kind: [b, a]\n",
        "    foreach: [{size: 5, kind: p}, {size: 4, kind: q}]\n",
    );
    let environment = TestEnvironment::with_pipeline(&pipeline);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(
        names(&environment.latest()),
        ["figure[size=5,kind=p]", "figure[size=4,kind=q]", "all"]
    );
}

#[test]
fn fragments_are_shared() {
    let environment = TestEnvironment::new();
    environment.write("shared/data.yaml", "params: {channels: 2}\nstages:\n  raw: {uses: generate, with: {channels: \"${channels}\", day: 24, rows: {train: 60, validation: 0, calibration: 0, test: 0}}}\n");
    environment.write(
        "pipelines/one.yaml",
        "pipeline: one\ninclude: [../shared/data.yaml]\nstages:\n  scaled: {uses: normalize, from: raw}\n",
    );
    environment.write("pipelines/two.yaml", "pipeline: two\ninclude: [../shared/data.yaml]\nstages:\n  windows: {uses: window, from: raw, with: {length: 4}}\n");
    environment.succeed(&["run", "--quiet", "pipelines/one.yaml"]);
    assert_eq!(ran(&environment.latest()), ["raw", "scaled"]);
    environment.succeed(&["run", "--quiet", "pipelines/two.yaml"]);
    assert_eq!(
        ran(&environment.latest()),
        ["windows"],
        "what pipelines share is computed once"
    );
    environment.succeed(&[
        "run",
        "--quiet",
        "pipelines/two.yaml",
        "--set",
        "channels=3",
    ]);
    assert_eq!(ran(&environment.latest()), ["raw", "windows"]);
}

#[test]
fn a_target_needs_only_what_is_above_it() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--target", "windows"]);
    assert_eq!(names(&environment.latest()), &SMALL_STAGES[..3]);
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--target",
        "scores",
        "--target",
        "size",
    ]);
    let run = environment.latest();
    assert_eq!(in_state(&run, "hit"), &SMALL_STAGES[..3]);
    assert_eq!(ran(&run), ["model", "scores", "metrics", "size"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), ["plots"]);
}

#[test]
fn a_forced_stage_runs_and_its_content_decides_about_the_rest() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--force",
        "scaled",
        "--force",
        "plots",
    ]);
    assert_eq!(ran(&environment.latest()), ["scaled", "plots"]);
}

#[test]
fn an_instance_is_a_target_by_its_full_name() {
    let environment = TestEnvironment::with_pipeline(GRID);
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--target",
        "figure[size=1,kind=a]",
    ]);
    assert_eq!(ran(&environment.latest()), ["figure[size=1,kind=a]"]);
}
