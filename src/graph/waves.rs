//! Pass: waves, the stages that could run at the same time if nothing but their inputs held them back.

use super::{Graph, StageId};

impl Graph {
    /// Stages grouped by the length of the longest path that leads to them.
    pub fn waves(&self) -> Vec<Vec<StageId>> {
        let mut depth = vec![0; self.len()];
        let mut waves: Vec<Vec<StageId>> = Vec::new();
        for &stage in &self.order {
            let mut level = 0;
            for need in self.needs(stage) {
                level = level.max(depth[need.index()] + 1);
            }
            depth[stage.index()] = level;
            waves.resize_with(waves.len().max(level + 1), Vec::new);
            waves[level].push(stage);
        }
        waves
    }

    /// For each stage, the seconds until the end of the longest chain that starts with it.
    pub fn critical_path(&self, seconds: impl Fn(StageId) -> f64) -> Vec<f64> {
        let mut remaining = vec![0.0; self.len()];
        for &stage in self.order.iter().rev() {
            let mut after = 0.0_f64;
            for next in self.needed_by(stage) {
                after = after.max(remaining[next.index()]);
            }
            remaining[stage.index()] = seconds(stage) + after;
        }
        remaining
    }
}
