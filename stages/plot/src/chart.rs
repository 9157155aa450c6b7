//! A chart: a title, panels stacked over a shared time axis, and a legend of what their colours mean.

use std::collections::BTreeSet;

use super::canvas::{Canvas, Color, Rect, Stroke, palette};
use super::layout::{
    BODY, FAINT_LABEL, FRAME, GRID, HALF_DIGIT, LABEL, MARGIN, SMALL, TEXT, draw_frame, draw_head,
    span,
};
use super::ticks::{self, Tick};
use super::{decimate, font};

/// A plot of stacked panels.
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
    pub values: Vec<f64>,
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

/// Height of a strip, and the gap between two.
const STRIP: f32 = 9.0;
const STRIP_GAP: f32 = 4.0;
/// Between two panels.
const PANEL_GAP: f32 = 8.0;
/// Width of a line.
const LINE: f32 = 1.2;

impl Chart {
    /// Draws the chart over a whole canvas.
    pub fn draw(&self, canvas: &mut dyn Canvas) {
        let (width, height) = canvas.size();
        let baseline = draw_head(canvas, &self.title, &self.subtitle);
        let top = self.draw_legend(canvas, baseline + 8.0, width - 2.0 * MARGIN);
        let left = MARGIN + self.gutter().max(24.0) + 7.0;
        let frame = Rect {
            left,
            top,
            width: (width - MARGIN - left).max(1.0),
            height: 0.0,
        };
        let foot = 20.0 + TEXT + MARGIN;
        let (mut fixed, mut weights) = (0.0, 0.0);
        for panel in &self.panels {
            fixed += panel.head() + panel.strip_room();
            weights += panel.weight;
        }
        let gaps = PANEL_GAP * self.panels.len().saturating_sub(1) as f32;
        // On a canvas that is too small, panels run over its lower edge rather than vanish.
        let free = (height - top - foot - fixed - gaps).max(20.0 * self.panels.len() as f32);
        let mut next = top;
        for panel in &self.panels {
            let area = Rect {
                top: next + panel.head(),
                height: free * panel.weight / weights.max(1e-6),
                ..frame
            };
            self.draw_panel(canvas, panel, area);
            next = area.bottom() + panel.strip_room() + PANEL_GAP;
        }
        let top = next - PANEL_GAP;
        self.draw_time_axis(canvas, Rect { top, ..frame });
    }

    /// What the colours mean, in as many lines as it takes; gives where the panels begin.
    fn draw_legend(&self, canvas: &mut dyn Canvas, top: f32, room: f32) -> f32 {
        let entries = self.legend();
        if entries.is_empty() {
            return top;
        }
        let (mut x, mut baseline) = (MARGIN, top + SMALL);
        for (name, key) in entries {
            let needed = 24.0 + font::width(name, SMALL);
            if x > MARGIN && x + needed > MARGIN + room {
                x = MARGIN;
                baseline += SMALL + 6.0;
            }
            key.draw(canvas, x, baseline);
            let name = font::fit(name, SMALL, room - 24.0);
            canvas.text(x + 23.0, baseline, &name, LABEL);
            x += needed + 18.0;
        }
        baseline + 10.0
    }

    /// Each name once. A panel's only line is named by the panel itself.
    fn legend(&self) -> Vec<(&str, Key)> {
        let mut entries: Vec<(&str, Key)> = Vec::new();
        for panel in &self.panels {
            for line in &panel.lines {
                entries.push((&line.name, Key::Line(Stroke::solid(line.color, 2.0))));
            }
            if let Some(rule) = &panel.rule {
                entries.push((&rule.name, Key::Line(rule.stroke())));
            }
            for region in &panel.regions {
                entries.push((&region.name, Key::Patch(region.color, region.opacity)));
            }
            for strip in &panel.strips {
                entries.push((&strip.name, Key::Patch(strip.color, 1.0)));
            }
        }
        let mut seen = BTreeSet::new();
        entries.retain(|(name, _)| !name.is_empty() && seen.insert(*name));
        entries
    }

    /// The width of the widest text beside a vertical axis.
    fn gutter(&self) -> f32 {
        let mut widest = 0.0_f32;
        for panel in &self.panels {
            let ticks = panel.axis(200.0).ticks;
            widest = widest.max(font::widest(
                ticks.iter().map(|tick| tick.text.as_str()),
                SMALL,
            ));
        }
        widest
    }

    fn draw_panel(&self, canvas: &mut dyn Canvas, panel: &Panel, area: Rect) {
        if !panel.label.is_empty() {
            let label = font::fit(&panel.label, SMALL, area.width);
            canvas.text(area.left, area.top - 5.0, &label, LABEL);
        }
        let axis = panel.axis(area.height);
        for tick in &axis.ticks {
            let y = axis.height(tick.at, area).round() + 0.5;
            canvas.polyline(&[(area.left, y), (area.right(), y)], GRID);
            let baseline = y + SMALL * HALF_DIGIT;
            canvas.text(area.left - 7.0, baseline, &tick.text, FAINT_LABEL.ending());
        }
        for region in &panel.regions {
            for rows in &region.rows {
                let shaded = self.span(rows, area, area.top, area.height);
                canvas.fill_rect(shaded, region.color, region.opacity);
            }
        }
        for row in &self.time.breaks {
            let x = self.position(*row as f32, area).round() + 0.5;
            let ends = [(x, area.top), (x, area.bottom())];
            canvas.polyline(&ends, Stroke::dashed(palette::FRAME, 1.0));
        }
        for line in &panel.lines {
            self.draw_line(canvas, line, &axis, area);
        }
        if let Some(rule) = &panel.rule {
            let y = axis.height(rule.value, area);
            canvas.polyline(&[(area.left, y), (area.right(), y)], rule.stroke());
        }
        draw_frame(canvas, area);
        self.draw_strips(canvas, panel, area);
    }

