//! Readers, and the stages that make and shape series.

pub mod fold;
pub mod generate;
pub mod generate_shapes;
pub mod ingest;
pub mod normalize;
pub mod readers;
pub mod window;
