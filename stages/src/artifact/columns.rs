//! Arrow columns in Parquet bytes, with the small JSON metadata that each artifact keeps in the file's footer.
//! Plain, uncompressed pages: artifacts are read back whole, and decoding must not cost more than the disk.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ArtifactError;

const FORMAT: &str = "runner.format";
const VERSION: &str = "1";

/// Key-value pairs in the Arrow schema; values are JSON.
pub(super) struct Metadata {
    what: &'static str,
    entries: HashMap<String, String>,
}

impl Metadata {
    pub fn new(what: &'static str) -> Self {
        let entries = HashMap::from([(FORMAT.to_owned(), format!("{what}/{VERSION}"))]);
        Self { what, entries }
    }

    pub fn with(mut self, name: &str, value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("metadata is plain data");
        self.entries.insert(format!("runner.{name}"), text);
        self
    }

    /// An entry that another tool looks for under this very name.
    pub fn with_foreign(mut self, name: &str, value: &serde_json::Value) -> Self {
        self.entries.insert(name.to_owned(), value.to_string());
        self
    }

    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, ArtifactError> {
        let text = self.entries.get(&format!("runner.{name}"));
        let text = text.ok_or_else(|| ArtifactError::corrupt(self.what, format!("no `{name}` in the footer")))?;
        serde_json::from_str(text).map_err(|error| ArtifactError::corrupt(self.what, format!("`{name}`: {error}")))
    }
}

/// The bytes of a Parquet file with these columns.
pub(super) fn write(
    schema: Schema,
    arrays: Vec<ArrayRef>,
    rows: usize,
    metadata: Metadata,
) -> Result<Vec<u8>, ArtifactError> {
    let schema = Arc::new(schema.with_metadata(metadata.entries));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options)?;
    let mut bytes = Vec::with_capacity(batch.get_array_memory_size() + 16 * 1024);
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties().build()))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

/// As [`write`], for columns that come in several pieces, none of which may be too large for its type.
pub(super) fn write_batches(
    schema: Schema,
    batches: Vec<Vec<ArrayRef>>,
    metadata: Metadata,
) -> Result<Vec<u8>, ArtifactError> {
    let schema = Arc::new(schema.with_metadata(metadata.entries));
    let size: usize = batches.iter().flatten().map(|array| array.get_array_memory_size()).sum();
    let mut bytes = Vec::with_capacity(size + 16 * 1024);
    let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties().build()))?;
    for arrays in batches {
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), arrays)?)?;
    }
    writer.close()?;
    Ok(bytes)
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_encoding(Encoding::PLAIN)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(None)
        .set_created_by("runner".to_owned())
}

/// Columns of text that say the same over and over are written as a dictionary.
fn properties_with_repeated_text(schema: &Schema) -> WriterProperties {
    let texts = schema.fields().iter().filter(|field| field.data_type() == &DataType::Utf8);
    let column = |field: &Arc<Field>| ColumnPath::new(vec![field.name().clone()]);
    texts.fold(properties(), |builder, field| builder.set_column_dictionary_enabled(column(field), true)).build()
}

/// Columns that are taken out of row-major values and encoded by one task: their values share cache lines.
const GROUP: usize = 4;
/// Groups that are encoded before they are written out. It bounds the memory beside values and file.
const WAVE: usize = 4;

/// As [`write`], with the columns of row-major `blocks`, all of one shape, after the leading ones. The columns are never
/// in memory all at once, and are encoded in parallel; the bytes do not depend on the number of threads.
pub(super) fn write_rows(
    schema: Schema,
    leading: Vec<ArrayRef>,
    blocks: &[&[f32]],
    metadata: Metadata,
) -> Result<Vec<u8>, ArtifactError> {
    let width = schema.fields().len() - leading.len();
    if width == 0 || blocks.iter().all(|values| values.is_empty()) {
        let empty = |_| -> ArrayRef { Arc::new(Float32Array::from(Vec::<f32>::new())) };
        let rows = leading.first().map_or(0, |array| array.len());
        let arrays = leading.into_iter().chain((0..width).map(empty)).collect();
        return write(schema, arrays, rows, metadata);
    }
    let schema = Arc::new(schema.with_metadata(metadata.entries));
    // Room for pages and footer: growing would double the memory. The label column is plain 32-bit integers in Parquet.
    let leading_size: usize = leading.iter().map(|array| array.len() * 8).sum();
    let size: usize = blocks.iter().map(|values| size_of_val(*values)).sum();
    let overhead = 64 * 1024 + 1024 * schema.fields().len() + size / 256;
    let mut bytes = Vec::with_capacity(size + leading_size + overhead);
    let writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties_with_repeated_text(&schema)))?;
    let (mut file, factory) = writer.into_serialized_writer()?;
    let mut writers = factory.create_column_writers(0)?;
    let channel_writers = writers.split_off(leading.len());
    let mut row_group = file.next_row_group()?;
    for ((writer, field), array) in writers.into_iter().zip(schema.fields()).zip(&leading) {
        encode(writer, field, array)?.append_to_row_group(&mut row_group)?;
    }
    let fields = &schema.fields()[leading.len()..];
    let block_width = width / blocks.len();
    let encode_group = |(block, first, writers): (usize, usize, Vec<ArrowColumnWriter>)| {
        let columns = gather(blocks[block], block_width, first, writers.len());
        let parts = writers.into_iter().zip(&fields[block * block_width + first..]).zip(columns);
        let chunk = |((writer, field), column): ((_, &Arc<Field>), Vec<f32>)| {
            encode(writer, field, &(Arc::new(Float32Array::from(column)) as ArrayRef))
        };
        parts.map(chunk).collect::<Result<Vec<_>, _>>()
    };
    let mut groups = Vec::new();
    let mut channel_writers = channel_writers.into_iter();
    for block in 0..blocks.len() {
        for first in (0..block_width).step_by(GROUP) {
            let count = GROUP.min(block_width - first);
            groups.push((block, first, channel_writers.by_ref().take(count).collect()));
        }
    }
    while !groups.is_empty() {
        let wave: Vec<_> = groups.drain(..groups.len().min(WAVE)).collect();
        let encoded = wave.into_par_iter().map(encode_group).collect::<Result<Vec<_>, _>>()?;
        for chunk in encoded.into_iter().flatten() {
            chunk.append_to_row_group(&mut row_group)?;
        }
    }
    row_group.close()?;
    file.close()?;
    Ok(bytes)
}

