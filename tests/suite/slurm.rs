//! Sweeps on a real Slurm cluster of several nodes on this machine: whatever happens to nodes, jobs and the controller, the
//! sweep ends with every result once. Without Slurm these tests say that they were skipped; `RUNNER_REQUIRE_SERVERS`
//! makes that a failure.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::TestEnvironment;
use crate::store::{ran, runs};

/// A node that is lost is noticed within half a minute.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Trainings of some seconds, one for each trial.
const PIPELINE: &str = "pipeline: small
seed: 7
params: {epochs: 40, lr: 1.0e-3}
stages:
  raw:
    uses: generate
    with: {channels: 6, day: 48, rows: {train: 600, validation: 120, calibration: 120, test: 300}}
  scaled: {uses: normalize, from: raw}
  windows: {uses: window, from: scaled, with: {length: 32}}
  model:
    uses: train
    from: windows
    with:
      model: {kind: tvnet-recon, patch: 8, blocks: 1}
      epochs: \"${epochs}\"
      batch: 64
      optimizer: {kind: adam, lr: \"${lr}\"}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics:
    uses: evaluate
    from: scores
    with: {threshold: {kind: quantile, anomaly_ratio: 2}, metrics: [f1, roc_auc]}
";

const SWEEP: &str = "sweep: test
pipeline: pipeline.yaml
axes: {lr: [1.0e-5, 1.0e-4, 1.0e-3, 1.0e-2]}
objective: {stage: metrics, metric: roc_auc}
slurm: {cpus: 1}
";

/// The first of so many consecutive ports that nobody listens on. The search starts where the system would give one.
fn free_ports(count: usize) -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = listener.local_addr().unwrap().port();
        let Ok(last) = u16::try_from(usize::from(first) + count) else {
            continue;
        };
        if (first + 1..=last).all(is_free) {
            return first + 1;
        }
    }
}

