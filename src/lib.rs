//! The engine and command line of `runner`: pipelines of time-series experiments, planned, cached and explained.
//! What the stages do is in the crate `stages`.

pub mod diagnostic;
pub mod spec;
