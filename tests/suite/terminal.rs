//! What reaches a terminal: nothing that a pipeline, a program or a record says can steer it. And what becomes of output
//! that cannot be written, or that a program reads as JSON.

use std::fs::File;
use std::process::Stdio;

use crate::environment::{Finished, TestEnvironment};

/// A name that sets the title, clears the screen, writes from right to left and breaks the line.
const HOSTILE: &str = r#"p\u001b]0;TITLE\u0007\u001b[2J\u009b31m\u202e\nfalse: line"#;

/// A program whose words do the same, and which makes a file of such a name.
fn pipeline(ends_well: bool) -> String {
    let end = if ends_well {
        "echo '{\"f\\u001b[5m\": 1}' > {out.m}"
    } else {
        "exit 3"
    };
    let note = r"printf '\033]0;PWN\007\033[2J\302\233note\n' | tee /dev/stderr";
    let run = serde_json::json!(["sh", "-c", format!("{note}; {end}")]);
    format!(
        "pipeline: \"{HOSTILE}\"\ndescription: \"\\u001b[31mred\"\nparams: {{a: \"x\\u001b[7m\\ty\"}}\nstages:\n  \
         it: {{uses: command, matrix: {{v: [\"${{a}}\", b]}}, \
         with: {{run: {run}, env: {{V: \"${{v}}\"}}, outputs: {{m: {{path: m.json, kind: metrics}}}}}}}}\n"
    )
}

/// Neither stream holds anything that a terminal obeys but line breaks, tabs and, where they are asked for, colours.
#[track_caller]
fn is_harmless(finished: &Finished) {
    for text in [&finished.stdout, &finished.stderr] {
        let ours = [
            "\u{1b}[0m",
            "\u{1b}[1m",
            "\u{1b}[2m",
            "\u{1b}[3",
            "\u{1b}[9",
        ];
        let plain = ours
            .iter()
            .fold(text.clone(), |text, sequence| text.replace(sequence, ""));
        let steers =
            |one: &char| runner::diagnostic::is_control(*one) && !matches!(one, '\n' | '\t');
        assert_eq!(
            plain.chars().find(steers),
            None,
            "{}",
            finished.describe().escape_debug()
        );
        assert!(
            !text.lines().any(|line| line.starts_with("false: line")),
            "{}",
            finished.describe()
        );
    }
}

#[test]
fn no_verb_hands_on_what_steers_a_terminal() {
    for ends_well in [true, false] {
        let environment = TestEnvironment::with_pipeline(&pipeline(ends_well));
        let verbs: [&[&str]; 14] = [
            &["plan", "pipeline.yaml"],
            &["run", "pipeline.yaml"],
            &["run", "pipeline.yaml", "--verbose"],
            &["runs"],
            &["show"],
            &["why", "it", "pipeline.yaml"],
            &["graph", "pipeline.yaml"],
            &["graph", "pipeline.yaml", "--format", "dot"],
            &["diff", "latest", "latest"],
            &["verify", "latest"],
            &["lock", "pipeline.yaml"],
            &["audit", "latest"],
            &["export", "latest", "--output", "crate"],
            &["cache", "verify"],
        ];
        for arguments in verbs {
            is_harmless(&environment.run(arguments));
            is_harmless(&environment.run(&[arguments, &["--color", "always"]].concat()));
            is_harmless(&environment.run(&[arguments, &["--json"]].concat()));
        }
        environment
            .succeed(&["runs"])
            .prints(r"p\u{1b}]0;TITLE\u{7}\u{1b}[2J\u{9b}31m\u{202e}\nfalse: line");
    }
}

#[test]
fn reports_and_usage_show_what_they_quote() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: p\nstages: {a: {uses: \"gen\\u001b[2J\\u202e\"}}\n",
    );
    is_harmless(&environment.run(&["plan", "pipeline.yaml"]).expect(2));
    is_harmless(&environment.run(&["plan", "no\u{1b}[2Jfile.yaml"]).expect(2));
    is_harmless(&environment.run(&["frob\u{1b}[2Jnicate"]).expect(2));
    is_harmless(&environment.run(&["show", "r\u{9b}2J"]).expect(2));
    environment.write("bad.yaml", "pipeline: p\n\u{1b}[2J\u{9b}: [\n");
    is_harmless(&environment.run(&["plan", "bad.yaml"]).expect(2));
    environment.write("runner.toml", "[remote]\n\"u\u{202e}rl\" = 3\n");
    is_harmless(&environment.run(&["plan", "pipeline.yaml"]).expect(2));
}

