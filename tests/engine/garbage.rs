//! Collection of garbage through the library: what a run or a lock needs stays, and what nobody needs goes.

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
fn what_a_lock_needs_stays_until_the_lock_goes() {
    let (bench, lock) = locked();
    bench.run(&["x=5"]);
    let planned = collect(&bench, true);
    assert_eq!(bench.count_runs(), 2, "a dry run removes nothing");
    let collected = collect(&bench, false);
    assert_eq!(collected.removed.len(), planned.removed.len());
    assert_eq!(
        (collected.kept_objects, collected.kept_for["locks"]),
        (3, 3)
    );
    assert_eq!(bench.count_runs(), 0);
    assert!(
        ran(&bench.run(&[])).is_empty(),
        "the results of the lock are there"
    );
    assert_eq!(
        ran(&bench.run(&["x=5"])).len(),
        2,
        "those of the other run are gone"
    );

    fs::remove_file(lock).unwrap();
    assert_eq!(collect(&bench, false).kept_objects, 0);
    assert_eq!(ran(&bench.run(&[])).len(), 3);
}

#[test]
fn recorded_runs_keep_what_they_need() {
    let (bench, _) = locked();
    let report = bench.project.collect(Collection::default()).unwrap();
    assert!(report.removed.is_empty());
    assert_eq!(report.kept_objects, 3);
}
