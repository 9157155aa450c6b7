//! Tables that belong to no pipeline: new data for a model that was trained before. Their columns must be the channels
//! that the model knows.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{DatasetChoice, number, text};
use contract::artifact::{Segment, Series, Split};
use contract::{NullHost, Trouble};

/// Reads files, each as one segment of the split `test`, with the channels in the order of `channels`. Columns are taken
/// by name; in a table without a header, or with as many columns of other names, by position.
///
/// # Errors
/// If a file cannot be read or has other columns.
pub fn read_fresh(files: &[PathBuf], channels: &[String]) -> Result<Series, Trouble> {
    let mut series = Series {
        channels: channels.to_vec(),
        values: Vec::new(),
        labels: Vec::new(),
        times: Vec::new(),
        segments: Vec::new(),
        ..Series::default()
    };
    for file in files {
        let table = read(file, channels)?;
        let places = places(&table.channels, channels, file)?;
        for row in 0..table.rows() {
            let row = table.row(row);
            series.values.extend(places.iter().map(|place| row[*place]));
        }
        keep_wide(&mut series, &table, &places);
        // The rows of a series are those of its segments: the new ones come behind them.
        let start = series.rows();
        let name = file.display().to_string();
        let segment = Segment::new(Split::Test, name, start..start + table.rows());
        series.segments.push(segment);
    }
    Ok(series)
}

/// Appends channels that are wide in the table or in what came before it.
fn keep_wide(series: &mut Series, table: &Series, places: &[usize]) {
    let before = series.rows();
    for (channel, place) in places.iter().enumerate() {
        if table.wide.contains_key(place) || series.wide.contains_key(&channel) {
            let mut values = series.channel(channel).into_owned();
            values.truncate(before);
            values.extend_from_slice(&table.channel(*place));
            series.wide.insert(channel, values);
        }
    }
}

/// The whole table of a file.
fn read(file: &Path, channels: &[String]) -> Result<Series, Trouble> {
    let name = file.to_string_lossy();
    let mut parameters = json!({"path": "input", "split": {"test": 1.0}});
    let mut ipc = [".arrow", ".feather", ".ipc"].iter();
    let dataset = if name.ends_with(".parquet") {
        "parquet"
    } else if ipc.any(|ending| name.ends_with(ending)) {
        "arrow"
    } else {
        let text = text::whole(file)?;
        let mut lines = text.trim_start_matches('\u{feff}').lines();
        let head = lines.next().unwrap_or_default();
        let mut delimiter = ',';
        for mark in ['\t', ';'] {
            if head.matches(mark).count() > head.matches(delimiter).count() {
                delimiter = mark;
            }
        }
        let fields = head.split(delimiter);
        let names: Vec<&str> = fields.map(|field| field.trim().trim_matches('"')).collect();
        parameters["delimiter"] = json!(delimiter);
        parameters["header"] = json!(!names.iter().all(|name| is_number(name)));
        // Columns that no model asked for, such as a time, need not be numbers.
        let mut wanted = channels.iter();
        if wanted.all(|channel| names.contains(&channel.as_str())) {
            parameters["columns"] = json!(channels);
        }
        "csv"
    };
    if dataset != "csv" {
        // Columns that no model asked for need not be numbers here either. Without all channels, their places decide.
        let mut named = parameters.clone();
        named["columns"] = json!(channels);
        if let Ok(series) = read_as(dataset, named, file) {
            return Ok(series);
        }
    }
    read_as(dataset, parameters, file)
}

fn read_as(dataset: &str, parameters: Value, file: &Path) -> Result<Series, Trouble> {
    let choice = DatasetChoice::new(dataset, parameters)?;
    let host = NullHost {
        files: vec![("input".to_owned(), file.to_owned())],
    };
    choice.read(&host.context(0))
}

fn is_number(field: &str) -> bool {
    number::parse(field.as_bytes(), 0).is_some_and(|(_, end)| end == field.len())
}

/// Where each channel stands among the columns of a file.
fn places(found: &[String], channels: &[String], file: &Path) -> Result<Vec<usize>, Trouble> {
    let mut places = Vec::with_capacity(channels.len());
    for channel in channels {
        places.extend(found.iter().position(|name| name == channel));
    }
    if places.len() == channels.len() {
        return Ok(places);
    }
    let any_known = channels.iter().any(|channel| found.contains(channel));
    if found.len() == channels.len() && !any_known {
        return Ok((0..channels.len()).collect());
    }
    let message = format!("the columns of the file are {}", found.join(", "));
    let hint = format!("the model was trained on {}", channels.join(", "));
    Err(Trouble::new(message).at(file, None).hint(hint))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn fresh(text: &str, channels: &[&str]) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new.csv");
        std::fs::write(&file, text).unwrap();
        let channels: Vec<String> = channels
            .iter()
            .map(|channel| (*channel).to_owned())
            .collect();
        read_fresh(&[file.clone(), file], &channels)
    }

    /// A Parquet file with texts in the first column.
    fn parquet_with_texts(names: [&str; 3]) -> Vec<u8> {
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec!["now", "later"])),
            Arc::new(Float64Array::from(vec![2.0, 4.0])),
            Arc::new(Float64Array::from(vec![1.0, 3.0])),
        ];
        let batch = RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    }

    #[test]
    fn columns_of_parquet_that_no_model_knows_need_not_be_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new.parquet");
        let channels = ["a".to_owned(), "b".to_owned()];
        std::fs::write(&file, parquet_with_texts(["when", "b", "a"])).unwrap();
        let series = read_fresh(std::slice::from_ref(&file), &channels).unwrap();
        assert_eq!(series.values, [1.0, 2.0, 3.0, 4.0]);
        std::fs::write(&file, parquet_with_texts(["when", "b", "c"])).unwrap();
        let error = read_fresh(&[file], &channels).unwrap_err();
        assert!(error.message().contains("`when`"), "{error}");
    }

    #[test]
    fn columns_are_found_by_name_and_else_by_position() {
        for (text, channels) in [
            ("time;b;a\nnow;2;1\nlater;4;3\n", &["a", "b"][..]),
            ("1,2\n3,4\n", &["a", "b"]),
            ("x,y\n1,2\n3,4\n", &["a", "b"]),
        ] {
            let series = fresh(text, channels).unwrap();
            series.validate().unwrap();
            assert_eq!(
                series.values,
                [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0],
                "{text}"
            );
            assert_eq!(
                (
                    series.channels.len(),
                    series.segments.len(),
                    series.segments[1].rows.clone()
                ),
                (2, 2, 2..4)
            );
        }
        let error = fresh("a,c\n1,2\n", &["a", "b"]).unwrap_err();
        assert!(
            error.message().contains("a, c") && error.hint_text().unwrap().contains("a, b"),
            "{error}"
        );
        assert!(fresh("1,2,3\n", &["a", "b"]).is_err() && fresh("a\nx\n", &["a"]).is_err());
    }
}
