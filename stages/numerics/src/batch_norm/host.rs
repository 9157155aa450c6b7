//! Batch normalisation in training without a graph, for networks that keep their own tape.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::BatchNorm;
use super::op::{BatchNormOp, Statistics};
use crate::host::with_slice;

/// A forward pass as backward needs it.
pub struct NormTape {
    op: BatchNormOp,
    statistics: Statistics,
}

/// What backward gives.
pub struct NormGradients {
    /// Behind the ReLU: of the residual, and, until [`NormTape::input_gradient`], of the normalised values.
    pub passed: Vec<f32>,
    sums: [Vec<f64>; 2],
}

impl BatchNorm {
    /// `max(normalised + residual, 0)` of rows of channels, without the `max` if `relu` is not asked for. Moves the
    /// running statistics.
    ///
    /// # Errors
    /// If there is only one value per channel.
    pub fn train_on_host(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        relu: bool,
    ) -> Result<(Vec<f32>, NormTape)> {
        let channels = self.weight.elem_count();
        self.check(x.len() / channels)?;
        let of_batch = Arc::default();
        let op = BatchNormOp::new(channels, relu, None, &of_batch);
        let affine = with_slice(&self.weight, |weight| {
            with_slice(&self.bias, |bias| [weight, bias].concat())
        })??;
        let (y, statistics) = op.apply(x, &affine, residual)?;
        if let Some(of_batch) = of_batch.get() {
            self.update(of_batch)?;
        }
        Ok((y, NormTape { op, statistics }))
    }
}

impl NormTape {
    /// From the gradient of the output to that in front of the ReLU and of the addition.
    pub fn backward(&self, x: &[f32], y: &[f32], gradient: &[f32]) -> NormGradients {
        let (passed, sums) = self.op.pass_relu(&self.statistics, x, y, gradient);
        NormGradients { passed, sums }
    }

    /// From the gradient of the normalised values to that of the input, in place.
    pub fn input_gradient(&self, x: &[f32], gradients: &mut NormGradients) {
        self.op
            .input_gradient(&self.statistics, x, &gradients.sums, &mut gradients.passed);
    }
}

impl NormGradients {
    /// The gradients of weight and bias.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn parameters(&self) -> Result<[Tensor; 2]> {
        let [bias, weight] = self.sums.each_ref().map(|sums| {
            let values: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
            Tensor::from_vec(values, sums.len(), &Device::Cpu)
        });
        Ok([weight?, bias?])
    }
}
