//! An artifact as named arrays, down to single values: its tensors, columns, figures and files. For whoever compares two
//! artifacts of one kind; what is equal in all leaves is equal.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use serde_json::Value;

use super::{
    Artifact, ArtifactError, COLOURS, Content, ElementType, Files, Forecasts, Image, Images,
    Metric, Metrics, Model, Origin, Predictions, Scores, Segment, Series, Table, TensorData,
    WindowRun, Windows,
};

/// One array of an artifact.
#[derive(Debug)]
pub struct Leaf<'a> {
    /// Unique within its artifact.
    pub name: String,
    pub shape: Vec<usize>,
    content: LeafContent<'a>,
}

/// Where the values are; they are gathered when they are asked for.
#[derive(Debug)]
enum LeafContent<'a> {
    /// Every `stride`-th value from `first` on.
    Floats {
        values: &'a [f32],
        first: usize,
        stride: usize,
    },
    Bytes {
        values: &'a [u8],
        first: usize,
        stride: usize,
    },
    Tensor(&'a TensorData),
    Column(ArrayRef),
    Ready(Values),
    Picture(&'a Image),
    File(&'a Content),
}

/// The values of a leaf in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Float32(Vec<f32>),
    /// `None` where a value is missing.
    Float64(Vec<Option<f64>>),
    Integers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    /// Bytes of a file: equal or not, but no numbers that could be close to each other.
    Bytes(Arc<[u8]>),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Self::Float32(values) => values.len(),
            Self::Float64(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Texts(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the element type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Float32(_) => "float32",
            Self::Float64(_) => "float64",
            Self::Integers(_) => "int64",
            Self::Texts(_) => "text",
            Self::Bytes(_) => "bytes",
        }
    }
}

impl<'a> Leaf<'a> {
    fn new(name: impl Into<String>, shape: Vec<usize>, content: LeafContent<'a>) -> Self {
        Self {
            name: name.into(),
            shape,
            content,
        }
    }

    fn ready(name: impl Into<String>, values: Values) -> Self {
        Self::new(name, vec![values.len()], LeafContent::Ready(values))
    }

    /// The values, gathered.
    ///
    /// # Errors
    /// If a file or a picture cannot be read.
    pub fn values(&self) -> Result<Values, ArtifactError> {
        Ok(match &self.content {
            LeafContent::Floats {
                values,
                first,
                stride,
            } => Values::Float32(
                values
                    .iter()
                    .skip(*first)
                    .step_by(*stride)
                    .copied()
                    .collect(),
            ),
            LeafContent::Bytes {
                values,
                first,
                stride,
            } => {
                let number = |value: &u8| Some(i64::from(*value));
                Values::Integers(
                    values
                        .iter()
                        .skip(*first)
                        .step_by(*stride)
                        .map(number)
                        .collect(),
                )
            }
            LeafContent::Tensor(tensor) => of_tensor(tensor),
            LeafContent::Column(array) => of_column(array)?,
            LeafContent::Ready(values) => values.clone(),
            LeafContent::File(content) => Values::Bytes(content.read()?),
            LeafContent::Picture(image) => {
                let (.., rgb) = image.to_rgb()?;
                Values::Integers(rgb.into_iter().map(|value| Some(value.into())).collect())
            }
        })
    }
}

fn of_tensor(tensor: &TensorData) -> Values {
    let integers = |values: Vec<i64>| Values::Integers(values.into_iter().map(Some).collect());
    match tensor.element {
        ElementType::F32 => Values::Float32(tensor.to_f32().unwrap_or_default()),
        ElementType::F64 => Values::Float64(
            tensor
                .to_f64()
                .unwrap_or_default()
                .into_iter()
                .map(Some)
                .collect(),
        ),
        ElementType::I64 => integers(tensor.to_i64().unwrap_or_default()),
    }
}

fn of_column(array: &ArrayRef) -> Result<Values, ArtifactError> {
    let any = array.as_any();
    if let Some(values) = any.downcast_ref::<Float64Array>() {
        return Ok(Values::Float64(values.iter().collect()));
    }
    if let Some(values) = any.downcast_ref::<Int64Array>() {
        return Ok(Values::Integers(values.iter().collect()));
    }
    if let Some(values) = any.downcast_ref::<BooleanArray>() {
        let number = |value: Option<bool>| value.map(i64::from);
        return Ok(Values::Integers(values.iter().map(number).collect()));
    }
    match any.downcast_ref::<StringArray>() {
        Some(values) => Ok(Values::Texts(
            values.iter().map(|text| text.map(str::to_owned)).collect(),
        )),
        None => Err(ArtifactError::corrupt(
            "table",
            format!("a column of type {}", array.data_type()),
        )),
    }
}

impl Artifact {
    /// The named arrays that this artifact consists of.
    pub fn leaves(&self) -> Vec<Leaf<'_>> {
        let mut leaves = match self {
            Self::Series(series) => of_series(series),
            Self::Windows(windows) => of_windows(windows),
            Self::Model(model) => of_model(model),
            Self::Scores(scores) => of_scores(scores),
            Self::Forecasts(forecasts) => of_forecasts(forecasts),
            Self::Predictions(predictions) => of_predictions(predictions),
            Self::Metrics(metrics) => of_metrics(metrics),
            Self::Images(images) => of_images(images),
            Self::Table(table) => of_table(table),
            Self::Files(files) => of_files(files),
        };
        number_repeated_names(&mut leaves);
        leaves
    }
}

