//! NumPy's `.npy` files, versions 1 to 3, alone or in an `.npz` archive: one- and two-dimensional arrays of numbers, in either
//! byte order and either memory order. Objects, structures and complex numbers are refused.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{self, Columns};
use super::npz::{self, Member};
use super::precision::narrow;
use super::tabular::{FilePart, Sources};
use super::{Dataset, Missing, OneOrMany, SplitPlan};
use contract::artifact::Series;
use contract::{Fault, FileRequest, Named, StageContext, Trouble};

/// Where the arrays are: `[rows, channels]`, or `[rows]` for one channel.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Npy {
    /// The file (`.npy` or `.npz`), a pattern such as `data/*.npy`, a folder, or a list of these. All files have the same
    /// columns; each is an entity.
    pub path: OneOrMany,
    /// The array to read from an `.npz` archive of several, or which one for each of `path`, `test` and `test_labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<ArrayNames>,
    /// A separate test part for each file of `path`: by name where a pattern or a folder stands for several, or else in order.
    #[serde(default)]
    pub test: Option<OneOrMany>,
    /// The labels of each `test` file: an array `[rows]` of 0 and 1.
    #[serde(default)]
    pub test_labels: Option<OneOrMany>,
    /// What to do about NaN.
    #[serde(default)]
    pub missing: Missing,
    /// How the rows of each file are split in order of time: 0.6/0.1/0.1/0.2 for train, validation, calibration and test,
    /// or 0.7/0.1/0.2 if there is a `test` part. A part may also say `{rows: 4000}`, `{from: …}` or `{before: …}`, a row, and
    /// `rest`.
    #[serde(default)]
    pub split: Option<SplitPlan>,
}

/// The name of an array in all archives, or one for each part of the data.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ArrayNames {
    All(String),
    Each(ArrayOfEach),
}

/// The name of the array of each part of the data.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArrayOfEach {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_labels: Option<String>,
}

/// How the names of such files end, in small letters.
const ENDINGS: [&str; 2] = [".npy", ".npz"];

impl Npy {
    fn sources(&self) -> Sources<'_> {
        Sources {
            test: self.test.as_ref(),
            test_labels: self.test_labels.as_ref(),
            endings: &ENDINGS,
            labels_array: match &self.array {
                Some(ArrayNames::Each(each)) => each.test_labels.as_deref(),
                // A name of data is none of labels, which lie in files of their own then.
                Some(ArrayNames::All(_)) | None => None,
            },
            ..Sources::new(&self.path, self.split.as_ref())
        }
    }

    /// The array to read.
    fn array(&self, part: FilePart) -> Option<&str> {
        match (self.array.as_ref()?, part) {
            (ArrayNames::All(name), _) => Some(name),
            (ArrayNames::Each(each), FilePart::Path) => each.path.as_deref(),
            (ArrayNames::Each(each), FilePart::Test) => each.test.as_deref(),
        }
    }
}

impl Named for Npy {
    const NAME: &'static str = "npy";
    const DOC: &'static str = "NumPy arrays (.npy, .npz): [rows, channels], with a test array and its labels if there are any.";
    const EXAMPLE: &'static str = r#"{"path": "data.npy"}"#;
}

impl Dataset for Npy {
    fn check(&self) -> Result<(), Fault> {
        self.sources().check(false)
    }

    fn files(&self) -> Vec<FileRequest> {
        self.sources().files()
    }

    fn read(&self, context: &StageContext<'_>) -> Result<Series, Trouble> {
        self.sources()
            .read(self.missing, false, context, |file, part, builder| {
                let array = NpyFile::open_array(file, self.array(part))?;
                builder
                    .expect_channels((0..array.width).map(super::csv::unnamed).collect(), file)?;
                array.read(&mut builder.columns)
            })
    }
}

/// How one number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Signed,
    Unsigned,
    /// A byte that is 0 or not.
    Boolean,
    Float,
}

/// An array whose header was read.
pub(super) struct NpyFile {
    path: PathBuf,
    content: Content,
    /// Bytes of the header.
    start: u64,
    pub rows: usize,
    pub width: usize,
    element: Element,
    /// Bytes per number.
    size: usize,
    big_endian: bool,
    column_major: bool,
}

