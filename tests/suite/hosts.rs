//! Several hosts on one shared folder. A host here is a set of namespaces (process ids, host name, network, mounts) around
//! the real program: to the others its processes are invisible, as those of another machine are. Where these cannot be made,
//! these tests say that they are skipped; with `RUNNER_REQUIRE_SERVERS` set they fail, unless the system forbids namespaces
//! altogether.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::environment::{Running, TestEnvironment, program};
use crate::pipelines::{LONG_TRAINING, SMALL, SMALL_STAGES};
use crate::store::{digests, in_state, ran, runs};

/// A lease that was touched up to five seconds before its holder died holds for so long after that at least.
const SURE: Duration = Duration::from_secs(24);

/// The options of `unshare` that make a host, if the system allows it.
fn host_options() -> Option<Vec<&'static str>> {
    let host = [
        "--uts",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let as_root: Vec<&str> = host.to_vec();
    let as_user: Vec<&str> = ["--user", "--map-root-user"]
        .into_iter()
        .chain(host)
        .collect();
    let found = [as_root, as_user]
        .into_iter()
        .find(|options| refusal(options).is_none());
    if found.is_none() {
        skip(
            &refusal(&["--user"]).unwrap_or_default(),
            &refusal(&host).unwrap_or_default(),
        );
    }
    found
}

/// Why `unshare` does not work with these options, if it does not.
fn refusal(options: &[&str]) -> Option<String> {
    // Only a host has a name of its own to set.
    let tried = if options.contains(&"--uts") {
        "hostname tried"
    } else {
        "true"
    };
    match Command::new("unshare")
        .args(options)
        .args(["sh", "-c", tried])
        .output()
    {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!(
            "unshare (of util-linux) cannot be started: {error}"
        )),
    }
}

/// `alone` is why not so much as a namespace for users can be made: then the kernel or a container forbids all of them, and
/// nothing can be done about it from here. What else is missing, as `whole` says, can be had.
fn skip(alone: &str, whole: &str) {
    const FORBIDDEN: [&str; 5] = [
        "Operation not permitted",
        "Permission denied",
        "No space left",
        "not implemented",
        "Invalid argument",
    ];
    if FORBIDDEN.iter().any(|said| alone.contains(said)) {
        eprintln!(
            "SKIPPED: this system forbids namespaces, so no host can be made of them: {alone}"
        );
        return;
    }
    let is_required = std::env::var_os("RUNNER_REQUIRE_SERVERS").is_some();
    assert!(!is_required, "no host can be made of namespaces: {whole}");
    eprintln!("SKIPPED: no host can be made of namespaces: {whole}");
}

/// Starts the program on a host of this name.
fn spawn_on(
    environment: &TestEnvironment,
    options: &[&str],
    host: &str,
    arguments: &[&str],
) -> Running {
    let like = environment.command(arguments);
    let mut command = Command::new("unshare");
    command
        .args(options)
        .args(["sh", "-c", "hostname \"$0\" && exec \"$@\"", host])
        .arg(program())
        .args(arguments);
    command.current_dir(environment.folder()).env_clear();
    command.envs(
        like.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    environment.start(command)
}

#[test]
fn two_hosts_share_the_work_of_one_folder() {
    let Some(options) = host_options() else {
        return;
    };
    for _ in 0..3 {
        let environment = TestEnvironment::with_pipeline(SMALL);
        let hosts = ["one", "one", "two", "two"];
        let running: Vec<Running> = hosts
            .into_iter()
            .map(|host| {
                spawn_on(
                    &environment,
                    &options,
                    host,
                    &["run", "--quiet", "pipeline.yaml"],
                )
            })
            .collect();
        for process in running {
            process.wait().expect(0);
        }
        let records = runs(&environment);
        assert_eq!(records.len(), hosts.len());
        let mut executions: BTreeMap<String, usize> = BTreeMap::new();
        for record in &records {
            assert_eq!(digests(record), digests(&records[0]));
            ran(record)
                .into_iter()
                .for_each(|stage| *executions.entry(stage).or_default() += 1);
        }
        let once: BTreeMap<String, usize> = SMALL_STAGES
            .iter()
            .map(|stage| ((*stage).to_owned(), 1))
            .collect();
        assert_eq!(executions, once, "no stage runs twice");
        environment.succeed(&["cache", "verify"]);
        assert_eq!(
            environment.files("cache/v1/leases"),
            Vec::<std::path::PathBuf>::new()
        );
    }
}

/// What one host works on, others read past.
#[test]
fn no_reader_waits_for_another_host() {
    let Some(options) = host_options() else {
        return;
    };
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    let run = ["run", "--quiet", "pipeline.yaml", "--set", "epochs=4000"];
    let mut working = spawn_on(&environment, &options, "one", &run);
    assert!(
        working.wait_until(|| !environment.files("cache/v1/checkpoints").is_empty()),
        "it ended too soon"
    );
    for arguments in [
        &["plan", "pipeline.yaml"][..],
        &["show"],
        &["runs"],
        &["cache", "stats"],
        &["cache", "verify"],
    ] {
        spawn_on(&environment, &options, "two", arguments)
            .wait()
            .expect(0);
    }
    let hits = spawn_on(
        &environment,
        &options,
        "two",
        &["run", "--quiet", "pipeline.yaml", "--target", "windows"],
    );
    hits.wait().expect(0);
    // Whoever waited for the other host would still wait.
    assert!(
        !working.has_ended(),
        "the other host was working all the time"
    );
    assert_eq!(
        in_state(&environment.latest(), "hit"),
        ["raw", "scaled", "windows"]
    );
    working.kill();
}

/// Nobody can see from here that a process of another host is dead. Its lease has to expire, and not before.
#[test]
fn the_lease_of_a_host_that_is_gone_expires() {
    let Some(options) = host_options() else {
        return;
    };
    let environment = TestEnvironment::with_pipeline(LONG_TRAINING);
    let mut gone = spawn_on(
        &environment,
        &options,
        "one",
        &["run", "--quiet", "pipeline.yaml", "--set", "epochs=4000"],
    );
    // The stages before the training keep their leases until they are published, which may take longer than an epoch.
    let only_trains = || {
        !environment.files("cache/v1/checkpoints").is_empty()
            && environment.files("cache/v1/leases").len() == 1
    };
    assert!(gone.wait_until(only_trains), "it ended too soon");
    gone.kill();
    gone.wait().expect_killed();
    let left = Instant::now();
    let held = environment.files("cache/v1/leases");
    let [lease] = &held[..] else {
        panic!("one lease is left behind: {held:?}")
    };
    let holder = fs::read(lease).unwrap();
    let run = [
        "run",
        "pipeline.yaml",
        "--set",
        "epochs=4000",
        "--target",
        "model",
    ];
    let mut waiting = spawn_on(&environment, &options, "two", &run);
    let taken_over = || fs::read(lease).is_ok_and(|now| !now.is_empty() && now != holder);
    assert!(waiting.wait_until(taken_over), "it ended without the lease");
    assert!(left.elapsed() > SURE, "it did not respect the lease");
    let before = environment.files("cache/v1/checkpoints").len();
    let goes_on = || environment.files("cache/v1/checkpoints").len() > before;
    assert!(waiting.wait_until(goes_on), "it ended without a step");
    waiting.kill();
    let finished = waiting.wait();
    finished
        .says("another process is working on it")
        .says("training continues after");
}
