//! Models, one file per paper: a configuration, its network, and a line in the table below.
//! How they are trained and what their errors mean for a stage is not decided here.

pub mod anomaly_transformer;
mod checks;
mod closed_form;
pub mod cnn;
pub mod dlinear;
mod draws;
pub mod dynonet;
mod forecaster;
pub mod gdn;
pub mod isolation_forest;
pub mod kalman;
pub mod kmeans_ad;
pub mod moving_average;
pub mod naive;
pub mod omni_anomaly;
pub mod omni_vae;
pub mod pca;
pub mod resnet50_plot;
pub mod transformer_recon;
pub mod tvnet;
pub mod tvnet_recon;
pub mod vae;
pub mod var;

use std::fmt;

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use contract::artifact::{Model, Windows};
use contract::{Choice, Entry, FileRequest, Random, Registry, StageContext, StageError};
use numerics::cross_entropy::CrossEntropy;
use numerics::{Gradients, Mode, State};

/// The table of models.
const MODELS: &[Declaration] = &[
    Declaration::of::<tvnet::Tvnet>(),
    Declaration::of::<tvnet_recon::TvnetRecon>(),
    Declaration::of::<omni_anomaly::OmniAnomaly>(),
    Declaration::of::<omni_vae::OmniVae>(),
    Declaration::of::<transformer_recon::TransformerRecon>(),
    Declaration::of::<anomaly_transformer::AnomalyTransformer>(),
    Declaration::of::<dynonet::Dynonet>(),
    Declaration::of::<resnet50_plot::Resnet50Plot>(),
    Declaration::of::<vae::Vae>(),
    Declaration::of::<gdn::Gdn>(),
    Declaration::of::<cnn::Cnn>(),
    Declaration::of::<dlinear::Dlinear>(),
    Declaration::of::<var::VectorAutoregression>(),
    Declaration::of::<kalman::Kalman>(),
    Declaration::of::<pca::Pca>(),
    Declaration::of::<kmeans_ad::KmeansAd>(),
    Declaration::of::<isolation_forest::IsolationForest>(),
    Declaration::of::<moving_average::MovingAverage>(),
    Declaration::of::<naive::Naive>(),
];

/// What a model is trained to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// To say how unlike anything learned each row is.
    Detect,
    /// To say which rows follow a window.
    Forecast,
    /// To fill in hidden values of a window.
    Impute,
    /// To say which class a window or an image is of.
    Classify,
}

impl Task {
    pub const ALL: [Self; 4] = [Self::Detect, Self::Forecast, Self::Impute, Self::Classify];

    /// The name in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Forecast => "forecast",
            Self::Impute => "impute",
            Self::Classify => "classify",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Whose word counts where a published program and its paper differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The method as published, done right.
    #[default]
    Paper,
    /// The reference program to the letter, defects included: for comparison with its figures.
    Reference,
}

/// What the data dictates to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataShape {
    pub task: Task,
    /// Rows of a window that the model sees, or the height of an image.
    pub length: usize,
    pub channels: usize,
    /// Rows to be forecast; 0 for every other task.
    pub horizon: usize,
    /// Classes to tell apart; 0 for every other task.
    pub classes: usize,
    /// Width of an image in pixels; 0 for windows.
    pub width: usize,
}

impl DataShape {
    /// Windows whose rows are to be judged.
    pub fn detect(length: usize, channels: usize) -> Self {
        Self {
            task: Task::Detect,
            length,
            channels,
            horizon: 0,
            classes: 0,
            width: 0,
        }
    }

    /// Windows whose following rows are to be told.
    pub fn forecast(length: usize, channels: usize, horizon: usize) -> Self {
        Self {
            task: Task::Forecast,
            horizon,
            ..Self::detect(length, channels)
        }
    }

    /// Windows whose hidden values are to be filled in.
    pub fn impute(length: usize, channels: usize) -> Self {
        Self {
            task: Task::Impute,
            ..Self::detect(length, channels)
        }
    }

    /// Windows that belong to classes.
    pub fn classify(length: usize, channels: usize, classes: usize) -> Self {
        Self {
            task: Task::Classify,
            classes,
            ..Self::detect(length, channels)
        }
    }

    /// Images that belong to classes.
    pub fn images(height: usize, width: usize, channels: usize, classes: usize) -> Self {
        Self {
            width,
            ..Self::classify(height, channels, classes)
        }
    }

