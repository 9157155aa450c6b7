//! `python` stages with a real interpreter: detectors of scikit-learn and PyOD, the user's own, and those that misbehave.
//! `scripts/install-python-detectors.sh` installs the packages; where they are not, this says that it is skipped, and with
//! `RUNNER_REQUIRE_SERVERS` set it fails.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use contract::testing::real_data;

use crate::environment::{Finished, TestEnvironment};
use crate::store::{in_state, ran};

/// The interpreter that the script installs packages for.
pub fn interpreter() -> Option<PathBuf> {
    let script = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/scripts/install-python-detectors.sh"
    ))
    .unwrap();
    let version = script
        .lines()
        .find_map(|line| line.strip_prefix("version="))
        .unwrap();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let usual = cache.map(|cache| cache.join(format!("runner-tests/python-detectors-{version}")));
    let named = std::env::var_os("RUNNER_PYTHON_DETECTORS").map(PathBuf::from);
    let places = named.into_iter().chain(usual);
    let mut interpreters = places.map(|place| place.join("bin/python"));
    let found = interpreters.find(|place| place.is_file());
    if found.is_none() {
        let message =
            "there are no Python detectors: scripts/install-python-detectors.sh installs them";
        assert!(
            std::env::var_os("RUNNER_REQUIRE_SERVERS").is_none(),
            "{message}"
        );
        eprintln!("SKIPPED: {message}");
    }
    found
}

/// A series of two machines with a labelled fault, and one detector over it.
fn pipeline(python: &std::path::Path, with: &str) -> TestEnvironment {
    TestEnvironment::with_pipeline(&format!(
        r#"pipeline: python
seed: 7
stages:
  raw: {{uses: generate, with: {{channels: 3, day: 24, rows: {{train: 120, validation: 40, calibration: 40, test: 120}}}}}}
  it:
    uses: python
    from: {{series: raw}}
    with:
      environment: {{python: {}}}
{}  metrics: {{uses: evaluate, from: it, with: {{threshold: {{kind: quantile, anomaly_ratio: 2}}, metrics: [vus_pr, roc_auc]}}}}
"#,
        python.display(),
        with.lines()
            .map(|line| format!("      {line}\n"))
            .collect::<String>()
    ))
}

/// The run of a detector in `d.py`, which must fail; nothing of it may be stored.
fn fails(python: &std::path::Path, code: &str, with: &str) -> Finished {
    let environment = pipeline(python, &format!("detector: \"d.py:D\"\n{with}"));
    environment.write("d.py", code);
    let finished = environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    // Only what stands above it is there.
    assert_eq!(in_state(&environment.latest(), "ran"), ["raw"]);
    assert_eq!(environment.files("cache/v1/actions").len(), 1);
    finished
}

const DISTANCE: &str = "import numpy as np
from helper import power
class D:
    def __init__(self, scale=1): self.scale = scale
    def fit(self, rows):
        assert len(rows) == 120, len(rows)
        self.mean = rows.mean(axis=0)
    def decision_function(self, rows):
        return self.scale * (np.abs(rows - self.mean) ** power).sum(axis=1)
";

#[test]
fn a_class_of_the_users_is_judged_kept_and_explained() {
    let Some(python) = interpreter() else { return };
    let environment = pipeline(
        &python,
        "detector: \"d.py:D\"\ncode: [helper.py]\nparams: {scale: 2}",
    );
    environment.write("d.py", DISTANCE);
    environment.write("helper.py", "power = 2\n");
    environment
        .succeed(&["run", "--quiet", "pipeline.yaml"])
        .prints("vus_pr");
    assert_eq!(ran(&environment.latest()), ["raw", "it", "metrics"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());

    environment.write("helper.py", "power = 1\n");
    let why = environment.succeed(&["why", "it", "pipeline.yaml"]);
    assert!(why.stdout.contains("helper.py"), "{}", why.describe());
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), ["it", "metrics"]);
}

