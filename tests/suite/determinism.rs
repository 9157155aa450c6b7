//! The same content whatever the number of threads and the order of completion.

use crate::environment::TestEnvironment;
use crate::pipelines::SMALL;
use crate::store::{Digests, digests, ran};

fn digests_with(options: &[&str], pipeline: &str) -> Digests {
    let environment = TestEnvironment::with_pipeline(pipeline);
    environment.succeed(&[&["run", "pipeline.yaml"], options].concat());
    let run = environment.latest();
    assert_eq!(
        ran(&run).len(),
        run["stages"].as_array().unwrap().len(),
        "everything was computed"
    );
    digests(&run)
}

/// Larger than the blocks over which sums are taken, so that several threads have work to do.
fn wide() -> String {
    SMALL
        .replace("train: 160", "train: 1500")
        .replace("channels: 3", "channels: 9")
        .replace("epochs: 2", "epochs: 1")
}

#[test]
fn the_number_of_threads_does_not_show() {
    let expected = digests_with(&["--threads", "1"], &wide());
    for threads in ["2", "4"] {
        assert_eq!(
            digests_with(&["--threads", threads], &wide()),
            expected,
            "{threads} threads"
        );
    }
}

#[test]
fn the_number_of_jobs_does_not_show() {
    let pipeline = SMALL.replace(
        "  scaled: {uses: normalize,",
        "  scaled: {matrix: {method: [zscore, minmax, robust]}, uses: normalize,",
    );
    let pipeline = pipeline.replace("{method: zscore}", "{method: \"${method}\"}");
    let expected = digests_with(&["--jobs", "1"], &pipeline);
    assert_eq!(
        expected.len(),
        22,
        "seven stages at three points, and the data"
    );
    for jobs in ["2", "4"] {
        assert_eq!(
            digests_with(&["--jobs", jobs, "--threads", "3"], &pipeline),
            expected,
            "{jobs} jobs"
        );
    }
}

#[test]
fn the_folder_and_the_name_of_the_pipeline_do_not_show() {
    let expected = digests_with(&[], SMALL);
    assert_eq!(
        digests_with(&[], &SMALL.replace("pipeline: small", "pipeline: large")),
        expected
    );
}
