//! Pictures of a sweep: every trial as a line across its axes (parallel coordinates), and the objective in the order in
//! which trials came to their end. Figures of different levels of a stopping rule are never compared: those of the
//! highest level decide, the others are drawn palely.

use contract::artifact::Direction;
use plot::{
    Anchor, Canvas, Color, Rect, Stroke, TextStyle, font, linear, logarithmic, palette, rounded,
};
use serde_json::Value;

use super::leaderboard::{Leaderboard, Row, shown};
use super::space::Domain;

const TITLE: f32 = 15.0;
const TEXT: f32 = 12.0;
const SMALL: f32 = 11.0;
const MARGIN: f32 = 24.0;
/// Between two lines of text.
const LINE: f32 = 14.0;
/// Room that an axis and its marks need.
const STEP: f32 = 130.0;
/// Room for the marks of the last axis.
const LAST: f32 = 96.0;
/// Numbers of so many values are drawn by their order, more by their size.
const BY_ORDER: usize = 8;

/// Values of one axis from bottom to top.
struct Ruler {
    name: String,
    /// Texts with their height between 0 and 1.
    marks: Vec<(f32, String)>,
    /// Height of each row's value; `None` where the row has none.
    heights: Vec<Option<f32>>,
}

/// Pixels that the parallel coordinates of this board should be wide, at least so many.
pub fn parallel_width(board: &Leaderboard, least: u32) -> u32 {
    let needed = 2.0 * MARGIN + LAST + STEP * board.axes.len() as f32;
    (needed.ceil() as u32).max(least)
}

/// Draws every trial that has a figure as a line across the axes; the last axis is the figure, at which only lines of the
/// highest level arrive. The better the trial, the stronger its colour; the best is drawn last.
pub fn parallel_coordinates(board: &Leaderboard, canvas: &mut dyn Canvas) {
    let (width, height) = canvas.size();
    let rows: Vec<&Row> = board.rows.iter().filter(|row| row.mean.is_some()).collect();
    let figures = comparable(board, &rows);
    let early = figures.iter().filter(|figure| figure.is_none()).count();
    let mut subtitle = format!(
        "{} trials; {}; the best is drawn thick",
        rows.len(),
        sense(board)
    );
    if early > 0 {
        subtitle.push_str(&format!(
            "; {early} ended at a lower level: they are pale and have no place on the last axis"
        ));
    }
    head(
        canvas,
        &format!("What the trials chose, and their {}", board.metric),
        &subtitle,
    );
    let domain = |axis: usize| board.domains.get(axis).and_then(Option::as_ref);
    let axes = board.axes.iter().enumerate();
    let mut rulers: Vec<Ruler> = axes
        .map(|(index, axis)| axis_ruler(axis, domain(index), &rows))
        .collect();
    rulers.push(number_ruler(&board.metric, &figures, span(&figures), false));
    let top = 60.0 + 2.0 * LINE + 12.0;
    let area = Rect {
        left: MARGIN + 8.0,
        top,
        width: width - 2.0 * MARGIN - 8.0 - LAST,
        height: height - top - MARGIN,
    };
    let step = area.width / (rulers.len() - 1).max(1) as f32;
    let place = |ruler: usize, share: f32| {
        (
            area.left + ruler as f32 * step,
            area.bottom() - share * area.height,
        )
    };
    for (index, figure) in figures.iter().enumerate().rev() {
        let points: Vec<(f32, f32)> = rulers
            .iter()
            .enumerate()
            .filter_map(|(ruler, values)| Some(place(ruler, values.heights[index]?)))
            .collect();
        canvas.polyline(
            &points,
            stroke(index, figure.is_some(), figures.len() - early),
        );
    }
    for (index, ruler) in rulers.iter().enumerate() {
        let room = if index + 1 == rulers.len() {
            LAST + MARGIN - 4.0
        } else {
            step - 14.0
        };
        draw_ruler(canvas, ruler, |share| place(index, share), room);
    }
}

/// The line of a trial, by its place among those that can be compared.
fn stroke(place: usize, is_comparable: bool, comparable: usize) -> Stroke {
    if !is_comparable {
        return Stroke {
            color: palette::GRID,
            width: 1.0,
            dashed: false,
        };
    }
    if place == 0 {
        return Stroke {
            color: palette::VERMILION,
            width: 2.6,
            dashed: false,
        };
    }
    let rank = place as f32 / (comparable - 1).max(1) as f32;
    let pale = blend(palette::BLUE, palette::PAPER, 0.75);
    Stroke {
        color: blend(palette::BLUE, pale, rank.sqrt()),
        width: 1.2,
        dashed: false,
    }
}