fn of_series(series: &Series) -> Vec<Leaf<'_>> {
    let mut leaves = float_columns("", &series.channels, &series.values, series.rows());
    for (channel, values) in &series.wide {
        let values = reals(values.iter().copied().map(Some));
        leaves[*channel] = Leaf::ready(series.channels[*channel].as_str(), values);
    }
    leaves.push(marks("runner.label", &series.labels));
    leaves.push(integers("runner.time", series.times.iter().copied()));
    leaves.push(segments(&series.segments));
    leaves
}

fn of_windows(windows: &Windows) -> Vec<Leaf<'_>> {
    let column = |name: &str, get: fn(&WindowRun) -> usize| {
        integers(name, windows.runs.iter().map(|run| get(run) as i64))
    };
    let mut leaves = vec![
        integers("length", [windows.spec.length as i64]),
        integers("horizon", [windows.spec.horizon as i64]),
        texts(
            "split",
            windows.runs.iter().map(|run| run.split.name().to_owned()),
        ),
        column("first", |run| run.first),
        column("stride", |run| run.stride),
        column("count", |run| run.count),
        column("rows_start", |run| run.rows.0),
        column("rows_end", |run| run.rows.1),
    ];
    let series = of_series(&windows.series).into_iter();
    leaves.extend(series.map(|leaf| Leaf {
        name: format!("series.{}", leaf.name),
        ..leaf
    }));
    leaves
}

fn of_model(model: &Model) -> Vec<Leaf<'_>> {
    let mut leaves = Vec::new();
    for (name, data) in &model.tensors {
        leaves.push(Leaf::new(
            name.as_str(),
            data.shape.clone(),
            LeafContent::Tensor(data),
        ));
    }
    json_leaves("config", &model.config, &mut leaves);
    json_leaves("training", &model.training, &mut leaves);
    leaves
}

fn of_scores(scores: &Scores) -> Vec<Leaf<'_>> {
    let mut leaves = float_columns("", &["score".to_owned()], &scores.scores, scores.rows());
    leaves.push(marks("label", &scores.labels));
    push_times(&mut leaves, &scores.times);
    leaves.push(segments(&scores.segments));
    leaves.extend(float_columns(
        "contribution.",
        &scores.channels,
        &scores.contributions,
        scores.rows(),
    ));
    leaves
}

