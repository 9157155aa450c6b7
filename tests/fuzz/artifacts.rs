//! Files of artifacts: examples with changed bytes, and Parquet files of columns that no stage writes. What is decoded is
//! an artifact that can be encoded, and comes back as it is; anything else is an error.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMillisecondArray, TimestampSecondArray, UInt8Array, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use contract::artifact::{
    Artifact, ArtifactError, ArtifactKind, Column, Digest, Direction, FileEntry, Files, Forecasts,
    Image, Images, Metric, Metrics, Model, Origin, Parts, Predictions, RelativePath, Scores,
    Segment, Series, Split, Table, TensorData, WindowRun, WindowSpec, Windows,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::frame::fuzz;
use crate::mutate;

/// Text inside the files.
const WORDS: &[&str] = &[
    "runner.format",
    "runner.segments",
    "runner.time",
    "runner.label",
    "series/1",
    "series/2",
    "scores/1",
    "windows/1",
    "model/1",
    "F32",
    "I64",
    "data_offsets",
    "shape",
    "__metadata__",
    "../",
    "/",
    "\\",
    "\u{0}",
    "18446744073709551615",
    "9223372036854775807",
    "{\"start\":0,\"end\":4}",
    "PAR1",
];

/// The parts of every example.
struct Known;

impl Parts for Known {
    fn artifact(&self, digest: &Digest) -> Result<Artifact, ArtifactError> {
        if *digest == SERIES.digest() {
            return Ok(Artifact::from(SERIES.clone()));
        }
        Err(ArtifactError::MissingPart(digest.to_string()))
    }

    fn blob(&self, digest: &Digest) -> Result<PathBuf, ArtifactError> {
        Ok(PathBuf::from(digest.to_string()))
    }
}

static SERIES: LazyLock<Series> = LazyLock::new(|| Series {
    channels: vec!["cpu".into(), "runner.x".into()],
    values: (0..14).map(|value| value as f32 * 0.5).collect(),
    labels: vec![0, 0, 0, 0, 1, 1, 0],
    times: (0..7).collect(),
    segments: vec![
        Segment::new(Split::Train, "m", 0..4),
        Segment::new(Split::Test, "m", 4..7).labelled(true),
    ],
    ..Series::default()
});

fn path(text: &str) -> RelativePath {
    RelativePath::new(text).unwrap()
}

/// One of each kind, in the order of [`ArtifactKind::ALL`].
fn one_of_each() -> Vec<Artifact> {
    let series = SERIES.clone();
    let run = WindowRun {
        split: Split::Train,
        first: 0,
        stride: 1,
        count: 2,
        rows: (0, 4),
    };
    let rgb: Vec<u8> = (0..12).collect();
    let files = vec![FileEntry::from_bytes(path("a/b.txt"), b"text".to_vec())];
    vec![
        series.clone().into(),
        Windows {
            series: Arc::new(series.clone()),
            spec: WindowSpec {
                length: 2,
                horizon: 1,
            },
            runs: vec![run],
        }
        .into(),
        Model {
            config: json!({"kind": "x"}),
            training: json!({"losses": [0.5, null]}),
            tensors: [("w".to_owned(), TensorData::from_f32(&[2, 1], &[1.0, 2.0]))].into(),
        }
        .into(),
        Scores {
            scores: vec![0.5; 7],
            labels: series.labels.clone(),
            times: series.times.clone(),
            segments: series.segments.clone(),
            channels: series.channels.clone(),
            contributions: series.values.clone(),
        }
        .into(),
        Forecasts {
            channels: vec!["a".into()],
            horizon: 2,
            origins: vec![Origin {
                split: Split::Test,
                entity: "m".into(),
                row: 3,
            }],
            times: vec![0, 60_000],
            predicted: vec![1.0, 2.0],
            actual: vec![1.0, 3.0],
            judged: vec![1, 0],
            naive_error: vec![f64::INFINITY],
        }
        .into(),
        Predictions {
            classes: vec!["a".into(), "b".into()],
            samples: vec!["s".into()],
            splits: vec![Split::Test],
            entities: vec!["m".into()],
            times: vec![5],
            truth: vec![1],
            probabilities: vec![0.25, 0.75],
        }
        .into(),
        Metrics {
            entries: vec![Metric {
                name: "f1".into(),
                value: Some(0.5),
                direction: Direction::Higher,
                oracle: false,
                inflating: true,
                caveat: "c".into(),
            }],
        }
        .into(),
        Images {
            height: 2,
            width: 2,
            classes: vec!["c".into()],
            images: vec![Image::from_rgb("p", Split::Train, Some(0), (2, 2), &rgb).unwrap()],
        }
        .into(),
        Table::new(vec![
            ("epoch", vec![1_i64, 2].into()),
            ("loss", Column::Reals(vec![Some(0.5), None])),
            ("note", vec!["a".to_owned(), "b".to_owned()].into()),
        ])
        .unwrap()
        .into(),
        Files::with_folders(files, vec![path("empty")])
            .unwrap()
            .into(),
    ]
}

