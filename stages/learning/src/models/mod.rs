//! Models, one file per paper: a configuration, its network, and a line in the table below.
//! How they are trained and what their errors mean for a stage is not decided here.

mod checks;
mod closed_form;
mod draws;
mod forecaster;
mod instance_norm;

contract::entries! {
    /// All models, in the order of the documentation.
    const ENTRIES: Entry<dyn Architecture>;
    mod tvnet: Tvnet;
    mod tvnet_recon: TvnetRecon;
    pub mod omni_anomaly: OmniAnomaly;
    pub mod omni_vae: OmniVae;
    mod transformer_recon: TransformerRecon;
    mod anomaly_transformer: AnomalyTransformer;
    pub mod dynonet: Dynonet;
    mod resnet50_plot: Resnet50Plot;
    mod vae: Vae;
    mod gdn: Gdn;
    mod cnn: Cnn;
    mod dlinear: Dlinear;
    mod var: VectorAutoregression;
    mod kalman: Kalman;
    mod pca: Pca;
    mod kmeans_ad: KmeansAd;
    mod isolation_forest: IsolationForest;
    mod moving_average: MovingAverage;
    mod naive: Naive;
}

use std::fmt;

use candle_core::{Device, Tensor, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use contract::artifact::{Model, Windows};
use contract::{Choice, Fault, FileRequest, Random, StageContext, Table, Trouble};
use numerics::cross_entropy::CrossEntropy;
use numerics::host::with_slice;
use numerics::{Gradients, Mode, State, StateBuilder};

/// What can fail. Most of what a model does is done to tensors, so theirs is the error unless another is named.
pub type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// What comes of [`Architecture::build`].
pub type Built = Result<Box<dyn Network>, Trouble>;

/// The table of models.
static MODELS: Table<dyn Architecture> = Table::new("model", &[ENTRIES]);

contract::tabled!(dyn Architecture in MODELS);

/// A model with its configuration, as a pipeline names it.
pub type ModelChoice = Choice<dyn Architecture>;

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

/// What a model or a stage looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Windows of a series.
    #[default]
    Windows,
    /// Images.
    Images,
}

/// Whose word counts where a published program and its paper differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The method as published, done right.
    #[default]
    Paper,
    /// The reference program to the letter, defects included: for comparison with its numbers.
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

    /// Windows whose following rows are to be predicted.
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
    fn fault(self) -> Option<Trouble> {
        let (message, hint) = match self.task {
            _ if self.length == 0 || self.channels == 0 => {
                return Some(Trouble::new(format!("{self} hold no values")));
            }
            Task::Forecast if self.horizon == 0 => (
                "there are no rows to forecast: the windows have a horizon of 0".to_owned(),
                "set the windows' `horizon` to the number of rows to forecast",
            ),
            Task::Detect | Task::Impute if self.horizon != 0 => (
                format!(
                    "the task `{}` needs windows without a horizon, not one of {} rows",
                    self.task, self.horizon
                ),
                "set the windows' `horizon` to 0, or the training's `task` to `forecast`",
            ),
            Task::Classify if self.classes < 2 => (
                format!(
                    "the task `classify` needs samples of at least two classes, not {}",
                    self.classes
                ),
                "ingest a data set whose samples have classes",
            ),
            _ => return None,
        };
        Some(Trouble::new(message).hint(hint))
    }

    /// Refuses windows of another size than the model was built for, `[batch, length, channels]`.
    fn check_windows(self, inputs: &Tensor) -> Result<()> {
        let (batch, length, channels) = inputs.dims3()?;
        if batch == 0 || length != self.length || channels != self.channels {
            bail!(
                "the model takes {self}, not a tensor of {:?}",
                inputs.dims()
            )
        }
        Ok(())
    }

    /// Refuses images of another size than the model was built for, `[batch, channels, height, width]`.
    fn check_images(self, inputs: &Tensor) -> Result<()> {
        let (batch, channels, height, width) = inputs.dims4()?;
        if batch == 0 || (channels, height, width) != (self.channels, self.length, self.width) {
            bail!(
                "the model takes {self}, not a tensor of {:?}",
                inputs.dims()
            )
        }
        Ok(())
    }
}

