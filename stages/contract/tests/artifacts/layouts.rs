//! Layouts of files: older ones still read, what the columns say may not contradict the footer, and the tables for people
//! name what is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Int64Array, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, TimeUnit};
use contract::artifact::{
    Artifact, ArtifactKind, Column, Forecasts, Image, Images, LAYOUTS, Layout, Metrics, Origin,
    Predictions, Scores, Segment, Series, Split, Table, WindowSpec, Windows,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::encoded;
use super::forged::{parquet, plain};
use super::parts::Here;

const SEGMENTS: &str = r#"[
    {"split": "train", "entity": "pump", "rows": {"start": 0, "end": 2}, "labelled": false},
    {"split": "test", "entity": "pump", "rows": {"start": 2, "end": 5}, "labelled": true}
]"#;

fn segments() -> Vec<Segment> {
    vec![
        Segment::new(Split::Train, "pump", 0..2),
        Segment::new(Split::Test, "pump", 2..5).labelled(true),
    ]
}

fn floats(values: &[f32]) -> ArrayRef {
    Arc::new(Float32Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn bytes(values: &[u8]) -> ArrayRef {
    Arc::new(UInt8Array::from(values.to_vec()))
}

fn file(format: &str, columns: Vec<(&str, ArrayRef)>, metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut all = vec![("runner.format", format.to_owned())];
    for (key, value) in metadata {
        all.push((*key, (*value).to_owned()));
    }
    parquet(columns, &all, plain())
}

/// Reads a file of an old layout, which must be this artifact; written again, it has today's.
#[track_caller]
fn is_read_as(old: Vec<u8>, expected: &Artifact) {
    let kind = expected.kind();
    let found = Artifact::decode(kind, old.into(), &Here::of(expected)).unwrap();
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    assert_eq!(found.digest(), expected.digest());
    let again = Artifact::decode(kind, encoded(&found).into(), &Here::of(expected)).unwrap();
    assert_eq!(again.digest(), expected.digest());
}

#[test]
fn a_series_with_times_as_integers_is_read() {
    let times = vec![1_600_000_000_000, 1_600_000_000_500, -1, 0, i64::MAX];
    let columns = vec![
        (
            "runner.time",
            Arc::new(Int64Array::from(times.clone())) as ArrayRef,
        ),
        ("runner.label", bytes(&[0, 0, 0, 1, 0])),
        ("flow", floats(&[1.0, 2.0, 3.0, 4.0, 5.0])),
    ];
    let series = Series {
        channels: vec!["flow".into()],
        values: vec![1.0, 2.0, 3.0, 4.0, 5.0],
        labels: vec![0, 0, 0, 1, 0],
        times,
        segments: segments(),
        ..Series::default()
    };
    let old = file("series/1", columns, &[("runner.segments", SEGMENTS)]);
    is_read_as(old, &series.into());
}

#[test]
fn times_of_other_units_are_read() {
    let times = TimestampMicrosecondArray::from(vec![-1, 2_500, 3_000, 4_999, 5_000]);
    let columns = vec![
        ("runner.time", Arc::new(times) as ArrayRef),
        ("flow", floats(&[0.0; 5])),
    ];
    let new = file("series/2", columns, &[("runner.segments", SEGMENTS)]);
    let any = Artifact::from(Metrics::default());
    let found = Artifact::decode(ArtifactKind::Series, new.into(), &Here::of(&any)).unwrap();
    let Artifact::Series(series) = found else {
        panic!("not a series")
    };
    assert_eq!(series.times, [-1, 2, 3, 4, 5]);
}

#[test]
fn scores_of_the_first_layout_are_read() {
    let scores = |labels: Vec<u8>, contributions: Vec<f32>| {
        let channels = if contributions.is_empty() {
            vec![]
        } else {
            vec!["flow".into()]
        };
        Artifact::from(Scores {
            scores: vec![0.5, 1.5, 2.5, 3.5, 4.5],
            labels,
            times: vec![],
            segments: segments(),
            channels,
            contributions,
        })
    };
    let score = || ("score", floats(&[0.5, 1.5, 2.5, 3.5, 4.5]));
    let metadata = |channels| [("runner.segments", SEGMENTS), ("runner.channels", channels)];
    let bare = file("scores/1", vec![score()], &metadata("[]"));
    is_read_as(bare, &scores(vec![], vec![]));
    let parts = [0.5, 1.5, 2.5, 3.5, 4.5];
    let columns = vec![
        score(),
        ("label", bytes(&[0, 0, 0, 1, 1])),
        ("contribution.flow", floats(&parts)),
    ];
    let full = file("scores/1", columns, &metadata(r#"["flow"]"#));
    is_read_as(full, &scores(vec![0, 0, 0, 1, 1], parts.to_vec()));
}

#[test]
fn forecasts_of_the_first_layout_are_read() {
    let columns = vec![
        ("runner.split", texts(&["test"; 4])),
        ("runner.entity", texts(&["a", "a", "b", "b"])),
        (
            "runner.row",
            Arc::new(UInt64Array::from(vec![7, 7, 9, 9])) as ArrayRef,
        ),
        ("runner.step", Arc::new(UInt32Array::from(vec![0, 1, 0, 1]))),
        ("actual.flow", floats(&[1.0, 2.0, 3.0, 4.0])),
        ("predicted.flow", floats(&[1.5, 2.5, 3.5, 4.5])),
    ];
    let metadata = [
        ("runner.channels", r#"["flow"]"#),
        ("runner.horizon", "2"),
        ("runner.naive_error", "[0.25]"),
    ];
    let origin = |entity: &str, row| Origin {
        split: Split::Test,
        entity: entity.into(),
        row,
    };
    let forecasts = Forecasts {
        channels: vec!["flow".into()],
        horizon: 2,
        origins: vec![origin("a", 7), origin("b", 9)],
        predicted: vec![1.5, 2.5, 3.5, 4.5],
        actual: vec![1.0, 2.0, 3.0, 4.0],
        naive_error: vec![0.25],
        ..Forecasts::default()
    };
    is_read_as(file("forecasts/1", columns, &metadata), &forecasts.into());
}

#[test]
fn predictions_of_the_first_layout_are_read() {
    let columns = vec![
        ("sample", texts(&["x", "y"])),
        ("split", texts(&["train", "test"])),
        ("class", texts(&["up", "down"])),
        ("predicted", texts(&["up", "up"])),
        ("probability.down", floats(&[0.25, 0.25])),
        ("probability.up", floats(&[0.75, 0.75])),
    ];
    let predictions = Predictions {
        classes: vec!["down".into(), "up".into()],
        samples: vec!["x".into(), "y".into()],
        splits: vec![Split::Train, Split::Test],
        truth: vec![1, 0],
        probabilities: vec![0.25, 0.75, 0.25, 0.75],
        ..Predictions::default()
    };
    let metadata = [("runner.classes", r#"["down", "up"]"#)];
    let old = file("predictions/1", columns.clone(), &metadata);
    is_read_as(old, &predictions.clone().into());
    let mut unknown = columns;
    unknown.remove(2);
    let old = file("predictions/1", unknown, &metadata);
    let truth = Vec::new();
    is_read_as(
        old,
        &Predictions {
            truth,
            ..predictions
        }
        .into(),
    );
}

/// Why a file is refused.
#[track_caller]
fn refusal(kind: ArtifactKind, bytes: Vec<u8>) -> String {
    let any = Artifact::from(Metrics::default());
    let found = Artifact::decode(kind, bytes.into(), &Here::of(&any));
    found.unwrap_err().to_string()
}

#[test]
fn columns_that_contradict_the_footer_are_refused() {
    let scores = |entities: &[&str], splits: &[&str]| {
        let times = TimestampMillisecondArray::from(vec![0, 1, 2, 3, 4]).with_timezone("UTC");
        let columns = vec![
            ("entity", texts(entities)),
            ("split", texts(splits)),
            ("time", Arc::new(times) as ArrayRef),
            ("score", floats(&[0.0; 5])),
            ("label", bytes(&[0; 5])),
        ];
        let metadata = [("runner.segments", SEGMENTS), ("runner.channels", "[]")];
        file("scores/2", columns, &metadata)
    };
    let (entities, splits) = (["pump"; 5], ["train", "train", "test", "test", "test"]);
    let any = Artifact::from(Metrics::default());
    let right = scores(&entities, &splits).into();
    assert!(Artifact::decode(ArtifactKind::Scores, right, &Here::of(&any)).is_ok());
    let mut moved = splits;
    moved[2] = "train";
    let reason = refusal(ArtifactKind::Scores, scores(&entities, &moved));
    assert!(
        reason.contains("row 2 has `train` in the column `split`, and `test` in the footer"),
        "{reason}"
    );
    let mut other = entities;
    other[4] = "a pump with a longer name";
    let reason = refusal(ArtifactKind::Scores, scores(&other, &splits));
    assert!(reason.contains("row 4 has `a pump with"), "{reason}");
}

#[test]
fn columns_that_contradict_each_other_are_refused() {
    let forecasts = |entities: &[&str], steps: &[u32]| {
        let times = TimestampMillisecondArray::from(vec![0; 4]).with_timezone("UTC");
        let columns = vec![
            ("entity", texts(entities)),
            ("split", texts(&["test"; 4])),
            ("time", Arc::new(times) as ArrayRef),
            ("row", Arc::new(UInt64Array::from(vec![7, 7, 8, 8]))),
            ("step", Arc::new(UInt32Array::from(steps.to_vec()))),
            ("actual.flow", floats(&[0.0; 4])),
            ("predicted.flow", floats(&[0.0; 4])),
        ];
        let metadata = [
            ("runner.channels", r#"["flow"]"#),
            ("runner.horizon", "2"),
            ("runner.naive_error", "[]"),
        ];
        file("forecasts/2", columns, &metadata)
    };
    let any = Artifact::from(Metrics::default());
    let right = forecasts(&["a"; 4], &[0, 1, 0, 1]).into();
    assert!(Artifact::decode(ArtifactKind::Forecasts, right, &Here::of(&any)).is_ok());
    let mixed = forecasts(&["a", "a", "a", "b"], &[0, 1, 0, 1]);
    let reason = refusal(ArtifactKind::Forecasts, mixed);
    assert!(reason.contains("row 3 is not step 1"), "{reason}");
    let reason = refusal(ArtifactKind::Forecasts, forecasts(&["a"; 4], &[0, 1, 1, 0]));
    assert!(reason.contains("row 2 is not step 0"), "{reason}");
    let predictions = file(
        "predictions/1",
        vec![
            ("sample", texts(&["x"])),
            ("split", texts(&["test"])),
            ("predicted", texts(&["up"])),
            ("probability.down", floats(&[0.75])),
            ("probability.up", floats(&[0.25])),
        ],
        &[("runner.classes", r#"["down", "up"]"#)],
    );
    let reason = refusal(ArtifactKind::Predictions, predictions);
    assert!(reason.contains("not its most probable class"), "{reason}");
}

/// An artifact of each kind that is a Parquet file, with every column that the kind can have.
fn full() -> Vec<Artifact> {
    let series = Series {
        channels: vec!["CHANNEL".into(), "WIDE CHANNEL".into()],
        values: vec![1.0; 10],
        wide: BTreeMap::from([(1, vec![1.0; 5])]),
        labels: vec![0, 0, 0, 1, 0],
        times: vec![0, 1, 2, 3, 4],
        segments: segments(),
    };
    let windows = Windows {
        series: Arc::new(series.clone()),
        spec: WindowSpec {
            length: 2,
            horizon: 0,
        },
        runs: vec![],
    };
    let scores = Scores {
        scores: vec![1.0; 5],
        labels: series.labels.clone(),
        times: series.times.clone(),
        segments: segments(),
        channels: vec!["CHANNEL".into()],
        contributions: vec![1.0; 5],
    };
    let forecasts = Forecasts {
        channels: vec!["CHANNEL".into()],
        horizon: 1,
        origins: vec![Origin {
            split: Split::Test,
            entity: "pump".into(),
            row: 1,
        }],
        predicted: vec![1.0],
        actual: vec![1.0],
        judged: vec![1],
        ..Forecasts::default()
    };
    let predictions = Predictions {
        classes: vec!["CLASS".into()],
        ..Predictions::default()
    };
    let rgb = [0; 3];
    let images = Images {
        height: 1,
        width: 1,
        classes: vec![],
        images: vec![Image::from_rgb("p", Split::Test, None, (1, 1), &rgb).unwrap()],
    };
    let table = Table::new(vec![
        ("REAL", Column::Reals(vec![])),
        ("INTEGER", Column::Integers(vec![])),
        ("TEXT", Column::Texts(vec![])),
        ("FLAG", Column::Flags(vec![])),
    ]);
    vec![
        series.into(),
        windows.into(),
        scores.into(),
        forecasts.into(),
        predictions.into(),
        Metrics::default().into(),
        images.into(),
        table.unwrap().into(),
        contract::artifact::Files::new(vec![]).unwrap().into(),
    ]
}

/// What pyarrow calls a type.
fn name_of(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 => "string".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Timestamp(TimeUnit::Millisecond, Some(zone)) => {
            format!("timestamp[ms, tz={zone}]")
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", field.name(), name_of(field.data_type())))
                .collect();
            format!("struct<{}>", fields.join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}

#[track_caller]
fn is_as_written(layout: &Layout, artifact: &Artifact) {
    let bytes = bytes::Bytes::from(encoded(artifact));
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let schema = reader.schema();
    let kind = layout.kind;
    let written: Vec<(String, String, bool)> = schema
        .fields()
        .iter()
        .map(|field| {
            let kind = name_of(field.data_type());
            (field.name().clone(), kind, field.is_nullable())
        })
        .collect();
    let described: Vec<(String, String, bool)> = layout
        .columns
        .iter()
        .map(|column| {
            let is_nullable = !column.null.is_empty();
            (column.name.to_owned(), column.kind.to_owned(), is_nullable)
        })
        .collect();
    assert_eq!(written, described, "{kind}");
    let mut keys: Vec<&str> = schema.metadata().keys().map(String::as_str).collect();
    keys.retain(|key| *key != "runner.format");
    keys.sort_unstable();
    let mut named: Vec<&str> = layout.metadata.iter().map(|entry| entry.name).collect();
    named.sort_unstable();
    assert_eq!(keys, named, "{kind}");
}

#[test]
fn the_tables_name_what_is_written() {
    let full = full();
    assert_eq!(full.len(), LAYOUTS.len());
    assert_eq!(LAYOUTS.len() + 1, ArtifactKind::ALL.len(), "all but models");
    for (layout, artifact) in LAYOUTS.iter().zip(&full) {
        assert_eq!(layout.kind, artifact.kind());
        is_as_written(layout, artifact);
    }
}

/// Which columns there are, and of which types, does not depend on what is known.
#[test]
fn scores_forecasts_and_predictions_always_have_the_same_columns() {
    let mut full = full();
    let names = |artifact: &Artifact| {
        let bytes = bytes::Bytes::from(encoded(artifact));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        Arc::clone(reader.schema()).fields().clone()
    };
    for artifact in full.drain(2..5) {
        let bare: Artifact = match &artifact {
            Artifact::Scores(scores) => Scores {
                labels: vec![],
                times: vec![],
                ..Scores::clone(scores)
            }
            .into(),
            Artifact::Forecasts(forecasts) => Forecasts {
                times: vec![5],
                ..Forecasts::clone(forecasts)
            }
            .into(),
            Artifact::Predictions(predictions) => Predictions {
                samples: vec!["s".into()],
                splits: vec![Split::Test],
                entities: vec!["pump".into()],
                times: vec![5],
                truth: vec![0],
                probabilities: vec![1.0],
                ..Predictions::clone(predictions)
            }
            .into(),
            other => panic!("{}", other.kind()),
        };
        assert_eq!(names(&artifact), names(&bare));
    }
}
