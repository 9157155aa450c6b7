//! The long form: a row per measurement, with columns that say what it belongs to. `id` names the thing that is measured, each
//! of which becomes an entity; `variable` names what `value` is, each of which becomes a channel.
//!
//! ```text
//! pump,time,name,reading          pump-1   time,flow,heat
//! pump-1,10:00,flow,1.5    ───▶            10:00,1.5,20
//! pump-1,10:00,heat,20
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Missing;
use super::columns::{Columns, Selection};
use super::split_plan::written;
use contract::{Fault, Trouble};

/// The columns of the long form. `id`, `variable` or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LongForm {
    /// The column that says what a row belongs to: a machine, a sensor, a shop. Each is an entity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The column that says what was measured; each name is a channel. `columns` chooses among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// The column that holds the value of the variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// The rows of one thing, in order of time, as a table.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Entity {
    /// Nothing where all rows of the file belong to one thing.
    pub name: Option<String>,
    /// `[rows, channels]`, NaN where there is no value.
    pub values: Vec<f32>,
    /// See [`Columns::rests`].
    pub rests: Vec<i32>,
    pub times: Vec<i64>,
    pub labels: Vec<u8>,
    /// How many rows.
    pub rows: usize,
}

/// A file in the long form, and what is to become of it.
pub(super) struct LongTable<'a> {
    pub form: &'a LongForm,
    pub file: &'a Path,
    /// The columns of values, as the file has them.
    pub names: Vec<String>,
    pub columns: Columns,
    pub missing: Missing,
}

impl LongForm {
    /// What the schema cannot say, beside the other columns that parameters name.
    pub fn check(
        &self,
        time: Option<&str>,
        label: Option<&str>,
        has_labels: bool,
    ) -> Result<(), Fault> {
        let Self {
            id,
            variable,
            value,
        } = self;
        if id.is_none() && variable.is_none() {
            let reason = "names the column `id`, `variable`, or both; without them a table is not in the long form";
            return Err(Fault::new("long", reason));
        }
        if variable.is_some() != value.is_some() {
            let reason = "`variable` and `value` go together: a name and what it measured; without them every column that is left is a channel";
            return Err(Fault::new("long", reason));
        }
        if variable.is_some() && time.is_none() {
            let reason =
                "the values of one moment become a row: name the column of times with `time`";
            return Err(Fault::new("long.variable", reason));
        }
        if has_labels {
            let reason = "rows of the long form have no order that a file of labels could follow; use a column with `label`";
            return Err(Fault::new("test_labels", reason));
        }
        let all = [
            time,
            label,
            id.as_deref(),
            variable.as_deref(),
            value.as_deref(),
        ];
        let named: Vec<&str> = all.into_iter().flatten().collect();
        for (index, name) in named.iter().enumerate() {
            if named[..index].contains(name) {
                let reason = format!("the column `{name}` cannot be two things at once");
                return Err(Fault::new("long", reason));
            }
        }
        Ok(())
    }

    /// How the columns of a file are used.
    pub fn selection<'a>(&'a self, table: &Selection<'a>) -> Selection<'a> {
        Selection {
            id: self.id.as_deref(),
            variable: self.variable.as_deref(),
            columns: match &self.value {
                Some(value) => Some(std::slice::from_ref(value)),
                None => table.columns,
            },
            ..table.clone()
        }
    }
}

impl Entity {
    /// ` of pump-1 at 2024-01-01T10:00:00Z`, for messages.
    fn moment(&self, row: usize) -> String {
        let mut text = String::new();
        if let Some(name) = &self.name {
            text += &format!(" of `{name}`");
        }
        if let Some(time) = self.times.get(row) {
            text += &format!(" at {}", written(*time));
        }
        text
    }
}