/// For messages: `windows of 100 rows and 3 channels`.
impl fmt::Display for DataShape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            length,
            channels,
            horizon,
            width,
            ..
        } = self;
        match (width, horizon) {
            (0, 0) => write!(
                formatter,
                "windows of {length} rows and {channels} channels"
            ),
            (0, _) => write!(
                formatter,
                "windows of {length} rows and {channels} channels with {horizon} rows to forecast"
            ),
            _ => write!(
                formatter,
                "images of {width} x {length} pixels and {channels} channels"
            ),
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

    /// The targets, which tasks without any must not ask for.
    ///
    /// # Errors
    /// If there are none.
    pub fn targets(&self) -> Result<&Tensor> {
        match &self.targets {
            Some(targets) => Ok(targets),
            None => bail!("the batch does not say what the model should have predicted"),
        }
    }

    /// The mean squared error of a prediction of the targets.
    ///
    /// # Errors
    /// If there are none, or they have another shape.
    pub fn squared_error(&self, predicted: &Tensor) -> Result<Tensor> {
        (predicted - self.targets()?)?.sqr()?.mean_all()
    }

    /// The cross entropy of logits, `[batch, classes]`, with the classes, weights and smoothing of this batch.
    ///
    /// # Errors
    /// If the samples have no classes, or those do not fit the logits.
    pub fn cross_entropy(&self, logits: &Tensor) -> Result<Tensor> {
        let Some(classes) = &self.classes else {
            bail!("the samples have no classes to learn")
        };
        let class_weights = match &self.class_weights {
            Some(weights) => Some(weights.to_vec1()?),
            None => None,
        };
        let entropy = CrossEntropy {
            class_weights,
            label_smoothing: self.label_smoothing,
        };
        entropy.loss(logits, classes)
    }
}

/// From which samples a phase of a training step takes its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Train,
    /// The validation samples, batch after batch and round again.
    Validation,
}

/// One part of a training step, with a separate optimiser state.
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
    fn start(&self, _context: &StageContext<'_>) -> Result<(), Trouble> {
        Ok(())
    }

    /// The loss of a batch, a scalar that can be differentiated. In training it moves running statistics.
    /// A model that is fitted in closed form has none.
    ///
    /// # Errors
    /// If a tensor operation fails or the batch does not fit.
    fn loss(&self, _batch: &Batch, _mode: Mode, _random: &mut Random) -> Result<Tensor> {
        bail!("this model is fitted in closed form and has no loss")
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
    ) -> Result<(f64, Gradients)> {
        differentiate(self.state(), &self.loss(batch, Mode::Train, random)?)
    }

    /// Sets the state from the windows of the split `train`, for models that say they are
    /// [`Architecture::closed_form`].
    ///
    /// # Errors
    /// If the windows do not determine the model, or the run was asked to stop.
    fn fit(&self, _windows: &Windows, _context: &StageContext<'_>) -> Result<(), Trouble> {
        Err(Trouble::new("this model is trained by gradients"))
    }

    /// What the task asks for, in evaluation mode: to detect and to impute `[batch, length, channels]`, to forecast
    /// `[batch, horizon, channels]`, to classify logits `[batch, classes]`.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn predict(&self, batch: &Batch) -> Result<Tensor>;

    /// What each point adds to its anomaly score, in evaluation mode: `[batch, length, channels]`, finite. The score is
    /// the mean over channels.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn errors(&self, batch: &Batch) -> Result<Tensor> {
        (self.predict(batch)? - &batch.inputs)?.sqr()
    }

    /// Which channels inform which others, for models that learn such a graph.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn graph(&self) -> Result<Option<Vec<Edge>>> {
        Ok(None)
    }

    /// Named outputs and inner values, for comparison with other implementations.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn trace(&self, batch: &Batch, mode: Mode) -> Result<Vec<(String, Tensor)>>;
}