/// An environment beside another that has one package more or in another version: a key knows versions, not paths.
#[test]
fn a_package_of_another_version_is_told() {
    let Some(python) = interpreter() else { return };
    let environment = pipeline(&python, "detector: \"d.py:D\"");
    environment.write(
        "d.py",
        DISTANCE.replace("from helper import power", "power = 1"),
    );
    let place = environment.path("extra/site");
    // A folder on the path of the interpreter, as a package manager would change it.
    let wrapper = environment.write(
        "venv/bin/python",
        format!(
            "#!/bin/sh\nPYTHONPATH={}:$PYTHONPATH exec {} \"$@\"\n",
            place.display(),
            python.display()
        ),
    );
    let mut mode = fs::metadata(&wrapper).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&wrapper, mode).unwrap();
    fs::create_dir_all(place.join("torch-2.5.1.dist-info")).unwrap();
    let text = environment.read("pipeline.yaml");
    let own = text.replace(&python.display().to_string(), "venv/bin/python");
    environment.write("pipeline.yaml", &own);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    fs::rename(
        place.join("torch-2.5.1.dist-info"),
        place.join("torch-2.6.0.dist-info"),
    )
    .unwrap();
    let why = environment.succeed(&["why", "it", "pipeline.yaml"]);
    assert!(
        why.stdout.contains("torch")
            && why.stdout.contains("2.5.1")
            && why.stdout.contains("2.6.0"),
        "{}",
        why.describe()
    );
    fs::rename(
        place.join("torch-2.6.0.dist-info"),
        place.join("torch-2.5.1.dist-info"),
    )
    .unwrap();
    // The same packages at another place are the same environment.
    fs::rename(environment.path("venv"), environment.path("other")).unwrap();
    environment.write("pipeline.yaml", own.replace("venv/bin", "other/bin"));
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());
}

#[test]
fn functions_windows_and_reconstructions_are_detectors() {
    let Some(python) = interpreter() else { return };
    let code = "import numpy as np
def f(rows, train, power): return (np.abs(rows - train.mean(axis=0)) ** power).mean(axis=1)
class R:
    def fit(self, windows): assert windows.shape[1:] == (8, 3), windows.shape
    def predict(self, windows): return np.zeros_like(windows)
";
    let environment = pipeline(&python, "detector: \"d.py:f\"\nparams: {power: 2}");
    environment.write("d.py", code);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let text = environment.read("pipeline.yaml");
    let text = text
        .replace(
            "  it:\n",
            "  windows: {uses: window, from: raw, with: {length: 8}}\n  it:\n",
        )
        .replace("from: {series: raw}", "from: {windows: windows}")
        .replace("d.py:f", "d.py:R")
        .replace("params: {power: 2}", "params: {}");
    environment.write("pipeline.yaml", text);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), ["windows", "it", "metrics"]);
}

#[test]
fn a_detector_that_peeks_finds_nothing() {
    let Some(python) = interpreter() else { return };
    // While it fits, the folder holds the training rows and no labels.
    let code = "import os
class D:
    def fit(self, rows):
        found = sorted(name for _, _, names in os.walk('in') for name in names)
        assert found == ['fit.npy', 'fit.times.npy'], found
        assert 'labelled' not in open('job.json').read()
    def decision_function(self, rows):
        assert not any('labels' in name for name in os.listdir('in'))
        return rows[:, 0]
";
    let environment = pipeline(&python, "detector: \"d.py:D\"");
    environment.write("d.py", code);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let text = environment.read("pipeline.yaml");
    let on_test = text.replace(
        "detector: \"d.py:D\"",
        "detector: \"d.py:D\"\n      fit: [train, test]",
    );
    environment.write("pipeline.yaml", &on_test);
    environment
        .run(&["plan", "pipeline.yaml"])
        .says("learns its weights from test rows");
    environment.write(
        "pipeline.yaml",
        on_test.replace("seed: 7", "seed: 7\nstrict: true"),
    );
    environment
        .run(&["run", "pipeline.yaml"])
        .expect(2)
        .says("error[leakage]");
}

#[test]
fn a_detector_that_fails_says_where() {
    let Some(python) = interpreter() else { return };
    let class = |fit: &str, score: &str| {
        format!(
            "import numpy as np\nclass D:\n    def fit(self, rows):\n        {fit}\n    def decision_function(self, rows):\n        {score}\n"
        )
    };
    let told = |fit: &str, score: &str| fails(&python, &class(fit, score), "").stderr;
    let raised = told("raise ValueError('no such column')", "pass");
    assert!(
        raised.contains("`fit` of `d.py:D` raised ValueError: no such column")
            && raised.contains("d.py:4"),
        "{raised}"
    );
    let nan = told("pass", "s = rows[:, 0].copy(); s[5] = np.nan; return s");
    assert!(
        nan.contains("is NaN or missing in row 5") && nan.contains("in train"),
        "{nan}"
    );
    let few = told("pass", "return rows[:7, 0]");
    assert!(few.contains("array of shape [7] for the 120 rows"), "{few}");
    let text = told("pass", "return ['high'] * len(rows)");
    assert!(text.contains("not an array of numbers"), "{text}");
    let nothing = told("pass", "return None");
    assert!(nothing.contains("gave None"), "{nothing}");
    let left = told("import os; os._exit(0)", "pass");
    assert!(left.contains("ended before it was done"), "{left}");
    let killed = told("import os; os.kill(os.getpid(), 9)", "pass");
    assert!(killed.contains("killed from outside"), "{killed}");
    let syntax = fails(&python, "class D\n    pass\n", "").stderr;
    assert!(
        syntax.contains("cannot be imported: SyntaxError") && syntax.contains("d.py:1"),
        "{syntax}"
    );
    let absent = fails(&python, "class E: pass\n", "").stderr;
    assert!(
        absent.contains("has no `D`") && absent.contains("there are E"),
        "{absent}"
    );
    let wrong = fails(
        &python,
        &class("pass", "return rows[:, 0]"),
        "params: {width: 1}",
    )
    .stderr;
    assert!(wrong.contains("cannot be made: TypeError"), "{wrong}");
}

