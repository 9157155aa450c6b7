//! A chart: a title, panels stacked over a shared time axis, and a legend of what their colours mean.

use super::canvas::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, palette};
use super::ticks::{self, Tick};
use super::{decimate, font};

/// A picture of stacked panels.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    /// Smaller, below the title, in up to two lines.
    pub subtitle: String,
    pub time: TimeAxis,
    pub panels: Vec<Panel>,
}

/// The horizontal axis: rows of a series.
#[derive(Clone, Debug)]
pub struct TimeAxis {
    /// The number of rows.
    pub rows: usize,
    /// What the first row is called.
    pub first: usize,
    pub label: String,
    /// Milliseconds since 1970 per row; if present, marks stand at calendar times.
    pub times: Vec<i64>,
    /// Rows before which a new stretch begins.
    pub breaks: Vec<usize>,
}

/// How values map to height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueScale {
    Linear,
    /// For positive values only; others are drawn at the bottom.
    Log,
}

/// One set of lines with its own vertical axis.
#[derive(Clone, Debug)]
pub struct Panel {
    pub label: String,
    /// Its share of the height, relative to the other panels.
    pub weight: f32,
    pub scale: ValueScale,
    pub lines: Vec<Line>,
    pub regions: Vec<Region>,
    pub rule: Option<Rule>,
    /// Narrow bands below the panel.
    pub strips: Vec<Strip>,
}

/// A value per row; where it is NaN there is no line.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub values: Vec<f32>,
    pub color: Color,
}

/// Rows shaded over the whole height; half-open.
#[derive(Clone, Debug)]
pub struct Region {
    pub name: String,
    pub rows: Vec<std::ops::Range<usize>>,
    pub color: Color,
    pub opacity: f32,
}

/// A horizontal line at a value.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub value: f64,
    pub color: Color,
}

/// Rows marked in a narrow band; half-open.
#[derive(Clone, Debug)]
pub struct Strip {
    pub name: String,
    pub rows: Vec<std::ops::Range<usize>>,
    pub color: Color,
}

const TITLE: f32 = 15.0;
const TEXT: f32 = 12.0;
const SMALL: f32 = 11.0;
const MARGIN: f32 = 14.0;
const STRIP: f32 = 9.0;
const STRIP_GAP: f32 = 4.0;
const LINE: f32 = 1.2;

impl Chart {
    /// Draws the chart over a whole canvas.
    pub fn draw(&self, canvas: &mut dyn Canvas) {
        let (width, height) = canvas.size();
        let top = self.draw_head(canvas, width);
        let left = MARGIN + self.gutter().max(24.0) + 7.0;
        let frame = Rect {
            left,
            top,
            width: (width - MARGIN - left).max(1.0),
            height: 0.0,
        };
        let foot = 20.0 + TEXT + MARGIN;
        let fixed: f32 = self
            .panels
            .iter()
            .map(|panel| panel.head() + panel.strip_room())
            .sum();
        let gaps = 8.0 * self.panels.len().saturating_sub(1) as f32;
        let free = (height - top - foot - fixed - gaps).max(20.0 * self.panels.len() as f32);
        let weights: f32 = self.panels.iter().map(|panel| panel.weight).sum();
        let mut next = top;
        for panel in &self.panels {
            let area = Rect {
                top: next + panel.head(),
                height: free * panel.weight / weights.max(1e-6),
                ..frame
            };
            self.draw_panel(canvas, panel, area);
            next = area.bottom() + panel.strip_room() + 8.0;
        }
        self.draw_time_axis(
            canvas,
            Rect {
                top: next - 8.0,
                ..frame
            },
        );
    }

    /// Title, subtitle and legend; gives the height that they take.
    fn draw_head(&self, canvas: &mut dyn Canvas, width: f32) -> f32 {
        let room = width - 2.0 * MARGIN;
        let mut baseline = MARGIN;
        if !self.title.is_empty() {
            baseline += TITLE * 0.85;
            write(
                canvas,
                MARGIN,
                baseline,
                &font::fit(&self.title, TITLE, room),
                TITLE,
                palette::TEXT,
                Anchor::Start,
            );
            baseline += 5.0;
        }
        for line in font::wrap(&self.subtitle, TEXT, room, 2) {
            baseline += TEXT + 2.0;
            write(
                canvas,
                MARGIN,
                baseline,
                &line,
                TEXT,
                palette::FAINT_TEXT,
                Anchor::Start,
            );
        }
        self.draw_legend(canvas, baseline + 8.0, room)
    }