/// The number of the kind, then the bytes of its file.
fn input(number: usize, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.insert(0, number as u8);
    bytes
}

fn examples() -> Vec<Vec<u8>> {
    let encoded = |(number, artifact): (usize, &Artifact)| {
        let mut bytes = Vec::new();
        artifact.encode_to(&mut bytes).unwrap();
        assert_eq!(artifact.kind(), ArtifactKind::ALL[number]);
        input(number, bytes)
    };
    one_of_each().iter().enumerate().map(encoded).collect()
}

/// Names of columns that decoders look for.
const COLUMNS: &[&str] = &[
    "runner.time",
    "runner.label",
    "runner.split",
    "runner.entity",
    "runner.row",
    "runner.step",
    "entity",
    "split",
    "time",
    "row",
    "step",
    "first",
    "stride",
    "count",
    "rows_start",
    "rows_end",
    "score",
    "label",
    "contribution.a",
    "judged.a",
    "actual.a",
    "predicted.a",
    "sample",
    "class",
    "predicted",
    "probability.a",
    "probability.b",
    "name",
    "value",
    "direction",
    "oracle",
    "inflating",
    "caveat",
    "image",
    "path",
    "executable",
    "size",
    "digest",
    "a",
    "",
];

const TEXTS: &[&str] = &[
    "train", "test", "a", "b", "", "higher", "../x", "/x", "a/b", "a/", ".", "\u{0}", "x.png",
];

const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    7,
    1 << 20,
    1 << 31,
    1 << 32,
    1 << 62,
    u64::MAX - 1,
    u64::MAX,
];

/// A column of some type with so many rows.
fn column(rows: usize) -> impl Strategy<Value = ArrayRef> {
    let numbers = || vec(select(NUMBERS), rows);
    let texts = vec(select(TEXTS), rows);
    let digest = Digest::of_bytes(b"text").to_string();
    prop_oneof![
        3 => numbers().prop_map(|values| Arc::new(UInt64Array::from(values)) as ArrayRef),
        1 => numbers().prop_map(|values| {
            Arc::new(values.into_iter().map(|value| value as i64).collect::<Int64Array>()) as ArrayRef
        }),
        1 => numbers().prop_map(|values| {
            Arc::new(values.into_iter().map(|value| value as u32).collect::<UInt32Array>()) as ArrayRef
        }),
        1 => numbers().prop_map(|values| {
            Arc::new(values.into_iter().map(|value| value as u8).collect::<UInt8Array>()) as ArrayRef
        }),
        3 => vec(any::<f32>(), rows).prop_map(|values| Arc::new(Float32Array::from(values)) as ArrayRef),
        1 => vec(any::<f64>(), rows).prop_map(|values| Arc::new(Float64Array::from(values)) as ArrayRef),
        1 => vec(any::<i64>(), rows).prop_map(|values| {
            Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC")) as ArrayRef
        }),
        1 => vec(any::<i64>(), rows).prop_map(|values| Arc::new(TimestampSecondArray::from(values)) as ArrayRef),
        1 => vec(any::<bool>(), rows).prop_map(|values| Arc::new(BooleanArray::from(values)) as ArrayRef),
        3 => texts.prop_map(|texts| Arc::new(StringArray::from(texts)) as ArrayRef),
        1 => Just(Arc::new(StringArray::from(vec![digest; rows])) as ArrayRef),
        1 => vec(vec(any::<u8>(), 0..9), rows)
            .prop_map(|values| Arc::new(values.into_iter().map(Some).collect::<BinaryArray>()) as ArrayRef),
    ]
}

