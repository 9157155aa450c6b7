//! Failures, retries, timeouts and cancellation, on stages that do next to nothing.

use std::time::Instant;

use runner::cache::{RunStatus, StageState};
use runner::engine::Event;

use crate::engine::{Engine, Story};

use StageState::{Failed, Hit, Ran, Skipped};

#[test]
fn toys_run_and_are_kept() {
    let engine = Engine::new();
    let stages = "  a: {uses: number, with: {value: 2}}\n  b: {uses: number, with: {value: 3}}\n  c: {uses: sum, from: [a, b]}\n";
    let first = engine.run(stages);
    assert_eq!(first.outcome.status, RunStatus::Done);
    assert!(
        first.states().values().all(|state| *state == Ran),
        "{:?}",
        first.states()
    );
    let second = engine.run(stages);
    assert!(
        second.states().values().all(|state| *state == Hit),
        "{:?}",
        second.states()
    );
    assert_eq!(second.digest("c"), first.digest("c"));
    let five = engine.run("  five: {uses: number, with: {value: 5}}\n");
    assert_eq!(five.digest("five"), first.digest("c"), "2 + 3 = 5");
}

#[test]
fn a_failure_has_message_place_cause_hint_and_inputs() {
    let engine = Engine::new();
    let story = engine
        .run("  a: {uses: number, with: {value: 2}}\n  bad: {uses: fail, from: a}\n  c: {uses: sum, from: bad}\n");
    assert_eq!(story.outcome.status, RunStatus::Failed);
    assert_eq!(
        (story.state("a"), story.state("bad"), story.state("c")),
        (Ran, Failed, Skipped)
    );
    let (name, failure) = &story.outcome.failures[0];
    assert_eq!(
        (name.as_str(), failure.message.as_str()),
        ("bad", "row 3 holds no number")
    );
    assert_eq!(failure.location.as_deref(), Some("table.csv:3"));
    assert_eq!(failure.causes, ["`x` is no digit"]);
    assert_eq!(failure.hint.as_deref(), Some("set `missing`"));
    assert_eq!(
        failure.inputs,
        [format!(
            "items[a] {}",
            &story.digest("a")[..failure.inputs[0].len() - 9]
        )]
    );
    assert_eq!(story.reason("c"), "it needs bad");
}

#[test]
fn a_panic_is_a_failure_of_its_stage() {
    let engine = Engine::keep_going();
    let story = engine
        .run("  bad: {uses: panic}\n  below: {uses: sum, from: bad}\n  other: {uses: number, with: {value: 1}}\n");
    assert_eq!(
        (
            story.state("bad"),
            story.state("below"),
            story.state("other")
        ),
        (Failed, Skipped, Ran)
    );
    let (_, failure) = &story.outcome.failures[0];
    assert_eq!(failure.message, "it panicked: index 7 is out of bounds");
    assert_eq!(
        failure.hint.as_deref(),
        Some("this is a fault of the stage kind, not of the pipeline")
    );
}

#[test]
fn nothing_of_a_failed_stage_is_kept() {
    for kind in ["fail", "panic", "forgetful"] {
        let engine = Engine::new();
        let stages = format!("  bad: {{uses: {kind}}}\n");
        for _ in 0..2 {
            assert_eq!(engine.run(&stages).state("bad"), Failed, "{kind}");
        }
        let stats = engine.store.stats().unwrap();
        let left = [
            stats.objects.count,
            stats.actions.count,
            stats.leases.count,
            stats.temporary.count,
        ];
        assert_eq!(left, [0; 4], "{kind}");
    }
}

#[test]
fn a_kind_that_forgets_an_output_is_found_out() {
    let story = Engine::new().run("  bad: {uses: forgetful}\n");
    assert_eq!(
        story.outcome.failures[0].1.message,
        "it made no output `value`"
    );
}

/// `bad` fails while `slow` runs; `later` has not begun.
const MIXED: &str = "  bad: {uses: fail}
  below: {uses: sum, from: bad}
  deeper: {uses: sum, from: below}
  one: {uses: number, with: {value: 1}}
  two: {uses: sum, from: one}
  three: {uses: sum, from: two}
