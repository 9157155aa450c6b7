//! A small convolutional forecaster, after DeepAnT (Munir, Siddiqui, Dengel and Ahmed, "DeepAnT: A Deep Learning Approach
//! for Unsupervised Anomaly Detection in Time Series", IEEE Access 2019) in the sizes of TSB-AD's CNN (Liu and Paparrizos,
//! NeurIPS 2024). TSB-AD's program differs: it reads the memory of `[length, channels]` as `[channels, length]`, builds
//! one layer less than it has widths, and pools by the mean twice.

use candle_core::Tensor;

use super::forecaster::{Forecaster, Forecasting, Span};
use super::{Architecture, Built, DataShape, Result, Task, checks};
use contract::{Fault, Named, Random};
use numerics::conv1d::{Border, Conv1d, Sizes};
use numerics::conv2d::Window2d;
use numerics::dropout::Dropout;
use numerics::linear::Linear;
use numerics::pool::max_pool2d;
use numerics::relu::relu;
use numerics::{Mode, State, StateBuilder};

contract::parameters! {
    /// Convolutions over time, and a perceptron on what they find.
    pub struct Cnn {
        /// Channels after each convolution; time is halved after each.
        #[schemars(length(min = 1, max = 64), inner(range(min = 1, max = 4096)))]
        pub channels: Vec<usize> = vec![32, 32, 40],
        /// Rows that a convolution sees; odd. The border is zero.
        #[schemars(range(min = 1, max = 255))]
        pub kernel: usize = 3,
        /// Share of the hidden values that training leaves out.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        pub dropout: f64 = 0.25,
    }
}

impl Named for Cnn {
    const NAME: &'static str = "cnn";
    const DOC: &'static str = "A small convolutional forecaster";
    const EXAMPLE: &'static str = r#"{"channels": [16, 24], "dropout": 0.0}"#;
}

impl Architecture for Cnn {
    fn tasks(&self) -> &'static [Task] {
        &[Task::Detect, Task::Forecast]
    }

    fn check(&self) -> Result<(), Fault> {
        checks::odd("kernel", self.kernel)
    }

    fn citation(&self) -> &'static str {
        "Munir, Siddiqui, Dengel, Ahmed: DeepAnT: A Deep Learning Approach for Unsupervised Anomaly Detection in Time Series. IEEE Access 2019. doi:10.1109/ACCESS.2018.2886457"
    }

    fn build(&self, shape: DataShape, builder: &mut StateBuilder<'_>) -> Built {
        let span = Span::of(shape, Self::NAME, 1)?;
        let mut input = span.channels;
        let mut convolutions = Vec::new();
        for (index, width) in self.channels.iter().enumerate() {
            let name = format!("conv_layers.conv{index}");
            let sizes = Sizes::new(input, *width, self.kernel);
            convolutions.push(Conv1d::new(builder, &name, sizes)?);
            input = *width;
        }
        let forecaster = Convolutional {
            span,
            dropout: self.dropout,
            convolutions,
            hidden: Linear::new(builder, "fc.2", 2 * input, input)?,
            output: Linear::new(builder, "fc.5", input, span.steps * span.channels)?,
            state: builder.finish(),
        };
        Ok(Box::new(Forecasting { shape, forecaster }))
    }
}

struct Convolutional {
    state: State,
    span: Span,
    dropout: f64,
    convolutions: Vec<Conv1d>,
    hidden: Linear,
    output: Linear,
}

/// The larger of each two rows of `[batch, rows, channels]`; a last one without a partner is dropped, a single one stays.
fn halve(x: &Tensor) -> Result<Tensor> {
    if x.dim(1)? < 2 {
        return Ok(x.clone());
    }
    let pairs = Window2d {
        kernel: [1, 2],
        stride: [1, 2],
        ..Window2d::square(1)
    };
    max_pool2d(&x.unsqueeze(1)?, pairs)?.squeeze(1)
}

impl Forecaster for Convolutional {
    fn state(&self) -> &State {
        &self.state
    }

    fn forecast(&self, past: &Tensor, mode: Mode, random: &mut Random) -> Result<Tensor> {
        let mut x = past.clone();
        for convolution in &self.convolutions {
            let padded = Border::Zeros(convolution.sizes.kernel / 2).apply(&x)?;
            // The ReLU of the larger is the larger ReLU, of half as many values.
            x = relu(&halve(&convolution.forward(&padded)?)?)?; // [batch, rows / 2, width]
        }
        let found = Tensor::cat(&[x.mean(1)?, x.max(1)?], 1)?; // [batch, 2 * width]
        let dropout = Dropout::draw(self.dropout, mode, random);
        let hidden = dropout.forward(&relu(&self.hidden.forward(&found)?)?)?;
        let shape = (past.dim(0)?, self.span.steps, self.span.channels);
        self.output.forward(&hidden)?.reshape(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::fault_of;
    use candle_core::Device;

    #[test]
    fn time_is_halved_and_wrong_sizes_are_named() {
        let halves = |rows: &[f32]| {
            let x = Tensor::new(rows, &Device::Cpu)
                .unwrap()
                .reshape((1, rows.len(), 1))
                .unwrap();
            halve(&x)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        assert_eq!(halves(&[1.0, 2.0, 3.0]), [2.0]);
        assert_eq!(halves(&[4.0]), [4.0]);
        let faults = [
            (
                Cnn {
                    channels: vec![],
                    ..Cnn::default()
                },
                "channels",
            ),
            (
                Cnn {
                    kernel: 4,
                    ..Cnn::default()
                },
                "kernel",
            ),
            (
                Cnn {
                    dropout: 1.0,
                    ..Cnn::default()
                },
                "dropout",
            ),
        ];
        assert!(
            faults
                .iter()
                .all(|(config, name)| fault_of(config).parameter == *name)
        );
    }
}