/// Runs with standard output on a device that is always full.
fn onto_a_full_disk(environment: &TestEnvironment, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = environment.command(arguments);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn output_that_cannot_be_written_is_an_error_in_every_verb() {
    let environment =
        TestEnvironment::with_pipeline("pipeline: p\nstages: {raw: {uses: generate}}\n");
    environment.succeed(&["run", "pipeline.yaml"]);
    let verbs: [&[&str]; 16] = [
        &["plan", "pipeline.yaml"],
        &["plan", "pipeline.yaml", "--json"],
        &["run", "pipeline.yaml", "--json"],
        &["show"],
        &["runs"],
        &["diff", "latest", "latest"],
        &["why", "raw", "pipeline.yaml"],
        &["graph", "pipeline.yaml"],
        &["stages"],
        &["schema"],
        &["cache", "stats"],
        &["data", "list"],
        &["completions", "bash"],
        &["export", "latest", "--format", "csv"],
        &["--help"],
        &["run", "--help"],
    ];
    for arguments in verbs {
        let (code, told) = onto_a_full_disk(&environment, arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {told}");
        assert!(
            told.ends_with("error: cannot write the output: No space left on device\n"),
            "{arguments:?}: {told}"
        );
    }
    // The command line was wrong whether or not that can be said.
    assert_eq!(
        onto_a_full_disk(&environment, &["plan", "--frob", "--json"]).0,
        Some(2)
    );
}

#[test]
fn a_reader_that_goes_away_ends_the_process_quietly() {
    let environment = TestEnvironment::new();
    for arguments in [
        &["schema"][..],
        &["--help"],
        &["completions", "zsh"],
        &["stages", "--markdown"],
    ] {
        let mut child = environment
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        // A short text may be in the pipe before anybody knows that nobody reads it.
        assert!(
            matches!(output.status.code(), Some(141 | 0)),
            "{arguments:?}: {:?} {told}",
            output.status
        );
        assert_eq!(told, "", "{arguments:?}");
    }
}

#[test]
fn a_wrong_command_line_is_one_json_document_too() {
    let environment =
        TestEnvironment::with_pipeline("pipeline: p\nstages: {raw: {uses: generate}}\n");
    for (arguments, part) in [
        (&["run", "pipeline.yaml", "--nonsense"][..], "--nonsense"),
        (&["run", "pipeline.yaml", "--set"], "--set"),
        (&["run", "pipeline.yaml", "--jobs", "0"], "0"),
        (&["run", "pipeline.yaml", "--set", "x"], "NAME=VALUE"),
        (&["cache"], "command"),
        (&["frobnicate"], "frobnicate"),
        (&["graph", "pipeline.yaml", "--format", "svg"], "svg"),
        (&["show", "no-such-run"], "no-such-run"),
        (&["plan", "absent.yaml"], "1 error"),
        (&["sweep", "absent.yaml"], "1 error"),
    ] {
        let finished = environment
            .run(&[arguments, &["--json"]].concat())
            .expect(2);
        let error = finished.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(error.contains(part), "{}", finished.describe());
        assert_eq!(finished.stderr, "", "{}", finished.describe());
    }
    // Behind `--` it is no option.
    environment
        .run(&["show", "--frob", "--", "--json"])
        .expect(2)
        .says("--frob");
}

#[test]
fn warnings_are_part_of_the_one_document() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: p\nparams: {spare: 1}\nstages: {raw: {uses: generate}}\n",
    );
    let plan = environment.json(&["plan", "pipeline.yaml"]);
    assert_eq!(plan["stages"][0]["name"], "raw");
    assert_eq!(plan["diagnostics"][0]["code"], "unused-parameter");
}
