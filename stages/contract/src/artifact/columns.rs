//! Arrow columns in Parquet bytes, with the small JSON metadata that each artifact keeps in the file's footer.
//! Plain, uncompressed pages: artifacts are read back whole, and decoding must not cost more than the disk. So what a
//! footer announces can be held against the bytes that are there before anything is made room for.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float32Array, Float64Array, RecordBatch, RecordBatchOptions, StringViewArray,
};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::PageReader;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::reader::Length;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ArtifactError, Source};

const FORMAT: &str = "runner.format";

/// The layout in which a kind is written today. Older ones are read as well.
fn newest_layout(what: &str) -> u32 {
    match what {
        // 2: times are timestamps; entity, split and time are columns.
        "series" | "scores" | "forecasts" | "predictions" => 2,
        _ => 1,
    }
}

/// A real number in the metadata: JSON has no word for what is not finite, so that is written as its bits.
pub(super) struct Real(pub f64);

impl Serialize for Real {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            return serializer.serialize_f64(self.0);
        }
        serializer.serialize_str(&format!("{:016x}", self.0.to_bits()))
    }
}

impl<'a> Deserialize<'a> for Real {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Bits(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(value) => Ok(Self(value)),
            Written::Bits(text) => {
                let bits = u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
                Ok(Self(f64::from_bits(bits)))
            }
        }
    }
}

/// Key-value pairs in the Arrow schema; values are JSON.
pub(super) struct Metadata {
    what: &'static str,
    /// Of the columns, as the footer numbers it.
    layout: u32,
    entries: HashMap<String, String>,
}

impl Metadata {
    pub fn new(what: &'static str) -> Self {
        let layout = newest_layout(what);
        let entries = HashMap::from([(FORMAT.to_owned(), format!("{what}/{layout}"))]);
        Self {
            what,
            layout,
            entries,
        }
    }

    /// Whether the columns are laid out as in files from before `layout`.
    pub fn is_before(&self, layout: u32) -> bool {
        self.layout < layout
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
        let text = text.ok_or_else(|| {
            ArtifactError::corrupt(self.what, format!("no `{name}` in the footer"))
        })?;
        serde_json::from_str(text)
            .map_err(|error| ArtifactError::corrupt(self.what, format!("`{name}`: {error}")))
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
    write_batch(&batch, &mut bytes)?;
    Ok(bytes)
}

fn write_batch(batch: &RecordBatch, sink: &mut (dyn Write + Send)) -> Result<(), ArtifactError> {
    let mut writer = ArrowWriter::try_new(sink, batch.schema(), Some(properties().build()))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(())
}

/// Writes a Parquet file of columns that come in several pieces, none of which may be too large for its type. Each piece
/// is a row group, and only one is in memory at a time.
pub(super) fn write_batches(
    schema: Schema,
    batches: impl Iterator<Item = Vec<ArrayRef>>,
    metadata: Metadata,
    sink: &mut (dyn Write + Send),
) -> Result<(), ArtifactError> {
    let schema = Arc::new(schema.with_metadata(metadata.entries));
    let mut writer = ArrowWriter::try_new(sink, Arc::clone(&schema), Some(properties().build()))?;
    for arrays in batches {
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), arrays)?)?;
        writer.flush()?;
    }
    writer.close()?;
    Ok(())
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
    let texts = schema
        .fields()
        .iter()
        .filter(|field| field.data_type() == &DataType::Utf8);
    let column = |field: &Arc<Field>| ColumnPath::new(vec![field.name().clone()]);
    texts
        .fold(properties(), |builder, field| {
            builder.set_column_dictionary_enabled(column(field), true)
        })
        .build()
}

/// Values that are encoded, or decoded, at a time where rows become columns, or columns rows. It bounds the memory beside
/// the values, and what is copied stays in the cache.
const VALUES_AT_ONCE: usize = 512 * 1024;
/// Fewer rows in a row group would make the file's footer long.
const LEAST_ROWS: usize = 1024;
/// Columns that are taken out of row-major values and encoded by one task: their values share cache lines.
const GROUP: usize = 4;

