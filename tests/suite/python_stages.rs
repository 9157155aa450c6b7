//! `python` stages with a real interpreter: detectors of scikit-learn and PyOD, the user's own, and those that misbehave.
//! `scripts/install-python-detectors.sh` installs the packages; where they are not, this says that it is skipped, and with
//! `RUNNER_REQUIRE_SERVERS` set it fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

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

/// Six stages of one detector, which looks for what the others left and leaves something itself.
#[test]
fn stages_start_from_the_same_and_leave_nothing_to_each_other() {
    let Some(python) = interpreter() else { return };
    let environment = pipeline(
        &python,
        "detector: \"d.py:D\"\nparams: {number: \"${number}\"}",
    );
    let text = environment.read("pipeline.yaml");
    let text = text.replace(
        "  it:\n",
        "  it:\n    foreach: {number: [1, 2, 3, 4, 5, 6]}\n",
    );
    environment.write("pipeline.yaml", text);
    environment.write(
        "d.py",
        "import os, sys, tempfile
import numpy as np
class D:
    def __init__(self, number): self.number = number
    def fit(self, rows):
        assert not hasattr(np, 'left') and 'LEFT' not in os.environ, 'somebody was here'
        np.left, os.environ['LEFT'] = self.number, 'x'
        self.folder = tempfile.TemporaryDirectory()
        print('PARENT', os.getppid(), 'FOLDER', self.folder.name)
    def decision_function(self, rows): return np.random.random(len(rows)) + 0 * self.number
",
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest();
    let (mut parents, mut scores) = (BTreeSet::new(), BTreeSet::new());
    for stage in run["stages"].as_array().unwrap() {
        let name = stage["name"].as_str().unwrap();
        if !name.starts_with("it[") {
            continue;
        }
        scores.insert(stage["digests"]["scores"].to_string());
        let number = name.trim_start_matches("it[number=").trim_end_matches(']');
        let logs = environment.files(&format!(
            "cache/v1/runs/{}/logs",
            run["run"].as_str().unwrap()
        ));
        let log = logs
            .iter()
            .find(|path| path.to_string_lossy().contains(&format!("number={number}")));
        let text = fs::read_to_string(log.unwrap()).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        let after = |word| words[words.iter().position(|known| *known == word).unwrap() + 1];
        parents.insert(after("PARENT").to_owned());
        assert!(!std::path::Path::new(after("FOLDER")).exists(), "{text}");
    }
    // Random numbers begin with the seed of the stage, which is the same for all.
    assert_eq!(scores.len(), 1, "{scores:?}");
    // All are copies of one interpreter, which has ended with the run.
    assert_eq!(parents.len(), 1, "{parents:?}");
    let waiting = format!("/proc/{}/cmdline", parents.first().unwrap());
    let start = Instant::now();
    while fs::read_to_string(&waiting).is_ok_and(|line| line.contains("runner._warm")) {
        assert!(start.elapsed() < Duration::from_secs(60), "{waiting}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A library that starts threads when it is imported cannot be copied, and a stage gets an interpreter of its own.
#[test]
fn libraries_with_threads_start_anew_for_each_stage() {
    let Some(python) = interpreter() else { return };
    let place = tempfile::tempdir().unwrap();
    let library = "import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
def score(rows): return rows.sum(axis=1) + 0 * threading.active_count()
";
    let wrapper = format!(
        "#!/bin/sh\nPYTHONPATH={}:$PYTHONPATH exec {} \"$@\"\n",
        place.path().display(),
        python.display()
    );
    fs::write(place.path().join("threaded.py"), library).unwrap();
    let environment = pipeline(&python, "detector: \"d.py:f\"");
    let interpreter = environment.write("bin/python", wrapper);
    let mut mode = fs::metadata(&interpreter).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&interpreter, mode).unwrap();
    let text = environment.read("pipeline.yaml");
    environment.write(
        "pipeline.yaml",
        text.replace(&python.display().to_string(), "bin/python"),
    );
    environment.write(
        "d.py",
        "import os, sys
from threaded import score
def f(rows):
    print('CALLED', *open('/proc/self/cmdline').read().split('\\0'))
    return score(rows)
",
    );
    // The library lies outside of the environment, which is another matter.
    let failed = environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    assert!(failed.stderr.contains("threaded"), "{}", failed.describe());
    let run = environment.latest();
    let logs = environment.files(&format!(
        "cache/v1/runs/{}/logs",
        run["run"].as_str().unwrap()
    ));
    let mut texts = logs.iter().map(|path| fs::read_to_string(path).unwrap());
    assert!(texts.any(|text| text.contains("CALLED") && text.contains("runner._worker")));
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

/// A script by the name of a program of the machine, in a folder of its own.
fn program(environment: &TestEnvironment, path: &str, text: &str) -> PathBuf {
    let program = environment.write(path, text);
    let mut mode = fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&program, mode).unwrap();
    program
}

const MEAN: &str = "import numpy as np, sys
def f(rows, train):
    print('PREFIX', sys.prefix)
    return np.abs(rows - train.mean(axis=0)).mean(axis=1)
";

/// What `f` in `d.py` said of the place that it ran in.
fn prefix(environment: &TestEnvironment) -> String {
    let run = environment.latest();
    let logs = environment.files(&format!(
        "cache/v1/runs/{}/logs",
        run["run"].as_str().unwrap()
    ));
    let log = fs::read_to_string(&logs[0]).unwrap();
    let (_, after) = log.split_once("PREFIX ").unwrap();
    after.lines().next().unwrap().to_owned()
}

/// The version of a package that the test environment has.
fn version(python: &std::path::Path, package: &str) -> String {
    let script = format!("import importlib.metadata as m; print(m.version('{package}'))");
    let output = Command::new(python).args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// From a file of pip and from one of uv an environment is made once, in the store.
#[test]
fn a_lock_file_makes_an_environment_in_the_store() {
    let Some(python) = interpreter() else { return };
    let numpy = version(&python, "numpy");
    let uv = python.with_file_name("uv");
    let mut environment = pipeline(&python, "detector: \"d.py:f\"");
    let text = environment.read("pipeline.yaml");
    environment.write("d.py", MEAN);
    environment.write("requirements.lock", format!("numpy=={numpy}\n"));
    let project = "[project]\nname = \"mine\"\nversion = \"1\"\nrequires-python = \">=3.11\"\n";
    let project = format!("{project}dependencies = [\"numpy=={numpy}\"]\n");
    environment.write("of_uv/pyproject.toml", project);
    // How this machine reaches the index.
    for (name, value) in std::env::vars() {
        if ["PIP_", "UV_", "SSL_", "HTTPS_", "https_"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            environment.set(&name, value);
        }
    }
    let locked = Command::new(&uv)
        .args(["lock", "--quiet", "--python"])
        .arg(&python)
        .current_dir(environment.path("of_uv"))
        .output()
        .unwrap();
    assert!(locked.status.success(), "{locked:?}");
    // Without uv on PATH, by venv and pip.
    for lock in ["requirements.lock", "of_uv/uv.lock"] {
        let place = format!("{{python: {}, lock: {lock}}}", python.display());
        let own = text.replace(&format!("{{python: {}}}", python.display()), &place);
        environment.write("pipeline.yaml", own);
        if lock.ends_with("uv.lock") {
            let missing = environment
                .run(&["run", "--quiet", "pipeline.yaml"])
                .expect(1);
            assert!(
                missing.stderr.contains("needs uv"),
                "{}",
                missing.describe()
            );
            fs::create_dir_all(environment.path("bin")).unwrap();
            std::os::unix::fs::symlink(&uv, environment.path("bin/uv")).unwrap();
            let path = std::env::var("PATH").unwrap();
            environment.set(
                "PATH",
                format!("{}:{path}", environment.path("bin").display()),
            );
        }
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        assert!(
            prefix(&environment).contains("cache/v1/environments/"),
            "{}",
            prefix(&environment)
        );
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        assert_eq!(ran(&environment.latest()), Vec::<String>::new());
    }
    let mut made = Vec::new();
    for entry in fs::read_dir(environment.path("cache/v1/environments")).unwrap() {
        made.push(entry.unwrap().path());
    }
    assert_eq!(made.len(), 2);
    // Scripts of packages name the interpreter that lies there.
    for place in made {
        let script = place.join("bin/f2py");
        let told = Command::new(&script).arg("-v").output();
        let told = told.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(told.status.success(), "{told:?}");
        // What was not made to its end is made again.
        fs::remove_file(place.join("complete")).unwrap();
        fs::remove_file(place.join("bin/python")).unwrap();
    }
    environment.write("d.py", format!("{MEAN}\n# other bytes\n"));
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
}

/// conda is not to be had from the index of Python: a stand-in makes the environment, and is told what conda would be told.
#[test]
fn a_list_of_conda_is_handed_to_conda() {
    let Some(python) = interpreter() else { return };
    let mut environment = pipeline(&python, "detector: \"d.py:f\"");
    let text = environment.read("pipeline.yaml");
    let place = format!("{{python: {}}}", python.display());
    environment.write(
        "pipeline.yaml",
        text.replace(&place, "{lock: explicit.txt}"),
    );
    environment.write("d.py", MEAN);
    let address = "https://example.org/linux-64/numpy-2.1.0-py312h1_0.conda#12ab";
    environment.write("explicit.txt", format!("@EXPLICIT\n{address}\n"));
    let missing = environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    assert!(
        missing.stderr.contains("needs micromamba"),
        "{}",
        missing.describe()
    );
    let script = format!(
        "#!/bin/sh\necho \"$@\" > {}\nexec {} -m venv --without-pip --system-site-packages \"$5\"\n",
        environment.path("told").display(),
        python.display()
    );
    program(&environment, "bin/micromamba", &script);
    let path = std::env::var("PATH").unwrap();
    environment.set(
        "PATH",
        format!("{}:{path}", environment.path("bin").display()),
    );
    let site = Command::new(&python)
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ])
        .output()
        .unwrap();
    let site = String::from_utf8(site.stdout).unwrap();
    environment.run(&["run", "--quiet", "pipeline.yaml"]);
    let told = environment.read("told");
    assert!(
        told.starts_with("create --yes --quiet --prefix ") && told.trim().ends_with("explicit.txt"),
        "{told}"
    );
    let (_, after) = told.split_once("--prefix ").unwrap();
    let made = PathBuf::from(after.split(' ').next().unwrap());
    assert!(
        made.to_string_lossy().contains("environments"),
        "{told} {site}"
    );
}

/// The interpreter of an image: what it gives is what any other gives, it sees no network, and nothing is left of one that
/// hangs.
#[test]
fn an_image_is_an_environment() {
    let Some(python) = interpreter() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install-container.sh");
    let output = Command::new(script).output().unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            std::env::var_os("RUNNER_REQUIRE_SERVERS").is_none(),
            "{said}"
        );
        eprintln!("SKIPPED: {said}");
        return;
    }
    let image = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let mut environment = pipeline(&python, "detector: \"d.py:f\"");
    // Where the machine allows no other limits and mixes two versions of control groups.
    let settings = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
                    [engine]\nruntime = \"runc\"\n";
    let settings = environment.write("containers.conf", settings);
    environment.set("CONTAINERS_CONF", settings.display().to_string());
    environment.write(
        "d.py",
        format!("{MEAN}    # {{}}\n").replace("    # {}\n", ""),
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let here = environment.latest();
    let text = environment.read("pipeline.yaml");
    let place = format!("{{python: {}}}", python.display());
    let inside = format!("{{image: \"{image}\", python: /usr/bin/python3}}");
    environment.write("pipeline.yaml", text.replace(&place, &inside));
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let there = environment.latest();
    // The scores are the same, so they are not judged again.
    assert_eq!(ran(&there), ["it"]);
    assert_eq!(here["stages"][1]["digests"], there["stages"][1]["digests"]);
    let why = environment.succeed(&["why", "it", "pipeline.yaml", "--json"]);
    let digest = image.rsplit(':').next().unwrap();
    assert!(why.stdout.contains(digest), "{}", why.describe());

    environment.write(
        "d.py",
        "import socket, time
def f(rows):
    try:
        socket.create_connection(('192.0.2.1', 80), 5)
    except OSError as error:
        print('NET', error.errno, flush=True)
    time.sleep(3600)
",
    );
    let text = environment.read("pipeline.yaml");
    environment.write(
        "pipeline.yaml",
        text.replace("    uses: python\n", "    uses: python\n    timeout: 5 s\n"),
    );
    let hangs = environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    assert!(hangs.stderr.contains("ran longer"), "{}", hangs.describe());
    let folder = environment.folder().display().to_string();
    let running = Command::new("podman")
        .args(["ps", "--all", "--format", "{{.Mounts}} {{.Status}}"])
        .env("CONTAINERS_CONF", environment.path("containers.conf"))
        .output()
        .unwrap();
    let running = String::from_utf8_lossy(&running.stdout).into_owned();
    assert!(!running.contains(&folder), "{running}");
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
    // PyTorch is gigabytes: it is judged where somebody has installed it, with TSB-AD.
    let named = std::env::var_os("RUNNER_PYTHON_TORCH").map(PathBuf::from);
    let python = named.clone().unwrap_or(python);
    let mut theirs = vec!["forest-sklearn", "ecod-pyod", "hbos-pyod", "moving-average"];
    let set = format!("python={}", python.display());
    let mut command = vec!["run", "--quiet", "--offline", &pipeline, "--set", &set];
    if named.is_some() {
        theirs.extend(["autoencoder-torch", "pca-tsb-ad"]);
        command.extend(["--profile", "more"]);
    } else {
        eprintln!(
            "SKIPPED the detectors of PyTorch and TSB-AD: RUNNER_PYTHON_TORCH names no interpreter that has them"
        );
    }
    environment.succeed(&command);
    let run = environment.latest();
    let text = r#"pipeline: theirs
seed: 42
stages:
  raw: {uses: ingest, with: {dataset: smd, entity: machine-2-1, split: {train: 0.7, validation: 0.1, calibration: 0.2}}}
  scaled: {uses: normalize, from: raw, with: {method: zscore}}
  copy: {uses: command, from: {scaled: scaled}, with: {run: [cp, "{in.scaled}", "{out.copy}"], outputs: {copy: {path: scaled.parquet}}}}
  theirs:
    uses: import-scores
    from: {series: raw}
    foreach: {detector: [DETECTORS]}
    with: {path: "${detector}.npy"}
  judged:
    uses: evaluate
    from: theirs
    with: {threshold: {kind: best-f1}, metrics: [vus_pr]}
"#;
    environment.write("theirs.yaml", text.replace("DETECTORS", &theirs.join(", ")));
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
        .arg(&script)
        .arg(&copied[0])
        .args(&theirs)
        .env(
            "PYTHONPATH",
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/python:",
                env!("CARGO_MANIFEST_DIR"),
                "/pipelines/detectors"
            ),
        )
        .env("OMP_NUM_THREADS", "2")
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
    for detector in theirs {
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

/// What a user of the packages writes: values from a Parquet file, each detector, its scores of the test rows.
const BY_HAND: &str = r#"
import json, sys
import numpy as np
import pyarrow.parquet as parquet
from moving_average import moving_average
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
np.save("moving-average.npy", moving_average(test))
if "autoencoder-torch" in sys.argv:
    import torch
    from autoencoder import Autoencoder
    from TSB_AD.models.PCA import PCA
    torch.manual_seed(42)
    model = Autoencoder()
    model.fit(train)
    np.save("autoencoder-torch.npy", model.decision_function(test).numpy())
    model = PCA(slidingWindow=1, n_components=0.25, zero_pruning=False).fit(train)
    np.save("pca-tsb-ad.npy", model.decision_function(test))
"#;
