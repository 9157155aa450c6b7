//! What changes nothing reruns nothing, and what changes something reruns that and no more.

use crate::environment::TestEnvironment;
use crate::pipelines::{SMALL, SMALL_STAGES};
use crate::store::{digests, ran};

const NOTHING: [&str; 0] = [];

/// A pipeline that has run once.
fn after_one_run() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), SMALL_STAGES);
    environment
}

/// What runs when the pipeline is run again like this.
fn rerun(environment: &TestEnvironment, options: &[&str]) -> Vec<String> {
    environment.succeed(&[&["run", "pipeline.yaml"], options].concat());
    ran(&environment.latest())
}

#[test]
fn a_second_run_does_nothing() {
    let environment = after_one_run();
    let before = environment.latest();
    assert_eq!(rerun(&environment, &[]), NOTHING);
    let after = environment.latest();
    assert_eq!(
        (digests(&before), &before["metrics"]),
        (digests(&after), &after["metrics"])
    );
}

#[test]
fn comments_order_of_keys_and_layout_change_nothing() {
    let environment = after_one_run();
    let text = SMALL.replace("stages:\n", "# the stages\nstages:   # here\n\n");
    let text = text.replace("{width: 300, height: 150,", "{height: 150, width: 300,");
    assert_ne!(text, SMALL);
    environment.write("pipeline.yaml", text);
    assert_eq!(rerun(&environment, &[]), NOTHING);
}

#[test]
fn a_description_changes_nothing() {
    let environment = after_one_run();
    environment.write(
        "pipeline.yaml",
        SMALL.replace("seed: 7", "description: the same\nseed: 7"),
    );
    assert_eq!(rerun(&environment, &[]), NOTHING);
}

#[test]
fn a_default_that_is_written_out_changes_nothing() {
    let environment = after_one_run();
    environment.write(
        "pipeline.yaml",
        SMALL.replace(
            "{method: zscore}",
            "{method: zscore, fit: train, clip: null}",
        ),
    );
    assert_eq!(rerun(&environment, &[]), NOTHING);
}

#[test]
fn a_renamed_stage_changes_nothing() {
    let environment = after_one_run();
    let text = SMALL
        .replace("  scaled:", "  normalised:")
        .replace("from: scaled", "from: normalised");
    environment.write("pipeline.yaml", text);
    assert_eq!(rerun(&environment, &[]), NOTHING);
}

#[test]
fn another_file_with_the_same_stages_changes_nothing() {
    let environment = after_one_run();
    environment.write(
        "elsewhere/copy.yaml",
        SMALL.replace("pipeline: small", "pipeline: copy"),
    );
    environment.succeed(&["run", "elsewhere/copy.yaml"]);
    assert_eq!(ran(&environment.latest()), NOTHING);
}

#[test]
fn threads_and_jobs_change_nothing() {
    let environment = after_one_run();
    for options in [
        ["--threads", "1"],
        ["--threads", "3"],
        ["--jobs", "1"],
        ["--jobs", "4"],
    ] {
        assert_eq!(rerun(&environment, &options), NOTHING, "{options:?}");
    }
}

#[test]
fn resources_retries_and_timeouts_change_nothing() {
    let environment = after_one_run();
    let more = "  scaled: {uses: normalize, retries: 2, timeout: 1 h, resources: {cpus: 1, memory: 1 GiB},";
    environment.write(
        "pipeline.yaml",
        SMALL.replace("  scaled: {uses: normalize,", more),
    );
    assert_eq!(rerun(&environment, &[]), NOTHING);
}

#[test]
fn more_epochs_rerun_the_training_and_what_depends_on_it() {
    let environment = after_one_run();
    assert_eq!(
        rerun(&environment, &["--set", "epochs=3"]),
        ["model", "scores", "metrics", "plots", "size"]
    );
    assert_eq!(
        rerun(&environment, &["--set", "epochs=2"]),
        NOTHING,
        "the first results are still there"
    );
}

#[test]
fn a_normaliser_that_leaves_the_values_alone_stops_there() {
    let environment = after_one_run();
    let before = digests(&environment.latest());
    environment.write(
        "pipeline.yaml",
        SMALL.replace("{method: zscore}", "{method: zscore, clip: 1.0e6}"),
    );
    assert_eq!(rerun(&environment, &[]), ["scaled"]);
    assert_eq!(digests(&environment.latest()), before);
    let why = environment.succeed(&["why", "scaled"]);
    why.prints("clip")
        .prints("spared, because their inputs kept their content: windows, model");
}

#[test]
fn a_normaliser_that_changes_values_does_not() {
    let environment = after_one_run();
    environment.write(
        "pipeline.yaml",
        SMALL.replace("{method: zscore}", "{method: zscore, clip: 0.5}"),
    );
    assert_eq!(rerun(&environment, &[]), &SMALL_STAGES[1..]);
}

#[test]
fn another_seed_reruns_what_draws_numbers() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "pipeline.yaml"]);
    environment.write("pipeline.yaml", SMALL.replace("seed: 7", "seed: 8"));
    assert_eq!(
        rerun(&environment, &[])[..5],
        ["raw", "scaled", "windows", "model", "scores"]
    );
}

const CSV_PIPELINE: &str = r"pipeline: table
stages:
  raw: {uses: ingest, with: {dataset: csv, path: table.csv}}
  scaled: {uses: normalize, from: raw}
";

fn table(last: &str) -> String {
    let rows: String = (0..50)
        .map(|row| format!("{row},{}\n", row * row % 17))
        .collect();
    format!("a,b\n{rows}50,{last}\n")
}

#[test]
fn a_touched_file_changes_nothing_and_an_edited_one_does() {
    let environment = TestEnvironment::with_pipeline(CSV_PIPELINE);
    let path = environment.write("table.csv", table("1"));
    environment.succeed(&["run", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), ["raw", "scaled"]);

    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
    std::fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert_eq!(rerun(&environment, &[]), NOTHING, "touched");

    environment.write("copy.csv", table("1"));
    std::fs::rename(environment.path("copy.csv"), &path).unwrap();
    assert_eq!(
        rerun(&environment, &[]),
        NOTHING,
        "replaced by an equal one"
    );

    // The same size, at once after the last look: only the content tells.
    environment.write("table.csv", table("2"));
    assert_eq!(rerun(&environment, &[]), ["raw", "scaled"], "edited");
    environment.succeed(&["why", "raw"]).prints("table.csv");
}

/// Formatting of numbers is no content: the series are the same, so the normaliser is spared.
#[test]
fn an_edit_that_leaves_the_numbers_alone_stops_at_the_reader() {
    let environment = TestEnvironment::with_pipeline(CSV_PIPELINE);
    environment.write("table.csv", table("1"));
    environment.succeed(&["run", "pipeline.yaml"]);
    environment.write("table.csv", table("1.000"));
    assert_eq!(rerun(&environment, &[]), ["raw"]);
}