/// A loss and the gradients that automatic differentiation finds for it.
fn differentiate(state: &State, loss: &Tensor) -> Result<(f64, Gradients)> {
    let gradients = Gradients::of(state, loss)?;
    Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
}

/// The mean of all values, summed in 64 bits and in one order: Candle's reductions may look at the number of threads.
pub(crate) fn exact_mean(values: &Tensor) -> Result<f64> {
    let values = values.to_device(&Device::Cpu)?.contiguous()?;
    with_slice(&values, |values| {
        let mut sum = 0.0;
        for value in values {
            sum += f64::from(*value);
        }
        sum / values.len() as f64
    })
}

/// The product of two vectors, added up in their order.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter()
        .zip(right)
        .map(|(left, right)| left * right)
        .sum()
}

/// The sum of tensors of one shape, of which there is at least one.
fn sum(tensors: &[Tensor]) -> Result<Tensor> {
    let mut sum = tensors[0].clone();
    for tensor in &tensors[1..] {
        sum = (sum + tensor)?;
    }
    Ok(sum)
}

/// What a [`Network::trace`] returns.
fn named<const N: usize>(tensors: [(&str, Tensor); N]) -> Vec<(String, Tensor)> {
    tensors
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into()
}

/// A model's configuration.
pub trait Architecture: Send + Sync {
    /// What it can be trained to do. The first is the default.
    fn tasks(&self) -> &'static [Task];

    /// Whether it is fitted at once, by [`Network::fit`], instead of step by step.
    fn closed_form(&self) -> bool {
        false
    }

    /// Whether a part of it is trained on the samples that the epoch is chosen by, the upper level of two.
    fn bi_level(&self) -> bool {
        false
    }

    /// Whether this configuration sees images instead of windows.
    fn reads_images(&self) -> bool {
        false
    }

    /// Where it was published: `Authors: Title. Where Year.`; empty for what needs no source.
    fn citation(&self) -> &'static str {
        ""
    }

    /// Files that [`Network::start`] reads.
    fn files(&self) -> Vec<FileRequest> {
        Vec::new()
    }

    /// What the schema of the configuration cannot say.
    ///
    /// # Errors
    /// The parameter at fault.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// A network whose tensors are declared to `builder`, which draws their first values.
    ///
    /// # Errors
    /// If the data's shape is impossible for the model.
    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built;
}

/// Whether a model can be trained for a task.
///
/// # Errors
/// A sentence with what it can be trained for.
pub fn check_task(choice: &ModelChoice, task: Task) -> Result<(), String> {
    if choice.tasks().contains(&task) {
        return Ok(());
    }
    let tasks: Vec<&str> = choice.tasks().iter().map(|task| task.name()).collect();
    Err(format!(
        "cannot be `{task}` with the model {}, which is for `{}`",
        choice.name(),
        tasks.join("`, `")
    ))
}

/// A network with fresh weights drawn from `random`.
///
/// # Errors
/// If the data's shape is impossible for the model.
pub fn build(
    choice: &ModelChoice,
    shape: DataShape,
    device: &Device,
    random: &mut Random,
) -> Built {
    check_task(choice, shape.task).map_err(|error| Trouble::new(format!("the task {error}")))?;
    if let Some(fault) = shape.fault() {
        return Err(fault);
    }
    if let Err(fault) = choice.check() {
        return Err(Trouble::new(format!("model {}: {fault}", choice.name())));
    }
    choice.build(shape, &mut StateBuilder::new(device, random))
}

