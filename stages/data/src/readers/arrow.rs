//! Arrow IPC, as a file (Feather version 2) or as a stream, uncompressed.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::root_as_footer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tabular::TypedTable;
use super::{Dataset, batches, columns};
use contract::artifact::Series;
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Which files, and what their columns are for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Arrow(TypedTable);

impl Named for Arrow {
    const NAME: &'static str = "arrow";
    const DOC: &'static str =
        "Arrow IPC files and streams: a column per channel, time and label columns, nulls.";
    const EXAMPLE: &'static str = r#"{"path": "data.arrow"}"#;
}

impl Dataset for Arrow {
    fn check(&self) -> Result<(), Fault> {
        self.0.sources().check(self.0.label.is_some())
    }

    fn files(&self) -> Vec<FileRequest> {
        self.0.sources().files()
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let table = &self.0;
        table.sources().read(
            table.missing,
            table.label.is_some(),
            context,
            |path, builder| {
                let failed = |error| {
                    Trouble::new("the file cannot be read")
                        .at(path, None)
                        .because(error)
                };
                let mut file = File::open(path).map_err(failed)?;
                let mut magic = Vec::new();
                file.by_ref()
                    .take(6)
                    .read_to_end(&mut magic)
                    .map_err(failed)?;
                file.rewind().map_err(failed)?;
                if magic.is_empty() {
                    return Err(columns::empty(path));
                }
                let selection = table.selection();
                batches::guard(path, || {
                    if magic == b"ARROW1" {
                        check_blocks(&file).map_err(|reason| batches::damaged(path, reason))?;
                        let file = BufReader::new(file);
                        let reader = FileReader::try_new(file, None)
                            .map_err(|error| batches::damaged(path, error))?;
                        batches::append(
                            &reader.schema(),
                            reader,
                            &selection,
                            builder,
                            path,
                            context,
                        )
                    } else {
                        let file = BufReader::new(file);
                        let reader = StreamReader::try_new(file, None)
                            .map_err(|error| batches::damaged(path, error))?;
                        batches::append(
                            &reader.schema(),
                            reader,
                            &selection,
                            builder,
                            path,
                            context,
                        )
                    }
                })
            },
        )
    }
}

/// Holds the blocks that the footer announces against the bytes that are there: the library makes room for them first.
fn check_blocks(file: &File) -> Result<(), String> {
    /// The length of the footer, and the magic word once more.
    const TAIL: u64 = 10;
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    let end = bytes.checked_sub(TAIL).ok_or("it is too short")?;
    let read = |length: u64, start: u64| {
        let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut piece, start)
            .map(|()| piece)
            .map_err(|error| error.to_string())
    };
    let length = read(4, end)?;
    let length = length
        .first_chunk()
        .map_or(0, |bytes| i32::from_le_bytes(*bytes));
    let start = u64::try_from(length)
        .ok()
        .and_then(|length| end.checked_sub(length));
    let start = start.ok_or_else(|| format!("its footer is said to have {length} bytes"))?;
    let footer = read(end - start, start)?;
    let footer = root_as_footer(&footer).map_err(|error| error.to_string())?;
    let blocks = [footer.dictionaries(), footer.recordBatches()];
    for block in blocks.into_iter().flatten().flatten() {
        let parts = [
            block.offset(),
            block.metaDataLength().into(),
            block.bodyLength(),
        ];
        let end = parts.iter().try_fold(0_u64, |sum, part| {
            sum.checked_add(u64::try_from(*part).ok()?)
        });
        if end.is_none_or(|end| end > bytes) {
            return Err(format!("a block lies outside of its {bytes} bytes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Int64Array, RecordBatch};
    use arrow::ipc::writer::{FileWriter, StreamWriter};

    use super::*;
    use contract::NullHost;

    fn read(bytes: &[u8]) -> Result<Series, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arrow");
        std::fs::write(&path, bytes).unwrap();
        let parameters =
            serde_json::json!({"path": "a.arrow", "time": "t", "split": {"train": 1.0}});
        let table: Arrow = serde_json::from_value(parameters).unwrap();
        table.read(
            &NullHost {
                files: vec![("a.arrow".to_owned(), path)],
            }
            .context(0),
        )
    }

    #[test]
    fn reads_files_and_streams() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("t", Arc::new(Int64Array::from(vec![5, 6]))),
            ("a", Arc::new(Float32Array::from(vec![1.0, 2.0]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut file = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        file.write(&batch).unwrap();
        stream.write(&batch).unwrap();
        for bytes in [file.into_inner().unwrap(), stream.into_inner().unwrap()] {
            let series = read(&bytes).unwrap();
            assert_eq!((series.values, series.times), (vec![1.0, 2.0], vec![5, 6]));
            assert!(
                read(&bytes[..bytes.len() / 2])
                    .unwrap_err()
                    .message()
                    .contains("damaged")
            );
        }
        // Every byte of either form, with each of these values: an error that names the file, or numbers.
        let mut file = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        file.write(&batch).unwrap();
        let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        stream.write(&batch).unwrap();
        for bytes in [file.into_inner().unwrap(), stream.into_inner().unwrap()] {
            for place in 0..bytes.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut harmed = bytes.clone();
                    harmed[place] = value;
                    if let Err(error) = read(&harmed) {
                        assert!(
                            error
                                .location()
                                .is_some_and(|at| at.file.ends_with("a.arrow")),
                            "{place}: {error}"
                        );
                    }
                }
            }
        }
        assert!(read(b"").unwrap_err().message().contains("no rows"));
        assert!(
            read(b"plain text, no Arrow at all")
                .unwrap_err()
                .message()
                .contains("damaged")
        );
    }
}