/// Where the bytes of an array are.
enum Content {
    File(PathBuf),
    Member(Box<Member>),
}

impl Content {
    fn open(path: &Path, array: Option<&str>) -> Result<(Self, u64), Trouble> {
        if npz::is_archive(path) {
            let member = Member::open(path, array)?;
            let bytes = member.bytes;
            return Ok((Self::Member(Box::new(member)), bytes));
        }
        let bytes = path.metadata().map_err(columns::unreadable(path))?.len();
        Ok((Self::File(path.to_owned()), bytes))
    }

    /// The bytes from the start on.
    fn reader(&mut self, path: &Path) -> Result<BufReader<Box<dyn Read + '_>>, Trouble> {
        let reader: Box<dyn Read + '_> = match self {
            Self::File(file) => Box::new(File::open(file).map_err(columns::unreadable(path))?),
            Self::Member(member) => {
                Box::new(member.reader().map_err(|error| npz::damaged(path, error))?)
            }
        };
        Ok(BufReader::with_capacity(256 * 1024, reader))
    }
}

/// Whether a file starts as `.npy` files or `.npz` archives do.
pub(super) fn is_array(path: &Path) -> bool {
    let mut magic = [0; 6];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    (read.is_ok() && &magic == MAGIC) || npz::is_archive(path)
}

impl NpyFile {
    /// Reads the header of a file, or of the only array of an archive.
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        Self::open_array(path, None)
    }

    /// Reads the header of the array of this name, if the file is an archive.
    pub fn open_array(path: &Path, array: Option<&str>) -> Result<Self, Trouble> {
        let bad = |message: String| unusable(path, message);
        let (mut content, bytes) = Content::open(path, array)?;
        if bytes == 0 {
            return Err(columns::empty(path));
        }
        let header = read_header(&mut content.reader(path)?);
        let (header, start) = header.map_err(|message| bad(message.to_owned()))?;
        let array = parse_header(&header, path, content, start).map_err(bad)?;
        let expected = (array.width as u64).checked_mul(array.size as u64);
        let expected = expected.and_then(|bytes| bytes.checked_mul(array.rows as u64));
        let found = bytes.saturating_sub(start);
        if expected != Some(found) {
            let expected =
                expected.map_or_else(|| "too many".to_owned(), |bytes| bytes.to_string());
            return Err(bad(format!(
                "{found} bytes of data where the header announces {expected}"
            )));
        }
        if array.rows == 0 || array.width == 0 {
            return Err(columns::empty(path));
        }
        columns::check_count(array.width, path)?;
        Ok(array)
    }

    /// Appends the array to `into`; returns its rows.
    pub fn read(mut self, into: &mut Columns) -> Result<usize, Trouble> {
        let count = self.rows * self.width;
        let base = into.values.len();
        into.values.resize(base + count, 0.0);
        let is_wide = self.size > 4 || self.size == 4 && self.element != Element::Float;
        if is_wide || !into.rests.is_empty() {
            into.rests.resize(base + count, 0);
        }
        let mut buffer = vec![0; self.size * 8192];
        let mut done = 0;
        let mut content = std::mem::replace(&mut self.content, Content::File(PathBuf::new()));
        let mut reader = content.reader(&self.path)?;
        let unreadable = columns::unreadable(&self.path);
        let mut header = reader.by_ref().take(self.start);
        std::io::copy(&mut header, &mut std::io::sink()).map_err(&unreadable)?;
        while done < count {
            let bytes = &mut buffer[..self.size * (count - done).min(8192)];
            reader.read_exact(bytes).map_err(&unreadable)?;
            for number in bytes.chunks_exact(self.size) {
                let value = self.decode(number);
                // A file in column-major order goes down the columns.
                let (row, column) = if self.column_major {
                    (done % self.rows, done / self.rows)
                } else {
                    (done / self.width, done % self.width)
                };
                let (nearest, rest) = narrow(value);
                if nearest.is_infinite() {
                    let message =
                        format!("the value in row {row}, column {column} is infinite in 32 bits");
                    let hint = "rows and columns count from 0; replace it, or write NaN and choose a rule with `missing`";
                    return Err(Trouble::new(message).at(&self.path, None).hint(hint));
                }
                into.any_missing |= value.is_nan();
                let place = base + row * self.width + column;
                into.values[place] = nearest;
                if is_wide {
                    into.rests[place] = rest;
                }
                done += 1;
            }
        }
        // The sum of a member is checked at its end.
        if reader.read(&mut [0]).map_err(&unreadable)? > 0 {
            return Err(unusable(
                &self.path,
                "there is more data than the header announces".to_owned(),
            ));
        }
        Ok(self.rows)
    }

    fn decode(&self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        word[..self.size].copy_from_slice(bytes);
        if self.big_endian {
            word[..self.size].reverse();
        }
        let bits = u64::from_le_bytes(word);
        let unused = 64 - 8 * self.size as u32;
        match (self.element, self.size) {
            (Element::Float, 2) => f64::from(half_to_single(bits as u16)),
            (Element::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (Element::Float, _) => f64::from_bits(bits),
            (Element::Signed, _) => (((bits << unused) as i64) >> unused) as f64,
            (Element::Unsigned, _) => bits as f64,
            (Element::Boolean, _) => f64::from(u8::from(bits != 0)),
        }
    }
}

