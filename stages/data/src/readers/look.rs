//! A first look at a table that nobody has described yet: what `ingest` has to be told to read it. Each guess is said, since
//! each may be wrong.

use std::collections::BTreeSet;
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
    /// Whether the first line names the columns.
    header: bool,
    names: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Sample {
    fn read(file: &Path) -> Result<Self, Trouble> {
        let lines = first_lines(file)?;
        let delimiter = delimiter(&lines);
        let split = |line: &String| -> Vec<String> {
            let fields = line::fields(line.as_bytes(), delimiter as u8);
            fields.into_iter().map(|field| field.into_owned()).collect()
        };
        let mut rows: Vec<Vec<String>> = lines.iter().map(split).collect();
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

/// The first lines that are no comments.
fn first_lines(file: &Path) -> Result<Vec<String>, Trouble> {
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
    let mut lines = Vec::new();
    for line in text.lines() {
        if !line.trim().is_empty() && !line.starts_with('#') {
            lines.push(line.to_owned());
        }
    }
    if cut && lines.len() > 1 {
        lines.pop();
    }
    lines.truncate(ROWS);
    Ok(lines)
}

/// The delimiter that cuts most lines into the same number of fields, more than one.
fn delimiter(lines: &[String]) -> char {
    let mut best = (0, ',');
    for mark in DELIMITERS {
        let counts: Vec<usize> = lines
            .iter()
            .map(|line| line::fields(line.as_bytes(), mark as u8).len())
            .collect();
        let distinct: BTreeSet<usize> = counts.iter().copied().collect();
        for width in distinct.into_iter().filter(|width| *width > 1) {
            let like_it = counts.iter().filter(|count| **count == width).count();
            if like_it > best.0 {
                best = (like_it, mark);
            }
        }
    }
    best.1
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
    fn numbers_are_a_header_only_if_nothing_else_is() {
        let (parameters, _) = looked("0.5,1\n0.6,2\n0.7,1\n");
        assert_eq!(parameters["header"], json!(false));
        let (parameters, guesses) = looked("timestamp,a\n1609459200,1\n1609459260,NaN\n");
        let time = json!({"column": "timestamp", "format": "seconds"});
        assert_eq!(parameters["time"], time);
        assert_eq!(parameters["missing"], json!("interpolate"), "{guesses}");
    }
}