/// The columns of some kind, in place, each perhaps of another type.
fn layout() -> impl Strategy<Value = (usize, Vec<&'static str>)> {
    let layouts: Vec<(usize, Vec<&str>)> = vec![
        (0, vec!["runner.time", "runner.label", "a", "b"]),
        (0, vec!["a"]),
        (
            1,
            vec![
                "split",
                "first",
                "stride",
                "count",
                "rows_start",
                "rows_end",
            ],
        ),
        (3, vec!["score", "label", "contribution.a"]),
        (
            3,
            vec![
                "entity",
                "split",
                "time",
                "score",
                "label",
                "contribution.a",
            ],
        ),
        (
            4,
            vec![
                "runner.split",
                "runner.entity",
                "runner.row",
                "runner.step",
                "actual.a",
                "predicted.a",
            ],
        ),
        (
            4,
            vec![
                "entity",
                "split",
                "time",
                "row",
                "step",
                "actual.a",
                "predicted.a",
            ],
        ),
        (
            5,
            vec![
                "entity",
                "split",
                "time",
                "sample",
                "class",
                "predicted",
                "probability.a",
            ],
        ),
        (
            5,
            vec![
                "sample",
                "split",
                "class",
                "predicted",
                "probability.a",
                "probability.b",
            ],
        ),
        (
            6,
            vec![
                "name",
                "value",
                "direction",
                "oracle",
                "inflating",
                "caveat",
            ],
        ),
        (7, vec!["image", "label", "class", "split"]),
        (8, vec!["a", "b"]),
        (9, vec!["path", "executable", "size", "digest"]),
    ];
    prop_oneof![
        6 => select(layouts),
        1 => (0..ArtifactKind::ALL.len(), vec(select(COLUMNS), 0..7)),
    ]
}

/// What stands in a footer.
fn metadata(kind: usize) -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let number = || select(NUMBERS);
    let segments = vec((number(), number(), select(TEXTS)), 0..4).prop_map(|parts| {
        let segment = |(start, end, entity): &(u64, u64, &str)| {
            json!({"split": "train", "entity": entity, "rows": {"start": start, "end": end}, "labelled": true})
        };
        json!(parts.iter().map(segment).collect::<Vec<_>>()).to_string()
    });
    let names = [
        "series",
        "windows",
        "model",
        "scores",
        "forecasts",
        "predictions",
        "metrics",
        "images",
        "table",
        "files",
    ];
    let texts = || vec(select(TEXTS), 0..4).prop_map(|texts| json!(texts).to_string());
    let spec = (number(), number())
        .prop_map(|(length, horizon)| json!({"length": length, "horizon": horizon}).to_string());
    let size = (number(), number()).prop_map(|(height, width)| json!([height, width]).to_string());
    let errors = vec(
        prop_oneof![
            Just("1.5".to_owned()),
            Just("\"7ff0000000000000\"".to_owned()),
            Just("\"x\"".to_owned())
        ],
        0..3,
    )
    .prop_map(|values| format!("[{}]", values.join(",")));
    let layout = 1..3_u8;
    (
        layout,
        segments,
        texts(),
        texts(),
        spec,
        size,
        number(),
        errors,
    )
        .prop_map(
            move |(layout, segments, channels, classes, spec, size, horizon, errors)| {
                vec![
                    ("runner.format", format!("{}/{layout}", names[kind])),
                    ("runner.segments", segments),
                    ("runner.channels", channels),
                    ("runner.classes", classes),
                    ("runner.spec", spec),
                    ("runner.size", size),
                    ("runner.horizon", horizon.to_string()),
                    ("runner.naive_error", errors),
                    ("runner.series", json!(SERIES.digest()).to_string()),
                ]
            },
        )
}

