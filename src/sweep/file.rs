//! The sweep file: which pipeline, along which axes, for which figure. Every problem is told at its place; what a
//! pipeline makes of the values is judged when the trials are assembled.

mod read;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::artifact::Direction;
use contract::schema_of;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use self::read::Reader;
use super::options::JobOptions;
use super::space::Space;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceMap, Span};
use crate::pipeline::limits::read_text;
use crate::pipeline::{Node, validate, yaml};

/// A sweep as its file describes it.
#[derive(Clone, Debug)]
pub struct SweepFile {
    pub name: String,
    /// The file that it was read from.
    pub path: PathBuf,
    /// The pipeline's file.
    pub pipeline: PathBuf,
    pub profile: Option<String>,
    /// `NAME=VALUE` for every trial, as for `--set`.
    pub fixed: Vec<(String, String)>,
    pub space: Space,
    /// Each trial runs once with each of these; empty for the pipeline's own seed.
    pub seeds: Vec<u64>,
    pub sampler: Sampler,
    pub objective: Objective,
    pub stopping: Option<Stopping>,
    /// The stages that each trial is run for; that of the objective is always among them. Empty for it alone.
    pub targets: Vec<String>,
    pub slurm: JobOptions,
    /// Places for messages about values of axes.
    pub axes_at: Span,
    pub seeds_at: Span,
    pub objective_at: Span,
}

/// A sweep file as it is written.
///
/// A sweep of runner.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The name of the sweep.
    #[schemars(length(min = 1))]
    sweep: String,
    /// What the sweep is for.
    #[serde(default, rename = "description")]
    #[schemars(with = "String", length(min = 1))]
    _description: Option<String>,
    /// The pipeline's file, relative to this one.
    #[schemars(length(min = 1))]
    pipeline: PathBuf,
    /// A profile of the pipeline.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    profile: Option<String>,
    /// Values for every trial, named as for `--set`.
    set: Option<IndexMap<String, Value>>,
    /// What varies, named as for `--set`: a list of values, `{choice: [...]}`, `{uniform: [low, high]}`,
    /// `{log_uniform: [low, high]}`, `{int: [low, high]}`, `{log_int: [low, high]}` (with `points: N` for a grid), or
    /// `{by: EARLIER_AXIS, VALUE: ..., default: ...}`.
    #[serde(rename = "axes")]
    _axes: Option<IndexMap<String, Value>>,
    /// Axes that go together: lists of one length.
    #[serde(rename = "zip")]
    _zip: Option<IndexMap<String, Value>>,
    /// Every trial runs with each of these seeds; tables show mean and deviation.
    #[serde(default)]
    #[schemars(length(min = 1))]
    seeds: Vec<u64>,
    /// How points are chosen; by default all combinations.
    #[serde(default)]
    sampler: Sampler,
    objective: Objective,
    #[serde(default)]
    #[schemars(with = "Stopping")]
    stopping: Option<Stopping>,
    /// The stages to run in every trial besides the objective's and what it needs.
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    slurm: JobOptions,
}

/// How the points are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampler {
    /// All combinations.
    #[default]
    Grid,
    /// Independent draws. More trials continue the same sequence.
    Random {
        /// How many points.
        #[schemars(range(min = 1))]
        trials: usize,
        /// Of the sampler; the seeds of trials are `seeds`.
        #[serde(default)]
        seed: u64,
    },
    /// Tree-structured Parzen estimator: the first `startup` points are drawn at random, then `batch` at a time by the
    /// results of all earlier batches.
    Tpe {
        /// How many points.
        #[schemars(range(min = 1))]
        trials: usize,
        /// Of the sampler; the seeds of trials are `seeds`.
        #[serde(default)]
        seed: u64,
        /// Points that are drawn at random before it learns.
        #[serde(default = "startup")]
        #[schemars(range(min = 1))]
        startup: usize,
        /// Points that it asks for at a time.
        #[serde(default = "batch")]
        #[schemars(range(min = 1))]
        batch: usize,
    },
}

fn startup() -> usize {
    10
}

fn batch() -> usize {
    4
}

/// The metric that is optimised.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// The stage that measures it.
    #[schemars(length(min = 1))]
    pub stage: String,
    /// The metric's name.
    #[schemars(length(min = 1))]
    pub metric: String,
    /// By default the metric's own.
    #[serde(default, deserialize_with = "direction")]
    #[schemars(with = "Goal")]
    pub direction: Option<Direction>,
}

/// A direction in the words of a sweep file.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Goal {
    Maximize,
    Minimize,
}

