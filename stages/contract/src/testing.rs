//! Help for tests: real data, and windows over given rows. Nothing here is for programs.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::artifact::{Segment, Series, Split, WindowRun, WindowSpec, Windows};

/// The real file with this path below a folder of `RUNNER_DATA_PATH`, or `None` where the data are not at hand.
///
/// A test that gets `None` returns at once; this function has said so on the terminal, past the capture of test output.
///
/// # Panics
/// Where `CI` is set to `true` and the file is missing: no check may be skipped there unseen.
pub fn real_data(path: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("RUNNER_DATA_PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|folder| folder.join(path))
        .find(|file| file.is_file());
    if found.is_none() {
        let strict = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(
            !strict,
            "{path} is in no folder of RUNNER_DATA_PATH, and CI=true allows no skipped test"
        );
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test");
        // A failure to complain is no reason to fail.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {name}: {path} is in no folder of RUNNER_DATA_PATH"
        );
    }
    found
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