    fn draw_legend(&self, canvas: &mut dyn Canvas, top: f32, room: f32) -> f32 {
        let entries = self.legend();
        if entries.is_empty() {
            return top;
        }
        let (mut x, mut baseline) = (MARGIN, top + SMALL);
        for (name, key) in entries {
            let needed = 24.0 + font::width(&name, SMALL);
            if x > MARGIN && x + needed > MARGIN + room {
                x = MARGIN;
                baseline += SMALL + 6.0;
            }
            key.draw(canvas, x, baseline);
            write(
                canvas,
                x + 23.0,
                baseline,
                &font::fit(&name, SMALL, room - 24.0),
                SMALL,
                palette::TEXT,
                Anchor::Start,
            );
            x += needed + 18.0;
        }
        baseline + 10.0
    }

    /// What the colours mean, each name once. A panel's only line is named by the panel itself.
    fn legend(&self) -> Vec<(String, Key)> {
        let mut entries: Vec<(String, Key)> = Vec::new();
        let mut add = |name: &str, key: Key| {
            if !name.is_empty() && !entries.iter().any(|(known, _)| known == name) {
                entries.push((name.to_owned(), key));
            }
        };
        for panel in &self.panels {
            panel
                .lines
                .iter()
                .for_each(|line| add(&line.name, Key::Line(line.color, false)));
            panel
                .rule
                .iter()
                .for_each(|rule| add(&rule.name, Key::Line(rule.color, true)));
            panel
                .regions
                .iter()
                .for_each(|region| add(&region.name, Key::Patch(region.color, region.opacity)));
            panel
                .strips
                .iter()
                .for_each(|strip| add(&strip.name, Key::Patch(strip.color, 1.0)));
        }
        entries
    }

    /// The width of the widest text beside a vertical axis.
    fn gutter(&self) -> f32 {
        let texts = self.panels.iter().flat_map(|panel| panel.axis(200.0).ticks);
        texts
            .map(|tick| font::width(&tick.text, SMALL))
            .fold(0.0, f32::max)
    }

    fn draw_panel(&self, canvas: &mut dyn Canvas, panel: &Panel, area: Rect) {
        if !panel.label.is_empty() {
            let label = font::fit(&panel.label, SMALL, area.width);
            write(
                canvas,
                area.left,
                area.top - 5.0,
                &label,
                SMALL,
                palette::TEXT,
                Anchor::Start,
            );
        }
        let axis = panel.axis(area.height);
        for tick in &axis.ticks {
            let y = axis.height(tick.at, area).round() + 0.5;
            let grid = Stroke {
                color: palette::GRID,
                width: 1.0,
                dashed: false,
            };
            canvas.polyline(&[(area.left, y), (area.right(), y)], grid);
            write(
                canvas,
                area.left - 7.0,
                y + SMALL * 0.36,
                &tick.text,
                SMALL,
                palette::FAINT_TEXT,
                Anchor::End,
            );
        }
        for region in &panel.regions {
            for rows in &region.rows {
                canvas.fill_rect(
                    self.span(rows, area, area.top, area.height),
                    region.color,
                    region.opacity,
                );
            }
        }
        for row in &self.time.breaks {
            let x = self.position(*row as f32, area).round() + 0.5;
            let stroke = Stroke {
                color: palette::FRAME,
                width: 1.0,
                dashed: true,
            };
            canvas.polyline(&[(x, area.top), (x, area.bottom())], stroke);
        }
        for line in &panel.lines {
            self.draw_line(canvas, line, &axis, area);
        }
        if let Some(rule) = &panel.rule {
            let y = axis.height(rule.value, area);
            canvas.polyline(
                &[(area.left, y), (area.right(), y)],
                Stroke {
                    color: rule.color,
                    width: 1.4,
                    dashed: true,
                },
            );
        }
        draw_frame(canvas, area);
        self.draw_strips(canvas, panel, area);
    }

    fn draw_line(&self, canvas: &mut dyn Canvas, line: &Line, axis: &ValueAxis, area: Rect) {
        let mut bounds = vec![0];
        bounds.extend(
            self.time
                .breaks
                .iter()
                .copied()
                .filter(|row| *row > 0 && *row < line.values.len()),
        );
        bounds.push(line.values.len());
        for rows in bounds
            .windows(2)
            .flat_map(|pair| decimate::known(&line.values, pair[0]..pair[1]))
        {
            let position = |index: usize| self.position((rows.start + index) as f32 + 0.5, area);
            let height = |value: f32| axis.height(f64::from(value), area);
            let points = decimate::points(&line.values[rows.clone()], position, height);
            canvas.polyline(
                &points,
                Stroke {
                    color: line.color,
                    width: LINE,
                    dashed: false,
                },
            );
        }
    }

