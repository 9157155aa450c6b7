//! Bundles: the same run gives the same bytes; another store takes one in whole or not at all; what was altered, cut off or
//! made to lead elsewhere is refused and changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use contract::artifact::Digest;
use runner::audit::Lock;
use runner::cache::Key;
use serde_json::{Value, json};

use crate::environment::{Finished, TestEnvironment};
use crate::pipelines::SMALL;
use crate::verify::write_keys;

/// A store with one run, and its bundle beside the pipeline.
fn bundled(more: &[&str]) -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&[&["export", "latest", "--bundle", "run.bundle"], more].concat());
    environment
}

fn bytes(environment: &TestEnvironment) -> Vec<u8> {
    fs::read(environment.path("run.bundle")).unwrap()
}

/// Imports bytes into another store of the environment, which is emptied before.
fn import(environment: &TestEnvironment, bytes: &[u8]) -> Finished {
    let _ = fs::remove_dir_all(environment.path("other"));
    environment.write("tried.bundle", bytes);
    environment.run(&["--store", "other", "import", "tried.bundle"])
}

/// Nothing of what was refused is in the store.
fn untouched(environment: &TestEnvironment) {
    assert_eq!(environment.files("other"), Vec::<PathBuf>::new());
}

/// Alters the manifest of a bundle and its entries.
type Change<'a> = dyn Fn(&mut Value, &mut Vec<(String, Vec<u8>)>) + 'a;

#[test]
fn the_same_run_gives_the_same_bytes() {
    let environment = bundled(&[]);
    let first = bytes(&environment);
    environment.succeed(&["export", "latest", "--bundle", "run.bundle", "--force"]);
    assert!(first == bytes(&environment), "the bytes differ");
    // And after it went through another store.
    import(&environment, &first).expect(0);
    environment.succeed(&[
        "--store",
        "other",
        "export",
        "latest",
        "--bundle",
        "again.bundle",
    ]);
    assert!(
        first == fs::read(environment.path("again.bundle")).unwrap(),
        "the bytes of the import differ"
    );
    // Any tar reads it.
    let mut archive = tar::Archive::new(first.as_slice());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names[0], "MANIFEST.json");
    assert!(
        names.contains(&"run/run.json".to_owned())
            && names.contains(&"run/pipeline.lock".to_owned())
    );
    let mut sorted = names[1..].to_vec();
    sorted.sort();
    assert_eq!(sorted, names[1..]);
}

#[test]
fn what_was_taken_in_is_up_to_date_there() {
    let environment = bundled(&[]);
    let before = environment.latest();
    let elsewhere = TestEnvironment::new();
    elsewhere.write("run.bundle", bytes(&environment));
    let rehearsed = elsewhere.json(&["import", "run.bundle", "--dry-run"]);
    assert!(
        !elsewhere.path("cache").exists(),
        "a rehearsal writes nothing"
    );
    let taken = elsewhere.json(&["import", "run.bundle", "--extract", "here"]);
    assert_eq!(rehearsed["new"], taken["new"]);
    assert_eq!(
        (&taken["new"]["actions"], &taken["new"]["run"]),
        (&json!(8), &json!(true))
    );
    assert_eq!(taken["new"]["objects"], taken["objects"]);
    assert_eq!(elsewhere.read("here/pipeline.yaml"), SMALL);
    assert!(
        elsewhere
            .read("here/pipeline.lock")
            .contains("stage \"model\"")
    );
    let after = elsewhere.latest();
    assert_eq!(
        (&after["run"], &after["stages"], &after["metrics"]),
        (&before["run"], &before["stages"], &before["metrics"])
    );
    elsewhere.succeed(&["show"]).prints("files").prints(".png");
    elsewhere
        .succeed(&["cache", "verify"])
        .prints("all intact")
        .prints("8 actions");
    elsewhere
        .succeed(&["verify"])
        .prints("as written")
        .prints("come from another store");
    let plan = elsewhere.json(&["plan", "here/pipeline.yaml"]);
    assert_eq!(plan["hits"], 8, "{plan}");
    elsewhere.succeed(&["run", "--quiet", "here/pipeline.yaml", "--locked"]);
    let again = elsewhere.json(&["import", "run.bundle", "--extract", "here"]);
    assert_eq!(
        again["new"],
        json!({"objects": 0, "actions": 0, "run": false})
    );
    elsewhere
        .succeed(&["import", "run.bundle"])
        .prints("all of it was here already");
    elsewhere.write("here/pipeline.yaml", "mine");
    elsewhere
        .run(&["import", "run.bundle", "--extract", "here"])
        .expect(2)
        .says("with another content");
    assert_eq!(elsewhere.read("here/pipeline.yaml"), "mine");
}

