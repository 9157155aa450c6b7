//! Parallel coordinates: every trial as a line across its axes.

use plot::{Anchor, Canvas, Color, Rect, Stroke, font, palette};

use super::ruler::{Ruler, axis_ruler, number_ruler, span};
use super::{LINE, MARGIN, SMALL, comparable, draw_head, sense, solid, write};
use crate::sweep::leaderboard::{Leaderboard, Row};

/// Room that an axis and its marks need.
const STEP: f32 = 130.0;
/// Room for the marks of the last axis.
const LAST: f32 = 96.0;

/// Pixels that the parallel coordinates of this board should be wide, at least `least`.
pub(super) fn parallel_width(board: &Leaderboard, least: u32) -> u32 {
    let needed = 2.0 * MARGIN + LAST + STEP * board.axes.len() as f32;
    (needed.ceil() as u32).max(least)
}

/// Draws every trial that has a value of the objective as a line across the axes. The last axis is the objective; only lines of
/// the highest level reach it. The better the trial, the stronger its colour; the best is drawn last.
pub(super) fn parallel_coordinates(board: &Leaderboard, canvas: &mut dyn Canvas) {
    let (width, height) = canvas.size();
    let rows: Vec<&Row> = board.rows.iter().filter(|row| row.mean.is_some()).collect();
    let values = comparable(board, &rows);
    let early = values.iter().filter(|value| value.is_none()).count();
    let (count, sense) = (rows.len(), sense(board));
    let mut subtitle = format!("{count} trials; {sense}; the best is drawn thick");
    if early > 0 {
        subtitle.push_str(&format!(
            "; {early} ended at a lower level: they are pale and have no place on the last axis"
        ));
    }
    let title = format!("What the trials chose, and their {}", board.metric);
    draw_head(canvas, &title, &subtitle);
    let mut rulers = Vec::with_capacity(board.axes.len() + 1);
    for (axis, domain) in board.axes.iter().zip(&board.domains) {
        rulers.push(axis_ruler(axis, domain.as_ref(), &rows));
    }
    rulers.push(number_ruler(&board.metric, &values, span(&values), false));
    let top = 60.0 + 2.0 * LINE + 12.0;
    let area = Rect {
        left: MARGIN + 8.0,
        top,
        width: width - 2.0 * MARGIN - 8.0 - LAST,
        height: height - top - MARGIN,
    };
    let step = area.width / (rulers.len() - 1).max(1) as f32;
    for (trial, value) in values.iter().enumerate().rev() {
        let mut points = Vec::with_capacity(rulers.len());
        for (index, ruler) in rulers.iter().enumerate() {
            if let Some(height) = ruler.heights[trial] {
                let x = area.left + index as f32 * step;
                points.push((x, area.bottom() - height * area.height));
            }
        }
        canvas.polyline(&points, stroke(trial, value.is_some(), count - early));
    }
    for (index, ruler) in rulers.iter().enumerate() {
        let room = if index + 1 == rulers.len() {
            LAST + MARGIN - 4.0
        } else {
            step - 14.0
        };
        draw_ruler(canvas, ruler, area.left + index as f32 * step, area, room);
    }
}

/// The line of a trial, by its place among those that can be compared.
fn stroke(place: usize, is_comparable: bool, comparable: usize) -> Stroke {
    if !is_comparable {
        return solid(palette::GRID, 1.0);
    }
    if place == 0 {
        return solid(palette::VERMILION, 2.6);
    }
    let rank = place as f32 / (comparable - 1).max(1) as f32;
    let pale = blend(palette::BLUE, palette::PAPER, 0.75);
    solid(blend(palette::BLUE, pale, rank.sqrt()), 1.2)
}

/// An axis with its name above and its marks beside it. Each mark lies on paper, so that no line runs through it.
fn draw_ruler(canvas: &mut dyn Canvas, ruler: &Ruler, x: f32, area: Rect, room: f32) {
    let (top, bottom) = (area.top, area.bottom());
    canvas.polyline(&[(x, top), (x, bottom)], solid(palette::FRAME, 1.2));
    let lines = broken(&ruler.name, room);
    for (index, line) in lines.iter().enumerate() {
        let y = top - 14.0 - (lines.len() - 1 - index) as f32 * LINE;
        write(
            canvas,
            (x - 4.0, y),
            line,
            SMALL,
            palette::TEXT,
            Anchor::Start,
        );
    }
    // The best trial is the first row; its mark is never left out.
    let best = ruler.heights.first().copied().flatten();
    for (index, (share, text)) in ruler.marks.iter().enumerate() {
        let y = bottom - share * area.height;
        canvas.polyline(&[(x - 3.0, y), (x + 3.0, y)], solid(palette::FRAME, 1.0));
        if !is_written(&ruler.marks, index, best, bottom - top) {
            continue;
        }
        let text = font::fit(text, SMALL, room - 8.0);
        let paper = Rect {
            left: x + 5.0,
            top: y - SMALL * 0.62,
            width: font::width(&text, SMALL) + 4.0,
            height: SMALL * 1.24,
        };
        canvas.fill_rect(paper, palette::PAPER, 0.88);
        let color = if is_at(*share, best) {
            palette::VERMILION
        } else {
            palette::FAINT_TEXT
        };
        let at = (x + 7.0, y + SMALL * 0.36);
        write(canvas, at, &text, SMALL, color, Anchor::Start);
    }
}

/// Whether a mark has room for its text: of many, as many as can be read, counted from the one that the best trial has.
fn is_written(marks: &[(f32, String)], index: usize, best: Option<f32>, length: f32) -> bool {
    // Between two texts, lines can be seen.
    let every = (marks.len() as f32 * 1.6 * LINE / length.max(1.0)).ceil();
    let from = marks.iter().position(|(share, _)| is_at(*share, best));
    let distance = index.abs_diff(from.unwrap_or_default());
    distance.is_multiple_of(every.max(1.0) as usize)
}

/// Whether a mark is that of the best trial.
fn is_at(share: f32, best: Option<f32>) -> bool {
    best.is_some_and(|best| (best - share).abs() < 1e-4)
}

/// A name in up to two lines, broken behind its points and dashes.
fn broken(name: &str, room: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in name.split_inclusive(['.', '_', '-', ' ']) {
        match lines.last_mut() {
            Some(line) if font::width(&format!("{line}{part}"), SMALL) <= room => {
                line.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    if lines.len() > 2 {
        let rest = lines.split_off(1).concat();
        lines.push(rest);
    }
    let lines = lines.iter();
    lines.map(|line| font::fit(line, SMALL, room)).collect()
}

/// A colour between two.
fn blend(from: Color, to: Color, share: f32) -> Color {
    let share = share.clamp(0.0, 1.0);
    let [red, green, blue] = [(from.0, to.0), (from.1, to.1), (from.2, to.2)].map(|(from, to)| {
        (f32::from(from) + (f32::from(to) - f32::from(from)) * share).round() as u8
    });
    Color(red, green, blue)
}
