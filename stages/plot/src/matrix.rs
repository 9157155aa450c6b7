//! Counts by row and column, such as a confusion matrix: the darker a cell, the greater its share of the row.

use super::canvas::{Canvas, Rect, TextStyle, palette};
use super::font;
use super::layout::{BODY, HALF_DIGIT, LABEL, MARGIN, SMALL, TEXT, draw_frame, draw_head};

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

/// Lines of a name below its column.
const NAME_LINES: usize = 2;
/// Height of such a line.
const NAME_LINE: f32 = SMALL + 2.0;
/// Columns up to which a cell has room for its share in words, and an empty one says so.
const FEW: usize = 12;
/// The widest room for names beside the rows.
const WIDEST_NAME: f32 = 180.0;

impl Matrix {
    /// Width and height that suit the number of cells, in pixels.
    pub fn size(&self) -> (u32, u32) {
        let (wide, high) = if self.few() { (76, 46) } else { (40, 26) };
        let width = self.columns.len().min(100) * wide + 240;
        let height = self.rows.len().min(100) * high + 150;
        (width as u32, height as u32)
    }

    fn few(&self) -> bool {
        self.columns.len() <= FEW
    }

    /// Draws the matrix over a whole canvas.
    pub fn draw(&self, canvas: &mut dyn Canvas) {
        let (width, height) = canvas.size();
        let rows_label = draw_head(canvas, &self.title, &self.subtitle) + (TEXT + 8.0);
        let label = font::fit(&self.axes[0], TEXT, width - 2.0 * MARGIN);
        canvas.text(MARGIN, rows_label, &label, BODY);
        let top = rows_label + 7.0;
        let names: Vec<String> = self.rows.iter().map(|name| readable(name)).collect();
        let widest = font::widest(names.iter().map(String::as_str), SMALL);
        let left = MARGIN + widest.min(WIDEST_NAME) + 8.0;
        let foot = NAME_LINES as f32 * NAME_LINE + TEXT + 2.0 * MARGIN;
        let area = Rect {
            left,
            top,
            width: (width - MARGIN - left).max(1.0),
            height: (height - top - foot).max(1.0),
        };
        for row in 0..self.rows.len() {
            self.draw_row(canvas, row, area);
        }
        self.draw_names(canvas, &names, area);
        draw_frame(canvas, area);
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
            self.draw_count(canvas, *count, share, cell);
        }
    }

    /// The count in the middle of its cell, and its share of the row below where there is room.
    fn draw_count(&self, canvas: &mut dyn Canvas, count: usize, share: f32, cell: Rect) {
        let color = if share > 0.55 {
            palette::PAPER
        } else {
            palette::TEXT
        };
        let style = TextStyle::new(SMALL, color).centered();
        let (center, middle) = (cell.left + cell.width / 2.0, cell.top + cell.height / 2.0);
        let is_roomy = cell.height > 2.0 * SMALL + 10.0 && font::width("100 %", SMALL) < cell.width;
        let has_share = is_roomy && count > 0;
        let text = count.to_string();
        // Among many cells, counts are found by what is left empty.
        if font::width(&text, SMALL) < cell.width && (count > 0 || self.few()) {
            let below = if has_share { -2.0 } else { SMALL * HALF_DIGIT };
            canvas.text(center, middle + below, &text, style);
        }
        if has_share {
            let percent = if share < 0.005 {
                "<1 %".to_owned()
            } else {
                format!("{:.0} %", share * 100.0)
            };
            canvas.text(center, middle + SMALL + 1.0, &percent, style);
        }
    }

    fn draw_names(&self, canvas: &mut dyn Canvas, rows: &[String], area: Rect) {
        for (row, name) in rows.iter().enumerate() {
            let cell = self.cell(row, 0, area);
            let name = font::fit(name, SMALL, WIDEST_NAME);
            let baseline = cell.top + cell.height / 2.0 + SMALL * HALF_DIGIT;
            canvas.text(area.left - 8.0, baseline, &name, LABEL.ending());
        }
        for (column, name) in self.columns.iter().enumerate() {
            let cell = self.cell(0, column, area);
            let center = cell.left + cell.width / 2.0;
            let mut baseline = area.bottom() + 4.0;
            for line in font::wrap(&readable(name), SMALL, cell.width, NAME_LINES) {
                baseline += NAME_LINE;
                canvas.text(center, baseline, &line, LABEL.centered());
            }
        }
        let center = area.left + area.width / 2.0;
        let baseline = area.bottom() + NAME_LINES as f32 * NAME_LINE + TEXT + 8.0;
        let label = font::fit(&self.axes[1], TEXT, area.width);
        canvas.text(center, baseline, &label, BODY.centered());
    }

    /// The place of a cell, on whole pixels, with a gap of one to its neighbours.
    fn cell(&self, row: usize, column: usize, area: Rect) -> Rect {
        let across = |index| edge(index, self.columns.len(), area.left, area.width);
        let down = |index| edge(index, self.rows.len(), area.top, area.height);
        Rect {
            left: across(column),
            top: down(row),
            width: (across(column + 1) - across(column) - 1.0).max(1.0),
            height: (down(row + 1) - down(row) - 1.0).max(1.0),
        }
    }
}

/// Where the cell with this index begins, if `count` cells share a length.
fn edge(index: usize, count: usize, start: f32, length: f32) -> f32 {
    (start + index as f32 / count.max(1) as f32 * length).round()
}

/// Names of classes often have underscores, at which no line breaks.
fn readable(name: &str) -> String {
    name.replace('_', " ")
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
