//! Delimited text of any kind: CSV, TSV, with or without a header, with a time column, a label column, gaps.
//! Files may be compressed by gzip. Fields may stand in quotes; with line breaks in them (RFC 4180).

use std::path::Path;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::Builder;
use super::columns::Selection;
use super::tabular::Sources;
use super::text::{Dialect, TextFile};
use super::times::{Clock, TimeFormat};
use super::{Dataset, Missing, OneOrMany, SplitPlan};
use contract::artifact::Series;
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Where the files are and how they are written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Csv {
    /// The file, or a list of files with the same columns; each is an entity.
    pub path: OneOrMany,
    /// A separate test part for each file of `path`.
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
    /// How the rows of `path` are split in order of time: 0.6/0.1/0.1/0.2 for train, validation, calibration and test,
    /// or 0.7/0.1/0.2 if there is a `test` part.
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
                format!("cannot be {decimal:?}: \".\" or \",\""),
            ));
        }
        if let Some(sign) = self.thousands {
            if !",.' _".contains(sign) {
                return Err(Fault::new(
                    "thousands",
                    format!("cannot be {sign:?}: \",\", \".\", \" \", \"'\" or \"_\""),
                ));
            }
            if sign == decimal {
                return Err(Fault::new("thousands", "is the decimal sign"));
            }
        }
        Ok(())
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            path: &self.path,
            test: self.test.as_ref(),
            test_labels: self.test_labels.as_ref(),
            split: self.split.as_ref(),
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
        self.clock()?;
        self.check_numbers()?;
        self.sources().check(self.label.is_some())
    }

    fn files(&self) -> Vec<FileRequest> {
        self.sources().files()
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
        let selection = Selection {
            time: self.time.as_ref().map(TimeColumn::column),
            label: self.label.as_deref(),
            columns: self.columns.as_deref(),
        };
        let labelled = self.label.is_some();
        let read = |file: &Path, builder: &mut Builder| {
            let text = TextFile::open(file, dialect.clone())?;
            super::read_table(&text, &selection, builder, file, context)
        };
        self.sources().read(self.missing, labelled, context, read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;
    use serde_json::{Value, json};

    fn read(text: &str, mut parameters: Value) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.csv");
        std::fs::write(&file, text).unwrap();
        parameters["path"] = json!("data.csv");
        let csv: Csv = serde_json::from_value(parameters).unwrap();
        csv.check().unwrap();
        csv.read(
            &NullHost {
                files: vec![("data.csv".to_owned(), file)],
            }
            .context(0),
        )
    }

    const WHOLE: &str = r#"{"train": 1.0}"#;

    fn whole() -> Value {
        serde_json::from_str(WHOLE).unwrap()
    }

    #[test]
    fn picks_time_label_and_columns() {
        let text = "when;a;b;skip me;bad\n2020-01-01;1;2;\"x;y\";0\n2020-01-02;3;4.5;z;1\n";
        let parameters = json!({"delimiter": ";", "time": "when", "label": "bad", "columns": ["b", "a"], "split": whole()});
        let series = read(text, parameters).unwrap();
        assert_eq!(series.channels, ["a", "b"]);
        assert_eq!(series.values, [1.0, 2.0, 3.0, 4.5]);
        assert_eq!(series.times, [1_577_836_800_000, 1_577_923_200_000]);
        assert_eq!(series.labels, [0, 1]);
        assert_eq!(series.segments[0].entity, "data");
    }

    #[test]
    fn missing_values_follow_the_rule() {
        let text = "a,b\n1,10\n,NA\n3,30\n";
        let with = |rule: &str| read(text, json!({"missing": rule, "split": whole()}));
        assert_eq!(
            with("ffill").unwrap().values,
            [1.0, 10.0, 1.0, 10.0, 3.0, 30.0]
        );
        assert_eq!(
            with("interpolate").unwrap().values,
            [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]
        );
        let dropped = with("drop").unwrap();
        assert_eq!(dropped.values, [1.0, 10.0, 3.0, 30.0]);
        assert_eq!(dropped.segments.len(), 2);
        let error = with("error").unwrap_err();
        assert_eq!(error.location().unwrap().line, Some(3));
        assert!(error.message().contains("column `a`"), "{error}");
    }

    #[test]
    fn complains_precisely() {
        let cases = [
            ("a,b\n1,2\n", json!({"label": "c"}), "no column `c`", None),
            ("a,a\n1,2\n", json!({}), "two columns are named `a`", None),
            ("a,b\n1,2\n1\n", json!({}), "1 fields where 2", Some(3)),
            (
                "a;b\n1;2\n",
                json!({"time": {"column": "a;b", "format": "seconds"}}),
                "no column is left",
                None,
            ),
            (
                "t,b\n5,2\n4,2\n",
                json!({"time": {"column": "t", "format": "seconds"}}),
                "goes back",
                Some(3),
            ),
            (
                "t,b\nx,2\n",
                json!({"time": "t"}),
                "`x` in column `t` is not a time",
                Some(2),
            ),
            (
                "a,b\n1,1e39\n",
                json!({}),
                "does not fit into 32 bits",
                Some(2),
            ),
            ("a,b\n1,0x1f\n", json!({}), "not a finite number", Some(2)),
            ("a,b\n", json!({}), "no rows", None),
            ("", json!({}), "no rows", None),
        ];
        for (text, mut parameters, message, line) in cases {
            parameters["split"] = whole();
            let error = read(text, parameters).unwrap_err();
            assert!(error.message().contains(message), "{error}");
            assert_eq!(error.location().unwrap().line, line, "{error}");
        }
    }

    #[test]
    fn blocks_do_not_show() {
        // Rows of very different length, so that block ends fall everywhere, and one longer than a block's overhang.
        let field = |row: usize| format!("{}.{}", row % 977, "5".repeat(1 + row % 23));
        let mut text: String = (0..30_000)
            .map(|row| format!("{},{}\n", field(row), field(row + 1)))
            .collect();
        text += &format!("{},{}\n", "1".repeat(20) + "." + &"2".repeat(9_000), 7);
        let series = read(&text, json!({"header": false, "split": whole()})).unwrap();
        let expected: Vec<f32> = text
            .split([',', '\n'])
            .filter(|field| !field.is_empty())
            .map(|field| field.parse::<f64>().unwrap() as f32)
            .collect();
        assert_eq!(series.values, expected);
        assert_eq!(series.channels, ["c0", "c1"]);
        // A fault far down has the right line.
        let error = read(
            &(text + "1,x\n"),
            json!({"header": false, "split": whole()}),
        )
        .unwrap_err();
        assert_eq!(error.location().unwrap().line, Some(30_002));
    }

    #[test]
    fn checks_parameters() {
        for (parameters, parameter) in [
            (json!({"path": []}), "path"),
            (json!({"path": "a", "delimiter": "e"}), "delimiter"),
            (json!({"path": ["a", "b"], "test": "c"}), "test"),
            (json!({"path": "a", "test_labels": "b"}), "test_labels"),
            (json!({"path": "a", "split": {"train": 0.5}}), "split"),
            (
                json!({"path": "a", "time": {"column": "t", "format": {"pattern": "%q"}}}),
                "time.format",
            ),
        ] {
            let fault = crate::readers::fault("csv", parameters).unwrap();
            assert_eq!(fault.parameter, parameter);
        }
    }
}
