//! `runner predict`: what a trained model of a finished run says about new data. The stages between the data and the model
//! are done again as the run did them, with the statistics and the weights that it learned.

use std::path::{Path, PathBuf};

use clap::Args;
use contract::artifact::{
    Artifact, ArtifactKind, COLOURS, Forecasts, Image, Images, Predictions, Scores, Split,
};
use contract::{Catalogue, Device};
use serde_json::{Map, Value, json};

use super::{Error, Exit, Global};
use crate::diagnostic::{list, suggestion};
use crate::engine::{PastStage, Replay};
use crate::project::DeviceChoice;
use crate::project::pick_device;
use crate::ui::{Align, Paint, Table, errln, number, out, print_json};

/// Endings of pictures that are no PNG files, and so cannot be read.
const OTHER_PICTURES: [&str; 8] = ["jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff", "svg"];

/// Classes that are shown beside the most probable one.
const ALSO: usize = 2;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner predict latest new.csv                 the class of a series, by the latest run's model\n  \
    runner predict latest:model a.png b.png       of pictures, by the model of the stage `model`\n  \
    runner predict latest new.csv --json          the probabilities of all classes")]
pub(super) struct Arguments {
    /// A run: `latest`, its name, or the start or end of its name; followed by `:STAGE` if it has several models
    #[arg(value_name = "RUN[:STAGE]")]
    model: String,
    /// Files: tables (CSV, Parquet, Arrow) with the channels that the model knows, or pictures (PNG)
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    /// Where the model runs: auto (CUDA if it is usable), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Error> {
    let (run, stage) = match arguments.model.split_once(':') {
        Some((run, stage)) => (run, Some(stage)),
        None => (arguments.model.as_str(), None),
    };
    let store = global.project.open_store(Path::new("."))?;
    let record = store.find_run(run)?;
    let replay = Replay::open(&store, &record, &global.project.catalogue.kinds)?;
    let target = target(&replay, stage)?;
    let device = pick_device(arguments.device, global.project.catalogue.hardware)?;
    let answer = answer(
        &global.project.catalogue,
        &replay,
        target,
        &arguments.inputs,
        device,
    )?;
    if global.json {
        let object =
            json!({"run": record.run, "stage": replay.name(target), "answers": to_json(&answer)});
        print_json(&object);
    } else {
        let name = Paint::Strong.on(replay.name(target));
        errln!("{} {name} of run {}", Paint::Quiet.on("by"), record.run);
        out!("{}", describe(&answer));
    }
    Ok(Exit::Done)
}

/// The stage that applies the model that is meant.
fn target(replay: &Replay<'_>, stage: Option<&str>) -> Result<PastStage, Error> {
    let all = replay.appliers();
    let names: Vec<&str> = all.iter().map(|stage| replay.name(*stage)).collect();
    if names.is_empty() {
        let hint = "the pipeline needs a stage that does it, such as `classify` or `score`, whose outputs are in the store";
        return Err(Error::wrong("no stage of this run applies a model to data").hint(hint));
    }
    let Some(stage) = stage else {
        return match all[..] {
            [only] => Ok(only),
            _ => {
                let message = format!(
                    "the run applies models in {} stages: {}",
                    names.len(),
                    list(&names)
                );
                Err(Error::wrong(message)
                    .hint(format!("name one of them, such as `RUN:{}`", names[0])))
            }
        };
    };
    let meant: Vec<PastStage> = all
        .into_iter()
        .filter(|other| replay.is_meant(*other, stage))
        .collect();
    match meant[..] {
        [only] => Ok(only),
        [] => {
            let message =
                format!("the run has no model or stage `{stage}` that says something about data");
            Err(Error::wrong(message).maybe_hint(suggestion(stage, &names)))
        }
        _ => {
            let names: Vec<&str> = meant.iter().map(|stage| replay.name(*stage)).collect();
            Err(Error::wrong(format!("`{stage}` may mean {}", list(&names)))
                .hint("give the full name of one"))
        }
    }
}

