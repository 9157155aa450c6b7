//! What formats of whole tables have in common: which files, which columns, how they are split.
//! CSV, NumPy, Parquet and Arrow share it; a format adds only how one file is read.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Part};
use super::columns::Selection;
use super::entities::{Recording, recordings};
use super::long::{LongForm, LongTable};
use super::times::{Clock, ISO};
use super::{Missing, OneOrMany, SplitPlan};
use contract::artifact::{Series, Split};
use contract::{Fault, FileRequest, StageContext, Trouble};

/// Files that together make a series.
pub(super) struct Sources<'a> {
    pub path: &'a OneOrMany,
    pub test: Option<&'a OneOrMany>,
    pub test_labels: Option<&'a OneOrMany>,
    pub split: Option<&'a SplitPlan>,
    /// The endings of the files that are meant where a path is a folder, in small letters.
    pub endings: &'a [&'a str],
    /// How moments in `split` are read; nothing where rows have no times.
    pub clock: Option<&'a Clock>,
    pub long: Option<Long<'a>>,
    /// The array that holds the labels, in an archive of several.
    pub labels_array: Option<&'a str>,
}

/// The long form of files.
#[derive(Clone, Copy)]
pub(super) struct Long<'a> {
    pub form: &'a LongForm,
    pub time: Option<&'a str>,
    pub label: Option<&'a str>,
    /// The channels that were asked for.
    pub columns: Option<&'a [String]>,
    /// What the rest of a value is where none is kept, see [`super::columns::Columns::rests`].
    pub otherwise: i32,
}

impl<'a> Sources<'a> {
    /// Files whose rows have neither times nor labels.
    pub fn new(path: &'a OneOrMany, split: Option<&'a SplitPlan>) -> Self {
        Self {
            path,
            test: None,
            test_labels: None,
            split,
            endings: &[],
            clock: None,
            long: None,
            labels_array: None,
        }
    }

    pub fn plan(&self) -> SplitPlan {
        match (self.split, self.test) {
            (Some(plan), _) => plan.clone(),
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
            let are_counted = !self
                .path
                .iter()
                .chain(files.iter())
                .any(|path| may_mean_many(path));
            if found != needed && are_counted {
                let reason = format!("{found} files, but `path` has {needed}: one for each");
                return Err(Fault::new(name, reason));
            }
        }
        if self.test_labels.is_some() && (self.test.is_none() || own_label) {
            let reason = "goes with `test`, and with a table that has no label column (`label`)";
            return Err(Fault::new("test_labels", reason));
        }
        if let Some(long) = self.long {
            long.form
                .check(long.time, long.label, self.test_labels.is_some())?;
            let chosen = long.columns.unwrap_or_default();
            for (index, name) in chosen.iter().enumerate() {
                if chosen[..index].contains(name) {
                    return Err(Fault::new("columns", format!("`{name}` is listed twice")));
                }
            }
        }
        self.plan().check(self.test.is_some(), self.clock)
    }