#[test]
fn a_part_of_the_objects_is_enough_for_the_rest_to_be_computed() {
    let environment = bundled(&["--objects", "metrics", "--stage", "model"]);
    let elsewhere = TestEnvironment::with_pipeline(SMALL);
    elsewhere.write("run.bundle", bytes(&environment));
    let taken = elsewhere.json(&["import", "run.bundle"]);
    assert_eq!(
        (&taken["actions"], &taken["new"]["actions"]),
        (&json!(8), &json!(2))
    );
    let without: BTreeSet<&str> = taken["without_objects"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        without,
        BTreeSet::from(["raw", "scaled", "windows", "scores", "plots", "size"])
    );
    elsewhere.succeed(&["cache", "verify"]).prints("all intact");
    elsewhere
        .succeed(&["verify", "latest"])
        .prints("of 6 stages this store has no results that could be checked");
    // What was left out is described in the lock of the bundle.
    elsewhere.write(
        "other.yaml",
        SMALL.replace("method: zscore", "method: minmax"),
    );
    let audit = elsewhere
        .run(&["audit", "latest", "--pipeline", "other.yaml", "--json"])
        .expect(3)
        .json();
    let scaled = audit["stages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|stage| stage["stage"] == "scaled")
        .unwrap();
    assert_eq!(scaled["differences"][0]["path"], "with.method", "{audit}");
    elsewhere.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let states = |name: &str| {
        let latest = elsewhere.latest();
        let stages = latest["stages"].as_array().unwrap();
        stages.iter().find(|stage| stage["name"] == name).unwrap()["state"].clone()
    };
    assert_eq!(
        (states("raw"), states("model"), states("scores")),
        (json!("ran"), json!("hit"), json!("ran"))
    );
    let nothing = bundled(&["--objects", "none"]);
    let taken = import(&nothing, &bytes(&nothing)).expect(0);
    taken
        .prints("0 of 0 objects, 0 of 8 actions")
        .prints("are not in the bundle");
}

#[test]
fn what_includes_others_comes_with_them() {
    let environment = TestEnvironment::new();
    environment.write("shared/raw.yaml", "stages:\n  raw: {uses: generate, with: {channels: 2, day: 24, rows: {train: 60, validation: 30, calibration: 30, test: 60}}}\n");
    environment.write(
        "own/main.yaml",
        "pipeline: parts\ninclude: [../shared/raw.yaml]\nstages:\n  scaled: {uses: normalize, from: raw}\n",
    );
    environment.succeed(&["run", "--quiet", "own/main.yaml"]);
    // What the file says later is no matter: the run had another one.
    environment.write("own/main.yaml", "pipeline: changed\n");
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    let elsewhere = TestEnvironment::new();
    elsewhere.write("run.bundle", bytes(&environment));
    elsewhere.succeed(&["import", "run.bundle", "--extract", "."]);
    assert!(elsewhere.path("shared/raw.yaml").exists());
    assert_eq!(elsewhere.json(&["plan", "own/main.yaml"])["hits"], 2);
}

#[test]
fn no_altered_byte_and_no_end_that_is_missing_is_taken_in() {
    let environment = bundled(&["--objects", "metrics"]);
    let whole = bytes(&environment);
    // Every block of the file, at changing places, besides the first that says what it is.
    for (step, at) in (512..whole.len()).step_by(whole.len() / 60).enumerate() {
        let mut harmed = whole.clone();
        harmed[at + step % 7] ^= 1 << (step % 8);
        import(&environment, &harmed)
            .expect(3)
            .says("damaged or was altered")
            .says("nothing was imported");
        untouched(&environment);
    }
    for length in [513, 1024, whole.len() / 2, whole.len() - 1] {
        import(&environment, &whole[..length]).expect(3);
        untouched(&environment);
    }
    import(&environment, &[&whole[..], b"x"].concat())
        .expect(3)
        .says("instead of");
    untouched(&environment);
    for nothing in [&b""[..], b"PK\x03\x04", &[7; 2000]] {
        import(&environment, nothing)
            .expect(2)
            .says("is not a bundle of runner");
        untouched(&environment);
    }
    environment
        .run(&["import", "no.bundle"])
        .expect(2)
        .says("there is no such file");
    environment
        .run(&["import", "."])
        .expect(2)
        .says("is not a bundle");
    import(&environment, &whole).expect(0);
}

/// A bundle with another manifest and other contents, right in itself.
fn forged(whole: &[u8], change: impl Fn(&mut Value, &mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let mut archive = tar::Archive::new(whole);
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        entries.push((name, content));
    }
    let (_, manifest) = entries.remove(0);
    let line = manifest.split(|byte| *byte == b'\n').next().unwrap();
    let mut manifest: Value = serde_json::from_slice(line).unwrap();
    change(&mut manifest, &mut entries);
    let list: Vec<Value> = entries
        .iter()
        .map(|(name, content)| json!({"name": name, "bytes": content.len(), "blake3": Digest::of_bytes(content)}))
        .collect();
    if manifest["entries"].is_array() {
        manifest["entries"] = list.into();
    }
    let line = manifest.to_string();
    let manifest = format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())).into_bytes();
    let mut bytes = Vec::new();
    for (name, content) in [("MANIFEST.json".to_owned(), manifest)]
        .iter()
        .chain(&entries)
    {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

fn content<'a>(entries: &'a mut [(String, Vec<u8>)], name: &str) -> &'a mut Vec<u8> {
    &mut entries
        .iter_mut()
        .find(|(other, _)| other.contains(name))
        .unwrap()
        .1
}

