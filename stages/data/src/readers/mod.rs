//! Data sets and file formats: from raw files to a [`Series`]. An entry of the table is one file and one line here.
//! Where the raw files come from is the engine's business; a reader names them and gets paths.

mod batches;
mod builder;
mod columns;
mod entities;
mod fractions;
mod fresh;
mod head;
mod keys;
mod labels;
mod line;
mod long;
mod look;
mod missing;
mod npz;
mod number;
mod precision;
mod shares;
mod split_plan;
mod stratified;
mod tabular;
mod text;
mod times;

contract::entries! {
    /// All data sets and formats, in the order of the documentation.
    const ENTRIES: Entry<dyn Dataset>;
    mod smd: Smd;
    mod telemanom: Msl, Smap;
    mod ett: Ett;
    mod uea: Uea;
    mod csv: Csv;
    mod csv_classes: CsvClasses;
    mod npy: Npy;
    mod parquet: Parquet;
    mod arrow: Arrow;
}

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::columns::Selection;
use self::text::TextFile;
use contract::artifact::Series;
use contract::{Choice, Fault, FileRequest, StageContext, Table, Trouble};

pub use fresh::read_fresh;
use labels::read_labels;
pub use look::look;
pub use missing::Missing;
pub use shares::Shares;
pub use split_plan::SplitPlan;
pub use times::TimeFormat;

/// A data set or a file format: the files that its parameters ask for, and how these become a series.
pub trait Dataset: Send + Sync {
    /// What the schema of the parameters cannot say.
    ///
    /// # Errors
    /// The parameter at fault.
    fn check(&self) -> Result<(), Fault>;

    /// The raw files these parameters ask for.
    fn files(&self) -> Vec<FileRequest>;

    /// Reads the files.
    ///
    /// # Errors
    /// The first fault in the data, with file and line.
    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble>;
}

/// All data sets and formats, in the order of the documentation.
static DATASETS: Table<dyn Dataset> = Table::new("data set", &[ENTRIES]).tagged("dataset");

contract::tabled!(dyn Dataset in DATASETS);

/// A data set with its parameters, as a pipeline names it.
pub type DatasetChoice = Choice<dyn Dataset>;

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
    pub fn check(&self, parameter: &str) -> Result<(), Fault> {
        let names: Vec<&String> = self.iter().collect();
        if names.is_empty() {
            return Err(Fault::new(parameter, "an empty list: name at least one"));
        }
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(Fault::new(parameter, "an empty name"));
            }
            if names[..index].contains(name) {
                return Err(Fault::new(parameter, format!("`{name}` is listed twice")));
            }
        }
        Ok(())
    }
}

/// Bytes of these files together; what cannot be asked for counts as nothing.
fn bytes_of<'a>(names: impl Iterator<Item = &'a String>, context: &StageContext<'_>) -> u64 {
    let mut bytes = 0;
    for path in names.filter_map(|name| context.host.file(name)) {
        bytes += path.metadata().map_or(0, |metadata| metadata.len());
    }
    bytes
}

/// Reads all columns of `text` that `selection` names, and checks that the channels are those of the files before.
fn read_table(
    text: &TextFile<'_>,
    selection: &Selection<'_>,
    into: &mut builder::Builder,
    file: &Path,
    context: &StageContext<'_>,
) -> Result<usize, Trouble> {
    let roles = selection.roles(&text.names, file)?;
    into.expect_channels(columns::channels(&text.names, &roles), file)?;
    text.read_roles(&roles, &mut into.columns, context)
}

/// What is wrong with parameters, if anything.
#[cfg(test)]
fn fault(dataset: &str, parameters: serde_json::Value) -> Option<Fault> {
    match DatasetChoice::new(dataset, parameters) {
        Ok(choice) => choice.check().err(),
        Err(fault) => Some(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_works_with_its_example() {
        for dataset in DATASETS.examples() {
            assert_eq!(dataset.check(), Ok(()), "{dataset:?}");
            assert!(!dataset.files().is_empty(), "{dataset:?}");
        }
    }

    #[test]
    fn every_file_has_its_line_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/readers");
        contract::testing::assert_listed(&DATASETS, folder);
    }
}
