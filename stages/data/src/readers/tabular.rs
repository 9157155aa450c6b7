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
            if files.len() != self.path.len() {
                let reason = format!(
                    "{} files, but `path` has {}: one for each",
                    files.len(),
                    self.path.len()
                );
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
        let lists = [Some(self.path), self.test, self.test_labels];
        lists
            .into_iter()
            .flatten()
            .flat_map(OneOrMany::iter)
            .map(|path| FileRequest::new(path, path))
            .collect()
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
        let texts = [Some(self.path), self.test]
            .into_iter()
            .flatten()
            .flat_map(OneOrMany::iter);
        builder.columns.text_ahead = super::bytes_of(texts, context);
        for (index, path) in self.path.iter().enumerate() {
            let file = context.file(path)?;
            let entity = entity(path);
            let rows = read(&file, &mut builder)?;
            let splits = plan.cut(rows).map_err(|error| error.at(&file, None))?;
            builder.close(Part {
                entity: &entity,
                file: &file,
                splits,
                labelled,
                class: None,
                line: None,
            })?;
            let Some(test) = self.test.and_then(|test| test.iter().nth(index)) else {
                continue;
            };
            let file = context.file(test)?;
            let rows = read(&file, &mut builder)?;
            let labels = self.test_labels.and_then(|labels| labels.iter().nth(index));
            if let Some(labels) = labels {
                builder.pad_labels();
                super::read_labels(
                    &context.file(labels)?,
                    &file,
                    rows,
                    &mut builder.columns,
                    context,
                )?;
            }
            let labelled = labelled || labels.is_some();
            builder.close(Part {
                entity: &entity,
                file: &file,
                splits: vec![(Split::Test, 0..rows)],
                labelled,
                class: None,
                line: None,
            })?;
        }
        builder.finish()
    }
}

/// A file's name without folder and ending.
pub(super) fn entity(path: &str) -> String {
    Path::new(path).file_stem().map_or_else(
        || path.to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
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

    pub(super) fn selection(&self) -> Selection<'_> {
        Selection {
            time: self.time.as_deref(),
            label: self.label.as_deref(),
            columns: self.columns.as_deref(),
        }
    }
}
