//! A remote saves work and does nothing else: whatever becomes of it, a run comes to its results, and what is wrong there
//! never gets here.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::{Finished, TestEnvironment};
use crate::faulty::{Fault, FaultyServer};
use crate::pipelines::{SMALL, SMALL_STAGES};
use crate::store::{Digests, digests, in_state, ran};

/// An environment whose commands share a remote.
pub fn sharing(pipeline: &str, url: &str) -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(pipeline);
    environment.set("RUNNER_REMOTE", url);
    environment
}

fn with_folder() -> TestEnvironment {
    let mut environment = TestEnvironment::with_pipeline(SMALL);
    let url = format!("file://{}", environment.path("shared").display());
    environment.set("RUNNER_REMOTE", url);
    environment
}

fn run_in(environment: &TestEnvironment, store: &str) -> Finished {
    environment.succeed(&["run", "pipeline.yaml", "--store", store])
}

/// The latest run of a store.
pub fn latest_in(environment: &TestEnvironment, store: &str) -> Value {
    environment.json(&["show", "--store", store])
}

pub fn assert_clean(environment: &TestEnvironment, store: &str) {
    let verified = environment.run(&["cache", "verify", "--store", store]);
    assert_eq!(verified.code(), Some(0), "{}", verified.describe());
    assert_eq!(
        environment.files(&format!("{store}/v1/quarantine")),
        Vec::<std::path::PathBuf>::new()
    );
}

/// What the pipeline comes to without any remote.
fn undisturbed() -> Digests {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    digests(&environment.latest())
}

#[test]
fn a_second_machine_computes_nothing() {
    let environment = with_folder();
    run_in(&environment, "a").says("8 results sent");
    let second = run_in(&environment, "b");
    second
        .says("8 results found there")
        .says("plan: all 8 stages are up to date");
    let (first, second) = (latest_in(&environment, "a"), latest_in(&environment, "b"));
    assert_eq!(ran(&first), SMALL_STAGES);
    assert_eq!(in_state(&second, "hit"), SMALL_STAGES);
    assert_eq!(digests(&first), digests(&second));
    assert_clean(&environment, "b");
    let files = |run: &Value, store: &str| {
        let folder = format!("{store}/v1/runs/{}/files", run["run"].as_str().unwrap());
        environment
            .files(&folder)
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        files(&first, "a"),
        files(&second, "b"),
        "files can be opened by name"
    );
}

/// The results of a hit come when somebody loads them.
#[test]
fn objects_come_when_they_are_needed() {
    let environment = with_folder();
    run_in(&environment, "a");
    run_in(&environment, "b");
    let objects = |store: &str| environment.files(&format!("{store}/v1/objects")).len();
    assert!(
        objects("b") < objects("a"),
        "only what is shown came: {} of {}",
        objects("b"),
        objects("a")
    );
    environment
        .succeed(&["run", "pipeline.yaml", "--store", "b", "--force", "scores"])
        .says("objects fetched");
    assert_eq!(
        ran(&latest_in(&environment, "b")),
        ["scores"],
        "its inputs came from the remote"
    );
    assert_eq!(
        digests(&latest_in(&environment, "a")),
        digests(&latest_in(&environment, "b"))
    );
    assert_clean(&environment, "b");
}

#[test]
fn a_damaged_object_comes_again_from_the_remote() {
    let environment = with_folder();
    run_in(&environment, "a");
    let objects = environment.files("a/v1/objects").into_iter();
    for path in objects.filter(|path| path.extension().is_some_and(|end| end == "parquet")) {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "damaged").unwrap();
    }
    run_in(&environment, "a").says("objects fetched");
    environment.succeed(&["run", "pipeline.yaml", "--store", "a", "--force", "metrics"]);
    assert_eq!(ran(&latest_in(&environment, "a")), ["metrics"]);
}

#[test]
fn a_run_in_which_everything_is_here_asks_nobody() {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    run_in(&environment, "a").says("8 results sent");
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.method == "PUT")
    );
    run_in(&environment, "a");
    assert_eq!(server.requests(), []);
}

