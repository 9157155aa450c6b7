//! What becomes of damage at a remote, of interrupted and unusual transfers, and of what they leave behind.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::environment::{Running, TestEnvironment};
use crate::faulty::{Fault, FaultyServer};
use crate::pipelines::{SMALL, SMALL_STAGES};
use crate::remote::{assert_clean, latest_in, sharing};
use crate::store::{in_state, ran};

/// From Ctrl-C to the end of the process, on a machine that is busy.
const SOON: Duration = Duration::from_secs(4);

/// One file of so many bytes, as the output of one stage.
const LARGE: u64 = 160_000_000;
const LARGE_FILE: &str = r#"pipeline: large
stages:
  files:
    uses: command
    with:
      run: [sh, -c, "mkdir -p {out.files} && yes 0123456789 | head -c 160000000 > {out.files}/digits"]
      outputs: {files: {path: files}}
"#;

fn objects_at(server: &FaultyServer) -> Vec<String> {
    server
        .files()
        .into_iter()
        .filter(|path| path.contains("/objects/"))
        .collect()
}

fn harm(server: &FaultyServer, path: &str) {
    server.change(path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

/// A server with the results of the pipeline, which the store `a` has, too.
fn filled() -> (FaultyServer, TestEnvironment) {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--store", "a"]);
    (server, environment)
}

#[test]
fn a_push_that_verifies_replaces_what_is_damaged_there() {
    let (server, environment) = filled();
    let objects = objects_at(&server);
    harm(&server, &objects[0]);
    harm(&server, &objects[1]);
    // That of the last stage: behind a damaged action nothing is found, and so nothing else that is damaged.
    let run = latest_in(&environment, "a");
    let key = run["stages"].as_array().unwrap().last().unwrap()["key"]
        .as_str()
        .unwrap();
    let action = server
        .files()
        .into_iter()
        .find(|path| path.contains("/actions/") && path.contains(&key[2..]))
        .unwrap();
    harm(&server, &action);
    let finished = environment.run(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    finished
        .says("has wrong bytes for object")
        .says("runner cache push --verify");
    let planned = environment.json(&["cache", "push", "--store", "a", "--verify", "--dry-run"]);
    assert_eq!(
        (&planned["objects_wrong"], &planned["actions_wrong"]),
        (&2.into(), &1.into()),
        "{planned}"
    );
    let plain = environment.json(&["cache", "push", "--store", "a"]);
    assert_eq!(
        (&plain["objects"], &plain["objects_wrong"]),
        (&0.into(), &0.into()),
        "only sizes are looked at"
    );
    let report = environment.json(&["cache", "push", "--store", "a", "--verify"]);
    let counts = [
        "objects_wrong",
        "objects",
        "actions_wrong",
        "actions",
        "failed",
    ]
    .map(|name| report[name].as_u64());
    assert_eq!(
        counts,
        [Some(2), Some(2), Some(1), Some(1), Some(0)],
        "{report}"
    );
    let pulled = environment.json(&["cache", "pull", "pipeline.yaml", "--store", "c"]);
    assert_eq!(
        (&pulled["actions"], &pulled["failed"]),
        (&SMALL_STAGES.len().into(), &0.into()),
        "{pulled}"
    );
    assert_clean(&environment, "c");
    let again = environment.json(&["cache", "push", "--store", "a", "--verify"]);
    assert_eq!(
        (&again["objects_wrong"], &again["objects"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn reading_through_tells_damage_once_and_what_mends_it() {
    let (server, environment) = filled();
    objects_at(&server)
        .iter()
        .for_each(|path| harm(&server, path));
    let finished = environment.succeed(&[
        "run",
        "pipeline.yaml",
        "--store",
        "b",
        "--remote-mode",
        "read",
    ]);
    finished
        .says("runner cache push --verify")
        .says("found damaged there");
    assert_eq!(
        finished.stderr.matches("has wrong bytes").count(),
        1,
        "{}",
        finished.stderr
    );
    assert!(!ran(&latest_in(&environment, "b")).is_empty());
    assert_clean(&environment, "b");
}

/// Interrupts a process once the server has been asked something, and sees that it ends soon.
fn interrupt(server: &FaultyServer, mut running: Running, method: &str) {
    let mut seen = Vec::new();
    let asked = running.wait_until(|| {
        seen.extend(server.requests());
        seen.iter().any(|request| request.method == method)
    });
    assert!(asked, "it ended too soon");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!running.has_ended());
    let since = Instant::now();
    running.interrupt();
    let finished = running.wait().expect(130);
    assert!(
        since.elapsed() < SOON,
        "{:?}: {}",
        since.elapsed(),
        finished.describe()
    );
}

fn nothing_half_written(environment: &TestEnvironment, store: &str) {
    assert_clean(environment, store);
    let left = environment.files(&format!("{store}/v1/tmp"));
    let is_partial = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("partial-")
    };
    assert!(left.iter().all(is_partial), "{left:?}");
}

#[test]
fn an_interrupt_ends_a_push_at_once() {
    for (fault, method) in [
        (Fault::Silent, "HEAD"),
        (Fault::SilentWrites, "PUT"),
        (Fault::Status(503), "HEAD"),
    ] {
        let (server, environment) = filled();
        environment.succeed(&[
            "run",
            "--quiet",
            "pipeline.yaml",
            "--store",
            "b",
            "--set",
            "channels=2",
            "--remote",
            "off",
        ]);
        server.requests();
        server.set(fault);
        let running = environment.spawn(&["cache", "push", "--store", "b"]);
        interrupt(&server, running, method);
        server.set(Fault::None);
        environment.succeed(&["cache", "push", "--store", "b"]);
    }
}

#[test]
fn an_interrupt_ends_a_pull_at_once_and_it_goes_on_later() {
    let pipeline = (&["pipeline.yaml"][..], "GET");
    // Where nothing is answered, not even what a run is or what there is comes to an end.
    let silent = [pipeline, (&[], "PROPFIND"), (&["--all"], "PROPFIND")];
    for (fault, ways) in [(Fault::Silent, &silent[..]), (Fault::Stuck, &[pipeline])] {
        let (server, environment) = filled();
        for (what, method) in ways {
            server.requests();
            server.set(fault);
            let running = environment.spawn(&[&["cache", "pull", "--store", "b"], *what].concat());
            interrupt(&server, running, method);
            nothing_half_written(&environment, "b");
        }
        server.set(Fault::None);
        environment.succeed(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
        assert_clean(&environment, "b");
    }
}

#[test]
fn an_interrupt_ends_a_run_that_reads_through_at_once() {
    for fault in [Fault::Silent, Fault::Stuck] {
        let (server, environment) = filled();
        server.requests();
        server.set(fault);
        let running = environment.spawn(&["run", "pipeline.yaml", "--store", "b"]);
        interrupt(&server, running, "GET");
        nothing_half_written(&environment, "b");
        server.set(Fault::None);
        environment.succeed(&["run", "pipeline.yaml", "--store", "b"]);
        assert_eq!(in_state(&latest_in(&environment, "b"), "hit"), SMALL_STAGES);
    }
}

#[test]
fn an_interrupt_ends_the_sending_at_the_end_of_a_run() {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    server.set(Fault::SilentWrites);
    environment.write("runner.toml", "[remote]\ntimeout = \"10 min\"\n");
    let mut running = environment.spawn(&["run", "pipeline.yaml", "--store", "a"]);
    let recorded = || {
        environment
            .files("a/v1/runs")
            .iter()
            .any(|path| path.ends_with("run.json"))
    };
    let done = || recorded() && latest_in(&environment, "a")["status"] == "done";
    assert!(running.wait_until(done), "it ended too soon");
    interrupt(&server, running, "PUT");
    assert_eq!(
        latest_in(&environment, "a")["status"],
        "done",
        "what was computed stays"
    );
    nothing_half_written(&environment, "a");
    server.set(Fault::None);
    environment
        .succeed(&["cache", "push", "--store", "a"])
        .prints("8 results");
}

#[test]
fn a_server_that_sends_no_parts_sends_all_again() {
    let (server, environment) = filled();
    for (path, bytes) in objects_at(&server).iter().map(|path| (path, 700)) {
        let name = path
            .trim_start_matches("/shared/v1/objects/")
            .replace('/', "");
        let object = name.split('.').next().unwrap();
        let local = environment.path(&format!("a/v1/objects/{}/{}", &name[..2], &name[2..]));
        let mut start = fs::read(local).unwrap();
        start.truncate(bytes.min(start.len() - 1));
        environment.write(&format!("b/v1/tmp/partial-{object}"), start);
    }
    server.requests();
    server.set(Fault::NoRange);
    let pulled = environment.json(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    assert_eq!(
        (&pulled["actions"], &pulled["failed"]),
        (&SMALL_STAGES.len().into(), &0.into()),
        "{pulled}"
    );
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.from.is_some()),
        "a part was asked for"
    );
    assert_clean(&environment, "b");
    assert_eq!(environment.files("b/v1/tmp"), Vec::<PathBuf>::new());
}

/// What is there is shorter than what an earlier process fetched: no part of it can be had.
#[test]
fn a_part_beyond_the_end_is_no_dead_end() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let url = format!("file://{}", environment.path("shared").display());
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--store",
        "a",
        "--remote",
        &url,
    ]);
    let object = environment.files("shared/v1/objects").remove(0);
    let whole = fs::read(&object).unwrap();
    fs::write(&object, &whole[..whole.len() / 2]).unwrap();
    let folder = object
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let name = object.file_stem().unwrap().to_str().unwrap();
    environment.write(
        &format!("b/v1/tmp/partial-{folder}{name}"),
        &whole[..whole.len() - 1],
    );
    let finished = environment
        .run(&[
            "cache",
            "pull",
            "pipeline.yaml",
            "--store",
            "b",
            "--remote",
            &url,
        ])
        .expect(1);
    finished.says("has wrong bytes for object");
}

#[test]
fn a_large_file_is_never_in_memory_and_may_take_its_time() {
    let server = FaultyServer::start();
    let environment = sharing(LARGE_FILE, &server.url());
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--store",
        "a",
        "--remote",
        "off",
    ]);
    let mut pushing = environment.spawn(&["cache", "push", "--store", "a", "--json"]);
    let mut most = 0;
    while !pushing.has_ended() {
        most = most.max(pushing.peak_memory());
        std::thread::sleep(Duration::from_millis(1));
    }
    let report = pushing.wait().expect(0).json();
    assert!(report["bytes"].as_u64().unwrap() > LARGE, "{report}");
    assert!(
        most > 0 && most < LARGE / 2,
        "{most} bytes of memory for {LARGE}"
    );
    environment.succeed(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    assert_clean(&environment, "b");
}

#[test]
fn a_server_that_takes_nothing_of_a_large_file_is_given_up_soon() {
    let server = FaultyServer::start();
    let environment = sharing(LARGE_FILE, &server.url());
    environment.write(
        "runner.toml",
        "[remote]\ntimeout = \"400 ms\"\nretries = 1\n",
    );
    server.set(Fault::Deaf);
    let started = Instant::now();
    environment
        .succeed(&["run", "pipeline.yaml", "--store", "a"])
        .says("1 result was not sent");
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_damaged_large_file_is_not_sent() {
    let server = FaultyServer::start();
    let environment = sharing(LARGE_FILE, &server.url());
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--store",
        "a",
        "--remote",
        "off",
    ]);
    let large = |path: &PathBuf| fs::metadata(path).unwrap().len() == LARGE;
    let path = environment
        .files("a/v1/objects")
        .into_iter()
        .find(large)
        .unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[1] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    environment
        .run(&["cache", "push", "--store", "a"])
        .expect(1)
        .says("damaged")
        .says("runner cache verify");
    assert_eq!(
        objects_at(&server).len(),
        1,
        "the table of the files, and nothing else"
    );
}

