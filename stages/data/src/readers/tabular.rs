//! What formats of whole tables have in common: which files, which columns, how they are split.
//! CSV, Parquet and Arrow share it; a format adds only how one file is read.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Part};
use super::columns::Selection;
use super::{Missing, OneOrMany, SplitPlan};
use contract::artifact::{Series, Split};
use contract::{Fault, FileRequest, StageContext, Trouble};

/// Files that together make a series.
pub(super) struct Sources<'a> {
    pub path: &'a OneOrMany,
    pub test: Option<&'a OneOrMany>,
    pub test_labels: Option<&'a OneOrMany>,
    pub split: Option<&'a SplitPlan>,
}

impl Sources<'_> {
    pub fn plan(&self) -> SplitPlan {
        match (self.split, self.test) {
            (Some(plan), _) => *plan,
            (None, Some(_)) => SplitPlan::of_training_part(),
            (None, None) => SplitPlan::of_whole(),
        }
    }

    pub fn check(&self, own_label: bool) -> Result<(), Fault> {
        self.path.check("path")?;
        for (name, files) in [("test", self.test), ("test_labels", self.test_labels)] {
            let Some(files) = files else { continue };
            files.check(name)?;
            let (found, needed) = (files.len(), self.path.len());
            if found != needed {
                let reason = format!("{found} files, but `path` has {needed}: one for each");
                return Err(Fault::new(name, reason));
            }
        }
        if self.test_labels.is_some() && (self.test.is_none() || own_label) {
            let reason = "goes with `test`, and with a table that has no label column (`label`)";
            return Err(Fault::new("test_labels", reason));
        }
        self.plan().check(self.test.is_some())
    }

    pub fn files(&self) -> Vec<FileRequest> {
        let mut requests = Vec::new();
        for list in [Some(self.path), self.test, self.test_labels] {
            for path in list.into_iter().flat_map(OneOrMany::iter) {
                requests.push(FileRequest::new(path, path));
            }
        }
        requests
    }

    /// Reads all files with `read`, which appends one file to the builder and returns its rows.
    pub fn read(
        &self,
        missing: Missing,
        labelled: bool,
        context: &StageContext<'_>,
        mut read: impl FnMut(&Path, &mut Builder) -> Result<usize, Trouble>,
    ) -> Result<Series, Trouble> {
        let plan = self.plan();
        let mut builder = Builder::new(Vec::new(), missing);
        let tests = self.test.into_iter().flat_map(OneOrMany::iter);
        builder.columns.text_ahead = super::bytes_of(self.path.iter().chain(tests), context);
        for (index, path) in self.path.iter().enumerate() {
            let file = context.file(path)?;
            let entity = entity(path);
            let rows = read(&file, &mut builder)?;
            let splits = plan.cut(rows).map_err(|error| error.at(&file, None))?;
            let mut part = Part::new(&entity, &file, splits);
            part.labelled = labelled;
            builder.close(part)?;
            let Some(test) = self.test.and_then(|test| test.iter().nth(index)) else {
                continue;
            };
            let file = context.file(test)?;
            let rows = read(&file, &mut builder)?;
            let labels = self.test_labels.and_then(|labels| labels.iter().nth(index));
            if let Some(labels) = labels {
                let labels = context.file(labels)?;
                builder.pad_labels();
                super::read_labels(&labels, &file, rows, &mut builder.columns, context)?;
            }
            let mut part = Part::new(&entity, &file, vec![(Split::Test, 0..rows)]);
            part.labelled = labelled || labels.is_some();
            builder.close(part)?;
        }
        builder.finish()
    }
}

/// A file's name without folder and ending.
pub(super) fn entity(path: &str) -> String {
    let stem = Path::new(path).file_stem();
    stem.unwrap_or(path.as_ref()).to_string_lossy().into_owned()
}

/// Parameters of formats whose columns are named and typed in the file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypedTable {
    /// The file, or a list of files with the same columns; each is an entity.
    pub path: OneOrMany,
    /// A separate test part for each file of `path`.
    #[serde(default)]
    pub test: Option<OneOrMany>,
    /// The column that holds the time: a timestamp, or an integer of milliseconds since 1970.
    #[serde(default)]
    pub time: Option<String>,
    /// The column that holds the label: 0 or 1, or a boolean.
    #[serde(default)]
    pub label: Option<String>,
    /// The columns to keep as channels; all others if left out.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// What to do about nulls and NaN.
    #[serde(default)]
    pub missing: Missing,
    /// How the rows of `path` are split in order of time: 0.6/0.1/0.1/0.2 for train, validation, calibration and test,
    /// or 0.7/0.1/0.2 if there is a `test` part.
    #[serde(default)]
    pub split: Option<SplitPlan>,
}

impl TypedTable {
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources {
            path: &self.path,
            test: self.test.as_ref(),
            test_labels: None,
            split: self.split.as_ref(),
        }
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        self.sources().check(self.label.is_some())
    }

    /// Reads all files; see [`Sources::read`].
    pub(super) fn read(
        &self,
        context: &StageContext<'_>,
        read: impl FnMut(&Path, &mut Builder) -> Result<usize, Trouble>,
    ) -> Result<Series, Trouble> {
        let labelled = self.label.is_some();
        self.sources().read(self.missing, labelled, context, read)
    }

    pub(super) fn selection(&self) -> Selection<'_> {
        Selection {
            time: self.time.as_deref(),
            label: self.label.as_deref(),
            columns: self.columns.as_deref(),
        }
    }
}
