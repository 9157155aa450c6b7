//! Data sets and file formats: from raw files to a [`Series`]. An entry of the table is one file and one line here.
//! Where the raw files come from is the engine's business; a reader names them and gets paths.

mod arrow;
mod batches;
mod builder;
mod columns;
mod csv;
mod csv_classes;
mod ett;
mod fractions;
mod fresh;
mod line;
mod missing;
mod npy;
mod number;
mod parquet;
mod smd;
mod split_plan;
mod stratified;
mod tabular;
mod telemanom;
mod text;
mod times;
mod uea;

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::columns::{Columns, Role, Selection};
use self::text::{Dialect, TextFile};
use contract::artifact::Series;
use contract::{Choice, Entry, FileRequest, Registry, StageContext, StageError};

pub use fresh::read_fresh;
pub use missing::Missing;
pub use split_plan::SplitPlan;
pub use times::TimeFormat;

/// A data set or a file format: parameters, the files they ask for, and how these become a series.
pub trait Dataset: DeserializeOwned + Serialize + JsonSchema + 'static {
    /// The name in YAML.
    const NAME: &'static str;
    /// One sentence for the catalogue.
    const DOC: &'static str;

    /// What the schema cannot say.
    ///
    /// # Errors
    /// The parameter at fault and a sentence about it.
    fn check(&self) -> Result<(), (String, String)>;

    /// The raw files these parameters ask for.
    fn files(&self) -> Vec<FileRequest>;

    /// Reads the files.
    ///
    /// # Errors
    /// The first fault in the data, with file and line.
    fn read(&self, context: &StageContext<'_>) -> Result<Series, StageError>;
}

/// The table of data sets.
pub struct Datasets;

/// The parameter at fault and a sentence about it, if any.
type Checked = Result<(), (String, String)>;

/// One line of the table, with its type erased.
struct Line {
    name: &'static str,
    entry: fn() -> Entry,
    check: fn(&Choice<Datasets>) -> Checked,
    files: fn(&Choice<Datasets>) -> Vec<FileRequest>,
    read: fn(&Choice<Datasets>, &StageContext<'_>) -> Result<Series, StageError>,
}

const fn line<D: Dataset>() -> Line {
    Line {
        name: D::NAME,
        entry: || Entry::new::<D>(D::NAME, D::DOC),
        check: |choice| parameters::<D>(choice).and_then(|dataset| dataset.check()),
        files: |choice| {
            parameters::<D>(choice)
                .map(|dataset| dataset.files())
                .unwrap_or_default()
        },
        read: |choice, context| match parameters::<D>(choice) {
            Ok(dataset) => dataset.read(context),
            Err((_, message)) => Err(StageError::new(message)),
        },
    }
}

fn parameters<D: Dataset>(choice: &Choice<Datasets>) -> Result<D, (String, String)> {
    choice
        .parameters()
        .map_err(|message| ("dataset".to_owned(), message))
}

/// All data sets and formats, in the order of the documentation.
const TABLE: &[Line] = &[
    line::<smd::Smd>(),
    line::<telemanom::Msl>(),
    line::<telemanom::Smap>(),
    line::<ett::Ett>(),
    line::<uea::Uea>(),
    line::<csv::Csv>(),
    line::<csv_classes::CsvClasses>(),
    line::<npy::Npy>(),
    line::<parquet::Parquet>(),
    line::<arrow::Arrow>(),
];

impl Registry for Datasets {
    const TAG: &'static str = "dataset";
    const WHAT: &'static str = "data set";

    fn entries() -> Vec<Entry> {
        TABLE.iter().map(|line| (line.entry)()).collect()
    }
}

fn entry_of(choice: &Choice<Datasets>) -> Result<&'static Line, (String, String)> {
    let found = TABLE.iter().find(|line| line.name == choice.name());
    found.ok_or_else(|| {
        (
            "dataset".to_owned(),
            format!("unknown data set `{}`", choice.name()),
        )
    })
}

/// What is wrong with the parameters of this data set, beyond their types.
///
/// # Errors
/// The parameter at fault and a sentence about it.
pub fn check(choice: &Choice<Datasets>) -> Result<(), (String, String)> {
    (entry_of(choice)?.check)(choice)
}

/// The raw files that this data set needs.
pub fn files(choice: &Choice<Datasets>) -> Vec<FileRequest> {
    entry_of(choice)
        .map(|line| (line.files)(choice))
        .unwrap_or_default()
}