/// What the model says.
enum Answer {
    Classes(Predictions),
    Scores(Scores),
    Forecasts(Forecasts),
}

fn answer(
    catalogue: &Catalogue,
    replay: &Replay<'_>,
    target: PastStage,
    inputs: &[PathBuf],
    device: Device,
) -> Result<Answer, Error> {
    if let Some(missing) = inputs.iter().find(|input| !input.is_file()) {
        return Err(Error::wrong(format!(
            "there is no file {}",
            missing.display()
        )));
    }
    let ends = |input: &Path, with: &str| {
        input
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case(with))
    };
    if let Some(other) = inputs
        .iter()
        .find(|input| OTHER_PICTURES.iter().any(|ending| ends(input, ending)))
    {
        let message = format!(
            "pictures are read from PNG files, and {} is none",
            other.display()
        );
        return Err(Error::wrong(message).hint("convert it to PNG"));
    }
    let is_picture = |input: &PathBuf| ends(input, "png");
    let pictures = inputs.iter().filter(|input| is_picture(input)).count();
    if pictures > 0 && pictures < inputs.len() {
        return Err(Error::wrong("tables and pictures do not go together")
            .hint("ask about them one after the other"));
    }
    let kind = if pictures > 0 {
        ArtifactKind::Images
    } else {
        ArtifactKind::Series
    };
    let entrance = replay.entrance(target, kind).ok_or_else(|| {
        let message = format!(
            "nothing that leads to {} takes {}",
            replay.name(target),
            if pictures > 0 { "pictures" } else { "tables" }
        );
        Error::wrong(message)
    })?;
    let fresh = match replay.stored(entrance, kind)? {
        Artifact::Images(known) => fresh_images(inputs, &known)?.into(),
        Artifact::Series(known) => (catalogue.read_series)(inputs, &known.channels)?.into(),
        other => return Err(Error::failed(format!("{} is not data", other.kind()))),
    };
    let outputs = replay.run(target, entrance, &fresh, device)?;
    let said = outputs.into_values().find_map(|output| match output {
        Artifact::Predictions(predictions) => {
            Some(Answer::Classes(Predictions::clone(&predictions)))
        }
        Artifact::Scores(scores) => Some(Answer::Scores(Scores::clone(&scores))),
        Artifact::Forecasts(forecasts) => Some(Answer::Forecasts(Forecasts::clone(&forecasts))),
        _ => None,
    });
    said.ok_or_else(|| Error::failed(format!("the stage {} said nothing", replay.name(target))))
}

/// The pictures of these files, which must be whole, and as large as those that the model knows.
fn fresh_images(inputs: &[PathBuf], known: &Images) -> Result<Images, Error> {
    let read = |path: &PathBuf| {
        let file = std::fs::read(path)
            .map_err(|error| Error::failed(format!("cannot read {}: {error}", path.display())))?;
        let image = Image::from_file(path.display().to_string(), Split::Test, None, file);
        let (height, width) = image
            .size()
            .map_err(|error| unusable(path, &error.to_string()))?;
        if (height, width) != (known.height, known.width) {
            let hint = format!(
                "the model knows pictures of {}x{}",
                known.width, known.height
            );
            return Err(unusable(path, &format!("it is {width}x{height} pixels large")).hint(hint));
        }
        let mut rgb = vec![0; height * width * COLOURS];
        image
            .decode_into(&mut rgb)
            .map_err(|error| unusable(path, &error.to_string()))?;
        Ok(image)
    };
    let images = inputs
        .iter()
        .map(read)
        .collect::<Result<Vec<Image>, Error>>()?;
    Ok(Images {
        images,
        classes: Vec::new(),
        ..Images::clone(known)
    })
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::failed(format!(
        "the picture {} cannot be used: {reason}",
        path.display()
    ))
}

