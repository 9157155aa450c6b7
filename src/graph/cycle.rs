//! Pass: cycles, each named in full. Works on plain adjacency, because a cyclic graph never becomes a [`super::Graph`].

use std::collections::{BTreeSet, VecDeque};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// For each knot of stages, one shortest cycle through its first member: `a -> b -> a` is `[a, b]`.
pub(super) fn cycles(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(needs.len(), needs.len());
    for _ in needs {
        graph.add_node(());
    }
    for (stage, sources) in needs.iter().enumerate() {
        for &source in sources {
            graph.add_edge(NodeIndex::new(source), NodeIndex::new(stage), ());
        }
    }
    let mut found: Vec<Vec<usize>> = Vec::new();
    for knot in tarjan_scc(&graph) {
        let mut knot: Vec<usize> = knot.into_iter().map(NodeIndex::index).collect();
        knot.sort_unstable();
        if knot.len() > 1 || needs[knot[0]].contains(&knot[0]) {
            found.extend(shortest_through(knot[0], &knot, needs));
        }
    }
    found.sort();
    found
}

/// Breadth first along `needs` inside the knot, from the start back to itself, told in the direction of the data.
fn shortest_through(start: usize, knot: &[usize], needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut towards: Vec<Option<usize>> = vec![None; needs.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(stage) = queue.pop_front() {
        for &source in needs[stage].iter().filter(|source| knot.contains(source)) {
            if source == start {
                let mut cycle = vec![stage];
                while let Some(next) = towards[*cycle.last()?] {
                    cycle.push(next);
                }
                cycle.rotate_right(1);
                return Some(cycle);
            }
            if towards[source].is_none() {
                towards[source] = Some(stage);
                queue.push_back(source);
            }
        }
    }
    None
}

/// Positions in an order in which each comes after what it needs; the given order where there is a choice.
pub(super) fn topological(needs: &[Vec<usize>]) -> Vec<usize> {
    let mut needed_by = vec![Vec::new(); needs.len()];
    let mut missing: Vec<usize> = vec![0; needs.len()];
    for (stage, sources) in needs.iter().enumerate() {
        let mut sources = sources.clone();
        sources.sort_unstable();
        sources.dedup();
        missing[stage] = sources.len();
        for source in sources {
            needed_by[source].push(stage);
        }
    }
    let mut ready: BTreeSet<usize> = (0..needs.len()).collect();
    ready.retain(|stage| missing[*stage] == 0);
    let mut order = Vec::with_capacity(needs.len());
    while let Some(stage) = ready.pop_first() {
        order.push(stage);
        for &next in &needed_by[stage] {
            missing[next] -= 1;
            if missing[next] == 0 {
                ready.insert(next);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_told_in_the_direction_of_the_data() {
        // 0 -> 1 -> 2 -> 0, and 3 needs itself; 4 only hangs on.
        let needs = vec![vec![2], vec![0], vec![1], vec![3], vec![0]];
        assert_eq!(cycles(&needs), [vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn order_keeps_to_the_file_where_it_can() {
        assert_eq!(
            topological(&[vec![2], vec![], vec![], vec![0, 1]]),
            [1, 2, 0, 3]
        );
        assert!(cycles(&[vec![], vec![0, 0], vec![1, 0]]).is_empty());
    }
}
