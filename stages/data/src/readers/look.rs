//! A first look at a table that nobody has described yet: what `ingest` has to be told to read it. Each guess is said, since
//! each may be wrong.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use super::labels;
use super::line::{self, is_missing};
use super::times::{Clock, FORMATS, Guess};
use super::{number, text};
use contract::{Look, Trouble};

/// Text that is looked at.
const BYTES: u64 = 256 * 1024;
/// Rows that are looked at.
const ROWS: usize = 200;
/// Delimiters that are tried, the likelier first.
const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];
/// Parts of names that columns of times have, in small letters.
const TIMES: [&str; 4] = ["time", "date", "stamp", "when"];

/// Looks at a file.
///
/// # Errors
/// If it cannot be read, or is no table that can be.
pub fn look(file: &Path) -> Result<Look, Trouble> {
    let name = file.to_string_lossy().to_lowercase();
    let mut found = Look::default();
    let path = file.to_string_lossy().into_owned();
    for (ending, dataset) in [
        (".parquet", "parquet"),
        (".arrow", "arrow"),
        (".feather", "arrow"),
        (".ipc", "arrow"),
        (".npy", "npy"),
    ] {
        if name.ends_with(ending) {
            found
                .parameters
                .insert("dataset".to_owned(), json!(dataset));
            found.parameters.insert("path".to_owned(), json!(path));
            let guess = "the columns of this format were not looked at: name `time`, `label` and `columns` where it has them";
            found.guesses.push(guess.to_owned());
            return Ok(found);
        }
    }
    let sample = Sample::read(file)?;
    found.parameters.insert("dataset".to_owned(), json!("csv"));
    found.parameters.insert("path".to_owned(), json!(path));
    sample.describe(&mut found);
    Ok(found)
}

