//! What people see of failures.

use insta::assert_snapshot;

use crate::environment::TestEnvironment;
use crate::store::{in_state, stage};

const BROKEN: &str = r#"pipeline: broken
stages:
  raw: {uses: generate, with: {channels: 2, rows: {train: 50, validation: 0, calibration: 0, test: 50}, day: 10}}
  bad:
    uses: command
    from: raw
    with: {run: [sh, -c, "echo no luck >&2; exit 4"], outputs: {o: {path: o}}}
  below: {uses: command, from: bad, with: {run: [cp, -r, "{in.bad}", "{out.o}"], outputs: {o: {path: o}}}}
  scaled: {uses: normalize, from: raw}
  windows: {uses: window, from: scaled, with: {length: 5}}
"#;

#[test]
fn the_command_line_tells_the_whole_story() {
    let environment = TestEnvironment::with_pipeline(BROKEN);
    let finished = environment
        .run(&["run", "--quiet", "--keep-going", "pipeline.yaml"])
        .expect(1);
    assert_eq!(finished.stdout, "");
    let run = environment.latest();
    assert_eq!(in_state(&run, "failed"), ["bad"]);
    assert_eq!(in_state(&run, "skipped"), ["below"]);
    assert_eq!(in_state(&run, "ran"), ["raw", "scaled", "windows"]);
    assert_eq!(stage(&run, "below")["reason"], "it needs bad");
    let digest = stage(&run, "raw")["digests"]["series"].as_str().unwrap();
    let told = finished.stderr.replace(&digest[..12], "[DIGEST]");
    assert_snapshot!(told);
}

#[test]
fn after_a_failure_only_the_rest_runs() {
    let environment = TestEnvironment::with_pipeline(BROKEN);
    environment
        .run(&["run", "--keep-going", "pipeline.yaml"])
        .expect(1);
    environment.write("pipeline.yaml", BROKEN.replace("exit 4", "echo > {out.o}"));
    environment.succeed(&["run", "pipeline.yaml"]);
    assert_eq!(in_state(&environment.latest(), "ran"), ["bad", "below"]);
}

/// What failed has run: nobody is told otherwise, before it is repaired and after.
#[test]
fn a_stage_that_failed_is_not_said_to_be_new() {
    let text = "pipeline: p\nparams: {x: 1}\nstages:\n  a: {uses: command, with: {run: [sh, -c, \"test ${x} = 2 && echo > {out.o}\"], \
                outputs: {o: {path: o}}}}\n  b: {uses: command, from: {i: a}, with: {run: [sh, -c, \"ls {in.i} > {out.o}\"], outputs: {o: {path: o}}}}\n";
    let environment = TestEnvironment::with_pipeline(text);
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let said = format!("it failed in run {run} (");
    environment
        .succeed(&["plan", "pipeline.yaml"])
        .prints(&said);
    environment
        .succeed(&["why", "a", "pipeline.yaml"])
        .prints(&format!("a must run: {said}"));
    // With another value it is another execution, and when that is done, it is up to date.
    let changed = format!("it changed since it failed in run {run} (");
    environment
        .succeed(&["plan", "pipeline.yaml", "--set", "x=2"])
        .prints(&changed);
    environment
        .succeed(&["why", "a", "pipeline.yaml", "--set", "x=2"])
        .prints(&format!("a must run: {changed}"));
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "x=2"]);
    environment
        .succeed(&["why", "a", "pipeline.yaml", "--set", "x=2"])
        .prints("a is up to date");
}

/// Two stages become ready at once, and neither can run: the first fails, and the other is skipped, and not both.
#[test]
fn a_stage_is_skipped_or_fails_and_not_both() {
    let text = "pipeline: p\nstages:\n  a: {uses: command, with: {run: [sh, -c, \"echo 1 > {out.o}\"], outputs: {o: {path: o}}}}\n  \
                b: {uses: command, from: a, with: {run: [sh, \"{file.s}\"], files: {s: b.sh}, outputs: {o: {path: o}}}}\n  \
                c: {uses: command, from: a, with: {run: [sh, \"{file.s}\"], files: {s: c.sh}, outputs: {o: {path: o}}}}\n";
    let environment = TestEnvironment::with_pipeline(text);
    let finished = environment.run(&["run", "pipeline.yaml"]).expect(1);
    finished.says("1 failed, 1 skipped");
    let lines: Vec<&str> = finished
        .stderr
        .lines()
        .filter(|line| !line.starts_with(' '))
        .collect();
    let about = |stage: &str| {
        let told = [
            format!("error in stage {stage}:"),
            format!("skip  {stage} ("),
        ];
        lines
            .iter()
            .filter(|line| told.iter().any(|told| line.starts_with(told.as_str())))
            .count()
    };
    assert_eq!((about("b"), about("c")), (1, 1), "{}", finished.describe());
}

/// The advice to declare a file comes where a program missed one that lies beside the pipeline, and not for every "not found".
#[test]
fn a_program_that_misses_a_file_beside_the_pipeline_is_advised_to_declare_it() {
    let text = |line: &str| {
        format!(
            "pipeline: p\nstages:\n  a: {{uses: command, with: {{run: [sh, -c, \"{line}\"], outputs: {{o: {{path: o}}}}}}}}\n"
        )
    };
    let environment = TestEnvironment::with_pipeline(&text("cat notes > {out.o}"));
    environment.write("notes", "");
    let advice = "add `files: {notes: notes}` under `with`";
    environment
        .run(&["run", "pipeline.yaml"])
        .expect(1)
        .says(advice);
    environment.write(
        "pipeline.yaml",
        text("echo notes not found >&2; exit 1; : {out.o}"),
    );
    let finished = environment.run(&["run", "pipeline.yaml"]).expect(1);
    assert!(
        !finished.stderr.contains("add `files"),
        "{}",
        finished.describe()
    );
}
