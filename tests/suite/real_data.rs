//! The main job on a real machine of the Server Machine Dataset, where the data are at hand.

use contract::testing::real_data;

use crate::environment::TestEnvironment;
use crate::store::{in_state, ran};

fn pipeline() -> String {
    format!("{}/pipelines/smd_tvnet.yaml", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_main_job_runs_and_a_second_run_does_nothing() {
    if real_data("ServerMachineDataset/train/machine-2-1.txt").is_none() {
        return;
    }
    let mut environment = TestEnvironment::new();
    environment.set(
        "RUNNER_DATA_PATH",
        std::env::var("RUNNER_DATA_PATH").unwrap(),
    );
    let arguments = [
        "run",
        "--quiet",
        "--offline",
        &pipeline(),
        "--set",
        "epochs=1",
        "--set",
        "batch=512",
    ];
    let finished = environment.succeed(&arguments);
    finished
        .prints("precision")
        .prints("recall")
        .prints("f1_point_adjusted")
        .prints("oracle: knows the test labels");
    let run = environment.latest();
    assert_eq!(ran(&run).len(), 7);
    let metric = |name: &str| {
        run["metrics"]["metrics"][name]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name} in {run}"))
    };
    for name in [
        "precision",
        "recall",
        "f1",
        "f1_point_adjusted",
        "best_f1",
        "roc_auc",
        "vus_pr",
    ] {
        assert!(
            (0.0..=1.0).contains(&metric(name)),
            "{name}: {}",
            metric(name)
        );
    }
    assert!(
        metric("best_f1") >= metric("f1"),
        "no threshold beats the oracle's"
    );
    // Far from chance, even after one epoch.
    assert!(metric("roc_auc") > 0.6, "{}", metric("roc_auc"));

    environment.succeed(&arguments);
    assert_eq!(in_state(&environment.latest(), "hit").len(), 7);
}

/// Raw files are found by their sums, so that a copy elsewhere is the same file.
#[test]
fn a_copy_of_a_machine_is_the_same_machine() {
    let Some(path) = real_data("ServerMachineDataset/train/machine-2-1.txt") else {
        return;
    };
    let original = path.ancestors().nth(2).unwrap();
    let mut environment = TestEnvironment::with_pipeline(
        "pipeline: raw\nstages:\n  raw: {uses: ingest, with: {dataset: smd, entity: machine-2-1}}\n",
    );
    for part in ["train", "test", "test_label"] {
        let source = original.join(part).join("machine-2-1.txt");
        environment.write(
            &format!("copy/ServerMachineDataset/{part}/machine-2-1.txt"),
            std::fs::read(source).unwrap(),
        );
    }
    environment.succeed(&["data", "list"]);
    environment.set(
        "RUNNER_DATA_PATH",
        original.parent().unwrap().display().to_string(),
    );
    environment.succeed(&["run", "--quiet", "--offline", "pipeline.yaml"]);
    environment.set(
        "RUNNER_DATA_PATH",
        environment.path("copy").display().to_string(),
    );
    environment.succeed(&["run", "--quiet", "--offline", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());
}