fn of_forecasts(forecasts: &Forecasts) -> Vec<Leaf<'_>> {
    let rows = forecasts.windows() * forecasts.horizon;
    let mut leaves = float_columns(
        "predicted.",
        &forecasts.channels,
        &forecasts.predicted,
        rows,
    );
    leaves.extend(float_columns(
        "actual.",
        &forecasts.channels,
        &forecasts.actual,
        rows,
    ));
    leaves.push(marks("judged", &forecasts.judged));
    leaves.push(Leaf::ready(
        "naive_error",
        reals(forecasts.naive_error.iter().copied().map(Some)),
    ));
    leaves.push(integers("horizon", [forecasts.horizon as i64]));
    leaves.push(integers(
        "runner.row",
        forecasts.origins.iter().map(|origin| origin.row as i64),
    ));
    let place = |origin: &Origin| format!("{} {}", origin.split.name(), origin.entity);
    leaves.push(texts("runner.entity", forecasts.origins.iter().map(place)));
    push_times(&mut leaves, &forecasts.times);
    leaves
}

fn of_predictions(predictions: &Predictions) -> Vec<Leaf<'_>> {
    let (classes, samples) = (&predictions.classes, predictions.samples.len());
    let mut leaves = float_columns("probability.", classes, &predictions.probabilities, samples);
    leaves.push(texts("sample", predictions.samples.iter().cloned()));
    leaves.push(texts(
        "split",
        predictions
            .splits
            .iter()
            .map(|split| split.name().to_owned()),
    ));
    leaves.push(integers(
        "class",
        predictions.truth.iter().map(|class| i64::from(*class)),
    ));
    if !predictions.entities.is_empty() {
        leaves.push(texts("entity", predictions.entities.iter().cloned()));
    }
    push_times(&mut leaves, &predictions.times);
    leaves
}

/// A leaf per figure, so that a difference names it.
fn of_metrics(metrics: &Metrics) -> Vec<Leaf<'_>> {
    let figure = |metric: &Metric| Leaf::ready(metric.name.as_str(), reals([metric.value]));
    let about = |metric: &Metric| {
        let flags = (metric.oracle, metric.inflating);
        format!(
            "{} {} {flags:?} {}",
            metric.name,
            metric.direction.name(),
            metric.caveat
        )
    };
    let mut leaves: Vec<Leaf<'_>> = metrics.entries.iter().map(figure).collect();
    leaves.push(texts("about", metrics.entries.iter().map(about)));
    leaves
}

fn of_images(images: &Images) -> Vec<Leaf<'_>> {
    let size = [images.height, images.width, COLOURS];
    let mut leaves = Vec::with_capacity(images.len() + 4);
    for image in &images.images {
        leaves.push(Leaf::new(
            image.name.as_str(),
            size.to_vec(),
            LeafContent::Picture(image),
        ));
    }
    let labels = images.images.iter().map(|image| image.label.map(i64::from));
    leaves.push(Leaf::ready("label", Values::Integers(labels.collect())));
    leaves.push(texts(
        "name",
        images.images.iter().map(|image| image.name.clone()),
    ));
    leaves.push(texts(
        "split",
        images
            .images
            .iter()
            .map(|image| image.split.name().to_owned()),
    ));
    leaves.push(texts("classes", images.classes.iter().cloned()));
    leaves
}

fn of_table(table: &Table) -> Vec<Leaf<'_>> {
    let columns = table
        .column_names()
        .into_iter()
        .zip(table.batch().columns());
    let leaf = |(name, array): (String, &ArrayRef)| {
        Leaf::new(
            name,
            vec![array.len()],
            LeafContent::Column(Arc::clone(array)),
        )
    };
    columns.map(leaf).collect()
}