/// What becomes columns of floats.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Row-major, all of one shape.
    pub blocks: &'a [&'a [f32]],
    /// Columns that are written in 64 bits, by their index behind the leading ones.
    pub wide: &'a BTreeMap<usize, Vec<f64>>,
}

impl<'a> Rows<'a> {
    /// Columns of 32 bits.
    pub fn narrow(blocks: &'a [&'a [f32]]) -> Self {
        static NONE: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        let wide = &NONE;
        Self { blocks, wide }
    }
}

/// Writes a Parquet file with the columns of `rows` after the leading ones. Neither the
/// columns nor the file are ever in memory as a whole. Columns are encoded in parallel; the bytes do not depend on the
/// number of threads.
pub(super) fn write_rows(
    schema: Schema,
    leading: Vec<ArrayRef>,
    rows: Rows<'_>,
    metadata: Metadata,
    sink: &mut (dyn Write + Send),
) -> Result<(), ArtifactError> {
    let Rows { blocks, wide } = rows;
    let width = schema.fields().len() - leading.len();
    let schema = Arc::new(schema.with_metadata(metadata.entries));
    let writer = ArrowWriter::try_new(
        sink,
        Arc::clone(&schema),
        Some(properties_with_repeated_text(&schema)),
    )?;
    let (mut file, factory) = writer.into_serialized_writer()?;
    let block_width = width / blocks.len();
    let rows = match leading.first() {
        Some(array) => array.len(),
        None => blocks[0].len() / block_width.max(1),
    };
    let rows_at_once = (VALUES_AT_ONCE / width.max(1)).max(LEAST_ROWS);
    for (index, first) in (0..rows).step_by(rows_at_once).enumerate() {
        let count = rows_at_once.min(rows - first);
        let leading: Vec<ArrayRef> = leading
            .iter()
            .map(|array| array.slice(first, count))
            .collect();
        let stretch = first * block_width..(first + count) * block_width;
        let blocks: Vec<&[f32]> = blocks
            .iter()
            .map(|values| &values[stretch.clone()])
            .collect();
        let mut stretches = BTreeMap::new();
        for (column, values) in wide {
            stretches.insert(*column, &values[first..first + count]);
        }
        let writers = factory.create_column_writers(index)?;
        let chunks = encode_rows(&schema, &leading, &blocks, &stretches, writers)?;
        let mut row_group = file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut row_group)?;
        }
        row_group.close()?;
    }
    file.close()?;
    Ok(())
}

/// The columns of some rows: the leading ones, then those of row-major `blocks`, of which `wide` has some in 64 bits.
fn encode_rows(
    schema: &Schema,
    leading: &[ArrayRef],
    blocks: &[&[f32]],
    wide: &BTreeMap<usize, &[f64]>,
    mut writers: Vec<ArrowColumnWriter>,
) -> Result<Vec<ArrowColumnChunk>, ArtifactError> {
    let mut block_writers = writers.split_off(leading.len()).into_iter();
    let (leading_fields, fields) = schema.fields().split_at(leading.len());
    let mut chunks = Vec::with_capacity(schema.fields().len());
    for ((writer, field), array) in writers.into_iter().zip(leading_fields).zip(leading) {
        chunks.push(encode(writer, field, array)?);
    }
    let width = fields.len() / blocks.len();
    let mut groups = Vec::new();
    for block in 0..blocks.len() {
        for first in (0..width).step_by(GROUP) {
            let count = GROUP.min(width - first);
            groups.push((block, first, block_writers.by_ref().take(count).collect()));
        }
    }
    let encode_group = |(block, first, writers): (usize, usize, Vec<ArrowColumnWriter>)| {
        let columns = gather(blocks[block], width, first, writers.len());
        let mut chunks = Vec::with_capacity(columns.len());
        for ((place, column), writer) in (block * width + first..).zip(columns).zip(writers) {
            let array: ArrayRef = match wide.get(&place) {
                Some(values) => Arc::new(Float64Array::from(values.to_vec())),
                None => Arc::new(Float32Array::from(column)),
            };
            chunks.push(encode(writer, &fields[place], &array)?);
        }
        Ok(chunks)
    };
    let encoded = groups
        .into_par_iter()
        .map(encode_group)
        .collect::<Result<Vec<_>, ArtifactError>>()?;
    chunks.extend(encoded.into_iter().flatten());
    Ok(chunks)
}