    fn draw_strips(&self, canvas: &mut dyn Canvas, panel: &Panel, area: Rect) {
        let mut top = area.bottom() + STRIP_GAP;
        for strip in &panel.strips {
            canvas.fill_rect(
                Rect {
                    top,
                    height: STRIP,
                    ..area
                },
                palette::GRID,
                0.6,
            );
            for rows in &strip.rows {
                canvas.fill_rect(self.span(rows, area, top, STRIP), strip.color, 1.0);
            }
            top += STRIP + STRIP_GAP;
        }
    }

    /// The rectangle over some rows; never too narrow to be seen.
    fn span(&self, rows: &std::ops::Range<usize>, area: Rect, top: f32, height: f32) -> Rect {
        let (left, right) = (
            self.position(rows.start as f32, area),
            self.position(rows.end as f32, area),
        );
        let missing = (1.5 - (right - left)).max(0.0);
        let left = (left - missing / 2.0)
            .min(area.right() - 1.5)
            .max(area.left);
        Rect {
            left,
            top,
            width: (right - left).max(1.5).min(area.right() - left),
            height,
        }
    }

    fn position(&self, row: f32, area: Rect) -> f32 {
        area.left + row / self.time.rows.max(1) as f32 * area.width
    }

    fn draw_time_axis(&self, canvas: &mut dyn Canvas, area: Rect) {
        let baseline = area.top + 7.0 + SMALL;
        let mut free_from = f32::NEG_INFINITY;
        for tick in self.time_ticks(area.width) {
            let x = self.position(tick.at as f32 + 0.5, area);
            let half = font::width(&tick.text, SMALL) / 2.0;
            let stroke = Stroke {
                color: palette::FRAME,
                width: 1.0,
                dashed: false,
            };
            let mark = x.round() + 0.5;
            canvas.polyline(&[(mark, area.top), (mark, area.top + 4.0)], stroke);
            let center = x.min(area.right() + MARGIN - 2.0 - half);
            if center - half > free_from {
                write(
                    canvas,
                    center,
                    baseline,
                    &tick.text,
                    SMALL,
                    palette::FAINT_TEXT,
                    Anchor::Middle,
                );
                free_from = center + half + 8.0;
            }
        }
        let middle = area.left + area.width / 2.0;
        let label = font::fit(&self.time.label, TEXT, area.width);
        write(
            canvas,
            middle,
            baseline + TEXT + 6.0,
            &label,
            TEXT,
            palette::TEXT,
            Anchor::Middle,
        );
    }

    fn time_ticks(&self, width: f32) -> Vec<Tick> {
        let count = (width / 130.0).max(2.0) as usize;
        if !self.time.times.is_empty() {
            return ticks::calendar(&self.time.times, count);
        }
        let first = self.time.first as f64;
        let ticks = ticks::linear(first, first + (self.time.rows.max(2) - 1) as f64, count);
        let whole = ticks.into_iter().filter(|tick| tick.at.fract() == 0.0);
        whole
            .map(|tick| Tick {
                at: tick.at - first,
                ..tick
            })
            .collect()
    }
}

impl Panel {
    /// A panel of lines alone.
    pub fn of_lines(label: impl Into<String>, lines: Vec<Line>) -> Self {
        Self {
            label: label.into(),
            weight: 1.0,
            scale: ValueScale::Linear,
            lines,
            regions: Vec::new(),
            rule: None,
            strips: Vec::new(),
        }
    }

    fn head(&self) -> f32 {
        if self.label.is_empty() {
            4.0
        } else {
            SMALL + 9.0
        }
    }

    fn strip_room(&self) -> f32 {
        self.strips.len() as f32 * (STRIP + STRIP_GAP)
            + if self.strips.is_empty() {
                0.0
            } else {
                STRIP_GAP
            }
    }

    /// The range of all values, the rule included, with a margin, and marks for a panel of this height.
    fn axis(&self, height: f32) -> ValueAxis {
        let log = self.scale == ValueScale::Log;
        let usable = |value: &f64| value.is_finite() && (!log || *value > 0.0);
        let values = self
            .lines
            .iter()
            .flat_map(|line| &line.values)
            .map(|value| f64::from(*value));
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values
            .chain(self.rule.as_ref().map(|rule| rule.value))
            .filter(usable)
        {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (if log { 0.1 } else { 0.0 }, 1.0);
        }
        let count = (height / 26.0).clamp(2.0, 8.0) as usize;
        if log {
            let margin = libm::pow(high / low, 0.05).max(1.05);
            let (low, high) = (low / margin, high * margin);
            return ValueAxis {
                low,
                high,
                log,
                ticks: ticks::logarithmic(low, high, count),
            };
        }
        let margin = if high > low {
            (high - low) * 0.05
        } else {
            high.abs().max(1.0) * 0.05
        };
        let (low, high) = (low - margin, high + margin);
        ValueAxis {
            low,
            high,
            log,
            ticks: ticks::linear(low, high, count),
        }
    }
}

