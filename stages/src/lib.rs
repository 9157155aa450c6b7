//! What each stage of `runner` does: artifacts, data formats, models, metrics, training.
//! The engine that runs the stages lives in the crate `runner`, which this crate never sees.

pub mod artifact;
pub mod contract;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod plot;
pub mod readers;
pub mod statistics;
#[doc(hidden)]
pub mod testing;
pub mod thresholds;
pub mod training;

pub mod classify;
pub mod collect;
pub mod command;
pub mod ensemble;
pub mod evaluate;
pub mod fold;
pub mod forecast;
pub mod generate;
pub mod generate_shapes;
pub mod impute;
pub mod ingest;
pub mod normalize;
pub mod render_images;
pub mod render_plots;
pub mod score;
pub mod sensor_graph;
pub mod train;
pub mod window;

use contract::StageKind;

/// All stage kinds, in the order of the catalogue: a line each.
pub fn kinds() -> Vec<StageKind> {
    vec![
        StageKind::of::<ingest::Ingest>(),
        StageKind::of::<generate::Generate>(),
        StageKind::of::<generate_shapes::GenerateShapes>(),
        StageKind::of::<normalize::Normalize>(),
        StageKind::of::<fold::Fold>(),
        StageKind::of::<window::Window>(),
        StageKind::of::<train::Train>(),
        StageKind::of::<score::Score>(),
        StageKind::of::<forecast::Forecast>(),
        StageKind::of::<impute::Impute>(),
        StageKind::of::<classify::Classify>(),
        StageKind::of::<evaluate::Evaluate>(),
        StageKind::of::<sensor_graph::SensorGraph>(),
        StageKind::of::<render_plots::RenderPlots>(),
        StageKind::of::<render_images::RenderImages>(),
        StageKind::of::<collect::Collect>(),
        StageKind::of::<ensemble::Ensemble>(),
        StageKind::of::<command::Command>(),
    ]
}

/// The examples of CONTRIBUTING.md: `cargo test` compiles them.
#[cfg(doctest)]
#[doc = include_str!("../../CONTRIBUTING.md")]
struct Examples;
