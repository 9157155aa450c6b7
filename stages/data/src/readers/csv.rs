//! Delimited text of any kind: CSV, TSV, with or without a header, with a time column, a label column, gaps.
//! Files may be compressed by gzip. Fields may stand in quotes; with line breaks in them (RFC 4180).

use std::path::Path;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::Builder;
use super::columns::Selection;
use super::long::LongForm;
use super::precision::SIX_DECIMALS;
use super::tabular::{FilePart, Long, Sources};
use super::text::{Dialect, TextFile};
use super::times::{Clock, ISO, TimeFormat};
use super::{Dataset, Missing, OneOrMany, SplitPlan};
use contract::artifact::Series;
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Where the files are and how they are written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Csv {
    /// The file, a pattern such as `data/*.csv`, a folder, or a list of these. All files have the same columns; each is an
    /// entity.
    pub path: OneOrMany,
    /// A separate test part for each file of `path`: by name where a pattern or a folder stands for several, or else in order.
    #[serde(default)]
    pub test: Option<OneOrMany>,
    /// The labels of each `test` file: a text file with 0 or 1 on each line.
    #[serde(default)]
    pub test_labels: Option<OneOrMany>,
    /// The character between fields; "\t" for TSV.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Whether the first line names the columns. Without a header they are c0, c1, ….
    #[serde(default = "yes")]
    pub header: bool,
    /// The column that holds the time, and how it is written.
    #[serde(default)]
    pub time: Option<TimeColumn>,
    /// The column that holds the label: 0 or 1.
    #[serde(default)]
    pub label: Option<String>,
    /// The columns to keep as channels; all but time and label if left out.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// What to do about empty fields, NaN, NA and null.
    #[serde(default)]
    pub missing: Missing,
    /// The sign before decimals, "." or ","; found out from the first rows if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimal: Option<char>,
    /// What stands between thousands, such as "," in 1,234.5; nothing by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thousands: Option<char>,
    /// Lines before the table. Comments that begin with # are skipped by themselves.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: usize,
    /// The columns of a table in the long form: a row per measurement, which names what it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongForm>,
    /// How the rows of each entity are split in order of time: 0.6/0.1/0.1/0.2 for train, validation, calibration and test,
    /// or 0.7/0.1/0.2 if there is a `test` part. A part may also say `{rows: 4000}`, `{from: …}` or `{before: …}`, a row or a
    /// time, and `rest`.
    #[serde(default)]
    pub split: Option<SplitPlan>,
}

/// The column that holds the time: its name, or its name and format.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TimeColumn {
    Name(String),
    WithFormat(TimeColumnFormat),
}

/// A time column whose format is not ISO 8601, or whose clock is that of a zone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeColumnFormat {
    pub column: String,
    #[serde(default)]
    pub format: TimeFormat,
    /// The zone of times without an offset, such as `Europe/Berlin`; UTC by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl TimeColumn {
    fn column(&self) -> &str {
        match self {
            Self::Name(column) | Self::WithFormat(TimeColumnFormat { column, .. }) => column,
        }
    }

    /// How its stamps are read.
    fn clock(&self) -> Result<Clock, Fault> {
        let Self::WithFormat(TimeColumnFormat { format, zone, .. }) = self else {
            return Ok(Clock::iso());
        };
        let wrong = |reason: String| Fault::new("time.format", reason);
        format.check().map_err(wrong)?;
        let zone = match zone {
            None => None,
            Some(name) => Some(TimeZone::get(name).map_err(|_| {
                let reason = format!("`{name}` is not a time zone, such as Europe/Berlin");
                Fault::new("time.zone", reason)
            })?),
        };
        Ok(Clock {
            format: format.clone(),
            zone,
        })
    }
}

/// How the names of files of delimited text end, in small letters.
pub(super) const ENDINGS: [&str; 6] = [".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz"];