#[test]
fn objects_are_there_before_the_action_that_names_them() {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    run_in(&environment, "a");
    let puts: Vec<String> = server
        .requests()
        .into_iter()
        .filter(|request| request.method == "PUT")
        .map(|request| request.path)
        .collect();
    for path in puts.iter().filter(|path| path.contains("/actions/")) {
        let key = path
            .trim_start_matches("/shared/v1/actions/")
            .trim_end_matches(".json")
            .replace('/', "");
        let text = environment.read(&format!("a/v1/actions/{}/{}.json", &key[..2], &key[2..]));
        let action: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let at = |part: &str| puts.iter().position(|put| put.contains(part)).unwrap();
        for output in action["outputs"].as_array().unwrap() {
            let object = output["object"].as_str().unwrap();
            assert!(at(&object[2..]) < at(&key[2..]), "{object} of {key}");
        }
    }
    assert!(
        puts.iter()
            .filter(|path| path.contains("/actions/"))
            .count()
            == SMALL_STAGES.len()
    );
}

/// A run through a remote that misbehaves, then one through the same remote behaving again.
fn disturbed(before: Fault, fault: Fault) -> (FaultyServer, TestEnvironment, Finished) {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    environment.write(
        "runner.toml",
        "[remote]\ntimeout = \"400 ms\"\nretries = 1\n",
    );
    server.set(before);
    if before == Fault::None {
        run_in(&environment, "filled");
    }
    server.set(fault);
    let started = Instant::now();
    let finished = run_in(&environment, "a");
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{fault:?} held the run up for {:?}",
        started.elapsed()
    );
    let expected = undisturbed();
    assert_eq!(
        digests(&latest_in(&environment, "a")),
        expected,
        "{fault:?}"
    );
    assert_clean(&environment, "a");
    server.set(Fault::None);
    run_in(&environment, "b");
    assert_eq!(
        digests(&latest_in(&environment, "b")),
        expected,
        "after {fault:?}"
    );
    assert_clean(&environment, "b");
    (server, environment, finished)
}

#[test]
fn a_remote_that_answers_with_errors_fails_no_run() {
    for status in [500, 503] {
        let (_, environment, finished) = disturbed(Fault::None, Fault::Status(status));
        finished
            .says("it is not used from now on")
            .says("8 results were not sent");
        // Reading and sending give up each for themselves.
        for told in [
            "it is not used from now on",
            "nothing is sent there from now on",
            "results were not sent",
        ] {
            assert!(
                finished.stderr.matches(told).count() <= 1,
                "{told}: {}",
                finished.stderr
            );
        }
        assert!(
            finished.stderr.matches("WARN").count() <= 3,
            "{}",
            finished.stderr
        );
        assert_eq!(ran(&latest_in(&environment, "a")), SMALL_STAGES);
    }
}

#[test]
fn a_remote_that_refuses_is_asked_once() {
    let (server, ..) = disturbed(Fault::None, Fault::Status(403));
    drop(server);
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    server.set(Fault::Status(401));
    run_in(&environment, "a")
        .says("refuses these credentials")
        .says("hint: ");
    let asked = server.requests();
    assert!(
        asked
            .iter()
            .filter(|request| request.method == "GET")
            .count()
            <= 2,
        "{asked:?}"
    );
}

#[test]
fn a_remote_that_is_silent_fails_no_run() {
    let (_, _, finished) = disturbed(Fault::None, Fault::Silent);
    finished
        .says("did not answer within")
        .says("it is not used from now on");
}

#[test]
fn a_remote_that_trickles_is_as_good_as_silent() {
    let (_, _, finished) = disturbed(Fault::None, Fault::Trickle);
    finished
        .says("sent no more than")
        .says("it is not used from now on");
}

#[test]
fn a_remote_that_is_slow_fails_no_run() {
    let (_, environment, _) = disturbed(Fault::None, Fault::Slow(Duration::from_millis(150)));
    assert_eq!(
        in_state(&latest_in(&environment, "a"), "hit"),
        SMALL_STAGES,
        "slow is not down"
    );
}

