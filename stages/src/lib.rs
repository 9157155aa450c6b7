//! What each stage of `runner` does: artifacts, data formats, models, metrics, training.
//! The engine that runs the stages lives in the crate `runner`, which this crate never sees.

pub mod artifact;
pub mod contract;
pub mod models;
pub mod nn;
