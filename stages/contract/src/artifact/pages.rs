//! What pages of a Parquet column announce, before anything is made room for: the library asks for as much memory as the header of a
//! compressed page says that its content has.

use std::io::{self, Read};

use parquet::basic::{Compression, Type};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::{Shown, Source};

/// A page with a content of so many bytes is allowed whatever it is made of. Usual ones have a MiB.
const FREE: u64 = 16 << 20;

/// A value of fixed width takes no more room than this beside it, whatever the encoding: what it is compared with, its levels.
const BESIDE_A_VALUE: u64 = 4;

/// Room for what stands before the values of a page.
const BEFORE_VALUES: u64 = 1 << 16;

/// What the header of a page says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PageHeader {
    content: i64,
    compressed: i64,
    values: i64,
    /// Bytes of the header itself.
    length: u64,
}

/// Holds what the pages of a column announce against the bytes that they have, the most that their compression can make of those,
/// and the values that they hold.
///
/// # Errors
/// What is wrong.
pub fn check_page_sizes(source: &Source, column: &ColumnChunkMetaData) -> Result<(), String> {
    if column.compression() == Compression::UNCOMPRESSED {
        return Ok(());
    }
    let name = column.column_descr().name();
    let wrong = |what: &str| format!("the column `{}` {what}", Shown(name));
    let start = column
        .dictionary_page_offset()
        .unwrap_or(column.data_page_offset());
    let (start, length) = (
        u64::try_from(start).ok(),
        u64::try_from(column.compressed_size()).ok(),
    );
    let end = start
        .zip(length)
        .and_then(|(start, length)| start.checked_add(length));
    let end = end
        .filter(|end| *end <= source.len())
        .ok_or_else(|| wrong("lies outside of the file"))?;
    let mut place = start.unwrap_or(end);
    while place < end {
        let read = source
            .get_read(place)
            .map_err(io::Error::other)
            .and_then(|mut bytes| read_header(&mut bytes));
        let header = read.map_err(|_| wrong("has a page whose header cannot be read"))?;
        let sizes = u64::try_from(header.content)
            .ok()
            .zip(u64::try_from(header.compressed).ok());
        let (content, compressed) =
            sizes.ok_or_else(|| wrong("has a page of a negative length"))?;
        place = place
            .saturating_add(header.length)
            .saturating_add(compressed);
        if place > end {
            return Err(wrong("has a page that is longer than the column"));
        }
        if content > most(column, compressed, header.values) {
            return Err(wrong(&format!(
                "has a page of {compressed} bytes that announces {content}"
            )));
        }
    }
    Ok(())
}

/// The most bytes that a page can come to.
fn most(column: &ColumnChunkMetaData, compressed: u64, values: i64) -> u64 {
    let ratio = match column.compression() {
        // Sixty-four bytes are three at least.
        Compression::SNAPPY => 32,
        // A block of 128 KiB is four bytes at least.
        _ => 40_000,
    };
    let width = match column.column_type() {
        Type::BOOLEAN => Some(1),
        Type::INT32 | Type::FLOAT => Some(4),
        Type::INT64 | Type::DOUBLE => Some(8),
        Type::INT96 => Some(12),
        Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.column_descr().type_length()).ok(),
        Type::BYTE_ARRAY => None,
    };
    let values = u64::try_from(values.min(column.num_values())).unwrap_or(0);
    let of_values = width.map_or_else(
        || u64::try_from(column.uncompressed_size()).unwrap_or(0),
        |width| {
            values
                .saturating_mul(width.saturating_add(BESIDE_A_VALUE))
                .saturating_add(BEFORE_VALUES)
        },
    );
    FREE.max(compressed.saturating_mul(ratio).min(of_values))
}

