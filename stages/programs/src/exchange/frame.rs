//! A file of columns, or an array, that a program wrote: Parquet, Arrow IPC, CSV or NumPy's `.npy`, told apart by how the
//! name ends. It knows nothing of what the columns mean.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{csv, npy};
use contract::Trouble;
use contract::artifact::{Shown, guarded};

/// How names end of the files that can be read.
const ENDINGS: &str = "`.parquet`, `.arrow` (or `.feather`, `.ipc`), `.csv` and `.npy`";

/// What a file holds.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// As messages name it.
    pub path: PathBuf,
    pub content: Content,
}

/// Columns with names, or an array without any.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Columns(Vec<(String, ArrayRef)>),
    /// Row-major, whatever the file has.
    Array {
        shape: Vec<usize>,
        values: Vec<f64>,
    },
}

impl Frame {
    /// Reads the file at `place`, which messages call `path`.
    ///
    /// # Errors
    /// If it is of another form, or damaged.
    pub fn read(place: &Path, path: &Path) -> Result<Self, Trouble> {
        let path = path.to_owned();
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let content = match ending.to_lowercase().as_str() {
            "parquet" => columns(read_parquet(place), &path)?,
            "arrow" | "feather" | "ipc" => columns(read_arrow(place), &path)?,
            "csv" => Content::Columns(csv::read(place, &path)?),
            "npy" => npy::read(place, &path)?,
            _ => {
                let message = format!("`{}` has no ending that tells its form", path.display());
                return Err(Trouble::new(message).hint(format!("there are {ENDINGS}")));
            }
        };
        Ok(Self { path, content })
    }

    /// The number of rows: of an array, the length of its first axis.
    pub fn rows(&self) -> usize {
        match &self.content {
            Content::Columns(columns) => columns.first().map_or(0, |(_, column)| column.len()),
            Content::Array { shape, .. } => shape.first().copied().unwrap_or(1),
        }
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        let (_, column) = self.columns().iter().find(|(known, _)| known == name)?;
        Some(column)
    }

    /// The columns; an array has none.
    pub fn columns(&self) -> &[(String, ArrayRef)] {
        match &self.content {
            Content::Columns(columns) => columns,
            Content::Array { .. } => &[],
        }
    }

    /// A failure for which this file is to blame.
    pub fn wrong(&self, message: impl Into<String>) -> Trouble {
        Trouble::new(message).at(&self.path, None)
    }

    /// A failure in a row of this file. Text files have lines, the first of which is the header.
    pub fn wrong_at(&self, row: usize, message: impl Into<String>) -> Trouble {
        let is_text = self.path.extension().is_some_and(|ending| ending == "csv");
        Trouble::new(message).at(&self.path, is_text.then_some(row + 2))
    }

    /// The names of all columns, for a hint.
    pub fn names(&self) -> String {
        match &self.content {
            Content::Array { shape, .. } => format!("it is an array of shape {shape:?}"),
            Content::Columns(columns) => {
                const MOST: usize = 20;
                let shown = columns.iter().take(MOST);
                let shown: Vec<String> = shown
                    .map(|(name, _)| format!("`{}`", Shown(name)))
                    .collect();
                let more = if columns.len() > MOST { ", …" } else { "" };
                format!("its columns are {}{more}", shown.join(", "))
            }
        }
    }
}

type Batches = Result<Vec<RecordBatch>, ArrowError>;

fn read_parquet(place: &Path) -> Batches {
    let file = File::open(place).map_err(|error| ArrowError::IoError(error.to_string(), error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| ArrowError::ParquetError(error.to_string()))?;
    let empty = RecordBatch::new_empty(builder.schema().clone());
    let mut batches = vec![empty];
    for batch in builder
        .build()
        .map_err(|error| ArrowError::ParquetError(error.to_string()))?
    {
        batches.push(batch?);
    }
    Ok(batches)
}

/// Both forms of Arrow IPC: what pandas calls feather is the file, what is sent through pipes is the stream.
fn read_arrow(place: &Path) -> Batches {
    let open = || File::open(place).map_err(|error| ArrowError::IoError(error.to_string(), error));
    match FileReader::try_new(open()?, None) {
        Ok(reader) => {
            let mut batches = vec![RecordBatch::new_empty(reader.schema())];
            for batch in reader {
                batches.push(batch?);
            }
            Ok(batches)
        }
        Err(not_a_file) => {
            let Ok(reader) = StreamReader::try_new(open()?, None) else {
                return Err(not_a_file);
            };
            let mut batches = vec![RecordBatch::new_empty(reader.schema())];
            for batch in reader {
                batches.push(batch?);
            }
            Ok(batches)
        }
    }
}

/// The columns of all batches. What is damaged may make a reader panic.
fn columns(read: Batches, path: &Path) -> Result<Content, Trouble> {
    let unreadable = |reason: String| {
        let message = format!("`{}` cannot be read", path.display());
        Trouble::new(message).at(path, None).because(reason)
    };
    let batches = read.map_err(|error| unreadable(error.to_string()))?;
    let Some(first) = batches.first() else {
        return Ok(Content::Columns(Vec::new()));
    };
    let schema = first.schema();
    let joined = guarded(|| concat_batches(&schema, &batches));
    let batch = joined
        .map_err(unreadable)?
        .map_err(|error| unreadable(error.to_string()))?;
    let fields = schema.fields().iter();
    let names = fields.map(|field| field.name().clone());
    let columns = names.zip(batch.columns().iter().cloned());
    // pandas keeps its index as a column of this name.
    let is_data = |(name, _): &(String, ArrayRef)| name != "__index_level_0__";
    Ok(Content::Columns(columns.filter(is_data).collect()))
}
