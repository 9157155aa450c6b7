//! An audit tells each kind of difference from the others: every one is planted here, and the verdict checked.

use std::sync::Arc;

use contract::artifact::{Artifact, Model};
use numerics::simd::Level;
use runner::audit::Lock;
use runner::cache::{Action, Output, Publisher, Staged};
use serde_json::Value;

use crate::environment::TestEnvironment;
use crate::lock::locked;
use crate::pipelines::{SMALL, SMALL_STAGES};
use crate::store::{action, open, ran};

/// What an audit says, which must end with this code.
fn audit(environment: &TestEnvironment, arguments: &[&str], code: i32) -> Value {
    environment
        .run(&[&["audit"], arguments, &["--json"]].concat())
        .expect(code)
        .json()
}

fn stage<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut stages = report["stages"].as_array().unwrap().iter();
    stages
        .find(|stage| stage["stage"] == name)
        .unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Stage and verdict, in order.
fn verdicts(report: &Value) -> Vec<(&str, &str)> {
    let stages = report["stages"].as_array().unwrap().iter();
    stages
        .map(|stage| {
            (
                stage["stage"].as_str().unwrap(),
                stage["verdict"].as_str().unwrap(),
            )
        })
        .collect()
}

fn all_are(report: &Value, verdict: &str) -> bool {
    verdicts(report).iter().all(|(_, found)| *found == verdict)
}

#[test]
fn what_comes_out_the_same_is_bitwise_with_and_without_the_original() {
    let environment = locked();
    let before = environment.files("cache");
    let report = audit(&environment, &["latest"], 0);
    assert!(
        all_are(&report, "bitwise") && report["good"] == true,
        "{report}"
    );
    assert_eq!(
        report["stages"].as_array().unwrap().len(),
        SMALL_STAGES.len()
    );
    assert_eq!(
        environment.files("cache"),
        before,
        "the original is not written"
    );
    let elsewhere = audit(&environment, &["pipeline.lock", "--store", "never-seen"], 0);
    assert!(all_are(&elsewhere, "bitwise"), "{elsewhere}");
    assert!(!environment.path("never-seen").exists());
    environment
        .succeed(&["audit", "pipeline.yaml"])
        .prints("audit of the lock pipeline.lock")
        .prints("8 bitwise");
    environment
        .succeed(&["audit", "pipeline.yaml", "--twice", "--shadow", "kept"])
        .prints("kept");
    assert!(
        !environment.files("kept/v1/objects").is_empty(),
        "it was asked to be kept"
    );
}

/// A run of another profile or with overrides is done again as it was.
#[test]
fn overrides_and_targets_are_those_of_the_record() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&[
        "run",
        "--quiet",
        "pipeline.yaml",
        "--set",
        "epochs=1",
        "--target",
        "scores",
    ]);
    let report = audit(&environment, &["latest"], 0);
    assert_eq!(verdicts(&report).len(), 5);
    environment.succeed(&[
        "lock",
        "pipeline.yaml",
        "--set",
        "epochs=1",
        "--target",
        "model",
        "-o",
        "one.lock",
    ]);
    assert_eq!(verdicts(&audit(&environment, &["one.lock"], 0)).len(), 4);
}

const TABLE: &str = r"pipeline: table
stages:
  raw: {uses: ingest, with: {dataset: csv, path: table.csv}}
  scaled: {uses: normalize, from: raw}
  windows: {uses: window, from: scaled, with: {length: 3}}
";

fn table(last: &str) -> String {
    let rows: String = (0..50)
        .map(|row| format!("{row},{}\n", row * row % 17))
        .collect();
    format!("a,b\n{rows}50,{last}\n")
}