";

#[test]
fn the_others_finish_with_keep_going() {
    let story = Engine::keep_going().run(MIXED);
    assert_eq!(story.outcome.status, RunStatus::Failed);
    assert_eq!(
        (
            story.state("bad"),
            story.state("below"),
            story.state("deeper")
        ),
        (Failed, Skipped, Skipped)
    );
    assert_eq!(
        (story.state("one"), story.state("two"), story.state("three")),
        (Ran, Ran, Ran)
    );
    assert_eq!(story.reason("deeper"), "it needs bad");
}

#[test]
fn what_gathers_goes_on_with_what_there_is() {
    let pipeline = |points: &str| {
        format!(
            "  one: {{uses: curve, foreach: {{x: [{points}]}}, with: {{x: \"${{x}}\"}}}}\n  all: {{uses: gather, from: {{items: one}}}}\n  more: {{uses: sum, from: all}}\n"
        )
    };
    let engine = Engine::keep_going();
    let story = engine.run(&pipeline("4, -1, 5"));
    assert_eq!(story.outcome.status, RunStatus::Failed);
    assert_eq!((story.state("all"), story.state("more")), (Ran, Ran));
    let number = |value: usize| {
        let story = engine.run(&format!(
            "  n: {{uses: number, with: {{value: {value}}}}}\n"
        ));
        story.digest("n")
    };
    assert_eq!(story.digest("all"), number(2));
    let doubts = |story: &Story| {
        let mut records = story.outcome.stages.iter();
        let record = records.find(|record| record.name == "all").unwrap();
        record.doubts.clone()
    };
    let findings = |story: &Story| {
        let mut records = story.outcome.stages.iter();
        let record = records.find(|record| record.name == "all").unwrap();
        record.findings.clone()
    };
    assert_eq!(findings(&story), ["2 items"]);
    let found = doubts(&story);
    assert_eq!(found[0].message, "1 of 3 instances are missing: one[x=-1]");
    // It says so again when it is up to date, and is another result than that of all.
    let again = engine.run(&pipeline("4, -1, 5"));
    assert_eq!((again.state("all"), doubts(&again)), (Hit, found));
    assert_eq!(findings(&again), ["2 items"]);
    let whole = engine.run(&pipeline("4, 6, 5"));
    assert_eq!((whole.state("all"), whole.digest("all")), (Ran, number(3)));
    assert!(doubts(&whole).is_empty());
    // Nothing is left to gather, or nobody asked to go on.
    let none = engine.run(&pipeline("-2, -1"));
    assert_eq!((none.state("all"), none.state("more")), (Skipped, Skipped));
    let strict = Engine::new().run(&pipeline("4, -1, 5"));
    assert_eq!(strict.state("all"), Skipped);
}

#[test]
fn without_it_nothing_new_begins() {
    let mut engine = Engine::new();
    engine.options.jobs = 1;
    let story = engine.run(MIXED);
    let begun = story
        .states()
        .values()
        .filter(|state| **state == Ran)
        .count();
    assert!(begun < 3, "{:?}", story.states());
    assert_eq!(story.state("three"), Skipped);
    assert_eq!(story.reason("three"), "another stage failed");
    let again = engine.run(MIXED);
    assert_eq!(
        again
            .states()
            .values()
            .filter(|state| **state == Hit)
            .count(),
        begun,
        "what was done stays done"
    );
}

fn retries(story: &Story) -> usize {
    story
        .events
        .iter()
        .filter(|event| matches!(event, Event::StageRetried { .. }))
        .count()
}

#[test]
fn a_stage_is_tried_again_as_often_as_it_asks_for() {
    for (failures, state) in [(2, Ran), (3, Failed)] {
        let engine = Engine::new();
        let attempts = engine.path("attempts");
        let with = format!("{{failures: {failures}, attempts: {}}}", attempts.display());
        let story = engine.run(&format!("  s: {{uses: flaky, retries: 2, with: {with}}}\n"));
        assert_eq!(story.state("s"), state);
        assert_eq!(retries(&story), 2);
        assert_eq!(
            std::fs::read_to_string(attempts).unwrap().lines().count(),
            3
        );
    }
}