/// A cluster for one test; it goes with it.
struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start(nodes: usize) -> Option<Self> {
        let is_there = |program: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
            folders
                .into_iter()
                .any(|folder| folder.join(program).exists())
        };
        if !["sbatch", "slurmctld", "slurmd", "munged"]
            .into_iter()
            .all(is_there)
        {
            assert!(
                std::env::var_os("RUNNER_REQUIRE_SERVERS").is_none(),
                "Slurm is not installed"
            );
            eprintln!("SKIPPED: Slurm is not installed");
            return None;
        }
        // The path of a socket must be short.
        let cluster = Self {
            folder: tempfile::Builder::new()
                .prefix("sl")
                .tempdir_in("/tmp")
                .unwrap(),
        };
        let port = free_ports(nodes + 1);
        cluster.script(&["up"], &[&nodes.to_string(), &port.to_string()]);
        Some(cluster)
    }

    fn script(&self, verb: &[&str], rest: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/slurm-cluster.sh");
        let mut command = Command::new(script);
        command.args(verb).arg(self.folder.path()).args(rest);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn kill(&self, what: &str) {
        self.script(&["kill"], &[what]);
    }

    fn revive(&self, what: &str) {
        self.script(&["start"], &[what]);
    }

    fn environment(&self, sweep: &str) -> TestEnvironment {
        let mut environment = TestEnvironment::new();
        environment.set(
            "SLURM_CONF",
            self.folder.path().join("slurm.conf").display().to_string(),
        );
        environment.write("pipeline.yaml", PIPELINE);
        environment.write("sweep.yaml", sweep);
        environment
    }

    /// A task that was put back into the queue waits for two minutes, unless it is told otherwise. This goes on for a quarter of
    /// a minute, or until so many tasks run. At first it waits: the end of a task that is told after its next start would be
    /// taken for the end of that.
    fn hurry(&self, tasks: usize) {
        std::thread::sleep(Duration::from_secs(5));
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(500));
            if self
                .squeue(&["--states=RUNNING", "--format=%A"])
                .split_whitespace()
                .count()
                >= tasks
            {
                return;
            }
            for job in self
                .squeue(&["--states=PENDING", "--format=%A"])
                .split_whitespace()
            {
                let mut command = Command::new("scontrol");
                command.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
                let _ = command
                    .args(["update", &format!("jobid={job}"), "StartTime=now"])
                    .output();
            }
        }
    }

    /// What an administrator does: a task that a node failed to launch, since it had only just come back, is held by Slurm
    /// until somebody releases it.
    fn release_held(&self) {
        for line in self.squeue(&["--states=PENDING", "--format=%A %r"]).lines() {
            let Some((job, reason)) = line.split_once(' ') else {
                continue;
            };
            if reason.contains("held") {
                let mut command = Command::new("scontrol");
                command.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
                let _ = command.args(["release", job]).output();
            }
        }
    }

    /// Whether the nodes take new tasks.
    fn let_in(&self, is_open: bool) {
        let state = if is_open {
            "state=resume"
        } else {
            "state=drain"
        };
        let mut command = Command::new("scontrol");
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
        command.args(["update", "nodename=ALL", state, "reason=test"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn squeue(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("squeue");
        command
            .env("SLURM_CONF", self.folder.path().join("slurm.conf"))
            .arg("--noheader")
            .args(arguments);
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/slurm-cluster.sh");
        let _ = Command::new(script)
            .arg("down")
            .arg(self.folder.path())
            .status();
    }
}

fn wait_until(environment: &TestEnvironment, what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > PATIENCE {
            let logs = environment
                .run(&["sweep", "logs", "sweep.yaml", "1"])
                .stdout;
            let status = environment.run(&["sweep", "status", "sweep.yaml"]).stdout;
            panic!("waited too long until {what}\n{status}\n{logs}");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn status(environment: &TestEnvironment) -> Value {
    environment.json(&["sweep", "status", "sweep.yaml"])
}

fn wait_for_the_end(environment: &TestEnvironment, trials: u64) {
    wait_until(environment, "all trials are done", || {
        status(environment)["done"] == trials
    });
}

/// Every stage was executed once in all runs together, and the results are those of one process.
fn assert_each_result_once(environment: &TestEnvironment) {
    let mut executed: Vec<String> = runs(environment).iter().flat_map(ran).collect();
    executed.sort();
    let models = executed
        .iter()
        .filter(|name| name.starts_with("model"))
        .count();
    let shared = executed
        .iter()
        .filter(|name| ["raw", "scaled", "windows"].contains(&name.as_str()))
        .count();
    assert_eq!((models, shared), (4, 3), "{executed:?}");
    assert_same_figures(environment);
    environment.succeed(&["cache", "verify"]);
}

fn figures(environment: &TestEnvironment) -> Vec<(Value, Value)> {
    let board = environment.json(&["sweep", "table", "sweep.yaml"]);
    board["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["trial"].clone(), row["mean"].clone()))
        .collect()
}

fn assert_same_figures(environment: &TestEnvironment) {
    let straight = TestEnvironment::new();
    straight.write("pipeline.yaml", environment.read("pipeline.yaml"));
    straight.write("sweep.yaml", environment.read("sweep.yaml"));
    straight.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    assert_eq!(figures(environment), figures(&straight));
}

/// The page of the only sweep as `runner ui` serves it, once it is as it should be.
fn page_of_the_sweep(environment: &TestEnvironment, is_right: impl Fn(&str) -> bool) -> String {
    let mut command = environment.command(&["ui", "--port", "0", "--json"]);
    command.stdout(std::process::Stdio::piped());
    let mut server = command.spawn().unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let (root, token) = told["address"]
        .as_str()
        .unwrap()
        .split_once("/?token=")
        .unwrap();
    let cookie = format!("runner-{}={token}", &token[..8]);
    let get = |path: &str| {
        let answer = ureq::get(format!("{root}{path}"))
            .header("cookie", &cookie)
            .call();
        answer.unwrap().body_mut().read_to_string().unwrap()
    };
    let mut page = String::new();
    wait_until(environment, "the page of the sweep", || {
        let list = get("/sweeps");
        let Some((_, link)) = list.split_once("href=\"/sweep?") else {
            return false;
        };
        let query = link.split('"').next().unwrap().replace("&amp;", "&");
        page = get(&format!("/sweep?{query}"));
        is_right(&page)
    });
    if let Some(place) = std::env::var_os("RUNNER_SCREENSHOTS") {
        let name = if page.contains("4 done") {
            "slurm-end.html"
        } else {
            "slurm-queue.html"
        };
        std::fs::write(std::path::Path::new(&place).join(name), &page).unwrap();
    }
    server.kill().unwrap();
    server.wait().unwrap();
    page
}

#[test]
fn a_sweep_runs_as_jobs_and_is_issued_again_for_nothing() {
    let Some(cluster) = Cluster::start(4) else {
        return;
    };
    let environment = cluster.environment(SWEEP);
    let dry = environment
        .succeed(&["sweep", "sweep.yaml", "--on", "slurm", "--dry-run"])
        .stdout;
    for line in [
        "#SBATCH --array=0-3",
        "#SBATCH --dependency=afterany:JOB_OF_SHARED",
        "#SBATCH --cpus-per-task=1",
    ] {
        assert!(dry.contains(line), "{line} in {dry}");
    }
    // While the node takes nothing, all that there is to see is the queue.
    cluster.let_in(false);
    let submitted = environment.json(&["sweep", "sweep.yaml", "--on", "slurm"]);
    assert_eq!(submitted["members"].as_array().unwrap().len(), 4);
    let seen = page_of_the_sweep(&environment, |page| page.contains("Queue"));
    assert!(
        seen.contains(" task ") && seen.contains("waiting"),
        "{seen}"
    );
    cluster.let_in(true);
    environment
        .succeed(&["sweep", "sweep.yaml", "--on", "slurm"])
        .prints("nothing to submit: ");
    wait_for_the_end(&environment, 4);
    assert_each_result_once(&environment);
    page_of_the_sweep(&environment, |page| page.contains("4 trials: 4 done"));
    environment
        .succeed(&["sweep", "sweep.yaml", "--on", "slurm"])
        .prints("4 trials: 4 done");
    environment
        .succeed(&["sweep", "logs", "sweep.yaml", "2"])
        .prints("model");

    // A partition that is not there, before anything is written.
    let text = environment
        .read("sweep.yaml")
        .replace("{cpus: 1}", "{partition: gpu}")
        .replace("1.0e-5, ", "");
    environment.write("sweep.yaml", text.replace("1.0e-2]", "2.0e-2]"));
    environment
        .run(&["sweep", "sweep.yaml", "--on", "slurm"])
        .expect(1)
        .says("Slurm has no partition `gpu`")
        .says("main");
}

#[test]
fn a_lost_node_and_a_controller_that_starts_again_cost_time_only() {
    let Some(cluster) = Cluster::start(3) else {
        return;
    };
    let environment = cluster.environment(&SWEEP.replace("lr:", "epochs: [150], lr:"));
    environment.succeed(&["sweep", "sweep.yaml", "--on", "slurm"]);
    wait_until(&environment, "trainings are under way", || {
        epochs(&environment) > 10
    });
    cluster.kill("n1");
    cluster.kill("slurmctld");
    std::thread::sleep(Duration::from_secs(1));
    cluster.revive("slurmctld");
    cluster.revive("n1");
    cluster.hurry(usize::MAX);
    // A controller that died may have forgotten its youngest jobs; what they left undone is missing, and nothing else.
    environment.succeed(&["sweep", "sweep.yaml", "--on", "slurm"]);
    wait_until(&environment, "all trials are done", || {
        cluster.release_held();
        status(&environment)["done"] == 4
    });
    // A task that was lost right after its stage was published may have done it again.
    assert_same_figures(&environment);
    environment.succeed(&["cache", "verify"]);
}

#[test]
fn a_task_whose_time_is_up_goes_on_to_the_same_bits() {
    let Some(cluster) = Cluster::start(2) else {
        return;
    };
    let environment = cluster.environment(&SWEEP.replace(
        "lr: [1.0e-5, 1.0e-4, 1.0e-3, 1.0e-2]",
        "epochs: [800], lr: [1.0e-3]",
    ));
    environment.succeed(&["sweep", "sweep.yaml", "--on", "slurm"]);
    wait_until(&environment, "the training is under way", || {
        epochs(&environment) > 5
    });
    // What Slurm sends before the end of the time limit, and when others need the node.
    for (signal, times) in [("USR1", 1), ("TERM", 2)] {
        let running = || cluster.squeue(&["--states=RUNNING", "--format=%A"]);
        wait_until(&environment, "the training goes on", || {
            let log = environment
                .run(&["sweep", "logs", "sweep.yaml", "1"])
                .stdout;
            !running().trim().is_empty()
                && log.matches("training continues inside epoch").count() == times - 1
        });
        let mut command = Command::new("scancel");
        command.env("SLURM_CONF", cluster.folder.path().join("slurm.conf"));
        let sent = command
            .args(["--batch", &format!("--signal={signal}"), running().trim()])
            .status()
            .unwrap();
        assert!(sent.success());
        wait_until(&environment, "the task is told to wait again", || {
            let log = environment
                .run(&["sweep", "logs", "sweep.yaml", "1"])
                .stdout;
            log.matches("goes back into the queue").count() == times
                && log.matches("training stopped inside epoch").count() == times
        });
        cluster.hurry(1);
    }
    wait_for_the_end(&environment, 1);
    assert_same_figures(&environment);
}

#[test]
fn failed_trials_are_told_and_cancelled_ones_can_be_issued_again() {
    let Some(cluster) = Cluster::start(2) else {
        return;
    };
    let environment = cluster.environment(&SWEEP.replace("1.0e-2]", "1.0e+30]"));
    environment.succeed(&["sweep", "sweep.yaml", "--on", "slurm"]);
    wait_until(&environment, "three are done and one has failed", || {
        let status = status(&environment);
        status["done"] == 3 && status["failed"] == 1
    });
    let told = status(&environment)["failures"][0].to_string();
    assert!(told.contains("loss became"), "{told}");

    let environment = cluster.environment(&SWEEP.replace("lr:", "epochs: [100000], lr:"));
    environment.succeed(&["sweep", "sweep.yaml", "--on", "slurm"]);
    wait_until(&environment, "trainings are under way", || {
        epochs(&environment) > 5
    });
    environment
        .succeed(&["sweep", "cancel", "sweep.yaml"])
        .prints("cancelled");
    wait_until(&environment, "nothing is in the queue", || {
        status(&environment)["tasks"] == serde_json::json!({"waiting": 0, "running": 0})
    });
    let kept = epochs(&environment);
    assert!(status(&environment)["missing"].as_u64().unwrap() >= 1);
    environment
        .succeed(&["sweep", "sweep.yaml", "--on", "slurm"])
        .prints("submitted");
    wait_until(&environment, "trainings go on", || {
        epochs(&environment) > kept + 3
    });
    environment.succeed(&["sweep", "cancel", "sweep.yaml"]);
}

/// Stages that trials share fail once, not once for each trial.
#[test]
fn a_failing_shared_stage_is_not_tried_by_every_trial() {
    let Some(cluster) = Cluster::start(2) else {
        return;
    };
    let mut environment = cluster.environment(&SWEEP.replace("slurm:", "targets: [guard]\nslurm:"));
    let guard = "  guard:
    uses: command
    from: raw
    with: {run: [sh, -c, \"echo tried >> $TRIES; exit 1\"], pass_env: [TRIES], outputs: {o: {path: o}}}
";
    environment.write("pipeline.yaml", format!("{PIPELINE}{guard}"));
    // Its value enters the key: whoever asks about the sweep must see it, too.
    let tries = environment.path("tries").display().to_string();
    environment.set("TRIES", tries);
    environment.succeed(&["sweep", "sweep.yaml", "--on", "slurm"]);
    wait_until(&environment, "every trial has failed", || {
        status(&environment)["failed"] == 4
    });
    wait_until(&environment, "nothing is in the queue", || {
        status(&environment)["tasks"]["running"] == 0
    });
    assert_eq!(environment.read("tries").lines().count(), 1);
}

/// Epochs that trainings of this store have come to, all together.
fn epochs(environment: &TestEnvironment) -> u64 {
    let mut newest: std::collections::BTreeMap<std::path::PathBuf, u64> =
        std::collections::BTreeMap::new();
    for path in environment.files("cache/v1/checkpoints") {
        let step: Option<u64> = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.split_once('-')?.0.parse().ok());
        let known = newest.entry(path.parent().unwrap().to_owned()).or_default();
        *known = step.unwrap_or(0).max(*known);
    }
    newest.into_values().sum()
}