    pub fn files(&self) -> Vec<FileRequest> {
        let mut requests = Vec::new();
        let lists = [
            (Some(self.path), self.endings),
            (self.test, self.endings),
            (self.test_labels, &[]),
        ];
        for (list, endings) in lists {
            for path in list.into_iter().flat_map(OneOrMany::iter) {
                requests.push(FileRequest::new(path, path).or_many().below(endings));
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
        mut read: impl FnMut(&Path, FilePart, &mut Builder) -> Result<usize, Trouble>,
    ) -> Result<Series, Trouble> {
        let recordings = recordings(self, context)?;
        let mut builder = Builder::new(Vec::new(), missing);
        if self.long.is_none() {
            let mut ahead = 0;
            for recording in &recordings {
                for file in [Some(&recording.file), recording.test.as_ref()]
                    .into_iter()
                    .flatten()
                {
                    ahead += file.metadata().map_or(0, |metadata| metadata.len());
                }
            }
            builder.columns.text_ahead = ahead;
        }
        let mut reading = Reading {
            sources: self,
            plan: self.plan(),
            missing,
            labelled,
            context,
            builder,
            things: Vec::new(),
        };
        for recording in &recordings {
            if let Some(long) = self.long {
                reading.long(long, recording, &mut read)?;
            } else {
                reading.wide(recording, &mut read)?;
            }
        }
        reading.builder.finish()
    }
}

/// Which part of the data a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilePart {
    Path,
    Test,
}

/// Whether a path may stand for several files: a pattern, or perhaps a folder.
fn may_mean_many(path: &str) -> bool {
    may_be_pattern(path) || Path::new(path).extension().is_none()
}

/// Whether a path has letters that stand for others.
pub(super) fn may_be_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The state of reading file after file.
struct Reading<'a> {
    sources: &'a Sources<'a>,
    plan: SplitPlan,
    missing: Missing,
    labelled: bool,
    context: &'a StageContext<'a>,
    builder: Builder,
    /// What the files before held, in the long form.
    things: Vec<String>,
}

impl Reading<'_> {
    /// A file with a column per channel, and its test part.
    fn wide(
        &mut self,
        recording: &Recording,
        read: &mut impl FnMut(&Path, FilePart, &mut Builder) -> Result<usize, Trouble>,
    ) -> Result<(), Trouble> {
        let rows = read(&recording.file, FilePart::Path, &mut self.builder)?;
        self.close_split(&recording.entity, &recording.file, rows)?;
        let Some(file) = &recording.test else {
            return Ok(());
        };
        let rows = read(file, FilePart::Test, &mut self.builder)?;
        if let Some(labels) = &recording.labels {
            self.builder.pad_labels();
            let array = self.sources.labels_array;
            let into = &mut self.builder.columns;
            super::read_labels(labels, array, file, rows, into, self.context)?;
        }
        let is_labelled = recording.labels.is_some();
        self.close_test(&recording.entity, file, rows, is_labelled)
    }

    /// A file in the long form, and its test part.
    fn long(
        &mut self,
        long: Long<'_>,
        recording: &Recording,
        read: &mut impl FnMut(&Path, FilePart, &mut Builder) -> Result<usize, Trouble>,
    ) -> Result<(), Trouble> {
        let parts = [
            (Some(&recording.file), FilePart::Path),
            (recording.test.as_ref(), FilePart::Test),
        ];
        for (file, part) in parts {
            let Some(file) = file else { continue };
            let mut table = Builder::new(Vec::new(), self.missing);
            read(file, part, &mut table)?;
            let table = LongTable {
                form: long.form,
                file,
                names: table.channels,
                columns: table.columns,
                missing: self.missing,
            };
            let channels = table.channels(long.columns, &self.builder.channels)?;
            self.builder.expect_channels(channels.clone(), file)?;
            for thing in table.entities(&channels)? {
                let entity = thing.name.as_ref().unwrap_or(&recording.entity).clone();
                if part == FilePart::Path {
                    self.add_thing(&entity, file)?;
                }
                let columns = &mut self.builder.columns;
                columns.any_missing = thing.values.iter().any(|value| value.is_nan());
                columns.extend(&thing.values, &thing.rests, long.otherwise);
                columns.times.extend(thing.times);
                columns.labels.extend(thing.labels);
                let closed = match part {
                    FilePart::Path => self.close_split(&entity, file, thing.rows),
                    FilePart::Test => self.close_test(&entity, file, thing.rows, false),
                };
                closed.map_err(|error| in_entity(error, &entity))?;
            }
        }
        Ok(())
    }

    fn add_thing(&mut self, entity: &str, file: &Path) -> Result<(), Trouble> {
        if self.things.iter().any(|known| known == entity) {
            let message = format!("`{entity}` has rows in the files before, too");
            let hint = "an entity is one stretch of time: write all its rows into one file";
            return Err(Trouble::new(message).at(file, None).hint(hint));
        }
        self.things.push(entity.to_owned());
        Ok(())
    }

    /// Cuts the rows that were read last.
    fn close_split(&mut self, entity: &str, file: &Path, rows: usize) -> Result<(), Trouble> {
        let clock = self.sources.clock.unwrap_or(&ISO);
        let times = self.builder.columns.last_times(rows);
        let splits = self.plan.cut(rows, times, clock);
        let splits = splits.map_err(|error| error.at(file, None))?;
        let used: usize = splits.iter().map(|(_, part)| part.len()).sum();
        if used < rows {
            let unused = rows - used;
            self.context.host.note(&format!(
                "{unused} of {rows} rows of `{entity}` are in no part of `split`"
            ));
        }
        let mut part = Part::new(entity, file, splits);
        part.labelled = self.labelled;
        self.builder.close(part)
    }

    /// Takes the rows that were read last for the test part.
    fn close_test(
        &mut self,
        entity: &str,
        file: &Path,
        rows: usize,
        is_labelled: bool,
    ) -> Result<(), Trouble> {
        let mut part = Part::new(entity, file, vec![(Split::Test, 0..rows)]);
        part.labelled = self.labelled || is_labelled;
        self.builder.close(part)
    }
}

