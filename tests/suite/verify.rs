//! What was recorded cannot be changed unseen: records, their order, actions, objects, locks, signatures.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use contract::artifact::Digest;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey, KeypairBytes};
use runner::audit::Lock;

use crate::environment::TestEnvironment;
use crate::lock::locked;
use crate::pipelines::SMALL;
use crate::store::{Harm, action_path, object_path, part_path};

/// Four runs of one pipeline; the names of their records, oldest first.
fn four_runs() -> (TestEnvironment, Vec<PathBuf>) {
    let environment = TestEnvironment::with_pipeline(SMALL);
    for epochs in ["1", "2", "2", "1"] {
        environment.succeed(&[
            "run",
            "--quiet",
            "pipeline.yaml",
            "--set",
            &format!("epochs={epochs}"),
        ]);
    }
    let records: Vec<PathBuf> = environment
        .files("cache/v1/runs")
        .into_iter()
        .filter(|path| path.ends_with("run.json"))
        .collect();
    assert_eq!(records.len(), 4);
    (environment, records)
}

fn name(record: &std::path::Path) -> String {
    record
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn what_is_as_written_is_told_so_and_nothing_is_changed() {
    let (environment, _) = four_runs();
    let before = environment.files("cache");
    let found = environment.json(&["verify", "latest"]);
    assert_eq!(
        (&found["good"], &found["records"], &found["actions"]),
        (&true.into(), &4.into(), &8.into()),
        "{found}"
    );
    assert!(
        found["objects"].as_u64().unwrap() >= 8 && found["notes"].as_array().unwrap().is_empty(),
        "{found}"
    );
    environment.succeed(&["verify"]).prints("as written: run ");
    environment
        .run(&["verify", "nothing"])
        .expect(2)
        .says("no run matches");
    assert_eq!(environment.files("cache"), before);
}

#[test]
fn a_record_that_was_changed_is_named() {
    let (environment, records) = four_runs();
    let text = fs::read_to_string(&records[1]).unwrap();
    fs::write(&records[1], text.replacen("\"seed\":7", "\"seed\":8", 1)).unwrap();
    let found = environment.run(&["verify", "latest"]).expect(3);
    found
        .prints(&format!("run {}", name(&records[1])))
        .prints("its record was changed after it was written");
    // Whoever seals it anew is found out by the record that came after it.
    let (content, _) = text.rsplit_once(",\"seal\"").unwrap();
    let content = content.replacen("\"seed\":7", "\"seed\":8", 1);
    let seal = Digest::of_bytes(content.as_bytes());
    fs::write(&records[1], format!("{content},\"seal\":\"{seal}\"}}")).unwrap();
    let found = environment.run(&["verify", "latest"]).expect(3);
    found
        .prints("its record was changed or replaced")
        .prints(&format!("as the run {} says", name(&records[2])));
    fs::write(&records[1], "no record").unwrap();
    environment
        .run(&["verify", "latest"])
        .expect(3)
        .prints("not a record that this version can read");
    environment.run(&["verify", &name(&records[1])]).expect(3);
}

#[test]
fn a_record_that_is_gone_or_moved_is_named() {
    let (environment, records) = four_runs();
    let texts: Vec<String> = records
        .iter()
        .map(|record| fs::read_to_string(record).unwrap())
        .collect();
    fs::remove_file(&records[1]).unwrap();
    let gone = environment.run(&["verify", "latest"]).expect(3);
    gone.prints(&format!("run {}: its record is gone", name(&records[1])));
    fs::write(&records[1], &texts[2]).unwrap();
    fs::write(&records[2], &texts[1]).unwrap();
    environment
        .run(&["verify", "latest"])
        .expect(3)
        .prints("what lies here is the record of the run");
    fs::write(&records[1], &texts[1]).unwrap();
    fs::write(&records[2], &texts[2]).unwrap();
    environment.succeed(&["verify", "latest"]);
    fs::remove_file(&records[3]).unwrap();
    environment
        .run(&["verify", "latest"])
        .expect(3)
        .prints("its record is gone")
        .prints("as runs.head says");
    fs::write(&records[3], &texts[3]).unwrap();
    let head = environment.path("cache/v1/runs.head");
    let kept = fs::read(&head).unwrap();
    fs::remove_file(&head).unwrap();
    environment
        .run(&["verify", "latest"])
        .expect(3)
        .prints("the end of the chain of records");
    Harm::FlipBit.happen_to(&{
        fs::write(&head, kept).unwrap();
        head
    });
    environment
        .run(&["verify", "latest"])
        .expect(3)
        .prints("runs.head: it was changed");
}

#[test]
fn a_chain_that_lost_its_end_goes_on_and_says_so() {
    let (environment, records) = four_runs();
    fs::remove_file(environment.path("cache/v1/runs.head")).unwrap();
    fs::remove_file(&records[3]).unwrap();
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment
        .run(&["verify", "latest"])
        .expect(3)
        .prints("records before it may be missing");
    // A line among the collected records is no excuse for one that is there, but not as it was.
    let text = fs::read_to_string(&records[1]).unwrap();
    let (content, _) = text.rsplit_once(",\"seal\"").unwrap();
    let (content, _) = content.rsplit_once(",\"previous\"").unwrap();
    let seal = text
        .rsplit_once("\"seal\":\"")
        .unwrap()
        .1
        .trim_end_matches("\"}")
        .to_owned();
    fs::write(&records[1], format!("{content}}}")).unwrap();
    fs::write(
        environment.path("cache/v1/runs.forgotten"),
        format!("{} {seal}\n", name(&records[1])),
    )
    .unwrap();
    environment
        .run(&["verify", "latest"])
        .expect(3)
        .prints("its record was changed or replaced");
}

/// The clock of this host was set back, or another host's is behind: what counts is who came last.
#[test]
fn the_latest_run_is_the_newest_of_the_chain() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: p\nparams: {n: 1}\nstages:\n  it: {uses: command, with: {run: [sh, -c, \"echo ${n} > {out.o}\"], outputs: {o: {path: o}}}}\n",
    );
    let run = |number: usize| {
        environment.succeed(&[
            "run",
            "--quiet",
            "pipeline.yaml",
            "--set",
            &format!("n={number}"),
        ])
    };
    run(1);
    // As if the clock had been ahead by years then: everything of the first run is as a clock that is ahead makes it.
    let first = environment.latest()["run"].as_str().unwrap().to_owned();
    let ahead = format!("2999{}", &first[4..]);
    let record = environment.path(&format!("cache/v1/runs/{first}/run.json"));
    let text = fs::read_to_string(&record).unwrap();
    let (content, _) = text.rsplit_once(",\"seal\"").unwrap();
    let content = content.replace(&first, &ahead);
    let seal = Digest::of_bytes(content.as_bytes());
    fs::write(&record, format!("{content},\"seal\":\"{seal}\"}}")).unwrap();
    fs::rename(
        record.parent().unwrap(),
        environment.path(&format!("cache/v1/runs/{ahead}")),
    )
    .unwrap();
    let head = environment.path("cache/v1/runs.head");
    let text = fs::read_to_string(&head).unwrap();
    let old: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let line = text
        .lines()
        .next()
        .unwrap()
        .replace(&first, &ahead)
        .replace(old["seal"].as_str().unwrap(), &seal.to_string());
    fs::write(
        &head,
        format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())),
    )
    .unwrap();
    environment.succeed(&["verify", "latest"]);
    run(2);
    run(3);
    assert_eq!(environment.json(&["show", "latest"])["params"]["n"], 3);
    let listed = environment.json(&["runs"])["runs"].clone();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["run"].as_str().unwrap())
        .collect();
    assert!(
        names.len() == 3 && names[0] == ahead && names[1] < names[2],
        "oldest first: {names:?}"
    );
    let newest = names[2].to_owned();
    environment.succeed(&["verify"]).prints(&newest);
    environment.succeed(&["audit"]).prints(&newest);
    environment.run(&["diff", &ahead]).expect(3).prints(&newest);
    environment.succeed(&["export", "--bundle", "run.bundle"]);
    environment
        .succeed(&["import", "run.bundle", "--store", "other"])
        .prints(&newest);
    assert_eq!(
        environment.json(&["runs", "-n", "1"])["runs"][0]["run"].as_str(),
        Some(newest.as_str())
    );
    environment.succeed(&["cache", "gc", "--max-age", "1 ms"]);
    assert_eq!(
        environment.json(&["show", "latest"])["run"].as_str(),
        Some(newest.as_str()),
        "the newest one stays"
    );
}

