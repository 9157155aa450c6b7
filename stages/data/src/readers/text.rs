//! Delimited numeric text, parsed in parallel as it is read: the file is cut at line ends into blocks of a fixed size,
//! a wave of blocks is read and parsed on all threads, and the rows are appended in the order of the file.
//! The text is never in memory as a whole, unless it is compressed. A file in which a field in quotes holds a line break is read
//! one row after the other instead.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use rayon::prelude::*;

use super::columns::{self, Columns, Role, unreadable};
use super::head::Head;
use super::line::{self, Fault, LineParser};
use super::number::PADDING;
use super::precision::SIX_DECIMALS;
use super::times::{self, Clock};
use contract::{StageContext, Trouble};

/// Bytes of text per block. Small enough for a block and its rows to stay in a core's cache.
const BLOCK: usize = 64 * 1024;
/// Blocks per wave. Fixed, so that neither memory nor results depend on the number of threads.
const WAVE: usize = 32;
/// What is read beyond a block for the rest of its last line, before more is fetched.
const OVERHANG: usize = 4 * 1024;

/// The longest line: a hundred thousand columns of eighty characters. Each thread holds as much of a file in memory.
const LONGEST_LINE: usize = 8 * 1024 * 1024;

/// How much text a compressed file may become: tables shrink to a tenth, rarely to a fiftieth.
const UNPACKED_RATIO: u64 = 100;
const UNPACKED_FREE: u64 = 256 * 1024 * 1024;

/// The most that this many compressed bytes may become.
pub(super) fn most_unpacked(bytes: u64) -> u64 {
    bytes
        .saturating_mul(UNPACKED_RATIO)
        .saturating_add(UNPACKED_FREE)
}

/// What some programs write before text that is UTF-8.
pub(super) const MARK_OF_UTF8: &[u8] = b"\xef\xbb\xbf";

/// The first bytes of a file that `gzip` has compressed.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How a text file is laid out.
#[derive(Clone, Debug)]
pub(super) struct Dialect<'a> {
    pub delimiter: u8,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Column names of a file without a header, by 0-based index.
    pub name: fn(usize) -> String,
    pub clock: &'a Clock,
    /// The decimal sign; found out by looking if absent.
    pub decimal: Option<u8>,
    /// What stands between thousands, if anything.
    pub thousands: Option<u8>,
    /// Lines before the table.
    pub skip: usize,
    /// Whether missing values are read as NaN rather than refused.
    pub allow_missing: bool,
}

impl Dialect<'_> {
    /// Numbers between commas, no header, no missing values, as in files that belong to a data set.
    pub fn plain(name: fn(usize) -> String) -> Self {
        Self {
            delimiter: b',',
            header: false,
            name,
            clock: &times::ISO,
            decimal: Some(b'.'),
            thousands: None,
            skip: 0,
            allow_missing: false,
        }
    }
}

/// Where the bytes come from, at any place of the text.
pub(super) enum Source {
    File(File),
    /// What a compressed file holds.
    Memory(Vec<u8>),
}

impl Source {
    /// Opens a file; one that `gzip` has compressed is known by its first bytes.
    fn open(path: &Path) -> Result<Self, Trouble> {
        let failed = unreadable(path);
        let file = File::open(path).map_err(&failed)?;
        let bytes = file.metadata().map_err(&failed)?.len();
        let mut mark = vec![0; MARK.min(bytes as usize)];
        file.read_exact_at(&mut mark, 0).map_err(&failed)?;
        if let Some((what, hint)) = other_kind(&mark) {
            return Err(
                Trouble::new(format!("the file is {what}, and UTF-8 text is expected"))
                    .at(path, None)
                    .hint(hint),
            );
        }
        if !mark.starts_with(&GZIP) {
            return Ok(Self::File(file));
        }
        let most = most_unpacked(bytes);
        if let Some(text) = unpacked(file, most).map_err(&failed)? {
            return Ok(Self::Memory(text));
        }
        let most = most >> 20;
        let message = format!("{bytes} compressed bytes become more than {most} MiB of text");
        let hint = "the file is damaged, or was made to fill the memory; if not, unpack it first";
        Err(Trouble::new(message).at(path, None).hint(hint))
    }

