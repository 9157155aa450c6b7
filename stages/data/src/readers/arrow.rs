//! Arrow IPC, as a file (Feather version 2) or as a stream, uncompressed.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

use arrow::array::RecordBatchReader;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::{root_as_footer, root_as_message};
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

/// How the names of such files end, in small letters.
const ENDINGS: [&str; 3] = [".arrow", ".feather", ".ipc"];

impl Named for Arrow {
    const NAME: &'static str = "arrow";
    const DOC: &'static str =
        "Arrow IPC files and streams: a column per channel, time and label columns, nulls.";
    const EXAMPLE: &'static str = r#"{"path": "data.arrow"}"#;
}

impl Dataset for Arrow {
    fn check(&self) -> Result<(), Fault> {
        self.0.check()
    }

    fn files(&self) -> Vec<FileRequest> {
        self.0.sources(&ENDINGS).files()
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        let selection = self.0.selection();
        self.0.read(&ENDINGS, context, |path, builder| {
            let failed = columns::unreadable(path);
            let mut file = File::open(path).map_err(&failed)?;
            let mut magic = Vec::new();
            let mut start = file.by_ref().take(MAGIC.len() as u64);
            start.read_to_end(&mut magic).map_err(&failed)?;
            file.rewind().map_err(&failed)?;
            if magic.is_empty() {
                return Err(columns::empty(path));
            }
            let damaged = |error| batches::damaged(path, error);
            batches::guard(path, || {
                let reader: Box<dyn RecordBatchReader> = if magic == MAGIC {
                    check_blocks(&file).map_err(|reason| batches::damaged(path, reason))?;
                    Box::new(FileReader::try_new(BufReader::new(file), None).map_err(damaged)?)
                } else {
                    check_stream(&file).map_err(|reason| batches::damaged(path, reason))?;
                    Box::new(StreamReader::try_new(BufReader::new(file), None).map_err(damaged)?)
                };
                let schema = reader.schema();
                batches::append(&schema, reader, &selection, builder, path, context)
            })
        })
    }
}

/// What a file begins with, and a stream does not.
const MAGIC: &[u8] = b"ARROW1";

/// Holds the blocks that the footer announces against the bytes that are there: the library makes room for them first.
fn check_blocks(file: &File) -> Result<(), String> {
    /// The length of the footer, and the magic word once more.
    const TAIL: u64 = 10;
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    let end = bytes.checked_sub(TAIL).ok_or("it is too short")?;
    let mut length = [0; 4];
    read_at(file, &mut length, end)?;
    let length = i32::from_le_bytes(length);
    let is_inside = |length: &usize| *length as u64 <= end;
    let Some(length) = usize::try_from(length).ok().filter(is_inside) else {
        return Err(format!("its footer is said to have {length} bytes"));
    };
    let mut footer = vec![0; length];
    read_at(file, &mut footer, end - length as u64)?;
    let footer = root_as_footer(&footer).map_err(|error| error.to_string())?;
    let blocks = [footer.dictionaries(), footer.recordBatches()];
    for block in blocks.into_iter().flatten().flatten() {
        let parts = [
            block.offset(),
            block.metaDataLength().into(),
            block.bodyLength(),
        ];
        let mut end = 0_u64;
        for part in parts {
            // A negative length is as wrong as one that is too large.
            end = end.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
        }
        if end > bytes {
            return Err(format!("a block lies outside of its {bytes} bytes"));
        }
        let start = u64::try_from(block.offset()).unwrap_or(u64::MAX);
        if let Some((message, _)) = message_at(file, start, bytes)? {
            check_counts(&message)?;
        }
    }
    Ok(())
}

/// Refuses a stream whose numbers are big-endian, which the library looks at in files alone, and one with impossible counts.
fn check_stream(file: &File) -> Result<(), String> {
    let bytes = file.metadata().map_err(|error| error.to_string())?.len();
    let Some((first, mut next)) = message_at(file, 0, bytes)? else {
        return Err("it does not begin with a schema".to_owned());
    };
    let first = root_as_message(&first).map_err(|error| error.to_string())?;
    let schema = first
        .header_as_schema()
        .ok_or("it does not begin with a schema")?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err("its numbers are in the byte order of another kind of machine".to_owned());
    }
    while next < bytes {
        let Some((message, after)) = message_at(file, next, bytes)? else {
            break;
        };
        check_counts(&message)?;
        next = after;
    }
    Ok(())
}

/// The message that starts at a place, and where the one after it starts; `None` at the end of a stream.
fn message_at(file: &File, at: u64, bytes: u64) -> Result<Option<(Vec<u8>, u64)>, String> {
    /// What stands before the length of a message; files of old versions begin with the length.
    const CONTINUATION: [u8; 4] = [0xff; 4];
    let mut word = [0; 4];
    read_at(file, &mut word, at)?;
    let mut start = at + 4;
    if word == CONTINUATION {
        read_at(file, &mut word, start)?;
        start += 4;
    }
    let length = u32::from_le_bytes(word);
    if length == 0 {
        return Ok(None);
    }
    if u64::from(length) > bytes.saturating_sub(start) {
        return Err(format!("a message is said to have {length} bytes"));
    }
    let mut text = vec![0; length as usize];
    read_at(file, &mut text, start)?;
    let message = root_as_message(&text).map_err(|error| error.to_string())?;
    let body = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
    let after = (start + u64::from(length)).saturating_add(body);
    Ok(Some((text, after)))
}

/// Refuses columns with fewer than no missing values, which the library takes for none, or with more than they have rows.
fn check_counts(message: &[u8]) -> Result<(), String> {
    let message = root_as_message(message).map_err(|error| error.to_string())?;
    let batch = match message.header_as_dictionary_batch() {
        Some(dictionary) => dictionary.data(),
        None => message.header_as_record_batch(),
    };
    for column in batch.and_then(|batch| batch.nodes()).into_iter().flatten() {
        let (missing, rows) = (column.null_count(), column.length());
        if !(0..=rows).contains(&missing) {
            return Err(format!(
                "a column of {rows} rows has {missing} missing values"
            ));
        }
    }
    Ok(())
}

fn read_at(file: &File, into: &mut [u8], start: u64) -> Result<(), String> {
    let read = file.read_exact_at(into, start);
    read.map_err(|error| error.to_string())
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
