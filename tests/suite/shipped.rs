//! Every pipeline that the project ships is sound, and the quickstart keeps its promise.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::environment::TestEnvironment;
use crate::store::ran;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pipeline files below `pipelines/`.
pub fn pipelines() -> Vec<PathBuf> {
    let files = runner::cache::files_below(&root().join("pipelines")).unwrap();
    let files: Vec<PathBuf> = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    files
}

/// Whether a pipeline follows a published program to the letter, leaks included.
pub fn is_reference(path: &Path) -> bool {
    path.parent()
        .is_some_and(|folder| folder.ends_with("reference"))
}

/// Whether a file is a sweep over pipelines.
pub fn is_sweep(path: &Path) -> bool {
    path.parent()
        .is_some_and(|folder| folder.ends_with("sweeps"))
}

/// Whatever data a sweep needs, its trials can be told.
#[test]
fn all_sweeps_have_trials() {
    let sweeps: Vec<PathBuf> = pipelines()
        .into_iter()
        .filter(|path| is_sweep(path))
        .collect();
    assert!(sweeps.len() >= 2, "{sweeps:?}");
    for path in sweeps {
        let environment = TestEnvironment::new();
        let told = environment.json(&["sweep", path.to_str().unwrap(), "--dry-run"]);
        assert!(!told["open"].as_array().unwrap().is_empty(), "{told}");
    }
}

/// Without the data a plan says what is missing; the file itself gives no reason for a word.
#[test]
fn all_plan_without_errors_or_warnings() {
    for path in pipelines()
        .into_iter()
        .filter(|path| !is_reference(path) && !is_sweep(path))
    {
        let environment = TestEnvironment::new();
        let planned = environment.run(&["plan", "--json", path.to_str().unwrap()]);
        assert_eq!(planned.stderr, "", "{}", planned.describe());
        let plan = planned.json();
        assert!(plan.get("diagnostics").is_none(), "{}", planned.describe());
        let stages = plan["stages"].as_array().unwrap();
        let broken: Vec<_> = stages
            .iter()
            .filter(|stage| stage["verdict"] == "broken")
            .collect();
        assert_eq!(
            planned.code(),
            Some(if broken.is_empty() { 0 } else { 1 }),
            "{}",
            planned.describe()
        );
        for stage in broken {
            let is_outside = ["ingest", "python"].contains(&stage["kind"].as_str().unwrap());
            assert!(is_outside, "only data and packages may be missing: {stage}");
            assert!(
                stage["failure"]["hint"].is_string(),
                "what is missing comes with a way out: {stage}"
            );
        }
    }
}

/// The leaks of the published programs, by the file in `pipelines/reference`.
const LEAKS: &[(&str, &[&str])] = &[
    ("ett_imputation_tvnet", &[]),
    ("etth1_dynonet", &[]),
    ("etth1_tvnet", &[]),
    ("etth1_tvnet_seed", &[]),
    (
        "handwriting_tvnet",
        &["`scaled` learns its normalisation statistics from test rows"],
    ),
    (
        "msl_anomaly_transformer",
        &[
            "`model` learns its choice of the epoch from test rows",
            "`metrics` learns its threshold from test rows",
        ],
    ),
    (
        "plots_resnet50",
        &["`model` learns its choice of the epoch and its learning rate from test rows"],
    ),
    (
        "smd_anomaly_transformer",
        &[
            "`model` learns its choice of the epoch from test rows",
            "`metrics` learns its threshold from test rows",
        ],
    ),
    (
        "smd_omni_anomaly",
        &[
            "`scaled_training` learns its normalisation statistics from validation rows",
            "`scaled` learns its normalisation statistics from test rows",
        ],
    ),
    (
        "smd_omni_vae",
        &[
            "`scaled` learns its normalisation statistics from test rows",
            "`model` learns its choice of the epoch and its learning rate from test rows",
        ],
    ),
    (
        "smd_transformer",
        &[
            "`scaled` learns its normalisation statistics from test rows",
            "`model` learns its choice of the epoch and its learning rate from test rows",
        ],
    ),
];

/// The leakage check names every leak of a reference, and finds nothing else to say.
#[test]
fn references_plan_with_each_of_their_leaks_named() {
    for path in pipelines().into_iter().filter(|path| is_reference(path)) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let Some((_, leaks)) = LEAKS.iter().find(|(known, _)| *known == name) else {
            panic!("{}: say in LEAKS what leaks", path.display())
        };
        let environment = TestEnvironment::new();
        let planned = environment.run(&["plan", path.to_str().unwrap()]);
        for leak in *leaks {
            assert!(
                planned.stderr.contains(&format!("leakage: {leak}")),
                "{leak}: {}",
                planned.describe()
            );
        }
        assert_eq!(
            planned.stderr.matches("warning[").count(),
            leaks.len(),
            "{}",
            planned.describe()
        );
        assert!(!planned.stderr.contains("error["), "{}", planned.describe());
    }
}

/// Editors find the schema beside the file.
#[test]
fn all_name_their_schema() {
    for path in pipelines() {
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().next().unwrap();
        let schema = line.strip_prefix("# yaml-language-server: $schema=");
        let schema = schema.unwrap_or_else(|| panic!("{} begins with `{line}`", path.display()));
        assert!(
            path.parent().unwrap().join(schema).exists(),
            "{}: there is no {schema}",
            path.display()
        );
    }
}

/// A release build ends within a minute on two cores with its own settings; fewer epochs show that it is far below.
#[test]
fn the_quickstart_runs() {
    let environment = TestEnvironment::new();
    let started = Instant::now();
    let finished = environment.succeed(&["run", "--set", "epochs=1"]);
    let whole = started.elapsed();
    finished
        .prints("f1_point_adjusted")
        .prints("oracle: knows the test labels")
        .prints("plots/");
    assert!(
        cfg!(debug_assertions) || whole.as_secs() < 60,
        "it took {whole:?}"
    );
    let run = environment.latest();
    assert_eq!(
        (&run["pipeline"], ran(&run).len()),
        (&"quickstart".into(), 7)
    );
    environment
        .succeed(&["run", "--set", "epochs=1"])
        .says("0 ran, 7 up to date");
}

/// The built-in pipeline is the file of that name.
#[test]
fn the_built_in_pipeline_is_the_file() {
    let environment = TestEnvironment::new();
    let keys = |plan: &serde_json::Value| plan["stages"][0]["key"].clone();
    let built_in = environment.json(&["plan"]);
    let file = environment.json(&[
        "plan",
        root().join("pipelines/quickstart.yaml").to_str().unwrap(),
    ]);
    assert_eq!(
        (
            keys(&built_in),
            built_in["stages"].as_array().unwrap().len()
        ),
        (keys(&file), 7)
    );
}