/// The first rows of a file.
struct Sample {
    delimiter: char,
    /// Lines before the table.
    skip: usize,
    /// Whether the first line names the columns.
    header: bool,
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Sample {
    fn read(file: &Path) -> Result<Self, Trouble> {
        let (lines, blank) = first_lines(file)?;
        let (delimiter, width) = delimiter(&lines);
        // What stands before the first line of the table's width is none of it.
        let fields_of = |line: &Numbered| line::fields(line.text.as_bytes(), delimiter as u8).len();
        let first = lines.iter().position(|line| fields_of(line) == width);
        let first = first.unwrap_or(0);
        let skip = if first > 0 {
            lines[first].before
        } else {
            blank
        };
        let split = |line: &Numbered| -> Vec<String> {
            let fields = line::fields(line.text.as_bytes(), delimiter as u8);
            fields.into_iter().map(|field| field.into_owned()).collect()
        };
        let mut rows: Vec<Vec<String>> = lines[first..].iter().map(split).collect();
        if rows.is_empty() {
            return Err(super::columns::empty(file));
        }
        let header = !rows[0].iter().any(|field| is_number(field));
        let names = match header {
            true => rows.remove(0),
            false => (0..rows[0].len()).map(super::csv::unnamed).collect(),
        };
        // Units and rows that are cut short say nothing about the columns.
        rows.retain(|row| row.len() == names.len());
        if header && rows.len() > 1 && !rows[0].iter().any(|field| is_number(field)) {
            rows.remove(0);
        }
        Ok(Self {
            delimiter,
            skip,
            header,
            names,
            rows,
        })
    }

    /// The fields of a column that hold something.
    fn column(&self, column: usize) -> impl Iterator<Item = &str> {
        let fields = self.rows.iter().map(move |row| row[column].as_str());
        fields.filter(|field| !is_missing(field))
    }

    fn all(&self, column: usize, holds: impl Fn(&str) -> bool) -> bool {
        let mut fields = self.column(column).peekable();
        fields.peek().is_some() && fields.all(holds)
    }

    fn describe(&self, found: &mut Look) {
        let parameters = &mut found.parameters;
        if self.delimiter != ',' {
            parameters.insert("delimiter".to_owned(), json!(self.delimiter));
            let guess = format!("the delimiter is {:?}", self.delimiter);
            found.guesses.push(guess);
        }
        if self.skip > 0 {
            parameters.insert("skip".to_owned(), json!(self.skip));
            let guess = format!(
                "the table begins after {} lines of something else",
                self.skip
            );
            found.guesses.push(guess);
        }
        if !self.header {
            parameters.insert("header".to_owned(), json!(false));
            let guess = "the first line is a row, not a header: the columns are c0, c1, …";
            found.guesses.push(guess.to_owned());
        }
        let time = self.time(found);
        let label = self.label(found, time);
        let mut channels = Vec::new();
        let mut left_out = Vec::new();
        for (column, name) in self.names.iter().enumerate() {
            if Some(column) == time || Some(column) == label {
                continue;
            }
            match self.reason_against(column) {
                Some(reason) => left_out.push(format!("`{name}` ({reason})")),
                None => channels.push(name.clone()),
            }
        }
        if !left_out.is_empty() {
            let parameters = &mut found.parameters;
            parameters.insert("columns".to_owned(), json!(channels));
            found
                .guesses
                .push(format!("left out: {}", left_out.join(", ")));
        }
        let has_gap = |row: &Vec<String>| row.iter().any(|field| is_missing(field));
        if self.rows.iter().any(has_gap) {
            let parameters = &mut found.parameters;
            parameters.insert("missing".to_owned(), json!("interpolate"));
            let guess = "values are missing, and are interpolated between their neighbours";
            found.guesses.push(guess.to_owned());
        }
    }

    /// The column of times, which is said to be read.
    fn time(&self, found: &mut Look) -> Option<usize> {
        for (column, name) in self.names.iter().enumerate() {
            let small = name.to_lowercase();
            let is_called_so = TIMES.iter().any(|part| small.contains(part));
            if self.all(column, |field| Clock::iso().parse(field).is_some()) {
                found.parameters.insert("time".to_owned(), json!(name));
                found
                    .guesses
                    .push(format!("`{name}` is the time, in ISO 8601"));
                return Some(column);
            }
            for format in FORMATS {
                let (value, is_sure) = match format {
                    Guess::Pattern(pattern) => (json!({"pattern": pattern}), true),
                    Guess::Epoch(unit) => (json!(unit), is_called_so),
                };
                if is_sure && self.all(column, |field| format.matches(field)) {
                    let text = match &value {
                        Value::String(unit) => format!("in {unit} since 1970"),
                        other => format!("written as {}", other["pattern"]),
                    };
                    let time = json!({"column": name, "format": value});
                    found.parameters.insert("time".to_owned(), time);
                    found.guesses.push(format!("`{name}` is the time, {text}"));
                    return Some(column);
                }
            }
        }
        None
    }

    /// The column of labels, which is said to be read.
    fn label(&self, found: &mut Look, time: Option<usize>) -> Option<usize> {
        for (column, name) in self.names.iter().enumerate() {
            if Some(column) != time
                && labels::is_name(name)
                && self.all(column, |field| line::label(name, field).is_ok())
            {
                found.parameters.insert("label".to_owned(), json!(name));
                found.guesses.push(format!("`{name}` is the label"));
                return Some(column);
            }
        }
        None
    }

    /// Why a column is no channel.
    fn reason_against(&self, column: usize) -> Option<&'static str> {
        // A decimal comma is found out when the file is read.
        let is_value = |field: &str| is_number(field) || is_number(&field.replacen(',', ".", 1));
        if !self.all(column, is_value) {
            return Some("no numbers");
        }
        let mut expected = None;
        for field in self.column(column) {
            let Ok(value) = field.parse::<i64>() else {
                return None;
            };
            if value != *expected.get_or_insert(value) || (expected == Some(value) && value < 0) {
                return None;
            }
            expected = Some(value + 1);
        }
        let starts_low = self
            .column(column)
            .next()
            .is_some_and(|first| first.len() == 1);
        (starts_low && self.rows.len() > 2).then_some("counts the rows")
    }
}

/// A line, and how many stand before it in the file.
struct Numbered {
    before: usize,
    text: String,
}

