//! `command` stages: any program, with declared inputs, outputs and environment, kept like any other stage.

use insta::assert_snapshot;

use crate::environment::{Finished, TestEnvironment};
use crate::store::{digests, ran};

/// A pipeline of one command stage, from the items below `with`.
fn one(with: &str) -> TestEnvironment {
    let indented: String = with.lines().map(|line| format!("      {line}\n")).collect();
    TestEnvironment::with_pipeline(&format!(
        "pipeline: one\nstages:\n  it:\n    uses: command\n    with:\n{indented}"
    ))
}

fn fails(with: &str) -> Finished {
    let environment = one(with);
    let finished = environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    assert_eq!(
        environment.files("cache/v1/objects").len() + environment.files("cache/v1/actions").len(),
        0
    );
    finished
}

/// What the stage wrote into its output `o`.
fn output(environment: &TestEnvironment) -> String {
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let file = environment.files(&format!("cache/v1/runs/{run}/files/it/o"));
    environment.read(
        file.first()
            .and_then(|path| path.to_str())
            .expect("the output is a file"),
    )
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
    environment
        .succeed(&["run", "pipeline.yaml"])
        .prints("total");
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
    let told =
        fails("run: [sh, -c, \"echo 1 > {out.o}; echo 2 > extra.txt\"]\noutputs: {o: {path: o}}")
            .stderr;
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
    let seen: Vec<&str> = seen
        .lines()
        .filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name))
        .filter(|name| !name.ends_with("_THREADS"))
        .collect();
    assert_eq!(
        seen,
        [
            "CUDA_VISIBLE_DEVICES",
            "DECLARED",
            "HOME",
            "LANG",
            "PASSED",
            "PATH",
            "PYTHONPATH",
            "RUNNER_JOB",
            "TMPDIR",
            "TZ"
        ]
    );
    let recorded = environment.latest()["environment"]["variables"].clone();
    assert!(
        ["PATH", "HOME", "TMPDIR"]
            .iter()
            .all(|name| recorded[name].is_string()),
        "{recorded}"
    );
}

#[test]
fn a_passed_variable_enters_the_key_and_others_do_not() {
    let mut environment =
        one("run: [sh, -c, \"echo $LEVEL > {out.o}\"]\npass_env: [LEVEL]\noutputs: {o: {path: o}}");
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
    assert_eq!(
        (ran(&environment.latest()), digests(&environment.latest())),
        (Vec::new(), first)
    );
}

#[test]
fn a_program_leaves_nothing_in_the_store_but_its_outputs() {
    let environment = one("run: [sh, -c, \"echo 1 > {out.o}\"]\noutputs: {o: {path: deep/er/o}}");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(
        environment.files("cache/v1/tmp"),
        Vec::<std::path::PathBuf>::new()
    );
    assert!(
        !environment
            .path("cache/v1/tmp")
            .read_dir()
            .unwrap()
            .any(|_| true),
        "the scratch folder is gone"
    );
}

#[test]
fn a_timeout_ends_the_program_and_what_it_started() {
    let environment = TestEnvironment::new();
    let late = environment.path("late");
    let script = format!(
        "echo reading the map; (sleep 2; echo > {}) & wait",
        late.display()
    );
    environment.write(
        "pipeline.yaml",
        format!("pipeline: slow\nstages:\n  it: {{uses: command, timeout: 200 ms, with: {{run: [sh, -c, \"{script}\"], outputs: {{o: {{path: o}}}}}}}}\n"),
    );
    let run = environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    run.says("it ran longer than 200ms").says("reading the map");
    std::thread::sleep(std::time::Duration::from_millis(2300));
    assert!(!late.exists(), "the background process outlived its stage");
}