#[test]
fn the_store_of_somebody_is_not_collected_as_a_remote() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--store", "theirs"]);
    let url = format!("file://{}", environment.path("theirs").display());
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--store",
        "a",
        "--remote",
        &url,
    ]);
    std::thread::sleep(Duration::from_millis(1100));
    let gc = [
        "cache",
        "gc",
        "--store",
        "b",
        "--on-remote",
        "--older-than",
        "1 s",
        "--remote",
        &url,
    ];
    let finished = environment.run(&gc).expect(2);
    finished
        .says("is the store of somebody")
        .says("runner cache gc --store");
    assert_eq!(
        environment.files("theirs/v1/actions").len(),
        SMALL_STAGES.len()
    );
}

#[test]
fn what_killed_uploads_left_goes_when_it_is_old() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    let url = format!("file://{}", environment.path("shared").display());
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--store",
        "a",
        "--remote",
        &url,
    ]);
    let object = environment.files("shared/v1/objects").remove(0);
    let [old, young] = ["#1", "#2"].map(|end| PathBuf::from(format!("{}{end}", object.display())));
    for path in [&old, &young] {
        fs::write(path, "half of it").unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(48 * 3600);
    fs::File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    let gc = [
        "cache",
        "gc",
        "--store",
        "a",
        "--on-remote",
        "--older-than",
        "30 d",
        "--remote",
        &url,
    ];
    let planned = environment.json(&[&gc[..], &["--dry-run"]].concat());
    assert!(old.exists());
    let report = environment.json(&gc);
    assert_eq!(planned["removed"], report["removed"]);
    let [removal] = &report["removed"].as_array().unwrap()[..] else {
        panic!("{report}")
    };
    assert!(
        removal["path"].as_str().unwrap().ends_with("#1"),
        "{removal}"
    );
    assert!(!old.exists() && young.exists() && object.exists());
}

