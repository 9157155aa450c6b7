//! Rows on their way from a file into a series: the columns that a reader fills, before they are cut into segments.
//! It knows no file format.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use contract::Trouble;

/// The most columns of a file. Rows of more are no table of measurements, but a file that was made to fill the memory.
pub(super) const MOST: usize = 100_000;

/// Refuses a file of too many columns.
pub(super) fn check_count(columns: usize, file: &Path) -> Result<(), Trouble> {
    if columns <= MOST {
        return Ok(());
    }
    let hint = "is the file written as one long line, or transposed?";
    Err(Trouble::new(format!(
        "{columns} columns, more than the {MOST} that a file can have"
    ))
    .at(file, None)
    .hint(hint))
}

/// What a reader has read so far. Reading another file appends to it, so that nothing is copied together afterwards.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// `[rows, width]`, row-major. NaN where a value is missing.
    pub values: Vec<f32>,
    /// A time per row, or empty.
    pub times: Vec<i64>,
    /// A label per row, or empty.
    pub labels: Vec<u8>,
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
    /// How much was read so far.
    pub fn rows(&self) -> Extent {
        Extent {
            values: self.values.len(),
            times: self.times.len(),
            labels: self.labels.len(),
        }
    }

    /// Forgets what was read since.
    pub fn cut(&mut self, extent: Extent) {
        self.values.truncate(extent.values);
        self.times.truncate(extent.times);
        self.labels.truncate(extent.labels);
    }
}

/// One of the columns of a table, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Value,
    Time,
    Label,
    Skip,
}

/// The use of each column of a table, chosen by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection<'a> {
    pub time: Option<&'a str>,
    pub label: Option<&'a str>,
    /// The columns to keep as channels; all others but time and label if absent.
    pub columns: Option<&'a [String]>,
}

impl Selection<'_> {
    /// The role of each of these columns.
    ///
    /// # Errors
    /// If a name that was asked for is not there, or if two columns have one name.
    pub fn roles(&self, names: &[String], file: &Path) -> Result<Vec<Role>, Trouble> {
        let asked = self.time.iter().chain(&self.label).copied();
        for name in asked.chain(self.columns.unwrap_or_default().iter().map(String::as_str)) {
            if !names.iter().any(|known| known == name) {
                let hint = format!("the columns are {}", listed(names));
                return Err(Trouble::new(format!("there is no column `{name}`"))
                    .at(file, None)
                    .hint(hint));
            }
        }
        let role = |name: &String| match self.columns {
            _ if self.time == Some(name) => Role::Time,
            _ if self.label == Some(name) => Role::Label,
            Some(columns) if !columns.contains(name) => Role::Skip,
            _ => Role::Value,
        };
        let roles: Vec<Role> = names.iter().map(role).collect();
        let mut seen = BTreeSet::new();
        for (name, role) in names.iter().zip(&roles) {
            if *role != Role::Skip && !seen.insert(name) {
                return Err(Trouble::new(format!("two columns are named `{name}`"))
                    .at(file, None)
                    .hint("name each column once, or choose others with `columns`"));
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
}

/// The first of some names, for messages.
fn listed(names: &[String]) -> String {
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
    let channel = |(name, role): (&String, &Role)| (*role == Role::Value).then(|| name.clone());
    names.iter().zip(roles).filter_map(channel).collect()
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
        let (index, name) = found
            .iter()
            .enumerate()
            .find(|(index, name)| first[*index] != **name)
            .unwrap_or((0, &found[0]));
        format!(
            "channel {} is `{name}` here and `{}` in the files before",
            index + 1,
            first[index]
        )
    } else {
        format!(
            "{} channels here, {} in the files before",
            found.len(),
            first.len()
        )
    };
    Err(Trouble::new(message)
        .at(file, None)
        .hint("all files of one series have the same columns in the same order"))
}
