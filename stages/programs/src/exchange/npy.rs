//! NumPy's `.npy`: arrays of numbers of any shape. Read in either order of bytes and of memory; written row by row.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::cut::{pieces, wide_rows};
use super::frame::Content;
use contract::Trouble;
use contract::artifact::Series;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// A header is not longer.
const LONGEST_HEADER: usize = 1 << 20;

/// How one number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Signed,
    Unsigned,
    Float,
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    element: Element,
    /// Bytes per number.
    size: usize,
    big_endian: bool,
    column_major: bool,
    shape: Vec<usize>,
}

/// Reads an array.
pub(super) fn read(place: &Path, path: &Path) -> Result<Content, Trouble> {
    let bad = |reason: String| {
        let hint = "write it with `numpy.save(file, array)`, where the array is of numbers";
        let message = format!("`{}` cannot be read: {reason}", path.display());
        Trouble::new(message).at(path, None).hint(hint)
    };
    let failed = |error: std::io::Error| bad(error.to_string());
    let file = File::open(place).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let text = header_text(&mut reader).map_err(&bad)?;
    let header = parse(&text).map_err(&bad)?;
    let mut count = 1_usize;
    for axis in &header.shape {
        let product = count.checked_mul(*axis);
        count = product.ok_or_else(|| bad("it has more values than can be counted".to_owned()))?;
    }
    // What the header announces is not believed before the bytes are seen to be there.
    if (count as u64).saturating_mul(header.size as u64) > length {
        return Err(bad(format!(
            "{length} bytes cannot hold an array of shape {:?}",
            header.shape
        )));
    }
    let mut bytes = vec![0; count * header.size];
    reader.read_exact(&mut bytes).map_err(failed)?;
    let numbers = bytes.chunks_exact(header.size);
    let values: Vec<f64> = numbers.map(|number| header.decode(number)).collect();
    let values = match header.column_major && header.shape.len() > 1 {
        true => row_major(&values, &header.shape),
        false => values,
    };
    Ok(Content::Array {
        shape: header.shape,
        values,
    })
}

impl Header {
    fn decode(&self, bytes: &[u8]) -> f64 {
        let mut word = [0; 8];
        word[..self.size].copy_from_slice(bytes);
        if self.big_endian {
            word[..self.size].reverse();
        }
        let bits = u64::from_le_bytes(word);
        let unused = 64 - 8 * self.size as u32;
        match (self.element, self.size) {
            (Element::Float, 2) => half(bits as u16),
            (Element::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (Element::Float, _) => f64::from_bits(bits),
            (Element::Signed, _) => (((bits << unused) as i64) >> unused) as f64,
            (Element::Unsigned, _) => bits as f64,
        }
    }
}

/// A float of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (
        i32::from(bits >> 10 & 0x1f),
        f64::from(bits & 0x3ff) / 1024.0,
    );
    let magnitude = match exponent {
        0 => fraction * 2.0_f64.powi(-14),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction) * 2.0_f64.powi(exponent - 15),
    };
    sign * magnitude
}

/// Values whose first axis runs fastest, in the order in which the last one does.
fn row_major(values: &[f64], shape: &[usize]) -> Vec<f64> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for axis in shape {
        strides.push(stride);
        stride *= axis;
    }
    let mut index = vec![0; shape.len()];
    let mut ordered = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        let place: usize = index
            .iter()
            .zip(&strides)
            .map(|(at, stride)| at * stride)
            .sum();
        ordered.push(values[place]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    ordered
}