/// A record comes after the one that names it, also where its process was killed before it could say so.
#[test]
fn a_first_record_that_was_killed_on_its_way_is_followed_by_the_next() {
    let pipeline = "pipeline: p\nstages:\n  raw: {uses: generate, with: {channels: 2, day: 24, rows: {train: 60, validation: 20, calibration: 20, test: 60}}}\n";
    for step in 1.. {
        let environment = TestEnvironment::with_pipeline(pipeline);
        let mut command = environment.command(&["run", "--quiet", "pipeline.yaml"]);
        command.env("RUNNER_CRASH_AT", step.to_string());
        let finished = environment.start(command).wait();
        if finished.code() == Some(0) {
            assert!(step > 20, "a run has only {step} steps");
            break;
        }
        finished.expect_killed();
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        environment.succeed(&["verify", "latest"]);
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        // Whoever takes the newest record away is found out as ever.
        let newest = environment.latest()["run"].as_str().unwrap().to_owned();
        fs::remove_file(environment.path(&format!("cache/v1/runs/{newest}/run.json"))).unwrap();
        environment.run(&["verify", "latest"]).expect(3);
    }
}

#[test]
fn the_name_of_a_run_must_mean_one() {
    let (environment, records) = four_runs();
    for verb in ["verify", "show", "audit"] {
        environment
            .run(&[verb, "20"])
            .expect(2)
            .says("`20` matches 4 runs")
            .says(&name(&records[3]));
        environment.run(&[verb, ""]).expect(2);
    }
    environment.succeed(&["verify", &name(&records[0])]);
}

