//! A run in other formats: what is written is well-formed, refers to nothing that is not there, and has the same values as
//! the run's record.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::environment::TestEnvironment;
use crate::export_names::HOSTILE;
use crate::pipelines::{SMALL, SMALL_STAGES};

fn after_one_run() -> TestEnvironment {
    let environment = TestEnvironment::with_pipeline(SMALL);
    environment.succeed(&["run", "--quiet", "pipeline.yaml"]);
    environment
}

pub fn parsed(environment: &TestEnvironment, path: &str) -> Value {
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

pub fn entity<'a>(graph: &'a [Value], id: &str) -> &'a Value {
    graph
        .iter()
        .find(|entity| entity["@id"] == id)
        .unwrap_or_else(|| panic!("there is no {id}"))
}

/// The items of a list, or the one thing that stands for a list of one.
pub fn list(value: &Value) -> Vec<Value> {
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
pub fn sound_crate(environment: &TestEnvironment, folder: &str) -> Vec<Value> {
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