/// Parquet files whose schema and footer are right in form.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    (layout(), 0..5_usize, 0..3_u8, any::<bool>()).prop_flat_map(
        |((kind, names), rows, form, bare)| {
            let columns: Vec<_> = names.iter().map(|_| column(rows)).collect();
            (columns, metadata(kind)).prop_map(move |(columns, metadata)| {
                input(
                    kind,
                    written(&names, columns, &metadata, form, bare).unwrap_or_default(),
                )
            })
        },
    )
}

fn written(
    names: &[&str],
    columns: Vec<ArrayRef>,
    metadata: &[(&str, String)],
    form: u8,
    bare: bool,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let field =
        |(name, array): (&&str, &ArrayRef)| Field::new(*name, array.data_type().clone(), false);
    let fields: Vec<Field> = names.iter().zip(&columns).map(field).collect();
    let pairs = metadata
        .iter()
        .map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone()))
        .collect();
    let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs));
    let properties = match form {
        0 => properties.set_dictionary_enabled(false),
        1 => properties.set_compression(Compression::SNAPPY),
        // Encodings are by name, so that two columns of one name stay plain.
        _ => names.iter().zip(&columns).fold(
            properties.set_dictionary_enabled(false),
            |properties, (name, array)| {
                let is_once = names.iter().filter(|other| *other == name).count() == 1;
                let encoding = match array.data_type() {
                    DataType::Utf8 if is_once => Encoding::DELTA_BYTE_ARRAY,
                    DataType::UInt64 | DataType::Int64 if is_once => Encoding::DELTA_BINARY_PACKED,
                    _ => Encoding::PLAIN,
                };
                properties.set_column_encoding(ColumnPath::new(vec![(*name).to_owned()]), encoding)
            },
        ),
    };
    let options = ArrowWriterOptions::new()
        .with_properties(properties.build())
        .with_skip_arrow_metadata(bare);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

#[test]
fn artifacts() {
    fuzz(
        "artifacts",
        prop_oneof![mutate::mutated(examples(), WORDS), forged()],
        judge,
    );
}

fn judge(input: &[u8]) -> Result<(), String> {
    let Some((kind, bytes)) = input.split_first() else {
        return Ok(());
    };
    let kind = ArtifactKind::ALL[usize::from(*kind) % ArtifactKind::ALL.len()];
    let Ok(artifact) = Artifact::decode(kind, bytes.to_vec().into(), &Known) else {
        return Ok(());
    };
    let digest = artifact.digest();
    if let Artifact::Windows(windows) = &artifact {
        for start in Split::ALL
            .into_iter()
            .flat_map(|split| windows.starts(split))
        {
            let _ = (windows.input(start), windows.target(start));
        }
    }
    for leaf in artifact.leaves() {
        let _ = leaf.shape.iter().product::<usize>();
    }
    let mut again = Vec::new();
    artifact
        .encode_to(&mut again)
        .map_err(|error| format!("it cannot be written again: {error}"))?;
    let again = Artifact::decode(kind, again.into(), &Known)
        .map_err(|error| format!("nor be read again: {error}"))?;
    if again.digest() == digest {
        Ok(())
    } else {
        Err("it comes back with another digest".to_owned())
    }
}
