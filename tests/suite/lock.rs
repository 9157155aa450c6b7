//! A lock says what determined each stage and what came out; `--locked` keeps to it.

use std::collections::BTreeSet;

use runner::audit::Lock;

use crate::environment::TestEnvironment;
use crate::pipelines::{SMALL, SMALL_STAGES};
use crate::store::{ran, stage};

pub fn locked() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&["lock", "pipeline.yaml"]);
    environment
}

#[test]
fn a_lock_says_what_the_run_came_to_and_nothing_that_changes_by_itself() {
    let environment = locked();
    let lock = Lock::read(&environment.path("pipeline.lock")).unwrap();
    let run = environment.latest();
    assert_eq!(
        lock.stages
            .keys()
            .map(String::as_str)
            .collect::<BTreeSet<_>>(),
        BTreeSet::from(SMALL_STAGES)
    );
    for (name, locked) in &lock.stages {
        let recorded = stage(&run, name);
        assert_eq!(recorded["key"], locked.key.to_string());
        for (port, digest) in &locked.outputs {
            assert_eq!(recorded["digests"][port], digest.to_string());
        }
    }
    assert_eq!(
        lock.stages["scores"].needs,
        BTreeSet::from(["model".to_owned(), "windows".to_owned()])
    );
    assert!(
        lock.stages["model"]
            .numeric_class()
            .unwrap()
            .starts_with("cpu/")
    );
    assert_eq!(lock.stages["model"].determinant("seed"), Some("7"));
    assert!(lock.stages["metrics"].metrics.contains_key("f1"));
    let text = environment.read("pipeline.lock");
    environment.write("b/pipeline.yaml", SMALL);
    environment.succeed(&[
        "run",
        "--quiet",
        "b/pipeline.yaml",
        "--force",
        "model",
        "--threads",
        "1",
    ]);
    environment.succeed(&["lock", "b/pipeline.yaml"]);
    assert_eq!(
        environment.read("b/pipeline.lock"),
        text,
        "another time and another folder do not show"
    );
    environment.succeed(&["lock", "pipeline.yaml", "-o", "b/c.lock"]);
    assert_eq!(
        Lock::read(&environment.path("b/c.lock")).unwrap().file,
        "../pipeline.yaml"
    );
}

#[test]
fn a_locked_run_runs_if_nothing_differs_even_with_an_empty_store() {
    let environment = locked();
    environment.succeed(&["run", "pipeline.yaml", "--locked"]);
    environment.succeed(&["run", "pipeline.yaml", "--locked", "--store", "other"]);
    let fresh = environment.json(&["show", "--store", "other"]);
    assert_eq!(ran(&fresh), SMALL_STAGES);
    environment.succeed(&["run", "pipeline.yaml", "--locked", "--target", "model"]);
}

#[test]
fn a_locked_run_refuses_whatever_would_change_results() {
    let environment = locked();
    let before = environment.files("cache");
    let changed = environment
        .run(&["run", "pipeline.yaml", "--locked", "--set", "epochs=3"])
        .expect(3);
    changed
        .says("model: what determines it differs")
        .says("with.epochs: 2 -> 3")
        .says("without --profile and --set");
    assert!(
        !changed.stderr.contains("scores:"),
        "below the change nothing differs by itself: {}",
        changed.stderr
    );
    environment.write(
        "pipeline.yaml",
        SMALL.replace("  size:", "  more: {uses: normalize, from: raw}\n  size:"),
    );
    environment
        .run(&["run", "pipeline.yaml", "--locked"])
        .expect(3)
        .says("more: it is not in the lock");
    let less = SMALL.split("  size:").next().unwrap();
    environment.write("pipeline.yaml", less);
    environment
        .run(&["run", "pipeline.yaml", "--locked"])
        .expect(3)
        .says("size: the pipeline no longer has it");
    assert_eq!(environment.files("cache"), before, "nothing ran");
    let json = environment
        .run(&["run", "pipeline.yaml", "--locked", "--json"])
        .expect(3);
    assert_eq!(json.json_lines()[0]["deviations"][0]["stage"], "size");
}

#[test]
fn a_locked_run_names_what_came_out_otherwise() {
    let clock = "pipeline: clock\nstages:\n  now: {uses: command, with: {run: [sh, -c, \"date +%s%N > {out.t}\"], outputs: {t: {path: t}}}}\n";
    let environment = TestEnvironment::with_pipeline(clock);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&["lock", "pipeline.yaml"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--locked"]);
    let other = environment
        .run(&["run", "pipeline.yaml", "--locked", "--store", "other"])
        .expect(3);
    other
        .says("now: its result is different")
        .says("output.t: blake3:");
}

#[test]
fn a_lock_that_is_missing_or_was_changed_is_told() {
    let environment = locked();
    environment
        .run(&["run", "pipeline.yaml", "--locked", "--lock", "no.lock"])
        .expect(2)
        .says("no.lock")
        .says("runner lock");
    let text = environment.read("pipeline.lock");
    environment.write(
        "pipeline.lock",
        text.replacen("metric.f1 = 0", "metric.f1 = 1", 1),
    );
    let tampered = environment
        .run(&["run", "pipeline.yaml", "--locked"])
        .expect(3);
    tampered
        .says("was changed after it was written")
        .says("metrics");
    environment.write("pipeline.lock", format!("<<<<<<< ours\n{text}"));
    environment
        .run(&["run", "pipeline.yaml", "--locked"])
        .expect(2)
        .says("pipeline.lock:1")
        .says("a conflict of a merge");
}
