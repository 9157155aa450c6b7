//! The stage `render-plots`: pictures of scores and series with labels, threshold and alarms, of forecasts, of confusion
//! matrices, of ranked tables and of graphs, one folder of files.
//! It computes no figure: those in the titles come from its inputs.

mod confusion;
mod forecasts;
mod pictures;
mod selection;
mod tables;

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::{
    ArtifactKind, FileEntry, Files, Forecasts, Metrics, Predictions, RelativePath, Scores, Series,
    Split, Table,
};
use contract::{
    Fault, Inputs, Numerics, Outputs, Port, Progress, Stage, StageContext, Threads, Trouble,
};
use pictures::{Drawing, Picture};
use plot::{Canvas, Raster, Svg};

/// The stage kind.
pub struct RenderPlots;

/// The file format of the pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Png,
    Svg,
}

/// Which channels are drawn beside the score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Channels {
    /// So many, those that have most to do with the anomalies.
    Count(#[schemars(range(max = 64))] usize),
    /// These.
    Names(#[schemars(length(max = 64))] Vec<String>),
}

/// How scores map to height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScoreScale {
    /// Logarithmic if a few scores would flatten all others.
    #[default]
    Auto,
    Linear,
    Log,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    #[serde(default)]
    pub format: Format,
    /// Pixels.
    #[serde(default = "default_width")]
    #[schemars(range(min = 200, max = 10_000))]
    pub width: u32,
    /// Pixels of a picture of the score alone; each channel adds a third.
    #[serde(default = "default_height")]
    #[schemars(range(min = 150, max = 5_000))]
    pub height: u32,
    /// The split that is drawn.
    #[serde(default = "default_split")]
    pub split: Split,
    /// Names of channels, or how many: of those that have most to do with the anomalies, or of forecasts the first.
    #[serde(default = "default_channels")]
    pub channels: Channels,
    /// The most labelled events that get their own picture, longest first.
    #[serde(default = "default_events")]
    pub events: usize,
    #[serde(default)]
    pub score_scale: ScoreScale,
    /// The most forecast windows that get a picture, spread evenly.
    #[serde(default = "default_windows")]
    pub windows: usize,
    /// The most rows before a forecast that are drawn with it, if `series` is connected, too.
    #[serde(default = "default_history")]
    pub history: usize,
    /// Columns of the table to draw: bars for the first, marks for the others. The first three if left out.
    #[serde(default)]
    pub figures: Vec<String>,
}

fn default_width() -> u32 {
    1200
}

fn default_height() -> u32 {
    360
}

fn default_split() -> Split {
    Split::Test
}

fn default_channels() -> Channels {
    Channels::Count(4)
}

fn default_events() -> usize {
    8
}

fn default_windows() -> usize {
    4
}

fn default_history() -> usize {
    96
}

impl Stage for RenderPlots {
    type Params = Params;

    const NAME: &'static str = "render-plots";
    const VERSION: u32 = 4;
    const DOC: &'static str = "Draws scores and series with labels, threshold and alarms, forecasts, confusion matrices, \
         tables and graphs as PNG or SVG.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;