#[test]
fn a_changed_datum_is_named_and_what_follows_inherits() {
    let environment = TestEnvironment::with_pipeline(TABLE);
    environment.write("table.csv", table("1"));
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.write("table.csv", table("2"));
    let report = audit(&environment, &["latest"], 3);
    assert_eq!(
        verdicts(&report),
        [
            ("raw", "input-changed"),
            ("scaled", "inherited"),
            ("windows", "inherited")
        ]
    );
    let raw = stage(&report, "raw");
    assert_eq!(raw["differences"][0]["path"], "files.\"table.csv\"");
    let leaf = &raw["ports"][0]["leaves"][0];
    assert_eq!(
        (&leaf["name"], &leaf["first"]["index"]),
        (&"b".into(), &serde_json::json!([50])),
        "{leaf}"
    );
    assert_eq!(
        (&leaf["first"]["then"], &leaf["first"]["now"]),
        (&"1.0".into(), &"2.0".into())
    );
    assert_eq!(leaf["max_absolute"], 1.0);
    assert_eq!(
        (&report["first_divergence"], &report["inherited"]),
        (&"raw".into(), &serde_json::json!(["scaled", "windows"]))
    );
    assert_eq!(stage(&report, "scaled")["established"], false);
    let confirmed = audit(&environment, &["latest", "--confirm"], 3);
    assert_eq!(verdicts(&confirmed), verdicts(&report));
    for name in ["scaled", "windows"] {
        assert_eq!(stage(&confirmed, name)["established"], true, "{name}");
    }
    let told = environment.run(&["audit", "latest"]).expect(3);
    told.prints("the first to diverge is raw; scaled, windows inherit it")
        .prints("files.\"table.csv\"");
}

/// Replaces the trained model by one in which a single bit is another, action and all, and lets the rest follow.
fn flip_a_weight(environment: &TestEnvironment) {
    let store = Arc::new(open(environment));
    let old = action(environment, "model");
    let Artifact::Model(model) = store.load(old.output("model").unwrap()).unwrap() else {
        panic!("no model")
    };
    let mut model = Model::clone(&model);
    let tensor = model
        .tensors
        .values_mut()
        .find(|tensor| tensor.to_f32().is_some())
        .unwrap();
    tensor.bytes[0] ^= 1;
    let publisher = Publisher::new(Arc::clone(&store));
    let mut staged = Staged::default();
    let record = publisher.stage(&model.into(), &[], &mut staged).unwrap();
    let changed = |output: &Output| match output.port.as_str() {
        "model" => Output {
            port: output.port.clone(),
            record: record.clone(),
        },
        _ => output.clone(),
    };
    let outputs = old.outputs.iter().map(changed).collect();
    publisher.publish(Action { outputs, ..old }, staged, None, |result| {
        result.unwrap()
    });
    publisher.finish();
    std::fs::remove_dir_all(environment.path("cache/v1/ledger")).unwrap();
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert!(ran(&environment.latest()).contains(&"scores".to_owned()));
}

#[test]
fn one_flipped_weight_is_found_in_its_tensor() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    flip_a_weight(&environment);
    let report = audit(&environment, &["latest", "--confirm"], 3);
    let model = stage(&report, "model");
    assert_eq!(
        (&model["verdict"], &report["first_divergence"]),
        (&"differs".into(), &"model".into())
    );
    assert_eq!(model["reason"], "nothing that determines it differs");
    let leaves = model["ports"]
        .as_array()
        .unwrap()
        .iter()
        .find(|port| port["port"] == "model")
        .unwrap()["leaves"]
        .clone();
    assert_eq!(leaves.as_array().unwrap().len(), 1, "{leaves}");
    assert_eq!(
        (&leaves[0]["differing"], &leaves[0]["max_ulps"]),
        (&1.into(), &1.into())
    );
    assert!(
        leaves[0]["first"]["index"]
            .as_array()
            .unwrap()
            .iter()
            .all(|index| *index == 0)
    );
    for (name, verdict) in verdicts(&report) {
        match name {
            "raw" | "scaled" | "windows" => assert_eq!(verdict, "bitwise"),
            "model" => {}
            _ => {
                assert!(
                    verdict == "bitwise"
                        || (verdict == "inherited" && stage(&report, name)["established"] == true)
                )
            }
        }
    }
    assert_eq!(stage(&report, "scores")["verdict"], "inherited");
    environment
        .run(&["audit", "latest"])
        .expect(3)
        .prints("the first to diverge is model")
        .prints("beyond");
    let tolerated = audit(
        &environment,
        &["latest", "--ulps", "model.model=1", "--tolerance", "1e-3"],
        0,
    );
    assert_eq!(stage(&tolerated, "model")["verdict"], "within-tolerance");
    assert_eq!(
        stage(&tolerated, "model")["ports"][0]["closeness"],
        "bitwise",
        "the log is the same"
    );
    assert_eq!(stage(&tolerated, "scores")["verdict"], "within-tolerance");
}

