//! Parquet tables, uncompressed or compressed with Snappy or Zstandard. Nested columns are not channels.

use std::path::Path;

use arrow::datatypes::Schema;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::Length;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::Builder;
use super::columns::{Role, Selection};
use super::tabular::TypedTable;
use super::{Dataset, batches, columns};
use contract::artifact::{Series, Source, check_page_sizes};
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Which files, and what their columns are for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Parquet(TypedTable);

/// How the names of such files end, in small letters.
const ENDINGS: [&str; 1] = [".parquet"];

impl Named for Parquet {
    const NAME: &'static str = "parquet";
    const DOC: &'static str =
        "Parquet tables: a column per channel, time and label columns, nulls as missing values.";
    const EXAMPLE: &'static str = r#"{"path": "data.parquet"}"#;
}

impl Dataset for Parquet {
    fn check(&self) -> Result<(), Fault> {
        self.0.check()
    }

    fn files(&self) -> Vec<FileRequest> {
        self.0.sources(&ENDINGS).files()
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let selection = self.0.selection();
        self.0.read(&ENDINGS, context, |path, builder| {
            let file = Source::open(path).map_err(columns::unreadable(path))?;
            if file.len() == 0 {
                return Err(columns::empty(path));
            }
            batches::guard(path, || append(file, &selection, builder, path, context))
        })
    }
}

/// Appends the columns of one file that are asked for.
fn append(
    file: Source,
    selection: &Selection<'_>,
    builder: &mut Builder,
    path: &Path,
    context: &StageContext<'_>,
) -> Result<usize, Trouble> {
    let (bytes, source) = (file.len(), file.clone());
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| batches::damaged(path, error))?;
    let names = batches::names(reader.schema(), path)?;
    let roles = selection.roles(&names, path)?;
    // What is not asked for need not be decoded.
    let (mut wanted, mut fields) = (Vec::new(), Vec::new());
    for (column, field) in reader.schema().fields().iter().enumerate() {
        if roles[column] != Role::Skip {
            wanted.push(column);
            fields.push(field.clone());
        }
    }
    let rows = reader.metadata().file_metadata().num_rows();
    let rows = u64::try_from(rows).unwrap_or(u64::MAX);
    check_rows(rows, wanted.len() as u64, bytes, path)?;
    let mask = ProjectionMask::roots(reader.parquet_schema(), wanted);
    let mut counted = 0;
    for group in reader.metadata().row_groups() {
        counted += group.num_rows();
        for (column, chunk) in group.columns().iter().enumerate() {
            if mask.leaf_included(column) {
                check_count(chunk, group.num_rows(), path)?;
                let checked = check_page_sizes(&source, chunk);
                checked.map_err(|reason| batches::damaged(path, reason))?;
            }
        }
    }
    if counted != reader.metadata().file_metadata().num_rows() {
        let all = reader.metadata().file_metadata().num_rows();
        let reason = format!("its parts have {counted} rows, the whole {all}");
        return Err(batches::damaged(path, reason));
    }
    // Words may be long, and a batch of them is decoded at once.
    let is_long = selection.id.is_some() || selection.variable.is_some();
    let batch = if is_long { 1024 } else { 8192 };
    let reader = reader.with_projection(mask).with_batch_size(batch).build();
    let reader = reader.map_err(|error| batches::damaged(path, error))?;
    let schema = Schema::new(fields);
    batches::append(&schema, reader, selection, builder, path, context)
}

/// Refuses a column without lists that has not one value, or its lack, for each row.
fn check_count(chunk: &ColumnChunkMetaData, rows: i64, path: &Path) -> Result<(), Trouble> {
    let values = chunk.num_values();
    if chunk.column_descr().max_rep_level() > 0 || values == rows {
        return Ok(());
    }
    let column = chunk.column_path();
    let reason = format!("column `{column}` has {values} values in a part of {rows} rows");
    Err(batches::damaged(path, reason))
}

