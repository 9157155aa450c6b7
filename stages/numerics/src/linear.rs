//! Linear layers over the last axis, which are also 1x1 convolutions of channels-last data.
//! Activation and residuals are not fused in here.

#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod op;

use candle_core::{Result, Tensor, Var};

use super::initialise::Initial;
use super::operation::{Operation, apply, apply_packed};
use super::packed::Packed;
use super::product::{Panels, Rows, Start, accumulate_outer, multiply};
use super::simd::Level;
use super::state::StateBuilder;

/// A linear layer's parameters: weight `[output, input]`, or `[output, input, 1]` for a 1x1 convolution; bias `[output]`.
#[derive(Clone, Debug)]
pub struct Linear {
    pub weight: Var,
    pub bias: Var,
    pub(crate) input: usize,
    pub output: usize,
}

impl Linear {
    /// A layer as `torch.nn.Linear` declares it.
    pub fn new(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let fan_in = Initial::FanIn(input);
        Self::declare(builder, name, &[output, input], fan_in, fan_in)
    }

    /// A layer whose first values are said.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn starting_at(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
        weight: Initial,
        bias: Initial,
    ) -> Result<Self> {
        Self::declare(builder, name, &[output, input], weight, bias)
    }

    /// A layer that gives nothing until it has learned something.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn zeroed(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        Self::starting_at(builder, name, input, output, Initial::Zeros, Initial::Zeros)
    }

    /// A layer as `torch.nn.Conv1d` with a kernel of one declares it.
    pub fn pointwise(
        builder: &mut StateBuilder<'_>,
        name: &str,
        input: usize,
        output: usize,
    ) -> Result<Self> {
        let fan_in = Initial::FanIn(input);
        Self::declare(builder, name, &[output, input, 1], fan_in, fan_in)
    }

    fn declare(
        builder: &mut StateBuilder<'_>,
        name: &str,
        shape: &[usize],
        weight: Initial,
        bias: Initial,
    ) -> Result<Self> {
        let (output, input) = (shape[0], shape[1]);
        Ok(Self {
            weight: builder.parameter(format!("{name}.weight"), shape, weight)?,
            bias: builder.parameter(format!("{name}.bias"), &[output], bias)?,
            input,
            output,
        })
    }

    /// `[…, input]` to `[…, output]`.
    ///
    /// # Errors
    /// If the last axis is not as long as the layer's input.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        forward(x, &self.weight, &self.bias)
    }

    /// The same as one matrix product: for few rows and a layer so wide that parts of its weights' gradient, one for each
    /// chunk of rows, would be too many.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_wide(&self, x: &Tensor) -> Result<Tensor> {
        let op = op::LinearOp {
            input: self.input,
            output: self.output,
        };
        op.compose([x, &self.weight, &self.bias])
    }
}

/// `x`, `[…, input]`, times weight, `[output, input]` or `[output, input, 1]`, plus bias, `[output]`.
///
/// # Errors
/// If the last axis is not as long as the weight's second.
pub fn forward(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (output, input) = (weight.dim(0)?, weight.dim(1)?);
    if x.dims().last() != Some(&input) {
        candle_core::bail!(
            "a linear layer of {input} inputs cannot take {:?}",
            x.dims()
        )
    }
    apply(op::LinearOp { input, output }, [x, weight, bias])
}

/// The same for layers that have their inputs in common: what each gives, side by side.
///
/// # Errors
/// If the last axis is not as long as the layers' input.
pub fn forward_together(x: &Tensor, layers: &[&Linear]) -> Result<Tensor> {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    let (input, mut output) = (layers[0].input, 0);
    for layer in layers {
        weights.push(layer.weight.as_tensor());
        biases.push(layer.bias.as_tensor());
        output += layer.output;
    }
    if x.dims().last() != Some(&input) {
        candle_core::bail!("linear layers of {input} inputs cannot take {:?}", x.dims())
    }
    let weight = Packed::new(&weights, (output, input))?;
    let bias = Packed::new(&biases, output)?;
    let op = op::LinearOp { input, output };
    let inputs = [x, weight.tensor(), bias.tensor()];
    apply_packed(op, inputs, &[&weight, &bias])
}