#[test]
fn what_a_collection_of_garbage_forgets_is_no_riddle() {
    let (environment, records) = four_runs();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    environment.succeed(&["cache", "gc", "--max-age", "1 s"]);
    assert!(records[..3].iter().all(|record| !record.exists()) && records[3].exists());
    environment.succeed(&["verify", "latest"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&["verify", "latest"]);
}

#[test]
fn records_from_before_seals_are_read() {
    let (environment, records) = four_runs();
    for record in &records {
        let text = fs::read_to_string(record).unwrap();
        let (content, _) = text.split_once(",\"previous\"").unwrap();
        fs::write(record, format!("{content}}}")).unwrap();
    }
    fs::remove_file(environment.path("cache/v1/runs.head")).unwrap();
    environment
        .succeed(&["verify", "latest"])
        .prints("4 records were written before records were sealed");
    environment.succeed(&["audit", "latest"]);
    environment.succeed(&["show", "latest"]);
}

#[test]
fn a_damaged_object_or_action_is_named_and_left_where_it_is() {
    for harm in Harm::ALL {
        let environment = locked();
        let paths = [
            object_path(&environment, "model", "model"),
            object_path(&environment, "metrics", "metrics"),
            part_path(&environment, "plots", "plots"),
        ];
        paths.iter().for_each(|path| harm.happen_to(path));
        let left: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
        let found = environment.run(&["verify", "latest"]).expect(3);
        found
            .prints(" of model: ")
            .prints(" of metrics: ")
            .prints(" of plots: ");
        assert_eq!(
            paths.iter().map(|path| path.exists()).collect::<Vec<_>>(),
            left,
            "nothing is set aside: {harm:?}"
        );
        environment
            .run(&["verify", "pipeline.lock"])
            .expect(3)
            .prints(" of model: ");
        harm.happen_to(&action_path(&environment, "scores"));
        let found = environment.run(&["verify", "latest"]).expect(3);
        found.prints("stage scores: its action ");
    }
}

/// An action is sealed, but whoever changes it can seal it again: the key tells.
#[test]
fn a_manifest_that_is_not_that_of_its_key_is_named() {
    let environment = locked();
    let path = action_path(&environment, "model");
    let text = fs::read_to_string(&path).unwrap();
    let line = text
        .lines()
        .next()
        .unwrap()
        .replace("with.epochs = 2", "with.epochs = 3");
    fs::write(
        &path,
        format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())),
    )
    .unwrap();
    let found = environment.run(&["verify", "latest"]).expect(3);
    found
        .prints("stage model: its key is")
        .prints("but that of its manifest");
    environment
        .run(&["verify", "pipeline.lock"])
        .expect(3)
        .prints("something else determined it");
    let mut lock = Lock::read(&environment.path("pipeline.lock")).unwrap();
    let model = lock.stages.get_mut("model").unwrap();
    model.manifest = model.manifest.replace("with.epochs = 2", "with.epochs = 3");
    lock.write(&environment.path("pipeline.lock")).unwrap();
    let found = environment
        .run(&["verify", "pipeline.lock", "--store", "never-seen"])
        .expect(3);
    found
        .prints("stage model: its key is")
        .prints("this store has no results");
}