#[test]
fn what_is_right_in_itself_but_made_to_harm_is_refused() {
    let environment = bundled(&["--objects", "metrics"]);
    let whole = bytes(&environment);
    assert!(forged(&whole, |_, _| {}) == whole, "the forger forges well");
    let refused = |code: i32, says: &str, change: &Change<'_>| {
        import(&environment, &forged(&whole, change))
            .expect(code)
            .says(says);
        untouched(&environment);
    };
    for name in [
        "../escaped",
        "/escaped",
        "run/../../escaped",
        "zzz",
        "pipeline/../../escaped.yaml",
    ] {
        refused(3, "which no bundle has", &|_, entries| {
            entries.push((name.to_owned(), b"x".to_vec()));
            entries.sort();
        });
    }
    for path in [
        "../escaped.yaml",
        "/escaped.yaml",
        "a/../../escaped.yaml",
        "a\\..\\b",
        "",
    ] {
        refused(3, "leads elsewhere", &|manifest, _| {
            manifest["pipeline_files"][0][1] = path.into()
        });
    }
    refused(2, "is a bundle of version 5", &|manifest, _| {
        manifest["version"] = 5.into()
    });
    refused(3, "not that of its lock", &|manifest, _| {
        manifest["version"] = 4.into()
    });
    refused(3, "not that of its entries", &|manifest, _| {
        manifest["version"] = 3.into()
    });
    refused(3, "not that of its entries", &|manifest, _| {
        manifest["version"] = 2.into()
    });
    refused(2, "is not a bundle", &|manifest, _| {
        manifest["format"] = "other".into()
    });
    refused(3, "not in order", &|_, entries| entries.swap(0, 1));
    refused(3, "its record is of the run", &|manifest, _| {
        manifest["run"] = "other".into()
    });
    refused(3, "changed after it was sealed", &|_, entries| {
        let record = content(entries, "run/run.json");
        let text = String::from_utf8(record.clone()).unwrap();
        *record = text.replacen("\"seed\":7", "\"seed\":8", 1).into_bytes();
    });
    // An action of another key, sealed anew: the manifest in it gives it away.
    refused(3, "is not an action of that key", &|_, entries| {
        let (name, action) = entries
            .iter_mut()
            .find(|(name, _)| name.starts_with("actions/"))
            .unwrap();
        let line = action.split(|byte| *byte == b'\n').next().unwrap();
        let mut value: Value = serde_json::from_slice(line).unwrap();
        let other = Digest([1; 32]).to_string();
        value["key"] = other.as_str().into();
        let line = value.to_string();
        *action = format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())).into_bytes();
        *name = format!("actions/{}/{}.json", &other[..2], &other[2..]);
        entries.sort();
    });
    // An action that promises another content than its object has.
    refused(3, "its content has the digest", &|_, entries| {
        for (_, action) in entries
            .iter_mut()
            .filter(|(name, _)| name.starts_with("actions/"))
        {
            let line = action.split(|byte| *byte == b'\n').next().unwrap();
            let mut value: Value = serde_json::from_slice(line).unwrap();
            if value["kind"] != "evaluate" {
                continue;
            }
            value["outputs"][0]["digest"] = Digest([2; 32]).to_string().into();
            let line = value.to_string();
            *action = format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())).into_bytes();
        }
    });
    refused(3, "another digest than its name", &|_, entries| {
        content(entries, "objects/").push(0)
    });
    assert!(
        !environment.path("escaped").exists()
            && !environment
                .folder()
                .parent()
                .unwrap()
                .join("escaped")
                .exists()
    );
}

/// A list of files in the bundle that names a file outside, with all sums right.
#[test]
fn a_list_of_files_that_leads_elsewhere_is_refused_by_name() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: p\nstages:\n  it: {uses: command, with: {run: [sh, -c, \"mkdir {out.o}; echo x > {out.o}/aa_aa_file\"], outputs: {o: {path: o}}}}\n",
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    let whole = bytes(&environment);
    let (name, other) = (b"aa_aa_file", b"../../file");
    let holds = |bytes: &[u8]| bytes.windows(name.len()).position(|part| part == name);
    let evil = forged(&whole, |_, entries| {
        let is_list = |(entry, bytes): &&mut (String, Vec<u8>)| {
            entry.starts_with("objects/") && holds(bytes).is_some()
        };
        let (entry, list) = entries.iter_mut().find(is_list).unwrap();
        let old = Digest::of_bytes(list).to_string();
        while let Some(place) = holds(list) {
            list[place..place + name.len()].copy_from_slice(other);
        }
        let new = Digest::of_bytes(list).to_string();
        *entry = format!("objects/{}/{}.parquet", &new[..2], &new[2..]);
        let (_, action) = entries
            .iter_mut()
            .find(|(name, _)| name.starts_with("actions/"))
            .unwrap();
        let line = String::from_utf8(action.clone())
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .replace(&old, &new);
        *action = format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())).into_bytes();
        entries.sort();
    });
    environment.write("tried.bundle", &evil);
    for more in [&["--dry-run"][..], &[]] {
        let import = [&["--store", "other", "import", "tried.bundle"], more].concat();
        environment
            .run(&import)
            .expect(3)
            .says("the path `../../file` has a part `..`")
            .says("nothing was imported");
        untouched(&environment);
    }
}

