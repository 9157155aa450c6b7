//! A picture of counts by row and column, such as a confusion matrix: the darker a cell, the greater its share of the row.

use super::canvas::{Anchor, Canvas, Color, Rect, Stroke, TextStyle, palette};
use super::font;

/// Counts by row and column.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub title: String,
    /// Smaller, below the title, in up to two lines.
    pub subtitle: String,
    /// What the rows and the columns are.
    pub axes: [String; 2],
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// `[rows, columns]`, row-major.
    pub counts: Vec<usize>,
}

const TITLE: f32 = 15.0;
const TEXT: f32 = 12.0;
const SMALL: f32 = 11.0;
const MARGIN: f32 = 14.0;
/// Lines of a name below its column.
const NAME_LINES: usize = 2;
/// Columns up to which a cell has room for its share in words, and an empty one says so.
const FEW: usize = 12;
/// The widest room for names beside the rows.
const WIDEST_NAME: f32 = 180.0;

impl Matrix {
    /// Width and height that suit the number of cells, in pixels.
    pub fn size(&self) -> (u32, u32) {
        let (wide, high) = if self.few() { (76, 46) } else { (40, 26) };
        let side = |cells: usize, cell: usize, rest: usize| (cells.min(100) * cell + rest) as u32;
        (
            side(self.columns.len(), wide, 240),
            side(self.rows.len(), high, 150),
        )
    }

    fn few(&self) -> bool {
        self.columns.len() <= FEW
    }

    /// Draws the matrix over a whole canvas.
    pub fn draw(&self, canvas: &mut dyn Canvas) {
        let (width, height) = canvas.size();
        let top = self.draw_head(canvas, width);
        let names = self
            .rows
            .iter()
            .map(|name| font::width(&readable(name), SMALL))
            .fold(0.0, f32::max);
        let left = MARGIN + names.min(WIDEST_NAME) + 8.0;
        let foot = NAME_LINES as f32 * (SMALL + 2.0) + TEXT + 2.0 * MARGIN;
        let area = Rect {
            left,
            top,
            width: (width - MARGIN - left).max(1.0),
            height: (height - top - foot).max(1.0),
        };
        for row in 0..self.rows.len() {
            self.draw_row(canvas, row, area);
        }
        self.draw_names(canvas, area);
    }

    /// Title, subtitle and what the rows are; gives the height that they take.
    fn draw_head(&self, canvas: &mut dyn Canvas, width: f32) -> f32 {
        let room = width - 2.0 * MARGIN;
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
        write(
            canvas,
            MARGIN,
            baseline,
            &font::fit(&self.axes[0], TEXT, room),
            TEXT,
            palette::TEXT,
            Anchor::Start,
        );
        baseline + 7.0
    }

    fn draw_row(&self, canvas: &mut dyn Canvas, row: usize, area: Rect) {
        let counts = &self.counts[row * self.columns.len()..(row + 1) * self.columns.len()];
        let total: usize = counts.iter().sum();
        for (column, count) in counts.iter().enumerate() {
            let cell = self.cell(row, column, area);
            let share = if total == 0 {
                0.0
            } else {
                *count as f32 / total as f32
            };
            canvas.fill_rect(cell, palette::GRID, 0.35);
            canvas.fill_rect(cell, palette::BLUE, share);
            let ink = if share > 0.55 {
                palette::PAPER
            } else {
                palette::TEXT
            };
            let (center, middle) = (cell.left + cell.width / 2.0, cell.top + cell.height / 2.0);
            let text = count.to_string();
            let roomy =
                cell.height > 2.0 * SMALL + 10.0 && font::width("100 %", SMALL) < cell.width;
            let two = roomy && *count > 0;
            // Among many cells, figures are found by what is left empty.
            if font::width(&text, SMALL) < cell.width && (*count > 0 || self.few()) {
                let baseline = if two {
                    middle - 2.0
                } else {
                    middle + SMALL * 0.36
                };
                write(canvas, center, baseline, &text, SMALL, ink, Anchor::Middle);
            }
            if two {
                let percent = if share < 0.005 {
                    "<1 %".to_owned()
                } else {
                    format!("{:.0} %", share * 100.0)
                };
                write(
                    canvas,
                    center,
                    middle + SMALL + 1.0,
                    &percent,
                    SMALL,
                    ink,
                    Anchor::Middle,
                );
            }
        }
    }

