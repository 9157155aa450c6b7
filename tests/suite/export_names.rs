//! Names in exports: every output and every trial of a sweep has its own in every format.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::environment::TestEnvironment;
use crate::export::{entity, list, parsed, sound_crate};

/// Instances, outputs and files whose names would fall together in any careless map.
pub const HOSTILE: &str = r#"pipeline: hostile
params: {k: 3}
stages:
  it:
    uses: command
    matrix: {v: ["a/b", "a_b", "a%2Fb", "..", "", "é,w=2"], w: [1, 2]}
    with:
      run: [sh, -c, "mkdir -p a b; echo \"$0 first\" > a/r.txt; echo \"$0 second\" > b/r.txt; echo '{\"f1\": 0.5}' > a/m.json; echo '{\"f1\": 0.25}' > b/m.json", "${v}.${w}"]
      outputs:
        first: {path: a/r.txt}
        second: {path: b/r.txt}
        m: {path: a/m.json, kind: metrics}
        n: {path: b/m.json, kind: metrics}
"#;

#[test]
fn every_output_has_a_path_of_its_own_in_every_view() {
    let environment = TestEnvironment::with_pipeline(HOSTILE);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let told = environment.succeed(&["show"]).stdout;
    let printed: BTreeSet<&str> = told
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("/files/"))
        .collect();
    let content = |path: &str| std::fs::read_to_string(environment.path(path)).unwrap();
    let contents: BTreeSet<String> = printed.iter().map(|path| content(path)).collect();
    assert_eq!((printed.len(), contents.len()), (24, 24), "{told}");
    for path in &printed {
        let which = if path.contains("/first/") {
            "first"
        } else {
            "second"
        };
        assert!(
            content(path).trim_end().ends_with(which) && path.ends_with("/r.txt"),
            "{path}"
        );
    }
    assert_eq!(
        printed
            .iter()
            .filter(|path| path.contains("/it[v=a%2Fb,w=1]/first/"))
            .count(),
        1,
        "{told}"
    );
    assert!(told.contains("/it[v=a%252Fb,w=1]/second/r.txt"), "{told}");
    // In folders of others.
    let texts = |folder: &str| -> BTreeSet<String> {
        let files = environment
            .files(folder)
            .into_iter()
            .filter(|path| path.ends_with("r.txt"));
        files
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    };
    environment.succeed(&[
        "export",
        "--format",
        "ro-crate",
        "-o",
        "crate",
        "--objects",
        "all",
    ]);
    sound_crate(&environment, "crate");
    assert_eq!(texts("crate/objects"), contents);
    let exported = environment.json(&["export", "--format", "mlflow", "--objects", "all"]);
    assert_eq!(
        texts(&format!(
            "{}/artifacts/objects",
            exported["path"].as_str().unwrap()
        )),
        contents
    );
    // Each point is a run of its own, and a stage with two outputs of metrics tells them apart.
    let runs = Path::new(exported["path"].as_str().unwrap())
        .parent()
        .unwrap()
        .to_owned();
    let mut points = BTreeSet::new();
    for run in std::fs::read_dir(&runs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
    {
        let read = |name: &str| std::fs::read_to_string(run.join(name));
        let Ok(parent) = read("tags/mlflow.parentRunId") else {
            continue;
        };
        assert!(exported["path"].as_str().unwrap().ends_with(&parent));
        points.insert((read("params/v").unwrap(), read("params/w").unwrap()));
        assert!(
            read("metrics/it.m.f1").unwrap().contains(" 0.5 ")
                && read("metrics/it.n.f1").unwrap().contains(" 0.25 ")
        );
        assert_eq!(read("params/k").unwrap(), "3");
    }
    assert_eq!(points.len(), 12);
    let csv = environment.succeed(&["export", "--format", "csv"]).stdout;
    assert!(
        csv.lines().any(|line| line.ends_with(",\"é,w=2\",1")),
        "{csv}"
    );
    assert_eq!(
        csv.lines()
            .filter(|line| line.contains(",n.f1,0.25,"))
            .count(),
        12,
        "{csv}"
    );
}

#[test]
fn names_beyond_what_file_systems_take_are_shown_shortened() {
    let long = "x".repeat(300);
    let environment = TestEnvironment::with_pipeline(&format!(
        "pipeline: long\nstages:\n  it:\n    uses: command\n    matrix: {{v: [\"{long}1\", \"{long}2\"]}}\n    with:\n      run: [sh, -c, \"echo $0 > {{out.o}}\", \"${{v}}\"]\n      outputs: {{o: {{path: o.txt}}}}\n"
    ));
    let told = environment
        .succeed(&["run", "--quiet", "pipeline.yaml"])
        .stdout;
    let texts: BTreeSet<String> = told
        .lines()
        .map(|path| std::fs::read_to_string(environment.path(path)).unwrap())
        .collect();
    assert_eq!(
        texts,
        BTreeSet::from([format!("{long}1\n"), format!("{long}2\n")])
    );
}