/// An axis with its name above and its marks beside it, on paper of their own: lines end before them.
fn draw_ruler(
    canvas: &mut dyn Canvas,
    ruler: &Ruler,
    place: impl Fn(f32) -> (f32, f32),
    room: f32,
) {
    let ((x, bottom), (_, top)) = (place(0.0), place(1.0));
    canvas.polyline(
        &[(x, top), (x, bottom)],
        Stroke {
            color: palette::FRAME,
            width: 1.2,
            dashed: false,
        },
    );
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
    // The best stands at the height of the first row; its mark is never left out.
    let best = ruler.heights.first().copied().flatten();
    for (index, (share, text)) in ruler.marks.iter().enumerate() {
        let (_, y) = place(*share);
        canvas.polyline(
            &[(x - 3.0, y), (x + 3.0, y)],
            Stroke {
                color: palette::FRAME,
                width: 1.0,
                dashed: false,
            },
        );
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
        let is_best = best.is_some_and(|best| (best - share).abs() < 1e-4);
        let color = if is_best {
            palette::VERMILION
        } else {
            palette::FAINT_TEXT
        };
        write(
            canvas,
            (x + 7.0, y + SMALL * 0.36),
            &text,
            SMALL,
            color,
            Anchor::Start,
        );
    }
}

/// Whether a mark has room for its text: of many, as many as can be read, counted from the one that the best trial has.
fn is_written(marks: &[(f32, String)], index: usize, best: Option<f32>, length: f32) -> bool {
    // Between two texts, lines can be seen.
    let every = (marks.len() as f32 * 1.6 * LINE / length.max(1.0))
        .ceil()
        .max(1.0) as usize;
    let is_best = |(share, _): &(f32, String)| best.is_some_and(|best| (share - best).abs() < 1e-4);
    let from = marks.iter().position(is_best).unwrap_or_default();
    index.abs_diff(from).is_multiple_of(every)
}

/// Draws the objective of each trial in the order in which they ended, and the best so far as a stair.
pub fn objective_in_order(board: &Leaderboard, canvas: &mut dyn Canvas) {
    let (width, height) = canvas.size();
    let mut rows: Vec<&Row> = board.rows.iter().filter(|row| row.mean.is_some()).collect();
    let level = highest(board);
    rows.sort_by_key(|row| (row.finished, row.trial));
    let means: Vec<Option<f64>> = rows.iter().map(|row| row.mean).collect();
    let figures = comparable(board, &rows);
    head(
        canvas,
        &format!("{} of each trial", board.metric),
        &format!(
            "{} trials in the order in which they ended; {}",
            rows.len(),
            sense(board)
        ),
    );
    // No dot lies on the frame.
    let bounds =
        span(&means).map(|(low, high)| (low - 0.04 * (high - low), high + 0.04 * (high - low)));
    let ruler = number_ruler(&board.metric, &means, bounds, false);
    let area = Rect {
        left: 76.0,
        top: 86.0,
        width: width - 76.0 - MARGIN,
        height: height - 86.0 - 56.0,
    };
    let x = |index: usize| area.left + (index as f32 + 0.5) / rows.len().max(1) as f32 * area.width;
    let y = |share: f32| area.bottom() - share * area.height;
    for (share, text) in &ruler.marks {
        let line = [(area.left, y(*share)), (area.right(), y(*share))];
        canvas.polyline(
            &line,
            Stroke {
                color: palette::GRID,
                width: 1.0,
                dashed: false,
            },
        );
        write(
            canvas,
            (area.left - 8.0, y(*share) + 4.0),
            text,
            SMALL,
            palette::FAINT_TEXT,
            Anchor::End,
        );
    }
    for tick in linear(1.0, rows.len() as f64, 8)
        .iter()
        .filter(|tick| tick.at.fract() == 0.0 && tick.at >= 1.0)
    {
        let at = (x(tick.at as usize - 1), area.bottom() + 18.0);
        write(
            canvas,
            at,
            &tick.text,
            SMALL,
            palette::FAINT_TEXT,
            Anchor::Middle,
        );
    }
    let is_lower = board.direction == Some(Direction::Lower);
    let (mut stair, mut best): (Vec<(f32, f32)>, Option<f32>) = (Vec::new(), None);
    for (index, share) in ruler.heights.iter().enumerate() {
        let Some(share) = *share else { continue };
        let counts = figures[index].is_some();
        dot(
            canvas,
            (x(index), y(share)),
            if counts {
                palette::BLUE
            } else {
                palette::FRAME
            },
            counts,
        );
        if counts && best.is_none_or(|best| if is_lower { share < best } else { share > best }) {
            stair.extend(best.map(|best| (x(index), y(best))));
            stair.push((x(index), y(share)));
            best = Some(share);
        }
    }
    stair.extend(best.map(|best| (area.right(), y(best))));
    canvas.polyline(
        &stair,
        Stroke {
            color: palette::VERMILION,
            width: 1.8,
            dashed: false,
        },
    );
    let frame = [
        (area.left, area.top),
        (area.left, area.bottom()),
        (area.right(), area.bottom()),
    ];
    canvas.polyline(
        &frame,
        Stroke {
            color: palette::FRAME,
            width: 1.0,
            dashed: false,
        },
    );
    legend(canvas, level.filter(|_| figures.contains(&None)));
    let middle = (area.left + area.width / 2.0, height - 14.0);
    write(
        canvas,
        middle,
        "trials, in the order in which they ended",
        TEXT,
        palette::FAINT_TEXT,
        Anchor::Middle,
    );
}