    fn draw_names(&self, canvas: &mut dyn Canvas, area: Rect) {
        for (row, name) in self.rows.iter().enumerate() {
            let cell = self.cell(row, 0, area);
            let name = font::fit(&readable(name), SMALL, WIDEST_NAME);
            let baseline = cell.top + cell.height / 2.0 + SMALL * 0.36;
            write(
                canvas,
                area.left - 8.0,
                baseline,
                &name,
                SMALL,
                palette::TEXT,
                Anchor::End,
            );
        }
        for (column, name) in self.columns.iter().enumerate() {
            let cell = self.cell(0, column, area);
            let mut baseline = area.bottom() + 4.0;
            for line in font::wrap(&readable(name), SMALL, cell.width, NAME_LINES) {
                baseline += SMALL + 2.0;
                write(
                    canvas,
                    cell.left + cell.width / 2.0,
                    baseline,
                    &line,
                    SMALL,
                    palette::TEXT,
                    Anchor::Middle,
                );
            }
        }
        let baseline = area.bottom() + NAME_LINES as f32 * (SMALL + 2.0) + TEXT + 8.0;
        let label = font::fit(&self.axes[1], TEXT, area.width);
        write(
            canvas,
            area.left + area.width / 2.0,
            baseline,
            &label,
            TEXT,
            palette::TEXT,
            Anchor::Middle,
        );
        let (edge, end) = (area.left.round() - 0.5, area.bottom().round() + 0.5);
        let stroke = Stroke {
            color: palette::FRAME,
            width: 1.0,
            dashed: false,
        };
        canvas.polyline(
            &[(edge, area.top), (edge, end), (area.right(), end)],
            stroke,
        );
    }

    /// The place of a cell, on whole pixels, with a gap to its neighbours.
    fn cell(&self, row: usize, column: usize, area: Rect) -> Rect {
        let edge = |index: usize, count: usize, start: f32, length: f32| {
            (start + index as f32 / count.max(1) as f32 * length).round()
        };
        let across = |index| edge(index, self.columns.len(), area.left, area.width);
        let down = |index| edge(index, self.rows.len(), area.top, area.height);
        let (left, top) = (across(column), down(row));
        let gap = 1.0;
        Rect {
            left,
            top,
            width: (across(column + 1) - left - gap).max(1.0),
            height: (down(row + 1) - top - gap).max(1.0),
        }
    }
}

/// Names of classes often have underscores, at which no line breaks.
fn readable(name: &str) -> String {
    name.replace('_', " ")
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

    fn matrix(classes: usize) -> Matrix {
        let names: Vec<String> = (0..classes)
            .map(|class| format!("class_{class} of many"))
            .collect();
        Matrix {
            title: "confusion".into(),
            subtitle: "accuracy 0.500".into(),
            axes: ["true class".into(), "predicted class".into()],
            rows: names.clone(),
            columns: names,
            counts: (0..classes * classes).collect(),
        }
    }

    #[test]
    fn both_back_ends_draw_it() {
        let matrix = matrix(3);
        let (width, height) = matrix.size();
        let mut svg = Box::new(Svg::new(width, height));
        matrix.draw(svg.as_mut());
        let text = String::from_utf8(svg.finish().unwrap()).unwrap();
        for part in [
            "confusion",
            "true class",
            "predicted class",
            "class 2",
            ">7<",
            "38 %",
        ] {
            assert!(text.contains(part), "{part}");
        }
        let mut raster = Raster::new(width, height).unwrap();
        matrix.draw(&mut raster);
        assert!(
            raster
                .rgb()
                .chunks_exact(3)
                .any(|pixel| pixel[0] < 150 && pixel[2] > 180),
            "there is blue"
        );
    }

    #[test]
    fn many_classes_leave_empty_cells_empty() {
        let text = |classes: usize| {
            let mut matrix = matrix(classes);
            matrix.counts[0] = 0;
            let (width, height) = matrix.size();
            let mut svg = Box::new(Svg::new(width, height));
            matrix.draw(svg.as_mut());
            String::from_utf8(svg.finish().unwrap()).unwrap()
        };
        assert!(text(FEW).contains(">0<") && !text(FEW + 1).contains(">0<"));
        assert!(text(FEW + 1).contains(">7<"));
    }

    #[test]
    fn survives_degenerate_input() {
        for classes in [0, 1, 60] {
            for (width, height) in [(30, 20), (300, 300)] {
                matrix(classes).draw(&mut Raster::new(width, height).unwrap());
                matrix(classes).draw(&mut Svg::new(width, height));
            }
        }
    }
}
