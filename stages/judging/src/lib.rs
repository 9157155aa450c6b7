//! Metrics, thresholds, and the stages that judge, combine and collect results.

pub mod collect;
pub mod ensemble;
pub mod evaluate;
pub mod metrics;
pub mod thresholds;
