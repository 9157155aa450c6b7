//! Metrics, thresholds, and the stages that judge, combine and collect results.

pub mod metrics;
pub mod thresholds;

contract::stage_kinds! {
    pub mod evaluate: Evaluate;
    pub mod collect: Collect;
    pub mod ensemble: Ensemble;
}
