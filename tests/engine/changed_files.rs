//! A key promises what was read: files that change while a run is under way fail the stages that read them.

use std::fs;

use runner::cache::StageState;

use crate::engine::Engine;

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
