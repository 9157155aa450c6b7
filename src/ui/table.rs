//! Text tables: aligned columns, no frame, a quiet header. Cells may be coloured; widths count what is seen.

use super::Paint;
use super::style::width;
use crate::diagnostic::visible;

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of cells under a header.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            columns: columns
                .iter()
                .map(|(name, align)| ((*name).to_owned(), *align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// A line break in a cell would break the table: it is shown as its escape.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| visible(&cell).into_owned())
                .collect(),
        );
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, every line indented by two spaces.
    pub fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = self
                    .rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| width(cell));
                cells.max().unwrap_or(0).max(width(&self.columns[column].0))
            })
            .collect();
        let header: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut text = String::new();
        for (index, row) in std::iter::once(&header).chain(&self.rows).enumerate() {
            let mut line = String::from(" ");
            for (cell, ((_, align), wide)) in row.iter().zip(self.columns.iter().zip(&widths)) {
                let padding = " ".repeat(wide - width(cell));
                let padded = match align {
                    Align::Left => format!("{cell}{padding}"),
                    Align::Right => format!("{padding}{cell}"),
                };
                line.push(' ');
                line.push_str(&padded);
                line.push(' ');
            }
            let line = line.trim_end();
            text.push_str(&if index == 0 {
                Paint::Quiet.on(line)
            } else {
                line.to_owned()
            });
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::style::{Colours, styled};
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_the_colours() {
        let mut table = Table::new(&[("name", Align::Left), ("value", Align::Right)]);
        table.row([Paint::Good.on("f1"), "0.5".into()]);
        table.row(["precision".into(), "12.25".into()]);
        table.row(["a\nb\u{1b}[2J".into(), "1".into()]);
        let plain = styled(&table.render(), Colours(false));
        let lines: Vec<&str> = plain.lines().collect();
        let expected = [
            "  name           value",
            "  f1               0.5",
            "  precision      12.25",
            "  a\\nb\\u{1b}[2J      1",
        ];
        assert_eq!(lines, expected);
    }
}