#[test]
fn paths_outside_the_folder_are_refused_before_anything_runs() {
    for path in ["../escape", "/tmp/escape", "", "in/x"] {
        let environment = one(&format!(
            "run: [\"true\"]\noutputs: {{o: {{path: \"{path}\"}}}}"
        ));
        environment
            .run(&["run", "pipeline.yaml"])
            .expect(2)
            .says("is not a path ")
            .says("outputs: {o: {path: ");
        assert!(!environment.path("cache").exists());
    }
}

/// Two runs and a second execution in another store agree about a program that writes down what it was given.
#[test]
fn a_program_is_given_the_same_paths_in_each_run() {
    let environment = TestEnvironment::with_pipeline(
        r#"pipeline: paths
stages:
  raw: {uses: generate, with: {channels: 1, rows: {train: 9, validation: 0, calibration: 0, test: 9}, day: 3}}
  it:
    uses: command
    from: {"the series": raw}
    with:
      run: [sh, -c, "ls {in.the series} && echo $0 $* > {out.o} && env | grep -v PWD | sort >> {out.o}", "{file.s}", "{in.the series}", "{out.o}"]
      files: {s: notes.txt}
      outputs: {o: {path: seen.txt}}
"#,
    );
    environment.write("notes.txt", "");
    let store = ["--store", "somebody's own store"];
    environment.succeed(&[&["run", "pipeline.yaml"][..], &store].concat());
    environment.succeed(&[&["audit", "latest"][..], &store].concat());
    let run = environment.json(&[&["show", "latest"][..], &store].concat())["run"]
        .as_str()
        .unwrap()
        .to_owned();
    let seen = environment.read(&format!(
        "somebody's own store/v1/runs/{run}/files/it/o/seen.txt"
    ));
    assert!(
        seen.starts_with("files/notes.txt in/the%20series.parquet seen.txt\n"),
        "{seen}"
    );
    assert!(!seen.contains("somebody"), "{seen}");
}

#[test]
fn every_file_of_a_declared_folder_is_a_determinant() {
    let environment = one(
        "run: [sh, -c, \"cat {file.parts}/*.txt {file.some}/sub/*.md > {out.o}\"]\nfiles: {parts: parts, some: \"other/*/*.md\"}\noutputs: {o: {path: o}}",
    );
    for (name, text) in [
        ("parts/1.txt", "a"),
        ("parts/2.txt", "b"),
        ("other/sub/x.md", "c"),
        ("other/sub/x.txt", "no"),
    ] {
        environment.write(name, text);
    }
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(output(&environment), "abc");
    for unseen in [
        "parts/.hidden",
        "parts/__pycache__/x.pyc",
        "other/sub/y.txt",
    ] {
        environment.write(unseen, "x");
    }
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());
    environment.write("parts/2.txt", "B");
    environment
        .succeed(&["why", "it", "pipeline.yaml"])
        .prints("parts/2.txt");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(output(&environment), "aBc");
    std::fs::remove_file(environment.path("parts/1.txt")).unwrap();
    environment.write("other/sub/y.md", "d");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(output(&environment), "Bcd");
    environment.succeed(&["lock", "pipeline.yaml"]);
    environment.succeed(&["audit", "pipeline.lock"]);
    environment.succeed(&[
        "export", "latest", "--format", "ro-crate", "--output", "crate",
    ]);
    std::fs::remove_dir_all(environment.path("parts")).unwrap();
    environment.write("parts/.hidden", "x");
    environment
        .run(&["run", "pipeline.yaml"])
        .expect(1)
        .says("the folder has no files");
}

#[test]
fn a_neighbour_of_a_script_is_there_only_if_it_is_declared() {
    let pipeline = |files: &str| {
        format!(
            "pipeline: n\nstages:\n  it: {{uses: command, with: {{run: [sh, \"{{file.main}}\"], files: {{{files}}}, outputs: {{o: {{path: o}}}}}}}}\n"
        )
    };
    let environment = TestEnvironment::with_pipeline(&pipeline("main: src/main.sh"));
    environment.write("src/main.sh", ". $(dirname $0)/part.sh; echo $value > o\n");
    environment.write("src/part.sh", "value=1\n");
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1)
        .says("part.sh");
    environment.write(
        "pipeline.yaml",
        pipeline("main: src/main.sh, part: src/part.sh"),
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(output(&environment), "1\n");
    environment.write("src/part.sh", "value=2\n");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(output(&environment), "2\n");
}

