//! Locks through the library: what there is to lock, and whether a pipeline still is what its lock says.

use std::path::PathBuf;

use runner::audit::Lock;

use crate::project::{Bench, told};

/// A stage that reads a file, and two that follow from it.
pub const PIPELINE: &str = "params: {x: 2}
stages:
  raw: {uses: reader, with: {file: number.txt}}
  middle: {uses: curve, from: raw, with: {x: \"${x}\"}}
  end: {uses: sum, from: [raw, middle]}
";

/// The pipeline, run and locked.
pub fn locked() -> (Bench, PathBuf) {
    let bench = Bench::new(PIPELINE);
    bench.write("number.txt", "7");
    bench.run(&[]);
    let path = lock(&bench).unwrap();
    (bench, path)
}

/// Writes the lock of what there is; gives the error as people read it.
fn lock(bench: &Bench) -> Result<PathBuf, String> {
    let path = bench.path("pipeline.lock");
    let session = bench.open(&[]).unwrap();
    let lock = session.lock(Some(&bench.path("pipeline.yaml")), &path);
    lock.map_err(|error| told(&error))?.write(&path).unwrap();
    Ok(path)
}

#[test]
fn a_lock_says_what_the_run_resulted_in() {
    let (bench, path) = locked();
    let lock = Lock::read(&path).unwrap();
    let record = bench.latest();
    assert_eq!(lock.stages.len(), 3);
    for stage in &record.stages {
        let locked = &lock.stages[&stage.name];
        assert_eq!(stage.key, Some(locked.key));
        assert_eq!(stage.digests["value"], locked.outputs["value"]);
    }
    assert_eq!(lock.file, "pipeline.yaml");
    assert_eq!(lock.stages["middle"].metrics["loss"], Some(2.0));
    assert!(
        bench
            .open(&[])
            .unwrap()
            .compare_with_lock(&path, None)
            .unwrap()
            .1
            .is_empty()
    );
}

#[test]
fn what_has_not_run_cannot_be_locked() {
    let bench = Bench::new(PIPELINE);
    bench.write("number.txt", "7");
    let error = lock(&bench).unwrap_err();
    assert!(
        error.contains("3 of 3 stages have no results yet"),
        "{error}"
    );
    assert!(error.contains("runner run"), "{error}");
}

/// That a stage cannot even be looked up is what there is to mend; to run the pipeline first would not help.
#[test]
fn a_stage_whose_file_is_missing_says_so() {
    let bench = Bench::new(PIPELINE);
    let error = lock(&bench).unwrap_err();
    assert!(error.contains("`raw` cannot be locked"), "{error}");
    assert!(
        error.contains("number.txt") && !error.contains("no results yet"),
        "{error}"
    );
}

#[test]
fn a_stage_that_failed_says_in_which_run() {
    let bench = Bench::new(PIPELINE);
    bench.write("number.txt", "7");
    bench.pipeline(&PIPELINE.replace("{x: 2}", "{x: -2}"));
    let run = bench.run(&[]).run;
    let error = lock(&bench).unwrap_err();
    assert!(error.contains("2 of 3 stages"), "{error}");
    assert!(
        error.contains(&format!("`middle` failed in run {run}")),
        "{error}"
    );
}

#[test]
fn what_differs_from_a_lock_is_named() {
    let (bench, path) = locked();
    let deviations = |overrides: &[&str]| {
        let session = bench.open(overrides).unwrap();
        let (_, found) = session.compare_with_lock(&path, None).unwrap();
        let named = found.into_iter().map(|found| (found.stage, found.reason));
        named.collect::<Vec<_>>()
    };
    let changed = deviations(&["x=3"]);
    assert_eq!(
        changed.len(),
        2,
        "below the change nothing differs on its own: {changed:?}"
    );
    assert_eq!(changed[0].1, "its seed or parameters differ");
    assert_eq!(
        (&*changed[1].0, &*changed[1].1),
        ("middle", "what determines it differs")
    );

    bench.pipeline(&format!("{PIPELINE}  more: {{uses: sum, from: raw}}\n"));
    assert_eq!(
        deviations(&[]),
        [("more".to_owned(), "it is not in the lock".to_owned())]
    );
    bench.pipeline(PIPELINE.split("  end:").next().unwrap());
    assert_eq!(deviations(&[])[0].0, "end");
}