/// The pipeline says of its outputs how close they must come; what the command line says of them comes first.
#[test]
fn tolerances_are_declared_by_port_and_enter_no_key() {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    flip_a_weight(&environment);
    let declared = SMALL.replace(
        "  model:\n",
        "  model:\n    tolerance: {model: {ulps: 1}}\n",
    );
    environment.write("pipeline.yaml", &declared);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert!(
        ran(&environment.latest()).is_empty(),
        "a tolerance reruns nothing"
    );
    let report = audit(&environment, &["latest", "--tolerance", "1e-3"], 0);
    assert_eq!(stage(&report, "model")["verdict"], "within-tolerance");
    assert_eq!(stage(&report, "model")["ports"][1]["tolerance"]["ulps"], 1);
    let stricter = audit(
        &environment,
        &[
            "latest",
            "--tolerance",
            "1e-3",
            "--tolerance",
            "model.model=1e-30",
        ],
        3,
    );
    assert_eq!(stage(&stricter, "model")["verdict"], "differs");
    environment.write(
        "pipeline.yaml",
        declared.replace("{model: {ulps: 1}}", "{modle: {ulps: 1}}"),
    );
    let wrong = environment.run(&["plan", "pipeline.yaml"]).expect(2);
    wrong
        .says("stage `model` has no output `modle`")
        .says("did you mean `model`?");
    environment.write("pipeline.yaml", declared.replace("{ulps: 1}", "{ulps: -1}"));
    environment
        .run(&["plan", "pipeline.yaml"])
        .expect(2)
        .says("ulps");
}

#[test]
fn another_level_of_instructions_is_another_environment() {
    let mut environment = locked();
    environment.set("RUNNER_SIMD", "baseline");
    if Level::of_machine() == Level::PORTABLE {
        return;
    }
    let report = audit(&environment, &["latest"], 3);
    let model = stage(&report, "model");
    assert_eq!(model["verdict"], "environment-differs");
    let reason = model["reason"].as_str().unwrap();
    assert!(
        reason.contains("numeric_class: \"cpu/") && reason.contains("/baseline/lowered\""),
        "{reason}"
    );
    assert_eq!(report["first_divergence"], "model");
    for name in ["raw", "scaled", "windows"] {
        assert_eq!(stage(&report, name)["verdict"], "bitwise");
    }
    let close = audit(
        &environment,
        &["latest", "--tolerance", "0.05", "--from", "scores"],
        0,
    );
    let scores = stage(&close, "scores");
    assert_eq!(
        scores["verdict"], "within-tolerance",
        "on the original model: {close}"
    );
    environment.set("RUNNER_SIMD", "sse");
    environment
        .run(&["audit", "latest"])
        .expect(1)
        .says("RUNNER_SIMD is `sse`")
        .says("baseline");
}

#[test]
fn without_the_original_a_difference_has_no_size() {
    let environment = locked();
    let path = environment.path("pipeline.lock");
    let mut lock = Lock::read(&path).unwrap();
    let digest = lock.stages["raw"].outputs["series"];
    *lock
        .stages
        .get_mut("plots")
        .unwrap()
        .outputs
        .get_mut("plots")
        .unwrap() = digest;
    lock.write(&path).unwrap();
    let report = audit(
        &environment,
        &[
            "pipeline.lock",
            "--store",
            "never-seen",
            "--tolerance",
            "1e9",
        ],
        3,
    );
    let plots = stage(&report, "plots");
    assert_eq!(plots["verdict"], "missing");
    assert!(
        plots["reason"]
            .as_str()
            .unwrap()
            .contains("the original is not available")
    );
    assert_eq!(plots["ports"][0]["closeness"], Value::Null);
    environment
        .run(&["audit", "pipeline.lock", "--store", "never-seen"])
        .expect(3)
        .prints("nothing to compare it with");
}

