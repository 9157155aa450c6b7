//! A linear autoencoder over the channels of each row: what principal components would do, trained by gradient.

use crate::models::{Architecture, Batch, Built, DataShape, Network, Result, Task, named};
use candle_core::Tensor;
use contract::{Named, Random};
use numerics::linear::Linear;
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// A linear autoencoder.
    pub struct LinearRecon {
        /// Size of the code.
        #[schemars(range(min = 1, max = 4096))]
        pub code: usize = 8,
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

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        Ok(Box::new(Autoencoder {
            encode: Linear::new(builder, "encode", shape.channels, self.code)?,
            decode: Linear::new(builder, "decode", self.code, shape.channels)?,
            state: builder.finish(),
            shape,
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
        self.shape.check_windows(x)?;
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
        Ok(named([("recon", self.forward(&batch.inputs)?)]))
    }
}
