//! Files that `ingest` accepts, and what NumPy, pyarrow and pandas read from them: the same columns, the same number of
//! rows and the same values. Each format has mutated examples and files that are put together at random.
//! What only the others refuse, or read otherwise, stands in [`EXCEPTIONS`] with its reason.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use contract::artifact::{Digest, Series};
use contract::{Host, NullHost, Progress, StageContext, Trouble};
use data::readers::DatasetChoice;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::frame::fuzz;
use crate::mutate;
use crate::peer::{Answer, Peer, Table};
use crate::tables::{self, Writing};

/// A difference that is meant, and why.
struct Exception {
    format: &'static str,
    why: &'static str,
    holds: fn(&Case<'_>) -> bool,
}

/// A file that `ingest` has read, and that another library reads differently.
struct Case<'a> {
    bytes: &'a [u8],
    form: &'a Form,
    /// What the other library says.
    complaint: &'a str,
    /// What `ingest` said of how it read the file.
    notes: &'a [String],
    /// What `ingest` read.
    series: &'a Series,
    /// Whether the file is an example that was changed somewhere, and not one that was written whole.
    is_damaged: bool,
}

impl Case<'_> {
    /// Whether the complaint is of two values next to one another.
    fn is_rounding(&self) -> bool {
        let values = self.complaint.strip_suffix(" there");
        let values = values.and_then(|rest| rest.rsplit_once(" here, "));
        let Some((here, there)) = values else {
            return false;
        };
        let here = here
            .rsplit_once(" is ")
            .map(|(_, here)| here.parse::<f64>());
        let (Some(Ok(here)), Ok(there)) = (here, there.parse::<f64>()) else {
            return false;
        };
        here.to_bits().abs_diff(there.to_bits()) == 1
    }

    /// Whether a line consists of white space, and not of spaces and tabs alone.
    fn has_line_of_rare_blanks(&self) -> bool {
        let text = String::from_utf8_lossy(self.bytes);
        text.lines().any(|line| {
            let is_blank = line.trim().is_empty();
            is_blank && line.contains(|sign| !matches!(sign, ' ' | '\t' | '\r'))
        })
    }

    /// Whether quotes come after a tab that delimits nothing.
    fn has_tab_before_quotes(&self) -> bool {
        if self.form.question["delimiter"] == "\t" {
            return false;
        }
        let mut parts = self.bytes.split(|byte| *byte == b'"');
        parts.next_back();
        parts.any(|before| {
            let blanks = before.iter().rev();
            let mut blanks = blanks.take_while(|byte| matches!(byte, b' ' | b'\t'));
            blanks.any(|byte| *byte == b'\t')
        })
    }

    /// Whether a value is beyond the whole numbers of 64 bits with a sign.
    fn has_huge_integer(&self) -> bool {
        const LARGEST: f64 = i64::MAX as f64;
        let wide = self.series.wide.values().flatten();
        let narrow = self.series.values.iter().map(|value| f64::from(*value));
        let mut values = wide.copied().chain(narrow);
        values.any(|value| value.abs() >= LARGEST)
    }
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        format: "npy",
        why: "NumPy reads headers of ten thousand characters at most, since it lets Python evaluate them",
        holds: |case| case.complaint.contains("max_header_size"),
    },
    Exception {
        format: "arrow",
        why: "pyarrow compares lengths that a damaged file has twice; nothing wrong is read where they are not compared",
        holds: |case| case.is_damaged && case.complaint.starts_with("refused: "),
    },
    Exception {
        format: "parquet",
        why: "pyarrow compares lengths that a damaged file has twice; nothing wrong is read where they are not compared",
        holds: |case| case.is_damaged && case.complaint.starts_with("refused: "),
    },
    Exception {
        format: "csv",
        why: "lines before the table, units and the like are left out with a note; pandas has to be told of them",
        holds: |case| !case.notes.is_empty(),
    },
    Exception {
        format: "csv",
        why: "blanks around a number that are not ASCII, as of a word processor, are left out here",
        holds: |case| {
            let is_text = case.complaint.contains("could not convert string to float");
            // The number that it names is the first of its column, which may be another.
            let text = String::from_utf8_lossy(case.bytes);
            is_text && text.contains(|sign: char| sign.is_whitespace() && !sign.is_ascii())
        },
    },
    Exception {
        format: "csv",
        why: "with a separator of thousands, pandas rounds numbers of more digits than fit otherwise than to the nearest",
        holds: |case| !case.form.question["thousands"].is_null() && case.is_rounding(),
    },
    Exception {
        format: "csv",
        why: "pandas counts some times in nanoseconds, of which 64 bits hold those of the years 1678 to 2261",
        holds: |case| case.complaint.contains("OutOfBoundsDatetime"),
    },
    Exception {
        format: "csv",
        why: "a line of nothing but white space is blank here, also where that is a form feed or the like",
        holds: |case| case.has_line_of_rare_blanks(),
    },
    Exception {
        format: "csv",
        why: "a tab in front of quotes is left out here, as a space is; pandas takes the quotes for text then",
        holds: |case| case.has_tab_before_quotes(),
    },
    Exception {
        format: "csv",
        why: "a delimiter at the end of the names begins no column here; pandas makes one of nothing",
        holds: |case| {
            let names = &case.series.channels;
            let with_nothing = [&names[..], &[String::new()]].concat();
            case.complaint == format!("the columns are {names:?} here, {with_nothing:?} there")
        },
    },
    Exception {
        format: "csv",
        why: "a delimiter at a line's end is nothing here; pandas refuses it where other lines have none",
        holds: |case| case.is_damaged && case.complaint.contains("Error tokenizing data"),
    },
    Exception {
        format: "csv",
        why: "pandas keeps a column as text where a whole number does not fit 64 bits, and then forgets the decimal comma",
        holds: |case| {
            case.complaint.contains("could not convert string to float") && case.has_huge_integer()
        },
    },
];

