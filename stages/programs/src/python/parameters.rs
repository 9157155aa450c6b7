//! The parameters of `python`, and what can be said of them before anything runs.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use contract::Fault;
use contract::artifact::Split;

/// Parameters of `python`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A function or class: `FILE.py:NAME`, where the file lies beside the pipeline, or `PACKAGE.MODULE:NAME`.
    #[schemars(length(min = 3))]
    pub detector: String,
    /// What it is made with: keyword arguments of the class, or of the function.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// The interpreter and its packages. Their versions enter the key; where they lie does not.
    #[serde(default)]
    pub environment: Environment,
    /// Further files and folders of your own that the detector imports: each enters the key.
    #[serde(default)]
    pub code: Vec<PathBuf>,
    /// What it is asked for.
    #[serde(default)]
    pub task: Task,
    /// The splits whose rows it is fitted on; `[]` for a detector that learns nothing.
    #[serde(default = "train")]
    pub fit: Vec<Split>,
    /// Whether it is fitted with the labels of these rows: `fit(X, y)`.
    #[serde(default)]
    pub labels: bool,
    /// The splits whose rows it scores; all if left out. Forecasts and predictions are of `test` then.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub splits: Option<Vec<Split>>,
    /// 1 if a higher score is more anomalous; -1 if a lower one is, as in scikit-learn.
    #[serde(default = "one")]
    #[schemars(schema_with = "sign")]
    pub sign: i8,
    /// Whether windows are handed over as rows of `length * channels` values, for detectors of rows.
    #[serde(default)]
    pub flatten: bool,
    /// Samples that are scored at a time; all of a segment if left out.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub batch: Option<usize>,
    /// Whether it keeps checkpoints, in the folder `checkpoints`: what lies there when it is stopped, or fails, is there
    /// again at the next try.
    #[serde(default)]
    pub checkpoints: bool,
}

/// Where a detector runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The interpreter: a name on PATH, or a path; `python3` if left out.
    #[serde(default)]
    pub python: Option<PathBuf>,
    /// Packages with their versions, as `pip freeze` or `uv pip compile` writes them, a `uv.lock` beside its
    /// `pyproject.toml`, or what `conda list --explicit` writes. From it an environment is made in the store, once; without
    /// it the packages of the interpreter are used.
    #[serde(default)]
    pub lock: Option<PathBuf>,
    /// A container image that podman or docker runs, named by its digest: `NAME@sha256:…`. `python` is the interpreter in it.
    #[serde(default)]
    pub image: Option<String>,
}

/// What a detector is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A score for each row: by `decision_function`, `score_samples`, `score` or `predict`, or by the function itself.
    #[default]
    Detect,
    /// What follows each window: `fit(windows, targets)`, `predict(windows)`.
    Forecast,
    /// The class of each sample: `fit(samples, classes)`, `predict_proba(samples)` or `predict(samples)`.
    Classify,
}

impl Task {
    pub fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Forecast => "forecast",
            Self::Classify => "classify",
        }
    }
}

fn train() -> Vec<Split> {
    vec![Split::Train]
}

fn one() -> i8 {
    1
}

fn sign(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": -1, "maximum": 1})
}

/// Where a detector is, as a pipeline names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    File(&'a str),
    Module(&'a str),
}

impl Params {
    /// The file or module of the detector, and its name there.
    pub fn place(&self) -> Option<(Place<'_>, &str)> {
        let (place, name) = self.detector.rsplit_once(':')?;
        let place = match place.ends_with(".py") {
            true => Place::File(place),
            false => Place::Module(place),
        };
        Some((place, name))
    }
}

/// What the schema cannot say.
pub fn check(params: &Params) -> Result<(), Fault> {
    const FORM: &str = "write `FILE.py:NAME` or `PACKAGE.MODULE:NAME`";
    let is_name = |name: &str| {
        let mut parts = name.split('.');
        parts.all(|part| {
            let starts = part.starts_with(|c: char| c.is_alphabetic() || c == '_');
            starts && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        })
    };
    let fits = params.place().is_some_and(|(place, name)| match place {
        Place::File(path) => is_name(name) && path.len() > ".py".len(),
        Place::Module(module) => is_name(name) && is_name(module),
    });
    if !fits {
        let reason = format!(
            "`{}` does not name a detector: {FORM}",
            params.detector.escape_debug()
        );
        return Err(Fault::new("detector", reason));
    }
    let environment = &params.environment;
    if let Some(image) = &environment.image {
        super::environment::digest(image)?;
        if environment.lock.is_some() {
            let reason = "an image has its packages: leave `lock` out";
            return Err(Fault::new("environment.lock", reason));
        }
    }
    if params.sign.abs() != 1 {
        return Err(Fault::new("sign", "is 1 or -1"));
    }
    let is_flat = params.flatten && params.task == Task::Classify;
    if is_flat {
        return Err(Fault::new(
            "flatten",
            "is for windows, and samples have none",
        ));
    }
    if params.labels && params.task != Task::Detect {
        let reason =
            "is for detectors: forecasters learn from what follows, classifiers from classes";
        return Err(Fault::new("labels", reason));
    }
    if params.labels && params.fit.is_empty() {
        return Err(Fault::new(
            "labels",
            "needs rows to be fitted on: name splits in `fit`",
        ));
    }
    Ok(())
}

/// One of the two inputs is connected, and the right one.
pub fn check_inputs(params: &Params, connected: &[&str]) -> Result<(), Fault> {
    let has = |port| connected.contains(&port);
    match (has("series"), has("windows"), params.task) {
        (true, true, _) => Err(Fault::whole("connect `series` or `windows`, not both")),
        (false, false, _) => Err(Fault::whole(
            "there is nothing to score: connect `series` or `windows`",
        )),
        (true, _, Task::Forecast) => Err(Fault::new(
            "task",
            "forecasts follow windows: connect `windows` with a horizon",
        )),
        (_, true, Task::Classify) => Err(Fault::new(
            "task",
            "samples are the segments of a series: connect `series`",
        )),
        (true, _, _) if params.flatten => Err(Fault::new(
            "flatten",
            "is for windows, and `series` is connected",
        )),
        _ => Ok(()),
    }
}

/// The path of the interpreter is the machine's, not the experiment's.
pub fn leave_out_of_key(parameters: &mut Value) {
    if let Some(environment) = parameters
        .get_mut("environment")
        .and_then(Value::as_object_mut)
    {
        environment.remove("python");
    }
}