/// Refuses a file that becomes very much larger in memory than it is: values that are all alike are written once.
fn check_rows(rows: u64, columns: u64, bytes: u64, path: &Path) -> Result<(), Trouble> {
    const FREE: u64 = 1 << 30;
    const RATIO: u64 = 10_000;
    let decoded = rows
        .saturating_mul(columns)
        .saturating_mul(size_of::<f32>() as u64);
    if decoded <= FREE.max(bytes.saturating_mul(RATIO)) {
        return Ok(());
    }
    let message = format!("a file of {bytes} bytes announces {rows} rows of {columns} columns");
    Err(Trouble::new(message)
        .at(path, None)
        .hint("it is damaged, or was made to fill the memory"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray,
        TimestampSecondArray,
    };
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;
    use serde_json::{Value, json};

    use super::*;
    use contract::NullHost;

    fn sample() -> Vec<(&'static str, ArrayRef)> {
        vec![
            (
                "when",
                Arc::new(TimestampSecondArray::from(vec![10, 20, 30])),
            ),
            (
                "a",
                Arc::new(Float64Array::from(vec![Some(1.5), None, Some(2.5)])),
            ),
            ("b", Arc::new(Int32Array::from(vec![1, 2, 3]))),
            ("note", Arc::new(StringArray::from(vec!["x", "y", "z"]))),
            (
                "bad",
                Arc::new(BooleanArray::from(vec![false, true, false])),
            ),
        ]
    }

    fn read(columns: Vec<(&str, ArrayRef)>, mut parameters: Value) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        parameters["path"] = json!("a.parquet");
        parameters["split"] = json!({"train": 1.0});
        let table: Parquet = serde_json::from_value(parameters).unwrap();
        table.check().unwrap();
        table.read(
            &NullHost {
                files: vec![("a.parquet".to_owned(), path)],
            }
            .context(0),
        )
    }

    #[test]
    fn reads_times_labels_and_channels() {
        let parameters = json!({"time": "when", "label": "bad", "columns": ["a", "b"], "missing": "interpolate"});
        let series = read(sample(), parameters).unwrap();
        assert_eq!(series.values, [1.5, 1.0, 2.0, 2.0, 2.5, 3.0]);
        assert_eq!(
            (series.times, series.labels),
            (vec![10_000, 20_000, 30_000], vec![0, 1, 0])
        );
    }

    /// A column of one value in one page of more than two MiB, which hardly takes room.
    fn constant(rows: usize, compression: Compression) -> Vec<u8> {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![0.5; rows]));
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(false)
            .set_data_page_size_limit(1 << 30)
            .set_write_batch_size(rows)
            .set_data_page_row_count_limit(rows)
            .set_max_row_group_row_count(None);
        let mut writer =
            ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, bytes).unwrap();
        let table = json!({"path": "a.parquet", "split": {"train": 1.0}});
        let table: Parquet = serde_json::from_value(table).unwrap();
        table.read(
            &NullHost {
                files: vec![("a.parquet".to_owned(), path)],
            }
            .context(0),
        )
    }

    #[test]
    fn what_compresses_very_well_is_read() {
        for compression in [Compression::ZSTD(ZstdLevel::default()), Compression::SNAPPY] {
            let rows = 3_000_000;
            let bytes = constant(rows, compression);
            assert!(
                bytes.len()
                    < if compression == Compression::SNAPPY {
                        2_000_000
                    } else {
                        10_000
                    },
                "{}",
                bytes.len()
            );
            let series = read_bytes(&bytes).unwrap();
            assert!(series.values.len() == rows && series.values.iter().all(|value| *value == 0.5));
        }
    }

    /// The length in the header of a page is one that its bytes cannot come to.
    #[test]
    fn a_page_that_announces_too_much_is_refused() {
        for compression in [Compression::ZSTD(ZstdLevel::default()), Compression::SNAPPY] {
            let mut bytes = constant(200_000, compression);
            // Behind the magic word and the type, a number of seven bits each.
            assert_eq!(
                (bytes[4..7].to_vec(), bytes[9] & 0x80, bytes[10] & 0x80),
                (vec![0x15, 0, 0x15], 0x80, 0)
            );
            bytes[7..11].copy_from_slice(&[0xfe, 0xff, 0xff, 0x7f]);
            let error = read_bytes(&bytes).unwrap_err();
            let causes = format!("{error:?}");
            assert!(
                error.message().contains("damaged") && causes.contains("that announces 134217727"),
                "{causes}"
            );
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let labels = || -> Vec<(&str, ArrayRef)> {
            vec![
                ("a", Arc::new(Int32Array::from(vec![1]))),
                ("bad", Arc::new(Int32Array::from(vec![3]))),
            ]
        };
        for (columns, parameters, message) in [
            (
                sample(),
                json!({"columns": ["a"]}),
                "`a` in data row 2 is missing",
            ),
            (
                sample(),
                json!({"missing": "drop"}),
                "column `when` holds Timestamp",
            ),
            (
                sample(),
                json!({"time": "note", "columns": ["b"]}),
                "`note` holds Utf8, not a time",
            ),
            (labels(), json!({"label": "bad"}), "is 3, neither 0 nor 1"),
        ] {
            let error = read(columns, parameters).unwrap_err();
            assert!(error.message().contains(message), "{error}");
        }
    }
}