#[test]
fn a_lock_is_verified_without_its_store() {
    let environment = locked();
    environment
        .succeed(&["verify", "pipeline.lock"])
        .prints("as written: the lock pipeline.lock");
    let alone = environment.succeed(&["verify", "pipeline.lock", "--store", "never-seen"]);
    alone.prints("of 8 stages this store has no results");
}

#[test]
fn the_header_of_a_lock_is_checked_against_its_stages_and_the_pipeline() {
    let environment = locked();
    let text = environment.read("pipeline.lock");
    let told = |code: i32, says: &str, change: &dyn Fn(&mut Lock)| {
        let mut lock = Lock::read(&environment.path("pipeline.lock")).unwrap();
        change(&mut lock);
        lock.write(&environment.path("pipeline.lock")).unwrap();
        environment
            .run(&["verify", "pipeline.lock"])
            .expect(code)
            .prints(says);
        environment.write("pipeline.lock", &text);
    };
    told(
        3,
        "stage model: its seed is 7, but that of the lock 8",
        &|lock| lock.seed = Some(8),
    );
    told(
        3,
        "it is not as the lock says: param.epochs: 3 -> 2",
        &|lock| {
            lock.params.insert("epochs".to_owned(), 3.into());
        },
    );
    told(3, "it sets epochs to 3, but says that it is 2", &|lock| {
        lock.overrides.push("epochs=3".to_owned())
    });
    told(3, "it sets seed to 8, but says that it is 7", &|lock| {
        lock.overrides.push("seed=8".to_owned())
    });
    told(
        3,
        "stage scores: none of the lock's targets needs it",
        &|lock| lock.targets.push("model".to_owned()),
    );
    told(3, "its target nothing is not among its stages", &|lock| {
        lock.targets.push("nothing".to_owned())
    });
    told(3, "the lock is of a pipeline called other", &|lock| {
        lock.pipeline = "other".to_owned()
    });
    told(3, "cannot be read with the profile", &|lock| {
        lock.profile = Some("fast".to_owned())
    });
    told(3, "its stage size is not in the lock", &|lock| {
        drop(lock.stages.remove("size"))
    });
    told(
        3,
        "its stage scores takes from other stages than the lock says",
        &|lock| {
            lock.stages.get_mut("scores").unwrap().needs.remove("model");
        },
    );
    told(
        0,
        "it was written by runner 0.0.1, and this is runner",
        &|lock| lock.runner = "0.0.1".to_owned(),
    );
    // What is set is not what the file says, and right all the same.
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--set",
        "epochs=1",
        "--target",
        "scores",
    ]);
    environment.succeed(&[
        "lock",
        "pipeline.yaml",
        "--set",
        "epochs=1",
        "--target",
        "scores",
        "-o",
        "one.lock",
    ]);
    environment.succeed(&["verify", "one.lock"]);
    environment.write("pipeline.yaml", SMALL.replace("channels: 3", "channels: 2"));
    environment
        .run(&["verify", "pipeline.lock"])
        .expect(3)
        .prints("param.channels: 3 -> 2");
    fs::remove_file(environment.path("pipeline.yaml")).unwrap();
    let alone = environment.succeed(&["verify", "pipeline.lock"]);
    alone.prints("the pipeline pipeline.yaml is not there, so the lock was not compared with it");
}

