//! Files that no stage ever wrote: what they announce is not what they hold.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt8Array,
    UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use contract::artifact::{Artifact, ArtifactKind, Image, Images, Segment, Series, Split};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::encoded;
use super::parts::Here;

/// A Parquet file with this metadata.
pub fn parquet(
    columns: Vec<(&str, ArrayRef)>,
    metadata: &[(&str, String)],
    properties: parquet::file::properties::WriterPropertiesBuilder,
) -> Vec<u8> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), false))
        .collect();
    let batch = RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns.into_iter().map(|(_, array)| array).collect(),
    );
    let pairs = metadata
        .iter()
        .map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone()))
        .collect();
    let properties = properties.set_key_value_metadata(Some(pairs)).build();
    let options = ArrowWriterOptions::new()
        .with_properties(properties)
        .with_skip_arrow_metadata(true);
    let batch = batch.unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

pub fn plain() -> parquet::file::properties::WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::UNCOMPRESSED)
}

fn refused(kind: ArtifactKind, bytes: Vec<u8>, parts: &Artifact) -> String {
    Artifact::decode(kind, bytes.into(), &Here::of(parts))
        .unwrap_err()
        .to_string()
}

fn series(rows: usize) -> Series {
    Series {
        channels: vec!["a".into()],
        values: vec![0.0; rows],
        labels: vec![],
        times: vec![],
        segments: vec![Segment::new(Split::Train, "m", 0..rows)],
        ..Series::default()
    }
}