#[test]
fn a_module_that_is_not_declared_is_told_with_the_line_to_add() {
    let Some(python) = interpreter() else { return };
    let code =
        "import helper\nclass D:\n    def decision_function(self, rows): return rows[:, 0]\n";
    let environment = pipeline(&python, "detector: \"d.py:D\"");
    environment.write("d.py", code);
    environment.write("helper.py", "");
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1)
        .says("code: [helper.py]");
    // One that is found all the same, by a path of its own choosing.
    let elsewhere = environment.write("elsewhere/other.py", "");
    let folder = elsewhere.parent().unwrap().display().to_string();
    let code = format!(
        "import sys\nsys.path.append('{folder}')\nimport other\nclass D:\n    def decision_function(self, rows): return rows[:, 0]\n"
    );
    environment.write("d.py", code);
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1)
        .says("imported the module `other`")
        .says(&format!("code: [{}]", elsewhere.display()));
    assert_eq!(environment.files("cache/v1/actions").len(), 1);
}

#[test]
fn a_flood_a_hang_and_children_end_with_the_stage() {
    let Some(python) = interpreter() else { return };
    let code = "import subprocess, sys
class D:
    def fit(self, rows):
        subprocess.Popen(['sleep', '1000'])
        line = 'x' * 1023 + '\\n'
        for _ in range(400):
            sys.stdout.write(line * 1024)
    def decision_function(self, rows): return rows[:, 0]
";
    let environment = pipeline(&python, "detector: \"d.py:D\"");
    environment.write("d.py", code);
    let mut running = environment.spawn(&["run", "--quiet", "pipeline.yaml"]);
    let mut peak = 0;
    while !running.has_ended() {
        peak = running.peak_memory().max(peak);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    running.wait().expect(0);
    assert!(peak < 300 << 20, "{} MiB", peak >> 20);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let log = environment.read(&format!("cache/v1/runs/{run}/logs/it.log"));
    assert!(
        log.len() < 3 << 20 && log.contains("are left out here"),
        "{}",
        log.len()
    );
    let hang = environment
        .read("pipeline.yaml")
        .replace("uses: python", "uses: python\n    timeout: 2 s");
    environment.write("pipeline.yaml", hang);
    environment.write(
        "d.py",
        "import time\nclass D:\n    def fit(self, rows): time.sleep(1000)\n    def decision_function(self, rows): pass\n",
    );
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1)
        .says("ran longer than 2");
}

#[test]
fn a_missing_package_or_interpreter_is_an_error_before_anything_runs() {
    let Some(python) = interpreter() else { return };
    let environment = pipeline(&python, "detector: \"no_such_package.models:D\"");
    environment
        .run(&["run", "pipeline.yaml"])
        .expect(1)
        .says("there is no module `no_such_package`")
        .says("-m pip install no_such_package");
    let text = environment.read("pipeline.yaml");
    environment.write(
        "pipeline.yaml",
        text.replace(&python.display().to_string(), "/no/such/python"),
    );
    environment
        .run(&["run", "pipeline.yaml"])
        .expect(1)
        .says("`/no/such/python` cannot be used");
    assert!(!environment.path("cache/v1/actions").exists());
}

#[test]
fn forecasters_and_classifiers_are_judged_likewise() {
    let Some(python) = interpreter() else { return };
    let environment = TestEnvironment::with_pipeline(&format!(
        r#"pipeline: others
seed: 7
stages:
  raw: {{uses: generate, with: {{channels: 3, day: 24, rows: {{train: 120, validation: 40, calibration: 40, test: 120}}}}}}
  windows: {{uses: window, from: raw, with: {{length: 8, horizon: 2}}}}
  next: {{uses: python, from: {{windows: windows}}, with: {{task: forecast, detector: "d.py:Last", environment: {{python: {0}}}}}}}
  judged: {{uses: evaluate, from: next}}
"#,
        python.display()
    ));
    environment.write(
        "d.py",
        "import numpy as np
class Last:
    def fit(self, windows, targets):
        assert windows.shape[1:] == (8, 3) and targets.shape[1:] == (2, 3), (windows.shape, targets.shape)
        assert np.isfinite(targets).all()
    def predict(self, windows): return np.repeat(windows[:, -1:], 2, axis=1)
",
    );
    environment
        .succeed(&["run", "--quiet", "pipeline.yaml"])
        .prints("mse");
}

