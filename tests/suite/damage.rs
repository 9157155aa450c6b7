//! Damaged files of a store are found, named and set aside; what they held is computed again, and never served.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::environment::{Finished, TestEnvironment};
use crate::pipelines::SMALL;
use crate::store::{Harm, action, action_path, digests, object_path, part_path, ran};

/// A pipeline that has run once, and the record of that run.
fn after_one_run() -> (TestEnvironment, Value) {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let run = environment.latest();
    (environment, run)
}

fn short(environment: &TestEnvironment, path: &Path) -> String {
    path.strip_prefix(environment.folder())
        .unwrap()
        .display()
        .to_string()
}

/// `cache verify` names the path and the stage kind, with exit code 3, and is clean afterwards.
fn verify_names(environment: &TestEnvironment, path: &Path, kind: &str) -> Finished {
    let found = environment.run(&["cache", "verify"]).expect(3);
    found
        .prints(&short(environment, path))
        .prints(&format!("(made by {kind}"));
    environment.succeed(&["cache", "verify"]);
    found
}

/// The next run comes to the same content, and a whole store stands behind it.
fn recovers(environment: &TestEnvironment, before: &Value, place: &str) {
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let after = environment.latest();
    assert_eq!(digests(&after), digests(before), "{place}");
    assert_eq!(after["metrics"], before["metrics"], "{place}");
    environment.succeed(&["cache", "verify"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(
        ran(&environment.latest()),
        Vec::<String>::new(),
        "{place}: it is mended"
    );
}

#[test]
fn verification_finds_every_kind_of_object() {
    let outputs = [
        ("raw", "series", "generate"),
        ("windows", "windows", "window"),
        ("model", "model", "train"),
        ("model", "log", "train"),
        ("scores", "scores", "score"),
        ("metrics", "metrics", "evaluate"),
        ("plots", "plots", "render-plots"),
    ];
    let (environment, before) = after_one_run();
    for (index, (stage, port, kind)) in outputs.into_iter().enumerate() {
        let harm = Harm::ALL[index % Harm::ALL.len()];
        let path = object_path(&environment, stage, port);
        harm.happen_to(&path);
        verify_names(&environment, &path, kind);
        recovers(
            &environment,
            &before,
            &format!("{harm:?} of {stage}.{port}"),
        );
    }
}

#[test]
fn verification_finds_a_damaged_file_of_a_folder() {
    let (environment, before) = after_one_run();
    for harm in Harm::ALL {
        let path = part_path(&environment, "plots", "plots");
        harm.happen_to(&path);
        verify_names(&environment, &path, "render-plots");
        recovers(&environment, &before, &format!("{harm:?}"));
    }
}

/// Several objects at once are all in one report.
#[test]
fn verification_reports_everything_in_one_go() {
    let (environment, before) = after_one_run();
    let paths = [
        ("raw", "series"),
        ("model", "model"),
        ("metrics", "metrics"),
    ]
    .map(|(stage, port)| object_path(&environment, stage, port));
    paths.iter().for_each(|path| Harm::FlipBit.happen_to(path));
    let report = environment
        .run(&["cache", "verify", "--json"])
        .expect(3)
        .json();
    let named: Vec<&str> = report["damaged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].as_str().unwrap())
        .collect();
    for path in &paths {
        assert!(
            named.contains(&path.to_str().unwrap()),
            "{} is not in {report}",
            path.display()
        );
    }
    assert_eq!(named.len(), paths.len());
    recovers(&environment, &before, "three objects");
}

/// Which stage reads the object: the run itself notices, names and mends the damage.
#[test]
fn a_run_that_reads_a_damaged_input_recomputes_it() {
    for harm in Harm::ALL {
        let (environment, before) = after_one_run();
        let path = object_path(&environment, "scores", "scores");
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        harm.happen_to(&path);
        // `metrics` is a miss for which `scores` must be read, though `scores` itself looks like a hit.
        let finished = environment.succeed(&["run", "pipeline.yaml", "--force", "metrics"]);
        let after = environment.latest();
        assert_eq!(digests(&after), digests(&before), "{harm:?}");
        assert_eq!(after["metrics"], before["metrics"], "{harm:?}");
        assert!(
            ran(&after).contains(&"scores".to_owned()),
            "{harm:?}: {after}"
        );
        if matches!(harm, Harm::FlipBit) {
            finished
                .says(&name[..8])
                .says("is damaged")
                .says("scores: its stored outputs are damaged or missing");
            let aside = environment.files("cache/v1/quarantine");
            assert!(
                aside.len() == 1 && aside[0].to_str().unwrap().contains(&name),
                "{aside:?}"
            );
        }
        recovers(&environment, &before, &format!("{harm:?}"));
    }
}

/// A chain of damage: the input of what must be recomputed is damaged too.
#[test]
fn damage_of_an_input_of_what_is_recomputed_is_mended_as_well() {
    let (environment, before) = after_one_run();
    for (stage, port) in [
        ("scores", "scores"),
        ("windows", "windows"),
        ("model", "model"),
        ("scaled", "series"),
    ] {
        Harm::FlipBit.happen_to(&object_path(&environment, stage, port));
    }
    environment.succeed(&["run", "pipeline.yaml", "--force", "metrics"]);
    let after = environment.latest();
    assert_eq!(digests(&after), digests(&before));
    for stage in after["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|stage| stage["state"] == "ran")
    {
        assert_ne!(stage["reason"], "", "what runs says why: {stage}");
    }
    recovers(&environment, &before, "a chain");
}

/// Results that a run shows are read by it, although no stage needs them.
#[test]
fn damaged_results_are_recomputed_by_a_run_in_which_nothing_else_runs() {
    for (stage, path_of) in [
        (
            "metrics",
            object_path as fn(&TestEnvironment, &str, &str) -> std::path::PathBuf,
        ),
        ("plots", object_path),
        ("plots", part_path),
    ] {
        let (environment, before) = after_one_run();
        Harm::FlipBit.happen_to(&path_of(&environment, stage, stage));
        let finished = environment.succeed(&["run", "pipeline.yaml"]);
        let after = environment.latest();
        assert_eq!(ran(&after), [stage], "{}", finished.describe());
        assert_eq!(
            (digests(&after), &after["metrics"]),
            (digests(&before), &before["metrics"])
        );
        assert_eq!(environment.files("cache/v1/quarantine").len(), 1);
        recovers(&environment, &before, stage);
    }
}

#[test]
fn a_truncated_or_missing_object_is_no_hit() {
    for harm in [Harm::Truncate, Harm::Delete] {
        let (environment, before) = after_one_run();
        harm.happen_to(&object_path(&environment, "model", "log"));
        let plan = environment.succeed(&["plan", "pipeline.yaml"]);
        plan.prints("its outputs are gone from the store or damaged");
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        assert_eq!(
            ran(&environment.latest()),
            ["model"],
            "{harm:?}: nothing below it reruns"
        );
        recovers(&environment, &before, &format!("{harm:?}"));
    }
}

/// Any bit of a record may turn over, also one that leaves it readable.
#[test]
fn a_damaged_action_is_found_and_not_believed() {
    let (environment, before) = after_one_run();
    let path = action_path(&environment, "scores");
    let whole = fs::read(&path).unwrap();
    let digest = action(&environment, "scores").outputs[0]
        .record
        .digest
        .to_string();
    let at = String::from_utf8_lossy(&whole).find(&digest).unwrap();
    let mut other_digest = whole.clone();
    other_digest[at] = if whole[at] == b'0' { b'1' } else { b'0' };
    let cases = [
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("emptied", Vec::new()),
        ("with another digest", other_digest),
        ("with text behind it", [&whole[..], b"x"].concat()),
    ];
    for (place, bytes) in cases {
        fs::write(&path, &bytes).unwrap();
        let found = environment.run(&["cache", "verify"]);
        assert_eq!(found.code(), Some(3), "{place}: {}", found.describe());
        found.prints(&short(&environment, &path));
        recovers(&environment, &before, place);

        fs::write(&path, &bytes).unwrap();
        fs::remove_dir_all(environment.path("cache/v1/ledger")).unwrap();
        recovers(&environment, &before, place);
    }
}

#[test]
fn a_damaged_ledger_is_found_and_not_believed() {
    let (environment, before) = after_one_run();
    let ledgers = environment.files("cache/v1/ledger");
    let [path] = &ledgers[..] else {
        panic!("one pipeline has one ledger: {ledgers:?}")
    };
    let whole = fs::read(path).unwrap();
    let digest = action(&environment, "scores").outputs[0]
        .record
        .digest
        .to_string();
    let at = String::from_utf8_lossy(&whole).find(&digest).unwrap();
    let mut other_digest = whole.clone();
    other_digest[at] = if whole[at] == b'0' { b'1' } else { b'0' };
    for (place, bytes) in [
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("with another digest", other_digest),
    ] {
        fs::write(path, &bytes).unwrap();
        let found = environment.run(&["cache", "verify"]);
        assert_eq!(found.code(), Some(3), "{place}: {}", found.describe());
        found.prints(&short(&environment, path));
        environment.succeed(&["cache", "verify"]);

        fs::write(path, &bytes).unwrap();
        environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
        assert_eq!(
            ran(&environment.latest()),
            Vec::<String>::new(),
            "{place}: it is a shortcut only"
        );
        recovers(&environment, &before, place);
    }
}

/// Without the ledger, everything is found by its key.
#[test]
fn a_lost_ledger_costs_nothing() {
    let (environment, before) = after_one_run();
    fs::remove_dir_all(environment.path("cache/v1/ledger")).unwrap();
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), Vec::<String>::new());
    recovers(&environment, &before, "no ledger");
}

/// A hit has its action in the store. One that is damaged or gone comes back as it was, and nothing is computed for it.
#[test]
fn an_action_that_the_ledger_knows_is_written_again() {
    let harms: [fn(&Path); 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, b"").unwrap(),
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[100] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path| fs::remove_dir_all(path.parent().unwrap()).unwrap(),
    ];
    for (number, harm) in harms.into_iter().enumerate() {
        for verify_first in [false, true] {
            let (environment, before) = after_one_run();
            let paths = ["scores", "model"].map(|stage| action_path(&environment, stage));
            let whole = paths.clone().map(|path| fs::read(path).unwrap());
            paths.iter().for_each(|path| harm(path));
            environment.run(&["verify", "latest"]).expect(3);
            if verify_first {
                environment.run(&["cache", "verify"]);
            }
            environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
            let after = environment.latest();
            assert_eq!(
                (ran(&after), digests(&after)),
                (Vec::new(), digests(&before)),
                "harm {number}"
            );
            assert_eq!(
                paths.map(|path| fs::read(path).unwrap()),
                whole,
                "harm {number}: to the byte"
            );
            environment.succeed(&["verify", "latest"]);
            environment.succeed(&["cache", "verify"]);
            let remote = format!("file://{}", environment.path("shared").display());
            environment.succeed(&["cache", "push", "--remote", &remote]);
            assert_eq!(
                environment.files("shared/v1/actions").len(),
                8,
                "all of them are sent"
            );
        }
    }
}

/// Only looking at a pipeline changes nothing.
#[test]
fn a_plan_writes_no_action() {
    let (environment, _) = after_one_run();
    let path = action_path(&environment, "model");
    fs::remove_file(&path).unwrap();
    assert_eq!(environment.json(&["plan", "pipeline.yaml"])["hits"], 8);
    assert!(!path.exists());
}

/// A record that was cut short once ended every collection of garbage, and nothing said which one it was.
#[test]
fn a_record_of_a_run_that_cannot_be_read_is_named_and_set_aside() {
    for (harm, is_sealed) in [
        ("cut", false),
        ("empty", false),
        ("of a newer version", true),
    ] {
        let (environment, run) = after_one_run();
        let name = run["run"].as_str().unwrap();
        environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "seed=7"]);
        let path = environment
            .path("cache/v1/runs")
            .join(name)
            .join("run.json");
        let bytes = fs::read(&path).unwrap();
        let damaged = match harm {
            "cut" => bytes[..bytes.len() / 2].to_vec(),
            "empty" => Vec::new(),
            _ => resealed(&bytes),
        };
        fs::write(&path, damaged).unwrap();
        let collected = environment.run(&["cache", "gc"]).expect(1);
        collected.says(name).says("cache verify");
        environment.succeed(&["runs"]).says(name);
        environment.run(&["show", name]).expect(1).says("run.json");
        let verified = environment.run(&["cache", "verify"]);
        if is_sealed {
            assert_eq!(
                verified.code(),
                Some(0),
                "{harm}: it is as it was written: {}",
                verified.describe()
            );
            assert!(path.exists());
            continue;
        }
        verified.expect(3).prints(&short(&environment, &path));
        environment.succeed(&["cache", "verify"]);
        environment.succeed(&["cache", "gc"]);
        environment.succeed(&["runs"]);
        environment
            .run(&["verify", "latest"])
            .expect(3)
            .prints(name);
    }
}

