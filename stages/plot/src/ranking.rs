//! A ranked table as a picture: a bar for each row, further figures of the row as marks on it.

use super::canvas::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, palette};
use super::{font, ticks};

const TITLE: f32 = 15.0;
const TEXT: f32 = 12.0;
const MARGIN: f32 = 14.0;
/// Height of a row with its gap.
const ROW: f32 = 26.0;
/// Size of a mark.
const MARK: f32 = 8.0;
/// Room for a figure beside its bar.
const FIGURE: f32 = 44.0;

/// Rows from the best to the last.
#[derive(Clone, Debug)]
pub struct Ranking {
    pub title: String,
    /// Smaller, below the title, in up to two lines.
    pub subtitle: String,
    /// What the bars show.
    pub figure: String,
    pub bars: Vec<Bar>,
    /// Further figures, each in a colour of its own.
    pub marks: Vec<Marks>,
    /// What the axis shows; by default zero and all values.
    pub range: Option<(f64, f64)>,
}

/// A row.
#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    /// `None` where the figure is undefined.
    pub value: Option<f64>,
    /// Drawn as a whisker to both sides.
    pub deviation: Option<f64>,
}

/// One more figure, a value per row.
#[derive(Clone, Debug)]
pub struct Marks {
    pub name: String,
    pub color: Color,
    pub values: Vec<Option<f64>>,
}

impl Ranking {
    /// Pixels that a picture should be high for all rows to be read.
    pub fn height(&self) -> u32 {
        (self.bars.len() as f32 * ROW + 130.0).ceil() as u32
    }

    /// Draws the ranking over a whole canvas.
    pub fn draw(&self, canvas: &mut dyn Canvas) {
        let (width, height) = canvas.size();
        let top = self.draw_head(canvas, width - 2.0 * MARGIN);
        let widest = self
            .bars
            .iter()
            .map(|bar| font::width(&bar.name, TEXT))
            .fold(0.0, f32::max);
        let left = MARGIN + widest.min(0.4 * width) + 8.0;
        let foot = MARGIN + TEXT + 8.0;
        let area = Rect {
            left,
            top,
            width: (width - MARGIN - FIGURE - left).max(1.0),
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

    /// Title, subtitle and legend; gives the height that they take.
    fn draw_head(&self, canvas: &mut dyn Canvas, room: f32) -> f32 {
        let mut baseline = MARGIN + TITLE * 0.85;
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
        baseline += TEXT + 8.0;
        let mut x = MARGIN;
        let marks = self.marks.iter().map(|marks| (&marks.name, marks.color));
        for (name, color) in [(&self.figure, palette::BLUE)].into_iter().chain(marks) {
            canvas.fill_rect(
                Rect {
                    left: x,
                    top: baseline - MARK,
                    width: MARK,
                    height: MARK,
                },
                color,
                1.0,
            );
            write(
                canvas,
                x + MARK + 5.0,
                baseline,
                name,
                TEXT,
                palette::TEXT,
                Anchor::Start,
            );
            x += MARK + 23.0 + font::width(name, TEXT);
        }
        baseline + 10.0
    }

    /// The range of all values, zero included.
    fn axis(&self) -> (f64, f64) {
        if let Some(range) = self.range {
            return range;
        }
        let whiskers = self.bars.iter().flat_map(|bar| {
            let deviation = bar.deviation.unwrap_or(0.0);
            bar.value
                .map(|value| [value - deviation, value + deviation])
                .into_iter()
                .flatten()
        });
        let marks = self
            .marks
            .iter()
            .flat_map(|marks| marks.values.iter().copied().flatten());
        let (low, high) = whiskers
            .chain(marks)
            .filter(|value| value.is_finite())
            .fold((0.0_f64, 0.0_f64), |(low, high), value| {
                (low.min(value), high.max(value))
            });
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
        let name = font::fit(&bar.name, TEXT, row.left - MARGIN - 8.0);
        write(
            canvas,
            row.left - 8.0,
            middle + TEXT * 0.36,
            &name,
            TEXT,
            palette::TEXT,
            Anchor::End,
        );
        let zero = place(0.0, axis, row);
        let mut right = zero;
        if let Some(value) = bar.value.filter(|value| value.is_finite()) {
            let end = place(value, axis, row);
            let (left, width) = (zero.min(end), (end - zero).abs().max(1.0));
            let bar = Rect {
                left,
                top: row.top + 0.2 * row.height,
                width,
                height: 0.6 * row.height,
            };
            canvas.fill_rect(bar, palette::BLUE, 0.75);
            right = right.max(end);
        }
        if let (Some(value), Some(deviation)) = (bar.value, bar.deviation) {
            let ends = [
                place(value - deviation, axis, row),
                place(value + deviation, axis, row),
            ];
            let stroke = Stroke {
                color: palette::TEXT,
                width: 1.2,
                dashed: false,
            };
            canvas.polyline(&[(ends[0], middle), (ends[1], middle)], stroke);
            right = right.max(ends[1]);
        }
        for marks in &self.marks {
            let Some(value) = marks
                .values
                .get(index)
                .copied()
                .flatten()
                .filter(|value| value.is_finite())
            else {
                continue;
            };
            let x = place(value, axis, row);
            let mark = Rect {
                left: x - MARK / 2.0,
                top: middle - MARK / 2.0,
                width: MARK,
                height: MARK,
            };
            canvas.fill_rect(mark, marks.color, 1.0);
            right = right.max(x + MARK / 2.0);
        }
        let text = bar.value.map_or_else(
            || "–".to_owned(),
            |value| format!("{value:.3}").replace('-', "−"),
        );
        write(
            canvas,
            right + 6.0,
            middle + TEXT * 0.36,
            &text,
            TEXT,
            palette::FAINT_TEXT,
            Anchor::Start,
        );
    }
}

fn place(value: f64, (low, high): (f64, f64), area: Rect) -> f32 {
    area.left + ((value - low) / (high - low)).clamp(0.0, 1.0) as f32 * area.width
}

fn draw_axis(canvas: &mut dyn Canvas, axis: (f64, f64), area: Rect) {
    for tick in ticks::linear(axis.0, axis.1, (area.width / 90.0).max(2.0) as usize) {
        let x = place(tick.at, axis, area).round() + 0.5;
        let grid = Stroke {
            color: palette::GRID,
            width: 1.0,
            dashed: false,
        };
        canvas.polyline(&[(x, area.top), (x, area.bottom())], grid);
        write(
            canvas,
            x,
            area.bottom() + TEXT + 4.0,
            &tick.text,
            TEXT,
            palette::FAINT_TEXT,
            Anchor::Middle,
        );
    }
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

    fn ranking(values: &[Option<f64>]) -> Ranking {
        let bar = |(index, value): (usize, &Option<f64>)| Bar {
            name: format!("detector {index}"),
            value: *value,
            deviation: (index == 0).then_some(0.1),
        };
        Ranking {
            title: "machine-2-1".into(),
            subtitle: String::new(),
            figure: "vus_pr".into(),
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
    fn rows_are_named_and_figures_written() {
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