#[test]
fn a_file_that_is_named_and_not_declared_is_a_warning_with_its_place() {
    let environment =
        one("run: [sh, -c, \"sh step.sh {out.o}\", \"--with=notes.txt\"]\noutputs: {o: {path: o}}");
    environment.write("step.sh", "echo 1 > $1");
    environment.write("notes.txt", "");
    let told = environment.succeed(&["plan", "pipeline.yaml"]).stderr;
    assert_snapshot!(told);
}

#[test]
fn a_program_beside_the_pipeline_is_an_error_before_anything_runs() {
    let environment = one("run: [scripts/prepare.sh, \"{out.o}\"]\noutputs: {o: {path: o}}");
    environment.write("scripts/prepare.sh", "");
    let told = environment.run(&["run", "pipeline.yaml"]).expect(2).stderr;
    assert_snapshot!(told);
}

#[test]
fn a_command_line_in_place_of_a_list_is_shown_as_one() {
    for (line, expected) in [
        (
            "python3 train.py 1 --fast",
            "`[python3, train.py, \"1\", --fast]`",
        ),
        (
            "sort in.csv | uniq > out",
            "`[sh, -c, \"sort in.csv | uniq > out\"]`",
        ),
        ("train --out={out.o}", "`[train, \"--out={out.o}\"]`"),
        ("echo $HOME", "`[sh, -c, \"echo $HOME\"]`"),
    ] {
        let environment = one(&format!("run: {line:?}\noutputs: {{o: {{path: o}}}}"));
        environment
            .run(&["plan", "pipeline.yaml"])
            .expect(2)
            .says(expected);
    }
}

#[test]
fn what_should_be_a_map_is_shown_as_one() {
    for (with, expected) in [
        ("run: [a]\noutputs: {o: x.txt}", "write `{path: x.txt}`"),
        ("run: [a]\noutputs: [x.txt]", "`{NAME: {path: x.txt}}`"),
        (
            "run: [a]\noutputs: {o: {path: o}}\nfiles: [my script.py]",
            "`{NAME: \"my script.py\"}`",
        ),
        (
            "run: [a]\noutputs: {o: {path: o}}\nenv: [LEVEL=3]",
            "`{LEVEL: \"3\"}`",
        ),
        (
            "run: [a, ~]\noutputs: {o: {path: o}}",
            "in quotes it is a string",
        ),
        (
            "run: [a, \"{in.raw}\"]\noutputs: {o: {path: o}}",
            "name a stage in `from`",
        ),
    ] {
        one(with)
            .run(&["plan", "pipeline.yaml"])
            .expect(2)
            .says(expected);
    }
}