/// What dots and line mean. `level` is the highest one, where there are others.
fn legend(canvas: &mut dyn Canvas, level: Option<u64>) {
    let baseline = 70.0;
    let mut x = MARGIN;
    let mut entry = |canvas: &mut dyn Canvas, color: Color, is_line: bool, text: &str| {
        if is_line {
            let line = [(x - 3.0, baseline - 4.0), (x + 11.0, baseline - 4.0)];
            canvas.polyline(
                &line,
                Stroke {
                    color,
                    width: 1.8,
                    dashed: false,
                },
            );
        } else {
            dot(canvas, (x + 4.0, baseline - 4.0), color, true);
        }
        write(
            canvas,
            (x + 16.0, baseline),
            text,
            TEXT,
            palette::TEXT,
            Anchor::Start,
        );
        x += 40.0 + font::width(text, TEXT);
    };
    match level {
        Some(level) => {
            entry(
                canvas,
                palette::BLUE,
                false,
                &format!("a trial at the highest level, {level}"),
            );
            entry(
                canvas,
                palette::FRAME,
                false,
                "at a lower level: not to be compared",
            );
            entry(
                canvas,
                palette::VERMILION,
                true,
                "the best so far at the highest level",
            );
        }
        None => {
            entry(canvas, palette::BLUE, false, "a trial");
            entry(canvas, palette::VERMILION, true, "the best so far");
        }
    }
}

fn dot(canvas: &mut dyn Canvas, (x, y): (f32, f32), color: Color, is_strong: bool) {
    let half = if is_strong { 3.0 } else { 2.0 };
    let square = Rect {
        left: x - half,
        top: y - half,
        width: 2.0 * half,
        height: 2.0 * half,
    };
    canvas.fill_rect(square, color, if is_strong { 0.85 } else { 0.6 });
}

/// The highest level that a figure has.
fn highest(board: &Leaderboard) -> Option<u64> {
    board
        .rows
        .iter()
        .filter(|row| row.mean.is_some())
        .filter_map(|row| row.level)
        .max()
}

/// The figures of these rows that can be compared: those of the highest level.
fn comparable(board: &Leaderboard, rows: &[&Row]) -> Vec<Option<f64>> {
    let level = highest(board);
    rows.iter()
        .map(|row| row.mean.filter(|_| row.level == level))
        .collect()
}

fn sense(board: &Leaderboard) -> &'static str {
    match board.direction {
        Some(Direction::Lower) => "lower is better",
        Some(Direction::Higher) => "higher is better",
        _ => "the direction is not known yet",
    }
}

