//! Pipeline files as people write them. From these types come the schemas by which files are checked and what is read from
//! them; what depends on axes or on the stage kind stays a tree until its values are known.

use std::sync::LazyLock;
use std::time::Duration;

use contract::schema_of;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::tolerance::Tolerance;
use super::units::{self, DurationText, SizeText};

/// What a pipeline is, apart from its stages. `seed` and `strict` may refer to parameters.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Header {
    /// The name of the pipeline.
    #[schemars(length(min = 1))]
    pub pipeline: String,
    /// What the pipeline is for.
    #[serde(default)]
    #[schemars(with = "String")]
    pub description: Option<String>,
    /// From it follows all randomness.
    #[serde(default)]
    pub seed: u64,
    /// Warnings about leaked test data are errors.
    #[serde(default)]
    pub strict: bool,
}

/// Named trees of any form, or nothing.
type Trees = Option<IndexMap<String, Value>>;

/// What a pipeline and a fragment may both hold.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only the schema is used: the trees are read with their places"
)]
struct Parts {
    /// Files with `params` and `stages`, relative to this one. Parameters of this file win.
    include: Option<Vec<String>>,
    /// Values to refer to as `${name}`. A run can set them: `--set name=value`.
    params: Trees,
}

/// A pipeline file.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[expect(
    dead_code,
    reason = "only the schema is used: the trees are read with their places"
)]
struct PipelineFile {
    #[serde(flatten)]
    header: Header,
    /// Named sets of parameter values. A run can choose one: `--profile name`.
    profiles: Option<IndexMap<String, Trees>>,
    #[serde(flatten)]
    parts: Parts,
    /// The stages by name.
    stages: IndexMap<String, Value>,
}

/// A file that others include.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[expect(
    dead_code,
    reason = "only the schema is used: the trees are read with their places"
)]
struct FragmentFile {
    #[serde(flatten)]
    parts: Parts,
    /// The stages by name.
    #[serde(default)]
    stages: IndexMap<String, Value>,
}

/// A stage, whatever its kind.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[expect(
    dead_code,
    reason = "only the schema is used: the trees are read with their places"
)]
struct StageFile {
    /// The stage kind.
    uses: String,
    /// The parameters of the stage.
    with: Trees,
    #[serde(default)]
    from: Value,
    #[serde(default)]
    foreach: Value,
    #[serde(default)]
    matrix: Value,
    #[serde(flatten)]
    run: RunSettings,
}

/// How a stage is run; none of it changes its outputs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunSettings {
    /// What the stage needs of the machine.
    #[serde(default)]
    pub resources: Resources,
    /// How often the stage is tried again after a failure.
    #[serde(default)]
    pub retries: u32,
    /// A duration such as `90 s` or `2h`.
    #[serde(default, deserialize_with = "units::read_duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Option<Duration>,
    /// How far an output may be from its record when it is audited, by port; no result depends on it.
    #[serde(default)]
    pub tolerance: IndexMap<String, Tolerance>,
    /// What the stage is for.
    #[serde(default)]
    #[schemars(with = "String")]
    pub description: Option<String>,
}

/// What a stage asks of the machine. None of it enters a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Threads.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1))]
    pub cpus: Option<u32>,
    /// A size such as `4 GiB`.
    #[serde(default, deserialize_with = "units::read_size")]
    #[schemars(with = "SizeText")]
    pub memory: Option<u64>,
    /// Graphics cards.
    #[serde(default)]
    #[schemars(with = "u32")]
    pub gpus: Option<u32>,
}

/// The top level of a pipeline file.
pub(super) static PIPELINE: LazyLock<&Value> = LazyLock::new(schema_of::<PipelineFile>);

/// The top level of a pipeline file, for a first check: what may hold `${name}` is checked when that is put in.
pub(super) static OUTLINE: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = PIPELINE.clone();
    for key in OPEN_KEYS {
        schema["properties"][key] = json!(true);
    }
    schema
});

/// Keys of a pipeline that may refer to parameters.
pub(super) const OPEN_KEYS: [&str; 2] = ["seed", "strict"];

/// The top level of a file that others include.
pub(super) static FRAGMENT: LazyLock<&Value> = LazyLock::new(schema_of::<FragmentFile>);

/// A stage, whatever its kind.
pub(super) static STAGE: LazyLock<&Value> = LazyLock::new(schema_of::<StageFile>);

/// The keys that describe the pipeline itself.
pub(super) static HEADER_KEYS: LazyLock<Vec<&str>> = LazyLock::new(|| keys(schema_of::<Header>()));

/// The keys of a stage.
pub(super) static STAGE_KEYS: LazyLock<Vec<&str>> = LazyLock::new(|| keys(&STAGE));

/// Keys of a stage that may refer to parameters and are read at once.
pub(super) static RUN_KEYS: LazyLock<Vec<&str>> =
    LazyLock::new(|| keys(schema_of::<RunSettings>()));

fn keys(schema: &Value) -> Vec<&str> {
    let properties = schema["properties"].as_object();
    properties.map_or_else(Vec::new, |properties| {
        properties.keys().map(String::as_str).collect()
    })
}
