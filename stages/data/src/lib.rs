//! Readers, and the stages that make and shape series.

pub mod readers;

contract::stage_kinds! {
    pub mod ingest: Ingest;
    pub mod generate: Generate;
    pub mod generate_shapes: GenerateShapes;
    pub mod normalize: Normalize;
    pub mod fold: Fold;
    pub mod window: Window;
}