/// A float of 16 bits (IEEE 754 binary16) as one of 32, which holds every one of them.
fn half_to_single(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (bits >> 10 & 0x1f, f32::from(bits & 0x3ff) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2.0_f32.powi(-14),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (1.0 + fraction) * 2.0_f32.powi(i32::from(exponent) - 15),
    };
    sign * magnitude
}

const MAGIC: &[u8; 6] = b"\x93NUMPY";

fn unusable(path: &Path, message: String) -> Trouble {
    let hint = "write it with `numpy.save(file, array)`, where the array is numeric and 1- or 2-dimensional";
    Trouble::new(message).at(path, None).hint(hint)
}

/// The header, and how many bytes it takes with all before it.
fn read_header(reader: &mut impl Read) -> Result<(String, u64), &'static str> {
    const SHORT: &str = "the file ends within its header";
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(|_| SHORT)?;
    if &start[..6] != MAGIC {
        return Err("this is not an .npy file");
    }
    if !matches!(start[6..], [1..=3, 0]) {
        return Err("the file is of a version that is not 1.0, 2.0 or 3.0");
    }
    let mut length = [0; 4];
    let width = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..width]).map_err(|_| SHORT)?;
    let length = u32::from_le_bytes(length);
    if length > 1 << 20 {
        return Err("the header announces more than a mebibyte of itself");
    }
    let mut header = vec![0; length as usize];
    reader.read_exact(&mut header).map_err(|_| SHORT)?;
    let header = String::from_utf8(header).map_err(|_| "the header is not text")?;
    Ok((header, 8 + width as u64 + u64::from(length)))
}

/// The header is a Python dictionary with the keys `descr`, `fortran_order` and `shape`.
fn parse_header(
    header: &str,
    path: &Path,
    content: Content,
    start: u64,
) -> Result<NpyFile, String> {
    let Some(descr) = quoted(after(header, "descr")?) else {
        return Err("the array holds structures, not numbers".to_owned());
    };
    let Some((big_endian, element, size)) = number_type(descr) else {
        return Err(format!(
            "the array holds `{descr}`, which is not an integer, a boolean, or a 16-, 32- or 64-bit float"
        ));
    };
    let Some(shape) = between(after(header, "shape")?, '(', ')') else {
        return Err("the header's `shape` is not a tuple".to_owned());
    };
    let sizes = sizes_of(shape)?;
    let (rows, width) = match sizes[..] {
        [rows] => (rows, 1),
        [rows, width] => (rows, width),
        _ => {
            let found = sizes.len();
            return Err(format!(
                "the array has {found} dimensions, not [rows, channels]"
            ));
        }
    };
    Ok(NpyFile {
        path: path.to_owned(),
        content,
        start,
        rows,
        width,
        element,
        size,
        big_endian,
        column_major: match after(header, "fortran_order")? {
            "True" => true,
            "False" => false,
            other => {
                return Err(format!(
                    "`fortran_order` is `{other}`, neither True nor False"
                ));
            }
        },
    })
}

