//! Fuzzers: mutated inputs against promises that hold for every input. Each module is a subject, a name under which
//! its corpus stands. `RUNNER_FUZZ_SECONDS=3600 cargo test --release --test fuzz pipelines` runs one for an hour.

mod frame;
mod mutate;
mod peer;
mod tables;
mod tree;

mod artifacts;
mod bundles;
mod locks;
mod peers;
mod pipelines;
mod readers;
mod settings;
mod stores;
mod sweeps;

/// Memory that all threads of the fuzzers may hold at a time: a case that wants more aborts, and its input is kept.
#[global_allocator]
static MEMORY: frame::memory::Counting = frame::memory::Counting;