fn head(canvas: &mut dyn Canvas, title: &str, subtitle: &str) {
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

/// The scale that the sweep file declares: ranges by their bounds, few values by their order, many numbers by their size.
/// Where it declares none, the values that occur stand for it.
fn axis_ruler(axis: &str, domain: Option<&Domain>, rows: &[&Row]) -> Ruler {
    let values: Vec<Option<&Value>> = rows.iter().map(|row| row.point.get(axis)).collect();
    let numbers: Vec<Option<f64>> = values
        .iter()
        .map(|value| value.and_then(Value::as_f64))
        .collect();
    let all = match domain {
        Some(Domain::Range {
            low,
            high,
            log,
            whole,
            ..
        }) => {
            let ruler = number_ruler(axis, &numbers, Some((*low, *high)), *log);
            return if *whole { ruler.whole() } else { ruler };
        }
        Some(Domain::Values(declared)) => distinct(declared.iter()),
        _ => sorted(distinct(values.iter().copied().flatten())),
    };
    let sizes: Vec<Option<f64>> = all.iter().map(|value| value.as_f64()).collect();
    if all.len() > BY_ORDER && sizes.iter().all(Option::is_some) {
        let bounds = span(&sizes);
        let is_wide = bounds.is_some_and(|(low, high)| low > 0.0 && high / low > 100.0);
        return number_ruler(axis, &numbers, bounds, is_wide);
    }
    let all = if sizes.iter().all(Option::is_some) {
        sorted(all)
    } else {
        all
    };
    let texts: Vec<String> = all.into_iter().map(shown).collect();
    let share = |index: usize| {
        if texts.len() < 2 {
            0.5
        } else {
            index as f32 / (texts.len() - 1) as f32
        }
    };
    let height = |value: Option<&Value>| {
        let text = shown(value?);
        texts.iter().position(|other| *other == text).map(share)
    };
    Ruler {
        name: axis.to_owned(),
        heights: values.iter().copied().map(height).collect(),
        marks: texts
            .iter()
            .enumerate()
            .map(|(index, text)| (share(index), text.clone()))
            .collect(),
    }
}

impl Ruler {
    /// Without marks at what is no whole number.
    fn whole(mut self) -> Self {
        let whole = |(share, text): (f32, String)| match text.parse::<f64>() {
            Ok(value) if value.fract() == 0.0 && value.abs() < 1e6 => {
                Some((share, format!("{value:.0}")))
            }
            Ok(value) if value.fract() != 0.0 => None,
            _ => Some((share, text)),
        };
        self.marks = self.marks.into_iter().filter_map(whole).collect();
        self
    }
}

/// Each value once, in the order of its first appearance.
fn distinct<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<&'a Value> {
    let mut seen = std::collections::BTreeSet::new();
    values.filter(|value| seen.insert(shown(value))).collect()
}

/// Numbers by their size, before everything else by its text.
fn sorted(mut values: Vec<&Value>) -> Vec<&Value> {
    let size = |value: &Value| value.as_f64().unwrap_or(f64::INFINITY);
    values.sort_by(|left, right| {
        size(left)
            .total_cmp(&size(right))
            .then_with(|| shown(left).cmp(&shown(right)))
    });
    values
}

/// The least and the greatest of these figures, if there is any.
fn span(values: &[Option<f64>]) -> Option<(f64, f64)> {
    let known = || {
        values
            .iter()
            .copied()
            .flatten()
            .filter(|value| value.is_finite())
    };
    let low = known().reduce(f64::min)?;
    Some((low, known().fold(low, f64::max)))
}

/// A scale of numbers between two bounds, with round numbers for marks.
fn number_ruler(
    name: &str,
    values: &[Option<f64>],
    bounds: Option<(f64, f64)>,
    log: bool,
) -> Ruler {
    let (low, high) = bounds.unwrap_or((0.0, 0.0));
    let scale = |value: f64| if log { value.ln() } else { value };
    let width = scale(high) - scale(low);
    let share = |value: f64| {
        if width > 0.0 {
            ((scale(value) - scale(low)) / width).clamp(0.0, 1.0) as f32
        } else {
            0.5
        }
    };
    let mut marks: Vec<(f32, String)> = match bounds {
        None => Vec::new(),
        Some(_) if width <= 0.0 => vec![(0.5, rounded(low))],
        Some(_) => {
            let ticks = if log {
                logarithmic(low, high, 8)
            } else {
                linear(low, high, 6)
            };
            ticks
                .into_iter()
                .map(|tick| (share(tick.at), tick.text))
                .collect()
        }
    };
    if width > 0.0 && marks.len() < 2 {
        marks = vec![(0.0, rounded(low)), (1.0, rounded(high))];
    }
    let height = |value: &Option<f64>| value.filter(|value| value.is_finite()).map(share);
    Ruler {
        name: name.to_owned(),
        marks,
        heights: values.iter().map(height).collect(),
    }
}