/// The ranking of the shipped pipeline holds what the packages give by hand.
#[test]
fn detectors_of_packages_are_ranked_by_what_they_give_by_hand() {
    let Some(python) = interpreter() else { return };
    if real_data("ServerMachineDataset/train/machine-2-1.txt").is_none() {
        return;
    }
    let mut environment = TestEnvironment::new();
    environment.set(
        "RUNNER_DATA_PATH",
        std::env::var("RUNNER_DATA_PATH").unwrap(),
    );
    let pipeline = format!(
        "{}/pipelines/python_detectors.yaml",
        env!("CARGO_MANIFEST_DIR")
    );
    let set = format!("python={}", python.display());
    environment.succeed(&["run", "--quiet", "--offline", &pipeline, "--set", &set]);
    let run = environment.latest();
    environment.write(
        "theirs.yaml",
        r#"pipeline: theirs
seed: 42
stages:
  raw: {uses: ingest, with: {dataset: smd, entity: machine-2-1, split: {train: 0.7, validation: 0.1, calibration: 0.2}}}
  scaled: {uses: normalize, from: raw, with: {method: zscore}}
  copy: {uses: command, from: {scaled: scaled}, with: {run: [cp, "{in.scaled}", "{out.copy}"], outputs: {copy: {path: scaled.parquet}}}}
  theirs:
    uses: import-scores
    from: {series: raw}
    foreach: {detector: [forest-sklearn, ecod-pyod, hbos-pyod]}
    with: {path: "${detector}.npy"}
  judged:
    uses: evaluate
    from: theirs
    with: {threshold: {kind: best-f1}, metrics: [vus_pr]}
"#,
    );
    let copy = [
        "run",
        "--quiet",
        "--offline",
        "theirs.yaml",
        "--target",
        "copy",
    ];
    environment.succeed(&copy);
    let name = environment.latest()["run"].as_str().unwrap().to_owned();
    let copied = environment.files(&format!("cache/v1/runs/{name}/files/copy"));
    let script = environment.write("by_hand.py", BY_HAND);
    let done = Command::new(&python)
        .args([&script, &copied[0]])
        .current_dir(environment.folder())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    environment.succeed(&["run", "--quiet", "--offline", "theirs.yaml"]);
    let by_hand = environment.latest();
    for detector in ["forest-sklearn", "ecod-pyod", "hbos-pyod"] {
        let ours = metric(&run, "theirs_judged", detector);
        let theirs = metric(&by_hand, "judged", detector);
        assert!(
            (ours - theirs).abs() < 1e-6 && ours > 0.0,
            "{detector}: {ours} and by hand {theirs}"
        );
    }
}

/// The VUS-PR of an instance.
fn metric(run: &serde_json::Value, stage: &str, detector: &str) -> f64 {
    let metrics = run["metrics"].as_object().unwrap();
    let is_it = |name: &&String| name.starts_with(&format!("{stage}[")) && name.contains(detector);
    let name = metrics.keys().find(is_it).unwrap();
    metrics[name]["vus_pr"].as_f64().unwrap()
}

/// What a user of the packages writes: values from a Parquet file, three detectors, their scores of the test rows.
const BY_HAND: &str = r#"
import json, sys
import numpy as np
import pyarrow.parquet as parquet
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from sklearn.ensemble import IsolationForest

table = parquet.read_table(sys.argv[1])
segments = json.loads(table.schema.metadata[b"runner.segments"])
values = np.column_stack([table[name] for name in table.column_names if not name.startswith("runner.")]).astype("f4")
def rows(split):
    return np.concatenate([values[s["rows"]["start"]:s["rows"]["end"]] for s in segments if s["split"] == split])
train, test = rows("train"), rows("test")
forest = IsolationForest(n_estimators=100, random_state=1).fit(train)
np.save("forest-sklearn.npy", -forest.decision_function(test))
for name, model in (("ecod-pyod", ECOD()), ("hbos-pyod", HBOS())):
    np.save(f"{name}.npy", model.fit(train).decision_function(test))
"#;
