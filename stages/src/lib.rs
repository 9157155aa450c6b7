//! What each stage of `runner` does: artifacts, data formats, models, metrics, training.
//! The engine that runs the stages lives in the crate `runner`, which this crate never sees.

pub mod artifact;
pub mod contract;
pub mod models;
pub mod nn;
pub mod score;
pub mod train;
pub mod training;

use contract::StageKind;

/// All stage kinds, in the order of the catalogue: a line each.
pub fn kinds() -> Vec<StageKind> {
    vec![StageKind::of::<train::Train>(), StageKind::of::<score::Score>()]
}