pub(super) fn comma() -> char {
    ','
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

pub(super) fn yes() -> bool {
    true
}

/// Columns of a file without a header, counted from 0.
pub(super) fn unnamed(index: usize) -> String {
    format!("c{index}")
}

/// Refuses what cannot stand between numbers.
pub(super) fn check_delimiter(delimiter: char) -> Result<(), Fault> {
    if delimiter.is_ascii()
        && !delimiter.is_ascii_alphanumeric()
        && !"\"\n\r.+-".contains(delimiter)
    {
        return Ok(());
    }
    let reason = format!("{delimiter:?} cannot stand between numbers; try \",\", \";\" or \"\\t\"");
    Err(Fault::new("delimiter", reason))
}

impl Csv {
    fn clock(&self) -> Result<Clock, Fault> {
        self.time
            .as_ref()
            .map_or_else(|| Ok(Clock::iso()), TimeColumn::clock)
    }

    /// Signs within numbers are told apart from each other and from the delimiter.
    fn check_numbers(&self) -> Result<(), Fault> {
        let decimal = self.decimal.unwrap_or('.');
        if ![',', '.'].contains(&decimal) {
            return Err(Fault::new(
                "decimal",
                format!("{decimal:?} does not stand before decimals, but \".\" or \",\""),
            ));
        }
        if let Some(sign) = self.thousands {
            if !",.' _".contains(sign) {
                return Err(Fault::new(
                    "thousands",
                    format!(
                        "{sign:?} does not stand between thousands, but \",\", \".\", \" \", \"'\" or \"_\""
                    ),
                ));
            }
            if sign == decimal {
                return Err(Fault::new(
                    "thousands",
                    "this is the sign before decimals, too",
                ));
            }
        }
        Ok(())
    }

    fn sources<'a>(&'a self, clock: &'a Clock) -> Sources<'a> {
        let long = |form: &'a LongForm| Long {
            form,
            time: self.time.as_ref().map(TimeColumn::column),
            label: self.label.as_deref(),
            columns: self.columns.as_deref(),
            otherwise: SIX_DECIMALS,
        };
        Sources {
            test: self.test.as_ref(),
            test_labels: self.test_labels.as_ref(),
            endings: &ENDINGS,
            clock: self.time.as_ref().map(|_| clock),
            long: self.long.as_ref().map(long),
            ..Sources::new(&self.path, self.split.as_ref())
        }
    }

    /// What each column is for.
    fn selection(&self) -> Selection<'_> {
        let table = Selection {
            time: self.time.as_ref().map(TimeColumn::column),
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

impl Named for Csv {
    const NAME: &'static str = "csv";
    const DOC: &'static str = "Delimited text (CSV, TSV), also compressed by gzip: time column, label column, missing values.";
    const EXAMPLE: &'static str = r#"{"path": "data.csv"}"#;
}

impl Dataset for Csv {
    fn check(&self) -> Result<(), Fault> {
        check_delimiter(self.delimiter)?;
        let clock = self.clock()?;
        self.check_numbers()?;
        self.sources(&clock).check(self.label.is_some())
    }

    fn files(&self) -> Vec<FileRequest> {
        self.sources(&ISO).files()
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let clock = self
            .clock()
            .map_err(|fault| Trouble::new(fault.to_string()))?;
        let dialect = Dialect {
            delimiter: self.delimiter as u8,
            header: self.header,
            decimal: self.decimal.map(|sign| sign as u8),
            thousands: self.thousands.map(|sign| sign as u8),
            skip: self.skip,
            clock: &clock,
            allow_missing: self.missing != Missing::Error,
            ..Dialect::plain(unnamed)
        };
        let selection = self.selection();
        let labelled = self.label.is_some();
        let read = |file: &Path, _: FilePart, builder: &mut Builder| {
            let text = TextFile::open(file, dialect.clone())?;
            super::read_table(&text, &selection, builder, file, context)
        };
        let sources = self.sources(&clock);
        sources.read(self.missing, labelled, context, read)
    }
}

#[cfg(test)]
mod tests;
