//! Artifacts as files that a program is given: as they lie in the store (Parquet and the like), as Arrow IPC that can be
//! mapped into memory, or as NumPy arrays. What stands beside the values (segments, channels) is said in JSON.

use std::fs::{File, create_dir_all};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    UInt8Array,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::ipc::writer::FileWriter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::cut::pieces;
use super::npy::{write_array, write_series};
use contract::Trouble;
use contract::artifact::{Artifact, Scores, Segment, Series, Shown, Split, Windows};

/// The form of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Parquet; safetensors for a model, a folder for Files.
    #[default]
    Parquet,
    /// Arrow IPC, uncompressed: it can be mapped into memory.
    Arrow,
    /// NumPy arrays.
    Npy,
}

/// A file that was written, and what to know about it.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// Relative to the folder of the program.
    pub path: String,
    pub about: Value,
}

/// Writes an artifact below a folder, at `stem` and an ending.
///
/// # Errors
/// If it cannot be written, or has no such form.
pub(crate) fn give(
    name: &str,
    artifact: &Artifact,
    format: Format,
    folder: &Path,
    stem: &str,
) -> Result<Given, Trouble> {
    if let Some(parent) = folder.join(stem).parent() {
        create_dir_all(parent)?;
    }
    let (path, mut about) = match format {
        Format::Parquet => (as_stored(name, artifact, folder, stem)?, Map::new()),
        Format::Arrow => (as_arrow(name, artifact, folder, stem)?, Map::new()),
        Format::Npy => as_arrays(name, artifact, folder, stem)?,
    };
    about.insert("path".to_owned(), path.as_str().into());
    about.insert("kind".to_owned(), artifact.kind().name().into());
    match artifact {
        Artifact::Series(series) => describe(&mut about, &series.channels, &series.segments),
        Artifact::Windows(windows) => {
            let series = &windows.series;
            describe(&mut about, &series.channels, &series.segments);
            describe_windows(&mut about, windows);
        }
        Artifact::Scores(scores) => describe(&mut about, &scores.channels, &scores.segments),
        _ => {}
    }
    Ok(Given {
        path,
        about: Value::Object(about),
    })
}

/// Segments as the job file has them.
pub(crate) fn segments_as_json(segments: &[Segment]) -> Value {
    let mut listed = Vec::with_capacity(segments.len());
    for segment in segments {
        let mut one = json!({
            "split": segment.split.name(),
            "entity": segment.entity,
            "rows": [segment.rows.start, segment.rows.end],
        });
        if segment.labelled {
            one["labelled"] = true.into();
        }
        if let Some(class) = &segment.class {
            one["class"] = class.as_str().into();
        }
        listed.push(one);
    }
    listed.into()
}

fn describe(about: &mut Map<String, Value>, channels: &[String], segments: &[Segment]) {
    about.insert("channels".to_owned(), channels.into());
    about.insert("segments".to_owned(), segments_as_json(segments));
}

fn describe_windows(about: &mut Map<String, Value>, windows: &Windows) {
    about.insert("length".to_owned(), windows.spec.length.into());
    about.insert("horizon".to_owned(), windows.spec.horizon.into());
    let mut runs = Vec::new();
    for run in &windows.runs {
        runs.push(json!({
            "split": run.split.name(),
            "first": run.first,
            "stride": run.stride,
            "count": run.count,
            "rows": [run.rows.0, run.rows.1],
        }));
    }
    about.insert("runs".to_owned(), runs.into());
}

fn as_stored(
    name: &str,
    artifact: &Artifact,
    folder: &Path,
    stem: &str,
) -> Result<String, Trouble> {
    let Artifact::Files(files) = artifact else {
        let path = format!("{stem}.{}", artifact.kind().extension());
        let mut sink = BufWriter::new(File::create_new(folder.join(&path))?);
        artifact.encode_to(&mut sink)?;
        sink.flush()?;
        return Ok(path);
    };
    files.lay_out(&folder.join(stem)).map_err(|error| {
        let message = format!("the input `{}` could not be laid out", Shown(name));
        Trouble::new(message).because(error)
    })?;
    Ok(stem.to_owned())
}