    /// What keeps any model from such data, if anything.
    fn fault(self) -> Option<StageError> {
        let Self {
            task,
            length,
            channels,
            horizon,
            classes,
            ..
        } = self;
        if length == 0 || channels == 0 {
            return Some(StageError::new(format!(
                "windows of {length} rows and {channels} channels hold no values"
            )));
        }
        match task {
            Task::Forecast if horizon == 0 => Some(
                StageError::new("there are no rows to forecast: the windows have a horizon of 0")
                    .hint("set the windows' `horizon` to the number of rows to forecast"),
            ),
            Task::Detect | Task::Impute if horizon != 0 => Some(
                StageError::new(format!(
                    "to {task} needs windows without a horizon, not one of {horizon} rows"
                ))
                .hint("set the windows' `horizon` to 0, or the training's `task` to `forecast`"),
            ),
            Task::Classify if classes < 2 => Some(
                StageError::new(format!(
                    "to classify needs samples of at least two classes, not {classes}"
                ))
                .hint("ingest a data set whose samples have classes"),
            ),
            _ => None,
        }
    }
}

/// A batch of samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, length, channels]`; of images, `[batch, channels, height, width]` with values from 0 to 1.
    pub inputs: Tensor,
    /// To forecast: `[batch, horizon, channels]`. To impute: the complete windows, shaped as the inputs.
    pub targets: Option<Tensor>,
    /// To impute: 1 where a value can be seen and 0 where it is hidden; the inputs are 0 there.
    pub mask: Option<Tensor>,
    /// To classify: the class of each sample, `[batch]`, unsigned 32-bit.
    pub classes: Option<Tensor>,
    /// To classify: how much each class counts in the loss, `[classes]`; all alike without it.
    pub class_weights: Option<Tensor>,
    /// To classify: the share of the target that is spread over all classes.
    pub label_smoothing: f64,
}

impl Batch {
    /// Samples of which nothing but the inputs is known.
    pub fn of(inputs: Tensor) -> Self {
        Self {
            inputs,
            targets: None,
            mask: None,
            classes: None,
            class_weights: None,
            label_smoothing: 0.0,
        }
    }

    /// The cross entropy of logits, `[batch, classes]`, with the classes, weights and smoothing of this batch.
    ///
    /// # Errors
    /// If the samples have no classes, or those do not fit the logits.
    pub fn cross_entropy(&self, logits: &Tensor) -> candle_core::Result<Tensor> {
        let Some(classes) = &self.classes else {
            candle_core::bail!("the samples have no classes to learn")
        };
        let class_weights = self
            .class_weights
            .as_ref()
            .map(|weights| weights.to_vec1())
            .transpose()?;
        CrossEntropy {
            class_weights,
            label_smoothing: self.label_smoothing,
        }
        .loss(logits, classes)
    }
}

/// From which samples a phase of a training step takes its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Train,
    /// The validation samples, batch after batch and round again.
    Validation,
}

/// One part of a training step, with an optimiser state of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    pub source: Source,
    /// Multiplies the learning rate.
    pub rate: f64,
    /// Multiplies the weight decay.
    pub decay: f64,
}

impl Phase {
    /// A plain step on training samples.
    pub const TRAIN: Self = Self {
        source: Source::Train,
        rate: 1.0,
        decay: 1.0,
    };
}

/// A channel that informs another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    pub from: usize,
    pub to: usize,
    /// How close the two are; what it measures is the model's to say.
    pub weight: f64,
}

/// A model at work: weights on a device, and what can be computed with them.
pub trait Network: Send + Sync {
    /// Parameters and buffers under PyTorch's names.
    fn state(&self) -> &State;

    /// Takes over what the files of the configuration hold, before training begins.
    ///
    /// # Errors
    /// If a file cannot be read or does not fit.
    fn start(&self, _context: &StageContext<'_>) -> Result<(), StageError> {
        Ok(())
    }

    /// The loss of a batch, a scalar that can be differentiated. In training it moves running statistics.
    /// A model that is fitted in closed form has none.
    ///
    /// # Errors
    /// If a tensor operation fails or the batch does not fit.
    fn loss(
        &self,
        _batch: &Batch,
        _mode: Mode,
        _random: &mut Random,
    ) -> candle_core::Result<Tensor> {
        candle_core::bail!("this model is fitted in closed form and has no loss")
    }

    /// What a training step consists of, in order.
    fn phases(&self) -> &[Phase] {
        &[Phase::TRAIN]
    }

