//! Any table of columns: training logs, statistics, leaderboards.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray,
};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{self, Metadata};
use super::series::optional;
use super::{ArtifactError, Digest, DigestWriter, Shown};

/// Named columns of equal length: numbers, integers, text or yes and no.
#[derive(Clone, Debug, PartialEq)]
pub struct Table(RecordBatch);

impl Table {
    /// A table of these columns.
    ///
    /// # Errors
    /// If the columns differ in length.
    pub fn new(columns: Vec<(&str, Column)>) -> Result<Self, ArtifactError> {
        let field = |(name, column): &(&str, Column)| Field::new(*name, column.data_type(), true);
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let arrays = columns
            .into_iter()
            .map(|(_, column)| column.into_array())
            .collect();
        Ok(Self(RecordBatch::try_new(Arc::new(schema), arrays)?))
    }

    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    pub fn column_names(&self) -> Vec<String> {
        self.0
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect()
    }

    /// The Arrow columns themselves, for printing and export.
    pub fn batch(&self) -> &RecordBatch {
        &self.0
    }

    pub fn reals(&self, name: &str) -> Option<Vec<Option<f64>>> {
        Some(optional::<Float64Array>(&self.0, name)?.iter().collect())
    }

    pub fn integers(&self, name: &str) -> Option<Vec<Option<i64>>> {
        Some(optional::<Int64Array>(&self.0, name)?.iter().collect())
    }

    pub fn texts(&self, name: &str) -> Option<Vec<Option<String>>> {
        Some(
            optional::<StringArray>(&self.0, name)?
                .iter()
                .map(|text| text.map(str::to_owned))
                .collect(),
        )
    }

    pub fn digest(&self) -> Digest {
        let mut writer = DigestWriter::new("table");
        writer.number(self.0.num_columns() as u64);
        for (field, array) in self.0.schema().fields().iter().zip(self.0.columns()) {
            writer.text(field.name());
            writer.text(&field.data_type().to_string());
            digest_column(&mut writer, array);
        }
        writer.finish()
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ArtifactError> {
        let schema = self.0.schema().as_ref().clone();
        columns::write(
            schema,
            self.0.columns().to_vec(),
            self.rows(),
            Metadata::new("table"),
        )
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        let (batch, _) = columns::read(bytes, "table")?;
        let known = [
            DataType::Float64,
            DataType::Int64,
            DataType::Utf8,
            DataType::Boolean,
        ];
        if let Some(field) = batch
            .schema()
            .fields()
            .iter()
            .find(|field| !known.contains(field.data_type()))
        {
            let reason = format!(
                "the column `{}` is of type {}",
                Shown(field.name()),
                field.data_type()
            );
            return Err(ArtifactError::corrupt("table", reason));
        }
        let schema = batch
            .schema()
            .as_ref()
            .clone()
            .with_metadata(HashMap::new());
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(Self(RecordBatch::try_new_with_options(
            Arc::new(schema),
            batch.columns().to_vec(),
            &options,
        )?))
    }
}

/// One column of a [`Table`]; missing values are `None`.
#[derive(Clone, Debug)]
pub enum Column {
    Reals(Vec<Option<f64>>),
    Integers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Flags(Vec<bool>),
}

impl Column {
    fn data_type(&self) -> DataType {
        match self {
            Self::Reals(_) => DataType::Float64,
            Self::Integers(_) => DataType::Int64,
            Self::Texts(_) => DataType::Utf8,
            Self::Flags(_) => DataType::Boolean,
        }
    }

    fn into_array(self) -> ArrayRef {
        match self {
            Self::Reals(values) => Arc::new(Float64Array::from(values)),
            Self::Integers(values) => Arc::new(Int64Array::from(values)),
            Self::Texts(values) => Arc::new(StringArray::from(values)),
            Self::Flags(values) => Arc::new(BooleanArray::from(values)),
        }
    }
}

impl From<Vec<f64>> for Column {
    fn from(values: Vec<f64>) -> Self {
        Self::Reals(values.into_iter().map(Some).collect())
    }
}

impl From<Vec<i64>> for Column {
    fn from(values: Vec<i64>) -> Self {
        Self::Integers(values.into_iter().map(Some).collect())
    }
}

impl From<Vec<String>> for Column {
    fn from(values: Vec<String>) -> Self {
        Self::Texts(values.into_iter().map(Some).collect())
    }
}

fn digest_column(writer: &mut DigestWriter, array: &ArrayRef) {
    writer.number(array.len() as u64);
    for row in 0..array.len() {
        writer.flag(array.is_valid(row));
        if array.is_null(row) {
            continue;
        }
        if let Some(values) = array.as_any().downcast_ref::<Float64Array>() {
            writer.real(values.value(row));
        } else if let Some(values) = array.as_any().downcast_ref::<Int64Array>() {
            writer.integers(&[values.value(row)]);
        } else if let Some(values) = array.as_any().downcast_ref::<StringArray>() {
            writer.text(values.value(row));
        } else if let Some(values) = array.as_any().downcast_ref::<BooleanArray>() {
            writer.flag(values.value(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_its_file() {
        let table = Table::new(vec![
            ("epoch", vec![1_i64, 2].into()),
            ("loss", Column::Reals(vec![Some(0.5), None])),
            ("note", vec!["a".to_owned(), "b".to_owned()].into()),
            ("sure", Column::Flags(vec![true, false])),
        ])
        .unwrap();
        let again = Table::decode(table.encode().unwrap()).unwrap();
        assert_eq!(table, again);
        assert_eq!(table.digest(), again.digest());
        assert_eq!(again.reals("loss").unwrap(), [Some(0.5), None]);
    }
}