/// A sweep of which one stage depends on one axis, one on both, and one on none.
fn swept() -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.write(
        "base.yaml",
        r#"pipeline: base
params: {depth: 1, rate: 0.5, twice: "${depth}", note: same}
stages:
  common: {uses: command, with: {run: [sh, -c, "echo '{\"c\": 1}' > {out.m}"], outputs: {m: {path: m.json, kind: metrics}}}}
  half:
    uses: command
    from: {c: common.m}
    with: {run: [sh, -c, "echo '{\"h\": '$0'}' > {out.m}", " ${twice}"], outputs: {m: {path: m.json, kind: metrics}}}
  judge:
    uses: command
    from: {h: half.m}
    with: {run: [sh, -c, "echo '{\"j\": '$0'}' > {out.m}", " ${rate}"], outputs: {m: {path: m.json, kind: metrics}}}
"#,
    );
    environment.write(
        "sweep.yaml",
        "sweep: grid\npipeline: base.yaml\naxes: {depth: [3, 4], rate: [0.25, 0.75]}\nobjective: {stage: judge, metric: j, direction: maximize}\n",
    );
    environment.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    environment
}

/// The cells of a CSV table without quoted line breaks, by the names of their columns.
fn cells(csv: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let split = |line: &str| -> Vec<String> {
        let (mut cells, mut quoted) = (vec![String::new()], false);
        for character in line.chars() {
            match character {
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(String::new()),
                other => cells.last_mut().unwrap().push(other),
            }
        }
        cells
    };
    let mut lines = csv.lines();
    let header = split(lines.next().unwrap());
    lines
        .map(|line| header.iter().cloned().zip(split(line)).collect())
        .collect()
}