fn direction<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Direction>, D::Error> {
    Ok(Some(match Goal::deserialize(from)? {
        Goal::Maximize => Direction::Higher,
        Goal::Minimize => Direction::Lower,
    }))
}

/// When trials end early. Each trial runs with `over` (a parameter such as `epochs`) at the first level, those that are
/// kept at the next, and so on; training continues from the checkpoint of the level before.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stopping {
    /// Which trials continue.
    pub rule: Rule,
    /// The parameter that is raised from level to level, such as `epochs`.
    #[schemars(length(min = 1))]
    pub over: String,
    /// Its values, rising.
    #[schemars(length(min = 2), inner(range(min = 1)))]
    pub levels: Vec<u64>,
    /// With `halving`, one in this many continues; 3 by default.
    #[serde(default)]
    #[schemars(with = "f64", extend("exclusiveMinimum" = 1.0))]
    factor: Option<f64>,
}

impl Stopping {
    /// One in this many trials continues with `halving`.
    pub fn factor(&self) -> f64 {
        self.factor.unwrap_or(3.0)
    }
}

/// Which trials go on to the next level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Those that are not worse than the median of all at the level.
    Median,
    /// The best one in `factor` of all at the level (successive halving: Jamieson and Talwalkar, AISTATS 2016).
    Halving,
}

/// The JSON Schema of sweep files, for editors.
pub fn sweep_schema() -> Value {
    let mut schema = schema_of::<Written>().clone();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Sweep of runner");
    schema
}

impl SweepFile {
    /// Reads a sweep file. `None` if there are errors among the diagnostics.
    pub fn load(path: &Path, sources: &mut SourceMap) -> (Option<Self>, Diagnostics) {
        let mut diagnostics = Diagnostics::default();
        let kept = sources.kept(path).cloned();
        let text = match kept.map_or_else(|| read_text(path).map(Arc::from), Ok) {
            Ok(text) => text,
            Err(reason) => {
                let message = format!("cannot read `{}`: {reason}", path.display());
                let hint = "a sweep file names a `pipeline`, its `axes` and an `objective`; see docs/sweeps.md";
                diagnostics.push(Diagnostic::error("unreadable-file", message).hint(hint));
                return (None, diagnostics);
            }
        };
        let file = sources.add(path.display().to_string(), Arc::clone(&text));
        let (node, problems) = yaml::parse(&text, file, 0);
        diagnostics.extend(problems);
        let Some(node) = node else {
            if !diagnostics.has_errors() {
                let message = format!("`{}` is empty", path.display());
                diagnostics
                    .push(Diagnostic::error("missing-key", message).at(Span::new(file, 0, 0)));
            }
            return (None, diagnostics);
        };
        if let Some(diagnostic) = not_a_sweep(&node) {
            diagnostics.push(diagnostic);
            return (None, diagnostics);
        }
        diagnostics.extend(validate(&node, schema_of::<Written>(), "the sweep"));
        if diagnostics.has_errors() {
            return (None, diagnostics);
        }
        let written = match serde_json::from_value(node.to_json()) {
            Ok(written) => written,
            Err(error) => {
                let problem = Diagnostic::error("bad-value", error.to_string());
                diagnostics.push(problem.at(node.span()));
                return (None, diagnostics);
            }
        };
        let mut reader = Reader {
            diagnostics: &mut diagnostics,
        };
        let sweep = reader.sweep(path, &node, written);
        if diagnostics.has_errors() {
            (None, diagnostics)
        } else {
            (Some(sweep), diagnostics)
        }
    }
}

impl SweepFile {
    /// The stages that each trial is run for.
    pub fn all_targets(&self) -> Vec<String> {
        let mut targets = vec![self.objective.stage.clone()];
        targets.extend(self.targets.iter().cloned());
        targets
    }
}

/// Who gives a pipeline to `sweep` is told so, instead of ten unknown keys.
fn not_a_sweep(node: &Node) -> Option<Diagnostic> {
    let (key, _) = node
        .entry("stages")
        .filter(|_| node.get("sweep").is_none())?;
    let diagnostic =
        Diagnostic::error("not-a-sweep", "this is a pipeline, not a sweep").at(key.span);
    Some(
        diagnostic
            .hint("write a file with `sweep: NAME`, `pipeline: THIS FILE`, `axes` and `objective`"),
    )
}

/// A value as the command line would have it: JSON, which is YAML.
pub(super) fn as_text(value: &Value) -> String {
    value.to_string()
}