#[test]
fn a_pipeline_that_is_not_that_of_the_record_is_refused() {
    let environment = bundled(&["--objects", "metrics"]);
    let whole = bytes(&environment);
    let other = SMALL.replace("wc -c", "rm -r");
    let forgery = forged(&whole, |_, entries| {
        *content(entries, "pipeline/0.yaml") = other.clone().into_bytes()
    });
    import(&environment, &forgery)
        .expect(3)
        .says("its pipeline is not that of its record");
    let forgery = forged(&whole, |manifest, _| {
        manifest["pipeline_files"][0][1] = "other.yaml".into()
    });
    import(&environment, &forgery)
        .expect(3)
        .says("its pipeline is not that of its record");
    untouched(&environment);
}

/// A lock in the bundle that is sealed well, but says something else than the record.
#[test]
fn a_lock_that_does_not_agree_with_the_record_is_refused() {
    let environment = bundled(&["--objects", "metrics"]);
    let whole = bytes(&environment);
    let refused = |says: &str, change: &dyn Fn(&mut Lock)| {
        let forgery = forged(&whole, |_, entries| {
            let text = content(entries, "run/pipeline.lock");
            let mut lock = Lock::parse(
                std::str::from_utf8(text).unwrap(),
                Path::new("pipeline.lock"),
            )
            .unwrap();
            change(&mut lock);
            *text = lock.to_text().into_bytes();
        });
        import(&environment, &forgery)
            .expect(3)
            .says("its lock")
            .says(says);
        untouched(&environment);
    };
    let other = Digest([3; 32]);
    refused("its seed is different", &|lock| lock.seed = Some(8));
    refused("its list of parameters is different", &|lock| {
        drop(lock.params.insert("epochs".to_owned(), json!(3)))
    });
    refused("its list of stages is different", &|lock| {
        drop(lock.stages.remove("plots"))
    });
    refused("model has another key", &|lock| {
        lock.stages.get_mut("model").unwrap().key = Key(other)
    });
    refused("scores has other outputs", &|lock| {
        *lock
            .stages
            .get_mut("scores")
            .unwrap()
            .outputs
            .values_mut()
            .next()
            .unwrap() = other;
    });
    refused("metrics has other metrics", &|lock| {
        *lock
            .stages
            .get_mut("metrics")
            .unwrap()
            .metrics
            .values_mut()
            .next()
            .unwrap() = Some(0.996);
    });
    refused("a manifest that is not that of its key", &|lock| {
        let manifest = &mut lock.stages.get_mut("model").unwrap().manifest;
        *manifest = manifest.replace("with.epochs = 2", "with.epochs = 3");
    });
    refused("is of the pipeline file", &|lock| {
        lock.file = "../other.yaml".to_owned()
    });
    let forgery = forged(&whole, |_, entries| {
        content(entries, "run/pipeline.lock").truncate(100)
    });
    import(&environment, &forgery)
        .expect(3)
        .says("run/pipeline.lock");
    let forgery = forged(&whole, |_, entries| {
        entries.retain(|(name, _)| name != "run/pipeline.lock")
    });
    import(&environment, &forgery)
        .expect(3)
        .says("it has no lock");
    untouched(&environment);
}

