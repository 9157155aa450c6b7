//! A ranked table as a plot: a bar for each row, further metrics of the row as marks on it.

use super::canvas::{Canvas, Color, Rect, Stroke, palette};
use super::layout::{BODY, FAINT_BODY, GRID, HALF_DIGIT, MARGIN, TEXT, draw_head, span};
use super::{font, ticks};

/// Height of a row with its gap.
const ROW: f32 = 26.0;
/// Size of a mark.
const MARK: f32 = 8.0;
/// Room for a number beside its bar.
const NUMBER: f32 = 44.0;

/// Rows from the best to the last.
#[derive(Clone, Debug)]
pub struct Ranking {
    pub title: String,
    /// Smaller, below the title, in up to two lines.
    pub subtitle: String,
    /// What the bars show.
    pub metric: String,
    pub bars: Vec<Bar>,
    /// Further metrics, each in its own colour.
    pub marks: Vec<Marks>,
    /// What the axis shows; by default zero and all values.
    pub range: Option<(f64, f64)>,
}

/// A row.
#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    /// `None` where the metric is undefined.
    pub value: Option<f64>,
    /// Drawn as a whisker to both sides.
    pub deviation: Option<f64>,
}

/// One more metric, a value per row.
#[derive(Clone, Debug)]
pub struct Marks {
    pub name: String,
    pub color: Color,
    pub values: Vec<Option<f64>>,
}

impl Ranking {
    /// Pixels that an image should be high for all rows to be read.
    pub fn height(&self) -> u32 {
        (self.bars.len() as f32 * ROW + 130.0).ceil() as u32
    }

    /// Draws the ranking over a whole canvas.
    pub fn draw(&self, canvas: &mut dyn Canvas) {
        let (width, height) = canvas.size();
        let baseline = draw_head(canvas, &self.title, &self.subtitle) + (TEXT + 8.0);
        self.draw_legend(canvas, baseline);
        let top = baseline + 10.0;
        let widest = font::widest(self.bars.iter().map(|bar| bar.name.as_str()), TEXT);
        let left = MARGIN + widest.min(0.4 * width) + 8.0;
        let foot = MARGIN + TEXT + 8.0;
        let area = Rect {
            left,
            top,
            width: (width - MARGIN - NUMBER - left).max(1.0),
            height: height - foot - top,
        };
        let axis = self.axis();
        draw_axis(canvas, axis, area);
        let step = (area.height / self.bars.len().max(1) as f32).min(ROW);
        for (index, bar) in self.bars.iter().enumerate() {
            let row = Rect {
                top: top + index as f32 * step,
                height: step,
                ..area
            };
            self.draw_bar(canvas, bar, index, axis, row);
        }
    }

    /// The metrics and their colours, in one line.
    fn draw_legend(&self, canvas: &mut dyn Canvas, baseline: f32) {
        let mut entries = vec![(&self.metric, palette::BLUE)];
        entries.extend(self.marks.iter().map(|marks| (&marks.name, marks.color)));
        let mut x = MARGIN;
        for (name, color) in entries {
            canvas.fill_rect(mark(x, baseline - MARK), color, 1.0);
            canvas.text(x + MARK + 5.0, baseline, name, BODY);
            x += MARK + 23.0 + font::width(name, TEXT);
        }
    }

    /// The range of all values, zero included.
    fn axis(&self) -> (f64, f64) {
        if let Some(range) = self.range {
            return range;
        }
        let mut values = vec![0.0];
        for bar in &self.bars {
            if let Some(value) = bar.value {
                let deviation = bar.deviation.unwrap_or(0.0);
                values.extend([value - deviation, value + deviation]);
            }
        }
        for marks in &self.marks {
            values.extend(marks.values.iter().flatten());
        }
        values.retain(|value| value.is_finite());
        let (low, high) = span(values.into_iter());
        if low < high {
            (low, high + 0.02 * (high - low))
        } else {
            (0.0, 1.0)
        }
    }