#[test]
fn wrong_bytes_never_get_into_the_store() {
    let (_, environment, finished) = disturbed(Fault::None, Fault::WrongBytes);
    finished.says("it is not used");
    assert_eq!(ran(&latest_in(&environment, "a")), SMALL_STAGES);
}

#[test]
fn objects_that_are_wrong_there_are_computed_here_and_put_right() {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    run_in(&environment, "a");
    for path in server
        .files()
        .iter()
        .filter(|path| path.contains("/objects/"))
    {
        server.change(path, |bytes| bytes[0] ^= 1);
    }
    let finished = run_in(&environment, "b");
    finished.says("has wrong bytes for object");
    assert_eq!(
        digests(&latest_in(&environment, "a")),
        digests(&latest_in(&environment, "b"))
    );
    assert_clean(&environment, "b");
    environment.succeed(&["cache", "push", "--store", "a"]);
}

#[test]
fn answers_that_end_too_early_never_get_into_the_store() {
    let (_, environment, _) = disturbed(Fault::None, Fault::Short(300));
    assert_eq!(ran(&latest_in(&environment, "a")), SMALL_STAGES);
}

#[test]
fn cut_connections_are_taken_up_where_they_ended() {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    run_in(&environment, "a");
    server.requests();
    server.set(Fault::CutAfter(3000));
    environment.succeed(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    let resumed = server
        .requests()
        .into_iter()
        .filter_map(|request| request.from)
        .collect::<Vec<usize>>();
    assert!(
        resumed.contains(&3000) && resumed.contains(&6000),
        "{resumed:?}"
    );
    assert_clean(&environment, "b");
    assert_eq!(
        environment.files("b/v1/tmp"),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn a_remote_that_is_full_is_told_and_still_read() {
    let (_, _, finished) = disturbed(Fault::None, Fault::WriteStatus(507));
    assert!(
        !finished.stderr.contains("WARN"),
        "everything was found there: {}",
        finished.stderr
    );
    let (_server, environment, finished) = disturbed(Fault::Status(500), Fault::WriteStatus(507));
    finished
        .says("is full")
        .says("nothing is sent there from now on")
        .says("8 results were not sent");
    environment.succeed(&["cache", "push", "--store", "a"]);
}

#[test]
fn nobody_there_fails_no_run_and_is_told_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let environment = sharing(SMALL, &format!("http://127.0.0.1:{port}/x"));
    let finished = run_in(&environment, "a");
    finished
        .says("cannot be reached")
        .says("Connection refused")
        .says("is the server up");
    assert_eq!(finished.stderr.matches("cannot be reached").count(), 1);
    let finished = environment
        .run(&["cache", "push", "--store", "a"])
        .expect(1);
    finished.says("cannot be reached");
}

#[test]
fn reading_only_sends_nothing() {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    environment.succeed(&["run", "pipeline.yaml", "--remote-mode", "read"]);
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.method == "GET")
    );
    environment.succeed(&["run", "pipeline.yaml", "--store", "b", "--remote", "off"]);
    environment.succeed(&[
        "run",
        "pipeline.yaml",
        "--store",
        "c",
        "--remote-mode",
        "off",
    ]);
    assert_eq!(
        (server.requests(), server.files()),
        (Vec::new(), Vec::new())
    );
    for verb in [
        &["cache", "push", "latest"][..],
        &["cache", "gc", "--on-remote", "--older-than", "1 s"],
    ] {
        environment
            .run(&[verb, &["--remote-mode", "read"]].concat())
            .expect(2)
            .says("is only to be read");
    }
    assert!(server.files().is_empty());
}

