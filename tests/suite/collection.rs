//! Collections of garbage beside runs: the runs end well, and every action that is left has its objects. Also where hosts
//! disagree about the time.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::environment::{Finished, Running, TestEnvironment};
use crate::store::open;

/// Stages that come to the same content under different keys, and one that takes from all of them.
const EQUAL: &str = "pipeline: equal
params: {n: 0}
stages:
  raw: {uses: generate, with: {channels: 2, day: 24, rows: {train: 100, validation: 40, calibration: 40, test: 80}}}
  one: {uses: command, foreach: {i: [1, 2, 3, 4, 5, 6, 7, 8]}, with: {run: [sh, -c, \"echo same > {out.x}; : ${n} ${i}\"], outputs: {x: {path: x.txt}}}}
  all: {uses: command, from: {in: one}, with: {run: [sh, -c, \"cat {in.in}/* > {out.y}\"], outputs: {y: {path: y.txt}}}}
";

/// Chains that come to the same content under different keys in every run, so that each object is garbage one moment and the input of
/// a program the next.
const CHAINS: &str = "pipeline: chains
params: {n: 0}
stages:
  a: {uses: command, foreach: {i: [1, 2, 3]}, with: {run: [sh, -c, \"echo same > {out.x}; : ${n} ${i}\"], outputs: {x: {path: x.txt}}}}
  b: {uses: command, from: {in: a}, with: {run: [sh, -c, \"cat {in.in}/* > {out.x}; : ${n}\"], outputs: {x: {path: x.txt}}}}
  c: {uses: command, from: {in: b}, with: {run: [sh, -c, \"cat {in.in}/* > {out.x}; : ${n}\"], outputs: {x: {path: x.txt}}}}
  d: {uses: command, from: {in: c}, with: {run: [sh, -c, \"cat {in.in}/* > {out.x}; : ${n}\"], outputs: {x: {path: x.txt}}}}
";

/// Runs so many rounds of two processes beside a third one that collects without a pause.
fn beside_runs(pipeline: &str, rounds: usize, collect: &dyn Fn(&TestEnvironment) -> Command) {
    for round in 0..rounds {
        let environment = TestEnvironment::with_pipeline(pipeline);
        let mut failed: Vec<String> = Vec::new();
        for part in 0..3 {
            let start = |process: usize| {
                let set = format!("n={round}{process}{part}");
                environment.spawn(&["run", "--quiet", "pipeline.yaml", "--set", &set])
            };
            let mut running: Vec<Running> = (0..2).map(start).collect();
            while running.iter_mut().any(|run| !run.has_ended()) {
                let collected = environment.start(collect(&environment)).wait();
                failed.extend((collected.code() != Some(0)).then(|| collected.describe()));
            }
            let ended = running
                .into_iter()
                .map(Running::wait)
                .filter(|run| run.code() != Some(0));
            failed.extend(ended.map(|run: Finished| run.describe()));
        }
        assert!(failed.is_empty(), "round {round}:\n{}", failed.join("\n"));
        let verified = environment.run(&["cache", "verify"]);
        assert_eq!(
            verified.code(),
            Some(0),
            "round {round}: {}",
            verified.describe()
        );
        let left = environment.files("cache/v1/trash");
        assert!(
            left.is_empty() && environment.files("cache/v1/leases").is_empty(),
            "{left:?}"
        );
    }
}

#[test]
fn runs_beside_a_collection_that_spares_nothing_end_well() {
    beside_runs(EQUAL, 6, &|environment| {
        environment.command(&["cache", "gc", "--max-size", "1 B"])
    });
}

/// What goes while it is looked for is not damaged.
#[test]
fn a_verification_beside_a_collection_finds_no_damage() {
    for round in 0..6 {
        let environment = TestEnvironment::with_pipeline(EQUAL);
        for n in ["1", "2"] {
            environment.succeed(&[
                "run",
                "--quiet",
                "pipeline.yaml",
                "--set",
                &format!("n={n}"),
            ]);
        }
        let collect =
            environment.command(&["cache", "gc", "--max-size", "1 B", "--max-age", "1 ms"]);
        let collecting = environment.start(collect);
        let verified = environment.run(&["cache", "verify"]);
        collecting.wait().expect(0);
        assert_eq!(
            verified.code(),
            Some(0),
            "round {round}: {}",
            verified.describe()
        );
    }
}

#[test]
fn programs_find_their_inputs_beside_a_collection() {
    beside_runs(CHAINS, 6, &|environment| {
        environment.command(&["cache", "gc", "--max-size", "1 B"])
    });
}

#[test]
fn runs_beside_a_collection_that_forgets_everything_end_well() {
    beside_runs(EQUAL, 4, &|environment| {
        environment.command(&["cache", "gc", "--max-age", "1 ms"])
    });
}

/// A library that sets the clock of a process on, as that of another host may be; `None` without a compiler.
fn faulty_clock(environment: &TestEnvironment) -> Option<PathBuf> {
    let source = "#define _GNU_SOURCE
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
  int result = syscall(SYS_clock_gettime, clock, time);
  if (clock == CLOCK_REALTIME) time->tv_sec += OFFSET;
  return result;
}
";
    environment.write("clock.c", source.replace("OFFSET", "100000"));
    let library = environment.path("clock.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(environment.path("clock.c"))
        .output();
    let is_built = built.is_ok_and(|output| output.status.success());
    if !is_built {
        eprintln!("SKIPPED: there is no C compiler");
    }
    is_built.then_some(library)
}

#[test]
fn a_collection_goes_by_the_clock_of_the_file_system() {
    let place = TestEnvironment::new();
    let Some(library) = faulty_clock(&place) else {
        return;
    };
    let ahead = |environment: &TestEnvironment, arguments: &[&str]| {
        let mut command = environment.command(arguments);
        command.env("LD_PRELOAD", &library);
        command
    };
    beside_runs(EQUAL, 3, &|environment| {
        ahead(environment, &["cache", "gc"])
    });
    // What is a minute old is not old, whatever the host says; nor is the work of others gone.
    let environment = TestEnvironment::with_pipeline(EQUAL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.write("cache/v1/tmp/elsewhere-1-2-3", "on its way");
    let orphan = environment.write("cache/v1/objects/00/11", "on its way, too");
    let collected = environment
        .start(ahead(
            &environment,
            &["cache", "gc", "--max-age", "1 h", "--json"],
        ))
        .wait()
        .expect(0);
    assert_eq!(
        collected.json()["removed"],
        serde_json::json!([]),
        "{}",
        collected.describe()
    );
    assert!(orphan.exists());
    let mut remote = TestEnvironment::with_pipeline(EQUAL);
    remote.set(
        "RUNNER_REMOTE",
        format!("file://{}", remote.path("shared").display()),
    );
    remote.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let gc = [
        "cache",
        "gc",
        "--on-remote",
        "--older-than",
        "1 h",
        "--store",
        "none",
        "--json",
    ];
    let collected = remote.start(ahead(&remote, &gc)).wait().expect(0);
    assert_eq!(
        collected.json()["removed"],
        serde_json::json!([]),
        "{}",
        collected.describe()
    );
}

/// A process that dies while it collects takes nothing with it.
#[test]
fn a_collection_that_is_killed_at_any_step_takes_nothing_along() {
    let environment = TestEnvironment::with_pipeline(EQUAL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "n=1"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let needed = environment.json(&["plan", "pipeline.yaml"]);
    // Of the first run nobody knows any more: its results go, those that it shares with the second stay.
    let runs = open(&environment).runs().unwrap();
    for step in 1.. {
        let _ = fs::remove_dir_all(environment.path(&format!("cache/v1/runs/{}", runs[0].0)));
        let mut command = environment.command(&["cache", "gc"]);
        command.env("RUNNER_CRASH_AT", step.to_string());
        let finished = environment.start(command).wait();
        if finished.code() == Some(0) {
            assert!(step > 10, "it has only {step} steps");
            break;
        }
        finished.expect_killed();
        let verified = environment.run(&["cache", "verify"]);
        assert_eq!(
            verified.code(),
            Some(0),
            "killed at step {step}: {}",
            verified.describe()
        );
        assert_eq!(
            hits(&environment.json(&["plan", "pipeline.yaml"])),
            hits(&needed),
            "killed at step {step}"
        );
    }
    assert_eq!(
        hits(&environment.json(&["plan", "pipeline.yaml"])),
        hits(&needed)
    );
    assert!(environment.files("cache/v1/trash").is_empty());
}

fn hits(plan: &Value) -> u64 {
    plan["hits"].as_u64().unwrap()
}

/// Environments of packages go when nothing has used them for long, and what a killed runner had begun to make.
#[test]
fn environments_that_nothing_uses_go() {
    let environment = TestEnvironment::with_pipeline(EQUAL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let now = std::time::SystemTime::now();
    for (name, days) in [("00aa", 1), ("00bb", 10), ("00cc", 100), ("00dd", 100)] {
        let place = format!("cache/v1/environments/{name}");
        environment.write(&format!("{place}/lib/x.py"), "1");
        // Nothing says that the last is whole.
        if name != "00dd" {
            environment.write(&format!("{place}/complete"), "");
        }
        let day = std::time::Duration::from_secs(24 * 3600);
        let folder = std::fs::File::open(environment.path(&place)).unwrap();
        folder.set_modified(now - days * day).unwrap();
    }
    let left = || {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(environment.path("cache/v1/environments")).unwrap() {
            names.push(entry.unwrap().file_name().into_string().unwrap());
        }
        names.sort();
        names
    };
    environment.succeed(&["cache", "gc"]);
    assert_eq!(left(), ["00aa", "00bb", "00dd"]);
    let told = environment.succeed(&["cache", "gc", "--max-age", "5 d", "--verbose"]);
    assert!(told.stdout.contains("environment"), "{}", told.describe());
    assert_eq!(left(), ["00aa", "00dd"]);
}