    fn len(&self) -> std::io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(text) => Ok(text.len() as u64),
        }
    }

    pub fn read_exact_at(&self, into: &mut [u8], start: u64) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(into, start),
            Self::Memory(text) => {
                let rest = text.get(start as usize..).unwrap_or_default();
                let part = rest.get(..into.len());
                into.copy_from_slice(part.ok_or(std::io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// Bytes that tell what a file is.
const MARK: usize = 4096;

/// Refuses a file that is known not to be text.
pub(super) fn check_kind(path: &Path) -> Result<(), Trouble> {
    Source::open(path).map(drop)
}

/// What a file is that is not text, by its first bytes, and what to do about it.
fn other_kind(mark: &[u8]) -> Option<(&'static str, &'static str)> {
    let kinds: [(&[u8], &str, &str); 11] = [
        (
            b"PK\x03\x04",
            "a zip archive",
            "unpack it; a workbook of Excel is one, too: save it as CSV",
        ),
        (
            b"\xfd7zXZ\x00",
            "compressed by xz",
            "unpack it with `unxz`, or compress it by gzip",
        ),
        (
            b"BZh",
            "compressed by bzip2",
            "unpack it with `bunzip2`, or compress it by gzip",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "compressed by Zstandard",
            "unpack it with `unzstd`, or compress it by gzip",
        ),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
        (
            b"\xff\xfe",
            "UTF-16 text",
            "save it as UTF-8: `iconv -f UTF-16 -t UTF-8`",
        ),
        (
            b"\xfe\xff",
            "UTF-16 text",
            "save it as UTF-8: `iconv -f UTF-16 -t UTF-8`",
        ),
        (b"PAR1", "a Parquet file", "read it with `dataset: parquet`"),
        (b"ARROW1", "an Arrow file", "read it with `dataset: arrow`"),
        (b"\x93NUMPY", "a NumPy array", "read it with `dataset: npy`"),
        (
            b"\x89HDF",
            "an HDF5 file",
            "write the table as CSV or Parquet",
        ),
    ];
    for (start, what, hint) in kinds {
        if mark.starts_with(start) {
            return Some((what, hint));
        }
    }
    // Text of old Macs has lines, but none that anybody else would find.
    if mark.contains(&b'\r') && !mark.contains(&b'\n') {
        let what = "a file whose lines end with a carriage return alone";
        return Some((what, "write line feeds instead: `tr '\\r' '\\n'`"));
    }
    None
}

/// What a compressed file holds, if that is at most `most` bytes.
fn unpacked(file: File, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    // Files that were compressed in parts hold several streams.
    MultiGzDecoder::new(BufReader::new(file))
        .take(most + 1)
        .read_to_end(&mut text)?;
    Ok((text.len() as u64 <= most).then_some(text))
}

/// The whole text of a file that may be compressed, for formats that are not a table.
///
/// # Errors
/// If it cannot be read or is not UTF-8.
pub(super) fn whole(path: &Path) -> Result<String, Trouble> {
    String::from_utf8(bytes_of(path)?).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let message =
            format!("the file is not UTF-8 text; byte {place} is the first that is wrong");
        Trouble::new(message).at(path, None)
    })
}

/// The same for text whose comments may be in another encoding: bytes that are not UTF-8 become question marks.
pub(super) fn whole_lossy(path: &Path) -> Result<String, Trouble> {
    let bytes = bytes_of(path)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The text of a file that may be compressed, without the mark at its start.
fn bytes_of(path: &Path) -> Result<Vec<u8>, Trouble> {
    let bytes = match Source::open(path)? {
        Source::Memory(text) => text,
        Source::File(_) => std::fs::read(path).map_err(unreadable(path))?,
    };
    Ok(match bytes.strip_prefix(MARK_OF_UTF8) {
        Some(rest) => rest.to_vec(),
        None => bytes,
    })
}

/// A text file that was opened and whose head was read.
pub(super) struct TextFile<'a> {
    path: &'a Path,
    source: Source,
    bytes: u64,
    head: Head,
    pub names: Vec<String>,
    dialect: Dialect<'a>,
}

impl<'a> TextFile<'a> {
    /// Opens a file and learns its columns.
    ///
    /// # Errors
    /// If it cannot be read or has no rows.
    pub fn open(path: &'a Path, dialect: Dialect<'a>) -> Result<Self, Trouble> {
        let source = Source::open(path)?;
        let bytes = source.len().map_err(unreadable(path))?;
        if bytes == 0 {
            return Err(columns::empty(path));
        }
        let mut head = Head::read(&source, bytes, path, &dialect)?;
        Ok(Self {
            path,
            source,
            bytes,
            names: std::mem::take(&mut head.names),
            head,
            dialect,
        })
    }

    /// Reads all rows into `into`, each column by its role; returns how many rows there were.
    ///
    /// # Errors
    /// At the first line of the file that does not fit, whatever the number of threads.
    pub fn read_roles(
        &self,
        roles: &[Role],
        into: &mut Columns,
        context: &StageContext<'_>,
    ) -> Result<usize, Trouble> {
        let width = roles.iter().filter(|role| **role == Role::Value).count();
        let parser = LineParser {
            roles,
            only_values: width == roles.len(),
            names: &self.names,
            delimiter: self.head.delimiter,
            decimal: self.head.decimal,
            thousands: self.dialect.thousands,
            clock: self.dialect.clock,
            allow_missing: self.dialect.allow_missing,
        };
        if let Some(doubt) = &self.head.doubt {
            context.host.doubt(doubt.clone());
        }
        for note in &self.head.notes {
            context
                .host
                .note(&format!("{}: {note}", self.path.display()));
        }
        let ahead =
            (self.bytes - self.head.body).max(std::mem::take(&mut into.text_ahead)) as usize;
        let estimate = ahead / self.head.row_bytes.max(1);
        // Pages that are never written cost nothing, so the estimate may be generous; but no field takes less than two
        // bytes. Without the memory in one piece the vector grows as it goes.
        let _ = into
            .values
            .try_reserve(((estimate + estimate / 16 + 1) * width).min(ahead / 2 + 1));
        let mut state = self.merge();
        state.is_long = parser.is_long();
        let begun = into.extent();
        let blocks = ((self.bytes - self.head.body) as usize).div_ceil(BLOCK);
        let mut slots: Vec<Slot> = (0..WAVE.min(blocks)).map(|_| Slot::default()).collect();
        for wave in (0..blocks).step_by(WAVE) {
            context.check_cancelled()?;
            let here = slots.len().min(blocks - wave);
            slots[..here]
                .par_iter_mut()
                .enumerate()
                .for_each(|(index, slot)| self.block(wave + index, slot, &parser));
            for slot in &mut slots[..here] {
                if slot.rows.open_quote {
                    into.cut(begun);
                    return self.read_records(&parser, into, context);
                }
                state.append(slot, into, self.path)?;
            }
        }
        if state.rows == 0 {
            Err(columns::empty(self.path))
        } else {
            Ok(state.rows)
        }
    }

    /// What is known before the first row.
    fn merge(&self) -> Merge<'_> {
        Merge {
            clock: self.dialect.clock,
            rows: 0,
            line: self.head.first_line,
            blank: None,
            last_time: None,
            is_long: false,
        }
    }

    /// Reads all rows one after the other, for files in which a field in quotes holds a line break (RFC 4180): such a row
    /// is cut by the ends of blocks at any place, and where it began is known only from the start of the file.
    fn read_records(
        &self,
        parser: &LineParser<'_>,
        into: &mut Columns,
        context: &StageContext<'_>,
    ) -> Result<usize, Trouble> {
        let mut state = self.merge();
        state.is_long = parser.is_long();
        let mut slot = Slot::default();
        let mut at = self.head.body;
        while at < self.bytes {
            context.check_cancelled()?;
            slot.rows.clear();
            match self.record(at, &mut slot.text) {
                Ok(Some(next)) => {
                    let length = slot.text.len();
                    slot.text.resize(length + PADDING, 0);
                    parser.parse_record(&slot.text[..length], &mut slot.rows);
                    at = next;
                }
                Ok(None) => {
                    return Err(
                        Trouble::new("a quote opens in this line and is never closed")
                            .at(self.path, Some(state.line))
                            .hint("quotes stand around a whole field; within one they are doubled"),
                    );
                }
                Err(error) => slot.failure = Some(error),
            }
            state.append(&mut slot, into, self.path)?;
        }
        if state.rows == 0 {
            return Err(columns::empty(self.path));
        }
        Ok(state.rows)
    }

    /// The record that starts at `at`, and where the next one starts; `None` if a quote in it is never closed.
    fn record(&self, at: u64, text: &mut Vec<u8>) -> std::io::Result<Option<u64>> {
        let (line, mut next) = whole_line(&self.source, at, self.bytes)?;
        *text = line;
        while line::open_quote(text, self.head.delimiter) {
            if next >= self.bytes || text.len() > LONGEST_LINE {
                return Ok(None);
            }
            let (line, after) = whole_line(&self.source, next, self.bytes)?;
            text.push(b'\n');
            text.extend(line);
            next = after;
        }
        Ok(Some(next))
    }

    /// Reads and parses the lines that start in one block.
    fn block(&self, index: usize, slot: &mut Slot, parser: &LineParser<'_>) {
        slot.rows.clear();
        slot.failure = None;
        let start = self.head.body + (index * BLOCK) as u64;
        let end = (start + BLOCK as u64).min(self.bytes);
        // One byte before the block tells whether a line starts with it.
        let from = if index == 0 { start } else { start - 1 };
        match self.fetch(from, end, &mut slot.text) {
            Err(error) => slot.failure = Some(error),
            Ok(filled) => {
                let text = &slot.text[..filled];
                let first = if index == 0 {
                    Some(0)
                } else {
                    line::end_of_line(text, 0).map(|end| end + 1)
                };
                let owned = (end - from) as usize;
                let Some(first) = first.filter(|first| *first < owned) else {
                    return;
                };
                let last = line::end_of_line(text, owned - 1).unwrap_or(filled);
                parser.parse(&slot.text, first, last, &mut slot.rows);
            }
        }
    }

    /// Fills `text` with the bytes from `from` to at least the end of the line that holds byte `end - 1`, and padding.
    fn fetch(&self, from: u64, end: u64, text: &mut Vec<u8>) -> std::io::Result<usize> {
        let mut filled = 0;
        let mut wanted = (end - from) as usize + OVERHANG;
        loop {
            wanted = wanted.min((self.bytes - from) as usize);
            if text.len() < wanted + PADDING {
                text.resize(wanted + PADDING, 0);
            }
            self.source
                .read_exact_at(&mut text[filled..wanted], from + filled as u64)?;
            let owned = (end - from) as usize;
            let complete = line::end_of_line(&text[..wanted], filled.max(owned - 1)).is_some();
            filled = wanted;
            if complete || from + filled as u64 == self.bytes {
                text[filled..filled + PADDING].fill(0);
                return Ok(filled);
            }
            if filled > owned + LONGEST_LINE {
                return Err(too_long());
            }
            wanted += BLOCK;
        }
    }
}