/// What differs between trials is in their stages and in the record; the head of the lock says what holds for all of them.
#[test]
fn the_lock_of_a_sweep_says_what_its_trials_have_in_common() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.write(
        "sweep.yaml",
        "sweep: s\npipeline: pipeline.yaml\nobjective: {stage: metrics, metric: f1}\naxes: {epochs: [1, 2]}\nseeds: [1, 2]\n",
    );
    environment.succeed(&["sweep", "sweep.yaml", "--quiet", "--set", "channels=2"]);
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    let whole = bytes(&environment);
    import(&environment, &whole).expect(0);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let lock = environment.read(&format!("other/v1/runs/{run}/pipeline.lock"));
    let head = lock.split("\nstage ").next().unwrap();
    assert!(
        head.contains("param.channels = 2")
            && !head.contains("param.epochs")
            && !head.contains("seed = "),
        "{head}"
    );
    environment
        .succeed(&["audit", "run.bundle"])
        .prints("18 bitwise");
    environment.succeed(&["verify", "latest"]);
    environment.succeed(&[
        "--store",
        "other",
        "export",
        "latest",
        "--bundle",
        "again.bundle",
    ]);
    assert!(
        whole == fs::read(environment.path("again.bundle")).unwrap(),
        "the bytes of the import differ"
    );
    // As earlier versions wrote it, with parameters and seed of the first trial.
    let earlier = |version: u64| {
        forged(&whole, |manifest, entries| {
            manifest["version"] = version.into();
            let text = content(entries, "run/pipeline.lock");
            let mut lock = Lock::parse(
                std::str::from_utf8(text).unwrap(),
                Path::new("pipeline.lock"),
            )
            .unwrap();
            lock.params.insert("epochs".to_owned(), json!(1));
            lock.seed = Some(1);
            *text = lock.to_text().into_bytes();
        })
    };
    import(&environment, &earlier(1)).expect(0);
    import(&environment, &earlier(4))
        .expect(3)
        .says("not that of its lock");
    untouched(&environment);
}

/// A signed run with a signed lock beside its pipeline, and their bundle.
fn signed() -> TestEnvironment {
    let environment = bundled(&[]);
    write_keys(&environment, "key", [1; 32]);
    write_keys(&environment, "other", [2; 32]);
    environment.succeed(&["lock", "pipeline.yaml", "--sign", "key.pem"]);
    environment.succeed(&["verify", "latest", "--sign", "key.pem"]);
    environment
}

#[test]
fn signatures_come_along_and_hold_elsewhere() {
    let environment = signed();
    let unsigned = bytes(&environment);
    let written = environment.json(&["export", "latest", "--bundle", "run.bundle", "--force"]);
    assert_eq!(written["signed"], json!(["record", "lock"]));
    let elsewhere = TestEnvironment::new();
    for name in ["key.pub", "other.pub"] {
        elsewhere.write(name, environment.read(name));
    }
    // What was imported unsigned gets its signature by another import.
    elsewhere.write("unsigned.bundle", unsigned);
    elsewhere.succeed(&["import", "unsigned.bundle"]);
    elsewhere
        .run(&["verify", "latest", "--verify", "key.pub"])
        .expect(3)
        .prints("there is no signature");
    elsewhere.write("run.bundle", bytes(&environment));
    let taken = elsewhere.json(&["import", "run.bundle", "--extract", "here"]);
    assert_eq!(
        (&taken["signed"], &taken["new"]["run"]),
        (&json!(["record", "lock"]), &json!(false))
    );
    for target in ["latest", "here/pipeline.lock"] {
        elsewhere
            .succeed(&["verify", target, "--verify", "key.pub"])
            .prints("and it is signed");
        elsewhere
            .run(&["verify", target, "--verify", "other.pub"])
            .expect(3)
            .prints("made with another key");
    }
    elsewhere
        .succeed(&["import", "run.bundle", "--dry-run"])
        .prints("its record and its lock came with a signature");
    elsewhere
        .succeed(&["export", "latest", "--bundle", "again.bundle"])
        .prints("with the signature of the record");
    assert!(
        fs::read(elsewhere.path("again.bundle")).unwrap() == bytes(&environment),
        "the bytes differ"
    );
    // A lock of another run is not that of this one, whoever signed it.
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=1"]);
    environment.succeed(&["export", "latest", "--bundle", "later.bundle"]);
    elsewhere.write(
        "later.bundle",
        fs::read(environment.path("later.bundle")).unwrap(),
    );
    assert_eq!(
        elsewhere.json(&["import", "later.bundle"])["signed"],
        json!([])
    );
}

#[test]
fn a_signature_that_does_not_hold_is_refused() {
    let environment = signed();
    environment.succeed(&["export", "latest", "--bundle", "run.bundle", "--force"]);
    let whole = bytes(&environment);
    for (entry, what) in [
        ("run/run.json.sig", "its record"),
        ("run/pipeline.lock.sig", "its lock"),
    ] {
        let altered = forged(&whole, |_, entries| {
            let text = content(entries, entry);
            let at = text.len() - 10;
            text[at] = if text[at] == b'0' { b'1' } else { b'0' };
        });
        import(&environment, &altered)
            .expect(3)
            .says(&format!("the signature of {what} does not hold"));
        // That of the other, in its place.
        let swapped = forged(&whole, |_, entries| {
            let [record, lock] = ["run/run.json.sig", "run/pipeline.lock.sig"]
                .map(|name| content(entries, name).clone());
            *content(entries, "run/run.json.sig") = lock;
            *content(entries, "run/pipeline.lock.sig") = record;
        });
        import(&environment, &swapped)
            .expect(3)
            .says("does not hold");
        untouched(&environment);
    }
}

