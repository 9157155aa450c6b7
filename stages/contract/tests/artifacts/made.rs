//! Artifacts of every kind as nobody would make them on purpose: names of any sort, empty parts, values where types end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::artifact::{
    Column, Direction, ElementType, FileEntry, Files, Forecasts, Image, Images, Metric, Metrics,
    Model, Origin, Predictions, RelativePath, Scores, Segment, Series, Split, Table, TensorData,
    WindowRun, WindowSpec, Windows,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// Names that mean something to somebody.
const NAMES: [&str; 32] = [
    "",
    " ",
    "a",
    "A",
    "runner.x",
    "runner.time",
    "runner.label",
    "runner.split",
    "runner.",
    "label",
    "score",
    "class",
    "predicted",
    "sample",
    "split",
    "contribution.a",
    "judged.a",
    "actual.a",
    "predicted.a",
    "probability.a",
    "a.b",
    "a/b",
    "..",
    ".png",
    "a.png",
    "a.png.png",
    "\u{0}",
    "\n\r\t",
    "\u{1b}[2J",
    "\"'`\\",
    "é\u{202e}中🦀",
    "ARROW:schema",
];

pub fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(&NAMES[..]).prop_map(str::to_owned),
        2 => ".{0,12}",
        1 => (0..70_000_usize).prop_map(|length| "x".repeat(length)),
    ]
}

fn split() -> impl Strategy<Value = Split> {
    select(&Split::ALL[..])
}

/// Any bits, and more often those where something changes.
fn float() -> impl Strategy<Value = f32> {
    let special = [
        0.0,
        -0.0,
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MIN,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-45,
    ];
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        select(special.to_vec())
    ]
}

fn real() -> impl Strategy<Value = f64> {
    let special = [
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        0.1,
    ];
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        select(special.to_vec())
    ]
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        select(vec![0, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1])
    ]
}

/// Segments of few rows or none.
fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let segment = (
        split(),
        name(),
        0..5_usize,
        any::<bool>(),
        option::of(name()),
    );
    vec(segment, 0..4).prop_map(|parts| {
        let mut next = 0;
        let place = |(split, entity, rows, labelled, class): (
            Split,
            String,
            usize,
            bool,
            Option<String>,
        )| {
            let start = next;
            next += rows;
            Segment::new(split, entity, start..next)
                .labelled(labelled)
                .of_class(class)
        };
        parts.into_iter().map(place).collect()
    })
}

/// Times of so many rows, or none.
fn times(rows: usize) -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![Just(Vec::new()), vec(integer(), rows)]
}

fn rows(segments: &[Segment]) -> usize {
    segments.last().map_or(0, |segment| segment.rows.end)
}

pub fn series() -> impl Strategy<Value = Series> {
    (segments(), vec(name(), 0..5), any::<(bool, bool)>()).prop_flat_map(
        |(segments, channels, (timed, labelled))| {
            let rows = rows(&segments);
            let count = |wanted: bool| if wanted { rows } else { 0 };
            let (times, labels) = (
                vec(integer(), count(timed)),
                vec(any::<u8>(), count(labelled)),
            );
            (vec(float(), rows * channels.len()), times, labels).prop_map(
                move |(values, times, labels)| Series {
                    channels: channels.clone(),
                    values,
                    labels,
                    times,
                    segments: segments.clone(),
                    ..Series::default()
                },
            )
        },
    )
}

pub fn windows() -> impl Strategy<Value = Windows> {
    (series(), 1..4_usize, 0..3_usize, 1..4_usize).prop_map(|(series, length, horizon, stride)| {
        let run = |segment: &Segment| {
            let room = segment.rows.len().checked_sub(length + horizon)?;
            let rows = (segment.rows.start, segment.rows.end);
            Some(WindowRun {
                split: segment.split,
                first: rows.0,
                stride,
                count: room / stride + 1,
                rows,
            })
        };
        let runs = series.segments.iter().filter_map(run).collect();
        Windows {
            spec: WindowSpec { length, horizon },
            runs,
            series: Arc::new(series),
        }
    })
}

