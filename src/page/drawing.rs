//! Where the stages of a run stand in the picture of its graph: layers from left to right, by what each stage needs.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::cache::StageState;
use crate::report::History;

/// Above this many stages, instances of a stage stand as one.
const SINGLE: usize = 48;

/// A stage, or the instances of one.
pub struct Node {
    pub name: String,
    pub kind: String,
    /// Places of its stages in the record.
    pub stages: Vec<usize>,
    pub layer: usize,
    /// From the top of the layer.
    pub place: usize,
    /// The worst state of its stages.
    pub state: StageState,
    pub seconds: f64,
}

/// The graph of a run.
pub struct Drawing {
    pub nodes: Vec<Node>,
    /// From which node to which.
    pub edges: Vec<(usize, usize)>,
    pub layers: usize,
    /// The most nodes of a layer.
    pub height: usize,
}

/// Lays out the graph of a run.
pub fn drawing(history: &History<'_>) -> Drawing {
    let (mut nodes, node_of) = nodes(history);
    let mut edges = BTreeSet::new();
    for (index, stage) in history.stages.iter().enumerate() {
        for input in &stage.inputs {
            if let Some((maker, _)) = &input.maker
                && node_of[*maker] != node_of[index]
            {
                edges.insert((node_of[*maker], node_of[index]));
            }
        }
    }
    let edges: Vec<(usize, usize)> = edges.into_iter().collect();
    // The stages of a record stand behind what they need, so one pass suffices for single ones; instances need more.
    for _ in 0..nodes.len() {
        let mut is_settled = true;
        for (from, to) in &edges {
            if nodes[*to].layer <= nodes[*from].layer && nodes[*from].layer + 1 < nodes.len() {
                nodes[*to].layer = nodes[*from].layer + 1;
                is_settled = false;
            }
        }
        if is_settled {
            break;
        }
    }
    let layers = nodes.iter().map(|node| node.layer + 1).max().unwrap_or(0);
    let mut height = 0;
    for layer in 0..layers {
        height = height.max(order(&mut nodes, &edges, layer));
    }
    Drawing {
        nodes,
        edges,
        layers,
        height,
    }
}

/// The nodes, and the node of each stage.
fn nodes(history: &History<'_>) -> (Vec<Node>, Vec<usize>) {
    let record = history.record;
    let is_joined = record.stages.len() > SINGLE;
    let mut nodes: IndexMap<&str, Node> = IndexMap::new();
    let mut node_of = Vec::with_capacity(record.stages.len());
    for (index, stage) in record.stages.iter().enumerate() {
        let family = record.instances.get(&stage.name);
        let name = match family {
            Some(instance) if is_joined => instance.stage.as_str(),
            _ => stage.name.as_str(),
        };
        let entry = nodes.entry(name);
        node_of.push(entry.index());
        let node = entry.or_insert_with(|| Node {
            name: name.to_owned(),
            kind: stage.kind.clone(),
            stages: Vec::new(),
            layer: 0,
            place: 0,
            state: StageState::Hit,
            seconds: 0.0,
        });
        node.stages.push(index);
        node.seconds += stage.seconds;
        if severity(stage.state) > severity(node.state) {
            node.state = stage.state;
        }
    }
    (nodes.into_values().collect(), node_of)
}

fn severity(state: StageState) -> usize {
    match state {
        StageState::Hit => 0,
        StageState::Ran => 1,
        StageState::Skipped => 2,
        StageState::Failed => 3,
    }
}

/// Orders the nodes of a layer by the mean place of what they need; returns how many there are.
fn order(nodes: &mut [Node], edges: &[(usize, usize)], layer: usize) -> usize {
    let mut wishes: BTreeMap<usize, f64> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        if node.layer != layer {
            continue;
        }
        let (mut sum, mut count) = (0.0, 0.0);
        for (from, _) in edges.iter().filter(|(_, to)| *to == index) {
            sum += nodes[*from].place as f64;
            count += 1.0;
        }
        wishes.insert(
            index,
            if count > 0.0 {
                sum / count
            } else {
                index as f64
            },
        );
    }
    let mut own: Vec<(usize, f64)> = wishes.into_iter().collect();
    own.sort_by(|left, right| left.1.total_cmp(&right.1).then(left.0.cmp(&right.0)));
    for (place, (index, _)) in own.iter().enumerate() {
        nodes[*index].place = place;
    }
    own.len()
}