/// A record with a state that this version does not know.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let (content, _) = text.rsplit_once(",\"seal\"").unwrap();
    let content = content.replacen("\"status\":\"done\"", "\"status\":\"paused\"", 1);
    let seal = contract::artifact::Digest::of_bytes(content.as_bytes());
    format!("{content},\"seal\":\"{seal}\"}}").into_bytes()
}

/// Files that are shown are other names of objects. Whoever edits one gets a file of their own.
#[test]
fn an_edit_of_a_shown_file_leaves_the_object_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let environment = TestEnvironment::with_pipeline(SMALL);
    let remote = format!("file://{}", environment.path("remote").display());
    fs::create_dir_all(environment.path("remote")).unwrap();
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--remote", &remote]);
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    environment.succeed(&["--store", "imported", "import", "run.bundle"]);
    environment.succeed(&[
        "--store", "pulled", "cache", "pull", "--all", "--remote", &remote,
    ]);
    for store in ["cache", "imported", "pulled"] {
        let objects = environment.files(&format!("{store}/v1/objects"));
        assert!(!objects.is_empty());
        for object in objects {
            let mode = fs::metadata(&object).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o444, "{}", object.display());
        }
    }
    let shown = environment
        .files("cache/v1/runs")
        .into_iter()
        .find(|path| path.ends_with("size.txt"))
        .unwrap();
    assert_eq!(
        fs::metadata(&shown).unwrap().permissions().mode() & 0o222,
        0
    );
    let edit = std::process::Command::new("sed")
        .args(["-i", "s/^/edited /"])
        .arg(&shown)
        .status()
        .unwrap();
    assert!(edit.success() && fs::read_to_string(&shown).unwrap().starts_with("edited"));
    environment
        .succeed(&["cache", "verify"])
        .prints("all intact");
}