fn encode(
    mut writer: ArrowColumnWriter,
    field: &Field,
    array: &ArrayRef,
) -> Result<ArrowColumnChunk, ArtifactError> {
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
            let source = values[start * width + first + offset..]
                .iter()
                .step_by(width);
            column[start..end]
                .iter_mut()
                .zip(source)
                .for_each(|(value, source)| *value = *source);
        }
    }
    columns
}

/// A Parquet file whose footer was read.
pub(super) struct ColumnFile {
    builder: ParquetRecordBatchReaderBuilder<Source>,
    metadata: Metadata,
    /// What may be decoded of it.
    allowance: usize,
}

impl ColumnFile {
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn rows(&self) -> usize {
        usize::try_from(self.builder.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// The columns, in order. Texts and bytes are views.
    pub fn fields(&self) -> &[FieldRef] {
        self.builder.schema().fields()
    }

    /// How many bytes of texts and files its columns may come to.
    pub fn allowance(&self) -> usize {
        self.allowance
    }

    /// Hands on all rows, batch after batch, so that the columns are never in memory as a whole.
    pub fn read_rows(
        self,
        take: impl FnMut(&RecordBatch) -> Result<(), ArtifactError>,
    ) -> Result<(), ArtifactError> {
        let width = self.builder.schema().fields().len().max(1);
        self.read_batches((VALUES_AT_ONCE / width).max(1), take)
    }

    /// Hands on all rows in batches of at most so many.
    pub fn read_batches(
        self,
        most: usize,
        mut take: impl FnMut(&RecordBatch) -> Result<(), ArtifactError>,
    ) -> Result<(), ArtifactError> {
        let mut batches = self.builder.with_batch_size(most).build()?;
        batches.try_for_each(|batch| take(&batch?))
    }
}

/// Reads the footer, which must say that the file holds `what`.
pub(super) fn open(source: Source, what: &'static str) -> Result<ColumnFile, ArtifactError> {
    let footer = ArrowReaderMetadata::load(&source, ArrowReaderOptions::new())?;
    let entries: HashMap<String, String> = footer.schema().metadata().clone().into();
    let format = entries.get(FORMAT).map(String::as_str);
    let known =
        (1..=newest_layout(what)).find(|layout| format == Some(&format!("{what}/{layout}")));
    let Some(layout) = known else {
        let reason = format!("the footer says {format:?}");
        return Err(ArtifactError::corrupt(what, reason));
    };
    let metadata = Metadata {
        what,
        layout,
        entries,
    };
    let allowance = allowance(source.len());
    check_sizes(&source, footer.metadata(), allowance)
        .map_err(|reason| ArtifactError::corrupt(what, reason))?;
    let options = ArrowReaderOptions::new().with_schema(Arc::new(with_views(footer.schema())));
    let footer = ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options)?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, footer);
    Ok(ColumnFile {
        builder,
        metadata,
        allowance,
    })
}

/// How many bytes may be decoded from a file of this length. Pages are plain; only texts that come often, and values that
/// are missing, take less room in the file than in memory.
fn allowance(length: u64) -> usize {
    const FACTOR: u64 = 16;
    const FREE: u64 = 16 << 20;
    usize::try_from(length.saturating_mul(FACTOR).saturating_add(FREE)).unwrap_or(usize::MAX)
}

/// Holds what the footer announces against the bytes that are there.
fn check_sizes(source: &Source, footer: &ParquetMetaData, allowance: usize) -> Result<(), String> {
    let (mut rows, mut decoded) = (0_i64, 0_usize);
    for group in footer.row_groups() {
        rows = rows
            .checked_add(group.num_rows())
            .ok_or("more rows than can be counted")?;
        let in_group =
            usize::try_from(group.num_rows()).map_err(|_| "a negative number of rows")?;
        for column in group.columns() {
            check_column(source, column, in_group)?;
            let bytes = in_group.checked_mul(width_in_memory(column.column_type())?);
            decoded = bytes
                .and_then(|bytes| decoded.checked_add(bytes))
                .ok_or("more rows than can be counted")?;
        }
    }
    if rows != footer.file_metadata().num_rows() {
        return Err(format!(
            "{rows} rows where the footer announces {}",
            footer.file_metadata().num_rows()
        ));
    }
    if decoded > allowance {
        return Err(format!(
            "{} bytes cannot hold the {rows} rows that the footer announces",
            source.len()
        ));
    }
    Ok(())
}