#[test]
fn windows_lie_within_their_series() {
    let base = Artifact::from(series(10));
    let windows = |spec: &str, runs: &[[u64; 5]]| {
        let column = |place: usize| -> ArrayRef {
            Arc::new(runs.iter().map(|run| run[place]).collect::<UInt64Array>())
        };
        let columns = vec![
            (
                "split",
                Arc::new(StringArray::from(vec!["train"; runs.len()])) as ArrayRef,
            ),
            ("first", column(0)),
            ("stride", column(1)),
            ("count", column(2)),
            ("rows_start", column(3)),
            ("rows_end", column(4)),
        ];
        let metadata = [
            ("runner.format", "windows/1".to_owned()),
            ("runner.spec", spec.to_owned()),
            ("runner.series", format!("\"{}\"", base.digest())),
        ];
        parquet(columns, &metadata, plain())
    };
    // The series is found as a part of windows over it.
    let spec = contract::artifact::WindowSpec {
        length: 3,
        horizon: 0,
    };
    let Artifact::Series(below) = &base else {
        unreachable!()
    };
    let over = Artifact::from(contract::artifact::Windows {
        series: Arc::clone(below),
        spec,
        runs: vec![],
    });
    let usual = r#"{"length": 3, "horizon": 0}"#;
    for run in [
        [0, 1, 8, 0, 10],
        [1, 3, 3, 0, 10],
        [7, u64::MAX, 1, 5, 10],
        [0, 1, 0, 0, 0],
    ] {
        let found = Artifact::decode(
            ArtifactKind::Windows,
            windows(usual, &[run]).into(),
            &Here::of(&over),
        );
        assert!(found.is_ok(), "{run:?}: {:?}", found.err());
    }
    for (spec, runs) in [
        (usual, &[[0, 1, 9, 0, 10]][..]),
        (usual, &[[0, 1, u64::MAX, 0, 10]]),
        (usual, &[[0, u64::MAX, u64::MAX, 0, 10]]),
        (usual, &[[0, 0, 1 << 40, 0, 10]]),
        (usual, &[[u64::MAX, 1, 1, 0, 10]]),
        (usual, &[[u64::MAX - 2, 1, 1, 0, u64::MAX]]),
        (usual, &[[0, 1, 1, 2, 10]]),
        (usual, &[[0, 1, 1, 0, 11]]),
        (usual, &[[0, 1, 8, 0, 10], [0, 1, 8, 0, 10]]),
        (r#"{"length": 0, "horizon": 0}"#, &[]),
        (
            r#"{"length": 18446744073709551615, "horizon": 2}"#,
            &[[0, 1, 1, 0, 10]],
        ),
        (r#"{"length": -1, "horizon": 0}"#, &[]),
    ] {
        let reason = refused(ArtifactKind::Windows, windows(spec, runs), &over);
        assert!(
            reason.starts_with("this windows file is damaged"),
            "{spec} {runs:?}: {reason}"
        );
    }
}

/// Values that are all alike take no room in a file: as many as its bytes can hold, and no more, are read.
#[test]
fn a_footer_cannot_announce_rows_without_end() {
    let rows = 8_000_000;
    let metadata = |rows: usize| {
        let segments = serde_json::json!([{"split": "train", "entity": "m", "rows": {"start": 0, "end": rows}, "labelled": false}]);
        [
            ("runner.format", "series/1".to_owned()),
            ("runner.segments", segments.to_string()),
        ]
    };
    let constant = |rows: usize| {
        vec![(
            "a",
            Arc::new(Float32Array::from(vec![1.0; rows])) as ArrayRef,
        )]
    };
    let short = parquet(constant(rows), &metadata(rows), WriterProperties::builder());
    assert!(short.len() < 100_000, "{} bytes", short.len());
    let any = Artifact::from(series(1));
    assert!(refused(ArtifactKind::Series, short, &any).contains("cannot hold the 8000000 rows"));
    let fine = parquet(constant(1000), &metadata(1000), WriterProperties::builder());
    assert!(Artifact::decode(ArtifactKind::Series, fine.into(), &Here::of(&any)).is_ok());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let any = Artifact::from(series(1));
    let rows: ArrayRef = Arc::new(Float32Array::from(vec![1.0; 3]));
    let file = |format: &str, columns: Vec<(&str, ArrayRef)>, metadata: &[(&str, &str)]| {
        let mut all = vec![("runner.format", format!("{format}/1"))];
        all.extend(
            metadata
                .iter()
                .map(|(key, value)| (*key, (*value).to_owned())),
        );
        parquet(columns, &all, plain())
    };
    let segments = |start: u64, end: u64| {
        format!(
            r#"[{{"split": "train", "entity": "m", "rows": {{"start": {start}, "end": {end}}}, "labelled": true}}]"#
        )
    };
    for (start, end) in [(0, 4), (1, 3), (0, u64::MAX), (3, 0), (0, 1 << 62)] {
        let segments = segments(start, end);
        let series = file(
            "series",
            vec![("a", rows.clone())],
            &[("runner.segments", &segments)],
        );
        assert!(refused(ArtifactKind::Series, series, &any).contains("damaged"));
        let columns = vec![("score", rows.clone())];
        let scores = file(
            "scores",
            columns,
            &[("runner.segments", &segments), ("runner.channels", "[]")],
        );
        assert!(refused(ArtifactKind::Scores, scores, &any).contains("damaged"));
    }
    let segments = segments(0, 3);
    // A channel of another type, and one too many.
    let bytes: ArrayRef = Arc::new(UInt8Array::from(vec![1; 3]));
    let series = file(
        "series",
        vec![("a", rows.clone()), ("b", bytes)],
        &[("runner.segments", &segments)],
    );
    assert!(refused(ArtifactKind::Series, series, &any).contains("column of floats"));
    let columns = vec![("score", rows.clone()), ("contribution.a", rows.clone())];
    let scores = file(
        "scores",
        columns,
        &[
            ("runner.segments", &segments),
            ("runner.channels", r#"["a", "b"]"#),
        ],
    );
    assert!(refused(ArtifactKind::Scores, scores, &any).contains("damaged"));
    let table = file("table", vec![("a", rows)], &[]);
    assert!(refused(ArtifactKind::Table, table, &any).contains("is of type"));
    let compressed = parquet(
        vec![("a", Arc::new(Float64Array::from(vec![1.0; 3])) as ArrayRef)],
        &[("runner.format", "table/1".to_owned())],
        WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())),
    );
    assert!(refused(ArtifactKind::Table, compressed, &any).contains("compressed by ZSTD"));
}

/// A text that a file holds once, and a million rows that all are this text.
#[test]
fn texts_come_to_no_more_than_their_file_can_hold() {
    let any = Artifact::from(series(1));
    let names = |text: &str, rows: usize, properties| {
        let texts = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows])) };
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; rows]));
        let columns = vec![
            ("name", texts(text)),
            (
                "value",
                Arc::new(Float64Array::from(vec![1.0; rows])) as ArrayRef,
            ),
            ("direction", texts("higher")),
            ("oracle", flags.clone()),
            ("inflating", flags),
            ("caveat", texts("")),
        ];
        parquet(
            columns,
            &[("runner.format", "metrics/1".to_owned())],
            properties,
        )
    };
    let long = "x".repeat(500_000);
    let bomb = names(&long, 200, WriterProperties::builder());
    assert!(bomb.len() < 600_000);
    let reason = refused(ArtifactKind::Metrics, bomb, &any);
    assert!(
        reason.contains("its texts are longer than its bytes can hold"),
        "{reason}"
    );
    let few = names(&long, 3, WriterProperties::builder());
    assert!(Artifact::decode(ArtifactKind::Metrics, few.into(), &Here::of(&any)).is_ok());
    let deltas = names(
        &long,
        200,
        plain().set_column_encoding("name".into(), Encoding::DELTA_BYTE_ARRAY),
    );
    assert!(refused(ArtifactKind::Metrics, deltas, &any).contains("a page of text is written as"));
}