/// Reads a data set.
///
/// # Errors
/// The first fault in the data, with file and line.
pub fn read(choice: &Choice<Datasets>, context: &StageContext<'_>) -> Result<Series, StageError> {
    let line = entry_of(choice).map_err(|(_, message)| StageError::new(message))?;
    (line.read)(choice, context)
}

/// One name or a list of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            Self::One(one) => std::slice::from_ref(one).iter(),
            Self::Many(many) => many.iter(),
        }
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses an empty list, empty names and names that come twice.
    pub fn check(&self, parameter: &str) -> Result<(), (String, String)> {
        let names: Vec<&String> = self.iter().collect();
        let fault = match names
            .iter()
            .enumerate()
            .find(|(index, name)| names[..*index].contains(name))
        {
            Some((_, name)) => format!("`{name}` is listed twice"),
            None if names.is_empty() => "an empty list: name at least one".to_owned(),
            None if names.iter().any(|name| name.is_empty()) => "an empty name".to_owned(),
            None => return Ok(()),
        };
        Err((parameter.to_owned(), fault))
    }
}

/// Appends a file of labels, one a line or an `.npy` array, and checks it against the rows it speaks of.
fn read_labels(
    file: &Path,
    data: &Path,
    rows: usize,
    into: &mut Columns,
    context: &StageContext<'_>,
) -> Result<(), StageError> {
    if npy::NpyFile::is_one(file) {
        return npy_labels(file, data, rows, into);
    }
    let time_format = &TimeFormat::Iso;
    let name = |_: usize| "label".to_owned();
    let dialect = Dialect {
        delimiter: b',',
        header: false,
        name,
        time_format,
        allow_missing: false,
    };
    let text = TextFile::open(file, dialect)?;
    if text.names.len() != 1 {
        let message = format!("{} columns in a file of labels", text.names.len());
        return Err(StageError::new(message)
            .at(file, Some(1))
            .hint("it holds one label a line: 0 or 1"));
    }
    let found = text.read_roles(&[Role::Label], into, context)?;
    same_rows(found, rows, file, data)
}

/// Appends an array of zeros and ones to the labels.
fn npy_labels(file: &Path, data: &Path, rows: usize, into: &mut Columns) -> Result<(), StageError> {
    let array = npy::NpyFile::open(file)?;
    if array.width != 1 {
        let message = format!("{} columns in an array of labels", array.width);
        return Err(StageError::new(message)
            .at(file, None)
            .hint("its shape is [rows]"));
    }
    let mut labels = Columns::default();
    let found = array.read(&mut labels)?;
    if let Some((row, value)) = labels
        .values
        .iter()
        .enumerate()
        .find(|(_, value)| **value != 0.0 && **value != 1.0)
    {
        let message =
            format!("the label in row {row} (counted from 0) is {value}, neither 0 nor 1");
        return Err(StageError::new(message)
            .at(file, None)
            .hint("1 marks an anomalous row, 0 a normal one"));
    }
    into.labels
        .extend(labels.values.iter().map(|value| *value as u8));
    same_rows(found, rows, file, data)
}

/// Fails unless there is a label for every row.
fn same_rows(labels: usize, rows: usize, file: &Path, data: &Path) -> Result<(), StageError> {
    if labels == rows {
        return Ok(());
    }
    let hint = format!(
        "the rows are those of {}; both files belong to the same version of the data",
        data.display()
    );
    Err(StageError::new(format!("{labels} labels for {rows} rows"))
        .at(file, None)
        .hint(hint))
}

/// Bytes of these files together; what cannot be asked for counts as nothing.
fn bytes_of<'a>(names: impl Iterator<Item = &'a String>, context: &StageContext<'_>) -> u64 {
    let paths = names.filter_map(|name| context.host.file(name));
    paths
        .filter_map(|path| path.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Reads all columns of `text` that `selection` names, and checks that the channels are those of the files before.
fn read_table(
    text: &TextFile<'_>,
    selection: &Selection<'_>,
    into: &mut builder::Builder,
    file: &Path,
    context: &StageContext<'_>,
) -> Result<usize, StageError> {
    let roles = selection.roles(&text.names, file)?;
    into.expect_channels(columns::channels(&text.names, &roles), file)?;
    text.read_roles(&roles, &mut into.columns, context)
}