/// What a model file says of the data that the model is for, below [`Model::training`].
pub fn describe(shape: DataShape, classes: &[String]) -> Value {
    json!({
        "task": shape.task, "length": shape.length, "channels": shape.channels,
        "horizon": shape.horizon, "width": shape.width, "classes": classes,
    })
}

/// What [`describe`] wrote, read back: the shape and the names of the classes.
fn described(training: &Value) -> Result<(DataShape, Vec<String>), Trouble> {
    #[derive(Deserialize)]
    struct Described {
        task: Task,
        length: usize,
        channels: usize,
        horizon: usize,
        width: usize,
        classes: Vec<String>,
    }
    let described = Described::deserialize(training).map_err(|error| {
        Trouble::new("the model file does not say what data the model is for").because(error)
    })?;
    let shape = DataShape {
        task: described.task,
        length: described.length,
        channels: described.channels,
        horizon: described.horizon,
        classes: described.classes.len(),
        width: described.width,
    };
    Ok((shape, described.classes))
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
    fits: impl FnOnce(DataShape) -> Result<(), Trouble>,
) -> Result<Loaded, Trouble> {
    let choice = ModelChoice::deserialize(&model.config)
        .map_err(|error| unusable(&model.config, error.to_string()))?;
    choice
        .check()
        .map_err(|fault| unusable(&model.config, fault.to_string()))?;
    let (shape, classes) = described(&model.training)?;
    fits(shape)?;
    // The values drawn here are overwritten at once.
    let network = build(&choice, shape, device, &mut Random::new(0, "init"))?;
    network.state().set_data(&model.tensors)?;
    Ok(Loaded {
        network,
        shape,
        classes,
    })
}

/// Why a model file cannot be loaded whose configuration no model of the table takes. Stages have their model on the
/// input `model`, and know of no path.
fn unusable(config: &Value, cause: String) -> Trouble {
    // A file can hold anything, and as much of it as it likes.
    let shown: String = config.to_string().chars().take(300).collect();
    let message = "the model file on the input `model` holds a configuration that cannot be used";
    Trouble::new(message)
        .with_causes(vec![cause, format!("the configuration is {shown}")])
        .hint("train the model again with this version of the program")
}

/// What is wrong with a configuration.
#[cfg(test)]
fn fault_of<A: contract::Named>(config: &A) -> Fault {
    let parameters = serde_json::to_value(config).unwrap();
    match ModelChoice::new(A::NAME, parameters) {
        Ok(choice) => choice.check().unwrap_err(),
        Err(fault) => fault,
    }
}

/// What `build` makes of a builder on the CPU.
#[cfg(test)]
fn on_cpu<T>(seed: u64, build: impl FnOnce(&mut StateBuilder<'_>) -> T) -> T {
    build(&mut StateBuilder::new(
        &Device::Cpu,
        &mut Random::new(seed, "init"),
    ))
}

#[cfg(test)]
mod conformance;

#[cfg(test)]
mod operations;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_cannot_be_used_is_shown_with_the_reason() {
        for (config, words) in [
            (
                json!({"kind": "tvnt"}),
                "unknown model `tvnt`; there are tvnet",
            ),
            (
                json!("naive"),
                "expected a model with `kind`, found \"naive\"",
            ),
            (
                json!({"kind": "naive", "seasons": 2}),
                "unknown field `seasons`",
            ),
            (
                json!({"kind": "naive", "season": 0}),
                "`season` must be at least 1, not 0",
            ),
            (
                json!({"kind": "dlinear", "kernel": 4}),
                "`kernel` must be odd, not 4",
            ),
        ] {
            let shown = format!("the configuration is {config}");
            let model = Model {
                config,
                training: json!({}),
                tensors: Default::default(),
            };
            let error = load(&model, &Device::Cpu, |_| Ok(())).err().unwrap();
            assert!(error.message().contains("on the input `model`"), "{error}");
            assert!(error.causes()[0].contains(words), "{error:?}");
            assert_eq!(error.causes()[1], shown);
        }
    }
}