    fn inputs(_: &Params) -> Vec<Port> {
        vec![
            Port::new(
                "series",
                ArtifactKind::Series,
                "the channels to draw, or with forecasts the scaled rows before them",
            )
            .optional(),
            Port::new(
                "scores",
                ArtifactKind::Scores,
                "the scores to draw, with labels",
            )
            .optional(),
            Port::new(
                "metrics",
                ArtifactKind::Metrics,
                "threshold and figures for the titles",
            )
            .optional(),
            Port::new(
                "forecasts",
                ArtifactKind::Forecasts,
                "the windows to draw, forecast or filled in",
            )
            .optional(),
            Port::new(
                "predictions",
                ArtifactKind::Predictions,
                "the classes whose confusion is drawn",
            )
            .optional(),
            Port::new(
                "table",
                ArtifactKind::Table,
                "a table to draw, a bar per row",
            )
            .optional(),
            Port::new(
                "graph",
                ArtifactKind::Table,
                "a graph to draw: from, to, weight",
            )
            .optional(),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![Port::new("plots", ArtifactKind::Files, "the pictures")]
    }

    fn check_inputs(_: &Params, connected: &[&str]) -> Result<(), Fault> {
        let drawn = [
            "series",
            "scores",
            "forecasts",
            "predictions",
            "table",
            "graph",
        ];
        if drawn.iter().any(|port| connected.contains(port)) {
            return Ok(());
        }
        let names = drawn.map(|port| format!("`{port}`")).join(", ");
        let reason = format!("there is nothing to draw: connect at least one of {names}");
        Err(Fault::whole(reason))
    }

    fn run(
        params: &Params,
        inputs: &Inputs,
        context: &StageContext<'_>,
    ) -> Result<Outputs, Trouble> {
        let series = inputs.optional::<Series>("series")?;
        let scores = inputs.optional::<Scores>("scores")?;
        let metrics = inputs.optional::<Metrics>("metrics")?;
        Self::check_inputs(params, &inputs.connected())
            .map_err(|fault| Trouble::new(fault.reason))?;
        let mut pictures = Vec::new();
        let forecasts = inputs.optional::<Forecasts>("forecasts")?;
        if series.is_some() && forecasts.is_none() || scores.is_some() {
            pictures.extend(pictures::plan(
                params,
                series.as_deref(),
                scores.as_deref(),
                metrics.as_deref(),
            )?);
        }
        if let Some(forecasts) = forecasts {
            pictures.extend(forecasts::plan(params, &forecasts, series.as_deref())?);
        }
        if let Some(predictions) = inputs.optional::<Predictions>("predictions")? {
            pictures.push(confusion::plan(params, predictions)?);
        }
        if let Some(table) = inputs.optional::<Table>("table")? {
            pictures.push(tables::ranking(params, &table)?);
        }
        if let Some(graph) = inputs.optional::<Table>("graph")? {
            pictures.push(tables::graph(&graph)?);
        }
        let done = AtomicU64::new(0);
        let draw = |picture: &Picture| {
            context.check_cancelled()?;
            let entry = draw(picture, params)?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            let total = pictures.len() as u64;
            context.host.progress(Progress {
                unit: "image",
                done,
                total,
                phase: String::new(),
                figures: vec![],
            });
            Ok(entry)
        };
        let entries = pictures
            .par_iter()
            .map(draw)
            .collect::<Result<Vec<FileEntry>, Trouble>>()?;
        Ok(Outputs::one("plots", Files::new(entries)?))
    }
}

fn draw(picture: &Picture, params: &Params) -> Result<FileEntry, Trouble> {
    let failed = |reason: String| {
        Trouble::new(format!(
            "the picture `{}` could not be drawn: {reason}",
            picture.name
        ))
    };
    let (width, height) = match &picture.drawing {
        Drawing::Chart(_) => (
            params.width,
            params.height + picture.channels as u32 * (params.height / 3),
        ),
        Drawing::Matrix(matrix) => matrix.size(),
        Drawing::Ranking(ranking) => (params.width, ranking.height()),
        Drawing::Network(_) => (params.width, params.width),
    };
    let (mut canvas, extension): (Box<dyn Canvas>, _) = match params.format {
        Format::Png => (
            Box::new(Raster::new(width, height).map_err(failed)?.compact()),
            "png",
        ),
        Format::Svg => (Box::new(Svg::new(width, height)), "svg"),
    };
    match &picture.drawing {
        Drawing::Chart(chart) => chart.draw(canvas.as_mut()),
        Drawing::Matrix(matrix) => matrix.draw(canvas.as_mut()),
        Drawing::Ranking(ranking) => ranking.draw(canvas.as_mut()),
        Drawing::Network(network) => network.draw(canvas.as_mut()),
    }
    let path = RelativePath::new(format!("{}.{extension}", picture.name))?;
    Ok(FileEntry::from_bytes(
        path,
        canvas.finish().map_err(failed)?,
    ))
}

#[cfg(test)]
mod tests;