/// How a format is read here, and how by the others.
struct Form {
    parameters: Value,
    question: Value,
}

fn form(parameters: Value, question: Value) -> Form {
    let mut parameters = parameters;
    parameters["path"] = json!("f");
    parameters["split"] = json!({"train": 1.0});
    Form {
        parameters,
        question,
    }
}

#[test]
fn numpy_reads_the_same() {
    let forms = [form(json!({}), json!({}))];
    let examples = tables::arrays();
    compare(
        "npy",
        &forms,
        examples,
        |_| tables::array().boxed(),
        tables::NPY_WORDS,
    );
}

#[test]
fn pyarrow_reads_the_same_from_parquet() {
    let (examples, made) = (tables::parquets(), |_| tables::parquet().boxed());
    compare("parquet", &columnar(), examples, made, &[]);
}

#[test]
fn pyarrow_reads_the_same_from_arrow() {
    let (examples, made) = (tables::arrows(), |_| tables::arrow().boxed());
    compare("arrow", &columnar(), examples, made, &[]);
}

#[test]
fn pandas_reads_the_same_from_csv() {
    let made = |form: usize| tables::text(WRITINGS[form]).boxed();
    compare("csv", &texts(), tables::texts(), made, tables::CSV_WORDS);
}

fn columnar() -> Vec<Form> {
    let timed = json!({"time": "t", "drop": false});
    let dropping = json!({"time": "t", "drop": true});
    vec![
        form(json!({"time": "t"}), timed),
        form(json!({"time": "t", "missing": "drop"}), dropping),
    ]
}

const PLAIN: Writing = Writing {
    delimiter: ",",
    has_header: true,
    has_time: false,
    has_comma: false,
};

const WRITINGS: [Writing; 6] = [
    PLAIN,
    Writing {
        delimiter: ";",
        has_header: false,
        ..PLAIN
    },
    Writing {
        delimiter: "\t",
        ..PLAIN
    },
    Writing {
        delimiter: ";",
        has_comma: true,
        ..PLAIN
    },
    PLAIN,
    Writing {
        has_time: true,
        ..PLAIN
    },
];

/// Each of [`WRITINGS`] as both sides are told of it; the fifth has its rows with missing values left out.
fn texts() -> Vec<Form> {
    let mut forms = Vec::new();
    for (index, writing) in WRITINGS.iter().enumerate() {
        let dialect = json!({
            "delimiter": writing.delimiter,
            "header": writing.has_header,
            "decimal": if writing.has_comma { "," } else { "." },
            "thousands": writing.has_comma.then_some("."),
            "time": writing.has_time.then_some("t"),
        });
        let (mut parameters, mut question) = (dialect.clone(), dialect);
        question["drop"] = json!(index == 4);
        if index == 4 {
            parameters["missing"] = json!("drop");
        }
        forms.push(form(parameters, question));
    }
    forms
}

/// Set in the number of a form whose file was changed after it was written.
const DAMAGED: u8 = 0x80;

/// Fuzzes one format: an input is the number of a form and a file.
fn compare(
    format: &'static str,
    forms: &[Form],
    examples: Vec<Vec<u8>>,
    made: impl Fn(usize) -> BoxedStrategy<Vec<u8>>,
    words: &'static [&'static str],
) {
    let Some(peer) = Peer::new() else { return };
    let peer = RefCell::new(peer);
    let (accepted, compared) = (Cell::new(0_u64), Cell::new(0_u64));
    let inputs = proptest::strategy::Union::new((0..forms.len()).map(|form| {
        let form_number = form as u8;
        let begin = |number: u8| move |file: Vec<u8>| [&[number][..], &file].concat();
        let changed = mutate::mutated(examples.clone(), words);
        let changed = changed.prop_map(begin(form_number | DAMAGED));
        let whole = made(form).prop_map(begin(form_number));
        prop_oneof![1 => changed, 2 => whole]
    }));
    fuzz(&format!("peers-{format}"), inputs, |input| {
        let Some((number, bytes)) = input.split_first() else {
            return Ok(());
        };
        let is_damaged = number & DAMAGED != 0;
        let form = &forms[usize::from(number & !DAMAGED) % forms.len()];
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("f");
        std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
        let Some((series, notes)) = ingested(format, &form.parameters, &path) else {
            return Ok(());
        };
        accepted.set(accepted.get() + 1);
        let mut question = form.question.clone();
        question["format"] = json!(format);
        question["path"] = json!(path);
        let complaint = match peer.borrow_mut().read(&question) {
            Answer::Read(table) => difference(format, &series, &table),
            Answer::Refused { refused } => Some(format!("refused: {refused}")),
            Answer::GaveUp { .. } => return Ok(()),
        };
        compared.set(compared.get() + 1);
        let Some(complaint) = complaint else {
            return Ok(());
        };
        let case = Case {
            bytes,
            form,
            complaint: &complaint,
            notes: &notes,
            series: &series,
            is_damaged,
        };
        let known = EXCEPTIONS
            .iter()
            .find(|known| known.format == format && (known.holds)(&case));
        match known {
            Some(known) => {
                assert!(!known.why.is_empty());
                Ok(())
            }
            None => Err(format!("with {}: {complaint}", form.parameters)),
        }
    });
    println!(
        "peers-{format}: {} accepted, {} compared",
        accepted.get(),
        compared.get()
    );
    assert!(compared.get() > 0, "not one file was compared");
}