/// Arguments are texts; a number, a switch and a parameter that is one become theirs, as they are written.
#[test]
fn numbers_are_arguments_as_they_are_written() {
    let environment = TestEnvironment::with_pipeline(
        r#"pipeline: numbers
params: {rate: 1e-4, big: 1_0, on: True, same: "x"}
stages:
  it:
    uses: command
    matrix: {width: [0.10, 0x1F]}
    with:
      run: [sh, -c, "echo $0 $* $SEED $ON > {out.o}", 5, -1.50, +3, "${rate}", "${big}", "${on}", "${width}", false, "${same}"]
      env: {SEED: 007, ON: "${on}"}
      outputs: {o: {path: o}}
"#,
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let mut seen: Vec<String> = environment
        .files(&format!("cache/v1/runs/{run}/files"))
        .iter()
        .map(|path| std::fs::read_to_string(environment.path(path.to_str().unwrap())).unwrap())
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "5 -1.50 +3 1e-4 1_0 True 0.10 false x 007 True\n",
            "5 -1.50 +3 1e-4 1_0 True 0x1F false x 007 True\n"
        ]
    );

    // What was a text before is the same text still, with quotes or without.
    let keys = |run: &str| {
        let environment = one(&format!("run: {run}\noutputs: {{o: {{path: o}}}}"));
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        environment.latest()["stages"][0]["key"].clone()
    };
    let quoted = keys("[sh, -c, ': > o', '1e-4', 'true']");
    assert_eq!(keys("[sh, -c, \": > o\", 1e-4, true]"), quoted);
    assert_ne!(keys("[sh, -c, ': > o', 0.0001, true]"), quoted);
    one("run: [echo, null]\noutputs: {o: {path: o}}")
        .run(&["plan", "pipeline.yaml"])
        .expect(2)
        .says("run.1");
    one("run: [echo, [1]]\noutputs: {o: {path: o}}")
        .run(&["plan", "pipeline.yaml"])
        .expect(2)
        .says("must be a string");
}

/// What is stored under the key of a script was made by that script.
#[test]
fn a_script_that_is_edited_while_a_run_is_under_way() {
    let environment = TestEnvironment::with_pipeline(
        r#"pipeline: edited
stages:
  it:
    uses: command
    foreach: [{n: 1}, {n: 2}]
    with: {run: [sh, "{file.s}", "{out.o}", "${n}"], files: {s: s.sh}, outputs: {o: {path: o, kind: metrics}}}
"#,
    );
    let waits =
        "[ $2 = 1 ] && { echo > started; while [ ! -e go ]; do sleep 0.02; done; rm started go; }";
    let first = format!("{waits}\necho '{{\"version\": 1}}' > $1\n");
    environment.write("s.sh", &first);
    let mut running = environment.spawn(&["run", "--quiet", "-j", "1", "pipeline.yaml"]);
    let started = || {
        environment
            .files("cache/v1/tmp")
            .into_iter()
            .find(|path| path.ends_with("started"))
    };
    assert!(running.wait_until(|| started().is_some()));
    environment.write("s.sh", "echo '{\"version\": 2}' > $1\n");
    std::fs::write(started().unwrap().with_file_name("go"), "").unwrap();
    running
        .wait()
        .expect(1)
        .says("changed after its content was hashed")
        .says("s.sh");
    let versions = || environment.latest()["metrics"].clone();
    environment.write("s.sh", &first);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), ["it[n=2]"]);
    assert_eq!(
        versions(),
        serde_json::json!({"it[n=1]": {"version": 1.0}, "it[n=2]": {"version": 1.0}})
    );
    environment.write("s.sh", "echo '{\"version\": 2}' > $1\n");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(
        versions(),
        serde_json::json!({"it[n=1]": {"version": 2.0}, "it[n=2]": {"version": 2.0}})
    );
}

/// The number of the process that a program wrote into its folder, as soon as it is there.
fn process_of(environment: &TestEnvironment, running: &mut crate::environment::Running) -> String {
    let found = || {
        let files = environment
            .files("cache/v1/tmp")
            .into_iter()
            .find(|path| path.ends_with("pid"))?;
        std::fs::read_to_string(environment.path(files.to_str()?))
            .ok()
            .filter(|text| text.ends_with('\n'))
    };
    assert!(running.wait_until(|| found().is_some()));
    found().unwrap().trim().to_owned()
}

/// Waits for the end of a process that is not a child of this one.
fn has_ended(process: &str) -> bool {
    let lives = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        status
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    (0..12_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        !lives()
    })
}

const WITH_A_CHILD: &str = "pipeline: child\nstages:\n  it: {uses: command, timeout: LIMIT, with: {run: [sh, -c, \"sleep 500 & child=$!; sleep 0.3; echo $child > pid; wait\"], outputs: {o: {path: o}}}}\n";