#[test]
fn another_run_of_the_same_name_stays() {
    let environment = bundled(&[]);
    let whole = bytes(&environment);
    import(&environment, &whole).expect(0);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    environment.write(&format!("other/v1/runs/{run}/run.json"), "{}");
    let refused = environment
        .run(&["--store", "other", "import", "run.bundle"])
        .expect(3);
    refused.says("another run of the name").says("--store DIR");
    assert_eq!(
        environment.read(&format!("other/v1/runs/{run}/run.json")),
        "{}"
    );
}

/// What is shown of a run lies in the store, whatever links stand in its way.
#[test]
fn files_of_a_run_are_shown_through_no_link() {
    let environment = bundled(&[]);
    let whole = bytes(&environment);
    import(&environment, &whole).expect(0);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let files = environment.path(&format!("other/v1/runs/{run}/files"));
    let stage = fs::read_dir(&files)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    environment.write("victim/doc", "precious");
    for place in [stage, files] {
        fs::remove_dir_all(&place).unwrap();
        std::os::unix::fs::symlink(environment.path("victim"), &place).unwrap();
        environment
            .run(&["--store", "other", "import", "run.bundle"])
            .expect(0)
            .says("cannot be shown");
        assert_eq!(environment.files("victim").len(), 1);
    }
}

#[test]
fn what_is_lost_from_the_store_makes_no_bundle() {
    let environment = bundled(&[]);
    let object = environment
        .files("cache/v1/objects")
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .unwrap();
    let mut bytes = fs::read(&object).unwrap();
    bytes[100] ^= 1;
    fs::remove_file(&object).unwrap();
    fs::write(&object, bytes).unwrap();
    let damaged = environment
        .run(&["export", "latest", "--bundle", "new.bundle"])
        .expect(1);
    damaged
        .says("what the stage model made is gone from the store")
        .says("is damaged");
    fs::remove_file(&object).unwrap();
    environment
        .run(&["export", "latest", "--bundle", "new.bundle"])
        .expect(1)
        .says("is missing from the store");
    assert!(!environment.path("new.bundle").exists());
    environment.succeed(&[
        "export",
        "latest",
        "--bundle",
        "new.bundle",
        "--objects",
        "metrics",
    ]);
}

/// A pipeline whose stages read files beside it, outside of its folder, at an absolute path, and a program.
fn with_files() -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.write("own/count.sh", "wc -c < \"$1\" > \"$2\"\n");
    environment.write("shared/words.txt", "one two three\n");
    environment.write("far/absolute.txt", "far away\n");
    environment.write("own/deep/program", "#!/bin/sh\necho programmed > \"$1\"\n");
    make_executable(&environment.path("own/deep/program"));
    let far = environment.path("far/absolute.txt").display().to_string();
    environment.write(
        "own/pipeline.yaml",
        format!(
            "pipeline: files\nstages:\n  a: {{uses: command, with: {{run: [sh, \"{{file.s}}\", \"{{file.w}}\", \"{{out.o}}\"], \
             files: {{s: count.sh, w: ../shared/words.txt}}, outputs: {{o: {{path: o}}}}}}}}\n  b: {{uses: command, with: {{run: \
             [sh, \"{{file.s}}\", \"{{file.w}}\", \"{{out.o}}\"], files: {{s: ./count.sh, w: {far}}}, outputs: {{o: {{path: o}}}}}}}}\n  \
             c: {{uses: command, with: {{run: [\"{{file.p}}\", \"{{out.o}}\"], files: {{p: deep/program}}, outputs: {{o: {{path: \
             o}}}}}}}}\n"
        ),
    );
    environment.succeed(&["run", "--quiet", "own/pipeline.yaml"]);
    environment
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Everything but the bundle goes, as on another machine.
fn leave_only_the_bundle(environment: &TestEnvironment) {
    for folder in ["own", "shared", "far", "cache"] {
        fs::remove_dir_all(environment.path(folder)).unwrap();
    }
}

#[test]
fn raw_files_come_along_and_are_found_by_their_digests() {
    let environment = with_files();
    let told = environment.json(&["export", "latest", "--bundle", "run.bundle"]);
    assert_eq!(
        (&told["files"], &told["left_out"]),
        (&json!(4), &json!([])),
        "{told}"
    );
    let first = bytes(&environment);
    leave_only_the_bundle(&environment);
    environment
        .succeed(&["audit", "run.bundle"])
        .prints("3 bitwise");
    environment
        .succeed(&["import", "run.bundle"])
        .prints("the bundle brought 4 raw files");
    environment
        .succeed(&["audit", "latest"])
        .prints("3 bitwise");
    // Files of the same names that lie around here are not taken for them.
    environment.write("count.sh", "echo wrong > \"$2\"\n");
    environment
        .succeed(&["audit", "latest"])
        .prints("3 bitwise");
    environment.succeed(&["export", "latest", "--bundle", "again.bundle"]);
    assert!(
        first == fs::read(environment.path("again.bundle")).unwrap(),
        "the bytes of the import differ"
    );
    // One that was changed in the store is not used.
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let raw = environment
        .files(&format!("cache/v1/runs/{run}/raw"))
        .remove(0);
    fs::remove_file(&raw).unwrap();
    fs::write(&raw, "changed").unwrap();
    environment
        .run(&["audit", "latest"])
        .expect(1)
        .says("no longer the file that came in the bundle");
}

