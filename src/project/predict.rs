//! What a trained model of a finished run says about new data. The stages between the data and the model are done again as
//! the run did them, with the statistics and the weights that it learned.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::artifact::{
    Artifact, ArtifactKind, COLOURS, Forecasts, Image, Images, Predictions, Scores, Split,
};

use super::{DeviceChoice, Error, Project, pick_device};
use crate::cache::{RunId, RunRecord};
use crate::diagnostic::{list, shown_path, suggestion};
use crate::engine::{PastStage, Replay};

/// Endings of images that are not PNG files, and so cannot be read.
const OTHER_IMAGES: [&str; 8] = ["jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff", "svg"];

/// Which model is asked about what.
#[derive(Clone, Debug)]
pub struct PredictOrder {
    /// A run; behind a colon the stage that is meant, or the one that trained its model, if there are several.
    pub model: String,
    /// Tables with the channels that the model knows, or images.
    pub inputs: Vec<PathBuf>,
    pub device: DeviceChoice,
}

/// What a model says, and whose model it is.
#[derive(Clone, Debug)]
pub struct Predicted {
    pub run: RunId,
    /// The stage that was done again.
    pub stage: String,
    pub answer: Answer,
}

/// What a model says about data.
#[derive(Clone, Debug)]
pub enum Answer {
    Classes(Arc<Predictions>),
    Scores(Arc<Scores>),
    Forecasts(Arc<Forecasts>),
}

impl Project {
    /// Applies a model of a finished run to new data. Nothing is stored.
    ///
    /// # Errors
    /// If there is no such run or model, or it takes no such data; or a stage fails on them.
    pub fn predict(&self, order: &PredictOrder) -> Result<Predicted, Error> {
        let (run, stage) = match order.model.split_once(':') {
            Some((run, stage)) => (run, Some(stage)),
            None => (order.model.as_str(), None),
        };
        let store = self.open_store(Path::new("."))?;
        let record = store.find_run(run)?;
        let replay = Replay::open(&store, &record, &self.catalogue.kinds)?;
        let target = match stage {
            Some(name) => named_target(&replay, name)?,
            None => only_target(&replay, &record, run)?,
        };
        let device = pick_device(order.device, self.catalogue.hardware)?;
        let kind = kind_of(&order.inputs)?;
        let name = replay.name(target);
        let Some(entrance) = replay.entrance(target, kind) else {
            let data = match kind {
                ArtifactKind::Images => "images",
                _ => "tables",
            };
            let message = format!("nothing that leads to {name} takes {data}");
            return Err(Error::wrong(message));
        };
        let fresh: Artifact = match replay.stored(entrance, kind)? {
            Artifact::Images(known) => fresh_images(&order.inputs, &known)?.into(),
            Artifact::Series(known) => {
                (self.catalogue.read_series)(&order.inputs, &known.channels)?.into()
            }
            other => return Err(Error::failed(format!("{} is not data", other.kind()))),
        };
        for output in replay.run(target, entrance, &fresh, device)?.into_values() {
            let answer = match output {
                Artifact::Predictions(predictions) => Answer::Classes(predictions),
                Artifact::Scores(scores) => Answer::Scores(scores),
                Artifact::Forecasts(forecasts) => Answer::Forecasts(forecasts),
                _ => continue,
            };
            return Ok(Predicted {
                run: record.run.clone(),
                stage: name.to_owned(),
                answer,
            });
        }
        Err(Error::failed(format!("the stage {name} said nothing")))
    }
}

fn names_of<'a>(replay: &'a Replay<'_>, stages: &[PastStage]) -> Vec<&'a str> {
    stages.iter().map(|stage| replay.name(*stage)).collect()
}

/// The one stage of the run that applies a model.
fn only_target(replay: &Replay<'_>, record: &RunRecord, run: &str) -> Result<PastStage, Error> {
    let all = replay.appliers();
    if let [only] = all[..] {
        return Ok(only);
    }
    let names = names_of(replay, &all);
    let Some(first) = names.first() else {
        return Err(no_model());
    };
    let message = format!(
        "the run applies models in {} stages: {}",
        names.len(),
        list(&names)
    );
    let hint = if record.sweep.is_some() {
        let file = shown_path(Path::new(&record.file));
        format!(
            "they are of the trials of a sweep, whose numbers stand behind `#`: name one, such as `{run}:{first}`; \
             `runner sweep best {file}` says which trial is best"
        )
    } else {
        format!("name one of them, such as `{run}:{first}`")
    };
    Err(Error::wrong(message).hint(hint))
}

/// The stage that a name means: its own, or that of the stage which trained its model.
fn named_target(replay: &Replay<'_>, name: &str) -> Result<PastStage, Error> {
    let all = replay.appliers();
    if all.is_empty() {
        return Err(no_model());
    }
    let mut meant = all.clone();
    meant.retain(|stage| replay.is_meant(*stage, name));
    match meant[..] {
        [only] => Ok(only),
        [] => {
            let message =
                format!("the run has no model or stage `{name}` that says something about data");
            let names = names_of(replay, &all);
            Err(Error::wrong(message).maybe_hint(suggestion(name, &names)))
        }
        _ => {
            let names = names_of(replay, &meant);
            Err(Error::wrong(format!("`{name}` may mean {}", list(&names)))
                .hint("give the full name of one"))
        }
    }
}

fn no_model() -> Error {
    let hint = "the pipeline needs a stage that does it, such as `classify` or `score`, whose outputs are in the store";
    Error::wrong("no stage of this run applies a model to data").hint(hint)
}

/// What sort of data the files are, which must be there.
fn kind_of(inputs: &[PathBuf]) -> Result<ArtifactKind, Error> {
    let mut images = 0;
    for input in inputs {
        let path = input.display();
        if !input.is_file() {
            return Err(Error::wrong(format!("there is no file {path}")));
        }
        let ending = input
            .extension()
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        let ending = ending.to_ascii_lowercase();
        if OTHER_IMAGES.contains(&ending.as_str()) {
            let message = format!("images are read from PNG files, and {path} is not one");
            return Err(Error::wrong(message).hint("convert it to PNG"));
        }
        images += usize::from(ending == "png");
    }
    match images {
        0 => Ok(ArtifactKind::Series),
        _ if images == inputs.len() => Ok(ArtifactKind::Images),
        _ => Err(Error::wrong("tables and images do not go together")
            .hint("ask about them one after the other")),
    }
}

/// The images in these files, which must be whole, and as large as those that the model knows.
fn fresh_images(inputs: &[PathBuf], known: &Images) -> Result<Images, Error> {
    let mut images = Vec::with_capacity(inputs.len());
    for path in inputs {
        let unusable = |reason: String| {
            Error::failed(format!(
                "the image {} cannot be used: {reason}",
                path.display()
            ))
        };
        let file = std::fs::read(path)
            .map_err(|error| Error::failed(format!("cannot read {}: {error}", path.display())))?;
        let image = Image::from_file(path.display().to_string(), Split::Test, None, file);
        let size = image.size();
        let (height, width) = size.map_err(|error| unusable(error.to_string()))?;
        if (height, width) != (known.height, known.width) {
            let hint = format!("the model knows images of {}x{}", known.width, known.height);
            return Err(unusable(format!("it is {width}x{height} pixels large")).hint(hint));
        }
        // Decoded here, so that a damaged file is named; a stage that fails on it could not say which it was.
        let decoded = image.decode_into(&mut vec![0; height * width * COLOURS]);
        decoded.map_err(|error| unusable(error.to_string()))?;
        images.push(image);
    }
    Ok(Images {
        images,
        classes: Vec::new(),
        ..known.clone()
    })
}
