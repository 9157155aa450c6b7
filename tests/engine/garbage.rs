//! Collection of garbage through the library: what a recorded run or a lock needs stays.

use std::fs;
use std::time::Duration;

use runner::cache::GcReport;
use runner::project::Collection;

use crate::locks::locked;
use crate::project::{Bench, ran};

/// Collects everything that no lock needs: every run is too old.
fn collect(bench: &Bench, dry_run: bool) -> GcReport {
    std::thread::sleep(Duration::from_millis(20));
    let collection = Collection {
        max_age: Some(Duration::from_millis(1)),
        dry_run,
        ..Collection::default()
    };
    bench.project.collect(collection).unwrap()
}

#[test]
fn a_lock_keeps_its_results_when_no_run_does() {
    let (bench, lock) = locked();
    bench.run(&["x=5"]);
    let planned = collect(&bench, true);
    assert_eq!(bench.count_runs(), 2, "a dry run removes nothing");
    let collected = collect(&bench, false);
    assert_eq!(collected.removed.len(), planned.removed.len());
    assert_eq!(collected.kept_for["locks"], 3);
    assert!(
        bench.count_runs() < 2,
        "the run that was locked is forgotten"
    );
    assert!(
        ran(&bench.run(&[])).is_empty(),
        "what the lock needs is there"
    );

    fs::remove_file(lock).unwrap();
    let kept_for = collect(&bench, false).kept_for;
    assert!(
        kept_for.get("locks").is_none_or(|count| *count == 0),
        "{kept_for:?}"
    );
}

#[test]
fn recorded_runs_keep_what_they_need() {
    let (bench, _) = locked();
    let report = bench.project.collect(Collection::default()).unwrap();
    assert!(report.removed.is_empty());
    assert_eq!(report.kept_objects, 3);
}
