//! A run in the formats of others: what is written is well-formed, refers to nothing that is not there, and says the same
//! figures as the run's record.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::environment::TestEnvironment;
use crate::pipelines::{SMALL, SMALL_STAGES};

fn after_one_run() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment
}

fn parsed(environment: &TestEnvironment, path: &str) -> Value {
    serde_json::from_str(&environment.read(path)).unwrap()
}

/// The metrics of the latest run: `stage.metric` and value.
fn metrics(environment: &TestEnvironment) -> Vec<(String, f64)> {
    let latest = environment.latest();
    let stages = latest["metrics"].as_object().unwrap().iter();
    let of_stage = |(stage, metrics): (&String, &Value)| {
        let values = metrics.as_object().unwrap().iter();
        values
            .map(|(name, value)| (format!("{stage}.{name}"), value.as_f64().unwrap()))
            .collect::<Vec<_>>()
    };
    let all: Vec<(String, f64)> = stages.flat_map(of_stage).collect();
    assert!(all.len() >= 4, "{all:?}");
    all
}

/// The identifiers that a value refers to.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) if map.len() == 1 && map.contains_key("@id") => {
            found.extend(map["@id"].as_str())
        }
        Value::Object(map) => map.values().for_each(|value| references(value, found)),
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn entity<'a>(graph: &'a [Value], id: &str) -> &'a Value {
    graph
        .iter()
        .find(|entity| entity["@id"] == id)
        .unwrap_or_else(|| panic!("there is no {id}"))
}

/// The items of a list, or the one thing that stands for a list of one.
fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

fn of_type<'a>(graph: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let is = |entity: &&Value| match &entity["@type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        one => one == kind,
    };
    graph.iter().filter(is).collect()
}