fn no_form(name: &str, artifact: &Artifact, form: &str) -> Trouble {
    let message = format!(
        "`{}` is of kind {}, which has no form in {form}",
        Shown(name),
        artifact.kind()
    );
    Trouble::new(message).hint("leave out `as` for this input")
}

fn as_arrow(name: &str, artifact: &Artifact, folder: &Path, stem: &str) -> Result<String, Trouble> {
    let batch = match artifact {
        Artifact::Series(series) => batch_of_series(series)?,
        Artifact::Scores(scores) => batch_of_scores(scores)?,
        Artifact::Table(table) => table.batch().clone(),
        other => return Err(no_form(name, other, "Arrow")),
    };
    let failed = |error| Trouble::new("an input cannot be written as Arrow").because(error);
    let path = format!("{stem}.arrow");
    let sink = BufWriter::new(File::create_new(folder.join(&path))?);
    let mut writer = FileWriter::try_new(sink, &batch.schema()).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(path)
}

/// Columns that say where each row lies.
fn places(segments: &[Segment]) -> Vec<(Field, ArrayRef)> {
    let rows = || {
        segments
            .iter()
            .flat_map(|segment| segment.rows.clone().map(move |_| segment))
    };
    let splits: StringArray = rows().map(|segment| Some(segment.split.name())).collect();
    let entities: StringArray = rows()
        .map(|segment| Some(segment.entity.as_str()))
        .collect();
    vec![
        (Field::new("split", DataType::Utf8, false), Arc::new(splits)),
        (
            Field::new("entity", DataType::Utf8, false),
            Arc::new(entities),
        ),
    ]
}

fn batch_of_series(series: &Series) -> Result<RecordBatch, Trouble> {
    let mut columns = places(&series.segments);
    if !series.times.is_empty() {
        let kind = DataType::Timestamp(TimeUnit::Millisecond, None);
        let times = TimestampMillisecondArray::from(series.times.clone());
        columns.push((Field::new("time", kind, false), Arc::new(times)));
    }
    if !series.labels.is_empty() {
        let labels = UInt8Array::from(series.labels.clone());
        columns.push((
            Field::new("label", DataType::UInt8, false),
            Arc::new(labels),
        ));
    }
    for (channel, name) in series.channels.iter().enumerate() {
        let (kind, column): (DataType, ArrayRef) = match series.wide.get(&channel) {
            Some(values) => (
                DataType::Float64,
                Arc::new(Float64Array::from(values.clone())),
            ),
            None => {
                let own = series.values.iter().skip(channel).step_by(series.width());
                let own: Vec<f32> = own.copied().collect();
                (DataType::Float32, Arc::new(Float32Array::from(own)))
            }
        };
        columns.push((Field::new(name, kind, false), column));
    }
    batch(columns)
}

fn batch_of_scores(scores: &Scores) -> Result<RecordBatch, Trouble> {
    let mut columns = places(&scores.segments);
    let values = Float32Array::from(scores.scores.clone());
    columns.push((
        Field::new("score", DataType::Float32, false),
        Arc::new(values),
    ));
    if !scores.labels.is_empty() {
        let labels = UInt8Array::from(scores.labels.clone());
        columns.push((
            Field::new("label", DataType::UInt8, false),
            Arc::new(labels),
        ));
    }
    let width = scores.channels.len();
    for (channel, name) in scores.channels.iter().enumerate() {
        let own = scores.contributions.iter().skip(channel).step_by(width);
        let own: Vec<f32> = own.copied().collect();
        let name = format!("contribution.{name}");
        columns.push((
            Field::new(name, DataType::Float32, false),
            Arc::new(Float32Array::from(own)),
        ));
    }
    batch(columns)
}

fn batch(columns: Vec<(Field, ArrayRef)>) -> Result<RecordBatch, Trouble> {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    RecordBatch::try_new(schema, arrays)
        .map_err(|error| Trouble::new("an input cannot be written as Arrow").because(error))
}

type Arrays = (String, Map<String, Value>);