#[test]
fn a_record_from_elsewhere_leads_nowhere_else() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    std::fs::create_dir(environment.path("shared")).unwrap();
    let url = format!("file://{}", environment.path("shared").display());
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&["cache", "push", "latest", "--remote", &url]);
    let files = environment.files("shared");
    let record = files
        .iter()
        .find(|path| path.ends_with("run.json"))
        .unwrap();
    let mut text: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    text["run"] = "../../../../escaped".into();
    text.as_object_mut().unwrap().remove("seal");
    std::fs::write(record, text.to_string()).unwrap();
    environment
        .run(&[
            "cache", "pull", "latest", "--remote", &url, "--store", "other",
        ])
        .expect(1)
        .says("is not the name of a run");
    assert!(!environment.path("escaped").exists());
}

#[test]
fn settings_are_found_from_the_pipeline_upwards() {
    let environment = TestEnvironment::new();
    environment.write("project/deep/pipeline.yaml", SMALL);
    let url = format!("file://{}", environment.path("shared").display());
    environment.write(
        "project/runner.toml",
        format!("[remote]\nurl = \"{url}\"\n"),
    );
    environment.write(".config/runner/runner.toml", "[remote]\nmode = \"read\"\n");
    std::fs::create_dir(environment.path("shared")).unwrap();
    environment.succeed(&["run", "project/deep/pipeline.yaml"]);
    assert_eq!(
        environment.files("shared").len(),
        0,
        "the user's file says read"
    );
    environment.write(
        "project/runner.toml",
        format!("[remote]\nurl = \"{url}\"\nmode = \"read-write\"\n"),
    );
    environment
        .succeed(&["run", "project/deep/pipeline.yaml", "--store", "b"])
        .says("results sent");
    environment.write("project/runner.toml", "[remote]\nurl = \"bucket\"\n");
    let finished = environment
        .run(&["run", "project/deep/pipeline.yaml"])
        .expect(2);
    finished.says("project/runner.toml:2:7: ").says("hint: ");
}

#[test]
fn pushed_by_run_and_fetched_by_run_elsewhere() {
    let environment = with_folder();
    environment.succeed(&["run", "pipeline.yaml", "--store", "a", "--remote", "off"]);
    let run = latest_in(&environment, "a")["run"]
        .as_str()
        .unwrap()
        .to_owned();
    let planned = environment.json(&["cache", "push", "--store", "a", "--dry-run"]);
    assert_eq!(
        (planned["actions"].as_u64(), planned["dry_run"].as_bool()),
        (Some(8), Some(true))
    );
    assert_eq!(
        environment.files("shared"),
        Vec::<std::path::PathBuf>::new()
    );
    let pushed = environment.json(&["cache", "push", "--store", "a"]);
    assert_eq!(pushed["objects"], planned["objects"]);
    let again = environment.json(&["cache", "push", &run, "--store", "a"]);
    assert_eq!(
        (again["objects"].as_u64(), again["actions_present"].as_u64()),
        (Some(0), Some(8))
    );
    let name = &run[run.len() - 6..];
    let pulled = environment.json(&["cache", "pull", name, "--store", "b"]);
    assert_eq!(
        (&pulled["objects"], &pulled["bytes"]),
        (&pushed["objects"], &pushed["bytes"])
    );
    assert_eq!(latest_in(&environment, "b")["run"], run.as_str());
    assert_clean(&environment, "b");
    environment.succeed(&["run", "pipeline.yaml", "--store", "b", "--remote", "off"]);
    assert_eq!(in_state(&latest_in(&environment, "b"), "hit"), SMALL_STAGES);
    environment
        .succeed(&["cache", "pull", "--all", "--store", "c"])
        .prints("8 results");
    assert_clean(&environment, "c");
    environment
        .run(&["cache", "pull", "nonesuch", "--store", "b"])
        .expect(2)
        .says("no run matches `nonesuch`");
}

