//! Pass: waves, the stages that could run at the same time if nothing but their inputs held them back.

use super::{Graph, StageId};

impl Graph {
    /// Stages grouped by the length of the longest path that leads to them.
    pub fn waves(&self) -> Vec<Vec<StageId>> {
        let mut depth = vec![0; self.len()];
        let mut waves: Vec<Vec<StageId>> = Vec::new();
        for &stage in &self.order {
            let level = self
                .needs(stage)
                .iter()
                .map(|need| depth[need.index()] + 1)
                .max()
                .unwrap_or(0);
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
            let after = self
                .needed_by(stage)
                .iter()
                .map(|next| remaining[next.index()])
                .fold(0.0, f64::max);
            remaining[stage.index()] = seconds(stage) + after;
        }
        remaining
    }
}