/// The numbers of a tuple without its parentheses. A tuple of one ends with a comma.
fn sizes_of(shape: &str) -> Result<Vec<usize>, String> {
    let items = shape.trim_matches(is_space);
    let items = match items.strip_suffix(',') {
        Some(items) => items,
        None if items.contains(',') => items,
        None => return Err("the header's `shape` is not a tuple".to_owned()),
    };
    let mut sizes = Vec::new();
    for size in items.split(',').map(|size| size.trim_matches(is_space)) {
        // Python does not take a number that begins with 0 either.
        let parsed = size
            .parse()
            .ok()
            .filter(|number: &usize| number.to_string() == size);
        sizes.push(parsed.ok_or_else(|| format!("`{size}` is not a size"))?);
    }
    Ok(sizes)
}

/// The value of a key of the header.
fn after<'a>(header: &'a str, key: &str) -> Result<&'a str, String> {
    let entries = entries(header)?;
    let found = entries.iter().find(|(name, _)| *name == key);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("the header has no `{key}`"))
}

/// What Python passes over between the parts of a dictionary.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0c')
}

/// The keys and values of the header, which is a dictionary as Python writes it.
fn entries(header: &str) -> Result<Vec<(&str, &str)>, String> {
    let bad = || "the header is not the dictionary that NumPy writes".to_owned();
    let text = header
        .trim_matches(is_space)
        .strip_prefix('{')
        .ok_or_else(bad)?;
    let mut rest = text.strip_suffix('}').ok_or_else(bad)?;
    rest = rest.trim_matches(is_space);
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let quote = rest
            .chars()
            .next()
            .filter(|first| ['\'', '"'].contains(first));
        let quote = quote.ok_or_else(bad)?;
        let (name, after) = rest[1..].split_once(quote).ok_or_else(bad)?;
        let value = after
            .trim_start_matches(is_space)
            .strip_prefix(':')
            .ok_or_else(bad)?;
        let (value, more) = value.split_at(end_of_value(value));
        entries.push((name, value.trim_matches(is_space)));
        rest = more.strip_prefix(',').unwrap_or(more);
        rest = rest.trim_start_matches(is_space);
    }
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    if names == ["descr", "fortran_order", "shape"] {
        Ok(entries)
    } else {
        Err(format!(
            "the header has {}, where `descr`, `fortran_order` and `shape` are expected",
            names.join(", ")
        ))
    }
}

/// Where a value ends: at a comma outside of brackets and quotes.
fn end_of_value(text: &str) -> usize {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => return at,
            (None, _) => {}
        }
    }
    text.len()
}

/// What stands between the marks that a text begins and ends with.
fn between(text: &str, open: char, close: char) -> Option<&str> {
    text.strip_prefix(open)?.strip_suffix(close)
}

/// What a text in quotes says.
fn quoted(text: &str) -> Option<&str> {
    between(text, '\'', '\'').or_else(|| between(text, '"', '"'))
}