/// A name in up to two lines, broken behind its points and dashes.
fn broken(name: &str, room: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in name.split_inclusive(['.', '_', '-', ' ']) {
        match lines.last_mut() {
            Some(line) if lines_are_full(line, part, room) => lines.push(part.to_owned()),
            Some(line) => line.push_str(part),
            None => lines.push(part.to_owned()),
        }
    }
    if lines.len() > 2 {
        let rest = lines.split_off(1).concat();
        lines.push(rest);
    }
    lines
        .iter()
        .map(|line| font::fit(line, SMALL, room))
        .collect()
}

fn lines_are_full(line: &str, part: &str, room: f32) -> bool {
    font::width(&format!("{line}{part}"), SMALL) > room
}

/// A colour between two.
fn blend(from: Color, to: Color, share: f32) -> Color {
    let mix = |a: u8, b: u8| {
        (f32::from(a) + (f32::from(b) - f32::from(a)) * share.clamp(0.0, 1.0)).round() as u8
    };
    Color(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::leaderboard::Standing;
    use super::*;

    /// Keeps what is drawn.
    #[derive(Default)]
    struct Recording {
        texts: Vec<(Rect, String)>,
        lines: Vec<(Vec<(f32, f32)>, Stroke)>,
        width: f32,
    }

    impl Canvas for Recording {
        fn size(&self) -> (f32, f32) {
            (self.width, 480.0)
        }

        fn fill_rect(&mut self, _: Rect, _: Color, _: f32) {}

        fn polyline(&mut self, points: &[(f32, f32)], stroke: Stroke) {
            self.lines.push((points.to_vec(), stroke));
        }

        fn text(&mut self, x: f32, y: f32, text: &str, style: TextStyle) {
            let width = font::width(text, style.size);
            let left = match style.anchor {
                Anchor::Start => x,
                Anchor::Middle => x - width / 2.0,
                Anchor::End => x - width,
            };
            let place = Rect {
                left,
                top: y - 0.75 * style.size,
                width,
                height: 0.8 * style.size,
            };
            self.texts.push((place, text.to_owned()));
        }

        fn finish(self: Box<Self>) -> Result<Vec<u8>, String> {
            Ok(Vec::new())
        }
    }

    fn recording(width: u32) -> Recording {
        Recording {
            width: width as f32,
            ..Recording::default()
        }
    }

    fn assert_nothing_overlaps(drawn: &Recording) {
        for (index, (one, text)) in drawn.texts.iter().enumerate() {
            assert!(
                one.left >= 0.0 && one.right() <= drawn.width,
                "`{text}` is cut off"
            );
            for (other, beside) in &drawn.texts[index + 1..] {
                let apart = one.right() <= other.left
                    || other.right() <= one.left
                    || one.bottom() <= other.top
                    || other.bottom() <= one.top;
                assert!(apart, "`{text}` and `{beside}` overlap");
            }
        }
    }

    /// A board whose rows are in order; a row is a point, a level and a figure.
    fn board(axes: &[(&str, Domain)], rows: Vec<(Vec<Value>, Option<u64>, f64)>) -> Leaderboard {
        let row = |(trial, (values, level, mean)): (usize, (Vec<Value>, Option<u64>, f64))| Row {
            trial,
            point: axes
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .zip(values)
                .collect(),
            standing: Standing::Done,
            level,
            values: vec![mean],
            seeds: vec![None],
            mean: Some(mean),
            deviation: None,
            seconds: 1.0,
            finished: Some(trial as u64),
        };
        Leaderboard {
            axes: axes.iter().map(|(name, _)| (*name).to_owned()).collect(),
            domains: axes
                .iter()
                .map(|(_, domain)| Some(domain.clone()))
                .collect(),
            metric: "validation.average_precision_over_events".to_owned(),
            direction: Some(Direction::Higher),
            rows: rows.into_iter().enumerate().map(row).collect(),
        }
    }

    #[test]
    fn long_names_and_many_categories_can_be_read() {
        let names: Vec<String> = (0..10)
            .map(|index| format!("model_{index}.encoder.feed_forward_multiplier"))
            .collect();
        let categories: Vec<Value> = (0..50)
            .map(|index| json!(format!("machine-{index}-of-the-server-room")))
            .collect();
        let axes: Vec<(&str, Domain)> = names
            .iter()
            .map(|name| (name.as_str(), Domain::Values(categories.clone())))
            .collect();
        let rows = (0..40)
            .map(|trial| {
                (
                    vec![categories[(trial * 7) % 50].clone(); 10],
                    None,
                    trial as f64 / 40.0,
                )
            })
            .collect();
        let board = board(&axes, rows);
        let mut drawn = recording(parallel_width(&board, 960));
        parallel_coordinates(&board, &mut drawn);
        assert_nothing_overlaps(&drawn);
        let mut drawn = recording(960);
        objective_in_order(&board, &mut drawn);
        assert_nothing_overlaps(&drawn);
    }

    #[test]
    fn the_declared_range_is_the_scale() {
        let range = Domain::Range {
            low: 1e-5,
            high: 1e-1,
            log: true,
            whole: false,
            points: None,
        };
        let board = board(
            &[("lr", range)],
            vec![
                (vec![json!(1e-3)], None, 0.9),
                (vec![json!(1e-5)], None, 0.1),
            ],
        );
        let rows: Vec<&Row> = board.rows.iter().collect();
        let ruler = axis_ruler("lr", board.domains[0].as_ref(), &rows);
        assert!(
            (ruler.heights[0].unwrap() - 0.5).abs() < 1e-6 && ruler.heights[1] == Some(0.0),
            "{:?}",
            ruler.heights
        );
        let marks: Vec<&str> = ruler.marks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(marks, ["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1"]);
    }

    #[test]
    fn whole_numbers_have_whole_marks() {
        let range = Domain::Range {
            low: 1.0,
            high: 4.0,
            log: false,
            whole: true,
            points: None,
        };
        let board = board(
            &[("epochs", range.clone())],
            vec![(vec![json!(2)], None, 0.5)],
        );
        let rows: Vec<&Row> = board.rows.iter().collect();
        let marks = axis_ruler("epochs", Some(&range), &rows).marks;
        let texts: Vec<&str> = marks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["1", "2", "3", "4"]);
    }

    #[test]
    fn declared_values_keep_their_order() {
        let values = Domain::Values(vec![json!("small"), json!("base"), json!("large")]);
        let board = board(
            &[("size", values)],
            vec![
                (vec![json!("base")], None, 0.9),
                (vec![json!("small")], None, 0.1),
            ],
        );
        let rows: Vec<&Row> = board.rows.iter().collect();
        assert_eq!(
            axis_ruler("size", board.domains[0].as_ref(), &rows).heights,
            [Some(0.5), Some(0.0)]
        );
    }

    /// A trial that was stopped at a low level may have a better figure there; it is not the best.
    #[test]
    fn only_the_highest_level_is_compared() {
        let values = Domain::Values(vec![json!(1), json!(2), json!(3)]);
        let rows = vec![
            (vec![json!(1)], Some(9), 0.6),
            (vec![json!(2)], Some(9), 0.7),
            (vec![json!(3)], Some(1), 0.95),
        ];
        let board = board(&[("a", values)], rows);
        let mut drawn = recording(960);
        objective_in_order(&board, &mut drawn);
        let (stair, _) = drawn
            .lines
            .iter()
            .find(|(_, stroke)| stroke.color == palette::VERMILION)
            .unwrap();
        let highest = stair.iter().map(|(_, y)| *y).fold(f32::INFINITY, f32::min);
        let rows: Vec<&Row> = board.rows.iter().collect();
        assert_eq!(comparable(&board, &rows), [Some(0.6), Some(0.7), None]);
        let area = (86.0, 480.0 - 56.0);
        let share = (area.1 - highest) / (area.1 - area.0);
        assert!(
            (share - (0.7 - 0.586) / (0.964 - 0.586)).abs() < 1e-3,
            "{share}"
        );
        assert_nothing_overlaps(&drawn);
    }
}
