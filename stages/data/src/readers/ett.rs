//! Electricity Transformer Temperature (Zhou et al., AAAI 2021): hourly and quarter-hourly tables with a date and seven
//! columns, split as the literature on forecasting does: 12, 4 and 4 months of 30 days.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::{Builder, Part};
use super::columns::Selection;
use super::text::{Dialect, TextFile};
use super::times::ISO;
use super::{Dataset, Missing, OneOrMany, SplitPlan};
use contract::artifact::{Series, Split};
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Which transformers are read and how they are split.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ett {
    /// ETTh1, ETTh2 (hourly), ETTm1 or ETTm2 (every 15 minutes), or a list of them.
    pub entity: OneOrMany,
    /// The columns to keep; all seven if left out. `OT`, the oil temperature, is the usual target.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// Fractions, rows or times, in order of time. Left out: 12 months to train, 4 to validate, 4 to test, the rest unused.
    #[serde(default)]
    pub split: Option<SplitPlan>,
}

const ENTITIES: [&str; 4] = ["ETTh1", "ETTh2", "ETTm1", "ETTm2"];

fn path(entity: &str) -> String {
    format!("ETT-small/{entity}.csv")
}

/// Twelve, four and four months of thirty days.
fn months(entity: &str) -> Vec<(Split, Range<usize>)> {
    let month = 30 * 24 * if entity.starts_with("ETTm") { 4 } else { 1 };
    vec![
        (Split::Train, 0..12 * month),
        (Split::Validation, 12 * month..16 * month),
        (Split::Test, 16 * month..20 * month),
    ]
}

impl Named for Ett {
    const NAME: &'static str = "ett";
    const DOC: &'static str =
        "Electricity Transformer Temperature: ETTh1, ETTh2, ETTm1, ETTm2; 12/4/4 months.";
    const EXAMPLE: &'static str = r#"{"entity": "ETTh1"}"#;
}

impl Dataset for Ett {
    fn check(&self) -> Result<(), Fault> {
        self.entity.check("entity")?;
        for entity in self.entity.iter() {
            if !ENTITIES.contains(&entity.as_str()) {
                let reason = format!("there is no `{entity}`, but {}", ENTITIES.join(", "));
                return Err(Fault::new("entity", reason));
            }
        }
        match &self.split {
            Some(split) => split.check(false, Some(&ISO)),
            None => Ok(()),
        }
    }

    fn files(&self) -> Vec<FileRequest> {
        let paths = self.entity.iter().map(|entity| path(entity));
        paths
            .map(|path| FileRequest::new(&path, &path).of_dataset("ett"))
            .collect()
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let selection = Selection {
            time: Some("date"),
            columns: self.columns.as_deref(),
            ..Selection::default()
        };
        let mut builder = Builder::new(Vec::new(), Missing::Error);
        for entity in self.entity.iter() {
            let file = context.file(&path(entity))?;
            let mut dialect = Dialect::plain(super::csv::unnamed);
            dialect.header = true;
            let text = TextFile::open(&file, dialect)?;
            let rows = super::read_table(&text, &selection, &mut builder, &file, context)?;
            let splits = match &self.split {
                Some(split) => {
                    let times = builder.columns.last_times(rows);
                    let parts = split.cut(rows, times, &ISO);
                    parts.map_err(|error| error.at(&file, None))?
                }
                None => months(entity),
            };
            let needed = splits.last().map_or(0, |(_, part)| part.end);
            if rows < needed {
                let message = format!("{rows} rows where 20 months have {needed}");
                let hint = "the file is cut short, or set `split` to what there is";
                return Err(Trouble::new(message).at(&file, None).hint(hint));
            }
            builder.close(Part::new(entity, &file, splits))?;
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;

    #[test]
    fn reads_the_real_files() {
        for (entity, step, rows) in [("ETTh1", 3_600_000, 14_400), ("ETTm1", 900_000, 57_600)] {
            let Some(file) = contract::testing::real_data(&path(entity)) else {
                return;
            };
            let ett: Ett = serde_json::from_value(serde_json::json!({"entity": entity})).unwrap();
            let series = ett
                .read(
                    &NullHost {
                        files: vec![(path(entity), file)],
                    }
                    .context(0),
                )
                .unwrap();
            assert_eq!(
                series.channels,
                ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
            );
            assert_eq!((series.rows(), series.segments.len()), (rows, 3));
            assert!(
                series
                    .times
                    .windows(2)
                    .all(|pair| pair[1] - pair[0] == step)
            );
            assert_eq!(series.times[0], 1_467_331_200_000);
            assert_eq!(series.row(0)[6], 30.531);
        }
    }

    #[test]
    fn names_the_entities() {
        let ett: Ett = serde_json::from_value(serde_json::json!({"entity": "ETTh3"})).unwrap();
        assert!(ett.check().unwrap_err().reason.contains("ETTh1, ETTh2"));
    }
}