#[test]
fn an_extracted_pipeline_runs_with_what_came_along() {
    let environment = with_files();
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    leave_only_the_bundle(&environment);
    let taken = environment.json(&["import", "run.bundle", "--extract", "here"]);
    let extracted: BTreeSet<&str> = taken["extracted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap())
        .collect();
    let expected = [
        "here/count.sh",
        "here/deep/program",
        "here/pipeline.lock",
        "here/pipeline.yaml",
    ];
    assert_eq!(extracted, BTreeSet::from(expected));
    assert!(
        !environment.path("shared").exists() && !environment.path("far").exists(),
        "nothing leads outside"
    );
    let plan = environment.json(&["plan", "here/pipeline.yaml"]);
    assert_eq!(plan["hits"], 3, "{plan}");
    // Also where everything is to be computed.
    let forced = [
        "run",
        "--quiet",
        "here/pipeline.yaml",
        "--force",
        "a",
        "--force",
        "b",
        "--force",
        "c",
    ];
    environment
        .succeed(&forced)
        .says("its copy from an imported run is read");
    environment.succeed(&["import", "run.bundle", "--extract", "here"]);
    // What is here counts before what came along.
    environment.write("here/count.sh", "echo mine > \"$2\"\n");
    let plan = environment.json(&["plan", "here/pipeline.yaml"]);
    assert_eq!(plan["hits"], 1, "{plan}");
    environment
        .run(&["import", "run.bundle", "--extract", "here"])
        .expect(2)
        .says("with another content");
}

#[test]
fn what_is_too_large_or_has_changed_stays_and_is_named() {
    let environment = with_files();
    environment.write("shared/words.txt", "other words\n");
    let told = environment.json(&[
        "export",
        "latest",
        "--bundle",
        "run.bundle",
        "--files-up-to",
        "30",
    ]);
    let left: Vec<(&str, &str)> = told["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| {
            (
                left["path"].as_str().unwrap(),
                left["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(told["files"], 2, "{told}");
    assert!(
        left.contains(&("../shared/words.txt", "no longer what it was")),
        "{told}"
    );
    assert!(left.contains(&("deep/program", "too large")), "{told}");
    let shown = environment.succeed(&[
        "export",
        "latest",
        "--bundle",
        "run.bundle",
        "--files-up-to",
        "30",
        "--force",
    ]);
    shown
        .prints("the raw file deep/program is not included (too large")
        .prints("--files-up-to SIZE");
    let none = environment.json(&[
        "export",
        "latest",
        "--bundle",
        "none.bundle",
        "--files-up-to",
        "0",
    ]);
    assert_eq!(none["files"], 0);
    environment
        .run(&["export", "latest", "--bundle", "x", "--files-up-to", "much"])
        .expect(2)
        .says("is not a size");
}

/// What the sizes of a bundle's entries say is added up before anything is read or written.
#[test]
fn raw_files_of_a_bundle_have_a_limit() {
    let environment = with_files();
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    let forgery = forged_sizes(&bytes(&environment), |name, bytes| {
        match name.starts_with("files/") {
            true => 1 << 35,
            false => bytes,
        }
    });
    import(&environment, &forgery)
        .expect(3)
        .says("its raw files have")
        .says("a bundle has 68719476736 of them at most");
    untouched(&environment);
    let more = [
        "export",
        "latest",
        "--bundle",
        "x",
        "--files-up-to",
        "65 GiB",
    ];
    environment
        .run(&more)
        .expect(2)
        .says("no more than 64.0 GiB of raw files");
}

/// A bundle whose manifest says other sizes of its entries.
fn forged_sizes(whole: &[u8], size: impl Fn(&str, u64) -> u64) -> Vec<u8> {
    let mut archive = tar::Archive::new(whole);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let mut manifest = String::new();
    std::io::Read::read_to_string(&mut entry, &mut manifest).unwrap();
    let mut manifest: Value = serde_json::from_str(manifest.lines().next().unwrap()).unwrap();
    for entry in manifest["entries"].as_array_mut().unwrap() {
        entry["bytes"] = size(
            entry["name"].as_str().unwrap(),
            entry["bytes"].as_u64().unwrap(),
        )
        .into();
    }
    let line = manifest.to_string();
    let manifest = format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())).into_bytes();
    let mut header = tar::Header::from_byte_slice(&whole[..512]).clone();
    header.set_size(manifest.len() as u64);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), manifest.as_slice()].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// One content with many places is there once until it is laid out.
#[test]
fn an_import_needs_little_memory_for_raw_files() {
    const SIZE: usize = 100 << 20;
    let environment = TestEnvironment::new();
    fs::write(environment.path("large.bin"), vec![7_u8; SIZE]).unwrap();
    let stage = |number: usize| {
        fs::hard_link(
            environment.path("large.bin"),
            environment.path(&format!("l{number}.bin")),
        )
        .unwrap();
        format!(
            "  s{number}: {{uses: command, with: {{run: [sh, -c, \"head -c 3 {{file.f}} > {{out.o}}\"], files: {{f: l{number}.bin}}, \
             outputs: {{o: {{path: o}}}}}}}}\n"
        )
    };
    let stages: String = (0..8).map(stage).collect();
    environment.write(
        "pipeline.yaml",
        format!("pipeline: large\nstages:\n{stages}"),
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&[
        "export",
        "latest",
        "--bundle",
        "run.bundle",
        "--files-up-to",
        "1 GiB",
    ]);
    let mut command = std::process::Command::new("sh");
    let import = "ulimit -v 700000; exec \"$0\" --store other import run.bundle --extract here";
    command
        .args(["-c", import])
        .arg(crate::environment::program())
        .current_dir(environment.folder());
    environment.start(command).wait().expect(0);
    for number in 0..8 {
        assert_eq!(
            fs::metadata(environment.path(&format!("here/l{number}.bin")))
                .unwrap()
                .len(),
            SIZE as u64
        );
    }
}

/// Nothing in a store is followed, and no pipe in it is waited for.
#[test]
fn an_import_reads_no_record_through_a_link_or_from_a_pipe() {
    let environment = bundled(&["--objects", "metrics"]);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let record = environment.path(&format!("other/v1/runs/{run}/run.json"));
    let refused = |says: &str| {
        environment
            .run(&["--store", "other", "import", "run.bundle"])
            .expect(1)
            .says("run.json")
            .says(says);
        assert!(!environment.path("other/v1/actions").exists());
    };
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(&record)
        .status()
        .unwrap();
    assert!(made.success());
    refused("is not a regular file");
    fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink(
        environment.path(&format!("cache/v1/runs/{run}/run.json")),
        &record,
    )
    .unwrap();
    refused("is not a regular file");
    fs::remove_dir_all(record.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(
        environment.path(&format!("cache/v1/runs/{run}")),
        record.parent().unwrap(),
    )
    .unwrap();
    refused("is a link");
    // Nor is a pipe a bundle.
    let pipe = environment.path("pipe.bundle");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    environment
        .run(&["import", "pipe.bundle"])
        .expect(2)
        .says("it is a pipe");
}

#[test]
fn an_extraction_names_the_raw_files_that_the_bundle_lacks() {
    let environment = with_files();
    let far = environment.path("far/absolute.txt").display().to_string();
    environment.succeed(&[
        "export",
        "latest",
        "--bundle",
        "run.bundle",
        "--files-up-to",
        "10",
    ]);
    leave_only_the_bundle(&environment);
    let taken = environment.json(&["import", "run.bundle", "--extract", "here"]);
    let named = |taken: &Value| -> BTreeSet<String> {
        let files = taken["missing_files"].as_array().unwrap().iter();
        files
            .map(|file| file["path"].as_str().unwrap().to_owned())
            .collect()
    };
    let expected = ["../shared/words.txt", "count.sh", "deep/program"];
    assert_eq!(
        named(&taken),
        expected.into_iter().map(str::to_owned).collect(),
        "{taken}"
    );
    let told = environment.succeed(&["import", "run.bundle", "--extract", "here"]);
    told.prints("the bundle lacks the raw file deep/program")
        .prints("--files-up-to SIZE");
    assert!(
        !told.stdout.contains(&far),
        "that one came along: {}",
        told.stdout
    );
    // One that lies where it belongs is not lacking.
    environment.write("here/count.sh", "wc -c < \"$1\" > \"$2\"\n");
    let taken = environment.json(&["import", "run.bundle", "--extract", "here"]);
    let expected = ["../shared/words.txt", "deep/program"];
    assert_eq!(
        named(&taken),
        expected.into_iter().map(str::to_owned).collect(),
        "{taken}"
    );
}

#[test]
fn raw_files_that_nobody_asked_for_are_refused() {
    let environment = with_files();
    environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    let whole = bytes(&environment);
    let content = b"echo harm";
    let name = Digest::of_bytes(content).to_string();
    let entry = format!("files/{}/{}", &name[..2], &name[2..]);
    let added = forged(&whole, |_, entries| {
        entries.push((entry.clone(), content.to_vec()));
        entries.sort();
    });
    import(&environment, &added)
        .expect(3)
        .says("no stage of the run asked for its file");
    untouched(&environment);
    let changed = forged(&whole, |_, entries| {
        let raw = entries
            .iter_mut()
            .find(|(name, _)| name.starts_with("files/"))
            .unwrap();
        raw.1.push(b'#');
    });
    import(&environment, &changed).expect(3);
    untouched(&environment);
}