fn encode(mut writer: ArrowColumnWriter, field: &Field, array: &ArrayRef) -> Result<ArrowColumnChunk, ArtifactError> {
    for leaf in compute_leaves(field, array)? {
        writer.write(&leaf)?;
    }
    Ok(writer.close()?)
}

/// Copies `count` columns, from `first` on, out of row-major values.
fn gather(values: &[f32], width: usize, first: usize, count: usize) -> Vec<Vec<f32>> {
    let rows = values.len() / width;
    let mut columns: Vec<Vec<f32>> = (0..count).map(|_| vec![0.0; rows]).collect();
    // Blocks of rows keep the cache lines that neighbouring columns share.
    const BLOCK: usize = 256;
    for start in (0..rows).step_by(BLOCK) {
        let end = rows.min(start + BLOCK);
        for (offset, column) in columns.iter_mut().enumerate() {
            let source = values[start * width + first + offset..].iter().step_by(width);
            column[start..end].iter_mut().zip(source).for_each(|(value, source)| *value = *source);
        }
    }
    columns
}

/// All rows in one batch.
pub(super) fn read(bytes: Vec<u8>, what: &'static str) -> Result<(RecordBatch, Metadata), ArtifactError> {
    let (builder, metadata) = open(bytes, what)?;
    let schema = Arc::clone(builder.schema());
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let batches = builder.with_batch_size(rows.max(1)).build()?.collect::<Result<Vec<_>, _>>()?;
    let batch = match <[RecordBatch; 1]>::try_from(batches) {
        Ok([batch]) => batch,
        Err(batches) => concat_batches(&schema, &batches)?,
    };
    Ok((batch, metadata))
}

/// All rows in batches of at most so many.
pub(super) fn read_batches(
    bytes: Vec<u8>,
    what: &'static str,
    most: usize,
) -> Result<(Vec<RecordBatch>, Metadata), ArtifactError> {
    let (builder, metadata) = open(bytes, what)?;
    Ok((builder.with_batch_size(most).build()?.collect::<Result<_, _>>()?, metadata))
}

fn open(
    bytes: Vec<u8>,
    what: &'static str,
) -> Result<(ParquetRecordBatchReaderBuilder<bytes::Bytes>, Metadata), ArtifactError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?;
    let metadata = Metadata { what, entries: builder.schema().metadata().clone().into() };
    let format = metadata.entries.get(FORMAT).map(String::as_str);
    if format != Some(&format!("{what}/{VERSION}")) {
        return Err(ArtifactError::corrupt(what, format!("the footer says {format:?}")));
    }
    Ok((builder, metadata))
}

/// Splits row-major values into columns.
pub(super) fn to_columns(values: &[f32], width: usize) -> Vec<Vec<f32>> {
    (0..width)
        .into_par_iter()
        .map(|column| values.iter().skip(column).step_by(width.max(1)).copied().collect())
        .collect()
}

/// Gathers the float columns from `first` on into row-major values.
pub(super) fn to_rows(batch: &RecordBatch, first: usize, what: &'static str) -> Result<Vec<f32>, ArtifactError> {
    columns_to_rows(batch, first..batch.num_columns(), what)
}

/// Gathers these float columns into row-major values.
pub(super) fn columns_to_rows(
    batch: &RecordBatch,
    columns: Range<usize>,
    what: &'static str,
) -> Result<Vec<f32>, ArtifactError> {
    let columns = batch
        .columns()
        .get(columns)
        .ok_or_else(|| ArtifactError::corrupt(what, "a column is missing"))?
        .iter()
        .map(|array| array.as_any().downcast_ref::<Float32Array>().filter(|array| array.null_count() == 0))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| ArtifactError::corrupt(what, "a channel is not a column of 32-bit floats without nulls"))?;
    let width = columns.len();
    let mut values = vec![0.0; batch.num_rows() * width];
    // Blocks of rows keep both sides of the transposition in the cache.
    const BLOCK: usize = 256;
    values.par_chunks_mut((BLOCK * width).max(1)).enumerate().for_each(|(block, rows)| {
        for (column, array) in columns.iter().enumerate() {
            let source = &array.values()[block * BLOCK..];
            for (row, value) in rows.chunks_exact_mut(width).zip(source) {
                row[column] = *value;
            }
        }
    });
    Ok(values)
}