/// The buffers of one block, used again in every wave.
#[derive(Default)]
struct Slot {
    text: Vec<u8>,
    rows: line::Rows,
    failure: Option<std::io::Error>,
}

/// What is known when a block is appended to the blocks before it.
struct Merge<'a> {
    clock: &'a Clock,
    rows: usize,
    /// The line at which the next block starts.
    line: usize,
    /// The first blank line; only more blank lines may follow it.
    blank: Option<usize>,
    last_time: Option<i64>,
    /// In the long form, the times of one thing follow those of another.
    is_long: bool,
}

impl Merge<'_> {
    fn append(&mut self, slot: &mut Slot, into: &mut Columns, path: &Path) -> Result<(), Trouble> {
        if let Some(error) = slot.failure.take() {
            return Err(unreadable(path)(error));
        }
        let rows = &slot.rows;
        if let (Some(line), true) = (self.blank, rows.count > 0 || rows.fault.is_some()) {
            return Err(blank_line(path, line));
        }
        if let Some(Fault {
            line,
            message,
            hint,
        }) = &rows.fault
        {
            return Err(Trouble::new(message)
                .at(path, Some(self.line + line))
                .hint(hint));
        }
        if let Some(blank) = rows.blank {
            self.blank.get_or_insert(self.line + blank);
        }
        if !self.is_long {
            self.put_in_order(&mut slot.rows.times, path)?;
        }
        let rows = &slot.rows;
        into.extend(&rows.values, &rows.rests, SIX_DECIMALS);
        into.times.extend_from_slice(&rows.times);
        into.labels.extend_from_slice(&rows.labels);
        into.ids.append(&rows.ids);
        into.variables.append(&rows.variables);
        into.any_missing |= rows.any_missing;
        self.rows += rows.count;
        self.line += rows.lines;
        Ok(())
    }

    /// Refuses times that go back, other than in an hour that the clock shows for the second time.
    fn put_in_order(&mut self, times: &mut [i64], path: &Path) -> Result<(), Trouble> {
        for (row, time) in times.iter_mut().enumerate() {
            if self.last_time.is_some_and(|last| last >= *time)
                && let Some(again) = self.clock.again(*time)
            {
                *time = again;
            }
            if self.last_time.is_some_and(|last| last > *time) {
                let message = "the time goes back here";
                let hint = "rows stand in the order of time; where the clock is set back in autumn, name its zone, as in \
                            `time: {column: NAME, zone: Europe/Berlin}`, or write offsets, as in `+02:00`; sort the file only \
                            if its rows are not in the order in which they were measured";
                return Err(Trouble::new(message)
                    .at(path, Some(self.line + row))
                    .hint(hint));
            }
            self.last_time = Some(*time);
        }
        Ok(())
    }
}

