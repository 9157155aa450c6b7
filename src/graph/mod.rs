//! The pipeline as a graph, in the style of Hydro's DFIR: typed ids over petgraph, small passes over one
//! representation, problems collected instead of the first one thrown, a failing graph still drawable.
//! It knows no store and executes nothing.

mod build;
mod check;
mod cycle;
mod draw;
mod expand;
mod join;
mod leakage;
mod once;
mod place;
mod prune;
mod remarks;
mod waves;
mod wiring;

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{Configured, FileRequest, Learning, Port, PortType, StageKind};
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use serde_json::Value;

pub use build::build;
pub use draw::{Colour, Format, draw};
pub use join::{Joined, join};
pub use place::Machine;

use crate::diagnostic::Span;
use crate::pipeline::Tolerance;

/// A stage of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(NodeIndex);

impl StageId {
    /// A dense number, for side tables.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// What a stage needs while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Threads; 0 until the `place` pass.
    pub threads: usize,
    /// Bytes of memory, if declared.
    pub memory: u64,
    pub gpus: usize,
}

/// One stage, or one instance of a stage that is expanded over axes.
#[derive(Clone)]
pub struct StageNode {
    /// Unique: `model`, or `model[machine=machine-1-1,seed=2]`.
    pub name: String,
    /// The stage in the file that this is an instance of.
    pub stage: String,
    pub kind: StageKind,
    /// The values of its axes, in order; empty if it is not expanded.
    pub point: Vec<(String, Value)>,
    /// Of several graphs that became one: those that have this stage, by their places; empty if all of them have it.
    pub members: Vec<usize>,
    /// Its parameters, parsed, with defaults filled in.
    pub configured: Configured,
    /// The written parameters are wrong, and those of the kind's example stand in for them.
    pub stands_in: bool,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub files: Vec<FileRequest>,
    /// Environment variables whose values it sees.
    pub environment: Vec<String>,
    pub learns: Vec<Learning>,
    pub needs: Needs,
    /// Of the generators that its kind draws from; a graph may hold stages of several seeds, as that of a sweep does.
    pub seed: u64,
    /// What is doubtful in what it reads is an error.
    pub strict: bool,
    pub retries: u32,
    pub timeout: Option<Duration>,
    /// How far its outputs may be from their record when they are audited, by port.
    pub tolerance: BTreeMap<String, Tolerance>,
    /// The stage's name in the file.
    pub span: Span,
    /// Something is wrong with its parameters or connections, and was reported. It is there to be drawn.
    pub faulty: bool,
}

impl StageNode {
    /// The parameters with defaults filled in.
    pub fn parameters(&self) -> &Value {
        self.configured.parameters()
    }
}

/// An edge: an output that becomes an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Handoff {
    pub output: String,
    pub input: String,
    /// Names the artifact on a port that takes many.
    pub item: Option<String>,
    pub carries: PortType,
    /// Position among the inputs of its stage.
    order: usize,
}

/// A pipeline's graph.
#[derive(Clone, Default)]
pub struct Graph {
    dag: DiGraph<StageNode, Handoff>,
    /// Topological, and stable: the order of the file where edges leave a choice.
    order: Vec<StageId>,
}

impl Graph {
    fn add(&mut self, node: StageNode) -> StageId {
        let id = StageId(self.dag.add_node(node));
        self.order.push(id);
        id
    }

    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    pub fn is_empty(&self) -> bool {
        self.dag.node_count() == 0
    }

    /// All stages, each after those that it needs.
    pub fn order(&self) -> &[StageId] {
        &self.order
    }

    pub fn stage(&self, id: StageId) -> &StageNode {
        &self.dag[id.0]
    }

    /// What a stage takes, in a defined order, with the stage that gives it.
    pub fn inputs(&self, id: StageId) -> Vec<(StageId, &Handoff)> {
        let edges = self.dag.edges_directed(id.0, Direction::Incoming);
        let mut inputs: Vec<_> = edges
            .map(|edge| (StageId(edge.source()), edge.weight()))
            .collect();
        inputs.sort_by_key(|(_, handoff)| handoff.order);
        inputs
    }

    /// The stages that a stage needs directly, each once.
    pub fn needs(&self, id: StageId) -> Vec<StageId> {
        self.neighbours(id, Direction::Incoming)
    }

    /// The stages that need a stage directly, each once.
    pub fn needed_by(&self, id: StageId) -> Vec<StageId> {
        self.neighbours(id, Direction::Outgoing)
    }

    fn neighbours(&self, id: StageId, direction: Direction) -> Vec<StageId> {
        let neighbours = self.dag.neighbors_directed(id.0, direction);
        let mut stages: Vec<StageId> = neighbours.map(StageId).collect();
        stages.sort();
        stages.dedup();
        stages
    }

    /// Edges that take a given output.
    pub fn consumers(&self, id: StageId, output: &str) -> usize {
        let edges = self.dag.edges_directed(id.0, Direction::Outgoing);
        edges.filter(|edge| edge.weight().output == output).count()
    }

    /// The stages with this name: one, or all instances of an expanded stage.
    pub fn find(&self, name: &str) -> Vec<StageId> {
        let mut found = self.order.clone();
        found.retain(|id| {
            let stage = self.stage(*id);
            stage.name == name || stage.stage == name
        });
        found
    }

    /// Names that a user may write for a stage.
    pub fn names(&self) -> Vec<&str> {
        let stages = self.order.iter().map(|id| self.stage(*id));
        let mut names: Vec<&str> = stages.map(|stage| stage.stage.as_str()).collect();
        names.dedup();
        names
    }
}

/// Kinds for tests of this crate: those that make and shape series, which need no model.
#[cfg(test)]
pub(crate) fn shapers() -> Vec<contract::StageKind> {
    use ::data::{generate::Generate, normalize::Normalize, window::Window};
    use contract::StageKind;

    vec![
        StageKind::of::<Generate>(),
        StageKind::of::<Normalize>(),
        StageKind::of::<Window>(),
    ]
}
