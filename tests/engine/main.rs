//! Tests of the engine, and of the application as a library, on stages that do next to nothing: linked without a single real
//! stage, and without the program.

mod audits;
mod changed_files;
mod engine;
mod failures;
mod garbage;
mod locks;
mod project;
mod sweeps;
mod toys;
mod wrong_sweeps;
