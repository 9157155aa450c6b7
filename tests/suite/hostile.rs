//! Stores that somebody has forged: all sums are right, and the names inside lead out of the folder. Whatever reads them
//! says which name it refuses, and writes nowhere else.

use std::fs;
use std::path::Path;

use contract::artifact::Digest;
use serde_json::Value;

use crate::environment::{Finished, TestEnvironment};

/// The first stage makes a file of this name; a forged one has as many bytes.
const NAME: &str = "xx_xx_xx_victim.txt";

const UPWARDS: &str = "../../../victim.txt";

const PIPELINE: &str = r#"pipeline: hostile
stages:
  raw:
    uses: command
    with:
      run: [sh, -c, "mkdir {out.o}; echo evil > {out.o}/xx_xx_xx_victim.txt; echo fine > {out.o}/fine.txt"]
      outputs: {o: {path: o}}
  user:
    uses: command
    from: {files: raw}
    with: {run: [sh, -c, "cat {in.files}/fine.txt > {out.n}"], outputs: {n: {path: n}}}
"#;

/// A line of JSON with its sum, as records of the store are.
fn sealed(value: &Value) -> Vec<u8> {
    let line = value.to_string();
    format!("{line}\n{}\n", Digest::of_bytes(line.as_bytes())).into_bytes()
}

/// A store with one run, in which the file of the first stage is called otherwise.
fn forged(name: &str) -> TestEnvironment {
    assert_eq!(name.len(), NAME.len(), "the file keeps its length");
    let environment = TestEnvironment::with_pipeline(PIPELINE);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let holds = |bytes: &[u8]| {
        bytes
            .windows(NAME.len())
            .position(|part| part == NAME.as_bytes())
    };
    let list = environment
        .files("cache/v1/objects")
        .into_iter()
        .find(|path| holds(&fs::read(path).unwrap()).is_some());
    let mut bytes = fs::read(list.unwrap()).unwrap();
    let old = Digest::of_bytes(&bytes).to_string();
    while let Some(place) = holds(&bytes) {
        bytes[place..place + NAME.len()].copy_from_slice(name.as_bytes());
    }
    let new = Digest::of_bytes(&bytes).to_string();
    environment.write(
        &format!("cache/v1/objects/{}/{}.parquet", &new[..2], &new[2..]),
        &bytes,
    );
    for path in environment.files("cache/v1/actions") {
        let text = fs::read_to_string(&path).unwrap();
        let mut action: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        for output in action["outputs"].as_array_mut().unwrap() {
            if output["object"] == old.as_str() {
                output["object"] = new.as_str().into();
            }
        }
        fs::write(&path, sealed(&action)).unwrap();
    }
    let _ = fs::remove_dir_all(environment.path("cache/v1/ledger"));
    environment
}

/// The name is said, on one line and without what steers a terminal; nothing was written where it leads.
fn refused(environment: &TestEnvironment, finished: &Finished, shown: &str) {
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(
        said.contains(&format!("the path `{shown}` has a part `..`")),
        "{}",
        finished.describe()
    );
    assert!(!said.contains('\u{1b}'), "{}", finished.describe());
    fn look(folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.ends_with("victim.txt"), "{}", path.display());
            if path.is_dir() && !path.is_symlink() {
                look(&path);
            }
        }
    }
    look(environment.folder());
    assert!(
        !environment
            .folder()
            .parent()
            .unwrap()
            .join("victim.txt")
            .exists()
    );
}

#[test]
fn verification_and_export_name_the_path_that_leads_elsewhere() {
    for (name, shown) in [
        (UPWARDS, UPWARDS),
        ("\u{1b}[2Jx/../victim.txt", r"\u{1b}[2Jx/../victim.txt"),
    ] {
        let environment = forged(name);
        refused(
            &environment,
            &environment
                .run(&["export", "latest", "--bundle", "evil.bundle"])
                .expect(1),
            shown,
        );
        assert!(!environment.path("evil.bundle").exists());
        let environment = forged(name);
        let verified = environment.run(&["cache", "verify"]);
        assert_ne!(verified.code(), Some(0));
        refused(&environment, &verified, shown);
    }
}

#[test]
fn a_run_over_a_forged_list_computes_it_again() {
    let environment = forged(UPWARDS);
    refused(
        &environment,
        &environment
            .run(&["run", "pipeline.yaml", "--force", "user"])
            .expect(0),
        UPWARDS,
    );
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    assert_eq!(
        environment.read(&format!("cache/v1/runs/{run}/files/user/n/n")),
        "fine\n"
    );
}

#[test]
fn a_remote_brings_no_file_outside() {
    let environment = forged(UPWARDS);
    let remote = format!("file://{}", environment.path("cache").display());
    let elsewhere = TestEnvironment::with_pipeline(PIPELINE);
    elsewhere.write("precious/victim.txt", "precious");
    let run = [
        "run",
        "pipeline.yaml",
        "--remote",
        &remote,
        "--remote-mode",
        "read",
        "--force",
        "user",
    ];
    let finished = elsewhere.run(&run).expect(0);
    assert!(
        finished.stderr.contains(UPWARDS) || finished.stdout.contains(UPWARDS),
        "{}",
        finished.describe()
    );
    assert_eq!(elsewhere.read("precious/victim.txt"), "precious");
}
