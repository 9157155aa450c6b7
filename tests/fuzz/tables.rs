//! Files of tables, put together at random: arrays of NumPy, Parquet, Arrow and text, in the forms in which programs
//! write them. Most are sound; what is wrong with the others is what people get wrong.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

pub const NPY_WORDS: &[&str] = &[
    "'descr': '<f8'",
    "'descr': '>i2'",
    "'descr': '|b1'",
    "'descr': '<c8'",
    "'fortran_order': True",
    "'shape': (2,)",
    "'shape': (1, 1, 1)",
    "(",
    ")",
    ",",
    " ",
    "\n",
    "L",
    "#",
];

pub const CSV_WORDS: &[&str] = &[
    ",", ";", "\t", "\n", "\r\n", "\"", "\"\"", " ", "#", "NaN", "NA", "-", "+", "e", "E-5", ".",
    "1e999", "0x10", "1_000", "inf", "True", "t", "\u{feff}", "é", "\u{0}", "\u{a0}", "sep=;",
];

/// 64 random bits, or a number where types end, or one that people write.
fn word() -> impl Strategy<Value = u64> {
    let floats = select(vec![
        0.0,
        -0.0,
        0.1,
        1e-45,
        1e-40,
        -2.5e-310,
        16_777_217.0,
        123_456_789.25,
        3.4e38,
        f64::MIN_POSITIVE,
    ]);
    prop_oneof![
        2 => any::<u64>(),
        2 => 0..200_u64,
        1 => (0..64_u32).prop_map(|bit| 1 << bit),
        1 => (0..64_u32).prop_map(|bit| u64::MAX >> bit),
        2 => floats.prop_map(f64::to_bits),
        2 => (-1e6..1e6).prop_map(f64::to_bits),
    ]
}

/// An array of NumPy, with a header as this version writes it or as others do.
pub fn array() -> impl Strategy<Value = Vec<u8>> {
    let kinds = vec![
        "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "c8", "U2",
    ];
    let shape = prop_oneof![
        (1..40_usize).prop_map(|rows| (rows, None)),
        (1..20_usize, 1..6_usize).prop_map(|(rows, width)| (rows, Some(width))),
    ];
    (
        select(vec!["<", ">", "|", "="]),
        select(kinds),
        any::<bool>(),
        shape,
        1..4_u8,
        vec(word(), 1..120),
        any::<u8>(),
    )
        .prop_map(|(order, kind, by_columns, shape, version, words, style)| {
            let size: usize = kind[1..].parse().expect("a kind ends with its size");
            let size = if kind.starts_with('U') {
                4 * size
            } else {
                size
            };
            let (rows, width) = (shape.0, shape.1.unwrap_or(1));
            let shape = match shape.1 {
                None => format!("({rows},)"),
                Some(width) => format!("({rows}, {width})"),
            };
            let by_columns = if by_columns { "True" } else { "False" };
            let header = header_of(style, &format!("{order}{kind}"), by_columns, &shape);
            let mut data = Vec::new();
            for index in 0..rows * width {
                let word = number_of(
                    kind,
                    words[index % words.len()].rotate_left(index as u32 / 64),
                );
                let mut bytes = word.to_le_bytes().repeat(size.div_ceil(8));
                bytes.truncate(size);
                if order == ">" {
                    bytes.reverse();
                }
                data.extend(bytes);
            }
            npy(version, &header, &data)
        })
}

/// A word as a number of a kind that 32 bits do not make infinite, most of the time.
fn number_of(kind: &str, word: u64) -> u64 {
    let float = f64::from_bits(word);
    match kind {
        "f4" if float.is_finite() => u64::from((float as f32).to_bits()),
        "f8" if float.abs() > 3e38 => (word as f64).to_bits(),
        "b1" => word & 1,
        _ => word,
    }
}

/// The header as NumPy writes it, or as it may stand there as well.
fn header_of(style: u8, kind: &str, by_columns: &str, shape: &str) -> String {
    match style % 6 {
        0 => format!(
            "{{\"shape\": {shape}, \"fortran_order\": {by_columns}, \"descr\": \"{kind}\"}}"
        ),
        1 => format!("{{ 'descr' : '{kind}' ,'fortran_order':{by_columns},'shape':{shape} }}"),
        _ => format!("{{'descr': '{kind}', 'fortran_order': {by_columns}, 'shape': {shape}, }}"),
    }
}

fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let prefix = if version == 1 { 10 } else { 12 };
    let padding = 63 - (prefix + header.len()) % 64;
    let length = header.len() + padding + 1;
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    if version == 1 {
        bytes.extend((length as u16).to_le_bytes());
    } else {
        bytes.extend((length as u32).to_le_bytes());
    }
    bytes.extend(header.as_bytes());
    bytes.extend(vec![b' '; padding]);
    bytes.push(b'\n');
    bytes.extend(data);
    bytes
}

pub fn arrays() -> Vec<Vec<u8>> {
    let header = |kind: &str, shape: &str| header_of(2, kind, "False", shape);
    vec![
        npy(1, &header("<f8", "(3, 2)"), &[0; 48]),
        npy(1, &header("<f4", "(6,)"), &[1; 24]),
        npy(2, &header(">i4", "(2, 2)"), &[7; 16]),
    ]
}

/// A column of some type; `None` is a null.
fn column(rows: usize) -> impl Strategy<Value = ArrayRef> {
    (
        0..15_u8,
        vec(
            prop_oneof![9 => word().prop_map(Some), 1 => Just(None)],
            rows,
        ),
        any::<bool>(),
    )
        .prop_map(|(kind, words, nulls)| {
            let words: Vec<Option<u64>> = words
                .into_iter()
                .map(|word| if nulls { word } else { word.or(Some(3)) })
                .collect();
            numbers(kind, &words)
        })
}

fn numbers(kind: u8, words: &[Option<u64>]) -> ArrayRef {
    macro_rules! integers {
        ($array:ident, $number:ty) => {
            Arc::new(
                words
                    .iter()
                    .map(|word| word.map(|word| word as $number))
                    .collect::<$array>(),
            )
        };
    }
    let floats = words.iter().map(|word| {
        let float = f64::from_bits((*word)?);
        Some(if float.abs() > 3e38 {
            word.unwrap_or(0) as f64
        } else {
            float
        })
    });
    match kind {
        0 => integers!(Int8Array, i8),
        1 => integers!(Int16Array, i16),
        2 => integers!(Int32Array, i32),
        3 => integers!(Int64Array, i64),
        4 => integers!(UInt8Array, u8),
        5 => integers!(UInt16Array, u16),
        6 => integers!(UInt32Array, u32),
        7 => integers!(UInt64Array, u64),
        8 => Arc::new(
            words
                .iter()
                .map(|word| word.map(|word| word % 2 == 1))
                .collect::<BooleanArray>(),
        ),
        9 => Arc::new(
            floats
                .map(|float| float.map(|float| float as f32))
                .collect::<Float32Array>(),
        ),
        // Fifteen digits, which a float holds.
        10 => {
            let numbers = words
                .iter()
                .map(|word| word.map(|word| i128::from(word as i64) % 10_i128.pow(15)));
            let array = numbers.collect::<Decimal128Array>();
            Arc::new(
                array
                    .with_precision_and_scale(18, 4)
                    .expect("eighteen digits are enough"),
            )
        }
        _ => Arc::new(floats.collect::<Float64Array>()),
    }
}

/// A column of times that do not go back. Parquet has no whole seconds: what this library writes instead is understood by
/// itself alone.
fn times(rows: usize, with_seconds: bool) -> impl Strategy<Value = ArrayRef> {
    (
        u8::from(!with_seconds)..7_u8,
        vec(0..10_000_i64, rows),
        -1_000_000_000_000_i64..1_000_000_000_000,
    )
        .prop_map(|(kind, steps, start)| {
            let mut at = start;
            let mut times = Vec::new();
            for step in steps {
                at += step;
                times.push(at);
            }
            let array: ArrayRef = match kind {
                0 => Arc::new(TimestampSecondArray::from(times)),
                1 => Arc::new(TimestampMillisecondArray::from(times)),
                2 => Arc::new(TimestampMicrosecondArray::from(times)),
                3 => Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")),
                4 => Arc::new(Date32Array::from_iter_values(
                    times.iter().map(|time| (time / 100_000_000) as i32),
                )),
                5 => {
                    Arc::new(TimestampMillisecondArray::from(times).with_timezone("Europe/Berlin"))
                }
                _ => Arc::new(Int64Array::from(times)),
            };
            array
        })
}

