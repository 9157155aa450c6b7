//! Numbers separated by blanks, a row a line, as `numpy.savetxt` writes them.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::Builder;
use super::tabular::{FilePart, Sources};
use super::{Dataset, Missing, OneOrMany, SplitPlan};
use contract::artifact::Series;
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Where the numbers are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Savetxt {
    /// The file, a pattern, a folder, or a list of these; each file is an entity.
    pub path: OneOrMany,
    /// How the rows are split in order of time.
    #[serde(default)]
    pub split: Option<SplitPlan>,
}

impl Savetxt {
    fn sources(&self) -> Sources<'_> {
        Sources::new(&self.path, self.split.as_ref())
    }
}

impl Named for Savetxt {
    const NAME: &'static str = "savetxt";
    const DOC: &'static str =
        "Numbers separated by blanks, a row a line, as `numpy.savetxt` writes them.";
    const EXAMPLE: &'static str = r#"{"path": "data.txt"}"#;
}

impl Dataset for Savetxt {
    fn check(&self) -> Result<(), Fault> {
        self.sources().check(false)
    }

    fn files(&self) -> Vec<FileRequest> {
        self.sources().files()
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        self.sources().read(Missing::Error, false, context, append)
    }
}

/// Appends a file; returns its rows.
fn append(file: &Path, _: FilePart, builder: &mut Builder) -> Result<usize, Trouble> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Trouble::new("the file cannot be read")
            .at(file, None)
            .because(error)
    })?;
    let mut rows = 0;
    let mut width = None;
    for (index, line) in text.lines().enumerate() {
        let before = builder.columns.values.len();
        for word in line.split_whitespace() {
            let value: f32 = word.parse().map_err(|_| {
                Trouble::new(format!("`{word}` is not a number")).at(file, Some(index + 1))
            })?;
            builder.columns.values.push(value);
        }
        let found = builder.columns.values.len() - before;
        if found != *width.get_or_insert(found) {
            let message = format!("{found} numbers, unlike the lines before");
            return Err(Trouble::new(message).at(file, Some(index + 1)));
        }
        rows += 1;
    }
    let channels = (0..width.unwrap_or(0)).map(super::csv::unnamed).collect();
    builder.expect_channels(channels, file)?;
    Ok(rows)
}