    fn draw_bar(
        &self,
        canvas: &mut dyn Canvas,
        bar: &Bar,
        index: usize,
        axis: (f64, f64),
        row: Rect,
    ) {
        let middle = row.top + row.height / 2.0;
        let baseline = middle + TEXT * HALF_DIGIT;
        let name = font::fit(&bar.name, TEXT, row.left - MARGIN - 8.0);
        canvas.text(row.left - 8.0, baseline, &name, BODY.ending());
        let zero = place(0.0, axis, row);
        // The number stands behind everything that is drawn in the row.
        let mut right = zero;
        if let Some(value) = bar.value.filter(|value| value.is_finite()) {
            let end = place(value, axis, row);
            let bar = Rect {
                left: zero.min(end),
                top: row.top + 0.2 * row.height,
                width: (end - zero).abs().max(1.0),
                height: 0.6 * row.height,
            };
            canvas.fill_rect(bar, palette::BLUE, 0.75);
            right = right.max(end);
        }
        if let (Some(value), Some(deviation)) = (bar.value, bar.deviation) {
            let low = place(value - deviation, axis, row);
            let high = place(value + deviation, axis, row);
            let whisker = Stroke::solid(palette::TEXT, 1.2);
            canvas.polyline(&[(low, middle), (high, middle)], whisker);
            right = right.max(high);
        }
        for marks in &self.marks {
            let value = marks.values.get(index).copied().flatten();
            let Some(value) = value.filter(|value| value.is_finite()) else {
                continue;
            };
            let x = place(value, axis, row);
            let mark = mark(x - MARK / 2.0, middle - MARK / 2.0);
            canvas.fill_rect(mark, marks.color, 1.0);
            right = right.max(x + MARK / 2.0);
        }
        let number = match bar.value {
            Some(value) => format!("{value:.3}").replace('-', "−"),
            None => "–".to_owned(),
        };
        canvas.text(right + 6.0, baseline, &number, FAINT_BODY);
    }
}

fn mark(left: f32, top: f32) -> Rect {
    Rect {
        left,
        top,
        width: MARK,
        height: MARK,
    }
}

fn place(value: f64, (low, high): (f64, f64), area: Rect) -> f32 {
    area.left + ((value - low) / (high - low)).clamp(0.0, 1.0) as f32 * area.width
}

fn draw_axis(canvas: &mut dyn Canvas, axis: (f64, f64), area: Rect) {
    let baseline = area.bottom() + TEXT + 4.0;
    for tick in ticks::linear(axis.0, axis.1, (area.width / 90.0).max(2.0) as usize) {
        let x = place(tick.at, axis, area).round() + 0.5;
        canvas.polyline(&[(x, area.top), (x, area.bottom())], GRID);
        canvas.text(x, baseline, &tick.text, FAINT_BODY.centered());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Raster, Svg};

    fn ranking(values: &[Option<f64>]) -> Ranking {
        let bar = |(index, value): (usize, &Option<f64>)| Bar {
            name: format!("detector {index}"),
            value: *value,
            deviation: (index == 0).then_some(0.1),
        };
        Ranking {
            title: "machine-2-1".into(),
            subtitle: String::new(),
            metric: "vus_pr".into(),
            bars: values.iter().enumerate().map(bar).collect(),
            marks: vec![Marks {
                name: "f1".into(),
                color: palette::ORANGE,
                values: values.to_vec(),
            }],
            range: None,
        }
    }

    #[test]
    fn rows_are_named_and_values_written() {
        let ranking = ranking(&[Some(0.36), Some(0.25), None]);
        let mut svg = Box::new(Svg::new(600, ranking.height()));
        ranking.draw(svg.as_mut());
        let text = String::from_utf8(svg.finish().unwrap()).unwrap();
        for part in [
            "machine-2-1",
            "vus_pr",
            ">f1<",
            "detector 2",
            "0.360",
            "0.250",
            "–",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn survives_degenerate_input() {
        for values in [
            vec![],
            vec![None],
            vec![Some(f64::NAN)],
            vec![Some(-1.0), Some(-2.0)],
            vec![Some(0.0)],
        ] {
            ranking(&values).draw(&mut Raster::new(200, 150).unwrap());
        }
    }
}