#[test]
fn a_transfer_of_part_of_a_store_says_what_is_missing() {
    let environment = with_folder();
    environment.succeed(&["run", "pipeline.yaml", "--store", "a", "--target", "scaled"]);
    let pulled = environment.json(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    assert_eq!(pulled["actions"], 2, "{pulled}");
    for path in environment.files("shared/v1/objects") {
        std::fs::remove_file(path).unwrap();
    }
    let finished = environment
        .run(&["cache", "pull", "pipeline.yaml", "--store", "c"])
        .expect(1);
    finished
        .says("2 results could not be copied")
        .says("has no such object");
    run_in(&environment, "c").says("done: ");
    assert_eq!(
        in_state(&latest_in(&environment, "c"), "failed"),
        Vec::<String>::new()
    );
    assert_clean(&environment, "c");
}

#[test]
fn a_killed_transfer_goes_on_where_it_ended() {
    let server = FaultyServer::start();
    let environment = sharing(SMALL, &server.url());
    run_in(&environment, "a");
    server.set(Fault::Slow(Duration::from_millis(60)));
    let mut pulling = environment.spawn(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    assert!(
        pulling.wait_until(|| environment.files("b/v1/objects").len() >= 3),
        "it ended too soon"
    );
    pulling.kill();
    pulling.wait().expect_killed();
    let here = environment.files("b/v1/objects").len() as u64;
    server.set(Fault::None);
    let report = environment.json(&["cache", "pull", "pipeline.yaml", "--store", "b"]);
    let objects = |name: &str| report[name].as_u64().unwrap();
    assert!(objects("objects_present") >= here, "{report}");
    assert_eq!(
        objects("objects") + objects("objects_present"),
        environment.files("b/v1/objects").len() as u64
    );
    assert_clean(&environment, "b");
}

#[test]
fn collecting_prefers_what_the_remote_holds() {
    let environment = with_folder();
    environment.succeed(&[
        "run",
        "pipeline.yaml",
        "--store",
        "a",
        "--target",
        "windows",
    ]);
    environment.succeed(&["run", "pipeline.yaml", "--store", "a", "--remote", "off"]);
    let planned = environment.json(&[
        "cache",
        "gc",
        "--store",
        "a",
        "--max-size",
        "1 B",
        "--dry-run",
    ]);
    let reasons: Vec<&str> = planned["removed"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|removal| removal["path"].as_str().unwrap().contains("/actions/"))
        .map(|removal| removal["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons.len(), SMALL_STAGES.len());
    assert!(
        reasons[..3]
            .iter()
            .all(|reason| reason.starts_with("the remote holds it")),
        "{reasons:?}"
    );
    assert!(
        reasons[3..]
            .iter()
            .all(|reason| reason.contains("to recompute")),
        "{reasons:?}"
    );
    assert_eq!(
        environment.files("a/v1/actions").len(),
        SMALL_STAGES.len(),
        "nothing went"
    );
}

#[test]
fn garbage_at_the_remote_goes_by_age_and_need() {
    let environment = with_folder();
    run_in(&environment, "a");
    environment.succeed(&[
        "run",
        "pipeline.yaml",
        "--store",
        "other",
        "--set",
        "channels=2",
    ]);
    let actions = || environment.files("shared/v1/actions").len();
    assert!(actions() > SMALL_STAGES.len());
    let gc = |more: &[&str]| {
        environment.json(
            &[
                &["cache", "gc", "--store", "a", "--on-remote", "--older-than"],
                more,
            ]
            .concat(),
        )
    };
    assert_eq!(
        gc(&["1 h"])["removed"].as_array().unwrap().len(),
        0,
        "everything is young"
    );
    std::thread::sleep(Duration::from_millis(2100));
    let planned = gc(&["1 s", "--dry-run"]);
    assert!(!planned["removed"].as_array().unwrap().is_empty());
    let done = gc(&["1 s"]);
    assert_eq!(planned["removed"], done["removed"]);
    assert_eq!(
        actions(),
        SMALL_STAGES.len(),
        "what the runs of this store need stays"
    );
    run_in(&environment, "c");
    assert_eq!(in_state(&latest_in(&environment, "c"), "hit"), SMALL_STAGES);
    environment
        .run(&["cache", "gc", "--on-remote"])
        .expect(2)
        .says("--older-than");
}

#[test]
fn wrong_addresses_are_refused_before_anything_runs() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    for (url, said) in [
        ("s4://bucket/x", "did you mean `s3://`?"),
        ("file://", "does not name a folder for a remote"),
        ("file:some", "does not name a folder for a remote"),
        (
            "https://host/path?sig=hidden",
            "ends with its path: https://host/path",
        ),
        (
            "https://me:hidden@host:999999/x",
            "`https://...@host:999999/x` is not a URL",
        ),
        ("some/folder", "a folder is written file://"),
        ("https://me:secret@host/x", "must not hold credentials"),
    ] {
        let finished = environment
            .run(&["run", "pipeline.yaml", "--remote", url])
            .expect(2);
        finished.says(said);
        assert!(!finished.stderr.contains("secret@"), "{}", finished.stderr);
    }
    environment
        .run(&["cache", "push"])
        .expect(2)
        .says("there is no remote")
        .says("--remote URL");
    assert!(!environment.path("cache").exists());
}

#[test]
fn missing_credentials_are_named() {
    let mut environment = sharing(SMALL, "s3://bucket/x");
    environment.set("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9");
    let finished = environment.succeed(&["run", "pipeline.yaml"]);
    finished
        .says("there are no credentials for s3://bucket/x")
        .says("AWS_ACCESS_KEY_ID");
    let finished = environment.run(&["cache", "push"]).expect(1);
    finished
        .says("there are no credentials for s3://bucket/x")
        .says("AWS_ACCESS_KEY_ID");
    environment.set("AWS_ENDPOINT", "http://127.0.0.1:9");
    environment
        .run(&["cache", "push"])
        .expect(2)
        .says("AWS_ALLOW_HTTP=true");
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let server = FaultyServer::start();
    server.set(Fault::NoBucket);
    let mut environment = sharing(SMALL, "s3://nonesuch/x");
    environment.set("AWS_ENDPOINT", server.url().trim_end_matches("/shared"));
    environment.set("AWS_ALLOW_HTTP", "true");
    environment.set("AWS_ACCESS_KEY_ID", "key");
    environment.set("AWS_SECRET_ACCESS_KEY", "secret");
    let finished = environment.succeed(&["run", "pipeline.yaml"]);
    finished
        .says("a bucket or container that does not exist")
        .says("make it first")
        .says("it is not used from now on");
    environment
        .run(&["cache", "push"])
        .expect(1)
        .says("a bucket or container that does not exist")
        .says("make it first");
}

#[test]
fn locks_keep_what_no_run_needs_any_more() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "pipeline.yaml"]);
    environment.succeed(&["lock", "pipeline.yaml"]);
    let lock = environment.read("pipeline.lock");
    std::fs::create_dir(environment.path("locks")).unwrap();
    environment.write("locks/Cargo.lock", "version = 4\n");
    std::fs::rename(
        environment.path("pipeline.lock"),
        environment.path("locks/mine.lock"),
    )
    .unwrap();
    for run in std::fs::read_dir(environment.path("cache/v1/runs")).unwrap() {
        std::fs::remove_dir_all(run.unwrap().path()).unwrap();
    }
    let gc = |more: &[&str]| environment.json(&[&["cache", "gc", "--dry-run"], more].concat());
    let actions = |report: &Value| {
        let removed = report["removed"].as_array().unwrap().iter();
        removed
            .filter(|removal| removal["path"].as_str().unwrap().contains("/actions/"))
            .count()
    };
    assert_eq!(actions(&gc(&[])), SMALL_STAGES.len());
    let kept = gc(&["--lock", "locks"]);
    assert_eq!(
        (actions(&kept), &kept["kept_for"]["locks"]),
        (0, &Value::from(SMALL_STAGES.len()))
    );
    environment.write("locks/mine.lock", lock.replacen("blake3:", "blake3:0", 1));
    let finished = environment
        .run(&["cache", "gc", "--lock", "locks"])
        .expect(2);
    finished.says("mine.lock");
    assert_eq!(
        environment.files("cache/v1/actions").len(),
        SMALL_STAGES.len(),
        "nothing went"
    );
    environment
        .run(&["cache", "gc", "--lock", "nonesuch.lock"])
        .expect(2)
        .says("there is no lock");
}