fn blank_line(path: &Path, line: usize) -> Trouble {
    Trouble::new("a blank line in the middle of the data")
        .at(path, Some(line))
        .hint("remove it, or write the delimiters of a row whose values are missing")
}

/// The line that starts at `start`, without its end, and where the next one starts.
pub(super) fn whole_line(file: &Source, start: u64, bytes: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let mut text = Vec::new();
    loop {
        let filled = text.len();
        let more = (OVERHANG as u64)
            .max(filled as u64)
            .min(bytes - start - filled as u64) as usize;
        text.resize(filled + more, 0);
        file.read_exact_at(&mut text[filled..], start + filled as u64)?;
        if let Some(end) = line::end_of_line(&text, filled) {
            text.truncate(end);
            let next = start + end as u64 + 1;
            text.truncate(text.len() - usize::from(text.last() == Some(&b'\r')));
            return Ok((text, next));
        }
        if start + text.len() as u64 == bytes {
            return Ok((text, bytes));
        }
        if text.len() > LONGEST_LINE {
            return Err(too_long());
        }
    }
}

fn too_long() -> std::io::Error {
    let message = format!("it has a line of more than {} MiB", LONGEST_LINE >> 20);
    std::io::Error::new(std::io::ErrorKind::InvalidData, message)
}