#[test]
fn what_was_fetched_stays_for_a_while() {
    let (_server, environment) = filled();
    environment.succeed(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    let gc = |more: &[&str]| environment.json(&[&["cache", "gc", "--store", "b"], more].concat());
    let report = gc(&[]);
    assert_eq!(
        (&report["removed"], &report["kept_for"]["pulls"]),
        (&Value::Array(vec![]), &SMALL_STAGES.len().into())
    );
    let notes = environment.files("b/v1/pulls");
    let [note] = &notes[..] else {
        panic!("{notes:?}")
    };
    let age = |days: u64| {
        let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        fs::File::options()
            .write(true)
            .open(note)
            .unwrap()
            .set_modified(then)
            .unwrap();
    };
    let actions = |report: &Value| {
        let removed = report["removed"].as_array().unwrap().iter();
        removed
            .filter(|removal| removal["path"].as_str().unwrap().contains("/actions/"))
            .count()
    };
    age(2);
    assert_eq!(
        (
            actions(&gc(&["--dry-run"])),
            actions(&gc(&["--max-age", "1 d", "--dry-run"]))
        ),
        (0, SMALL_STAGES.len())
    );
    age(8);
    assert_eq!(actions(&gc(&[])), SMALL_STAGES.len());
    assert!(!note.exists());
}