/// A PNG file whose head announces another size.
fn resized(file: &[u8], height: u32, width: u32) -> Vec<u8> {
    let mut file = file.to_vec();
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&file[12..29]);
    file[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    file
}

#[test]
fn pictures_have_no_more_pixels_than_bytes_can_hold() {
    let any = Artifact::from(series(1));
    let small = Image::from_rgb("p", Split::Train, None, (2, 2), &[7; 12]).unwrap();
    for (height, width) in [
        (100_000, 100_000),
        (1 << 20, 1 << 11),
        (u32::MAX >> 1, u32::MAX >> 1),
        (4000, 4000),
    ] {
        let image = Image::from_file(
            "p",
            Split::Train,
            None,
            resized(small.file(), height, width),
        );
        assert!(image.size().is_err(), "{height} {width}");
        let images = Images {
            height: height as usize,
            width: width as usize,
            classes: vec![],
            images: vec![image],
        };
        let _ = images.digest();
        let reason = refused(ArtifactKind::Images, encoded(&images.into()), &any);
        assert!(reason.contains("the picture `p`"), "{reason}");
    }
    let other = Image::from_file("p", Split::Train, None, resized(small.file(), 3, 2));
    let images = Images {
        height: 2,
        width: 2,
        classes: vec![],
        images: vec![other],
    };
    assert!(
        refused(ArtifactKind::Images, encoded(&images.into()), &any).contains("is 2x3, not 2x2")
    );
    let label = Image::from_rgb("p", Split::Train, Some(3), (2, 2), &[7; 12]).unwrap();
    let images = Images {
        height: 2,
        width: 2,
        classes: vec!["a".into()],
        images: vec![label],
    };
    assert!(
        refused(ArtifactKind::Images, encoded(&images.into()), &any)
            .contains("beyond the 1 classes")
    );
}

/// Every byte of a small file of each kind, changed: an error or an artifact, and no panic comes out.
#[test]
fn no_changed_byte_gets_past_the_door() {
    let base = Artifact::from(series(4));
    let Artifact::Series(below) = &base else {
        unreachable!()
    };
    let windows = contract::artifact::Windows {
        series: Arc::clone(below),
        spec: contract::artifact::WindowSpec {
            length: 2,
            horizon: 1,
        },
        runs: vec![contract::artifact::WindowRun {
            split: Split::Train,
            first: 0,
            stride: 1,
            count: 2,
            rows: (0, 4),
        }],
    };
    for artifact in [base.clone(), windows.into()] {
        let bytes = encoded(&artifact);
        for place in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut harmed = bytes.clone();
                harmed[place] = value;
                if let Ok(found) =
                    Artifact::decode(artifact.kind(), harmed.into(), &Here::of(&artifact))
                {
                    let _ = found.digest();
                }
            }
        }
    }
}
