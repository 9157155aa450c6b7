//! Runs that end before their time: the terminal goes away, or the process is killed.

use std::process::Command;

use rustix::process::Signal;

use crate::environment::{Running, TestEnvironment};

/// A stage that goes on until the run is asked to stop; it says when it has begun.
const ENDLESS: &str = "pipeline: endless\nstages:\n  it: {uses: command, with: {run: [sh, -c, \"touch $BEGUN; until test -e \
                       $BEGUN.end; do sleep 0.05; done\"], \
                       pass_env: [BEGUN], outputs: {o: {path: o}}}}\n";

fn begun() -> (TestEnvironment, Running) {
    let mut environment = TestEnvironment::with_pipeline(ENDLESS);
    let mark = environment.path("begun").display().to_string();
    environment.set("BEGUN", mark);
    let mut running = environment.start(hearing_hangups(&environment));
    assert!(running.wait_until(|| environment.path("begun").exists()));
    (environment, running)
}

/// A run that does not ignore SIGHUP, also where the tests were started by `nohup`.
fn hearing_hangups(environment: &TestEnvironment) -> Command {
    let run = environment.command(&["run", "--quiet", "pipeline.yaml"]);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    if ignored.is_none_or(|ignored| ignored & 1 == 0) {
        return run;
    }
    let mut hearing = Command::new("env");
    hearing
        .arg("--default-signal=HUP")
        .arg(run.get_program())
        .args(run.get_args());
    hearing.current_dir(environment.folder()).env_clear();
    hearing.envs(
        run.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    hearing
}

fn status(environment: &TestEnvironment) -> String {
    environment.json(&["runs"])["runs"][0]["status"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_run_whose_terminal_is_gone_ends_as_if_it_were_interrupted() {
    let (environment, running) = begun();
    assert_eq!(status(&environment), "running");
    // A shell and the system may both say so.
    running.signal(Signal::HUP);
    running.signal(Signal::HUP);
    running.wait().expect(130);
    assert_eq!(status(&environment), "interrupted");
    assert_eq!(
        environment.files("cache/v1/tmp").len() + environment.files("cache/v1/leases").len(),
        0
    );
}

#[test]
fn a_killed_run_does_not_seem_to_be_under_way() {
    let (environment, mut running) = begun();
    running.kill();
    running.wait().expect_killed();
    assert_eq!(status(&environment), "interrupted");
    environment.succeed(&["show"]).prints("interrupted");
    environment.write("begun.end", "");
}

/// Also if it left the program's group for a session of its own.
#[cfg(target_os = "linux")]
#[test]
fn nothing_that_a_program_has_started_outlives_a_killed_runner() {
    let mut environment = TestEnvironment::with_pipeline(
        "pipeline: busy\nstages:\n  it: {uses: command, with: {run: [sh, -c, \"setsid sh -c 'echo $$ > $MARK.inner; exec sleep \
         300' & echo $$ > $MARK.outer; wait; sleep 300\"], pass_env: [MARK], outputs: {o: {path: o}}}}\n",
    );
    let mark = environment.path("mark").display().to_string();
    environment.set("MARK", mark);
    let mut running = environment.spawn(&["run", "--quiet", "pipeline.yaml"]);
    let number = |name: &str| {
        std::fs::read_to_string(environment.path(name))
            .ok()?
            .trim()
            .parse::<u32>()
            .ok()
    };
    let mut numbers = Vec::new();
    for name in ["mark.inner", "mark.outer"] {
        assert!(running.wait_until(|| number(name).is_some()));
        numbers.extend(number(name));
    }
    running.kill();
    running.wait().expect_killed();
    let begun = std::time::Instant::now();
    while numbers
        .iter()
        .any(|number| runner::cache::process_start(*number).is_some())
    {
        assert!(begun.elapsed().as_secs() < 60, "one of {numbers:?} goes on");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn what_nohup_starts_goes_on_without_a_terminal() {
    let mut environment = TestEnvironment::with_pipeline(
        "pipeline: patient\nstages:\n  it: {uses: command, with: {run: [sh, -c, \"touch $MARK.begun; until test -e \
         $MARK.go; do sleep 0.01; done; echo 1 > {out.o}\"], pass_env: [MARK], outputs: {o: {path: o}}}}\n",
    );
    let mark = environment.path("mark").display().to_string();
    environment.set("MARK", mark);
    let run = environment.command(&["run", "--quiet", "pipeline.yaml"]);
    let mut nohup = Command::new("nohup");
    nohup
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(environment.folder())
        .env_clear();
    nohup.envs(
        run.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let mut running = environment.start(nohup);
    assert!(running.wait_until(|| environment.path("mark.begun").exists()));
    running.signal(Signal::HUP);
    environment.write("mark.go", "");
    running.wait().expect(0);
}
