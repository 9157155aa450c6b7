//! Tests of the engine on stages that do next to nothing: linked without a single real stage.

mod changed_files;
mod engine;
mod failures;
mod toys;
