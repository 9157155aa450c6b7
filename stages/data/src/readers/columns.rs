//! Rows on their way from a file into a series: the columns that a reader fills, before they are cut into segments.
//! It knows no file format.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::keys::Keys;
use contract::Trouble;

/// The most columns of a file. A file of more is not a table of measurements, but was made to fill the memory.
pub(super) const MOST: usize = 100_000;

/// Refuses a file of too many columns.
pub(super) fn check_count(columns: usize, file: &Path) -> Result<(), Trouble> {
    if columns <= MOST {
        return Ok(());
    }
    let message = format!("{columns} columns, more than the {MOST} that a file can have");
    let hint = "is the file written as one long line, or transposed?";
    Err(Trouble::new(message).at(file, None).hint(hint))
}

/// What a reader has read so far. Reading another file appends to it, so that nothing is copied together afterwards.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// `[rows, width]`, row-major. NaN where a value is missing.
    pub values: Vec<f32>,
    /// What rounding to 32 bits took from each value, see [`super::precision`]; empty where nothing was rounded.
    pub rests: Vec<i32>,
    /// A time per row, or empty.
    pub times: Vec<i64>,
    /// A label per row, or empty.
    pub labels: Vec<u8>,
    /// What each row of the long form belongs to, or empty.
    pub ids: Keys,
    /// The variable that each row of the long form measures, or empty.
    pub variables: Keys,
    /// Whether any value is NaN.
    pub any_missing: bool,
    /// Bytes of all text files that are going to be read, so that memory is asked for once.
    pub text_ahead: u64,
}

/// How much of each column there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    values: usize,
    times: usize,
    labels: usize,
}

impl Columns {
    /// Appends values and their rests. Without rests, or before there were any, each is `otherwise`.
    pub fn extend(&mut self, values: &[f32], rests: &[i32], otherwise: i32) {
        if !rests.is_empty() || !self.rests.is_empty() {
            self.rests.resize(self.values.len(), otherwise);
            self.rests.extend_from_slice(rests);
            self.rests
                .resize(self.values.len() + values.len(), otherwise);
        }
        self.values.extend_from_slice(values);
    }

    /// How much was read so far.
    pub fn extent(&self) -> Extent {
        Extent {
            values: self.values.len(),
            times: self.times.len(),
            labels: self.labels.len(),
        }
    }

    /// Forgets what was read since.
    pub fn cut(&mut self, extent: Extent) {
        self.values.truncate(extent.values);
        self.rests.truncate(extent.values);
        self.times.truncate(extent.times);
        self.labels.truncate(extent.labels);
        // A file of the long form is read into columns of its own.
        self.ids.clear();
        self.variables.clear();
    }

    /// The times of the last rows; nothing where rows have no times.
    pub fn last_times(&self, rows: usize) -> &[i64] {
        &self.times[self.times.len().saturating_sub(rows)..]
    }

    /// Drops all rows from `rows` on.
    pub fn truncate(&mut self, rows: usize, width: usize) {
        self.values.truncate(rows * width);
        self.rests.truncate(rows * width);
        self.times.truncate(rows);
        self.labels.truncate(rows);
    }
}

/// One of the columns of a table, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Value,
    Time,
    Label,
    /// What the row belongs to, in the long form.
    Id,
    /// What the value of the row is, in the long form.
    Variable,
    Skip,
}

/// The use of each column of a table, chosen by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection<'a> {
    pub time: Option<&'a str>,
    pub label: Option<&'a str>,
    /// The columns to keep as channels; all others but time and label if absent.
    pub columns: Option<&'a [String]>,
    /// The columns of the long form that say what a row belongs to and what its value is.
    pub id: Option<&'a str>,
    pub variable: Option<&'a str>,
}

impl Selection<'_> {
    /// The role of each of these columns.
    ///
    /// # Errors
    /// If a name that was asked for is not there, or if two columns that are used have one name.
    pub fn roles(&self, names: &[String], file: &Path) -> Result<Vec<Role>, Trouble> {
        let mut asked = Vec::new();
        asked.extend(self.time);
        asked.extend(self.label);
        asked.extend(self.id);
        asked.extend(self.variable);
        asked.extend(self.columns.into_iter().flatten().map(String::as_str));
        for name in asked {
            if !names.iter().any(|known| known == name) {
                let message = format!("there is no column `{name}`");
                let hint = format!("the columns are {}", listed(names));
                return Err(Trouble::new(message).at(file, None).hint(hint));
            }
        }
        let roles: Vec<Role> = names.iter().map(|name| self.role(name)).collect();
        let mut seen = BTreeSet::new();
        for (name, role) in names.iter().zip(&roles) {
            if *role != Role::Skip && !seen.insert(name) {
                let message = format!("two columns are named `{name}`");
                let hint = "name each column once, or choose others with `columns`";
                return Err(Trouble::new(message).at(file, None).hint(hint));
            }
        }
        if roles.contains(&Role::Value) {
            Ok(roles)
        } else {
            Err(Trouble::new("no column is left to be a channel")
                .at(file, None)
                .hint("see `columns`"))
        }
    }

    fn role(&self, name: &String) -> Role {
        match self.columns {
            _ if self.time == Some(name) => Role::Time,
            _ if self.label == Some(name) => Role::Label,
            _ if self.id == Some(name) => Role::Id,
            _ if self.variable == Some(name) => Role::Variable,
            Some(columns) if !columns.contains(name) => Role::Skip,
            _ => Role::Value,
        }
    }
}

/// The first of some names, for messages.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 50;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 {
        format!("{shown} and {more} more")
    } else {
        shown
    }
}

/// The names of the columns that are channels.
pub(super) fn channels(names: &[String], roles: &[Role]) -> Vec<String> {
    let mut channels = Vec::new();
    for (name, role) in names.iter().zip(roles) {
        if *role == Role::Value {
            channels.push(name.clone());
        }
    }
    channels
}

/// A file that cannot be read.
pub(super) fn unreadable(file: &Path) -> impl Fn(std::io::Error) -> Trouble {
    let failed = Trouble::new("the file cannot be read");
    let failed = failed.at(file, None);
    move |error| failed.clone().because(error)
}

/// A file that was found to have no rows.
pub(super) fn empty(file: impl Into<PathBuf>) -> Trouble {
    Trouble::new("the file has no rows")
        .at(file, None)
        .hint("check that it was written or downloaded completely")
}

/// Fails unless two files of one entity have the same channels.
pub(super) fn same_channels(
    first: &[String],
    found: &[String],
    file: &Path,
) -> Result<(), Trouble> {
    if first == found {
        return Ok(());
    }
    let message = if first.len() == found.len() {
        let mut pairs = first.iter().zip(found);
        let index = pairs.position(|(one, other)| one != other).unwrap_or(0);
        format!(
            "channel {} is `{}` here and `{}` in the files before",
            index + 1,
            found[index],
            first[index]
        )
    } else {
        let (here, before) = (found.len(), first.len());
        format!("{here} channels here, {before} in the files before")
    };
    Err(Trouble::new(message)
        .at(file, None)
        .hint("all files of one series have the same columns in the same order"))
}
