//! Plots of time series: a canvas with two back ends, PNG and SVG, and on it charts of stacked panels over a shared time
//! axis, matrices, rankings and graphs.
//! It draws what it is given; what is worth drawing is decided by the stages.

mod canvas;
mod chart;
mod decimate;
pub mod font;
mod layout;
mod line_plot;
mod locator;
mod matrix;
mod network;
mod ranking;
mod raster;
mod stroke;
mod svg;
mod ticks;

pub use canvas::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, palette};
pub use chart::{Chart, Line, Panel, Region, Rule, Strip, TimeAxis, ValueScale};
pub use line_plot::{LinePlot, LinePlotStyle};
pub use matrix::Matrix;
pub use network::Network;
pub use ranking::{Bar, Marks, Ranking};
pub use raster::Raster;
pub use svg::Svg;
pub use ticks::{Tick, linear, logarithmic, rounded};
