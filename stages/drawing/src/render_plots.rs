//! The stage `render-plots`: plots of scores and series with labels, threshold and alarms, of forecasts, of confusion
//! matrices, of ranked tables and of graphs, one folder of files.
//! It computes no metric: those in the titles come from its inputs.

mod confusion;
mod forecasts;
mod scores;
mod selection;
mod tables;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use contract::artifact::{
    ArtifactKind, FileEntry, Files, Forecasts, Metrics, Predictions, RelativePath, Scores, Series,
    Split, Table,
};
use contract::{Fault, Inputs, Numerics, Outputs, Port, Stage, StageContext, Threads, Trouble};
use plot::{Canvas, Chart, Matrix, Network, Ranking, Raster, Svg};

use super::draw_all;

/// The stage kind.
pub struct RenderPlots;

/// The file format of the plots.
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
    /// Pixels of a plot of the score alone; each channel adds a third.
    #[serde(default = "default_height")]
    #[schemars(range(min = 150, max = 5_000))]
    pub height: u32,
    /// The split that is drawn.
    #[serde(default = "default_split")]
    pub split: Split,
    /// Names of channels, or how many: of those that have most to do with the anomalies, or of forecasts the first.
    #[serde(default = "default_channels")]
    pub channels: Channels,
    /// The most labelled events that get their own plot, longest first.
    #[serde(default = "default_events")]
    pub events: usize,
    #[serde(default)]
    pub score_scale: ScoreScale,
    /// The most forecast windows that get a plot, spread evenly.
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
    const VERSION: u32 = 6;
    const DOC: &'static str = "Draws scores and series with labels, threshold and alarms, forecasts, confusion matrices, \
         tables and graphs as PNG or SVG.";
    const NUMERICS: Numerics = Numerics::Exact;
    const THREADS: Threads = Threads::All;
    const SEEDED: bool = false;

    fn inputs(_: &Params) -> Vec<Port> {
        let series = "the channels to draw, or with forecasts the scaled rows before them";
        let scores = "the scores to draw, with labels";
        let metrics = "threshold and metrics for the titles";
        let forecasts = "the windows to draw, forecast or filled in";
        let predictions = "the classes whose confusion is drawn";
        let table = "a table to draw, a bar per row";
        let graph = "a graph to draw: from, to, weight";
        vec![
            Port::new("series", ArtifactKind::Series, series).optional(),
            Port::new("scores", ArtifactKind::Scores, scores).optional(),
            Port::new("metrics", ArtifactKind::Metrics, metrics).optional(),
            Port::new("forecasts", ArtifactKind::Forecasts, forecasts).optional(),
            Port::new("predictions", ArtifactKind::Predictions, predictions).optional(),
            Port::new("table", ArtifactKind::Table, table).optional(),
            Port::new("graph", ArtifactKind::Table, graph).optional(),
        ]
    }

    fn outputs(_: &Params) -> Vec<Port> {
        vec![Port::new("plots", ArtifactKind::Files, "the plots")]
    }

    fn check_inputs(_: &Params, connected: &[&str]) -> Result<(), Fault> {
        // Metrics are only written beside something else.
        if connected.iter().any(|port| *port != "metrics") {
            return Ok(());
        }
        let reason = "there is nothing to draw: connect at least one of `series`, `scores`, \
                      `forecasts`, `predictions`, `table`, `graph`";
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
        let mut plots = Vec::new();
        let forecasts = inputs.optional::<Forecasts>("forecasts")?;
        // With forecasts alone, the series is what lies before them, and is not drawn whole.
        if series.is_some() && forecasts.is_none() || scores.is_some() {
            let (series, scores) = (series.as_deref(), scores.as_deref());
            plots.extend(scores::plan(params, series, scores, metrics.as_deref())?);
        }
        if let Some(forecasts) = forecasts {
            plots.extend(forecasts::plan(params, &forecasts, series.as_deref())?);
        }
        if let Some(predictions) = inputs.optional::<Predictions>("predictions")? {
            plots.push(confusion::plan(params, predictions)?);
        }
        if let Some(table) = inputs.optional::<Table>("table")? {
            plots.push(tables::ranking(params, &table)?);
        }
        if let Some(graph) = inputs.optional::<Table>("graph")? {
            plots.push(tables::graph(params, &graph)?);
        }
        let entries = draw_all(&plots, context, |plot| plot.draw(params.format))?;
        Ok(Outputs::one("plots", Files::new(entries)?))
    }
}

/// A plot that is yet to be drawn.
struct Plot {
    /// The file's path without its extension.
    name: String,
    /// Width and height in pixels.
    size: (u32, u32),
    drawing: Drawing,
}

enum Drawing {
    Chart(Chart),
    Matrix(Matrix),
    Ranking(Ranking),
    Network(Network),
}

impl Plot {
    /// A chart, which is higher for some of its panels.
    fn of_chart(params: &Params, name: String, chart: Chart, more_panels: usize) -> Self {
        let height = params.height + more_panels as u32 * (params.height / 3);
        Self {
            name,
            size: (params.width, height),
            drawing: Drawing::Chart(chart),
        }
    }

    fn draw(&self, format: Format) -> Result<FileEntry, Trouble> {
        let (bytes, extension) = match format {
            Format::Png => (self.png(), "png"),
            Format::Svg => (self.svg(), "svg"),
        };
        let path = RelativePath::new(format!("{}.{extension}", self.name))?;
        match bytes {
            Ok(bytes) => Ok(FileEntry::from_bytes(path, bytes)),
            Err(reason) => Err(Trouble::new(format!(
                "the plot `{}` could not be drawn: {reason}",
                self.name
            ))),
        }
    }

    fn png(&self) -> Result<Vec<u8>, String> {
        let (width, height) = self.size;
        self.draw_on(Box::new(Raster::new(width, height)?.compact()))
    }

    fn svg(&self) -> Result<Vec<u8>, String> {
        let (width, height) = self.size;
        self.draw_on(Box::new(Svg::new(width, height)))
    }

    /// The bytes of the file.
    fn draw_on(&self, mut canvas: Box<dyn Canvas>) -> Result<Vec<u8>, String> {
        match &self.drawing {
            Drawing::Chart(chart) => chart.draw(canvas.as_mut()),
            Drawing::Matrix(matrix) => matrix.draw(canvas.as_mut()),
            Drawing::Ranking(ranking) => ranking.draw(canvas.as_mut()),
            Drawing::Network(network) => network.draw(canvas.as_mut()),
        }
        canvas.finish()
    }
}

#[cfg(test)]
mod tests;