fn to_json(answer: &Answer) -> Value {
    match answer {
        Answer::Classes(predictions) => {
            let sample = |sample: usize| {
                let pairs = predictions.classes.iter().zip(predictions.row(sample));
                let probabilities: Map<String, Value> = pairs
                    .map(|(class, probability)| (class.clone(), json!(probability)))
                    .collect();
                let class = &predictions.classes[predictions.predicted(sample)];
                json!({"input": predictions.samples[sample], "class": class, "probabilities": probabilities})
            };
            (0..predictions.samples.len()).map(sample).collect()
        }
        Answer::Scores(scores) => {
            let segment = |segment: &contract::artifact::Segment| json!({"input": segment.entity, "first": segment.rows.start, "scores": scores.scores[segment.rows.clone()]});
            scores.segments.iter().map(segment).collect()
        }
        Answer::Forecasts(forecasts) => {
            let size = forecasts.horizon * forecasts.width();
            let window = |window: usize| {
                let values = &forecasts.predicted[window * size..(window + 1) * size];
                let steps: Vec<&[f32]> = values.chunks_exact(forecasts.width().max(1)).collect();
                let origin = &forecasts.origins[window];
                json!({"input": origin.entity, "row": origin.row, "channels": forecasts.channels, "forecast": steps})
            };
            (0..forecasts.windows()).map(window).collect()
        }
    }
}

fn describe(answer: &Answer) -> String {
    match answer {
        Answer::Classes(predictions) => classes_table(predictions),
        Answer::Scores(scores) => scores_table(scores),
        Answer::Forecasts(forecasts) => forecasts_table(forecasts),
    }
}

fn percent(probability: f32) -> String {
    format!("{:.1} %", probability * 100.0)
}

fn classes_table(predictions: &Predictions) -> String {
    let mut table = Table::new(&[
        ("input", Align::Left),
        ("class", Align::Left),
        ("probability", Align::Right),
        ("less probable", Align::Left),
    ]);
    for (sample, name) in predictions.samples.iter().enumerate() {
        let row = predictions.row(sample);
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|left, right| row[*right].total_cmp(&row[*left]));
        let also: Vec<String> = order
            .iter()
            .skip(1)
            .take(ALSO)
            .map(|class| format!("{} {}", predictions.classes[*class], percent(row[*class])))
            .collect();
        let best = order.first().copied().unwrap_or(0);
        table.row([
            name.clone(),
            Paint::Strong.on(&predictions.classes[best]),
            percent(row[best]),
            Paint::Quiet.on(also.join(", ")),
        ]);
    }
    table.render()
}

fn scores_table(scores: &Scores) -> String {
    let mut table = Table::new(&[
        ("input", Align::Left),
        ("rows scored", Align::Right),
        ("mean score", Align::Right),
        ("highest", Align::Right),
        ("in row", Align::Right),
    ]);
    for segment in &scores.segments {
        let own = &scores.scores[segment.rows.clone()];
        let mean = own.iter().map(|score| f64::from(*score)).sum::<f64>() / own.len().max(1) as f64;
        let highest = own
            .iter()
            .enumerate()
            .max_by(|(_, left), (_, right)| left.total_cmp(right));
        let Some((row, highest)) = highest else {
            continue;
        };
        table.row([
            segment.entity.clone(),
            own.len().to_string(),
            number(mean),
            number(f64::from(*highest)),
            (row + 1).to_string(),
        ]);
    }
    table.render()
}

/// The last window of the data, a line per step; all windows are printed as JSON.
fn forecasts_table(forecasts: &Forecasts) -> String {
    let Some((last, origin)) = forecasts.origins.iter().enumerate().next_back() else {
        return String::new();
    };
    let names = std::iter::once(("row", Align::Right));
    let columns: Vec<(&str, Align)> = names
        .chain(
            forecasts
                .channels
                .iter()
                .map(|channel| (channel.as_str(), Align::Right)),
        )
        .collect();
    let mut table = Table::new(&columns);
    let size = forecasts.horizon * forecasts.width();
    let values = &forecasts.predicted[last * size..(last + 1) * size];
    for (step, row) in values.chunks_exact(forecasts.width().max(1)).enumerate() {
        let place = (origin.row + step + 1).to_string();
        table.row(std::iter::once(place).chain(row.iter().map(|value| number(f64::from(*value)))));
    }
    table.render()
}
