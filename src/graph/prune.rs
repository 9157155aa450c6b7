//! Pass: keeps what the targets need.

use std::collections::BTreeSet;

use super::{Graph, StageId};

impl Graph {
    /// The graph of these stages and of everything that they need.
    #[must_use]
    pub fn prune(&self, targets: &[StageId]) -> Self {
        let mut wanted: BTreeSet<StageId> = BTreeSet::new();
        let mut pending = targets.to_vec();
        while let Some(stage) = pending.pop() {
            if wanted.insert(stage) {
                pending.extend(self.needs(stage));
            }
        }
        let mut pruned = Self::default();
        let mut renumbered = vec![None; self.len()];
        for old in self.order.iter().filter(|id| wanted.contains(id)) {
            let new = pruned.add(self.stage(*old).clone());
            for (source, handoff) in self.inputs(*old) {
                if let Some(source) = renumbered[source.index()] {
                    let StageId(source) = source;
                    pruned.dag.add_edge(source, new.0, handoff.clone());
                }
            }
            renumbered[old.index()] = Some(new);
        }
        pruned
    }
}
