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
        let column = |(name, align): &(&str, Align)| ((*name).to_owned(), *align);
        Self {
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// A line break in a cell would break the table: it is shown as its escape.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter();
        self.rows
            .push(cells.map(|cell| visible(&cell).into_owned()).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, every line indented by two spaces.
    pub fn render(&self) -> String {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut widths: Vec<usize> = header.iter().map(|name| width(name)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = width(cell).max(*widest);
            }
        }
        let mut text = Paint::Quiet.on(self.line(&header, &widths)) + "\n";
        for row in &self.rows {
            text += &self.line(row, &widths);
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::from(" ");
        for ((cell, (_, align)), wide) in row.iter().zip(&self.columns).zip(widths) {
            let padding = " ".repeat(wide - width(cell));
            line += &match align {
                Align::Left => format!(" {cell}{padding} "),
                Align::Right => format!(" {padding}{cell} "),
            };
        }
        line.truncate(line.trim_end().len());
        line
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
