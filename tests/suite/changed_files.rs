//! A key promises what was read: files that change while a run is under way fail the stages that read them.

use std::fs;

use runner::cache::StageState;

use crate::engine::Engine;
use crate::environment::TestEnvironment;

/// A stage that reads a number from `number.txt`, with more parameters.
fn reader(engine: &Engine, more: &str) -> String {
    fs::write(engine.path("number.txt"), "7").unwrap();
    format!(
        "  it: {{uses: reader, with: {{file: {}{more}}}}}\n",
        engine.path("number.txt").display()
    )
}

#[test]
fn a_file_that_is_edited_while_a_stage_reads_it_fails_the_stage() {
    for then in ["8", "7"] {
        let engine = Engine::new();
        let story = engine.run(&reader(&engine, &format!(", then: \"{then}\"")));
        assert_eq!(story.state("it"), StageState::Failed, "then {then}");
        assert!(
            story
                .reason("it")
                .contains("changed after its content was hashed"),
            "{}",
            story.reason("it")
        );
        assert_eq!(
            story.outcome.failures[0].1.location,
            Some(engine.path("number.txt").display().to_string())
        );
    }
}

#[test]
fn a_stage_that_fails_for_a_changed_file_names_the_file() {
    let engine = Engine::new();
    let story = engine.run(&reader(&engine, ", then: \"8\", fails: true"));
    assert!(
        story.reason("it").contains("changed"),
        "{}",
        story.reason("it")
    );
    let engine = Engine::new();
    let story = engine.run(&reader(&engine, ", fails: true"));
    assert_eq!(story.reason("it"), "the number is no good");
}

#[test]
fn a_file_that_stays_is_read() {
    let engine = Engine::new();
    let stages = reader(&engine, "");
    assert_eq!(engine.run(&stages).state("it"), StageState::Ran);
    assert_eq!(engine.run(&stages).state("it"), StageState::Hit);
}

/// Each of three programs reads the same file; the first that runs edits the original meanwhile.
#[test]
fn results_of_an_edited_script_are_not_those_of_the_old_one() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: edits\nstages:\n  it:\n    uses: command\n    matrix: {n: [1, 2, 3]}\n    with:\n      \
         run: [sh, \"{file.script}\", \"{out.o}\", \"--n=${n}\"]\n      files: {script: script.sh}\n      \
         outputs: {o: {path: o.txt}}\n      pass_env: [FOLDER]\n",
    );
    let script = "echo first > \"$1\"\ntest -e \"$FOLDER/edit\" && sed -i s/first/second/ \"$FOLDER/script.sh\"; rm -f \"$FOLDER/edit\"\n";
    let mut environment = environment;
    let folder = environment.folder().display().to_string();
    environment.set("FOLDER", folder);
    environment.write("script.sh", script);
    environment.write("edit", "");
    environment
        .run(&[
            "run",
            "--quiet",
            "--jobs",
            "1",
            "--keep-going",
            "pipeline.yaml",
        ])
        .expect(1)
        .says("changed after");
    environment.write("script.sh", script);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let written = environment.files(&format!("cache/v1/runs/{run}/files"));
    assert_eq!(written.len(), 3, "{written:?}");
    for path in written {
        assert_eq!(
            fs::read_to_string(environment.path(path.to_str().unwrap())).unwrap(),
            "first\n"
        );
    }
}