/// `%XX` as the byte that it stands for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What holds for every crate: each identifier once, all references lead somewhere, all files are there with their sizes.
fn sound_crate(environment: &TestEnvironment, folder: &str) -> Vec<Value> {
    let metadata = parsed(environment, &format!("{folder}/ro-crate-metadata.json"));
    let graph = metadata["@graph"].as_array().unwrap().clone();
    let ids: Vec<&str> = graph
        .iter()
        .map(|entity| entity["@id"].as_str().unwrap())
        .collect();
    let known: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(known.len(), ids.len(), "an identifier comes twice");
    let mut referred = BTreeSet::new();
    graph
        .iter()
        .for_each(|entity| references(entity, &mut referred));
    let outside = |id: &&str| {
        id.starts_with("http://schema.org/") || id.starts_with("https://w3id.org/ro/crate/")
    };
    let lost: Vec<&str> = referred
        .into_iter()
        .filter(|id| !known.contains(id) && !outside(id))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    let parts: BTreeSet<&str> = {
        let parts = entity(&graph, "./")["hasPart"].as_array().unwrap();
        parts
            .iter()
            .map(|part| part["@id"].as_str().unwrap())
            .collect()
    };
    let mut described = BTreeSet::new();
    for file in of_type(&graph, "File") {
        let id = file["@id"].as_str().unwrap();
        assert!(parts.contains(id), "{id} is no part of the crate");
        let path = decoded(id);
        let bytes = std::fs::read(environment.path(folder).join(&path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(file["contentSize"], bytes.len().to_string(), "{id}");
        let sum = format!("blake3:{}", contract::artifact::Digest::of_bytes(&bytes));
        let is_told = match &file["identifier"] {
            Value::Array(all) => all.iter().any(|one| one == sum.as_str()),
            one => one == sum.as_str(),
        };
        assert!(is_told, "{id}");
        described.insert(environment.path(folder).join(path));
    }
    described.insert(environment.path(folder).join("ro-crate-metadata.json"));
    assert_eq!(
        described,
        environment.files(folder).into_iter().collect(),
        "every file is described"
    );
    graph
}

#[test]
fn a_crate_describes_the_run_step_by_step() {
    let environment = after_one_run();
    environment
        .succeed(&["export", "--format", "ro-crate", "-o", "crate"])
        .prints("crate");
    let graph = sound_crate(&environment, "crate");
    assert_eq!(environment.read("crate/pipeline.yaml"), SMALL);
    let root = entity(&graph, "./");
    for profile in ["process", "workflow", "provenance"] {
        let address = format!("https://w3id.org/ro/wfrun/{profile}/0.5");
        assert!(
            root["conformsTo"]
                .as_array()
                .unwrap()
                .contains(&json!({"@id": address})),
            "{profile}"
        );
    }
    let main = entity(&graph, "pipeline.yaml");
    assert_eq!(root["mainEntity"]["@id"], "pipeline.yaml");
    assert_eq!(
        main["@type"],
        json!([
            "File",
            "SoftwareSourceCode",
            "ComputationalWorkflow",
            "HowTo"
        ])
    );
    assert_eq!(main["step"].as_array().unwrap().len(), SMALL_STAGES.len());
    let (controls, steps) = (
        of_type(&graph, "ControlAction"),
        of_type(&graph, "HowToStep"),
    );
    assert_eq!(
        (controls.len(), steps.len()),
        (SMALL_STAGES.len(), SMALL_STAGES.len())
    );
    assert_eq!(
        entity(&graph, "#organize")["object"]
            .as_array()
            .unwrap()
            .len(),
        SMALL_STAGES.len()
    );
    let train = entity(&graph, "#action/model");
    assert_eq!(train["@type"], "CreateAction");
    assert!(train["startTime"].as_str().unwrap() <= train["endTime"].as_str().unwrap());
    // What the windows are to the training is what the stage above made.
    let made = list(&entity(&graph, "#action/windows")["result"]);
    assert!(list(&train["object"]).contains(&made[0]));
    let epochs = of_type(&graph, "PropertyValue");
    let epochs = epochs
        .iter()
        .find(|value| value["name"] == "epochs" && value["@id"] == "#param/epochs")
        .unwrap();
    assert_eq!(
        (&epochs["value"], &epochs["exampleOfWork"]["@id"]),
        (&json!("2"), &json!("pipeline.yaml#param/epochs"))
    );
    for (name, value) in metrics(&environment) {
        let id = format!("#metric/{}", name.replace('.', "/"));
        assert_eq!(entity(&graph, &id)["value"].as_f64(), Some(value), "{name}");
    }
}

#[test]
fn objects_go_along_when_they_are_asked_for() {
    let environment = after_one_run();
    let export = |more: &[&str]| {
        environment.succeed(
            &[
                &["export", "--format", "ro-crate", "-o", "crate", "--force"],
                more,
            ]
            .concat(),
        );
        sound_crate(&environment, "crate");
        let strip = |path: &Path| {
            path.strip_prefix(environment.path("crate/objects"))
                .ok()?
                .to_str()
                .map(str::to_owned)
        };
        environment
            .files("crate")
            .iter()
            .filter_map(|path| strip(path))
            .collect::<Vec<_>>()
    };
    assert!(export(&[]).is_empty());
    assert_eq!(
        export(&["--objects", "metrics"]),
        [
            "metrics/metrics.parquet",
            "model/log.parquet",
            "scaled/statistics.parquet"
        ]
    );
    let outputs = export(&["--objects", "outputs", "--licence", "CC-BY-4.0"]);
    assert!(
        outputs.contains(&"size/size/size.txt".to_owned()),
        "{outputs:?}"
    );
    assert!(
        outputs.iter().any(|path| path.ends_with(".png"))
            && !outputs.contains(&"raw/series.parquet".to_owned())
    );
    let one = export(&["--stage", "model"]);
    assert_eq!(one, ["model/log.parquet", "model/model.safetensors"]);
    assert!(export(&["--objects", "all"]).len() > outputs.len() + 3);
    let unknown = environment
        .run(&[
            "export", "--format", "ro-crate", "-o", "x", "--stage", "modle",
        ])
        .expect(2);
    unknown
        .says("the run has no stage `modle`")
        .says("did you mean `model`?");
    assert!(!environment.path("x").exists());
}

#[test]
fn nothing_is_overwritten_unasked() {
    let environment = after_one_run();
    environment.write("there/file", "mine");
    for arguments in [
        &["export", "--format", "ro-crate", "-o", "there"][..],
        &["export", "--format", "prov-json", "-o", "there/file"],
        &["export", "--format", "csv", "-o", "there/file"],
        &["export", "--bundle", "there/file"],
    ] {
        environment
            .run(arguments)
            .expect(2)
            .says("is there already")
            .says("--force");
    }
    assert_eq!(environment.read("there/file"), "mine");
    let before = environment.files(".");
    environment
        .run(&["export", "nothing", "--format", "csv"])
        .expect(2)
        .says("no run matches `nothing`");
    environment.run(&["export"]).expect(2);
    environment
        .run(&["export", "--format", "prov-json", "--objects", "all"])
        .expect(2)
        .says("does not use --objects");
    environment
        .run(&["export", "latest", "latest", "--format", "mlflow"])
        .expect(2)
        .says("only tables");
    assert_eq!(
        environment.files("."),
        before,
        "nothing is left of what was refused"
    );
    environment.succeed(&[
        "export",
        "--format",
        "prov-json",
        "-o",
        "there/file",
        "--force",
    ]);
    assert!(environment.read("there/file").starts_with('{'));
}

#[test]
fn prov_names_what_was_used_and_made() {
    let environment = after_one_run();
    environment.succeed(&["export", "--format", "prov-json", "-o", "run.json"]);
    let document = parsed(&environment, "run.json");
    let section = |name: &str| document[name].as_object().cloned().unwrap_or_default();
    let (entities, activities, agents) = (section("entity"), section("activity"), section("agent"));
    assert_eq!(
        activities.len(),
        SMALL_STAGES.len() + 1,
        "the stages and the run"
    );
    for (relation, ends) in [
        (
            "used",
            [("prov:activity", &activities), ("prov:entity", &entities)],
        ),
        (
            "wasGeneratedBy",
            [("prov:entity", &entities), ("prov:activity", &activities)],
        ),
        (
            "wasDerivedFrom",
            [
                ("prov:generatedEntity", &entities),
                ("prov:usedEntity", &entities),
            ],
        ),
        (
            "wasAssociatedWith",
            [("prov:activity", &activities), ("prov:agent", &agents)],
        ),
        (
            "wasInformedBy",
            [
                ("prov:informed", &activities),
                ("prov:informant", &activities),
            ],
        ),
    ] {
        let statements = section(relation);
        assert!(!statements.is_empty(), "{relation}");
        for (id, statement) in statements {
            for (name, known) in &ends {
                assert!(
                    known.contains_key(statement[*name].as_str().unwrap()),
                    "{relation} {id}: {name}"
                );
            }
        }
    }
    let prefixes = section("prefix");
    for id in entities
        .keys()
        .chain(activities.keys())
        .chain(agents.keys())
    {
        assert!(prefixes.contains_key(id.split(':').next().unwrap()), "{id}");
    }
    let latest = environment.latest();
    let key = latest["stages"][3]["key"].as_str().unwrap();
    let digest = latest["stages"][3]["digests"]["model"].as_str().unwrap();
    let generated = section("wasGeneratedBy");
    let by = |one: &&Value| one["prov:entity"] == format!("content:{digest}").as_str();
    assert_eq!(
        generated.values().find(by).unwrap()["prov:activity"],
        format!("action:{key}").as_str()
    );
}

/// Reads `metrics/NAME`: value and step per line.
fn mlflow_values(environment: &TestEnvironment, run: &str, name: &str) -> Vec<(f64, i64)> {
    let line = |line: &str| {
        let parts: Vec<&str> = line.split(' ').collect();
        assert!(
            parts[0].parse::<u64>().unwrap() > 1_600_000_000_000,
            "{line}"
        );
        (parts[1].parse().unwrap(), parts[2].parse().unwrap())
    };
    environment
        .read(&format!("{run}/metrics/{name}"))
        .lines()
        .map(line)
        .collect()
}

#[test]
fn mlflow_finds_metrics_parameters_and_curves() {
    let environment = after_one_run();
    let exported = environment.json(&["export", "--format", "mlflow", "--objects", "outputs"]);
    let run = exported["path"].as_str().unwrap().to_owned();
    for (name, value) in metrics(&environment) {
        assert_eq!(
            mlflow_values(&environment, &run, &name),
            [(value, 0)],
            "{name}"
        );
    }
    let losses = mlflow_values(&environment, &run, "model.train_loss");
    assert_eq!(
        losses.iter().map(|(_, step)| *step).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(environment.read(&format!("{run}/params/epochs")), "2");
    assert_eq!(environment.read(&format!("{run}/params/seed")), "7");
    let meta = environment.read(&format!("{run}/meta.yaml"));
    assert!(
        meta.contains("status: 3\n") && meta.contains("lifecycle_stage: \"active\"\n"),
        "{meta}"
    );
    assert_eq!(
        environment.read(&format!("{run}/artifacts/pipeline/pipeline.yaml")),
        SMALL
    );
    assert!(
        Path::new(&run)
            .join("artifacts/objects/size/size/size.txt")
            .exists()
    );
    let caveat = environment.read(&format!("{run}/tags/runner.caveat.metrics.best_f1"));
    assert!(caveat.starts_with("oracle"), "{caveat}");
    // Another run of the pipeline joins the experiment; the same one is not written twice.
    environment
        .run(&["export", "--format", "mlflow"])
        .expect(2)
        .says("is there already");
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=3"]);
    let second = environment.json(&["export", "--format", "mlflow"]);
    let folder = |path: &Value| {
        Path::new(path.as_str().unwrap())
            .parent()
            .unwrap()
            .to_owned()
    };
    assert_eq!(folder(&second["path"]), folder(&exported["path"]));
}

#[test]
fn a_table_has_a_row_for_every_figure() {
    let environment = after_one_run();
    environment.succeed(&["run", "--quiet", "pipeline.yaml", "--set", "epochs=3"]);
    let text = environment.succeed(&["export", "--format", "csv"]).stdout;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|one| *one == name).unwrap();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let expected = metrics(&environment);
    assert_eq!(rows.len(), expected.len());
    for (row, (name, value)) in rows.iter().zip(&expected) {
        assert_eq!(
            format!("{}.{}", row[column("stage")], row[column("metric")]),
            *name
        );
        assert_eq!(row[column("value")].parse::<f64>().unwrap(), *value);
    }
    let best = rows
        .iter()
        .find(|row| row[column("metric")] == "best_f1")
        .unwrap();
    assert_eq!(
        (best[column("oracle")], best[column("direction")]),
        ("true", "higher")
    );
    let all = environment
        .succeed(&["export", "--format", "csv", "--all"])
        .stdout;
    assert_eq!(all.lines().count(), 2 * expected.len() + 1);
    let told = environment.json(&[
        "export",
        "--all",
        "--format",
        "parquet",
        "-o",
        "metrics.parquet",
    ]);
    assert_eq!(
        (&told["rows"], &told["runs"]),
        (&json!(2 * expected.len()), &json!(2))
    );
    let bytes = std::fs::read(environment.path("metrics.parquet")).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
}

#[test]
fn axes_become_columns() {
    let environment = TestEnvironment::with_pipeline(
        "pipeline: axes\nstages:\n  raw:\n    foreach: {noise: [1, 2]}\n    uses: generate\n    \
         with: {channels: \"${noise}\", day: 24, rows: {train: 60, validation: 30, calibration: 30, test: 60}}\n  \
         said:\n    uses: command\n    from: raw\n    with:\n      \
         run: [sh, -c, \"echo '{\\\"size\\\": 3.5}' > {out.metrics}\"]\n      outputs: {metrics: {path: m.json, kind: metrics}}\n",
    );
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    let text = environment.succeed(&["export", "--format", "csv"]).stdout;
    assert!(
        text.lines().next().unwrap().ends_with(",axis.noise"),
        "{text}"
    );
    let ends: Vec<&str> = text
        .lines()
        .skip(1)
        .map(|line| line.rsplit(',').next().unwrap())
        .collect();
    assert_eq!(ends, ["1", "2"], "{text}");
}

/// A run that failed is told as one.
#[test]
fn a_failed_run_is_exported_as_failed() {
    let environment = TestEnvironment::with_pipeline(&format!(
        "{SMALL}  bad: {{uses: command, from: metrics, with: {{run: [sh, -c, \"exit 3\"], outputs: {{o: {{path: o}}}}}}}}\n"
    ));
    environment
        .run(&["run", "--quiet", "pipeline.yaml"])
        .expect(1);
    environment.succeed(&["export", "--format", "ro-crate", "-o", "crate"]);
    let graph = sound_crate(&environment, "crate");
    let bad = entity(&graph, "#action/bad");
    assert_eq!(bad["actionStatus"], "http://schema.org/FailedActionStatus");
    assert!(
        bad["error"].as_str().is_some_and(|text| !text.is_empty()),
        "{bad}"
    );
    assert_eq!(
        entity(&graph, "#run")["actionStatus"],
        "http://schema.org/FailedActionStatus"
    );
    let exported = environment.json(&["export", "--format", "mlflow"]);
    let meta = environment.read(&format!("{}/meta.yaml", exported["path"].as_str().unwrap()));
    assert!(meta.contains("status: 4\n"), "{meta}");
}

/// A crate of every kind of run: formal parameters point at files, folders or values, whatever came along.
#[test]
fn formal_parameters_point_at_what_the_profiles_ask_for() {
    let environment = TestEnvironment::with_pipeline(HOSTILE);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    for objects in ["none", "metrics", "outputs", "all"] {
        environment.succeed(&[
            "export",
            "--format",
            "ro-crate",
            "-o",
            "crate",
            "--force",
            "--objects",
            objects,
        ]);
        let graph = sound_crate(&environment, "crate");
        let types = |id: &str| list(&entity(&graph, id)["@type"]);
        let parameters = of_type(&graph, "FormalParameter");
        assert!(parameters.len() > 8, "{}", parameters.len());
        for parameter in parameters {
            assert!(
                !list(&parameter["additionalType"]).is_empty(),
                "{parameter}"
            );
            for example in list(&parameter["workExample"]) {
                let kinds = types(example["@id"].as_str().unwrap());
                let is_one = ["File", "Dataset", "PropertyValue"]
                    .iter()
                    .any(|kind| kinds.contains(&json!(kind)));
                assert!(is_one, "{objects}: {parameter} {kinds:?}");
            }
        }
        let has_folder = of_type(&graph, "Dataset").len() > 1;
        assert_eq!(
            has_folder,
            matches!(objects, "outputs" | "all"),
            "{objects}"
        );
    }
}

/// Instances, outputs and files whose names would fall together in any careless map.
const HOSTILE: &str = r#"pipeline: hostile
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
