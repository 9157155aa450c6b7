//! The catalogue: every stage kind of `runner`, a line each, and what else the engine asks of the stages.

use contract::artifact::Direction;
use contract::{Catalogue, StageKind};

use data::{fold, generate, generate_shapes, ingest, normalize, readers, window};
use drawing::{render_images, render_plots};
use judging::{collect, ensemble, evaluate, metrics};
use learning::{classify, forecast, impute, score, sensor_graph, train};
use programs::command;

/// Everything that the engine knows of the stages.
pub fn catalogue() -> Catalogue {
    Catalogue {
        kinds: kinds(),
        directions,
        hardware: &numerics::Machine,
        read_series: readers::read_fresh,
    }
}

/// Which way each metric is better; whatever it judges, that is the same.
fn directions() -> Vec<(&'static str, Direction)> {
    let mut directions = Vec::new();
    for metric in metrics::all() {
        let readings = metric.readings();
        directions.extend(
            readings
                .first()
                .map(|first| (metric.name(), first.direction)),
        );
    }
    directions
}

/// All stage kinds, in the order of the catalogue: a line each.
fn kinds() -> Vec<StageKind> {
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
