//! A first look at a table that nobody has described yet: what `ingest` has to be told to read it. Each guess is said, since
//! each may be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use super::labels;
use super::line::{self, is_missing};
use super::times::{Clock, FORMATS, Guess};
use super::{npz, number, text};
use contract::{Look, Trouble};

/// Text that is looked at.
const BYTES: u64 = 256 * 1024;
/// Rows that are looked at.
const ROWS: usize = 200;
/// Delimiters that are tried, the likelier first.
const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];
/// Names of the columns of the long form, in small letters.
const IDS: [&str; 14] = [
    "id",
    "unique_id",
    "item_id",
    "series_id",
    "entity",
    "entity_id",
    "device",
    "device_id",
    "machine",
    "machine_id",
    "sensor_id",
    "station",
    "asset",
    "store",
];
const VARIABLES: [&str; 12] = [
    "variable",
    "variable_name",
    "metric",
    "channel",
    "tag",
    "sensor",
    "parameter",
    "measurement",
    "name",
    "field",
    "signal",
    "indicator",
];
const VALUES: [&str; 6] = ["value", "val", "reading", "measurement", "y", "v"];
/// Parts of names that columns of times have, in small letters.
const TIMES: [&str; 4] = ["time", "date", "stamp", "when"];

/// Endings of files that are not text, in small letters, and the data set that reads them.
const ENDINGS: [(&str, &str); 6] = [
    (".parquet", "parquet"),
    (".arrow", "arrow"),
    (".feather", "arrow"),
    (".ipc", "arrow"),
    (".npy", "npy"),
    (".npz", "npy"),
];

/// Looks at a file, or at the first one of a folder.
///
/// # Errors
/// If it cannot be read, or is no table that can be.
pub fn look(path: &Path) -> Result<Look, Trouble> {
    let mut found = Look::default();
    let mut file = path.to_owned();
    if path.is_dir() {
        let (first, count) = first_of(path)?;
        let name = first.file_name().unwrap_or_default().to_string_lossy();
        let guess = format!("each of the {count} files is an entity; they are written like {name}");
        found.guesses.push(guess);
        file = first;
    }
    // What is not text is not looked into, but it is there.
    File::open(&file).map_err(super::columns::unreadable(&file))?;
    let parameters = &mut found.parameters;
    parameters.insert(
        "dataset".to_owned(),
        json!(dataset_of(&file).unwrap_or("csv")),
    );
    parameters.insert("path".to_owned(), json!(path.to_string_lossy()));
    match dataset_of(&file) {
        None => Sample::read(&file)?.describe(&mut found),
        Some("npy") if npz::is_archive(&file) => describe_arrays(&npz::names(&file)?, &mut found),
        Some("npy") => {}
        Some(_) => {
            let guess = "the columns of this format were not looked at: name `time`, `label` and `columns` where it has them";
            found.guesses.push(guess.to_owned());
        }
    }
    Ok(found)
}

/// The data set that reads a file that is not text.
fn dataset_of(file: &Path) -> Option<&'static str> {
    let name = file.to_string_lossy().to_lowercase();
    let (_, dataset) = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending))?;
    Some(dataset)
}