/// A type such as `<f8`: whether the highest byte comes first, what the numbers are, and their bytes.
fn number_type(descr: &str) -> Option<(bool, Element, usize)> {
    let mut characters = descr.chars();
    let order = characters.next()?;
    if !['<', '>', '=', '|'].contains(&order) {
        return None;
    }
    let element = match characters.next()? {
        'f' => Element::Float,
        'i' => Element::Signed,
        'u' => Element::Unsigned,
        'b' => Element::Boolean,
        _ => return None,
    };
    let size = characters.as_str().parse().ok()?;
    let is_known = match element {
        Element::Float => matches!(size, 2 | 4 | 8),
        Element::Signed | Element::Unsigned => matches!(size, 1 | 2 | 4 | 8),
        Element::Boolean => size == 1,
    };
    is_known.then_some((order == '>', element, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::NullHost;

    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn values(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Result<Vec<f32>, Trouble> {
        let (_folder, path) = file(descr, fortran, shape, data);
        let mut columns = Columns::default();
        NpyFile::open(&path)?.read(&mut columns)?;
        Ok(columns.values)
    }

    #[test]
    fn reads_every_kind_of_number() {
        let doubles: Vec<u8> = [1.5_f64, -2.0, 3.0, 4.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(
            values("<f8", "False", "(2, 2)", &doubles).unwrap(),
            [1.5, -2.0, 3.0, 4.0]
        );
        assert_eq!(
            values("<f8", "True", "(2, 2)", &doubles).unwrap(),
            [1.5, 3.0, -2.0, 4.0]
        );
        let floats: Vec<u8> = [1.5_f32, -2.0]
            .iter()
            .flat_map(|value| value.to_be_bytes())
            .collect();
        assert_eq!(
            values(">f4", "False", "(2,)", &floats).unwrap(),
            [1.5, -2.0]
        );
        assert_eq!(
            values("<i2", "False", "(2, 1)", &[0xff, 0xff, 2, 0]).unwrap(),
            [-1.0, 2.0]
        );
        assert_eq!(
            values("|b1", "False", "(3,)", &[0, 1, 1]).unwrap(),
            [0.0, 1.0, 1.0]
        );
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let many = vec![0; 100_001];
        for (descr, shape, data, message) in [
            (
                "<f8",
                "(2, 2)",
                &[0_u8; 31][..],
                "31 bytes of data where the header announces 32",
            ),
            (
                "<f8",
                "(2, 9223372036854775808)",
                &[],
                "0 bytes of data where the header announces too many",
            ),
            (
                "|u1",
                "(4294967296, 4294967296)",
                &[],
                "0 bytes of data where the header announces too many",
            ),
            (
                "|u1",
                "(18446744073709551616, 1)",
                &[],
                "`18446744073709551616` is not a size",
            ),
            (
                "|b1",
                "(1, 100001)",
                &many,
                "100001 columns, more than the 100000",
            ),
            ("<c16", "(1,)", &[0; 16], "holds `<c16`"),
            ("<f4", "(1, 1, 1)", &[0; 4], "3 dimensions"),
            ("<f4", "(0, 3)", &[], "no rows"),
            ("<f4", "(1,\x0b)", &[0; 4], "is not a size"),
            (
                "<f4",
                "(1,)",
                &[0, 0, 0x80, 0x7f],
                "row 0, column 0 is infinite",
            ),
        ] {
            let error = values(descr, "False", shape, data).unwrap_err();
            assert!(error.message().contains(message), "{error}");
        }
    }

    #[test]
    fn a_missing_value_is_placed() {
        let data: Vec<u8> = [1.0_f32, 2.0, 3.0, f32::NAN]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let (_folder, path) = file("<f4", "False", "(4,)", &data);
        let npy: Npy =
            serde_json::from_value(serde_json::json!({"path": "a.npy", "split": {"train": 1.0}}))
                .unwrap();
        let error = npy
            .read(
                &NullHost {
                    files: vec![("a.npy".to_owned(), path)],
                }
                .context(0),
            )
            .unwrap_err();
        assert!(
            error.message().contains("`c0` in data row 4 is missing"),
            "{error}"
        );
    }

    /// What Python does not take for the dictionary of an array is not guessed at.
    #[test]
    fn a_header_is_a_dictionary_and_nothing_else() {
        let read = |descr: &str, fortran: &str, shape: &str| {
            values(descr, fortran, shape, &[7, 0, 0, 0]).map(|values| values.len())
        };
        assert_eq!(read("|u1", "True", "(2,2,)").unwrap(), 4);
        assert_eq!(read("=u2", "False", "(2,)").unwrap(), 2);
        for (descr, fortran, shape) in [
            ("xu1", "True", "(4,)"),
            ("|b2", "True", "(2,)"),
            ("|u1", "Truely", "(4,)"),
            ("|u1", "False", "(4)"),
            ("|u1", "False", "(04,)"),
            ("|u1", "False", "(2,,2)"),
            ("|u1", "False", "(4,) + ()"),
            ("|u1", "False", "(4,), 'more': (1,)"),
            ("|u1", "False", "(4,)}, {"),
        ] {
            assert!(
                read(descr, fortran, shape).is_err(),
                "{descr} {fortran} {shape}"
            );
        }
        assert!(entries("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)").is_err());
        let double = "{\"shape\": (1, 2), \"descr\": \"<f4\", \"fortran_order\": True}";
        assert_eq!(after(double, "shape").unwrap(), "(1, 2)");
        assert_eq!(
            values("|b1", "False", "(4,)", &[0, 1, 7, 0]).unwrap(),
            [0.0, 1.0, 1.0, 0.0]
        );
    }
}