/// The vertical axis of a panel.
struct ValueAxis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<Tick>,
}

impl ValueAxis {
    /// The pixel row of a value; values off the axis lie on its ends.
    fn height(&self, value: f64, area: Rect) -> f32 {
        let share = if self.log {
            libm::log(value.max(self.low) / self.low) / libm::log(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        area.bottom() - share as f32 * area.height
    }
}

/// The sample before a name in the legend.
enum Key {
    Line(Color, bool),
    Patch(Color, f32),
}

impl Key {
    fn draw(&self, canvas: &mut dyn Canvas, x: f32, baseline: f32) {
        match *self {
            Self::Line(color, dashed) => {
                let y = baseline - SMALL * 0.36;
                canvas.polyline(
                    &[(x, y), (x + 18.0, y)],
                    Stroke {
                        color,
                        width: if dashed { 1.4 } else { 2.0 },
                        dashed,
                    },
                );
            }
            Self::Patch(color, opacity) => {
                let patch = Rect {
                    left: x + 3.0,
                    top: baseline - SMALL * 0.8,
                    width: 13.0,
                    height: SMALL * 0.9,
                };
                canvas.fill_rect(patch, color, opacity);
            }
        }
    }
}

fn draw_frame(canvas: &mut dyn Canvas, area: Rect) {
    let (left, bottom) = (area.left.round() - 0.5, area.bottom().round() + 0.5);
    let stroke = Stroke {
        color: palette::FRAME,
        width: 1.0,
        dashed: false,
    };
    canvas.polyline(
        &[(left, area.top), (left, bottom), (area.right(), bottom)],
        stroke,
    );
}

fn write(
    canvas: &mut dyn Canvas,
    x: f32,
    y: f32,
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
    use super::*;
    use crate::{Raster, Svg};

    fn chart(values: Vec<f32>) -> Chart {
        let line = Line {
            name: "score".into(),
            values: values.clone(),
            color: palette::BLUE,
        };
        let mut panel = Panel::of_lines("anomaly score", vec![line]);
        panel.rule = Some(Rule {
            name: "threshold".into(),
            value: 3.0,
            color: palette::VERMILION,
        });
        panel.strips = vec![Strip {
            name: "alarm".into(),
            rows: vec![0..1, 2..3],
            color: palette::VERMILION,
        }];
        let time = TimeAxis {
            rows: values.len(),
            first: 0,
            label: "row".into(),
            times: vec![],
            breaks: vec![2],
        };
        Chart {
            title: "title".into(),
            subtitle: "subtitle".into(),
            time,
            panels: vec![panel],
        }
    }

    #[test]
    fn both_back_ends_draw_it() {
        let chart = chart(vec![0.0, 1.0, 5.0, 2.0]);
        let mut svg = Box::new(Svg::new(300, 200));
        chart.draw(svg.as_mut());
        let text = String::from_utf8(svg.finish().unwrap()).unwrap();
        for part in [
            "title",
            "subtitle",
            "threshold",
            "alarm",
            "anomaly score",
            ">row<",
        ] {
            assert!(text.contains(part), "{part}");
        }
        let mut raster = Box::new(Raster::new(300, 200).unwrap());
        chart.draw(raster.as_mut());
        assert!(raster.finish().unwrap().len() > 500);
    }

    #[test]
    fn survives_degenerate_input() {
        for values in [
            vec![],
            vec![1.0],
            vec![f32::NAN, f32::INFINITY],
            vec![2.0; 5],
        ] {
            for (width, height) in [(40, 30), (400, 100)] {
                let mut chart = chart(values.clone());
                chart.draw(&mut Raster::new(width, height).unwrap());
                chart.panels[0].scale = ValueScale::Log;
                chart.draw(&mut Svg::new(width, height));
            }
        }
    }

    #[test]
    fn the_axis_holds_the_rule() {
        let axis = chart(vec![0.0, 1.0]).panels[0].axis(200.0);
        assert!(axis.high > 3.0 && axis.low < 0.0);
    }
}