impl LongTable<'_> {
    /// The channels: variables in the order in which they come first, those of `columns` where these are chosen, or the columns of
    /// values. `known` are those of the files before.
    pub fn channels(
        &self,
        chosen: Option<&[String]>,
        known: &[String],
    ) -> Result<Vec<String>, Trouble> {
        if self.form.variable.is_none() {
            return Ok(self.names.clone());
        }
        let (variables, rows) = (&self.columns.variables, self.columns.variables.by_word());
        let mut found = Vec::new();
        for (word, rows) in variables.words.iter().zip(&rows) {
            if !rows.is_empty() {
                found.push(word.clone());
            }
        }
        let wrong = |message: String, hint: String| {
            Err(Trouble::new(message).at(self.file, None).hint(hint))
        };
        if let Some(chosen) = chosen {
            for name in chosen {
                if !found.contains(name) && known.is_empty() {
                    return wrong(
                        format!("there is no variable `{name}`"),
                        format!("the variables are {}", super::columns::listed(&found)),
                    );
                }
            }
            return Ok(chosen.to_vec());
        }
        if known.is_empty() {
            return Ok(found);
        }
        if let Some(new) = found.iter().find(|name| !known.contains(name)) {
            return wrong(
                format!("the variable `{new}` is not one of the files before"),
                "all files of one series have the same variables; `columns` names those to keep"
                    .to_owned(),
            );
        }
        Ok(known.to_vec())
    }

    /// Each thing with its rows, in the order in which they come first in the file.
    ///
    /// # Errors
    /// If a value stands twice, or is missing where that is an error.
    pub fn entities(&self, channels: &[String]) -> Result<Vec<Entity>, Trouble> {
        let mut all = Vec::new();
        if self.form.id.is_none() {
            let rows = (0..self.rows()).collect();
            all.push(self.entity(None, rows, channels)?);
        } else {
            let words = &self.columns.ids.words;
            for (word, rows) in words.iter().zip(self.columns.ids.by_word()) {
                if !rows.is_empty() {
                    all.push(self.entity(Some(word), rows, channels)?);
                }
            }
        }
        all.retain(|entity| entity.rows > 0);
        if all.is_empty() {
            return Err(super::columns::empty(self.file));
        }
        Ok(all)
    }

    fn rows(&self) -> usize {
        self.columns.values.len() / self.names.len().max(1)
    }

    fn entity(
        &self,
        name: Option<&String>,
        mut rows: Vec<usize>,
        channels: &[String],
    ) -> Result<Entity, Trouble> {
        if !self.columns.times.is_empty() {
            // Rows of one moment stay in the order of the file.
            rows.sort_by_key(|row| self.columns.times[*row]);
        }
        let mut entity = Entity {
            name: name.cloned(),
            ..Entity::default()
        };
        if self.form.variable.is_some() {
            self.pivot(&mut entity, &rows, channels)?;
        } else {
            for row in rows {
                self.copy(&mut entity, row);
            }
        }
        if self.missing == Missing::Error
            && let Some(place) = entity.values.iter().position(|value| value.is_nan())
        {
            return Err(self.gap(&entity, place, channels));
        }
        Ok(entity)
    }

    /// Appends a row as it is.
    fn copy(&self, entity: &mut Entity, row: usize) {
        let width = self.names.len();
        let (columns, places) = (&self.columns, row * width..(row + 1) * width);
        entity
            .values
            .extend_from_slice(&columns.values[places.clone()]);
        entity
            .rests
            .extend(columns.rests.get(places).into_iter().flatten());
        entity.times.extend(columns.times.get(row));
        entity.labels.extend(columns.labels.get(row));
        entity.rows += 1;
    }

    /// Makes a row of the values of each moment.
    fn pivot(
        &self,
        entity: &mut Entity,
        rows: &[usize],
        channels: &[String],
    ) -> Result<(), Trouble> {
        let mut places = BTreeMap::new();
        for (place, channel) in channels.iter().enumerate() {
            places.insert(channel.as_str(), place);
        }
        let columns = &self.columns;
        let has_rests = !columns.rests.is_empty();
        // Where the value of each channel in the last row comes from.
        let mut sources: Vec<Option<usize>> = Vec::new();
        let mut first: Option<usize> = None;
        for &row in rows {
            let variable = columns.variables.rows[row] as usize;
            let Some(&place) = places.get(columns.variables.words[variable].as_str()) else {
                continue;
            };
            let is_same = first.is_some_and(|first| columns.times[first] == columns.times[row]);
            if !is_same {
                first = Some(row);
                sources = vec![None; channels.len()];
                entity
                    .values
                    .resize(entity.values.len() + channels.len(), f32::NAN);
                if has_rests {
                    entity.rests.resize(entity.values.len(), 0);
                }
                entity.times.push(columns.times[row]);
                entity.labels.extend(columns.labels.get(row));
                entity.rows += 1;
            }
            if let Some(other) = sources[place] {
                return Err(self.doubled(entity, &channels[place], [other, row]));
            }
            if let (Some(first), Some(label)) = (first, columns.labels.get(row))
                && columns.labels[first] != *label
            {
                return Err(self.two_labels(entity, [first, row]));
            }
            sources[place] = Some(row);
            let target = entity.values.len() - channels.len() + place;
            entity.values[target] = columns.values[row];
            if has_rests {
                entity.rests[target] = columns.rests[row];
            }
        }
        Ok(())
    }

    fn doubled(&self, entity: &Entity, channel: &str, rows: [usize; 2]) -> Trouble {
        let moment = entity.moment(entity.rows - 1);
        let [one, other] = rows.map(|row| row + 1);
        let message = format!("`{channel}`{moment} stands twice, in data rows {one} and {other}");
        Trouble::new(message).at(self.file, None).hint(
            "a variable has one value at a time: remove one, average them, or name what tells them apart with `id`",
        )
    }

    fn two_labels(&self, entity: &Entity, rows: [usize; 2]) -> Trouble {
        let moment = entity.moment(entity.rows - 1);
        let [one, other] = rows.map(|row| row + 1);
        let message = format!("the labels{moment} differ, in data rows {one} and {other}");
        Trouble::new(message)
            .at(self.file, None)
            .hint("all variables of a moment have one label")
    }

    fn gap(&self, entity: &Entity, place: usize, channels: &[String]) -> Trouble {
        let (row, channel) = (place / channels.len(), place % channels.len());
        let message = format!("`{}`{} has no value", channels[channel], entity.moment(row));
        let hint = "`missing: ffill`, `interpolate` or `drop` fills or drops such rows; leave a variable that is rarely measured out with `columns`";
        Trouble::new(message).at(self.file, None).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::readers::DatasetChoice;
    use contract::artifact::Series;
    use contract::{NullHost, Trouble};

    const READINGS: &str = "pump,t,what,v\n\
        b,2024-05-01,flow,1\nb,2024-05-01,heat,20\na,2024-05-02,flow,3\n\
        b,2024-05-02,heat,22\nb,2024-05-02,flow,2\na,2024-05-02,heat,40\n\
        a,2024-05-01,heat,30\na,2024-05-01,flow,9\n";

    fn read(text: &str, mut parameters: Value) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.csv");
        std::fs::write(&file, text).unwrap();
        parameters["path"] = json!("all.csv");
        if parameters.get("split").is_none() {
            parameters["split"] = json!({"train": 1});
        }
        let choice = DatasetChoice::new("csv", parameters)?;
        choice.check()?;
        let files = vec![("all.csv".to_owned(), file)];
        let series = choice.read(&NullHost { files }.context(0))?;
        series.validate().unwrap();
        Ok(series)
    }

    fn both() -> Value {
        json!({"time": "t", "long": {"id": "pump", "variable": "what", "value": "v"}})
    }

    fn entities(series: &Series) -> Vec<(&str, std::ops::Range<usize>)> {
        let segments = series.segments.iter();
        segments
            .map(|segment| (segment.entity.as_str(), segment.rows.clone()))
            .collect()
    }

    #[test]
    fn things_become_entities_and_variables_channels() {
        let series = read(READINGS, both()).unwrap();
        assert_eq!(series.channels, ["flow", "heat"]);
        assert_eq!(entities(&series), [("b", 0..2), ("a", 2..4)]);
        assert_eq!(series.values, [1.0, 20.0, 2.0, 22.0, 9.0, 30.0, 3.0, 40.0]);
        let day = 86_400_000;
        let first = 1_714_521_600_000;
        assert_eq!(series.times, [first, first + day, first, first + day]);
        // One variable of them, and each thing cut by itself.
        let mut one = both();
        one["columns"] = json!(["heat"]);
        one["split"] = json!({"train": {"before": "2024-05-02"}, "test": "rest"});
        let series = read(READINGS, one).unwrap();
        assert_eq!(series.values, [20.0, 22.0, 30.0, 40.0]);
        assert_eq!(
            entities(&series),
            [("b", 0..1), ("b", 1..2), ("a", 2..3), ("a", 3..4)]
        );
    }

    #[test]
    fn either_column_may_be_missing() {
        let text = "unique_id,ds,y,x\nk,1,5,0.5\nm,1,6,0.1\nk,2,7,0.25\nm,2,8,0.2\n";
        let time = json!({"column": "ds", "format": "seconds"});
        let wide = json!({"time": time, "long": {"id": "unique_id"}});
        let series = read(text, wide).unwrap();
        assert_eq!(series.channels, ["y", "x"]);
        assert_eq!(series.values, [5.0, 0.5, 7.0, 0.25, 6.0, 0.1, 8.0, 0.2]);
        assert_eq!(entities(&series), [("k", 0..2), ("m", 2..4)]);
        let no_time = json!({"columns": ["y"], "long": {"id": "unique_id"}});
        let series = read(text, no_time).unwrap();
        assert_eq!(
            (series.values, series.times.len()),
            (vec![5.0, 7.0, 6.0, 8.0], 0)
        );
        let text = "t,what,v\n2024-05-02,\"a \"\"b\"\"\",2\n2024-05-01,c,1\n2024-05-02,c,4\n2024-05-01,\"a \"\"b\"\"\",3\n";
        let melted = json!({"time": "t", "long": {"variable": "what", "value": "v"}});
        let series = read(text, melted).unwrap();
        assert_eq!(series.channels, ["a \"b\"", "c"]);
        assert_eq!(series.values, [3.0, 1.0, 2.0, 4.0]);
        assert_eq!(entities(&series), [("all", 0..2)]);
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let gap = READINGS.replace("b,2024-05-02,heat,22\n", "");
        let error = read(&gap, both()).unwrap_err();
        let expected = "`heat` of `b` at 2024-05-02T00:00:00Z has no value";
        assert_eq!(error.message(), expected);
        for (rule, values) in [
            ("ffill", vec![1.0, 20.0, 2.0, 20.0]),
            ("drop", vec![1.0, 20.0]),
        ] {
            let mut parameters = both();
            parameters["missing"] = json!(rule);
            let series = read(&gap, parameters).unwrap();
            assert_eq!(series.values[..values.len()], values);
        }
        // Nothing is filled from one thing into the next.
        let mut parameters = both();
        parameters["missing"] = json!("ffill");
        let head = READINGS.replace("a,2024-05-01,heat,30\n", "");
        let error = read(&head, parameters).unwrap_err();
        assert!(
            error.message().contains("entity `a`") && error.message().contains("`heat`"),
            "{error}"
        );
    }

    #[test]
    fn labels_and_exact_values_come_along() {
        let mut text = "pump,t,what,v,bad\n".to_owned();
        for row in 0..300_u64 {
            for (what, value) in [("count", 4_000_000_000 + row), ("load", row % 7)] {
                text += &format!("p,{row},{what},{value},{}\n", u8::from(row == 7));
            }
        }
        let mut parameters = both();
        parameters["time"] = json!({"column": "t", "format": "seconds"});
        parameters["label"] = json!("bad");
        let series = read(&text, parameters).unwrap();
        assert_eq!(series.channel(0)[299], 4_000_000_299.0);
        assert_eq!(series.labels.iter().position(|label| *label == 1), Some(7));
        let mut parameters = both();
        parameters["label"] = json!("bad");
        let text = "pump,t,what,v,bad\np,2024-05-01,a,1,0\np,2024-05-01,b,1,1\n";
        let error = read(text, parameters).unwrap_err();
        assert!(error.message().contains("data rows 1 and 2"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let doubled = format!("{READINGS}a,2024-05-02,flow,4\n");
        let error = read(&doubled, both()).unwrap_err();
        let expected = "`flow` of `a` at 2024-05-02T00:00:00Z stands twice, in data rows 3 and 9";
        assert_eq!(error.message(), expected);
        let error = read(
            &READINGS.replace("b,2024-05-02,flow", ",2024-05-02,flow"),
            both(),
        )
        .unwrap_err();
        assert_eq!(error.location().unwrap().line, Some(6));
        let mut other = both();
        other["columns"] = json!(["cold"]);
        let error = read(READINGS, other).unwrap_err();
        assert!(error.hint_text().unwrap().contains("flow, heat"), "{error}");
        for (long, more, parameter) in [
            (json!({}), json!({"time": "t"}), "long"),
            (json!({"value": "v"}), json!({"time": "t"}), "long"),
            (
                json!({"id": "a", "variable": "b"}),
                json!({"time": "t"}),
                "long",
            ),
            (
                json!({"variable": "b", "value": "c"}),
                json!({}),
                "long.variable",
            ),
            (json!({"id": "t"}), json!({"time": "t"}), "long"),
            (
                json!({"variable": "b", "value": "c"}),
                json!({"time": "t", "columns": ["flow", "heat", "flow"]}),
                "columns",
            ),
            (
                json!({"id": "a"}),
                json!({"test": "x", "test_labels": "y"}),
                "test_labels",
            ),
        ] {
            let mut parameters = more;
            parameters["path"] = json!("a.csv");
            parameters["long"] = long;
            let fault = crate::readers::fault("csv", parameters.clone()).unwrap();
            assert_eq!(fault.parameter, parameter, "{parameters}");
        }
    }

    #[test]
    fn threads_and_blocks_do_not_show() {
        let mut text = "id,t,v\n".to_owned();
        for row in 0..40_000 {
            text += &format!("m{},{},{}\n", row * 7 % 13, row / 13, row % 101);
        }
        let parameters =
            json!({"time": {"column": "t", "format": "seconds"}, "long": {"id": "id"}});
        let series = read(&text, parameters.clone()).unwrap();
        assert_eq!((series.segments.len(), series.rows()), (13, 40_000));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let alone = pool.install(|| read(&text, parameters).unwrap());
        assert_eq!(alone, series);
    }
}
