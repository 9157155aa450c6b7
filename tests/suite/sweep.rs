//! Sweeps through the program: forms of the leaderboard, signals, submissions and their tasks. What the library shows without
//! it is in `tests/engine`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::environment::TestEnvironment;
use crate::store::{digests, ran, runs};

/// Six stages; the axis may be the clipping, the number of epochs or the threshold.
const PIPELINE: &str = "pipeline: small
seed: 7
params: {clip: 5.0, epochs: 1, ratio: 2, lr: 1.0e-3}
stages:
  raw:
    uses: generate
    with: {channels: 3, day: 24, rows: {train: 160, validation: 60, calibration: 60, test: 160}}
  scaled: {uses: normalize, from: raw, with: {method: zscore, clip: \"${clip}\"}}
  windows: {uses: window, from: scaled, with: {length: 16}}
  model:
    uses: train
    from: windows
    with:
      model: {kind: tvnet-recon, patch: 8, blocks: 1}
      epochs: \"${epochs}\"
      batch: 32
      optimizer: {kind: adam, lr: \"${lr}\"}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics:
    uses: evaluate
    from: scores
    with: {threshold: {kind: quantile, anomaly_ratio: \"${ratio}\"}, metrics: [f1, roc_auc]}
";

fn environment(sweep: &str) -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.write("pipeline.yaml", PIPELINE);
    let head =
        "sweep: test\npipeline: pipeline.yaml\nobjective: {stage: metrics, metric: roc_auc}\n";
    environment.write("sweep.yaml", format!("{head}{sweep}"));
    environment
}

fn trials(board: &Value) -> &Vec<Value> {
    board["trials"].as_array().unwrap()
}

#[test]
fn the_best_can_be_run_on_its_own() {
    let environment = environment("axes: {lr: [0.0001, 0.01]}");
    let dry = environment.json(&["sweep", "sweep.yaml", "--dry-run"]);
    assert_eq!((&dry["members"], &dry["stages"]), (&2.into(), &9.into()));
    assert!(
        environment.files("cache").is_empty(),
        "a dry run writes nothing"
    );
    environment.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    let best = environment.json(&["sweep", "best", "sweep.yaml"]);
    let command = best["command"].as_array().unwrap()[1..].iter();
    let command: Vec<&str> = command.map(|word| word.as_str().unwrap()).collect();
    let shown = environment.succeed(&[&command[..], &["--json"]].concat());
    let shown = shown.json_lines().pop().unwrap();
    assert_eq!(shown["metrics"]["metrics"]["roc_auc"], best["mean"]);
    assert!(
        ran(&environment.latest()).is_empty(),
        "every stage was a hit"
    );
}

#[test]
fn the_leaderboard_comes_in_every_form_and_plots_are_drawn() {
    let environment = environment(
        "axes: {lr: {log_uniform: [1.0e-4, 1.0e-2]}, ratio: {int: [1, 9]}}\nsampler: {kind: random, trials: 5, seed: 1}",
    );
    environment.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    let csv = environment
        .succeed(&["sweep", "table", "sweep.yaml", "--format", "csv"])
        .stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "rank,trial,lr,ratio,roc_auc,deviation,seeds,level,state,seconds,failure"
    );
    assert_eq!(lines.len(), 6);
    environment.succeed(&[
        "sweep",
        "table",
        "sweep.yaml",
        "--format",
        "parquet",
        "--output",
        "board.parquet",
    ]);
    let bytes = std::fs::read(environment.path("board.parquet")).unwrap();
    assert_eq!(
        (&bytes[..4], &bytes[bytes.len() - 4..]),
        (&b"PAR1"[..], &b"PAR1"[..])
    );
    environment
        .run(&["sweep", "table", "sweep.yaml", "--format", "parquet"])
        .expect(2)
        .says("--output FILE");
    let drawn = environment.json(&["sweep", "plot", "sweep.yaml"]);
    assert_eq!(drawn["files"].as_array().unwrap().len(), 3);
    let plot = environment.read("test-plots/parallel.svg");
    for text in ["lr", "ratio", "roc_auc"] {
        assert!(plot.contains(text), "{text}");
    }
    environment
        .succeed(&["sweep", "status", "sweep.yaml"])
        .prints("5 trials: 5 done");
}

#[test]
fn a_run_tells_how_many_trials_are_done_and_which_is_best() {
    let environment = environment("axes: {lr: [0.001, 0.002, 1.0e+30]}");
    let told = environment
        .run(&["sweep", "sweep.yaml", "--json"])
        .expect(1)
        .stdout;
    let events = told
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let progress: Vec<Value> = events
        .filter(|event| event["event"] == "run-progress")
        .collect();
    let done: Vec<i64> = progress
        .iter()
        .map(|event| event["done"].as_i64().unwrap())
        .collect();
    assert!(done.is_sorted() && done.last() == Some(&3), "{done:?}");
    assert!(
        progress
            .iter()
            .all(|event| event["total"] == 3 && event["unit"] == "trial")
    );
    let phase = progress.last().unwrap()["phase"].as_str().unwrap();
    assert!(
        phase.contains("1 failed") && phase.contains("best roc_auc"),
        "{phase}"
    );
}

#[test]
fn halving_trains_further_from_the_level_before() {
    let environment = environment(
        "axes: {lr: [1.0e-5, 1.0e-4, 1.0e-3, 1.0e-2]}\nstopping: {rule: halving, over: epochs, levels: [1, 2, 4], factor: 2}",
    );
    environment.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    let board = environment.json(&["sweep", "table", "sweep.yaml"]);
    let levels: Vec<i64> = trials(&board)
        .iter()
        .map(|row| row["level"].as_i64().unwrap())
        .collect();
    assert_eq!(
        levels,
        [4, 2, 1, 1],
        "the trials that went furthest stand first"
    );
    // Four trainings of one epoch, two that go on to the second, one to the fourth: no epoch is done twice.
    let notes = |after: &str| {
        let journals = environment
            .files("cache/v1/runs")
            .into_iter()
            .filter(|path| path.ends_with("events.jsonl"));
        let texts = journals.map(|path| std::fs::read_to_string(path).unwrap());
        texts
            .map(|text| {
                text.matches(&format!("training continues after epoch {after}"))
                    .count()
            })
            .sum::<usize>()
    };
    assert_eq!((notes("1"), notes("2")), (2, 1));
    let again = environment.json(&["sweep", "sweep.yaml"]);
    assert_eq!(trials(&again), trials(&board));
    // The winner is what training straight to four epochs gives.
    let values = &trials(&board)[0]["values"];
    let straight = TestEnvironment::with_pipeline(PIPELINE);
    let lr = format!("lr={}", values["lr"]);
    straight.succeed(&[
        "run",
        "pipeline.yaml",
        "--set",
        &lr,
        "--set",
        "epochs=4",
        "--quiet",
    ]);
    let figure = straight.latest()["metrics"]["metrics"]["roc_auc"].as_f64();
    assert_eq!(trials(&board)[0]["mean"].as_f64(), figure);
}

#[test]
fn an_interrupted_sweep_goes_on_with_what_is_missing() {
    let environment =
        environment("set: {epochs: 30}\naxes: {lr: [1.0e-4, 1.0e-3, 1.0e-2, 1.0e-5]}");
    let mut running = environment.spawn(&["sweep", "sweep.yaml", "--jobs", "1"]);
    let chains = || {
        let files = environment.files("cache/v1/checkpoints").into_iter();
        files
            .map(|path| path.parent().unwrap().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    let some = || chains() > 1;
    assert!(running.wait_until(some), "the sweep ended too soon");
    running.interrupt();
    running.wait().expect(130);
    let status = environment.json(&["sweep", "status", "sweep.yaml"]);
    assert!(status["missing"].as_u64().unwrap() > 0, "{status}");
    environment.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    let straight =
        self::environment("set: {epochs: 30}\naxes: {lr: [1.0e-4, 1.0e-3, 1.0e-2, 1.0e-5]}");
    straight.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    let figures = |environment: &TestEnvironment| {
        let board = environment.json(&["sweep", "table", "sweep.yaml"]);
        trials(&board)
            .iter()
            .map(|row| (row["trial"].clone(), row["mean"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(figures(&environment), figures(&straight));
    assert_eq!(digests(&straight.latest()).len(), 3 + 3 * 4);
}

#[test]
fn wrong_objectives_are_told_at_their_place() {
    let cases = [
        ("{stage: metric, metric: f1}", "did you mean `metrics`?"),
        ("{stage: scores, metric: f1}", "makes no metrics"),
        ("{stage: metrics, metric: f2}", "did you mean `f1`?"),
        (
            "{stage: metrics, metric: threshold}",
            "nothing says whether a larger `threshold` is better",
        ),
    ];
    for (objective, words) in cases {
        let environment = environment("axes: {lr: [0.001]}");
        let text = environment
            .read("sweep.yaml")
            .replace("{stage: metrics, metric: roc_auc}", objective);
        environment.write("sweep.yaml", text);
        environment
            .run(&["sweep", "sweep.yaml"])
            .expect(2)
            .says(words);
    }
    let environment = environment("axes: {lr: [0.001]}");
    environment
        .run(&["sweep", "pipeline.yaml"])
        .expect(2)
        .says("this is a pipeline, not a sweep");
    environment
        .run(&["sweep", "nowhere.yaml"])
        .expect(2)
        .says("cannot read `nowhere.yaml`");
    environment
        .run(&["sweep", "sweep.yaml", "--on", "kubernetes"])
        .expect(2)
        .says("there are slurm and local");
}

#[test]
fn options_that_would_be_ignored_are_refused() {
    let environment = environment("axes: {lr: [0.001, 0.01]}\nseeds: [1, 2]");
    environment
        .run(&["sweep", "sweep.yaml", "--set", "lr=0.1"])
        .expect(2)
        .says("--set lr would take away");
    environment
        .run(&["sweep", "sweep.yaml", "--set", "seed=9"])
        .expect(2)
        .says("--set seed would take away");
    let forced = environment
        .run(&["sweep", "sweep.yaml", "--on", "local", "--force", "metrics"])
        .expect(2);
    forced.says("--force does not go with --on");
    assert!(environment.files("cache").is_empty());
}

#[test]
fn a_sweep_of_a_million_trials_asks_first() {
    let thousand = (0..1000)
        .map(|value| value.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let environment = environment(&format!("axes: {{lr: [{thousand}], ratio: [{thousand}]}}"));
    environment
        .run(&["sweep", "sweep.yaml"])
        .expect(2)
        .says("1000000 runs")
        .says("--yes");
}

#[test]
fn without_slurm_it_is_said() {
    let mut environment = environment("axes: {lr: [0.001]}");
    environment.set("PATH", "/nowhere");
    let mut command = environment.command(&["sweep", "sweep.yaml", "--on", "slurm"]);
    command.env("PATH", "/nowhere");
    environment
        .start(command)
        .wait()
        .expect(1)
        .says("there is no Slurm here");
    // What would be submitted can be read all the same.
    let mut command = environment.command(&["sweep", "sweep.yaml", "--on", "slurm", "--dry-run"]);
    command.env("PATH", "/nowhere");
    let finished = environment.start(command).wait().expect(0);
    finished
        .says("it would be refused: there is no Slurm here")
        .prints("#SBATCH --array=0-0");
}

/// The sweep goes on after the command that started it has left.
#[test]
fn processes_of_this_machine_do_a_sweep_by_themselves() {
    let environment = environment(
        "axes: {lr: [1.0e-4, 1.0e-3, 1.0e-2]}\nstopping: {rule: halving, over: epochs, levels: [1, 2], factor: 3}\nslurm: {cpus: 1, cap: 2}",
    );
    let submitted = environment.json(&["sweep", "sweep.yaml", "--on", "local"]);
    assert_eq!(submitted["members"].as_array().unwrap().len(), 3);
    wait_until(|| environment.json(&["sweep", "status", "sweep.yaml"])["done"] == 1);
    let board = environment.json(&["sweep", "table", "sweep.yaml"]);
    let levels: Vec<i64> = trials(&board)
        .iter()
        .map(|row| row["level"].as_i64().unwrap())
        .collect();
    assert_eq!(levels, [2, 1, 1]);
    environment
        .succeed(&["sweep", "logs", "sweep.yaml", "1"])
        .prints("model");
    environment
        .succeed(&["sweep", "sweep.yaml", "--on", "local"])
        .prints("nothing to submit");
    // The same in one process comes to the same.
    let figures = board["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["mean"].clone())
        .collect::<Vec<_>>();
    let whole = self::environment(
        "axes: {lr: [1.0e-4, 1.0e-3, 1.0e-2]}\nstopping: {rule: halving, over: epochs, levels: [1, 2], factor: 3}",
    );
    whole.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    let board = whole.json(&["sweep", "table", "sweep.yaml"]);
    assert_eq!(
        figures,
        trials(&board)
            .iter()
            .map(|row| row["mean"].clone())
            .collect::<Vec<_>>()
    );
}

/// Trainings that trials of a later axis share run beside each other, after what all need.
#[test]
fn what_some_trials_share_runs_in_waves() {
    let environment = environment("axes: {lr: [1.0e-3, 1.0e-2], ratio: [1, 2]}\nslurm: {cpus: 1}");
    let scripts = environment.succeed(&["sweep", "sweep.yaml", "--on", "slurm", "--dry-run"]);
    scripts
        .prints("# shared: ")
        .prints("# shared-2: ")
        .prints("# trials: ")
        .prints("afterany:JOB_OF_SHARED:JOB_OF_SHARED_2");
    let arrays: Vec<&str> = scripts
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("#SBATCH --array="))
        .collect();
    assert_eq!(arrays, ["0-0", "0-1", "0-3"]);
    environment.succeed(&["sweep", "sweep.yaml", "--on", "local"]);
    wait_until(|| environment.json(&["sweep", "status", "sweep.yaml"])["done"] == 4);
    let mut count = BTreeMap::<String, usize>::new();
    for name in runs(&environment).iter().flat_map(ran) {
        *count
            .entry(name.split('#').next().unwrap().to_owned())
            .or_default() += 1;
    }
    let once = [
        ("raw", 1),
        ("scaled", 1),
        ("windows", 1),
        ("model", 2),
        ("scores", 2),
        ("metrics", 4),
    ];
    let once = once.map(|(name, times)| (name.to_owned(), times));
    assert_eq!(count, BTreeMap::from(once));
}

/// What was submitted is what runs, and its log is found, whatever becomes of the files meanwhile.
#[test]
fn files_may_change_once_a_sweep_is_submitted() {
    let environment = environment("axes: {lr: [1.0e-3]}\nslurm: {cpus: 1, setup: [sleep 2]}");
    environment.succeed(&["sweep", "sweep.yaml", "--on", "local"]);
    environment.write("pipeline.yaml", "stages: {}\n");
    wait_until(|| {
        environment
            .files("cache/v1/sweeps")
            .iter()
            .any(|path| path.ends_with("trials.0.rc"))
    });
    environment.write("pipeline.yaml", PIPELINE);
    assert_eq!(
        environment.json(&["sweep", "status", "sweep.yaml"])["done"],
        1
    );
    let edited = environment
        .read("sweep.yaml")
        .replace("[1.0e-3]", "[1.0e-4, 1.0e-3]");
    environment.write("sweep.yaml", edited);
    environment
        .run(&["sweep", "logs", "sweep.yaml", "1"])
        .expect(1)
        .says("no log of trial 1");
    environment
        .succeed(&["sweep", "logs", "sweep.yaml", "2"])
        .prints("model");
    environment
        .run(&["sweep", "logs", "sweep.yaml", "3"])
        .expect(2)
        .says("there are trials 1 to 2");
}

/// A submission lies in the store, whatever links stand in its way.
#[test]
fn a_submission_is_written_through_no_link() {
    let environment = environment("axes: {lr: [1.0e-3]}\nslurm: {cpus: 1, setup: [sleep 1000]}");
    environment.write("victim/doc", "precious");
    environment.succeed(&["sweep", "sweep.yaml", "--on", "local"]);
    environment.succeed(&["sweep", "cancel", "sweep.yaml"]);
    let units = environment
        .files("cache/v1/sweeps")
        .into_iter()
        .find(|path| path.ends_with("units.json"))
        .unwrap();
    let sweep = units.parent().and_then(Path::parent).unwrap();
    std::fs::remove_dir_all(sweep).unwrap();
    std::os::unix::fs::symlink(environment.path("victim"), sweep).unwrap();
    environment.succeed(&["sweep", "status", "sweep.yaml"]);
    environment.succeed(&["sweep", "sweep.yaml", "--on", "local"]);
    environment.succeed(&["sweep", "cancel", "sweep.yaml"]);
    assert_eq!(
        environment.files("victim").len(),
        1,
        "{:?}",
        environment.files("victim")
    );
    assert!(sweep.symlink_metadata().unwrap().is_dir());
    // Nor is a link followed that stands for all submissions.
    std::fs::remove_dir_all(environment.path("cache/v1/sweeps")).unwrap();
    std::os::unix::fs::symlink(
        environment.path("victim"),
        environment.path("cache/v1/sweeps"),
    )
    .unwrap();
    environment
        .run(&["sweep", "sweep.yaml", "--on", "local"])
        .expect(1)
        .says("nothing in a store is followed");
    assert_eq!(environment.files("victim").len(), 1);
}

/// Nodes of a cluster may compute in another numeric class than the host that asks what became of a sweep.
#[test]
fn results_of_another_numeric_class_count() {
    let mut environment = environment("axes: {lr: [1.0e-3, 1.0e-2]}\nslurm: {cpus: 1}");
    environment.set("RUNNER_SIMD", "baseline");
    environment.succeed(&["sweep", "sweep.yaml", "--on", "local"]);
    wait_until(|| environment.json(&["sweep", "status", "sweep.yaml"])["done"] == 2);
    let table = environment.json(&["sweep", "table", "sweep.yaml"]);
    environment.unset("RUNNER_SIMD");
    assert_eq!(environment.json(&["sweep", "table", "sweep.yaml"]), table);
    environment
        .succeed(&["sweep", "sweep.yaml", "--on", "local"])
        .prints("nothing to submit");
}

/// A task does not do the work of another job with less than that one has, and one that would begin anew for ever says so.
#[test]
fn a_task_keeps_to_what_it_has() {
    let environment = environment(
        "axes: {ratio: [1, 2]}\nslurm: {cpus: 1, setup: [sleep 1000], stages: {model: {memory: 3 GiB}}}\ntargets: [slow]",
    );
    let started = environment.path("started");
    let slow = format!(
        "  slow: {{uses: command, from: raw, with: {{run: [sh, -c, 'touch {} && sleep 100'], outputs: {{o: {{path: o}}}}}}}}\n",
        started.display()
    );
    environment.write("pipeline.yaml", format!("{PIPELINE}{slow}"));
    let submitted = environment.json(&["sweep", "sweep.yaml", "--on", "local"]);
    environment.succeed(&["sweep", "cancel", "sweep.yaml"]);
    let folder = environment
        .files("cache/v1/sweeps")
        .into_iter()
        .find(|path| path.ends_with("units.json"))
        .unwrap();
    let folder = folder.parent().unwrap().to_str().unwrap();
    assert!(folder.ends_with(submitted["submission"].as_str().unwrap()));
    let task = |part| {
        [
            "sweep",
            "work",
            "--folder",
            folder,
            "--part",
            part,
            "--threads",
            "1",
            "0",
        ]
    };
    let failed = environment.run(&task("trials")).expect(1);
    failed.says("trial 1 is left out: `model` asks for 3.0 GiB of memory, and this task for none");
    environment.succeed(&["run", "pipeline.yaml", "--target", "scores", "--quiet"]);
    let mut running = environment.spawn(&task("shared"));
    assert!(running.wait_until(|| started.exists()));
    running.warn();
    running
        .wait()
        .expect(1)
        .says("has kept nothing from which it can continue");
}

/// By its file, a sweep's results go to a remote and come from it, and what its tasks do goes there by itself.
#[test]
fn results_of_a_sweep_are_shared() {
    let environment = environment("axes: {lr: [1.0e-3, 1.0e-2]}\nslurm: {cpus: 1}");
    let [pushed, through] =
        ["pushed", "through"].map(|name| format!("file://{}", environment.path(name).display()));
    environment.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    let sent = environment.json(&["cache", "push", "sweep.yaml", "--remote", &pushed]);
    assert_eq!(sent["actions"], 3 + 3 * 2);
    environment.succeed(&[
        "cache",
        "pull",
        "sweep.yaml",
        "--store",
        "other",
        "--remote",
        &pushed,
    ]);
    let done = |store: &str, remote: &str| {
        environment.json(&[
            "sweep",
            "status",
            "sweep.yaml",
            "--store",
            store,
            "--remote",
            remote,
        ])["done"]
            .clone()
    };
    assert_eq!(done("other", "off"), 2);
    environment.succeed(&["cache", "verify", "--store", "other"]);

    environment.succeed(&[
        "sweep",
        "sweep.yaml",
        "--on",
        "local",
        "--store",
        "third",
        "--remote",
        &through,
    ]);
    wait_until(|| done("third", "off") == 2);
    wait_until(|| done("fourth", &through) == 2);
}

/// Records of runs that are too old go; what a sweep on a cluster came to stays.
#[test]
fn results_of_a_sweep_are_no_garbage() {
    let environment = environment("axes: {lr: [1.0e-3, 1.0e-2]}\nslurm: {cpus: 1}");
    environment.succeed(&["sweep", "sweep.yaml", "--on", "local"]);
    let done = || environment.json(&["sweep", "status", "sweep.yaml"])["done"] == 2;
    wait_until(done);
    wait_until(|| environment.json(&["sweep", "status", "sweep.yaml"])["tasks"]["running"] == 0);
    environment
        .succeed(&["cache", "gc", "--max-age", "1 ms", "--verbose"])
        .prints("kept for sweeps");
    assert!(done(), "collected");
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed().as_secs() < 120, "waited too long");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