/// Bytes of a value in memory; for texts, of what points at it.
fn width_in_memory(kind: Type) -> Result<usize, String> {
    match kind {
        Type::BOOLEAN => Ok(1),
        Type::INT32 | Type::FLOAT => Ok(4),
        Type::INT64 | Type::DOUBLE => Ok(8),
        Type::BYTE_ARRAY => Ok(16),
        Type::INT96 | Type::FIXED_LEN_BYTE_ARRAY => Err(format!("a column of type {kind}")),
    }
}

/// Checks that a column is written in one of the ways in which artifacts are.
fn check_column(source: &Source, column: &ColumnChunkMetaData, rows: usize) -> Result<(), String> {
    let name = super::Shown(column.column_descr().name());
    // Other tools write Snappy, which makes at most twenty-one bytes of one. What shrinks further is none of ours.
    if !matches!(
        column.compression(),
        Compression::UNCOMPRESSED | Compression::SNAPPY
    ) {
        return Err(format!(
            "the column `{name}` is compressed by {}",
            column.compression()
        ));
    }
    if column.column_descr().max_rep_level() > 0 || usize::try_from(column.num_values()) != Ok(rows)
    {
        return Err(format!("the column `{name}` has not one value a row"));
    }
    let (start, length) = (
        column
            .dictionary_page_offset()
            .unwrap_or(column.data_page_offset()),
        column.compressed_size(),
    );
    let range = u64::try_from(start).ok().zip(u64::try_from(length).ok());
    let end = range.and_then(|(start, length)| start.checked_add(length));
    if end.is_none_or(|end| end > source.len()) {
        return Err(format!("the column `{name}` lies outside of the file"));
    }
    super::check_page_sizes(source, column)?;
    if column.column_type() == Type::BYTE_ARRAY {
        check_pages(source, column, rows)
    } else {
        Ok(())
    }
}

/// Other encodings of texts are short for texts of any length.
fn check_pages(source: &Source, column: &ColumnChunkMetaData, rows: usize) -> Result<(), String> {
    let pages = SerializedPageReader::new(Arc::new(source.clone()), column, rows, None);
    let mut pages = pages.map_err(|error| error.to_string())?;
    while let Some(page) = pages.get_next_page().map_err(|error| error.to_string())? {
        let encoding = page.encoding();
        #[allow(deprecated, reason = "what older writers call a dictionary")]
        let is_known = matches!(
            encoding,
            Encoding::PLAIN | Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY
        );
        if !is_known {
            return Err(format!("a page of text is written as {encoding}"));
        }
    }
    Ok(())
}

/// The schema with views in place of texts and bytes: a text that a dictionary holds once is then in memory once.
fn with_views(schema: &Schema) -> Schema {
    fn viewed(field: &FieldRef) -> FieldRef {
        let kind = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(viewed).collect()),
            _ => return Arc::clone(field),
        };
        Arc::new(field.as_ref().clone().with_data_type(kind))
    }
    Schema::new_with_metadata(
        schema.fields().iter().map(viewed).collect::<Vec<_>>(),
        schema.metadata().clone(),
    )
}

/// The batch with its texts in place, if they come to no more than is allowed.
fn without_views(
    batch: &RecordBatch,
    mut allowance: usize,
    what: &'static str,
) -> Result<RecordBatch, ArtifactError> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let Some(texts) = array.as_any().downcast_ref::<StringViewArray>() else {
            fields.push(Arc::clone(field));
            arrays.push(Arc::clone(array));
            continue;
        };
        let bytes: usize = texts.lengths().map(|length| length as usize).sum();
        allowance = allowance
            .checked_sub(bytes)
            .ok_or_else(|| too_much_text(what))?;
        fields.push(Arc::new(
            field.as_ref().clone().with_data_type(DataType::Utf8),
        ));
        arrays.push(cast(array, &DataType::Utf8)?);
    }
    let schema = Schema::new_with_metadata(fields, batch.schema().metadata().clone());
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::new(schema),
        arrays,
        &options,
    )?)
}

