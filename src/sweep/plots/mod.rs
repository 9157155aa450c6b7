//! Plots of a sweep: parallel coordinates, the objective in the order in which trials ended, and the influence of each axis.
//! Values of different levels of a stopping rule are never compared: those of the highest level count, the others are pale.

mod objective;
mod parallel;
mod ruler;
#[cfg(test)]
mod tests;

use contract::artifact::Direction;
use plot::{Anchor, Bar, Canvas, Color, Ranking, Raster, Stroke, Svg, TextStyle, font, palette};

use super::influence::Influence;
use super::leaderboard::{Leaderboard, Row};
use objective::objective_in_order;
use parallel::{parallel_coordinates, parallel_width};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 480;
const TITLE: f32 = 15.0;
const TEXT: f32 = 12.0;
const SMALL: f32 = 11.0;
const MARGIN: f32 = 24.0;
/// Between two lines of text.
const LINE: f32 = 14.0;

/// Formats of plots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlotFormat {
    Svg,
    Png,
}

/// The plots of a sweep, by the names of their files. `influences` may be empty: then there is no plot of them.
///
/// # Errors
/// If a plot cannot be encoded.
pub fn plots(
    board: &Leaderboard,
    influences: &[Influence],
    format: PlotFormat,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let (mut parallel, parallel_name) =
        canvas("parallel", (parallel_width(board, WIDTH), HEIGHT), format)?;
    parallel_coordinates(board, parallel.as_mut());
    let (mut objective, objective_name) = canvas("objective", (WIDTH, HEIGHT), format)?;
    objective_in_order(board, objective.as_mut());
    let mut plots = vec![
        (parallel_name, parallel.finish()?),
        (objective_name, objective.finish()?),
    ];
    if !influences.is_empty() {
        let ranking = ranking(board, influences);
        let (mut influence, name) = canvas("influence", (WIDTH, ranking.height()), format)?;
        ranking.draw(influence.as_mut());
        plots.push((name, influence.finish()?));
    }
    Ok(plots)
}

/// An empty canvas, and the name of its file.
fn canvas(
    name: &str,
    (width, height): (u32, u32),
    format: PlotFormat,
) -> Result<(Box<dyn Canvas>, String), String> {
    Ok(match format {
        PlotFormat::Svg => (Box::new(Svg::new(width, height)), format!("{name}.svg")),
        PlotFormat::Png => (Box::new(Raster::new(width, height)?), format!("{name}.png")),
    })
}

fn ranking(board: &Leaderboard, influences: &[Influence]) -> Ranking {
    let trials = influences.first().map_or(0, |one| one.trials);
    let mut bars = Vec::with_capacity(influences.len());
    for one in influences {
        bars.push(Bar {
            name: one.axis.clone(),
            value: Some(one.share),
            deviation: None,
        });
    }
    Ranking {
        title: format!("What decides {}", board.metric),
        subtitle: format!(
            "Share of the variance that one axis explains alone, over {trials} trials. Interplay of axes does not \
             show, and few trials flatter axes of many values."
        ),
        metric: "share of variance".to_owned(),
        bars,
        marks: Vec::new(),
        range: Some((0.0, 1.0)),
    }
}

/// The highest level that a value of the objective has.
fn highest_level(board: &Leaderboard) -> Option<u64> {
    let rows = board.rows.iter().filter(|row| row.mean.is_some());
    rows.filter_map(|row| row.level).max()
}

/// The objective of these rows where it can be compared: at the highest level.
fn comparable(board: &Leaderboard, rows: &[&Row]) -> Vec<Option<f64>> {
    let level = highest_level(board);
    let mean = |row: &&Row| row.mean.filter(|_| row.level == level);
    rows.iter().map(mean).collect()
}

fn sense(board: &Leaderboard) -> &'static str {
    match board.direction {
        Some(Direction::Lower) => "lower is better",
        Some(Direction::Higher) => "higher is better",
        _ => "the direction is not known yet",
    }
}

fn draw_head(canvas: &mut dyn Canvas, title: &str, subtitle: &str) {
    let room = canvas.size().0 - 2.0 * MARGIN;
    write(
        canvas,
        (MARGIN, 26.0),
        &font::fit(title, TITLE, room),
        TITLE,
        palette::TEXT,
        Anchor::Start,
    );
    write(
        canvas,
        (MARGIN, 45.0),
        &font::fit(subtitle, TEXT, room),
        TEXT,
        palette::FAINT_TEXT,
        Anchor::Start,
    );
}

/// A line that is not dashed.
fn solid(color: Color, width: f32) -> Stroke {
    Stroke {
        color,
        width,
        dashed: false,
    }
}

/// Writes the text of a mark, small and faint.
fn write_mark(canvas: &mut dyn Canvas, at: (f32, f32), text: &str, anchor: Anchor) {
    write(canvas, at, text, SMALL, palette::FAINT_TEXT, anchor);
}

fn write(
    canvas: &mut dyn Canvas,
    (x, y): (f32, f32),
    text: &str,
    size: f32,
    color: Color,
    anchor: Anchor,
) {
    canvas.text(
        x,
        y,
        text,
        TextStyle {
            size,
            color,
            anchor,
        },
    );
}