#[test]
fn a_part_is_done_on_the_inputs_that_it_had() {
    let environment = locked();
    let from = audit(&environment, &["latest", "--from", "scores"], 0);
    let names: Vec<&str> = verdicts(&from).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["scores", "metrics", "plots", "size"]);
    assert_eq!(from["left_out"], 4);
    let sample = |seed: &str| {
        audit(
            &environment,
            &["latest", "--sample", "3", "--seed", seed],
            0,
        )
    };
    let (one, again, other) = (sample("1"), sample("1"), sample("2"));
    assert_eq!(verdicts(&one), verdicts(&again));
    assert_eq!((verdicts(&one).len(), &one["sample_seed"]), (3, &1.into()));
    assert_ne!(verdicts(&one), verdicts(&other));
    let unseeded = environment.succeed(&["audit", "latest", "--sample", "1"]);
    unseeded.prints("the choice was made with --seed");
    let nothing = environment
        .run(&[
            "audit",
            "pipeline.lock",
            "--from",
            "scores",
            "--store",
            "never-seen",
        ])
        .expect(2);
    nothing
        .says("is needed as an input, and is not in the store")
        .says("audit everything");
}

#[test]
fn what_cannot_be_audited_is_told() {
    let environment = locked();
    environment
        .run(&["audit", "nothing"])
        .expect(2)
        .says("there is neither a run nor a file called `nothing`");
    environment
        .run(&["audit", "no.lock"])
        .expect(2)
        .says("there is no lock no.lock");
    environment
        .run(&["audit", "no.yaml"])
        .expect(2)
        .says("there is no pipeline no.yaml");
    for (option, value, message) in [
        ("--tolerance", "x", "neither a number"),
        ("--tolerance", "-1", "neither a number"),
        ("--rtol", "scores=1", "neither a number"),
        ("--ulps", "scores.scores=1.5", "neither a number"),
        ("--tolerance", "scroes.scores=1", "did you mean `scores`?"),
        ("--tolerance", "scores.score=1", "has no output `score`"),
        ("--from", "modle", "did you mean `model`?"),
        ("--shadow", "cache", "is not an empty folder"),
    ] {
        environment
            .run(&["audit", "latest", &format!("{option}={value}")])
            .expect(2)
            .says(message);
    }
    let moved = std::fs::rename(
        environment.path("pipeline.yaml"),
        environment.path("moved.yaml"),
    );
    moved.unwrap();
    environment
        .run(&["audit", "latest"])
        .expect(2)
        .says("is not there")
        .says("--pipeline FILE");
    environment.succeed(&["audit", "latest", "--pipeline", "moved.yaml"]);
    let text = environment.read("pipeline.lock");
    environment.write(
        "pipeline.lock",
        text.replacen("epochs = 2", "epochs = 3", 1),
    );
    environment
        .run(&["audit", "pipeline.lock"])
        .expect(3)
        .says("was changed after it was written");
}

#[test]
fn figures_that_nothing_came_to_are_found() {
    let environment = locked();
    let text = environment.read("pipeline.lock");
    let path = environment.path("pipeline.lock");
    let mut lock = Lock::read(&path).unwrap();
    let figure = lock
        .stages
        .get_mut("metrics")
        .unwrap()
        .metrics
        .values_mut()
        .next()
        .unwrap();
    *figure = Some(0.996);
    // Its seal is right.
    lock.write(&path).unwrap();
    let report = audit(&environment, &["pipeline.lock"], 3);
    let metrics = stage(&report, "metrics");
    assert_eq!(metrics["verdict"], "differs", "{report}");
    assert!(
        metrics["reason"].as_str().unwrap().contains("not 0.996"),
        "{report}"
    );
    environment
        .run(&["verify", "pipeline.lock"])
        .expect(3)
        .prints("misquotes its outputs")
        .prints("not 0.996");
    environment
        .run(&["run", "pipeline.yaml", "--locked"])
        .expect(3)
        .says("not 0.996");

    environment.write("pipeline.lock", &text);
    let mut lock = Lock::read(&path).unwrap();
    lock.seed = lock.seed.map(|seed| seed + 1);
    lock.write(&path).unwrap();
    let report = audit(&environment, &["pipeline.lock"], 3);
    assert_eq!(report["header"][0]["path"], "seed", "{report}");
    environment
        .run(&["run", "pipeline.yaml", "--locked"])
        .expect(3)
        .says("its seed or parameters differ");
    environment.write("pipeline.lock", &text);
    environment.succeed(&["verify", "pipeline.lock"]);
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--locked"]);
}

