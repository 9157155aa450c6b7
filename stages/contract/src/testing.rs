//! Help for tests: real data, and windows over given rows. Nothing here is for programs.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::artifact::{Segment, Series, Split, WindowRun, WindowSpec, Windows};
use crate::{Fault, Stage, StageKind, Table, Tabled};

/// The real file with this path below a folder of `RUNNER_DATA_PATH`, or `None` where the data are not at hand.
///
/// A test that gets `None` returns at once; this function has said so on the terminal, past the capture of test output.
///
/// # Panics
/// As [`skip`] does.
pub fn real_data(path: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("RUNNER_DATA_PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|folder| folder.join(path))
        .find(|file| file.is_file());
    if found.is_none() {
        let thread = std::thread::current();
        skip(
            thread.name().unwrap_or("a test"),
            &format!("{path} is in no folder of RUNNER_DATA_PATH"),
        );
    }
    found
}

/// Says that a test does not look at something, and why: on the terminal, past the capture of test output.
///
/// # Panics
/// Where `CI` is set to `true`: no check may be skipped there unseen.
pub fn skip(what: &str, why: &str) {
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!strict, "{what}: {why}, and CI=true allows no skipped test");
    // A failure to complain is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}

/// What is wrong with the parameters of a stage, if anything, as a pipeline would hear of it.
pub fn fault_of<S: Stage>(parameters: Value) -> Option<Fault> {
    let kind = StageKind::of::<S>();
    match kind.parse(parameters) {
        Ok(completed) => completed.check().err(),
        Err(reason) => Some(Fault::whole(reason)),
    }
}

/// Checks that every name that the sources below a folder declare has its line in a table.
///
/// # Panics
/// If one has none, or the folder holds no names.
pub fn assert_listed<T: ?Sized + Tabled>(table: &Table<T>, folder: &str) {
    let mut folders = vec![PathBuf::from(folder)];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for line in text.lines() {
                let declared = line.trim().strip_prefix("const NAME: &'static str = \"");
                let Some(name) = declared.and_then(|rest| rest.strip_suffix("\";")) else {
                    continue;
                };
                let is_listed = table.entries().any(|entry| entry.name == name);
                assert!(is_listed, "{} has no line in its table", path.display());
                found += 1;
            }
        }
    }
    assert!(found > 0, "{folder} declares no names");
}

/// All windows of a length over one stretch of rows, `[rows, channels]`, of the split `train`.
pub fn training_windows(values: Vec<f32>, channels: usize, length: usize) -> Windows {
    let rows = values.len() / channels;
    let series = Series {
        values,
        channels: (0..channels).map(|channel| format!("c{channel}")).collect(),
        labels: Vec::new(),
        times: Vec::new(),
        segments: vec![Segment::new(Split::Train, "rows", 0..rows)],
        ..Series::default()
    };
    let run = WindowRun {
        split: Split::Train,
        first: 0,
        stride: 1,
        count: rows + 1 - length,
        rows: (0, rows),
    };
    Windows {
        series: Arc::new(series),
        spec: WindowSpec { length, horizon: 0 },
        runs: vec![run],
    }
}
