//! Small files that stand for more than a machine holds: each is refused at once, with the limit and the place.

use crate::environment::{Finished, TestEnvironment};

/// Plans; what is said.
fn refused(pipeline: &str) -> Finished {
    TestEnvironment::with_pipeline(pipeline)
        .run(&["plan", "pipeline.yaml"])
        .expect(2)
}

/// Plans with 2 GB of address space.
#[track_caller]
fn refused_in(pipeline: &str, parts: &[&str]) {
    let environment = TestEnvironment::with_pipeline(pipeline);
    let mut command = std::process::Command::new("sh");
    let program = crate::environment::program();
    command
        .arg("-c")
        .arg("ulimit -v 2000000; exec \"$0\" plan pipeline.yaml --threads 2")
        .arg(program);
    command.current_dir(environment.folder());
    let finished = environment.start(command).wait().expect(2);
    for part in parts {
        finished.says(part);
    }
}

/// `b0`, and parameters that each hold the one before twice.
fn doubling(first: &str, twice: impl Fn(&str) -> String) -> String {
    let lines: String = (1..60)
        .map(|index| format!("  b{index}: {}\n", twice(&format!("${{b{}}}", index - 1))))
        .collect();
    format!(
        "pipeline: p\nparams:\n  b0: {first}\n{lines}stages:\n  raw: {{uses: generate, with: {{kinds: \"${{b59}}\"}}}}\n"
    )
}

#[test]
fn texts_and_lists_that_double() {
    refused_in(
        &doubling("abc", |one| format!("\"{one}{one}\"")),
        &["[too-large]", "1048576 bytes", "pipeline.yaml:2"],
    );
    refused_in(
        &doubling("abc", |one| format!("[\"{one}\", \"{one}\"]")),
        &["[too-large]", "64 MiB", "pipeline.yaml:"],
    );
    refused_in(
        &doubling("abc", |one| format!("{{l: \"{one}\", r: \"{one}\"}}")),
        &["[too-large]", "64 MiB"],
    );
}

#[test]
fn many_long_texts_and_deep_nesting() {
    let long: String = (0..200)
        .map(|index| format!("  c{index}: \"${{b}}${{b}}-{index}\"\n"))
        .collect();
    let text = "x".repeat(500_000);
    let pipeline = format!("pipeline: p\nparams:\n  b: {text}\n{long}stages: {{}}\n");
    refused_in(&pipeline, &["[too-large]", "64 MiB together"]);
    let nested: String = (1..300)
        .map(|index| format!("  b{index}: [\"${{b{}}}\"]\n", index - 1))
        .collect();
    refused_in(
        &format!("pipeline: p\nparams:\n  b0: 1\n{nested}stages: {{}}\n"),
        &["[too-large]", "100 deep"],
    );
}

#[test]
fn combinations_without_end() {
    let values: Vec<String> = (0..100).map(|value| value.to_string()).collect();
    let axes: Vec<String> = (0..10)
        .map(|axis| format!("a{axis}: [{}]", values.join(", ")))
        .collect();
    let matrix = format!(
        "pipeline: p\nstages:\n  raw: {{uses: generate, matrix: {{{}}}, with: {{channels: \"${{a0}}\"}}}}\n",
        axes.join(", ")
    );
    refused_in(
        &matrix,
        &["[too-many]", "200000 combinations", "pipeline.yaml:3"],
    );
    // Each stage is small; what takes from all of them is not.
    let stages: Vec<String> = (0..5)
        .map(|index| {
            let values: Vec<String> = (1..40).map(|value| value.to_string()).collect();
            format!(
                "  r{index}: {{uses: generate, matrix: {{a{index}: [{}]}}, with: {{channels: \"${{a{index}}}\"}}}}\n",
                values.join(", ")
            )
        })
        .collect();
    let joined = format!(
        "pipeline: p\nstages:\n{}  all: {{uses: command, from: {{a: r0, b: r1, c: r2, d: r3, e: r4}}, with: {{run: [sh], outputs: {{o: {{path: o}}}}}}}}\n",
        stages.concat()
    );
    refused_in(&joined, &["200000"]);
}

#[test]
fn aliases_and_includes() {
    let aliases: String = (1..30)
        .map(|index| format!("  b{index}: &b{index} [*b{0}, *b{0}]\n", index - 1))
        .collect();
    let anchored = format!(
        "pipeline: p\nparams:\n  b0: &b0 [{}]\n{aliases}stages: {{}}\n",
        "x".repeat(200)
    );
    refused_in(&anchored, &["aliases followed", "pipeline.yaml:"]);
    let environment =
        TestEnvironment::with_pipeline("pipeline: p\ninclude: [f0.yaml]\nstages: {}\n");
    for index in 0..3000 {
        environment.write(
            &format!("f{index}.yaml"),
            format!("include: [f{}.yaml]\n", index + 1),
        );
    }
    environment
        .run(&["plan", "pipeline.yaml"])
        .expect(2)
        .says("more than 32 deep");
}

#[test]
fn numbers_beyond_their_type() {
    for (with, part) in [
        ("class_weights: [1.0, 2.0e+38, -3.5e+38]", "class_weights"),
        (
            "class_weights: [1, 10000000000000000000000000000000000000000]",
            "class_weights",
        ),
        ("class_weights: [1.0e-60]", "class_weights"),
        ("epochs: 18446744073709551615000", "epochs"),
        ("batch: 1.0e+300", "batch"),
    ] {
        let text = format!(
            "pipeline: p\nstages:\n  raw: {{uses: generate}}\n  windows: {{uses: window, from: raw, with: {{length: 16}}}}\n  \
             model: {{uses: train, from: windows, with: {{model: {{kind: tvnet-recon}}, {with}}}}}\n"
        );
        let finished = refused(&text);
        finished.says(part).says("pipeline.yaml:5");
    }
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let environment = TestEnvironment::with_pipeline("pipeline: p\ninclude: [pipe]\nstages: {}\n");
    let pipe = environment.path("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    environment
        .run(&["plan", "pipeline.yaml"])
        .expect(2)
        .says("cannot read `pipe`: it is a pipe");
    environment
        .run(&["plan", "pipe"])
        .expect(2)
        .says("it is a pipe");
    environment
        .run(&["sweep", "pipe"])
        .expect(2)
        .says("it is a pipe");
    environment
        .run(&["plan", "/dev/zero"])
        .expect(2)
        .says("it is a device");
    environment
        .run(&["plan", "."])
        .expect(2)
        .says("it is a folder");
    environment
        .run(&["verify", "latest", "--sign", "pipe"])
        .expect(2)
        .says("pipe");
    std::fs::rename(&pipe, environment.path("runner.toml")).unwrap();
    environment
        .run(&["plan", "pipeline.yaml"])
        .expect(2)
        .says("it is a pipe");
}
