//! Pictures of a sweep: every trial as a line across its axes (parallel coordinates), and the objective in the order in
//! which trials came to their end.

use stages::artifact::Direction;
use stages::plot::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, figure, palette};

use super::board::{Board, Row, shown};

const TITLE: f32 = 15.0;
const TEXT: f32 = 12.0;
const SMALL: f32 = 11.0;
const MARGIN: f32 = 24.0;

/// Values of one axis from bottom to top.
struct Ruler {
    name: String,
    /// Texts with their height between 0 and 1.
    marks: Vec<(f32, String)>,
    /// Height of each row's value; `None` where the row has none.
    heights: Vec<Option<f32>>,
}

/// Draws every trial that has a figure as a line across the axes; the last axis is the figure. The better the trial, the
/// stronger its colour; the best is drawn last.
pub fn parallel_coordinates(board: &Board, canvas: &mut dyn Canvas) {
    let (width, height) = canvas.size();
    let rows: Vec<&Row> = board.rows.iter().filter(|row| row.mean.is_some()).collect();
    let subtitle = format!("{} trials; {}", rows.len(), sense(board));
    head(canvas, "Parallel coordinates", &subtitle);
    let mut rulers: Vec<Ruler> = board.axes.iter().map(|axis| axis_ruler(axis, &rows)).collect();
    rulers.push(number_ruler(&board.metric, &rows.iter().map(|row| row.mean).collect::<Vec<_>>(), false));
    let area = Rect {
        left: MARGIN + 40.0,
        top: 84.0,
        width: width - 2.0 * MARGIN - 100.0,
        height: height - 84.0 - MARGIN - 12.0,
    };
    let step = area.width / (rulers.len() - 1).max(1) as f32;
    let place = |ruler: usize, share: f32| (area.left + ruler as f32 * step, area.bottom() - share * area.height);
    for (index, row) in rows.iter().enumerate().rev() {
        let points: Vec<(f32, f32)> = rulers
            .iter()
            .enumerate()
            .filter_map(|(ruler, values)| Some(place(ruler, values.heights[index]?)))
            .collect();
        let rank = index as f32 / (rows.len() - 1).max(1) as f32;
        let best = index == 0 && row.mean.is_some();
        let color = if best { palette::VERMILION } else { blend(palette::BLUE, palette::GRID, rank.sqrt()) };
        canvas.polyline(&points, Stroke { color, width: if best { 2.4 } else { 1.2 }, dashed: false });
    }
    for (index, ruler) in rulers.iter().enumerate() {
        let (x, _) = place(index, 0.0);
        canvas.polyline(
            &[(x, area.top), (x, area.bottom())],
            Stroke { color: palette::FRAME, width: 1.0, dashed: false },
        );
        write(canvas, (x, area.top - 10.0), &ruler.name, SMALL, palette::TEXT, Anchor::Middle);
        for (share, text) in &ruler.marks {
            let (x, y) = place(index, *share);
            canvas.polyline(&[(x - 3.0, y), (x + 3.0, y)], Stroke { color: palette::FRAME, width: 1.0, dashed: false });
            write(canvas, (x + 6.0, y + 4.0), text, SMALL, palette::FAINT_TEXT, Anchor::Start);
        }
    }
}

/// Draws the objective of each trial in the order in which they ended, and the best so far as a stair.
pub fn objective_over_time(board: &Board, canvas: &mut dyn Canvas) {
    let (width, height) = canvas.size();
    let mut rows: Vec<&Row> = board.rows.iter().filter(|row| row.mean.is_some()).collect();
    rows.sort_by_key(|row| (row.finished, row.trial));
    head(
        canvas,
        &format!("{} over time", board.metric),
        &format!("{} trials in the order of their end; {}", rows.len(), sense(board)),
    );
    let ruler = number_ruler(&board.metric, &rows.iter().map(|row| row.mean).collect::<Vec<_>>(), false);
    let area = Rect { left: 70.0, top: 64.0, width: width - 70.0 - MARGIN, height: height - 64.0 - 46.0 };
    let x = |index: usize| area.left + (index as f32 + 0.5) / rows.len().max(1) as f32 * area.width;
    let y = |share: f32| area.bottom() - share * area.height;
    for (share, text) in &ruler.marks {
        let line = [(area.left, y(*share)), (area.right(), y(*share))];
        canvas.polyline(&line, Stroke { color: palette::GRID, width: 1.0, dashed: false });
        write(canvas, (area.left - 6.0, y(*share) + 4.0), text, SMALL, palette::FAINT_TEXT, Anchor::End);
    }
    let mut stair: Vec<(f32, f32)> = Vec::new();
    let mut best: Option<f32> = None;
    for (index, share) in ruler.heights.iter().enumerate() {
        let Some(share) = *share else { continue };
        canvas.fill_rect(
            Rect { left: x(index) - 2.5, top: y(share) - 2.5, width: 5.0, height: 5.0 },
            palette::BLUE,
            0.75,
        );
        let better = match (best, board.direction) {
            (None, _) => true,
            (Some(best), Some(Direction::Lower)) => share < best,
            (Some(best), _) => share > best,
        };
        if better {
            stair.extend(best.map(|best| (x(index), y(best))));
            stair.push((x(index), y(share)));
            best = Some(share);
        }
    }
    if let Some(best) = best {
        stair.push((area.right(), y(best)));
    }
    canvas.polyline(&stair, Stroke { color: palette::VERMILION, width: 1.8, dashed: false });
    let frame = [(area.left, area.top), (area.left, area.bottom()), (area.right(), area.bottom())];
    canvas.polyline(&frame, Stroke { color: palette::FRAME, width: 1.0, dashed: false });
    write(
        canvas,
        (area.left + area.width / 2.0, height - 14.0),
        "trials, in the order of their end",
        TEXT,
        palette::FAINT_TEXT,
        Anchor::Middle,
    );
}

