//! Which tolerance holds for an output: what the command line says of it, what the pipeline declares, or what the command
//! line says of all.

use std::collections::BTreeMap;

use crate::graph::{Graph, StageNode};
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
        let asked = |name: &String| self.ports.get(&(name.clone(), port.to_owned()));
        let asked = asked(&stage.name).or_else(|| asked(&stage.stage));
        asked
            .or_else(|| stage.tolerance.get(port))
            .copied()
            .unwrap_or(self.default)
    }

    /// The first of the named outputs that the graph does not have.
    pub fn unknown<'a>(&'a self, graph: &Graph) -> Option<(&'a str, &'a str)> {
        let is_there = |(stage, port): &&(String, String)| {
            graph.find(stage).iter().any(|id| {
                graph
                    .stage(*id)
                    .outputs
                    .iter()
                    .any(|output| output.name == *port)
            })
        };
        self.ports
            .keys()
            .find(|named| !is_there(named))
            .map(|(stage, port)| (stage.as_str(), port.as_str()))
    }
}
