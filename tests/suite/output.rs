//! What is printed where: results on standard output, everything else on standard error, colours only for terminals,
//! and JSON that programs can read.

use serde_json::Value;

use crate::environment::TestEnvironment;
use crate::pipelines::{SMALL, SMALL_STAGES};

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn quiet_prints_results_and_nothing_else() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    for _ in 0..2 {
        let finished = environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        assert_eq!(finished.stderr, "");
        finished.prints("best_f1").prints("plots/score.png");
    }
    let silent = environment.succeed(&["run", "--quiet", "pipeline.yaml", "--target", "windows"]);
    assert_eq!(
        (silent.stdout.as_str(), silent.stderr.as_str()),
        ("", ""),
        "no results, no output"
    );
}

#[test]
fn the_story_goes_to_standard_error() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let finished = environment.succeed(&["run", "pipeline.yaml"]);
    assert!(
        finished.stdout.starts_with("metrics\n"),
        "{}",
        finished.stdout
    );
    finished
        .says("plan: 8 stages, 0 up to date")
        .says("start model (train)")
        .says("done: 8 ran, 0 up to date");
}

#[test]
fn verbose_tells_hits() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let brief = environment.succeed(&["run", "pipeline.yaml"]);
    assert!(!brief.stderr.contains("model"), "{}", brief.stderr);
    environment
        .succeed(&["run", "--verbose", "pipeline.yaml"])
        .says("hit   model (train)");
}

const ESCAPE: char = '\u{1b}';

#[test]
fn pipes_get_no_escape_codes() {
    let mut environment = TestEnvironment::with_pipeline(SMALL);
    environment.set("TERM", "xterm-256color");
    let bad = SMALL.replace("uses: train", "uses: trian");
    environment.write("bad.yaml", bad);
    let verbs: [&[&str]; 10] = [
        &["run", "pipeline.yaml"],
        &["plan", "pipeline.yaml"],
        &["show"],
        &["runs"],
        &["why", "model"],
        &["stages"],
        &["cache", "stats"],
        &["cache", "verify"],
        &["data", "list"],
        &["run", "bad.yaml"],
    ];
    for arguments in verbs {
        let finished = environment.run(arguments);
        assert!(
            !finished.stdout.contains(ESCAPE) && !finished.stderr.contains(ESCAPE),
            "{}",
            finished.describe()
        );
    }
}

#[test]
fn colours_can_be_had_and_refused() {
    let mut environment = TestEnvironment::with_pipeline(SMALL);
    let coloured = environment.succeed(&["plan", "--color", "always", "pipeline.yaml"]);
    assert!(coloured.stdout.contains(ESCAPE), "{}", coloured.describe());
    environment.set("CLICOLOR_FORCE", "1");
    assert!(
        environment
            .succeed(&["plan", "pipeline.yaml"])
            .stdout
            .contains(ESCAPE)
    );
    environment.set("NO_COLOR", "1");
    assert!(
        !environment
            .succeed(&["plan", "--color", "never", "pipeline.yaml"])
            .stdout
            .contains(ESCAPE)
    );
}

#[test]
fn show_has_the_promised_fields() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest();
    let promised = ["run", "pipeline", "status", "stages", "metrics"];
    let more = "file started seconds command profile overrides targets params seed environment pipeline_files";
    let mut found = keys(&run);
    assert!(promised.iter().all(|key| found.contains(key)), "{found:?}");
    found.retain(|key| !promised.contains(key));
    assert_eq!(found.join(" "), more, "the rest of the record");
    let stages = run["stages"].as_array().unwrap();
    let names: Vec<&str> = stages
        .iter()
        .map(|stage| stage["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, SMALL_STAGES);
    for stage in stages {
        assert_eq!(
            keys(stage),
            [
                "name", "kind", "state", "key", "digests", "seconds", "reason"
            ]
        );
        assert_eq!(stage["key"].as_str().unwrap().len(), 64);
        assert!(stage["seconds"].as_f64().unwrap() >= 0.0);
    }
    assert_eq!(
        (&run["pipeline"], &run["status"], &run["seed"]),
        (&"small".into(), &"done".into(), &7.into())
    );
    assert_eq!(keys(&run["metrics"]), ["metrics"]);
    assert_eq!(
        keys(&run["metrics"]["metrics"]),
        ["threshold", "precision", "recall", "f1", "best_f1"]
    );
    assert_eq!(
        run["params"],
        serde_json::json!({"epochs": 2, "channels": 3})
    );
    for name in [
        "latest",
        run["run"].as_str().unwrap(),
        &run["run"].as_str().unwrap()[9..],
    ] {
        assert_eq!(
            environment.json(&["show", name])["run"],
            run["run"],
            "{name}"
        );
    }
}

#[test]
fn a_run_in_json_is_a_stream_of_events_and_the_record() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let finished = environment.succeed(&["run", "--json", "pipeline.yaml"]);
    assert_eq!(finished.stderr, "");
    let lines = finished.json_lines();
    let events: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["event"].as_str())
        .collect();
    assert_eq!(
        (events[0], events[events.len() - 2]),
        ("run-started", "run-finished")
    );
    let of = |kind: &str| events.iter().filter(|event| **event == kind).count();
    assert_eq!((of("stage-started"), of("stage-finished")), (8, 8));
    assert!(
        of("stage-progress") >= 2,
        "the training tells how far it is"
    );
    let mut record = lines.last().unwrap().clone();
    let event = record.as_object_mut().unwrap().remove("event");
    assert_eq!(event, Some("result".into()));
    assert_eq!(record, environment.latest(), "the last line is the record");
}

#[test]
fn errors_in_json_are_one_object() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let finished = environment
        .run(&["plan", "--json", "pipeline.yaml", "--target", "scalled"])
        .expect(2);
    assert_eq!(
        finished.json(),
        serde_json::json!({
            "error": "the pipeline has no stage `scalled`", "causes": [], "hint": "did you mean `scaled`?",
        })
    );
}

#[test]
fn every_verb_that_prints_results_can_print_json() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let verbs: [(&[&str], &str); 11] = [
        (&["plan", "pipeline.yaml"], "stages"),
        (&["why", "model", "pipeline.yaml"], "stages"),
        (&["graph", "pipeline.yaml"], "stages"),
        (&["show"], "stages"),
        (&["runs"], "runs"),
        (&["diff", "latest"], "stages"),
        (&["stages"], "stages"),
        (&["data", "list"], "datasets"),
        (&["data", "verify"], "files"),
        (&["cache", "stats"], "objects"),
        (&["cache", "gc", "--dry-run"], "removed"),
    ];
    for (arguments, key) in verbs {
        let value = environment.json(arguments);
        assert!(value.get(key).is_some(), "{arguments:?}: {value}");
    }
}

/// A reader that goes away, as `head` does, is no crash.
#[test]
fn a_closed_pipe_is_no_panic() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let mut command = environment.command(&["schema"]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("panicked"), "{told}");
    assert_eq!(
        output.status.code(),
        Some(141),
        "as if SIGPIPE had ended it"
    );
}