fn header_text(reader: &mut impl Read) -> Result<String, String> {
    let short = |_| "the file ends within its header".to_owned();
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(short)?;
    if &start[..6] != MAGIC {
        return Err("it is not an .npy file".to_owned());
    }
    let width = if start[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    reader.read_exact(&mut length[..width]).map_err(short)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST_HEADER {
        return Err("its header is too long".to_owned());
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(short)?;
    String::from_utf8(text).map_err(|_| "its header is not text".to_owned())
}

/// A header such as `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
fn parse(text: &str) -> Result<Header, String> {
    let after = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let unclear = || format!("its header is `{}`", text.trim().escape_debug());
    let kind = after("descr").ok_or_else(unclear)?;
    let Some(kind) = kind
        .strip_prefix('\'')
        .and_then(|kind| kind.split_once('\''))
    else {
        return Err("it holds structures, not numbers".to_owned());
    };
    let (element, size, big_endian) = element(kind.0)?;
    let order = after("fortran_order").ok_or_else(unclear)?;
    let shape = after("shape").and_then(|shape| shape.strip_prefix('('));
    let (shape, _) = shape
        .and_then(|shape| shape.split_once(')'))
        .ok_or_else(unclear)?;
    let axes = shape
        .split(',')
        .map(str::trim)
        .filter(|axis| !axis.is_empty());
    let shape: Result<Vec<usize>, _> = axes.map(str::parse).collect();
    Ok(Header {
        element,
        size,
        big_endian,
        column_major: order.starts_with("True"),
        shape: shape.map_err(|_| unclear())?,
    })
}

fn element(kind: &str) -> Result<(Element, usize, bool), String> {
    let unknown = || {
        let what = match kind.trim_start_matches(['<', '>', '|', '=']).chars().next() {
            Some('O') => "Python objects",
            Some('U' | 'S') => "texts",
            Some('c') => "complex numbers",
            Some('M' | 'm') => "times",
            _ => "something else",
        };
        format!("it holds {what} (`{kind}`), not numbers")
    };
    let (order, rest) = kind.split_at_checked(1).ok_or_else(unknown)?;
    let (letter, size) = rest.split_at_checked(1).ok_or_else(unknown)?;
    let element = match letter {
        "f" => Element::Float,
        "i" => Element::Signed,
        "u" | "b" => Element::Unsigned,
        _ => return Err(unknown()),
    };
    let size = size.parse::<usize>().map_err(|_| unknown())?;
    let fits = match element {
        Element::Float => matches!(size, 2 | 4 | 8),
        _ => matches!(size, 1 | 2 | 4 | 8),
    };
    if fits {
        Ok((element, size, order == ">"))
    } else {
        Err(unknown())
    }
}

/// Writes an array of bytes that are in the order of the machine's numbers: little-endian everywhere.
pub(super) fn write_array(
    place: &Path,
    kind: &str,
    shape: &[usize],
    pieces: impl IntoIterator<Item = Vec<u8>>,
) -> std::io::Result<()> {
    let mut axes: Vec<String> = shape.iter().map(usize::to_string).collect();
    if axes.len() == 1 {
        axes.push(String::new());
    }
    let mut header = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}",
        axes.join(", ").trim_end_matches(' ')
    );
    // Data begins at a multiple of 64 bytes, so that it can be mapped.
    const ALIGNMENT: usize = 64;
    let before = MAGIC.len() + 4;
    let padding = ALIGNMENT - (before + header.len() + 1) % ALIGNMENT;
    header.push_str(&" ".repeat(padding % ALIGNMENT));
    header.push('\n');
    let length = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let mut file = BufWriter::with_capacity(256 << 10, File::create_new(place)?);
    file.write_all(MAGIC)?;
    file.write_all(&[1, 0])?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for piece in pieces {
        file.write_all(&piece)?;
    }
    file.flush()
}

/// Writes rows of 32 bits, as many as the shape says.
pub(crate) fn write_rows<'a>(
    place: &Path,
    shape: &[usize],
    rows: impl Iterator<Item = &'a [f32]>,
) -> std::io::Result<()> {
    let bytes = |row: &[f32]| row.iter().flat_map(|value| value.to_le_bytes()).collect();
    write_array(place, "<f4", shape, rows.map(bytes))
}

/// Writes the values of a series: in 64 bits where a channel needs them.
pub(crate) fn write_series(place: &Path, shape: &[usize], series: &Series) -> std::io::Result<()> {
    match wide_rows(series) {
        Some(values) => write_array(place, "<f8", shape, pieces(&values, f64::to_le_bytes)),
        None => write_array(
            place,
            "<f4",
            shape,
            pieces(&series.values, f32::to_le_bytes),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(kind: &str, shape: &[usize], bytes: Vec<u8>) -> (Vec<usize>, Vec<f64>) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.npy");
        write_array(&place, kind, shape, [bytes]).unwrap();
        match read(&place, Path::new("a.npy")).unwrap() {
            Content::Array { shape, values } => (shape, values),
            Content::Columns(_) => panic!("not an array"),
        }
    }

    #[test]
    fn arrays_survive_their_file() {
        let floats: Vec<u8> = [1.5_f32, -2.0, 0.25, 8.0, 9.0, 1e9]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let expected = vec![1.5, -2.0, 0.25, 8.0, 9.0, 1e9];
        assert_eq!(
            round("<f4", &[6], floats.clone()),
            (vec![6], expected.clone())
        );
        assert_eq!(round("<f4", &[1, 3, 2], floats), (vec![1, 3, 2], expected));
        assert_eq!(
            round("|i1", &[2], vec![0xff, 3]),
            (vec![2], vec![-1.0, 3.0])
        );
        assert_eq!(round(">u2", &[1], vec![1, 2]), (vec![1], vec![258.0]));
        assert_eq!(round("<f2", &[1], vec![0, 0x3e]), (vec![1], vec![1.5]));
        assert_eq!(round("|b1", &[], vec![1]), (vec![], vec![1.0]));
    }

    #[test]
    fn the_other_order_of_memory_is_turned() {
        // [[1, 2, 3], [4, 5, 6]] by columns.
        assert_eq!(
            row_major(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0], &[2, 3]),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        );
    }

    #[test]
    fn what_is_no_array_of_numbers_is_told() {
        for (kind, word) in [("|O", "objects"), ("<U3", "texts"), ("<c8", "complex")] {
            let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (1,), }}");
            assert!(parse(&text).unwrap_err().contains(word), "{kind}");
        }
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.npy");
        write_array(&place, "<f8", &[1 << 40], [vec![0; 8]]).unwrap();
        let told = read(&place, Path::new("a.npy")).unwrap_err();
        assert!(told.message().contains("cannot hold"), "{told}");
        std::fs::write(&place, "score\n1\n").unwrap();
        assert!(read(&place, Path::new("a.npy")).is_err());
    }
}