fn of_files(files: &Files) -> Vec<Leaf<'_>> {
    let mut leaves = Vec::with_capacity(files.entries().len() + 2);
    for entry in files.entries() {
        leaves.push(Leaf::new(
            entry.path.as_str(),
            vec![entry.size as usize],
            LeafContent::File(&entry.content),
        ));
    }
    let programs = files.entries().iter().filter(|entry| entry.executable);
    leaves.push(texts(
        "(executable)",
        programs.map(|entry| entry.path.as_str().to_owned()),
    ));
    if !files.folders().is_empty() {
        leaves.push(texts(
            "(empty folders)",
            files
                .folders()
                .iter()
                .map(|folder| folder.as_str().to_owned()),
        ));
    }
    leaves
}

/// A second leaf of a name becomes `name#2`.
fn number_repeated_names(leaves: &mut [Leaf<'_>]) {
    let mut seen: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for leaf in leaves {
        let count = seen.entry(leaf.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            leaf.name = format!("{}#{count}", leaf.name);
        }
    }
}

fn float_columns<'a>(
    prefix: &str,
    names: &[String],
    values: &'a [f32],
    rows: usize,
) -> Vec<Leaf<'a>> {
    let stride = names.len().max(1);
    let column = |(first, name): (usize, &String)| {
        Leaf::new(
            format!("{prefix}{name}"),
            vec![rows],
            LeafContent::Floats {
                values,
                first,
                stride,
            },
        )
    };
    names.iter().enumerate().map(column).collect()
}

/// Times, if they are known. Artifacts from before there were any have the leaves that they always had.
fn push_times(leaves: &mut Vec<Leaf<'_>>, times: &[i64]) {
    if !times.is_empty() {
        leaves.push(integers("time", times.iter().copied()));
    }
}

fn marks<'a>(name: &str, values: &'a [u8]) -> Leaf<'a> {
    Leaf::new(
        name,
        vec![values.len()],
        LeafContent::Bytes {
            values,
            first: 0,
            stride: 1,
        },
    )
}

fn integers(name: &str, values: impl IntoIterator<Item = i64>) -> Leaf<'static> {
    Leaf::ready(
        name,
        Values::Integers(values.into_iter().map(Some).collect()),
    )
}

fn texts(name: &str, values: impl IntoIterator<Item = String>) -> Leaf<'static> {
    Leaf::ready(name, Values::Texts(values.into_iter().map(Some).collect()))
}

fn reals(values: impl IntoIterator<Item = Option<f64>>) -> Values {
    Values::Float64(values.into_iter().collect())
}

fn segments(segments: &[Segment]) -> Leaf<'static> {
    let text = |segment: &Segment| serde_json::to_string(segment).unwrap_or_default();
    texts("segments", segments.iter().map(text))
}

