//! A linear autoencoder over the channels of each row: what principal components would do, trained by gradient.

use crate::models::{Architecture, Batch, DataShape, Network, Task};
use candle_core::{Device, Result, Tensor, bail};
use contract::{Named, Random, Trouble};
use numerics::linear::Linear;
use numerics::{Mode, State, StateBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A linear autoencoder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinearRecon {
    /// Size of the code.
    #[schemars(range(min = 1, max = 4096))]
    pub code: usize,
}

impl Default for LinearRecon {
    fn default() -> Self {
        Self { code: 8 }
    }
}

impl Named for LinearRecon {
    const NAME: &'static str = "linear-recon";
    const DOC: &'static str =
        "A linear autoencoder over channels; the squared error is the anomaly score";
}

impl Architecture for LinearRecon {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect]
    }

    fn build(
        &self,
        shape: DataShape,
        device: &Device,
        random: &mut Random,
    ) -> std::result::Result<Box<dyn Network>, Trouble> {
        let mut builder = StateBuilder::new(device, random);
        let encode = Linear::new(&mut builder, "encode", shape.channels, self.code)?;
        let decode = Linear::new(&mut builder, "decode", self.code, shape.channels)?;
        Ok(Box::new(Autoencoder {
            state: builder.finish(),
            shape,
            encode,
            decode,
        }))
    }
}

struct Autoencoder {
    state: State,
    shape: DataShape,
    encode: Linear,
    decode: Linear,
}

impl Autoencoder {
    /// `[batch, length, channels]` to the same shape.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, length, channels) = x.dims3()?;
        if batch == 0 || length != self.shape.length || channels != self.shape.channels {
            let DataShape {
                length, channels, ..
            } = self.shape;
            bail!(
                "the model takes windows of {length} rows and {channels} channels, not {:?}",
                x.dims()
            )
        }
        self.decode.forward(&self.encode.forward(x)?)
    }
}

impl Network for Autoencoder {
    fn state(&self) -> &State {
        &self.state
    }

    fn loss(&self, batch: &Batch, _: Mode, _: &mut Random) -> Result<Tensor> {
        self.errors(batch)?.mean_all()
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        self.forward(&batch.inputs)
    }

    fn trace(&self, batch: &Batch, _: Mode) -> Result<Vec<(String, Tensor)>> {
        Ok(vec![("recon".to_owned(), self.forward(&batch.inputs)?)])
    }
}