/// A table with a time and some columns, in one piece or in several.
fn batches(with_seconds: bool) -> impl Strategy<Value = Vec<RecordBatch>> {
    (1..30_usize)
        .prop_flat_map(move |rows| {
            (
                times(rows, with_seconds),
                vec(column(rows), 1..5),
                1..30_usize,
            )
        })
        .prop_map(|(times, columns, most)| {
            let named = columns
                .into_iter()
                .enumerate()
                .map(|(index, column)| (format!("c{index}"), column));
            let all: Vec<(String, ArrayRef)> = std::iter::once(("t".to_owned(), times))
                .chain(named)
                .collect();
            let table = RecordBatch::try_from_iter_with_nullable(
                all.into_iter().map(|(name, column)| (name, column, true)),
            )
            .expect("the columns are of one length");
            let starts = (0..table.num_rows()).step_by(most);
            starts
                .map(|start| table.slice(start, most.min(table.num_rows() - start)))
                .collect()
        })
}

pub fn parquet() -> impl Strategy<Value = Vec<u8>> {
    (
        batches(false),
        0..6_u8,
        any::<bool>(),
        any::<bool>(),
        1..20_usize,
    )
        .prop_map(|(batches, compression, is_new, with_dictionary, rows)| {
            let compression = match compression {
                0 => Compression::SNAPPY,
                1 => Compression::GZIP(GzipLevel::default()),
                2 => Compression::ZSTD(ZstdLevel::default()),
                3 => Compression::LZ4_RAW,
                4 => Compression::BROTLI(BrotliLevel::default()),
                _ => Compression::UNCOMPRESSED,
            };
            let version = if is_new {
                WriterVersion::PARQUET_2_0
            } else {
                WriterVersion::PARQUET_1_0
            };
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .set_writer_version(version)
                .set_dictionary_enabled(with_dictionary)
                .set_max_row_group_row_count(Some(rows))
                .set_data_page_row_count_limit(rows)
                .build();
            let mut bytes = Vec::new();
            let schema = batches[0].schema();
            let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties))
                .expect("Parquet has these types");
            for batch in &batches {
                writer.write(batch).expect("memory can be written");
            }
            writer.close().expect("memory can be written");
            bytes
        })
}

pub fn arrow() -> impl Strategy<Value = Vec<u8>> {
    (batches(true), 0..3_u8, any::<bool>()).prop_map(|(batches, compression, is_stream)| {
        let compression = match compression {
            0 => None,
            1 => Some(CompressionType::LZ4_FRAME),
            _ => Some(CompressionType::ZSTD),
        };
        let options = IpcWriteOptions::default()
            .try_with_compression(compression)
            .expect("both are built in");
        let schema = batches[0].schema();
        if is_stream {
            let mut writer =
                StreamWriter::try_new_with_options(Vec::new(), &schema, options).expect("a schema");
            batches
                .iter()
                .for_each(|batch| writer.write(batch).expect("memory can be written"));
            writer.into_inner().expect("memory can be written")
        } else {
            let mut writer =
                FileWriter::try_new_with_options(Vec::new(), &schema, options).expect("a schema");
            batches
                .iter()
                .for_each(|batch| writer.write(batch).expect("memory can be written"));
            writer.into_inner().expect("memory can be written")
        }
    })
}

/// A small table, whose bytes are changed.
fn small() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("t", Arc::new(Int64Array::from(vec![5, 6, 7]))),
        ("a", Arc::new(Float64Array::from(vec![1.5, -2.0, 3e9]))),
        ("b", Arc::new(Int16Array::from(vec![1, 0, -7]))),
    ];
    RecordBatch::try_from_iter(columns).expect("the columns are of one length")
}

pub fn parquets() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, small().schema(), None).expect("Parquet has these types");
    writer.write(&small()).expect("memory can be written");
    writer.close().expect("memory can be written");
    vec![bytes]
}

pub fn arrows() -> Vec<Vec<u8>> {
    let mut file = FileWriter::try_new(Vec::new(), &small().schema()).expect("a schema");
    file.write(&small()).expect("memory can be written");
    let mut stream = StreamWriter::try_new(Vec::new(), &small().schema()).expect("a schema");
    stream.write(&small()).expect("memory can be written");
    vec![
        file.into_inner().expect("memory can be written"),
        stream.into_inner().expect("memory can be written"),
    ]
}