/// A leaf per number or text in a JSON value: losses of a training may be close to each other without being equal.
fn json_leaves(name: &str, value: &Value, leaves: &mut Vec<Leaf<'_>>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| json_leaves(&format!("{name}.{key}"), value, leaves)),
        Value::Array(items) => {
            let values = || {
                items.iter().map(|item| {
                    if item.is_null() {
                        Some(None)
                    } else {
                        item.as_f64().map(Some)
                    }
                })
            };
            if let Some(numbers) = values().collect::<Option<Vec<_>>>() {
                return leaves.push(Leaf::ready(name, Values::Float64(numbers)));
            }
            let each = items.iter().enumerate();
            each.for_each(|(index, item)| json_leaves(&format!("{name}[{index}]"), item, leaves));
        }
        Value::Number(number) => leaves.push(Leaf::ready(name, reals([number.as_f64()]))),
        other => leaves.push(texts(name, [other.to_string()])),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Column, Direction, FileEntry, RelativePath, Split, WindowSpec};
    use super::*;

    fn all(artifact: &Artifact) -> Vec<(String, Vec<usize>, Values)> {
        artifact
            .leaves()
            .iter()
            .map(|leaf| {
                (
                    leaf.name.clone(),
                    leaf.shape.clone(),
                    leaf.values().unwrap(),
                )
            })
            .collect()
    }

    fn samples() -> Vec<Artifact> {
        let series = super::super::series::tests::sample();
        let run = WindowRun {
            split: Split::Train,
            first: 0,
            stride: 1,
            count: 2,
            rows: (0, 4),
        };
        let spec = WindowSpec {
            length: 3,
            horizon: 0,
        };
        let metric = |value| Metric {
            name: "f1".to_owned(),
            value,
            direction: Direction::Higher,
            oracle: false,
            inflating: false,
            caveat: String::new(),
        };
        let rgb: Vec<u8> = (0..12).collect();
        vec![
            Windows {
                series: Arc::new(series.clone()),
                spec,
                runs: vec![run],
            }
            .into(),
            Scores {
                scores: vec![0.5; 7],
                labels: series.labels.clone(),
                times: vec![],
                segments: series.segments.clone(),
                channels: series.channels.clone(),
                contributions: series.values.clone(),
            }
            .into(),
            Model {
                config: serde_json::json!({"kind": "x"}),
                training: serde_json::json!({"losses": [0.5, null], "best": {"epoch": 2}}),
                tensors: BTreeMap::from([(
                    "w".to_owned(),
                    TensorData::from_f32(&[2, 1], &[1.0, 2.0]),
                )]),
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
                times: vec![],
                predicted: vec![1.0, 2.0],
                actual: vec![1.0, 3.0],
                judged: vec![1, 0],
                naive_error: vec![0.5],
            }
            .into(),
            Predictions {
                classes: vec!["a".into(), "b".into()],
                samples: vec!["s".into()],
                splits: vec![Split::Test],
                entities: vec!["m".into()],
                times: vec![7],
                truth: vec![1],
                probabilities: vec![0.25, 0.75],
            }
            .into(),
            Metrics {
                entries: vec![metric(Some(0.5)), metric(None)],
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
            Files::new(vec![FileEntry::from_bytes(
                RelativePath::new("a/b.txt").unwrap(),
                b"text".to_vec(),
            )])
            .unwrap()
            .into(),
            series.into(),
        ]
    }

    #[test]
    fn every_kind_has_leaves_of_its_shapes() {
        let samples = samples();
        assert_eq!(samples.len(), super::super::ArtifactKind::ALL.len());
        for artifact in &samples {
            let leaves = all(artifact);
            assert!(!leaves.is_empty(), "{}", artifact.kind());
            let names: std::collections::BTreeSet<&String> =
                leaves.iter().map(|(name, ..)| name).collect();
            assert_eq!(
                names.len(),
                leaves.len(),
                "{}: names are unique",
                artifact.kind()
            );
            for (name, shape, values) in &leaves {
                assert_eq!(
                    shape.iter().product::<usize>(),
                    values.len(),
                    "{} {name}",
                    artifact.kind()
                );
            }
        }
        let find = |artifact: &Artifact, name: &str| {
            all(artifact)
                .into_iter()
                .find(|(found, ..)| found == name)
                .map(|(.., values)| values)
        };
        assert_eq!(
            find(&samples[2], "training.losses"),
            Some(Values::Float64(vec![Some(0.5), None]))
        );
        assert_eq!(
            find(&samples[2], "training.best.epoch"),
            Some(Values::Float64(vec![Some(2.0)]))
        );
        assert_eq!(find(&samples[5], "f1#2"), Some(Values::Float64(vec![None])));
        assert_eq!(
            find(&samples[9], "memory"),
            Some(Values::Float32(vec![0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]))
        );
        assert!(find(&samples[0], "series.cpu").is_some());
    }

    /// What changes a digest changes a leaf.
    #[test]
    fn leaves_see_what_digests_see() {
        type Change = fn(&mut Series);
        let changes: [Change; 4] = [
            |series| series.values[3] += 1.0,
            |series| series.labels[0] = 1,
            |series| series.channels[0] = "c".into(),
            |series| series.segments[0].split = Split::Validation,
        ];
        let base = super::super::series::tests::sample();
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            assert_ne!(all(&base.clone().into()), all(&changed.into()));
        }
    }
}