    /// A line from break to break, without the rows whose values are unknown.
    fn draw_line(&self, canvas: &mut dyn Canvas, line: &Line, axis: &ValueAxis, area: Rect) {
        let count = line.values.len();
        let mut bounds = self.time.breaks.clone();
        bounds.retain(|row| (1..count).contains(row));
        bounds.insert(0, 0);
        bounds.push(count);
        for bound in bounds.windows(2) {
            for rows in decimate::known(&line.values, bound[0]..bound[1]) {
                let points = decimate::points(
                    &line.values[rows.clone()],
                    |index| self.position((rows.start + index) as f32 + 0.5, area),
                    |value| axis.height(value, area),
                );
                canvas.polyline(&points, Stroke::solid(line.color, LINE));
            }
        }
    }

    fn draw_strips(&self, canvas: &mut dyn Canvas, panel: &Panel, area: Rect) {
        let mut top = area.bottom() + STRIP_GAP;
        for strip in &panel.strips {
            let height = STRIP;
            let band = Rect {
                top,
                height,
                ..area
            };
            canvas.fill_rect(band, palette::GRID, 0.6);
            for rows in &strip.rows {
                canvas.fill_rect(self.span(rows, area, top, STRIP), strip.color, 1.0);
            }
            top += STRIP + STRIP_GAP;
        }
    }

    /// The rectangle over some rows; never too narrow to be seen.
    fn span(&self, rows: &std::ops::Range<usize>, area: Rect, top: f32, height: f32) -> Rect {
        let start = self.position(rows.start as f32, area);
        let end = self.position(rows.end as f32, area);
        let missing = (1.5 - (end - start)).max(0.0);
        let left = (start - missing / 2.0)
            .min(area.right() - 1.5)
            .max(area.left);
        Rect {
            left,
            top,
            width: (end - left).max(1.5).min(area.right() - left),
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
            let mark = x.round() + 0.5;
            canvas.polyline(&[(mark, area.top), (mark, area.top + 4.0)], FRAME);
            // The last text is moved inwards; a text that would touch the one before is left out.
            let center = x.min(area.right() + MARGIN - 2.0 - half);
            if center - half > free_from {
                canvas.text(center, baseline, &tick.text, FAINT_LABEL.centered());
                free_from = center + half + 8.0;
            }
        }
        let middle = area.left + area.width / 2.0;
        let label = font::fit(&self.time.label, TEXT, area.width);
        canvas.text(middle, baseline + TEXT + 6.0, &label, BODY.centered());
    }

    /// Marks of the time axis, at positions counted from the first row.
    fn time_ticks(&self, width: f32) -> Vec<Tick> {
        let count = (width / 130.0).max(2.0) as usize;
        if !self.time.times.is_empty() {
            return ticks::calendar(&self.time.times, count);
        }
        let first = self.time.first as f64;
        let mut ticks = ticks::linear(first, first + (self.time.rows.max(2) - 1) as f64, count);
        // There is no row between two rows.
        ticks.retain(|tick| tick.at.fract() == 0.0);
        for tick in &mut ticks {
            tick.at -= first;
        }
        ticks
    }
}

impl Rule {
    fn stroke(&self) -> Stroke {
        Stroke::dashed(self.color, 1.4)
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

    /// Height above the panel, for its label.
    fn head(&self) -> f32 {
        if self.label.is_empty() {
            4.0
        } else {
            SMALL + 9.0
        }
    }

    /// Height below the panel, for its strips.
    fn strip_room(&self) -> f32 {
        if self.strips.is_empty() {
            return 0.0;
        }
        self.strips.len() as f32 * (STRIP + STRIP_GAP) + STRIP_GAP
    }

    /// The range of all values, the rule included, with a margin, and marks for a panel of this height.
    fn axis(&self, height: f32) -> ValueAxis {
        let log = self.scale == ValueScale::Log;
        let values = self.lines.iter().flat_map(|line| &line.values);
        let (mut low, mut high) = span(
            values
                .copied()
                .chain(self.rule.as_ref().map(|rule| rule.value))
                .filter(|value| value.is_finite() && (!log || *value > 0.0)),
        );
        if low > high {
            (low, high) = (if log { 0.1 } else { 0.0 }, 1.0);
        }
        let count = (height / 26.0).clamp(2.0, 8.0) as usize;
        let ticks;
        if log {
            let margin = libm::pow(high / low, 0.05).max(1.05);
            (low, high) = (low / margin, high * margin);
            ticks = ticks::logarithmic(low, high, count);
        } else {
            let length = if high > low {
                high - low
            } else {
                high.abs().max(1.0)
            };
            (low, high) = (low - length * 0.05, high + length * 0.05);
            ticks = ticks::linear(low, high, count);
        }
        ValueAxis {
            low,
            high,
            log,
            ticks,
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
    Line(Stroke),
    Patch(Color, f32),
}

impl Key {
    fn draw(&self, canvas: &mut dyn Canvas, x: f32, baseline: f32) {
        match *self {
            Self::Line(stroke) => {
                let y = baseline - SMALL * HALF_DIGIT;
                canvas.polyline(&[(x, y), (x + 18.0, y)], stroke);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Raster, Svg};

    fn chart(values: Vec<f64>) -> Chart {
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
            vec![f64::NAN, f64::INFINITY],
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