/// The first lines that are neither blank nor comments, and how many lines there are up to the last blank one before them.
fn first_lines(file: &Path) -> Result<(Vec<Numbered>, usize), Trouble> {
    let failed = super::columns::unreadable(file);
    let opened = File::open(file).map_err(&failed)?;
    let mut bytes = Vec::new();
    let is_packed = file
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gz"));
    if !is_packed {
        text::check_kind(file)?;
    }
    let read = if is_packed {
        MultiGzDecoder::new(opened)
            .take(BYTES)
            .read_to_end(&mut bytes)
    } else {
        opened.take(BYTES).read_to_end(&mut bytes)
    };
    let cut = read.map_err(&failed)? as u64 == BYTES;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    let (mut lines, mut blank) = (Vec::new(), 0);
    for (before, line) in text.lines().enumerate() {
        if line.trim().is_empty() && lines.is_empty() {
            blank = before + 1;
        } else if !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with("sep=") {
            let text = line.to_owned();
            lines.push(Numbered { before, text });
        }
    }
    if cut && lines.len() > 1 {
        lines.pop();
    }
    lines.truncate(ROWS);
    Ok((lines, blank))
}

/// The delimiter that cuts most lines into the same number of fields, more than one, and that number.
fn delimiter(lines: &[Numbered]) -> (char, usize) {
    let (mut best, mut most) = ((',', 1), 0);
    for mark in DELIMITERS {
        let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
        for line in lines {
            let width = line::fields(line.text.as_bytes(), mark as u8).len();
            *widths.entry(width).or_default() += 1;
        }
        for (width, count) in widths {
            if width > 1 && count > most {
                (best, most) = ((mark, width), count);
            }
        }
    }
    best
}

fn is_number(field: &str) -> bool {
    number::parse(field.as_bytes(), 0).is_some_and(|(_, end)| end == field.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(text: &str) -> (Value, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.csv");
        std::fs::write(&file, text).unwrap();
        let mut found = look(&file).unwrap();
        found.parameters.shift_remove("path");
        let parameters = found.parameters.into_iter().collect();
        (Value::Object(parameters), found.guesses.join("; "))
    }

    #[test]
    fn a_plain_table_needs_nothing_said() {
        let (parameters, guesses) = looked("a,b\n1,2.5\n3,4\n1,0\n");
        assert_eq!(parameters, json!({"dataset": "csv"}));
        assert_eq!(guesses, "");
    }

    #[test]
    fn delimiter_time_label_and_columns_are_found() {
        let mut text = ";Zeit;wann;a;b;note;Anomaly\n".to_owned();
        for row in 0..30 {
            let label = if row > 25 { "True" } else { "False" };
            text += &format!(
                "{row};x;{:02}.03.2024 10:{row:02};1,5;{};ok;{label}\n",
                1 + row / 10,
                row * row
            );
        }
        let (parameters, guesses) = looked(&text);
        let expected = json!({
            "dataset": "csv",
            "delimiter": ";",
            "time": {"column": "wann", "format": {"pattern": "%d.%m.%Y %H:%M"}},
            "label": "Anomaly",
            "columns": ["a", "b"],
        });
        assert_eq!(parameters, expected);
        for part in [
            "`` (counts the rows)",
            "`note` (no numbers)",
            "`Anomaly` is the label",
        ] {
            assert!(guesses.contains(part), "{guesses}");
        }
    }

    #[test]
    fn lines_before_the_table_are_left_out() {
        let (parameters, guesses) = looked("Station 5\n\nLisbon\na;b\n1;2\n3;4\n9;5\n");
        let expected = json!({"dataset": "csv", "delimiter": ";", "skip": 3});
        assert_eq!(parameters, expected, "{guesses}");
        let (parameters, _) = looked("# by a logger\nsep=;\na;b\n1;2\n3;4\n9;5\n");
        assert_eq!(parameters, json!({"dataset": "csv", "delimiter": ";"}));
        let (parameters, _) = looked("\n\na,b\n1,2\n3,4\n9,5\n");
        assert_eq!(parameters, json!({"dataset": "csv", "skip": 2}));
        let (parameters, _) = looked("only\n1\n3\n2\n");
        assert_eq!(parameters, json!({"dataset": "csv"}));
    }

    #[test]
    fn numbers_are_a_header_only_if_nothing_else_is() {
        let (parameters, _) = looked("0.5,1\n0.6,2\n0.7,1\n");
        assert_eq!(parameters["header"], json!(false));
        let (parameters, guesses) = looked("timestamp,a\n1609459200,1\n1609459260,NaN\n");
        let time = json!({"column": "timestamp", "format": "seconds"});
        assert_eq!(parameters["time"], time);
        assert_eq!(parameters["missing"], json!("interpolate"), "{guesses}");
    }
}
