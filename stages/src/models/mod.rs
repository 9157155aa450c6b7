//! Models, one file per paper: a configuration, its network, and a line in the table below.
//! How they are trained and what their errors mean for a stage is not decided here.

pub mod tvnet_recon;

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::artifact::Model;
use crate::contract::{Choice, Entry, Random, Registry, StageError};
use crate::nn::{Gradients, Mode, State};

/// The table of models.
const MODELS: &[Declaration] = &[Declaration::of::<tvnet_recon::TvnetRecon>()];

/// What the data dictates to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataShape {
    /// Rows of a window that the model sees.
    pub length: usize,
    pub channels: usize,
    /// Rows to be forecast; 0 for detection.
    pub horizon: usize,
}

/// A batch of windows.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, length, channels]`.
    pub inputs: Tensor,
    /// `[batch, horizon, channels]`, where something is to be forecast.
    pub targets: Option<Tensor>,
}

/// A model at work: weights on a device, and what can be computed with them.
pub trait Network: Send + Sync {
    /// Parameters and buffers under PyTorch's names.
    fn state(&self) -> &State;

    /// The loss of a batch, a scalar that can be differentiated. In training it moves running statistics.
    ///
    /// # Errors
    /// If a tensor operation fails or the batch does not fit.
    fn loss(&self, batch: &Batch, mode: Mode, random: &mut Random) -> candle_core::Result<Tensor>;

    /// The training loss and the gradients of all parameters. Models with a faster way, or with more than one
    /// objective, have their own.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn gradients(&self, batch: &Batch, random: &mut Random) -> candle_core::Result<(f64, Gradients)> {
        let loss = self.loss(batch, Mode::Train, random)?;
        let gradients = Gradients::of(self.state(), &loss.backward()?);
        Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
    }

    /// What each point adds to its anomaly score: `[batch, length, channels]`, not negative, in evaluation mode.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn errors(&self, batch: &Batch) -> candle_core::Result<Tensor>;

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

    /// What the schema says only to editors.
    ///
    /// # Errors
    /// The parameter at fault and a sentence about it.
    fn check(&self) -> Result<(), (String, String)>;

    /// A network with fresh weights drawn from `random`.
    ///
    /// # Errors
    /// If the data's shape is impossible for the model.
    fn build(&self, shape: DataShape, device: &Device, random: &mut Random) -> Result<Box<dyn Network>, StageError>;
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
type Build = fn(&Choice<Models>, DataShape, &Device, &mut Random) -> Result<Box<dyn Network>, StageError>;

/// A model with its types erased.
struct Declaration {
    name: &'static str,
    entry: fn() -> Entry,
    check: Check,
    build: Build,
}

impl Declaration {
    const fn of<A: Architecture>() -> Self {
        Self {
            name: A::NAME,
            entry: || Entry::new::<A>(A::NAME, A::DOC),
            check: |choice| choice.parameters::<A>().map_err(|error| (String::new(), error))?.check(),
            build: |choice, shape, device, random| {
                let architecture = choice.parameters::<A>().map_err(StageError::new)?;
                if let Err((parameter, reason)) = architecture.check() {
                    return Err(StageError::new(format!("model {}: `{parameter}` {reason}", A::NAME)));
                }
                architecture.build(shape, device, random)
            },
        }
    }

    fn find(choice: &Choice<Models>) -> Result<&'static Self, String> {
        let found = MODELS.iter().find(|model| model.name == choice.name());
        found.ok_or_else(|| format!("unknown model `{}`", choice.name()))
    }
}

/// What the schema of a model's parameters says only to editors.
///
/// # Errors
/// The parameter at fault and a sentence about it.
pub fn check(choice: &Choice<Models>) -> Result<(), (String, String)> {
    (Declaration::find(choice).map_err(|error| (String::new(), error))?.check)(choice)
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
    if shape.length == 0 || shape.channels == 0 {
        return Err(StageError::new(format!(
            "windows of {} rows and {} channels hold no values",
            shape.length, shape.channels
        )));
    }
    (Declaration::find(choice).map_err(StageError::new)?.build)(choice, shape, device, random)
}

/// The keys below [`Model::training`] that say what data a model is for.
const SHAPE_KEYS: [&str; 3] = ["length", "channels", "horizon"];

/// Puts the data's shape into what a model file says about its training.
pub fn describe(shape: DataShape) -> serde_json::Map<String, serde_json::Value> {
    let values = [shape.length, shape.channels, shape.horizon];
    SHAPE_KEYS.iter().zip(values).map(|(key, value)| ((*key).to_owned(), value.into())).collect()
}

/// The network of a model file, with the shape of the data it was trained on.
///
/// # Errors
/// If the file names an unknown model or its tensors do not fit the configuration.
pub fn load(model: &Model, device: &Device) -> Result<(Box<dyn Network>, DataShape), StageError> {
    let choice: Choice<Models> = serde_json::from_value(model.config.clone())
        .map_err(|error| StageError::new("the model file's configuration does not parse").because(error))?;
    let size = |key: &str| {
        let value = model.training.get(key).and_then(serde_json::Value::as_u64);
        let missing = || StageError::new(format!("the model file does not say its `{key}`"));
        value.and_then(|value| usize::try_from(value).ok()).ok_or_else(missing)
    };
    let [length, channels, horizon] = SHAPE_KEYS;
    let shape = DataShape { length: size(length)?, channels: size(channels)?, horizon: size(horizon)? };
    // The values drawn here are overwritten at once.
    let network = build(&choice, shape, device, &mut Random::new(0, "init"))?;
    network.state().set_data(&model.tensors)?;
    Ok((network, shape))
}

#[cfg(test)]
mod conformance;