#[test]
fn every_trial_of_a_sweep_has_its_own_parameters_everywhere() {
    let environment = swept();
    let rows = cells(&environment.succeed(&["export", "--format", "csv"]).stdout);
    let mut judged = BTreeSet::new();
    for row in &rows {
        match row["stage"].as_str() {
            "judge" => {
                assert_eq!(
                    row["value"].parse::<f64>().unwrap(),
                    row["rate"].parse::<f64>().unwrap(),
                    "{row:?}"
                );
                assert_eq!(row["twice"], row["depth"]);
                judged.insert((
                    row["depth"].clone(),
                    row["rate"].clone(),
                    row["trial"].clone(),
                ));
            }
            "half" => {
                // It serves two trials, which agree in one of the axes.
                assert_eq!(
                    row["value"].parse::<f64>().unwrap(),
                    row["depth"].parse::<f64>().unwrap()
                );
                assert_eq!((row["rate"].as_str(), row["trial"].as_str()), ("", ""));
            }
            _ => assert_eq!(
                (
                    row["depth"].as_str(),
                    row["rate"].as_str(),
                    row["stage"].as_str()
                ),
                ("", "", "common")
            ),
        }
    }
    assert_eq!((rows.len(), judged.len()), (7, 4), "{rows:?}");
    let shown = environment.latest();
    assert_eq!(
        (&shown["params"], &shown["seed"]),
        (&json!({"note": "same"}), &json!(0))
    );
    assert_eq!(shown["sweep"]["varied"], json!(["depth", "rate", "twice"]));
    let members = shown["sweep"]["members"].as_array().unwrap();
    let last = &members[3];
    assert_eq!(
        last["params"],
        json!({"depth": 4, "rate": 0.75, "twice": 4, "note": "same"})
    );
    let half = shown["stages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|stage| stage["name"] == "half#3")
        .unwrap();
    assert_eq!(half["trials"], json!(["3", "4"]));
    environment
        .succeed(&["show"])
        .prints("judge#2 (depth=3, rate=0.75, twice=3)")
        .prints("half#1 (depth=3, twice=3)");
    // A run of MLflow for each trial.
    let exported = environment.json(&["export", "--format", "mlflow"]);
    let whole = Path::new(exported["path"].as_str().unwrap());
    let mut points = BTreeSet::new();
    for run in std::fs::read_dir(whole.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let read = |name: &str| std::fs::read_to_string(run.join(name)).unwrap_or_default();
        if run.join("tags/mlflow.parentRunId").exists() {
            points.insert((
                read("params/depth"),
                read("params/rate"),
                read("params/twice"),
            ));
            let judged = read("metrics/judge.j");
            assert_eq!(judged.split(' ').nth(1), Some(read("params/rate").as_str()));
            assert_eq!(
                read("metrics/half.h").split(' ').nth(1),
                Some(format!("{}.0", read("params/depth")).as_str())
            );
        }
    }
    assert_eq!(points.len(), 4);
    assert!(whole.join("params/note").exists() && !whole.join("params/depth").exists());
    assert!(whole.join("metrics/common.c").exists() && !whole.join("metrics/judge.j").exists());
    // In a crate each trial's values belong to its stages.
    environment.succeed(&["export", "--format", "ro-crate", "-o", "crate"]);
    let graph = sound_crate(&environment, "crate");
    let used = list(&entity(&graph, "#action/judge%233")["object"]);
    let value = |name: &str| {
        let id = format!("#trial/3/param/{name}");
        assert!(used.contains(&json!({"@id": id})), "{used:?}");
        entity(&graph, &id)["value"].clone()
    };
    assert_eq!(
        (value("depth"), value("rate"), value("twice")),
        (json!("4"), json!("0.25"), json!("4"))
    );
    environment.succeed(&["export", "--format", "prov-json", "-o", "run.json"]);
    let document = parsed(&environment, "run.json");
    let activities = document["activity"].as_object().unwrap();
    let judge = activities
        .values()
        .find(|activity| activity["prov:label"] == "judge#2")
        .unwrap();
    assert_eq!(judge["runner:trials"], json!("2"));
    let values: Value =
        serde_json::from_str(judge["runner:trialParameters"].as_str().unwrap()).unwrap();
    assert_eq!(values, json!({"depth": 3, "rate": 0.75, "twice": 3}));
}

/// Names that differ in capital letters alone lie in different places also where a file system takes them for one. The paths are
/// the same wherever they are written.
#[test]
fn names_that_differ_in_capital_letters_lie_apart() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: letters\nstages:\n  it:\n    uses: command\n    matrix: {v: [a, A]}\n    with:\n      run: [sh, -c, \
         \"mkdir {out.o}; echo $0 > {out.o}/x; echo $0 > {out.o}/X; echo $0 > {out.O}\", \"${v}\"]\n      \
         outputs: {o: {path: o}, O: {path: p.txt}}\n",
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment.succeed(&[
        "export",
        "latest",
        "--format",
        "ro-crate",
        "--objects",
        "all",
        "-o",
        "crate",
    ]);
    let run = environment.latest()["run"].as_str().unwrap().to_owned();
    let below = |folder: &str| -> std::collections::BTreeSet<String> {
        let (files, top) = (environment.files(folder), environment.path(folder));
        files
            .iter()
            .map(|path| {
                path.strip_prefix(&top)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    let shown = below(&format!("cache/v1/runs/{run}/files"));
    assert_eq!(shown, below("crate/objects"));
    let folded: std::collections::BTreeSet<String> =
        shown.iter().map(|path| path.to_lowercase()).collect();
    assert_eq!((shown.len(), folded.len()), (6, 6), "{shown:?}");
    assert!(
        shown.contains("it[v=a]/o/x"),
        "what is in small letters stays: {shown:?}"
    );
}

#[test]
fn runs_of_sweeps_differ_where_their_trials_do() {
    let environment = swept();
    let first = environment.latest()["run"].as_str().unwrap().to_owned();
    let file = environment
        .read("sweep.yaml")
        .replace("[0.25, 0.75]", "[0.25, 0.5]");
    environment.write("sweep.yaml", file);
    environment.succeed(&["sweep", "sweep.yaml", "--quiet"]);
    let diff = environment
        .run(&["diff", &first, "latest", "--json"])
        .expect(3)
        .json();
    assert_eq!(diff["params"]["rate#2"], json!([0.75, 0.5]), "{diff}");
    assert!(diff["params"].get("rate#1").is_none() && diff["params"].get("depth#2").is_none());
    // Axes of other tables stay apart from a parameter of a column's name.
    environment.write("other.yaml", "pipeline: o\nparams: {stage: 1}\nstages:\n  it: {uses: command, with: {run: [sh, -c, \"echo '{\\\"v\\\": 1}' > {out.m}\", \" ${stage}\"], outputs: {m: {path: m.json, kind: metrics}}}}\n");
    environment.write("o.yaml", "sweep: o\npipeline: other.yaml\naxes: {stage: [1, 2]}\nobjective: {stage: it, metric: v, direction: maximize}\n");
    environment.succeed(&["sweep", "o.yaml", "--quiet"]);
    let rows = cells(&environment.succeed(&["export", "--format", "csv"]).stdout);
    let stages: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row["stage"].as_str(), row["param.stage"].as_str()))
        .collect();
    assert_eq!(stages, [("it", "1"), ("it", "2")]);
}
