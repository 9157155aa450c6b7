//! From YAML text to a typed description of a pipeline in which everything knows where it was written.
//! Stage kinds, ports and cycles are judged by the graph.
//!
//! [`load`] reads a file with its fragments, a profile and `--set`. What depends on axis values is then asked for point by point:
//! [`Axes::points`] in the scope of the parameters, [`From::sources`] and [`substitute`] for `with` in the scope of a
//! point, and [`validate`] for the result against the schema of the stage kind.

mod axes;
mod describe;
mod document;
mod file;
mod file_kind;
pub mod limits;
mod load;
mod misplaced;
mod node;
mod overrides;
mod params;
mod profiles;
mod scalar;
mod schema;
mod schema_words;
mod sources;
mod substitute;
mod tolerance;
pub mod units;
mod unused;
mod validate;
pub mod yaml;

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

pub use axes::{Axes, Axis, Point};
pub use describe::describe_schema;
pub use file::Resources;
pub use file_kind::is_sweep;
pub use load::{LoadOptions, load, load_text};
pub use misplaced::{Stray, beside_with};
pub use node::{Key, Kind, Node};
pub use scalar::{Resolved, Scalar};
pub use schema::pipeline_schema;
pub use sources::{From, PortSources, Reference, Sources};
pub use substitute::{Scope, substitute, substitute_where_possible};
pub use tolerance::{Tolerance, real_in_json};
pub use validate::{validate, validate_rest};
pub use yaml::to_yaml;

use crate::diagnostic::{Span, Spanned};

/// A pipeline file with its fragments, parameters resolved, profile and `--set` applied.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: Spanned<String>,
    pub description: Option<String>,
    pub seed: u64,
    /// Warnings of the leakage check are errors.
    pub strict: bool,
    /// The profile that was chosen.
    pub profile: Option<String>,
    /// In the order of the files, included ones first. Values hold no references any more.
    pub params: IndexMap<String, Param>,
    /// In the order of the files, included ones first.
    pub stages: Vec<StageSpec>,
    /// The texts of the files by path, the pipeline's own first.
    pub files: Vec<(String, Arc<str>)>,
    /// Names of stages that are so wrong that they are not among `stages`; their problems were reported.
    pub broken: Vec<Spanned<String>>,
}

impl Spec {
    /// The parameters as a scope for [`substitute`].
    pub fn scope(&self) -> Scope<'_> {
        Scope::new(&self.params)
    }

    /// The parameters as plain values.
    pub fn values(&self) -> IndexMap<String, serde_json::Value> {
        self.params
            .iter()
            .map(|(name, param)| (name.clone(), param.value.to_json()))
            .collect()
    }
}

/// A parameter of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub value: Node,
    /// The place of its name.
    pub span: Span,
    /// Its value could not be found, and this was reported. What refers to it fails without another report.
    pub failed: bool,
}

impl Param {
    pub fn new(value: Node, span: Span) -> Self {
        Self {
            value,
            span,
            failed: false,
        }
    }
}

/// A stage as it was written; it becomes one instance per point of its axes.
#[derive(Clone, Debug)]
pub struct StageSpec {
    pub name: Spanned<String>,
    /// The name of the stage kind.
    pub uses: Spanned<String>,
    /// A mapping, with `${name}` not yet substituted.
    pub with: Option<Node>,
    pub from: From,
    pub axes: Axes,
    pub resources: Resources,
    /// How often a failed stage is tried again.
    pub retries: u32,
    pub timeout: Option<Duration>,
    /// How far outputs may be from their record when they are audited, by port.
    pub tolerance: Vec<(Spanned<String>, Tolerance)>,
    pub description: Option<String>,
    /// Keys that no stage has. The graph, which knows the kind's parameters, reports them.
    pub strays: Vec<Stray>,
    /// The place of everything about the stage.
    pub span: Span,
}

impl StageSpec {
    /// The place to blame for a parameter, given as a dotted path below `with`: as much of it as was written.
    pub fn locate(&self, path: &str) -> Span {
        self.with
            .as_ref()
            .map_or(self.uses.span, |with| with.locate(path))
    }
}

/// Whether a text can name a stage, an axis or a parameter: `[A-Za-z_][A-Za-z0-9_-]*`.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn name_hint() -> &'static str {
    "a name begins with a letter or `_`, followed by letters, digits, `_` and `-`"
}