fn as_arrays(
    name: &str,
    artifact: &Artifact,
    folder: &Path,
    stem: &str,
) -> Result<Arrays, Trouble> {
    let mut about = Map::new();
    let path = format!("{stem}.npy");
    let place = folder.join(&path);
    match artifact {
        Artifact::Series(series) => {
            let shape = [series.rows(), series.width()];
            write_series(&place, &shape, series)?;
            beside_series(series, folder, stem, &mut about)?;
        }
        Artifact::Windows(windows) => {
            windows_as_arrays(windows, folder, stem, &mut about)?;
        }
        Artifact::Scores(scores) => {
            let shape = [scores.rows()];
            write_array(
                &place,
                "<f4",
                &shape,
                pieces(&scores.scores, f32::to_le_bytes),
            )?;
            if !scores.labels.is_empty() {
                let labels = format!("{stem}.labels.npy");
                write_labels(&folder.join(&labels), &scores.labels, &scores.segments)?;
                about.insert("labels".to_owned(), labels.into());
            }
        }
        other => return Err(no_form(name, other, "NumPy")),
    }
    Ok((path, about))
}

/// Labels and times, in files of their own.
fn beside_series(
    series: &Series,
    folder: &Path,
    stem: &str,
    about: &mut Map<String, Value>,
) -> Result<(), Trouble> {
    if !series.labels.is_empty() {
        let path = format!("{stem}.labels.npy");
        write_labels(&folder.join(&path), &series.labels, &series.segments)?;
        about.insert("labels".to_owned(), path.into());
    }
    if !series.times.is_empty() {
        let path = format!("{stem}.times.npy");
        let shape = [series.times.len()];
        write_array(
            &folder.join(&path),
            "<i8",
            &shape,
            pieces(&series.times, i64::to_le_bytes),
        )?;
        about.insert("times".to_owned(), path.into());
    }
    Ok(())
}

/// 0 and 1, and -1 where nothing is said.
fn write_labels(place: &Path, labels: &[u8], segments: &[Segment]) -> Result<(), Trouble> {
    let mut known: Vec<i8> = labels.iter().map(|label| i8::from(*label != 0)).collect();
    for segment in segments.iter().filter(|segment| !segment.labelled) {
        known[segment.rows.clone()].fill(-1);
    }
    write_array(
        place,
        "|i1",
        &[known.len()],
        pieces(&known, i8::to_le_bytes),
    )?;
    Ok(())
}

/// Every window with its rows: `[windows, length, channels]`, and `[windows, horizon, channels]` of what follows, where
/// labels are given.
fn windows_as_arrays(
    windows: &Windows,
    folder: &Path,
    stem: &str,
    about: &mut Map<String, Value>,
) -> Result<(), Trouble> {
    let (length, horizon) = (windows.spec.length, windows.spec.horizon);
    let width = windows.series.width();
    let starts = |runs: &[contract::artifact::WindowRun]| {
        let runs = runs.iter();
        runs.flat_map(|run| {
            (0..run.count)
                .map(|index| run.start(index))
                .collect::<Vec<_>>()
        })
        .collect::<Vec<usize>>()
    };
    let all = starts(&windows.runs);
    let bytes = |values: &[f32]| -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let inputs = all.iter().map(|start| bytes(windows.input(*start)));
    let shape = [all.len(), length, width];
    write_array(&folder.join(format!("{stem}.npy")), "<f4", &shape, inputs)?;
    let rows: Vec<i64> = all.iter().map(|start| *start as i64).collect();
    let path = format!("{stem}.starts.npy");
    write_array(
        &folder.join(&path),
        "<i8",
        &[rows.len()],
        pieces(&rows, i64::to_le_bytes),
    )?;
    about.insert("starts".to_owned(), path.into());
    if horizon > 0 {
        let hidden = vec![f32::NAN; horizon * width];
        let targets = windows.runs.iter().flat_map(|run| {
            // What is to be forecast is known of the rows that are learned from alone.
            let is_known = matches!(run.split, Split::Train | Split::Validation);
            let one = |start| match is_known {
                true => bytes(windows.target(start)),
                false => bytes(&hidden),
            };
            (0..run.count)
                .map(|index| one(run.start(index)))
                .collect::<Vec<_>>()
        });
        let path = format!("{stem}.targets.npy");
        write_array(
            &folder.join(&path),
            "<f4",
            &[all.len(), horizon, width],
            targets,
        )?;
        about.insert("targets".to_owned(), path.into());
    }
    Ok(())
}