/// Reads the header of a page, which is a struct in Thrift's compact protocol.
fn read_header(bytes: &mut dyn Read) -> io::Result<PageHeader> {
    let mut thrift = Thrift { bytes, length: 0 };
    let mut header = PageHeader::default();
    thrift.fields(&mut |thrift, number, kind| match (number, kind) {
        (2, INTEGER) => thrift.integer().map(|value| header.content = value),
        (3, INTEGER) => thrift.integer().map(|value| header.compressed = value),
        // Those of a page of data, of a dictionary, and of a page of data of the second version.
        (5 | 7 | 8, STRUCT) => thrift.fields(&mut |thrift, number, kind| match (number, kind) {
            (1, INTEGER) => thrift.integer().map(|value| header.values = value),
            _ => thrift.skip(kind, DEEPEST),
        }),
        _ => thrift.skip(kind, DEEPEST),
    })?;
    Ok(PageHeader {
        length: thrift.length,
        ..header
    })
}

/// Types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const SHORT: u8 = 4;
const INTEGER: u8 = 5;
const LONG: u8 = 6;
const REAL: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// Deeper nesting is no header of a page.
const DEEPEST: usize = 8;

/// A header that is longer is none: statistics of texts may be long.
const LONGEST_HEADER: u64 = 64 << 20;

/// Bytes in the compact protocol, as far as they were read.
struct Thrift<'a> {
    bytes: &'a mut dyn Read,
    length: u64,
}

impl Thrift<'_> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.bytes.read_exact(&mut byte)?;
        self.pass(1)?;
        Ok(byte[0])
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        self.length = self.length.saturating_add(bytes);
        if self.length > LONGEST_HEADER {
            Err(invalid())
        } else {
            Ok(())
        }
    }

    fn discard(&mut self, bytes: u64) -> io::Result<()> {
        self.pass(bytes)?;
        let read = io::copy(&mut (&mut *self.bytes).take(bytes), &mut io::sink())?;
        if read == bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn unsigned(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid())
    }

    /// A number whose sign is its lowest bit.
    fn integer(&mut self) -> io::Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Hands on the number and the type of each field of a struct; what it is given must be read.
    fn fields(
        &mut self,
        take: &mut dyn FnMut(&mut Self, i64, u8) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut number = 0_i64;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            number = match i64::from(head >> 4) {
                0 => self.integer()?,
                step => number.saturating_add(step),
            };
            take(self, number, kind)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(invalid)?;
        match kind {
            // The type of a field is its value.
            TRUE | FALSE => Ok(()),
            BYTE => self.discard(1),
            SHORT | INTEGER | LONG => self.unsigned().map(drop),
            REAL => self.discard(8),
            BINARY => self.unsigned().and_then(|length| self.discard(length)),
            STRUCT => self.fields(&mut |thrift, _, kind| thrift.skip(kind, depth)),
            LIST | SET => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 {
                    self.unsigned()?
                } else {
                    u64::from(head >> 4)
                };
                (0..count).try_for_each(|_| self.skip_item(head & 0x0f, depth))
            }
            MAP => {
                let count = self.unsigned()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.skip_item(kinds >> 4, depth)?;
                    self.skip_item(kinds & 0x0f, depth)
                })
            }
            _ => Err(invalid()),
        }
    }

    /// In a list, true and false take a byte.
    fn skip_item(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        if matches!(kind, TRUE | FALSE) {
            self.discard(1)
        } else {
            self.skip(kind, depth)
        }
    }
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<PageHeader> {
        read_header(&mut &bytes[..])
    }

    #[test]
    fn headers_of_pages_are_understood() {
        // Type 0, 300 bytes, 20 of them compressed, a checksum; of 7 values, with statistics of three bytes and a list.
        let header = [
            0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x28, 0x15, 0x02, 0x1c, 0x15, 0x0e, 0x15, 0x00,
            0x4c, 0x18, 0x03, b'a', b'b', b'c', 0x11, 0x19, 0x22, 0x01, 0x02, 0x00, 0x00, 0x00,
        ];
        let expected = PageHeader {
            content: 300,
            compressed: 20,
            values: 7,
            length: header.len() as u64,
        };
        assert_eq!(read(&[&header[..], &[9; 40]].concat()).unwrap(), expected);
        for end in 0..header.len() {
            assert!(read(&header[..end]).is_err(), "{end}");
        }
        assert!(read(&[0x1c; 100]).is_err(), "nested without end");
        assert!(
            read(&[0x18, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err(),
            "a text without end"
        );
        assert_eq!(read(&[0x15, 0x00, 0x15, 0x01, 0x00]).unwrap().content, -1);
    }
}
