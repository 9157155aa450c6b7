//! `command` stages: any program, with declared inputs, outputs and environment, kept like any other stage.

use insta::assert_snapshot;

use crate::environment::{Finished, TestEnvironment};
use crate::store::{digests, ran};

/// A pipeline of one command stage, from the items below `with`.
fn one(with: &str) -> TestEnvironment {
    let indented: String = with.lines().map(|line| format!("      {line}\n")).collect();
    TestEnvironment::with_pipeline(&format!("pipeline: one\nstages:\n  it:\n    uses: command\n    with:\n{indented}"))
}

fn fails(with: &str) -> Finished {
    let environment = one(with);
    let finished = environment.run(&["run", "--quiet", "pipeline.yaml"]).expect(1);
    assert_eq!(environment.files("cache/v1/objects").len() + environment.files("cache/v1/actions").len(), 0);
    finished
}

/// What the stage wrote into its output `o`.
fn output(environment: &TestEnvironment) -> String {
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    environment.read(&format!("cache/v1/runs/{run}/files/it/o"))
}

#[test]
fn a_script_with_inputs_and_metrics_runs_once() {
    let environment = TestEnvironment::with_pipeline(
        r#"pipeline: script
stages:
  numbers: {uses: command, with: {run: [sh, -c, "printf '3\n4\n' > {out.list}"], outputs: {list: {path: list.txt}}}}
  total:
    uses: command
    from: {numbers: numbers}
    with:
      run: [sh, "{file.script}", "{in.numbers}/list.txt", "{out.figures}"]
      files: {script: total.sh}
      outputs: {figures: {path: figures.json, kind: metrics}}
"#,
    );
    environment.write(
        "total.sh",
        "total=0\nfor n in $(cat \"$1\"); do total=$((total + n)); done\necho \"{\\\"total\\\": $total}\" > \"$2\"\n",
    );
    environment.succeed(&["run", "pipeline.yaml"]).prints("total");
    let run = environment.latest();
    assert_eq!(run["metrics"]["total"]["total"], 7.0);
    environment.succeed(&["run", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());

    // The script belongs to what determines the output.
    environment.write("total.sh", "echo '{\"total\": 8}' > \"$2\"\n");
    environment.succeed(&["run", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), ["total"]);
    assert_eq!(environment.latest()["metrics"]["total"]["total"], 8.0);
}

#[test]
fn a_folder_of_files_keeps_names_content_and_permissions() {
    let environment = TestEnvironment::with_pipeline(
        r#"pipeline: folder
stages:
  make:
    uses: command
    with:
      run: [sh, -c, "mkdir -p {out.o}/sub && echo 'echo ran' > {out.o}/sub/tool && chmod +x {out.o}/sub/tool && : > {out.o}/empty"]
      outputs: {o: {path: o}}
  it: {uses: command, from: {made: make}, with: {run: [sh, -c, "{in.made}/sub/tool > {out.o}; ls {in.made} >> {out.o}"], outputs: {o: {path: o}}}}
"#,
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(output(&environment), "ran\nempty\nsub\n");
}

#[test]
fn an_undeclared_output_is_an_error() {
    let told = fails("run: [sh, -c, \"echo 1 > {out.o}; echo 2 > extra.txt\"]\noutputs: {o: {path: o}}").stderr;
    assert_snapshot!(told);
}

#[test]
fn a_missing_output_is_an_error() {
    let told =
        fails("run: [sh, -c, \"echo 1 > {out.o}\"]\noutputs: {o: {path: o}, p: {path: sub/p.json, kind: metrics}}")
            .stderr;
    assert_snapshot!(told);
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    let told = fails("run: [no-such-program]\noutputs: {o: {path: o}}").stderr;
    assert_snapshot!(told);
}

#[test]
fn a_program_that_fails_is_quoted() {
    let told =
        fails("run: [sh, -c, \"echo progress; echo 'no such column' >&2; exit 3\"]\noutputs: {o: {path: o}}").stderr;
    assert_snapshot!(told);
}

#[test]
fn metrics_that_are_no_numbers_are_an_error() {
    let told = fails(
        "run: [sh, -c, \"echo '{\\\"f1\\\": \\\"high\\\"}' > {out.o}\"]\noutputs: {o: {path: o.json, kind: metrics}}",
    )
    .stderr;
    assert_snapshot!(told);
}

#[test]
fn the_environment_holds_what_was_declared() {
    let mut environment = one(
        "run: [sh, -c, \"env | cut -d= -f1 | sort > {out.o}\"]\nenv: {DECLARED: x}\npass_env: [PASSED, ABSENT]\noutputs: {o: {path: o}}",
    );
    environment.set("PASSED", "y");
    environment.set("SECRET", "z");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let seen = output(&environment);
    let seen: Vec<&str> = seen.lines().filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    assert_eq!(seen, ["DECLARED", "HOME", "PASSED", "PATH", "TMPDIR"]);
}

#[test]
fn a_passed_variable_enters_the_key_and_others_do_not() {
    let mut environment = one("run: [sh, -c, \"echo $LEVEL > {out.o}\"]\npass_env: [LEVEL]\noutputs: {o: {path: o}}");
    environment.set("LEVEL", "1");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(output(&environment), "1\n");
    let first = digests(&environment.latest());

    environment.set("OTHER", "1");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());

    environment.set("LEVEL", "2");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), ["it"]);
    assert_eq!(output(&environment), "2\n");
    environment.succeed(&["why", "it"]).prints("LEVEL");

    environment.set("LEVEL", "1");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!((ran(&environment.latest()), digests(&environment.latest())), (Vec::new(), first));
}

#[test]
fn a_program_leaves_nothing_in_the_store_but_its_outputs() {
    let environment = one("run: [sh, -c, \"echo 1 > {out.o}\"]\noutputs: {o: {path: deep/er/o}}");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(environment.files("cache/v1/tmp"), Vec::<std::path::PathBuf>::new());
    assert!(!environment.path("cache/v1/tmp").read_dir().unwrap().any(|_| true), "the scratch folder is gone");
}

#[test]
fn a_timeout_ends_the_program_and_what_it_started() {
    let environment = TestEnvironment::new();
    let late = environment.path("late");
    let script = format!("(sleep 2; echo > {}) & wait", late.display());
    environment.write(
        "pipeline.yaml",
        format!("pipeline: slow\nstages:\n  it: {{uses: command, timeout: 200 ms, with: {{run: [sh, -c, \"{script}\"], outputs: {{o: {{path: o}}}}}}}}\n"),
    );
    environment.run(&["run", "--quiet", "pipeline.yaml"]).expect(1).says("it ran longer than 200ms");
    std::thread::sleep(std::time::Duration::from_millis(2300));
    assert!(!late.exists(), "the background process outlived its stage");
}

#[test]
fn paths_outside_the_folder_are_refused_before_anything_runs() {
    for path in ["../escape", "/tmp/escape", "", "in/x"] {
        let environment = one(&format!("run: [\"true\"]\noutputs: {{o: {{path: \"{path}\"}}}}"));
        environment.run(&["run", "pipeline.yaml"]).expect(2).says("is no path below the folder of the command");
        assert!(!environment.path("cache").exists());
    }
}