fn value() -> impl Strategy<Value = Value> {
    let finite = real().prop_filter("JSON has no others", |real| real.is_finite());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        integer().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        finite.prop_map(Value::from),
        name().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name(), inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn tensor() -> impl Strategy<Value = TensorData> {
    let element = select(vec![ElementType::F32, ElementType::F64, ElementType::I64]);
    (element, vec(0..4_usize, 0..4)).prop_flat_map(|(element, shape)| {
        let size = if element == ElementType::F32 { 4 } else { 8 };
        vec(any::<u8>(), shape.iter().product::<usize>() * size).prop_map(move |bytes| TensorData {
            element,
            shape: shape.clone(),
            bytes,
        })
    })
}

pub fn model() -> impl Strategy<Value = Model> {
    let tensors = vec((name(), tensor()), 0..4)
        .prop_map(|pairs| pairs.into_iter().collect::<BTreeMap<_, _>>());
    (value(), value(), tensors).prop_map(|(config, training, tensors)| Model {
        config,
        training,
        tensors,
    })
}

pub fn scores() -> impl Strategy<Value = Scores> {
    (segments(), vec(name(), 0..4), any::<bool>()).prop_flat_map(
        |(segments, channels, labelled)| {
            let rows = rows(&segments);
            let labels = vec(any::<u8>(), if labelled { rows } else { 0 });
            (
                vec(float(), rows),
                labels,
                times(rows),
                vec(float(), rows * channels.len()),
            )
                .prop_map(move |(scores, labels, times, contributions)| Scores {
                    scores,
                    labels,
                    times,
                    segments: segments.clone(),
                    channels: channels.clone(),
                    contributions,
                })
        },
    )
}

pub fn forecasts() -> impl Strategy<Value = Forecasts> {
    let origin = (
        split(),
        name(),
        prop_oneof![0..9_usize, Just(usize::MAX / 2)],
    )
        .prop_map(|(split, entity, row)| Origin { split, entity, row });
    let shape = (
        vec(name(), 1..4),
        1..4_usize,
        vec(origin, 0..4),
        any::<(bool, bool)>(),
    );
    shape.prop_flat_map(|(channels, horizon, origins, (judged, known))| {
        let (width, values) = (channels.len(), origins.len() * horizon * channels.len());
        let judged = vec(any::<u8>(), if judged { values } else { 0 });
        let errors = vec(real(), if known { width } else { 0 });
        let times = times(origins.len() * horizon);
        (
            vec(float(), values),
            vec(float(), values),
            times,
            judged,
            errors,
        )
            .prop_map(
                move |(predicted, actual, times, judged, naive_error)| Forecasts {
                    times,
                    channels: channels.clone(),
                    horizon,
                    origins: origins.clone(),
                    predicted,
                    actual,
                    judged,
                    naive_error,
                },
            )
    })
}

pub fn predictions() -> impl Strategy<Value = Predictions> {
    let classes = vec(name(), 1..5).prop_map(|names| {
        let mut seen = BTreeSet::new();
        names
            .into_iter()
            .filter(|name| seen.insert(name.clone()))
            .collect::<Vec<String>>()
    });
    (classes, vec((name(), split()), 0..4), any::<bool>()).prop_flat_map(
        |(classes, samples, known)| {
            let count = classes.len();
            let truth = vec(0..count as u32, if known { samples.len() } else { 0 });
            let entities = prop_oneof![Just(Vec::new()), vec(name(), samples.len())];
            let probabilities = vec(float(), samples.len() * count);
            let all = (truth, entities, times(samples.len()), probabilities);
            all.prop_map(move |(truth, entities, times, probabilities)| {
                let (samples, splits) = samples.iter().cloned().unzip();
                Predictions {
                    entities,
                    times,
                    classes: classes.clone(),
                    samples,
                    splits,
                    truth,
                    probabilities,
                }
            })
        },
    )
}

pub fn metrics() -> impl Strategy<Value = Metrics> {
    let direction = select(vec![
        Direction::Higher,
        Direction::Lower,
        Direction::Neither,
    ]);
    let metric = (
        name(),
        option::of(real()),
        direction,
        any::<(bool, bool)>(),
        name(),
    )
        .prop_map(
            |(name, value, direction, (oracle, inflating), caveat)| Metric {
                name,
                value,
                direction,
                oracle,
                inflating,
                caveat,
            },
        );
    vec(metric, 0..5).prop_map(|entries| Metrics { entries })
}

pub fn images() -> impl Strategy<Value = Images> {
    let shape = (
        1..4_usize,
        1..4_usize,
        vec(name(), 0..4),
        vec((name(), split(), any::<u32>()), 0..5),
    );
    shape.prop_flat_map(|(height, width, classes, pictures)| {
        vec(vec(any::<u8>(), height * width * 3), pictures.len()).prop_map(move |pixels| {
            let label = |number: u32| {
                let number = number as usize % (classes.len() + 1);
                (number < classes.len()).then_some(number as u32)
            };
            let image = |((name, split, number), rgb): (&(String, Split, u32), &Vec<u8>)| {
                Image::from_rgb(name, *split, label(*number), (height, width), rgb).unwrap()
            };
            let images = pictures.iter().zip(&pixels).map(image).collect();
            Images {
                height,
                width,
                classes: classes.clone(),
                images,
            }
        })
    })
}

pub fn table() -> impl Strategy<Value = Table> {
    (0..5_usize).prop_flat_map(|rows| {
        let column = prop_oneof![
            vec(option::of(real()), rows).prop_map(Column::Reals),
            vec(option::of(integer()), rows).prop_map(Column::Integers),
            vec(option::of(name()), rows).prop_map(Column::Texts),
            vec(any::<bool>(), rows).prop_map(Column::Flags),
        ];
        vec((name(), column), 1..5).prop_map(|columns| {
            Table::new(
                columns
                    .iter()
                    .map(|(name, column)| (name.as_str(), column.clone()))
                    .collect(),
            )
            .unwrap()
        })
    })
}

/// Paths as far as they can be: made of names, and checked.
fn path() -> impl Strategy<Value = RelativePath> {
    let path = vec(name(), 1..4).prop_map(|parts| RelativePath::new(parts.join("/")).ok());
    path.prop_filter_map("not every name is a path", |path| path)
}

pub fn files() -> impl Strategy<Value = Files> {
    let file =
        (path(), vec(any::<u8>(), 0..9), any::<bool>()).prop_map(|(path, bytes, executable)| {
            FileEntry {
                executable,
                ..FileEntry::from_bytes(path, bytes)
            }
        });
    let both = (vec(file, 0..5), vec(path(), 0..4));
    both.prop_filter_map("paths that cannot be together", |(files, folders)| {
        Files::with_folders(files, folders).ok()
    })
}

#[test]
fn names_of_tensors_that_the_format_keeps_are_refused() {
    let tensors = BTreeMap::from([("__metadata__".to_owned(), TensorData::from_i64(&[], &[1]))]);
    assert!(
        Model {
            config: json!({}),
            training: json!({}),
            tensors
        }
        .encode()
        .is_err()
    );
}