/// The first file of a folder by name, and how many files there are like it.
fn first_of(folder: &Path) -> Result<(PathBuf, usize), Trouble> {
    let failed = super::columns::unreadable(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(&failed)? {
        let path = entry.map_err(&failed)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let is_text = super::csv::ENDINGS
            .iter()
            .any(|ending| name.ends_with(ending));
        if path.is_file() && !name.starts_with('.') && (is_text || dataset_of(&path).is_some()) {
            files.push(path);
        }
    }
    files.sort();
    let Some(first) = files.first().cloned() else {
        return Err(Trouble::new("the folder holds no table").at(folder, None).hint(
            "tables end with .csv, .tsv, .txt, .parquet, .arrow, .feather, .npy or .npz; folders by class are read with `dataset: csv-classes`",
        ));
    };
    files.retain(|file| dataset_of(file) == dataset_of(&first));
    Ok((first, files.len()))
}

/// Parts of names that arrays of each part have, in small letters.
const TESTS: [&str; 2] = ["test", "eval"];
const LABELS: [&str; 3] = ["label", "y_", "anomal"];

/// Which array of an archive is which.
fn describe_arrays(names: &[String], found: &mut Look) {
    if names.len() == 1 {
        return;
    }
    let has = |name: &str, parts: &[&str]| {
        let name = name.to_lowercase();
        parts.iter().any(|part| name.contains(part))
    };
    let is_label = |name: &&String| has(name, &LABELS) || name.as_str() == "y";
    let rows = names
        .iter()
        .find(|name| !is_label(name) && !has(name, &TESTS));
    let rows = rows.unwrap_or(&names[0]);
    let test = names
        .iter()
        .find(|name| !is_label(name) && has(name, &TESTS) && *name != rows);
    let labels = names
        .iter()
        .find(|name| is_label(name) && has(name, &TESTS));
    let labels = labels.filter(|_| test.is_some());
    let path = found.parameters["path"].clone();
    let mut array = json!({"path": rows});
    let mut guess = format!("the archive holds {}; `{rows}` is read", names.join(", "));
    if let Some(test) = test {
        array["test"] = json!(test);
        found.parameters.insert("test".to_owned(), path.clone());
        guess += &format!(", `{test}` is the test part");
    }
    if let Some(labels) = labels {
        array["test_labels"] = json!(labels);
        found.parameters.insert("test_labels".to_owned(), path);
        guess += &format!(", `{labels}` its labels");
    }
    found.parameters.insert("array".to_owned(), array);
    found.guesses.push(guess);
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
        let long = self.long(time, label, found);
        let mut channels = Vec::new();
        let mut left_out = Vec::new();
        for (column, name) in self.names.iter().enumerate() {
            if Some(column) == time || Some(column) == label || long.contains(&Some(column)) {
                continue;
            }
            if long[1].is_some() {
                left_out.push(format!("`{name}` (the long form has one value)"));
                continue;
            }
            match self.reason_against(column) {
                Some(reason) => left_out.push(format!("`{name}` ({reason})")),
                None => channels.push(name.clone()),
            }
        }
        if !left_out.is_empty() {
            let parameters = &mut found.parameters;
            if long[1].is_none() {
                parameters.insert("columns".to_owned(), json!(channels));
            }
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

    /// The columns of the long form, which are said to be read: what a row belongs to, what its value is, and the value.
    fn long(
        &self,
        time: Option<usize>,
        label: Option<usize>,
        found: &mut Look,
    ) -> [Option<usize>; 3] {
        const NONE: [Option<usize>; 3] = [None; 3];
        let Some(time) = time else {
            return NONE;
        };
        let is_free = |column: usize| column != time && Some(column) != label;
        let named = |names: &[&str], is_it: &dyn Fn(usize) -> bool| {
            (0..self.names.len()).find(|column| {
                let name = self.names[*column].to_lowercase();
                is_free(*column) && names.contains(&name.as_str()) && is_it(*column)
            })
        };
        // Numbers serve as well where the name leaves no doubt; a plain `id` of numbers may count the rows.
        let is_id = |column: usize| {
            !self.all(column, is_number)
                || (self.names[column].contains("_id") && self.repeats(column))
        };
        let mut id = named(&IDS, &is_id).filter(|id| self.repeats(*id));
        let is_value = |column: usize| self.reason_against(column).is_none();
        let is_variable = |column: usize| !self.all(column, is_number) && self.repeats(column);
        let mut variable = named(&VARIABLES, &is_variable);
        let mut value = named(&VALUES, &is_value);
        if variable.is_none() || value.is_none() || !self.repeats(time) {
            (variable, value) = (None, None);
        }
        if id == variable {
            id = None;
        }
        let parts = [("id", id), ("variable", variable), ("value", value)];
        let mut long = serde_json::Map::new();
        for (part, column) in parts {
            if let Some(column) = column {
                long.insert(part.to_owned(), json!(self.names[column]));
            }
        }
        if long.is_empty() {
            return NONE;
        }
        let mut says = Vec::new();
        if let Some(id) = id {
            says.push(format!(
                "`{}` says which entity a row belongs to",
                self.names[id]
            ));
        }
        if let (Some(variable), Some(value)) = (variable, value) {
            let (variable, value) = (&self.names[variable], &self.names[value]);
            says.push(format!("`{variable}` says what `{value}` is"));
        }
        found.guesses.push(format!(
            "the table is in the long form: {}",
            says.join(", ")
        ));
        found
            .parameters
            .insert("long".to_owned(), Value::Object(long));
        [id, variable, value]
    }

    /// Whether some value of a column comes twice.
    fn repeats(&self, column: usize) -> bool {
        let mut seen = BTreeSet::new();
        self.column(column).any(|field| !seen.insert(field))
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
    fn the_long_form_is_known_by_its_columns() {
        let (parameters, guesses) = looked(
            "pump,when,metric,value,note\na,2024-05-01,flow,1.5,\na,2024-05-01,heat,20,ok\na,2024-05-02,flow,2,\n",
        );
        assert_eq!(
            parameters["long"],
            json!({"variable": "metric", "value": "value"})
        );
        assert!(
            parameters.get("columns").is_none() && guesses.contains("`note`"),
            "{guesses}"
        );
        let (parameters, _) = looked(
            "device,ts,metric,value\na,2024-05-01,flow,1.5\nb,2024-05-01,heat,20\na,2024-05-02,flow,2\n",
        );
        let all = json!({"id": "device", "variable": "metric", "value": "value"});
        assert_eq!(parameters["long"], all);
        let (parameters, guesses) =
            looked("unique_id,ds,y\n7,2024-05-01,2\n7,2024-05-02,4\n9,2024-05-01,1\n");
        assert_eq!(parameters["long"], json!({"id": "unique_id"}), "{guesses}");
        assert!(parameters.get("label").is_none(), "{guesses}");
        // One row a moment: `metric` is a remark, and an `id` that never comes twice counts.
        let (parameters, _) =
            looked("ts,metric,value,id\n2024-05-01,a,1.5,1\n2024-05-02,a,2,2\n2024-05-03,a,2,3\n");
        assert!(parameters.get("long").is_none());
    }

    #[test]
    fn a_folder_is_looked_at_by_its_first_file() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.csv", "a,b\n1,2\n3,1\n"),
            ("A.CSV", "a;b\n1;2\n3;1\n"),
            ("x.md", "no"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let found = look(folder.path()).unwrap();
        assert_eq!(found.parameters["delimiter"], json!(";"));
        assert_eq!(
            found.parameters["path"],
            json!(folder.path().to_string_lossy())
        );
        assert!(
            found.guesses[0].contains("each of the 2 files"),
            "{:?}",
            found.guesses
        );
        let absent = look(&folder.path().join("absent.npz")).unwrap_err();
        assert!(absent.message().contains("cannot be read"), "{absent}");
        let empty = tempfile::tempdir().unwrap();
        assert!(
            look(empty.path())
                .unwrap_err()
                .message()
                .contains("no table")
        );
    }

    #[test]
    fn arrays_of_an_archive_are_told_apart_by_name() {
        let described = |names: &[&str]| {
            let mut found = Look::default();
            found.parameters.insert("path".to_owned(), json!("d.npz"));
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            describe_arrays(&names, &mut found);
            found.parameters
        };
        assert!(described(&["arr_0"]).get("array").is_none());
        let found = described(&["X_train", "y_train", "X_test", "y_test"]);
        let expected = json!({"path": "X_train", "test": "X_test", "test_labels": "y_test"});
        assert_eq!(found["array"], expected);
        assert_eq!(found["test_labels"], json!("d.npz"));
        assert_eq!(described(&["b", "a"])["array"], json!({"path": "b"}));
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
