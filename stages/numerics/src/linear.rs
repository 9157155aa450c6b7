//! Linear layers over the last axis, which are also 1x1 convolutions of channels-last data.
//! Activation and residuals are not fused in here.

mod op;

use candle_core::{Result, Tensor, Var};

use super::initialise::Initial;
use super::operation::{apply, has_kernels};
use super::precision::matmul;
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

    /// The same with Candle's own operations, on any device.
    pub fn compose(&self, x: &Tensor) -> Result<Tensor> {
        compose(x, &self.weight, &self.bias)
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
    if has_kernels(x) {
        return apply(op::LinearOp { input, output }, [x, weight, bias]);
    }
    compose(x, weight, bias)
}

fn compose(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (output, input) = (weight.dim(0)?, weight.dim(1)?);
    let mut shape = x.dims().to_vec();
    let rows = x.elem_count() / input;
    if let Some(last) = shape.last_mut() {
        *last = output;
    }
    let weight = weight.reshape((output, input))?;
    matmul(&x.reshape((rows, input))?, &weight.t()?)?
        .broadcast_add(bias)?
        .reshape(shape)
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
    use crate::host::with_slice;
    use candle_core::Device;
    use contract::Random;

    #[test]
    fn kernels_agree_with_candle_forward_and_backward() {
        let mut random = Random::new(6, "linear");
        let (rows, input, output) = (5, 3, 9);
        let mut builder = StateBuilder::new(&Device::Cpu, &mut random);
        let layer = Linear::pointwise(&mut builder, "layer", input, output).unwrap();
        let mut draw = |count: usize| {
            (0..count)
                .map(|_| random.range(-1.0, 1.0) as f32)
                .collect::<Vec<_>>()
        };
        let (x, upstream) = (draw(rows * input), draw(rows * output));
        let tensor = Var::from_slice(&x, (rows, input), &Device::Cpu).unwrap();
        let y = layer.compose(&tensor).unwrap();
        let differentiate = |y: &Tensor| {
            let weighted =
                (y * Tensor::from_slice(&upstream, (rows, output), &Device::Cpu).unwrap()).unwrap();
            weighted.sum_all().unwrap().backward().unwrap()
        };
        let gradients = differentiate(&y);
        let by_op = layer.forward(&tensor).unwrap();
        let op_gradients = differentiate(&by_op);
        for (found, expected) in [
            (&by_op, &y),
            (
                op_gradients.get(&tensor).unwrap(),
                gradients.get(&tensor).unwrap(),
            ),
            (
                op_gradients.get(&layer.weight).unwrap(),
                gradients.get(&layer.weight).unwrap(),
            ),
            (
                op_gradients.get(&layer.bias).unwrap(),
                gradients.get(&layer.bias).unwrap(),
            ),
        ] {
            assert_eq!(found.dims(), expected.dims());
            let apart = (found - expected)
                .unwrap()
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap()
                .max(0)
                .unwrap();
            assert!(apart.to_scalar::<f32>().unwrap() < 1e-5);
        }
        assert!(layer.forward(&tensor.t().unwrap()).is_err());

        let mut kernel = LinearKernel::new(Level::detect(), input, output);
        with_slice(&layer.weight, |weight| {
            with_slice(&layer.bias, |bias| kernel.load(weight, bias, true)).unwrap();
        })
        .unwrap();
        let mut starts = Starts::default();
        let mut target = vec![0.0; rows * output];
        kernel.forward(&mut starts, &x, &mut target);
        let mut input_gradient = vec![0.0; rows * input];
        kernel.input_gradient(&mut starts, &upstream, &mut input_gradient);
        let (mut weight, mut bias) = (vec![0.0; input * output], vec![0.0; output]);
        kernel.add_gradients(&mut starts, &x, &upstream, &mut weight, &mut bias);
        for (found, expected) in [
            (target, &y),
            (input_gradient, gradients.get(&tensor).unwrap()),
            (weight, gradients.get(&layer.weight).unwrap()),
            (bias, gradients.get(&layer.bias).unwrap()),
        ] {
            let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
            assert!(
                found
                    .iter()
                    .zip(&expected)
                    .all(|(found, expected)| (found - expected).abs() < 1e-5)
            );
        }
    }
}