/// For files whose texts or files come to more than their bytes can hold.
pub(super) fn too_much_text(what: &'static str) -> ArtifactError {
    ArtifactError::corrupt(what, "its texts are longer than its bytes can hold")
}

/// All rows of a small file in one piece, with its metadata.
pub(super) fn read(
    bytes: Vec<u8>,
    what: &'static str,
) -> Result<(RecordBatch, Metadata), ArtifactError> {
    let file = open(bytes.into(), what)?;
    let (schema, rows) = (Arc::clone(file.builder.schema()), file.rows());
    let batches = file
        .builder
        .with_batch_size(rows.max(1))
        .build()?
        .collect::<Result<Vec<_>, _>>()?;
    let batch = match <[RecordBatch; 1]>::try_from(batches) {
        Ok([batch]) => batch,
        Err(batches) => concat_batches(&schema, &batches)?,
    };
    Ok((without_views(&batch, file.allowance, what)?, file.metadata))
}

/// The column at a place, which must be of this type and have a value in every row.
pub(super) fn column<'a, T: Array + 'static>(
    batch: &'a RecordBatch,
    place: usize,
    what: &'static str,
) -> Result<&'a T, ArtifactError> {
    let array = batch
        .columns()
        .get(place)
        .and_then(|array| array.as_any().downcast_ref::<T>());
    let array = array.filter(|array| array.null_count() == 0);
    array.ok_or_else(|| {
        ArtifactError::corrupt(
            what,
            format!("column {place} is missing or of another type"),
        )
    })
}

/// Gathers the float columns from `first` on into row-major values.
pub(super) fn to_rows(
    batch: &RecordBatch,
    first: usize,
    what: &'static str,
) -> Result<Vec<f32>, ArtifactError> {
    columns_to_rows(batch, first..batch.num_columns(), what)
}

/// Gathers these float columns into row-major values.
pub(super) fn columns_to_rows(
    batch: &RecordBatch,
    columns: Range<usize>,
    what: &'static str,
) -> Result<Vec<f32>, ArtifactError> {
    let mut values = Vec::new();
    append_rows(batch, columns, &mut values, what)?;
    Ok(values)
}

/// Appends these float columns to row-major values; those of 64 bits are rounded.
pub(super) fn append_rows(
    batch: &RecordBatch,
    columns: Range<usize>,
    values: &mut Vec<f32>,
    what: &'static str,
) -> Result<(), ArtifactError> {
    let Some(arrays) = batch.columns().get(columns) else {
        return Err(ArtifactError::corrupt(what, "a column is missing"));
    };
    let mut columns = Vec::with_capacity(arrays.len());
    for array in arrays {
        let column = match array.data_type() {
            DataType::Float64 => cast(array, &DataType::Float32)?,
            _ => Arc::clone(array),
        };
        let floats = column.as_any().downcast_ref::<Float32Array>();
        let Some(floats) = floats.filter(|floats| floats.null_count() == 0) else {
            let reason = "a channel is not a column of floats without nulls";
            return Err(ArtifactError::corrupt(what, reason));
        };
        columns.push(floats.clone());
    }
    let width = columns.len();
    let start = values.len();
    values.resize(start + batch.num_rows() * width, 0.0);
    // Blocks of rows keep both sides of the transposition in the cache.
    const BLOCK: usize = 256;
    values[start..]
        .par_chunks_mut((BLOCK * width).max(1))
        .enumerate()
        .for_each(|(block, rows)| {
            for (column, array) in columns.iter().enumerate() {
                let source = &array.values()[block * BLOCK..];
                for (row, value) in rows.chunks_exact_mut(width).zip(source) {
                    row[column] = *value;
                }
            }
        });
    Ok(())
}
