//! Where the bytes of an artifact's file are while it is decoded: in memory, or on disk, where they are read piece by
//! piece, so that a large file and what is made of it are not in memory at the same time.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// The bytes of a file.
#[derive(Clone, Debug)]
pub enum Source {
    Memory(Bytes),
    /// An open file and its length. It must not change while it is read.
    Disk(Arc<File>, u64),
}

impl Source {
    /// Opens a file without reading it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self::Disk(Arc::new(file), length))
    }

    /// All bytes at once.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Memory(bytes) => Ok(bytes.into()),
            Self::Disk(file, length) => {
                let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
                Stretch { file, position: 0 }.read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(_, length) => *length,
        }
    }
}

impl ChunkReader for Source {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        /// What is read this way are headers of pages.
        const HEADER: usize = 256;
        match self {
            Self::Memory(bytes) => Ok(Box::new(
                bytes.slice(checked(start, 0, self.len())?.0..).reader(),
            )),
            Self::Disk(file, _) => Ok(Box::new(BufReader::with_capacity(
                HEADER,
                Stretch {
                    file: Arc::clone(file),
                    position: start,
                },
            ))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let (from, to) = checked(start, length, self.len())?;
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(from..to)),
            Self::Disk(file, _) => {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, start)?;
                Ok(piece.into())
            }
        }
    }
}

/// The range as positions in memory, if it lies within the file.
fn checked(start: u64, length: usize, whole: u64) -> Result<(usize, usize)> {
    let end = start.checked_add(length as u64).filter(|end| *end <= whole);
    match (usize::try_from(start), end.map(usize::try_from)) {
        (Ok(start), Some(Ok(end))) => Ok((start, end)),
        _ => Err(ParquetError::EOF(format!(
            "{length} bytes from byte {start} on of a file of {whole}"
        ))),
    }
}

/// A file from a position on. Others may read the file at the same time.
struct Stretch {
    file: Arc<File>,
    position: u64,
}

impl Read for Stretch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_and_memory_read_alike() {
        let content: Vec<u8> = (0..10_000_u32).map(|index| (index % 253) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, &content).unwrap();
        for source in [Source::from(content.clone()), Source::open(&path).unwrap()] {
            assert_eq!(source.len(), 10_000);
            assert_eq!(source.get_bytes(9_990, 10).unwrap(), content[9_990..]);
            assert!(source.get_bytes(9_990, 11).is_err() && source.get_bytes(u64::MAX, 2).is_err());
            let mut rest = Vec::new();
            source
                .get_read(1_000)
                .unwrap()
                .read_to_end(&mut rest)
                .unwrap();
            assert_eq!(rest, content[1_000..]);
            assert_eq!(source.into_bytes().unwrap(), content);
        }
    }
}