#[test]
fn a_second_execution_that_fails_does_not_agree() {
    let environment = TestEnvironment::new();
    let once = environment.path("once");
    let run = format!("mkdir {} && echo 1 > {{out.t}}", once.display());
    environment.write(
        "pipeline.yaml",
        format!("pipeline: p\nstages:\n  it: {{uses: command, with: {{run: [sh, -c, \"{run}\"], outputs: {{t: {{path: t}}}}}}}}\n"),
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    std::fs::remove_dir(&once).unwrap();
    let report = audit(&environment, &["latest", "--twice"], 3);
    assert_eq!(stage(&report, "it")["verdict"], "nondeterministic");
    assert_eq!(
        stage(&report, "it")["reason"],
        "two executions here disagree about whether it succeeds"
    );
}

/// A name proves nothing: every variable that is passed on is treated as a secret, unless it is known as a setting.
#[test]
fn a_harmless_name_is_no_reason_to_show_a_value() {
    let text = "pipeline: p\nstages:\n  it: {uses: command, with: {run: [sh, -c, \"echo > {out.t}\"], \
                pass_env: [PIN, OMP_NUM_THREADS], outputs: {t: {path: t}}}}\n";
    let mut environment = TestEnvironment::with_pipeline(text);
    environment.set("PIN", "pin-0815");
    environment.set("OMP_NUM_THREADS", "3");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&["lock", "pipeline.yaml"]);
    let lock = environment.read("pipeline.lock");
    assert!(
        lock.contains("environment.PIN = \"secret:") && !lock.contains("pin-0815"),
        "{lock}"
    );
    assert!(
        lock.contains("environment.OMP_NUM_THREADS = \"3\""),
        "{lock}"
    );
    environment.set("PIN", "pin-4711");
    environment
        .run(&["plan", "pipeline.yaml"])
        .expect(0)
        .prints("variable PIN has another value");
    // Another store has another secret, unless both are given the same.
    let elsewhere = ["run", "--quiet", "pipeline.yaml", "--store", "elsewhere"];
    environment.set("PIN", "pin-0815");
    environment.succeed(&elsewhere);
    let locked = environment
        .run(&["run", "--locked", "pipeline.yaml", "--store", "elsewhere"])
        .expect(3);
    assert!(!locked.stderr.contains("pin-0815"), "{}", locked.describe());
    let keys = |environment: &TestEnvironment, store: &str| {
        environment.succeed(&["run", "--quiet", "pipeline.yaml", "--store", store]);
        environment.json(&["show", "--store", store])["stages"][0]["key"].clone()
    };
    assert_ne!(keys(&environment, "cache"), keys(&environment, "elsewhere"));
    environment.set("RUNNER_SECRET_SALT", "a long text that a team knows");
    assert_eq!(keys(&environment, "cache"), keys(&environment, "elsewhere"));
}

#[test]
fn no_record_holds_a_secret() {
    let mut environment = TestEnvironment::with_pipeline(
        "pipeline: p\nstages:\n  it:\n    uses: command\n    with:\n      run: [sh, -c, \"printf %s $HF_TOKEN | wc -c > {out.t}\"]\n      pass_env: [HF_TOKEN]\n      outputs: {t: {path: t}}\n",
    );
    environment.set("HF_TOKEN", "hunter2hunter2");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&["lock", "pipeline.yaml"]);
    environment.succeed(&["audit", "pipeline.lock"]);
    assert!(
        environment
            .read("pipeline.lock")
            .contains("environment.HF_TOKEN = \"secret:")
    );
    for file in environment.files(".") {
        let bytes = std::fs::read(environment.path(".").join(&file)).unwrap();
        assert!(
            !bytes.windows(7).any(|part| part == b"hunter2"),
            "{}",
            file.display()
        );
    }
    // Who reads the records cannot try values: the digest is not one that they can compute.
    let digest = contract::artifact::Digest::of_bytes(b"hunter2hunter2").to_string();
    assert!(!environment.read("pipeline.lock").contains(&digest));
    let bundled = environment.succeed(&["export", "latest", "--bundle", "run.bundle"]);
    let salt = std::fs::read(environment.path("cache/v1/salt")).unwrap();
    let bundle = std::fs::read(environment.path("run.bundle")).unwrap();
    assert!(
        !bundle.windows(32).any(|part| part == salt),
        "{}",
        bundled.describe()
    );
    // Another secret is another key.
    environment.set("HF_TOKEN", "other");
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    assert_eq!(ran(&environment.latest()), ["it"]);
}