/// A stage that comes to something else each time, and one that stands on it.
const CLOCK: &str = "pipeline: clock
stages:
  now: {uses: command, with: {run: [sh, -c, \"date +%s%N > {out.t}\"], outputs: {t: {path: t}}}}
  size: {uses: command, from: now, with: {run: [sh, -c, \"cat {in.now}/* > {out.t}\"], outputs: {t: {path: t}}}}
";

#[test]
fn a_result_that_was_made_anew_is_superseded_and_not_tampered_with() {
    let environment = TestEnvironment::with_pipeline(CLOCK);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let first = environment.latest()["run"].as_str().unwrap().to_owned();
    environment.succeed(&["lock", "pipeline.yaml"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--force", "now"]);
    let second = environment.latest()["run"].as_str().unwrap().to_owned();
    environment.succeed(&["verify", "latest"]);
    for target in [first.as_str(), "pipeline.lock"] {
        let found = environment.json(&["verify", target]);
        let notes = found["notes"].to_string();
        assert!(
            notes.contains(&format!(
                "stage now is not deterministic: the run {second} executed it again"
            )),
            "{found}"
        );
    }
    // A bundle of the first run does not pass the new result off as its own.
    environment
        .succeed(&["export", &first, "--bundle", "run.bundle"])
        .says("no longer has the actions of now");
    // Without the record of the run that made it anew, nobody knows where the other result came from.
    let record = environment.path(&format!("cache/v1/runs/{second}/run.json"));
    let text = fs::read_to_string(&record).unwrap();
    fs::write(
        &record,
        text.replacen("\"state\":\"ran\"", "\"state\":\"hit\"", 1),
    )
    .unwrap();
    environment
        .run(&["verify", &first])
        .expect(3)
        .prints("stage now: the store has other outputs for it");
    fs::remove_file(&record).unwrap();
    environment
        .run(&["verify", "pipeline.lock"])
        .expect(3)
        .prints("the store has other outputs for it");
}

/// Writes a pair of keys as openssl does.
pub fn write_keys(environment: &TestEnvironment, name: &str, secret: [u8; 32]) {
    let private = KeypairBytes {
        secret_key: secret,
        public_key: None,
    }
    .to_pkcs8_pem(LineEnding::LF)
    .unwrap();
    let public = SigningKey::from_bytes(&secret)
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let path = environment.write(&format!("{name}.pem"), private.as_bytes());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    environment.write(&format!("{name}.pub"), public);
}

#[test]
fn a_signed_lock_holds_for_its_key_and_its_content() {
    let environment = locked();
    write_keys(&environment, "key", [1; 32]);
    write_keys(&environment, "other", [2; 32]);
    let verify = |key: &str| environment.run(&["verify", "pipeline.lock", "--verify", key]);
    verify("key.pub")
        .expect(3)
        .prints("there is no signature pipeline.lock.sig");
    environment
        .succeed(&["lock", "pipeline.yaml", "--sign", "key.pem"])
        .prints("signed in pipeline.lock.sig");
    verify("key.pub").expect(0).prints("and it is signed");
    verify("other.pub")
        .expect(3)
        .prints("made with another key");
    verify("key.pem")
        .expect(2)
        .says("does not hold a public")
        .says("pubout");
    verify("no.pub").expect(2).says("no.pub");
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--locked",
        "--verify",
        "key.pub",
    ]);
    environment
        .run(&["run", "pipeline.yaml", "--locked", "--verify", "other.pub"])
        .expect(3)
        .says("another key");
    let signature = environment.read("pipeline.lock.sig");
    environment.write(
        "pipeline.lock.sig",
        signature.replace("signature = ", "signature = 00"),
    );
    verify("key.pub")
        .expect(3)
        .prints("is not a signature of runner, or was changed");
    environment.write("pipeline.lock.sig", signature);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=1"]);
    environment
        .succeed(&["lock", "pipeline.yaml", "--set", "epochs=1"])
        .says("is of an earlier lock");
    verify("key.pub").expect(3).prints("is of other content");
    environment
        .run(&["lock", "pipeline.yaml", "--sign", "key.pub"])
        .expect(2)
        .says("private")
        .says("openssl genpkey");
    fs::set_permissions(
        environment.path("key.pem"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    environment
        .succeed(&["verify", "pipeline.lock", "--sign", "key.pem"])
        .says("others can read key.pem");
    verify("key.pub").expect(0);
}

#[test]
fn a_signed_record_holds_and_nothing_wrong_is_signed() {
    let (environment, records) = four_runs();
    write_keys(&environment, "key", [1; 32]);
    environment
        .succeed(&["verify", "latest", "--sign", "key.pem"])
        .prints("run.json.sig");
    environment.succeed(&["verify", "latest", "--verify", "key.pub"]);
    let text = fs::read_to_string(&records[3]).unwrap();
    fs::write(&records[3], text.replacen("\"seed\":7", "\"seed\":8", 1)).unwrap();
    let found = environment
        .run(&[
            "verify", "latest", "--verify", "key.pub", "--sign", "key.pem",
        ])
        .expect(3);
    found.prints("it has no seal that could be signed");
    assert!(!found.stdout.contains("signed in"), "{}", found.describe());
}
