//! `runner`: a declarative experiment runner for time-series machine learning.
//! This crate is the engine and the command line; what a stage does lives in the crates below `stages/`.
//! Modules import only leftwards: diagnostic < pipeline < graph < cache < data < engine < audit < report < project < sweep
//! < page < ui < cli.

pub mod audit;
pub mod cache;
pub mod cli;
pub mod data;
pub mod diagnostic;
pub mod engine;
pub mod graph;
pub mod page;
pub mod pipeline;
pub mod project;
pub mod report;
pub mod sweep;
pub mod ui;
