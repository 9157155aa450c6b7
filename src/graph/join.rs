//! Pass: several graphs become one, in which every stage that they have in common stands once. So the trials of a sweep
//! share what does not differ between them. Two stages are the same if they have one name, one kind, one seed (where
//! their kind draws random numbers), one set of parameters, and take the same outputs of the same stages.

use std::collections::{BTreeMap, HashMap};

use super::{Graph, Handoff, StageId, StageNode};

/// Several graphs in one.
#[derive(Clone, Default)]
pub struct Joined {
    pub graph: Graph,
    /// For each of the graphs, where its stages are now, by their number in it.
    pub places: Vec<Vec<StageId>>,
}

/// What makes two stages the same.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    name: String,
    kind: &'static str,
    seed: Option<u64>,
    parameters: String,
    inputs: Vec<(StageId, String, String, Option<String>)>,
}

/// Joins graphs. Stages of which there are several variants are told apart by the label of the first graph that has
/// theirs: `model#7`.
pub fn join<'a>(graphs: impl IntoIterator<Item = (&'a str, &'a Graph)>) -> Joined {
    let mut joined = Joined::default();
    let mut known: HashMap<Identity, StageId> = HashMap::new();
    let mut variants: BTreeMap<String, Vec<(StageId, &str)>> = BTreeMap::new();
    let mut users: BTreeMap<StageId, Vec<usize>> = BTreeMap::new();
    for (member, (label, graph)) in graphs.into_iter().enumerate() {
        let mut places: Vec<Option<StageId>> = vec![None; graph.len()];
        for &old in graph.order() {
            let node = graph.stage(old);
            let mut inputs: Vec<(StageId, Handoff)> = Vec::new();
            for (source, handoff) in graph.inputs(old) {
                if let Some(place) = places[source.index()] {
                    inputs.push((place, handoff.clone()));
                }
            }
            let identity = identity(node, &inputs);
            let place = match known.get(&identity) {
                Some(place) => *place,
                None => {
                    let place = joined.graph.add(node.clone());
                    for (StageId(source), handoff) in inputs {
                        joined.graph.dag.add_edge(source, place.0, handoff);
                    }
                    variants
                        .entry(node.name.clone())
                        .or_default()
                        .push((place, label));
                    known.insert(identity, place);
                    place
                }
            };
            users.entry(place).or_default().push(member);
            places[old.index()] = Some(place);
        }
        joined.places.push(places.into_iter().flatten().collect());
    }
    let count = joined.places.len();
    for (StageId(place), members) in users {
        if members.len() < count {
            joined.graph.dag[place].members = members;
        }
    }
    for (name, variants) in variants {
        if variants.len() > 1 {
            for (StageId(place), label) in variants {
                joined.graph.dag[place].name = format!("{name}#{label}");
            }
        }
    }
    joined
}

fn identity(node: &StageNode, inputs: &[(StageId, Handoff)]) -> Identity {
    let mut taken = Vec::with_capacity(inputs.len());
    for (source, edge) in inputs {
        let (output, input, item) = (&edge.output, &edge.input, &edge.item);
        taken.push((*source, output.clone(), input.clone(), item.clone()));
    }
    Identity {
        name: node.name.clone(),
        kind: node.kind.name,
        seed: node.configured.seeded().then_some(node.seed),
        // Defaults are filled in by one struct, so that equal parameters have their keys in one order.
        parameters: node.parameters().to_string(),
        inputs: taken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::graph::build;
    use crate::graph::shapers;
    use crate::pipeline::{LoadOptions, load_text};
    use std::path::Path;

    fn graph(seed: u64, method: &str) -> Graph {
        let text = format!(
            "pipeline: test\nseed: {seed}\nstages:\n  raw: {{uses: generate}}\n  \
             scaled: {{uses: normalize, from: raw, with: {{method: {method}}}}}\n  \
             windows: {{uses: window, from: scaled, with: {{length: 8}}}}"
        );
        let (spec, _) = load_text(
            Path::new("test"),
            &text,
            &LoadOptions::default(),
            &mut SourceMap::default(),
        );
        let (graph, diagnostics) = build(&spec.unwrap(), &shapers());
        assert!(!diagnostics.has_errors());
        graph
    }

    #[test]
    fn what_is_common_stands_once() {
        let (a, b, c) = (graph(1, "zscore"), graph(1, "minmax"), graph(1, "zscore"));
        let joined = join([("0", &a), ("1", &b), ("2", &c)]);
        let names: Vec<&str> = joined
            .graph
            .order()
            .iter()
            .map(|id| joined.graph.stage(*id).name.as_str())
            .collect();
        assert_eq!(
            names,
            ["raw", "scaled#0", "windows#0", "scaled#1", "windows#1"]
        );
        assert_eq!(joined.places[0], joined.places[2]);
        assert_eq!(
            joined.graph.needs(joined.places[1][2]),
            [joined.places[1][1]]
        );
        let members = |place: StageId| joined.graph.stage(place).members.as_slice();
        assert_eq!(
            joined.places[0]
                .iter()
                .map(|place| members(*place))
                .collect::<Vec<_>>(),
            [&[][..], &[0, 2], &[0, 2]]
        );
        assert_eq!(members(joined.places[1][1]), [1]);
        assert_eq!(
            joined.graph.needs(joined.places[1][1]),
            [joined.places[0][0]]
        );
    }

    #[test]
    fn seeds_keep_stages_apart_that_draw_random_numbers() {
        let (a, b) = (graph(1, "zscore"), graph(2, "zscore"));
        let joined = join([("0", &a), ("1", &b)]);
        assert_eq!(
            joined.graph.len(),
            6,
            "`generate` draws, and all stand on it"
        );
        let seeds: Vec<u64> = joined
            .places
            .iter()
            .map(|places| joined.graph.stage(places[0]).seed)
            .collect();
        assert_eq!(seeds, [1, 2]);
    }
}