#[test]
fn no_program_outlives_its_runner() {
    let environment = TestEnvironment::with_pipeline(&WITH_A_CHILD.replace("LIMIT", "1 h"));
    let mut running = environment.spawn(&["run", "--quiet", "pipeline.yaml"]);
    let process = process_of(&environment, &mut running);
    running.kill();
    running.wait().expect_killed();
    assert!(
        has_ended(&process),
        "a child of the program outlived the runner"
    );
}

#[test]
fn the_first_interrupt_ends_the_program_and_its_children() {
    let environment = TestEnvironment::with_pipeline(&WITH_A_CHILD.replace("LIMIT", "1 h"));
    let mut running = environment.spawn(&["run", "--quiet", "pipeline.yaml"]);
    let process = process_of(&environment, &mut running);
    running.interrupt();
    running.wait().expect(130);
    assert!(has_ended(&process) && environment.latest()["status"] == "interrupted");
}

#[test]
fn a_timeout_ends_what_holds_the_streams_of_a_program() {
    let environment = TestEnvironment::with_pipeline(&WITH_A_CHILD.replace("LIMIT", "1 s"));
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1)
        .says("it ran longer than 1s");
}

#[test]
fn the_journal_of_a_flood_is_short() {
    let environment = one(
        "run: [sh, -c, \"echo first; seq 1 3000000; head -c 3000000 /dev/zero; echo; echo last >&2; : > {out.o}\"]\noutputs: {o: {path: o}}",
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let journal = environment.read(&format!("cache/v1/runs/{run}/events.jsonl"));
    assert!(journal.len() < 8 << 20, "{}", journal.len());
    for part in [
        "\"first\"",
        "\"1000\"",
        "are left out here",
        "\"2999999\"",
        "more bytes)",
        "\"last\"",
    ] {
        assert!(journal.contains(part), "{part}");
    }
}

#[test]
fn what_a_program_says_is_in_the_journal_before_it_ends() {
    let environment =
        one("run: [sh, -c, \"echo $$ > pid; echo so far; sleep 500\"]\noutputs: {o: {path: o}}");
    let mut running = environment.spawn(&["run", "--quiet", "pipeline.yaml"]);
    let journal = || {
        environment
            .files("cache/v1/runs")
            .into_iter()
            .find(|path| path.ends_with("events.jsonl"))
    };
    let said = || {
        journal().is_some_and(|path| environment.read(path.to_str().unwrap()).contains("so far"))
    };
    assert!(running.wait_until(said));
    running.kill();
    running.wait().expect_killed();
}

#[test]
fn the_record_of_a_failure_has_the_last_words() {
    let environment =
        one("run: [sh, -c, \"echo 'KeyError: width' >&2; exit 7\"]\noutputs: {o: {path: o}}");
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    environment
        .succeed(&["show"])
        .prints("KeyError: width")
        .prints("exit status: 7");
    assert_eq!(
        environment.json(&["show"])["stages"][0]["causes"][0],
        "KeyError: width"
    );
}

/// An empty folder is a folder for the next stage, and a name comes back as it was.
#[test]
fn folders_go_from_stage_to_stage_and_through_the_store() {
    let environment = TestEnvironment::with_pipeline(
        r#"pipeline: folders
stages:
  make: {uses: command, with: {run: [sh, -c, "mkdir -p {out.o}/none/inner {out.p}; echo 1 > '{out.o}/a \"b\" ü'"], outputs: {o: {path: o}, p: {path: p}}}}
  it:
    uses: command
    from: {made: make.o, nothing: make.p}
    with: {run: [sh, -c, "(cd {in.made}; find . | sort); ls -A {in.nothing}; (cd {in.made}; find . | sort) > {out.o}; test -d {in.nothing}"], outputs: {o: {path: o}}}
"#,
    );
    environment.succeed(&["run", "--quiet", "--target", "make", "pipeline.yaml"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(
        output(&environment),
        ".\n./a \"b\" ü\n./none\n./none/inner\n"
    );
}