/// Weights of which there are so many are packed by several threads.
const PARALLEL: usize = 1 << 16;

/// A linear layer's weights as the CPU kernels want them. On one thread, but for the packing of large ones.
#[derive(Clone, Debug)]
pub struct LinearKernel {
    level: Level,
    input: usize,
    output: usize,
    forward: Panels,
    backward: Panels,
    bias: Vec<f32>,
}

impl LinearKernel {
    pub fn new(level: Level, input: usize, output: usize) -> Self {
        Self {
            level,
            input,
            output,
            forward: Panels::new(level, 1, input, output),
            backward: Panels::new(level, 1, output, input),
            bias: vec![0.0; output],
        }
    }

    /// Takes weights over: weight `[output, input]`, bias `[output]`.
    pub fn load(&mut self, weight: &[f32], bias: &[f32], backward: bool) {
        let input = self.input;
        pack(&mut self.forward, weight.len(), |_, from, to| {
            weight[to * input + from]
        });
        if backward {
            self.load_backward(weight);
        }
        self.bias.copy_from_slice(bias);
    }

    /// Takes over what the backward pass alone needs.
    pub(crate) fn load_backward(&mut self, weight: &[f32]) {
        let input = self.input;
        pack(&mut self.backward, weight.len(), |_, to, from| {
            weight[to * input + from]
        });
    }

    /// `target`, `[rows, output]`, from `x`, `[rows, input]`.
    pub fn forward(&self, starts: &mut Starts, x: &[f32], target: &mut [f32]) {
        let starts = starts.get(x.len() / self.input, self.input);
        let rows = Rows::new(x, starts);
        multiply(rows, &self.forward, Start::Bias(&self.bias), target);
    }

    /// `target`, `[rows, input]`, from the gradient of the output, `[rows, output]`.
    pub fn input_gradient(&self, starts: &mut Starts, gradient: &[f32], target: &mut [f32]) {
        let starts = starts.get(gradient.len() / self.output, self.output);
        let rows = Rows::new(gradient, starts);
        multiply(rows, &self.backward, Start::Zeros, target);
    }

    /// Adds to the gradients of weight and bias, in their own layouts.
    pub fn add_gradients(
        &self,
        starts: &mut Starts,
        x: &[f32],
        gradient: &[f32],
        weight: &mut [f32],
        bias: &mut [f32],
    ) {
        let starts = starts.get(gradient.len() / self.output, self.output);
        let rows = Rows::new(gradient, starts);
        accumulate_outer(self.level, rows, self.output, x, self.input, weight);
        super::elementwise::add_rows(self.level, gradient, bias);
    }
}

/// Fills panels, by several threads if there are so many weights.
fn pack(panels: &mut Panels, count: usize, weight: impl Fn(usize, usize, usize) -> f32 + Sync) {
    if count >= PARALLEL {
        panels.fill_in_parallel(weight);
    } else {
        panels.fill(weight);
    }
}

/// Where the rows of a dense matrix start, kept from call to call.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    width: usize,
    starts: Vec<usize>,
}

impl Starts {
    fn get(&mut self, rows: usize, width: usize) -> &[usize] {
        if self.width != width {
            self.width = width;
            self.starts.clear();
        }
        for row in self.starts.len()..rows {
            self.starts.push(row * width);
        }
        &self.starts[..rows]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use contract::Random;

    #[test]
    fn other_widths_are_refused() {
        let mut random = Random::new(6, "linear");
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let layer = Linear::new(&mut builder, "layer", 3, 9).unwrap();
        let x = Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap();
        assert!(layer.forward(&x).is_err());
    }
}