fn sense(board: &Board) -> &'static str {
    match board.direction {
        Some(Direction::Lower) => "lower is better",
        Some(Direction::Higher) => "higher is better",
        _ => "the direction is not known yet",
    }
}

fn head(canvas: &mut dyn Canvas, title: &str, subtitle: &str) {
    write(canvas, (MARGIN, 26.0), title, TITLE, palette::TEXT, Anchor::Start);
    write(canvas, (MARGIN, 44.0), subtitle, TEXT, palette::FAINT_TEXT, Anchor::Start);
}

/// Numbers by their size, evenly in the logarithm if they span more than two decades; everything else by its order.
fn axis_ruler(axis: &str, rows: &[&Row]) -> Ruler {
    let values: Vec<Option<&serde_json::Value>> = rows.iter().map(|row| row.point.get(axis)).collect();
    let mut distinct: Vec<String> = values.iter().flatten().map(|value| shown(value)).collect();
    distinct.sort();
    distinct.dedup();
    let numbers: Vec<Option<f64>> = values.iter().map(|value| value.and_then(serde_json::Value::as_f64)).collect();
    if distinct.len() > 6 && values.iter().flatten().all(|value| value.is_number()) {
        let known = numbers.iter().copied().flatten();
        let (low, high) =
            known.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), one| (low.min(one), high.max(one)));
        return number_ruler(axis, &numbers, low > 0.0 && high / low > 100.0);
    }
    if values.iter().flatten().all(|value| value.is_number()) {
        distinct.sort_by(|left, right| {
            let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
            number(left).total_cmp(&number(right))
        });
    }
    let share = |index: usize| if distinct.len() < 2 { 0.5 } else { index as f32 / (distinct.len() - 1) as f32 };
    let height = |value: Option<&serde_json::Value>| {
        let text = shown(value?);
        distinct.iter().position(|other| *other == text).map(share)
    };
    Ruler {
        name: axis.to_owned(),
        heights: values.iter().copied().map(height).collect(),
        marks: distinct.iter().enumerate().map(|(index, text)| (share(index), shortened(text))).collect(),
    }
}

fn number_ruler(name: &str, values: &[Option<f64>], log: bool) -> Ruler {
    let scale = |value: f64| if log { value.ln() } else { value };
    let known: Vec<f64> = values.iter().copied().flatten().filter(|value| value.is_finite()).collect();
    let low = known.iter().copied().fold(f64::INFINITY, f64::min);
    let high = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = scale(high) - scale(low);
    let share = |value: f64| if width > 0.0 { ((scale(value) - scale(low)) / width) as f32 } else { 0.5 };
    let marks = match known.is_empty() {
        true => Vec::new(),
        false if width <= 0.0 => vec![(0.5, figure(low))],
        false => (0..5)
            .map(|step| {
                let position = scale(low) + width * f64::from(step) / 4.0;
                (step as f32 / 4.0, figure(if log { position.exp() } else { position }))
            })
            .collect(),
    };
    let height = |value: &Option<f64>| value.filter(|value| value.is_finite()).map(share);
    Ruler { name: name.to_owned(), marks, heights: values.iter().map(height).collect() }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 18;
    if text.chars().count() <= LONGEST {
        text.to_owned()
    } else {
        text.chars().take(LONGEST - 1).chain(['…']).collect()
    }
}

/// A colour between two.
fn blend(from: Color, to: Color, share: f32) -> Color {
    let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * share.clamp(0.0, 1.0)).round() as u8;
    Color(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

fn write(canvas: &mut dyn Canvas, (x, y): (f32, f32), text: &str, size: f32, color: Color, anchor: Anchor) {
    canvas.text(x, y, text, TextStyle { size, color, anchor });
}