    /// The training loss and the gradients that phase `phase` of a step follows. Parameters without a gradient stay as
    /// they are. Models with a faster way, or with more than one objective, have their own.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn gradients(
        &self,
        _phase: usize,
        batch: &Batch,
        random: &mut Random,
    ) -> candle_core::Result<(f64, Gradients)> {
        let loss = self.loss(batch, Mode::Train, random)?;
        let gradients = Gradients::of(self.state(), &loss.backward()?);
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    /// Sets the state from the windows of the split `train`, for models that say they are
    /// [`Architecture::CLOSED_FORM`].
    ///
    /// # Errors
    /// If the windows do not determine the model, or the run was asked to stop.
    fn fit(&self, _windows: &Windows, _context: &StageContext<'_>) -> Result<(), StageError> {
        Err(StageError::new("this model is trained by gradients"))
    }

    /// What the task asks for, in evaluation mode: to detect and to impute `[batch, length, channels]`, to forecast
    /// `[batch, horizon, channels]`, to classify logits `[batch, classes]`.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn predict(&self, batch: &Batch) -> candle_core::Result<Tensor>;

    /// What each point adds to its anomaly score, in evaluation mode: `[batch, length, channels]`, finite. The score is
    /// the mean over channels.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn errors(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        (self.predict(batch)? - &batch.inputs)?.sqr()
    }

    /// Which channels inform which others, for models that learn such a graph.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn graph(&self) -> candle_core::Result<Option<Vec<Edge>>> {
        Ok(None)
    }

    /// Named outputs and inner values, for comparison with other implementations.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn trace(&self, batch: &Batch, mode: Mode) -> candle_core::Result<Vec<(String, Tensor)>>;
}

/// A model's configuration: a struct with `#[serde(deny_unknown_fields)]` and defaults.
pub trait Architecture: DeserializeOwned + Serialize + JsonSchema + 'static {
    /// The name in YAML.
    const NAME: &'static str;
    /// One sentence for the catalogue.
    const DOC: &'static str;
    /// Where the model was published; may be empty.
    const PAPER: &'static str = "";
    /// What it can be trained to do. The first is what it does if nothing is said.
    const TASKS: &'static [Task];
    /// Parameters, as JSON, that make a model small enough to be tested quickly.
    const SMALL: &'static str = "{}";
    /// Whether it is fitted at once, by [`Network::fit`], instead of step by step.
    const CLOSED_FORM: bool = false;
    /// Whether a part of it is trained on the samples that the epoch is chosen by, the upper level of two.
    const BI_LEVEL: bool = false;

    /// Whether this configuration sees images instead of windows.
    fn reads_images(&self) -> bool {
        false
    }

    /// Files that [`Network::start`] reads.
    fn files(&self) -> Vec<FileRequest> {
        Vec::new()
    }

    /// What the schema says only to editors.
    ///
    /// # Errors
    /// The parameter at fault and a sentence about it.
    fn check(&self) -> Result<(), (String, String)>;

    /// A network with fresh weights drawn from `random`.
    ///
    /// # Errors
    /// If the data's shape is impossible for the model.
    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> Result<Box<dyn Network>, StageError>;
}

/// The table of models as pipelines see it.
#[derive(Debug)]
pub struct Models;

impl Registry for Models {
    const TAG: &'static str = "kind";
    const WHAT: &'static str = "model";

    fn entries() -> Vec<Entry> {
        MODELS.iter().map(|model| (model.entry)()).collect()
    }
}

/// The parameter at fault and a sentence about it.
type Fault = (String, String);
type Check = fn(&Choice<Models>) -> Result<(), Fault>;
type Build =
    fn(&Choice<Models>, DataShape, &Device, &mut Random) -> Result<Box<dyn Network>, StageError>;

/// A model with its types erased.
pub struct Declaration {
    pub name: &'static str,
    pub paper: &'static str,
    /// What it can be trained to do; the first is the default.
    pub tasks: &'static [Task],
    /// Whether it is fitted at once instead of step by step.
    pub closed_form: bool,
    /// Whether a part of it is trained on the samples that the epoch is chosen by.
    pub bi_level: bool,
    /// Parameters, as JSON, of a small one for tests.
    pub small: &'static str,
    entry: fn() -> Entry,
    reads_images: fn(&Choice<Models>) -> bool,
    files: fn(&Choice<Models>) -> Vec<FileRequest>,
    check: Check,
    build: Build,
}

impl Declaration {
    const fn of<A: Architecture>() -> Self {
        Self {
            name: A::NAME,
            paper: A::PAPER,
            tasks: A::TASKS,
            closed_form: A::CLOSED_FORM,
            bi_level: A::BI_LEVEL,
            small: A::SMALL,
            entry: || Entry::new::<A>(A::NAME, A::DOC),
            reads_images: |choice| {
                choice
                    .parameters::<A>()
                    .is_ok_and(|architecture| architecture.reads_images())
            },
            files: |choice| {
                choice
                    .parameters::<A>()
                    .map(|architecture| architecture.files())
                    .unwrap_or_default()
            },
            check: |choice| {
                choice
                    .parameters::<A>()
                    .map_err(|error| (String::new(), error))?
                    .check()
            },
            build: |choice, shape, device, random| {
                let architecture = choice.parameters::<A>().map_err(StageError::new)?;
                if let Err((parameter, reason)) = architecture.check() {
                    return Err(StageError::new(format!(
                        "model {}: `{parameter}` {reason}",
                        A::NAME
                    )));
                }
                architecture.build(shape, device, random)
            },
        }
    }

