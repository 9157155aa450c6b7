//! Which tolerance holds for an output: what the command line says of it, what the pipeline declares, or what the command
//! line says of all.

use std::collections::BTreeMap;

use crate::graph::{Graph, StageId, StageNode};
use crate::pipeline::Tolerance;

/// What an audit is asked to tolerate.
#[derive(Clone, Debug, Default)]
pub struct Tolerances {
    /// For outputs of which nothing else is said.
    pub default: Tolerance,
    /// By stage, or instance of one, and port. Comes before what the pipeline declares.
    pub ports: BTreeMap<(String, String), Tolerance>,
}

impl Tolerances {
    /// The tolerance for an output.
    pub fn of(&self, stage: &StageNode, port: &str) -> Tolerance {
        for name in [&stage.name, &stage.stage] {
            if let Some(asked) = self.ports.get(&(name.clone(), port.to_owned())) {
                return *asked;
            }
        }
        stage.tolerance.get(port).copied().unwrap_or(self.default)
    }

    /// The first of the named outputs that the graph does not have.
    pub fn unknown<'a>(&'a self, graph: &Graph) -> Option<(&'a str, &'a str)> {
        for (stage, port) in self.ports.keys() {
            let has_port = |id: &StageId| {
                let outputs = &graph.stage(*id).outputs;
                outputs.iter().any(|output| output.name == *port)
            };
            if !graph.find(stage).iter().any(has_port) {
                return Some((stage, port));
            }
        }
        None
    }
}