#[test]
fn a_stage_that_takes_too_long_is_stopped() {
    let engine = Engine::keep_going();
    let started = Instant::now();
    let story = engine.run("  s: {uses: slow, timeout: 50 ms, with: {seconds: 60}}\n  t: {uses: slow, timeout: 60 s, with: {seconds: 0.1}}\n");
    assert!(started.elapsed().as_secs() < 30, "it ran to its end");
    assert_eq!((story.state("s"), story.state("t")), (Failed, Ran));
    let (_, failure) = &story.outcome.failures[0];
    assert_eq!(failure.message, "it ran longer than 50ms");
    assert_eq!(
        failure.hint.as_deref(),
        Some("raise `timeout`, or give the stage less to do")
    );
}

/// Its own failure, and not the clock, is why it has no outputs.
#[test]
fn what_fails_by_itself_when_its_time_is_over_says_why() {
    let engine = Engine::new();
    let with = format!(
        "{{failures: 1, attempts: {}, seconds: 0.2}}",
        engine.path("attempts").display()
    );
    let story = engine.run(&format!(
        "  s: {{uses: flaky, timeout: 10 ms, with: {with}}}\n"
    ));
    assert_eq!(story.outcome.failures[0].1.message, "the weather is bad");
}

#[test]
fn a_pause_before_the_next_attempt_ends_with_the_run() {
    let engine = Engine::new();
    let (cancel, attempts) = (engine.cancel.clone(), engine.path("attempts"));
    let with = format!("{{failures: 9, attempts: {}}}", attempts.display());
    let stopper = std::thread::spawn(move || {
        while std::fs::read_to_string(&attempts)
            .unwrap_or_default()
            .lines()
            .count()
            < 3
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        cancel.cancel();
    });
    let story = engine.run(&format!("  s: {{uses: flaky, retries: 9, with: {with}}}\n"));
    stopper.join().unwrap();
    assert_ne!(story.outcome.status, RunStatus::Done);
    assert!(retries(&story) <= 4, "{}", retries(&story));
}

#[test]
fn a_run_that_is_cancelled_is_interrupted_not_failed() {
    let engine = Engine::new();
    let cancel = engine.cancel.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        cancel.cancel();
    });
    let story = engine.run("  quick: {uses: number, with: {value: 1}}\n  s: {uses: slow, with: {seconds: 60}}\n  t: {uses: sum, from: s}\n");
    stopper.join().unwrap();
    assert_eq!(story.outcome.status, RunStatus::Interrupted);
    assert_eq!(
        (story.state("quick"), story.state("s"), story.state("t")),
        (Ran, Skipped, Skipped)
    );
    assert!(story.outcome.failures.is_empty());
    let skipped = |event: &&Event| matches!(event, Event::StageFinished { stage, state: Skipped, .. } if stage == "s");
    assert_eq!(
        story.events.iter().filter(skipped).count(),
        1,
        "it is told once"
    );
    let lost: Vec<(&str, bool)> = story
        .outcome
        .interrupted
        .iter()
        .map(|stage| (stage.stage.as_str(), stage.is_lost))
        .collect();
    assert_eq!(lost, [("s", true)]);
}

#[test]
fn more_jobs_than_stages_and_more_stages_than_jobs() {
    let stages: String = (0..60)
        .map(|n| format!("  n{n}: {{uses: number, with: {{value: {n}}}}}\n"))
        .collect();
    let all: Vec<String> = (0..60).map(|n| format!("n{n}")).collect();
    let stages = format!("{stages}  all: {{uses: sum, from: [{}]}}\n", all.join(", "));
    for jobs in [1, 3, 100] {
        let mut engine = Engine::new();
        engine.options.jobs = jobs;
        let story = engine.run(&stages);
        assert_eq!(story.outcome.status, RunStatus::Done);
        assert_eq!(
            story.digest("all"),
            engine
                .run("  x: {uses: number, with: {value: 1770}}\n")
                .digest("x")
        );
    }
}