/// The file as `ingest` reads it, with its notes; `None` where it refuses it.
fn ingested(format: &str, parameters: &Value, path: &Path) -> Option<(Series, Vec<String>)> {
    let choice = DatasetChoice::new(format, parameters.clone()).expect("the forms are right");
    let files = NullHost {
        files: vec![("f".to_owned(), path.to_owned())],
    };
    let host = Noting {
        files: &files,
        notes: Mutex::default(),
    };
    let context = StageContext {
        host: &host,
        ..files.context(0)
    };
    let series = choice.read(&context).ok()?;
    Some((series, host.notes.into_inner().unwrap_or_default()))
}

/// A host that keeps the notes, and is like another in all else.
struct Noting<'a> {
    files: &'a NullHost,
    notes: Mutex<Vec<String>>,
}

impl Host for Noting<'_> {
    fn note(&self, text: &str) {
        if let Ok(mut notes) = self.notes.lock() {
            notes.push(text.to_owned());
        }
    }

    fn progress(&self, _: Progress) {}

    fn is_cancelled(&self) -> bool {
        false
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.files.file(name)
    }

    fn names_below(&self, folder: &str) -> Vec<String> {
        self.files.names_below(folder)
    }

    fn copy_file(&self, name: &str, target: &Path) -> Result<(), Trouble> {
        self.files.copy_file(name, target)
    }

    fn environment(&self, name: &str) -> Option<String> {
        self.files.environment(name)
    }

    fn scratch(&self) -> Result<&Path, Trouble> {
        self.files.scratch()
    }

    fn load_checkpoint(&self, _: &Digest, _: u64) -> Option<(u64, Vec<u8>)> {
        None
    }

    fn save_checkpoint(&self, _: &Digest, _: u64, _: &[u8], _: Option<u64>) -> Result<(), Trouble> {
        Ok(())
    }
}

/// The first thing in which a table is not the series.
fn difference(format: &str, series: &Series, table: &Table) -> Option<String> {
    // Blanks around a name stay here within quotes only, and there outside of them, too; the answer has none. Lines within
    // quotes end alike here, however the file ends its lines.
    let names = series.channels.iter().map(|name| name.trim().to_owned());
    let there = table.columns.iter().map(|name| name.replace("\r\n", "\n"));
    if !names.eq(there) {
        return Some(format!(
            "the columns are {:?} here, {:?} there",
            series.channels, table.columns
        ));
    }
    let rows = table.values.first().map_or(0, Vec::len);
    if series.rows() != rows {
        return Some(format!("{} rows here, {rows} there", series.rows()));
    }
    for (channel, column) in table.values.iter().enumerate() {
        for (row, bits) in column.iter().enumerate() {
            let there = f64::from_bits(*bits);
            let here = series.value(row, channel);
            // A channel without 64 bits of its own has the nearest value of 32.
            let is_wide = series.wide.contains_key(&channel);
            let there = if is_wide {
                there
            } else {
                f64::from(there as f32)
            };
            // pandas takes a column of `-0` for integers, which have one zero.
            let is_same = here.to_bits() == there.to_bits() || format == "csv" && here == there;
            // What is too small for 32 bits counts as nothing beside what is not.
            let is_tiny = there.abs() < f64::from(f32::MIN_POSITIVE);
            let is_same = is_same || is_tiny && here == f64::from(there as f32);
            if !is_same {
                let name = &series.channels[channel];
                return Some(format!(
                    "`{name}` in row {row} is {here:?} here, {there:?} there"
                ));
            }
        }
    }
    match &table.times {
        Some(times) if *times != series.times => {
            let mut pairs = series.times.iter().zip(times);
            let row = pairs.position(|(here, there)| here != there);
            let pair = row.map(|row| (series.times[row], times[row]));
            Some(format!("the times differ: {pair:?}"))
        }
        _ => None,
    }
}