/// A field of a text: numbers in all spellings, and what people write instead.
fn field() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "",
        "NaN",
        "nan",
        "NA",
        "null",
        "-",
        "?",
        "N/A",
        " ",
        "1e5",
        "+3",
        "-0",
        ".5",
        "5.",
        "1E-3",
        "007",
        "1,5",
        "1.234,5",
        "1.234",
        "12,345.6",
        "1e-400",
        "4.9e-324",
        "9007199254740993",
        "1e400",
        "true",
        "x",
        "1 2",
        "--1",
        "1e",
        "١",
        "0x1p3",
        "1d5",
        "1f",
        "\u{2212}1",
        "1e+05",
        "00.10",
        "1.#IND",
        "9223372036854775808",
        "18446744073709551616",
        "340282346638528859811704183484516925440",
    ]);
    let number = prop_oneof![
        (-1e4..1e4).prop_map(|value: f64| format!("{value:.6}")),
        (0.0..10.0).prop_map(|value: f64| format!("{value:.6}")),
        any::<i32>().prop_map(|value| value.to_string()),
        any::<f32>()
            .prop_map(|value| if value.is_finite() { value } else { 0.5 })
            .prop_map(|value| format!("{value:e}")),
        // What 32 bits do not reach becomes its inverse: numbers that are thrown away are counted, and end a long run.
        any::<f64>()
            .prop_map(|value| if value.abs() < 3e38 {
                value
            } else {
                value.recip()
            })
            .prop_map(|value| format!("{value:?}")),
        (any::<u64>(), 0..30_usize)
            .prop_map(|(digits, point)| with_point(&digits.to_string(), point)),
    ];
    (
        prop_oneof![400 => number, 1 => odd.prop_map(str::to_owned)],
        0..40_u8,
    )
        .prop_map(|(text, style)| match style {
            0 => format!("\"{text}\""),
            1 => format!(" {text}"),
            2 => format!("{text} "),
            _ => text,
        })
}

fn with_point(digits: &str, point: usize) -> String {
    let point = point.min(digits.len());
    format!("{}.{}", &digits[..point], &digits[point..])
}

/// How a text is written.
#[derive(Clone, Copy)]
pub struct Writing {
    pub delimiter: &'static str,
    pub has_header: bool,
    /// Whether the first column is a time.
    pub has_time: bool,
    /// Whether a comma stands before decimals.
    pub has_comma: bool,
}

/// Text of a table.
pub fn text(writing: Writing) -> impl Strategy<Value = Vec<u8>> {
    (
        select(vec!["\n", "\r\n"]),
        (1..5_usize, 1..14_usize).prop_flat_map(|(width, rows)| vec(vec(field(), width), rows)),
        0..30_u8,
        0..86_400_000_u32,
    )
        .prop_map(move |(end, rows, style, step)| {
            let delimiter = writing.delimiter;
            let mut lines = Vec::new();
            if writing.has_header {
                let names: Vec<String> = (0..rows[0].len())
                    .map(|index| format!("a{index}"))
                    .collect();
                let names = names.join(delimiter);
                lines.push(if writing.has_time {
                    format!("t{delimiter}{names}")
                } else {
                    names
                });
            }
            for (number, row) in rows.iter().enumerate() {
                let fields = row.join(delimiter);
                let fields = if writing.has_comma {
                    fields.replace('.', ",")
                } else {
                    fields
                };
                let time = stamp(style, number as u64 * u64::from(step));
                lines.push(if writing.has_time {
                    format!("{time}{delimiter}{fields}")
                } else {
                    fields
                });
            }
            let mut text = lines.join(end);
            if style % 3 > 0 {
                text.push_str(end);
            }
            match style {
                0 => format!("\u{feff}{text}").into_bytes(),
                1 => packed(text.as_bytes()),
                2 => format!("{text}{end}{end}").into_bytes(),
                _ => text.into_bytes(),
            }
        })
}

/// A time in one of the forms of ISO 8601.
fn stamp(style: u8, milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let day = 1 + seconds / 86_400 % 28;
    match style % 5 {
        0 => format!("2021-03-{day:02} {hour:02}:{minute:02}:{second:02}"),
        1 => format!(
            "2021-03-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            milliseconds % 1000
        ),
        2 => format!("2021-03-{day:02}T{hour:02}:{minute:02}:{second:02}+05:30"),
        3 => format!("2021-03-{day:02}"),
        _ => format!("2021-03-{day:02} {hour:02}:{minute:02}"),
    }
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text).expect("memory can be written");
    packed.finish().expect("memory can be written")
}

pub fn texts() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 5] = [
        b"t,a,b\n2020-01-01,1.25,0\n2020-01-02,,1\n2020-01-03,3e4,0\n",
        b"a,b\n1,2\n\"3\",4\n5.5,-6e-3\n",
        b"1;2\n3;4\n5;6\n",
        b"x\ty\n0.123456\t7.000001\n1.5\t2\n",
        b"x;y\n1,5;2.000,25\n-3,25;4\n",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}
