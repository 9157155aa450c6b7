//! What a run records of where it ran: the machine, the repository, the variables that matter, and never a secret.

use std::process::Command;

use serde_json::{Value, json};

use crate::environment::TestEnvironment;
use crate::pipelines::SMALL;

/// Runs git in the working folder; `false` where there is no git.
fn git(environment: &TestEnvironment, arguments: &[&str]) -> bool {
    let mut command = Command::new("git");
    command
        .current_dir(environment.folder())
        .env("HOME", environment.folder())
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let identity = [
        "-c",
        "user.name=Ann Author",
        "-c",
        "user.email=ann@example.org",
    ];
    command
        .args(identity)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

#[test]
fn the_machine_and_the_pipeline_are_recorded() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--threads", "1"]);
    let latest = environment.latest();
    let captured = &latest["environment"];
    assert_eq!(
        (&captured["threads"], &captured["device"]),
        (&json!(1), &json!("cpu"))
    );
    for name in [
        "runner",
        "host",
        "system",
        "release",
        "architecture",
        "processor",
        "simd",
        "numeric_class",
    ] {
        assert!(
            captured[name].as_str().is_some_and(|text| !text.is_empty()),
            "{name}: {captured}"
        );
    }
    assert!(
        captured["memory"].as_u64() > Some(1 << 20) && captured["cores"].as_u64() >= Some(1),
        "{captured}"
    );
    assert!(
        captured.get("git").is_none() && captured.get("gpu").is_none(),
        "{captured}"
    );
    let sum = contract::artifact::Digest::of_bytes(SMALL.as_bytes()).to_string();
    assert_eq!(latest["pipeline_files"][0]["blake3"], sum.as_str());
    environment
        .succeed(&["show"])
        .prints("environment")
        .prints("memory: ")
        .prints("simd: ");
}

#[test]
fn the_repository_is_recorded_with_what_changed_in_it() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    if !git(
        &environment,
        &["init", "--quiet", "--initial-branch", "trunk"],
    ) {
        return println!("skipped: no git");
    }
    let recorded = |more: &[&str]| -> Value {
        environment
            .succeed(&[&["run", "--quiet", "pipeline.yaml", "--force", "raw"], more].concat());
        environment.latest()["environment"]["git"].clone()
    };
    assert_eq!(recorded(&[]), Value::Null, "nothing is committed yet");
    assert!(
        git(&environment, &["add", "pipeline.yaml"])
            && git(&environment, &["commit", "--quiet", "-m", "one"])
    );
    assert!(git(&environment, &["config", "user.name", "Ann Author"]));
    assert!(git(
        &environment,
        &[
            "remote",
            "add",
            "origin",
            "https://ann:s3cret@example.org/a.git"
        ]
    ));
    let clean = recorded(&[]);
    assert_eq!(
        (&clean["branch"], &clean["dirty"]),
        (&json!("trunk"), &json!(false)),
        "an untracked store is no change"
    );
    assert_eq!(
        (&clean["origin"], &clean["user"]),
        (
            &json!("https://...@example.org/a.git"),
            &json!("Ann Author")
        )
    );
    assert_eq!(clean["commit"].as_str().map(str::len), Some(40));
    let first = environment.latest()["run"].as_str().unwrap().to_owned();
    environment.write("pipeline.yaml", format!("{SMALL}# changed\n"));
    let dirty = recorded(&[]);
    assert_eq!(
        (&dirty["dirty"], &dirty["changed_files"], &dirty["commit"]),
        (&json!(true), &json!(1), &clean["commit"])
    );
    environment
        .succeed(&["show"])
        .prints("on trunk, dirty (1 changed file)");
    // The same results from another state of the repository: told, and no difference of results.
    environment
        .succeed(&["diff", &first, "latest"])
        .prints("git: ")
        .prints("clean")
        .prints("dirty");
    // A run with nothing to do asks nobody.
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert!(environment.latest()["environment"].get("git").is_none());
}

#[test]
fn no_secret_is_kept() {
    let mut environment = TestEnvironment::with_pipeline(SMALL);
    environment.set("RUNNER_REMOTE_TOKEN", "s3cret-token");
    environment.set(
        "RUNNER_SOMETHING",
        "https://ann:s3cret-word@example.org/store?sig=s3cret-sum",
    );
    environment.set("AWS_SECRET_ACCESS_KEY", "s3cret-key");
    environment.set("UNRELATED", "s3cret-other");
    environment.set("TZ", "Europe/Berlin");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let variables = environment.latest()["environment"]["variables"].clone();
    let expected = json!({
        "HOME": variables["HOME"],
        "PATH": variables["PATH"],
        "RUNNER_REMOTE_TOKEN": true,
        "RUNNER_SOMETHING": "https://...@example.org/store?sig=...",
        "TMPDIR": variables["TMPDIR"],
        "TZ": "Europe/Berlin",
    });
    assert_eq!(variables, expected);
    environment
        .succeed(&["show"])
        .prints("RUNNER_REMOTE_TOKEN (set, its value is not kept)");
    for path in environment.files("cache/v1/runs") {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("s3cret"), "{}", path.display());
    }
}