/// Rows of an entity are counted within it, where a file holds several.
fn in_entity(error: Trouble, entity: &str) -> Trouble {
    let message = format!("in the entity `{entity}`, {}", error.message());
    let mut found = Trouble::new(message).maybe_hint(error.hint_text().map(str::to_owned));
    if let Some(location) = error.location() {
        found = found.at(&location.file, location.line);
    }
    found
}

/// Parameters of formats whose columns are named and typed in the file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypedTable {
    /// The file, a pattern such as `data/*.parquet`, a folder, or a list of these. All files have the same columns; each is an
    /// entity.
    pub path: OneOrMany,
    /// A separate test part for each file of `path`: by name where a pattern or a folder stands for several, or else in order.
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
    /// The columns of a table in the long form: a row per measurement, which names what it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongForm>,
    /// What to do about nulls and NaN.
    #[serde(default)]
    pub missing: Missing,
    /// How the rows of each entity are split in order of time: 0.6/0.1/0.1/0.2 for train, validation, calibration and test,
    /// or 0.7/0.1/0.2 if there is a `test` part. A part may also say `{rows: 4000}`, `{from: …}` or `{before: …}`, a row or a
    /// time, and `rest`.
    #[serde(default)]
    pub split: Option<SplitPlan>,
}

impl TypedTable {
    /// `endings` are those of the format.
    pub(super) fn sources<'a>(&'a self, endings: &'a [&'a str]) -> Sources<'a> {
        let long = |form: &'a LongForm| Long {
            form,
            time: self.time.as_deref(),
            label: self.label.as_deref(),
            columns: self.columns.as_deref(),
            otherwise: 0,
        };
        Sources {
            test: self.test.as_ref(),
            endings,
            clock: self.time.as_ref().map(|_| &ISO),
            long: self.long.as_ref().map(long),
            ..Sources::new(&self.path, self.split.as_ref())
        }
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        self.sources(&[]).check(self.label.is_some())
    }

    /// Reads all files; see [`Sources::read`].
    pub(super) fn read(
        &self,
        endings: &[&str],
        context: &StageContext<'_>,
        mut read: impl FnMut(&Path, &mut Builder) -> Result<usize, Trouble>,
    ) -> Result<Series, Trouble> {
        let labelled = self.label.is_some();
        let read = |file: &Path, _: FilePart, builder: &mut Builder| read(file, builder);
        let sources = self.sources(endings);
        sources.read(self.missing, labelled, context, read)
    }

    pub(super) fn selection(&self) -> Selection<'_> {
        let table = Selection {
            time: self.time.as_deref(),
            label: self.label.as_deref(),
            columns: self.columns.as_deref(),
            ..Selection::default()
        };
        match &self.long {
            Some(long) => long.selection(&table),
            None => table,
        }
    }
}