    /// Whether the model can be trained for a task.
    ///
    /// # Errors
    /// A sentence with what it can be trained for.
    pub fn check_task(&self, task: Task) -> Result<(), String> {
        if self.tasks.contains(&task) {
            return Ok(());
        }
        let tasks = self
            .tasks
            .iter()
            .map(|task| format!("`{task}`"))
            .collect::<Vec<_>>()
            .join(", ");
        Err(format!(
            "cannot be `{task}` with the model {}, which is for {tasks}",
            self.name
        ))
    }
}

/// What the table says of the chosen model.
///
/// # Errors
/// If there is no such model.
pub fn declaration(choice: &Choice<Models>) -> Result<&'static Declaration, String> {
    let found = MODELS.iter().find(|model| model.name == choice.name());
    found.ok_or_else(|| format!("unknown model `{}`", choice.name()))
}

/// Whether the chosen model, so configured, sees images instead of windows.
pub fn reads_images(choice: &Choice<Models>) -> bool {
    declaration(choice).is_ok_and(|model| (model.reads_images)(choice))
}

/// Files from which the chosen model, so configured, starts its training.
pub fn files(choice: &Choice<Models>) -> Vec<FileRequest> {
    declaration(choice)
        .map(|model| (model.files)(choice))
        .unwrap_or_default()
}

/// What the schema of a model's parameters says only to editors.
///
/// # Errors
/// The parameter at fault and a sentence about it.
pub fn check(choice: &Choice<Models>) -> Result<(), (String, String)> {
    (declaration(choice)
        .map_err(|error| (String::new(), error))?
        .check)(choice)
}

/// A network with fresh weights drawn from `random`.
///
/// # Errors
/// If the data's shape is impossible for the model.
pub fn build(
    choice: &Choice<Models>,
    shape: DataShape,
    device: &Device,
    random: &mut Random,
) -> Result<Box<dyn Network>, StageError> {
    let model = declaration(choice).map_err(StageError::new)?;
    model
        .check_task(shape.task)
        .map_err(|error| StageError::new(format!("the task {error}")))?;
    match shape.fault() {
        Some(fault) => Err(fault),
        None => (model.build)(choice, shape, device, random),
    }
}

/// What a model file says of the data that the model is for, below [`Model::training`].
pub fn describe(shape: DataShape, classes: &[String]) -> Map<String, Value> {
    let DataShape {
        task,
        length,
        channels,
        horizon,
        width,
        ..
    } = shape;
    let entries = [
        ("task", json!(task)),
        ("length", json!(length)),
        ("channels", json!(channels)),
        ("horizon", json!(horizon)),
        ("width", json!(width)),
        ("classes", json!(classes)),
    ];
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// What [`describe`] wrote, read back: the shape and the names of the classes.
fn described(training: &Value) -> Result<(DataShape, Vec<String>), StageError> {
    #[derive(Deserialize)]
    struct Described {
        task: Task,
        length: usize,
        channels: usize,
        horizon: usize,
        width: usize,
        classes: Vec<String>,
    }
    let Described {
        task,
        length,
        channels,
        horizon,
        width,
        classes,
    } = Described::deserialize(training).map_err(|error| {
        StageError::new("the model file does not say what data it is for").because(error)
    })?;
    Ok((
        DataShape {
            task,
            length,
            channels,
            horizon,
            classes: classes.len(),
            width,
        },
        classes,
    ))
}

/// A model file at work.
pub struct Loaded {
    pub network: Box<dyn Network>,
    /// The shape of the data it was trained on.
    pub shape: DataShape,
    /// The names of the classes it tells apart, if it does.
    pub classes: Vec<String>,
}

/// The network of a model file. `fits` judges the shape of the data that the model is for before anything of that shape
/// is made: a file can name any.
///
/// # Errors
/// If the file names an unknown model, its shape does not fit, or its tensors do not fit the configuration.
pub fn load(
    model: &Model,
    device: &Device,
    fits: impl FnOnce(DataShape) -> Result<(), StageError>,
) -> Result<Loaded, StageError> {
    let choice: Choice<Models> = serde_json::from_value(model.config.clone()).map_err(|error| {
        StageError::new("the model file's configuration does not parse").because(error)
    })?;
    let (shape, classes) = described(&model.training)?;
    fits(shape)?;
    check(&choice).map_err(|(at, reason)| {
        StageError::new(format!("the model file's configuration: `{at}` {reason}"))
    })?;
    // The values drawn here are overwritten at once.
    let network = build(&choice, shape, device, &mut Random::new(0, "init"))?;
    network.state().set_data(&model.tensors)?;
    Ok(Loaded {
        network,
        shape,
        classes,
    })
}

#[cfg(test)]
mod conformance;
