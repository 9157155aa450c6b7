//! Layer normalisation as an operation. Its kernels keep nothing between forward and backward pass: means and variances of
//! a row that is in the cache cost less than reading them would.

use candle_core::{D, Result, Shape, Tensor};

use crate::chunks::{chunks, fill_rows};
use crate::dropout::Dropout;
use crate::elementwise::{Lanes, add, lanes};
#[cfg(feature = "cuda")]
use crate::operation::OnCuda;
use crate::operation::{Input, Operation};
use crate::simd::{Level, vectorised};

/// `x`, `[…, size]`, perhaps a branch of the same shape, and weight and bias as one, `[2 * size]`, to the shape of `x`.
pub(crate) struct LayerNormOp {
    pub size: usize,
    pub epsilon: f64,
    /// What happens to the branch before it is added.
    pub dropout: Dropout,
}

/// Rows whose sums are added in 32 bits before they go into one of 64.
const BLOCK: usize = 128;

impl LayerNormOp {
    fn run(&self, x: &[f32], branch: Option<&[f32]>, parameters: &[f32]) -> Vec<f32> {
        let size = self.size;
        let (weight, bias) = parameters.split_at(size);
        let ([target], _) = fill_rows(&chunks(x.len() / size), [size], |rows, [target]| {
            let mut factors = vec![0.0; size];
            for (row, target) in rows.zip(target.chunks_exact_mut(size)) {
                self.sum(x, branch, row, &mut factors, target);
                normalise(Level::detect(), weight, bias, self.epsilon as f32, target);
            }
        });
        target
    }

    fn composed(&self, x: &Tensor, parameters: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normalised = centred.broadcast_div(&(variance + self.epsilon)?.sqrt()?)?;
        let part = |index: usize| parameters.narrow(0, index * self.size, self.size);
        normalised
            .broadcast_mul(&part(0)?)?
            .broadcast_add(&part(1)?)
    }

    /// The row that is normalised: `x + dropout(branch)`.
    fn sum(
        &self,
        x: &[f32],
        branch: Option<&[f32]>,
        row: usize,
        factors: &mut [f32],
        target: &mut [f32],
    ) {
        let place = row * self.size..(row + 1) * self.size;
        target.copy_from_slice(&x[place.clone()]);
        match branch {
            Some(branch) if self.dropout.is_none() => {
                add(Level::detect(), &branch[place], target);
            }
            Some(branch) => {
                self.dropout.fill(row, factors);
                for ((target, branch), factor) in target.iter_mut().zip(&branch[place]).zip(factors)
                {
                    *target += branch * *factor;
                }
            }
            None => {}
        }
    }

    /// The gradients of the sum and of weight and bias as one.
    fn run_back(
        &self,
        x: &[f32],
        branch: Option<&[f32]>,
        parameters: &[f32],
        gradient: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let size = self.size;
        let weight = &parameters[..size];
        let ([target], shares) = fill_rows(&chunks(x.len() / size), [size], |rows, [target]| {
            let (mut factors, mut share) = (vec![0.0; size], vec![0.0_f64; 2 * size]);
            let mut sums = vec![0.0; 2 * size];
            let first = rows.start;
            for (block, target) in target.chunks_mut(BLOCK * size).enumerate() {
                sums.fill(0.0);
                for (index, target) in target.chunks_exact_mut(size).enumerate() {
                    let row = first + block * BLOCK + index;
                    self.sum(x, branch, row, &mut factors, target);
                    let gradient = &gradient[row * size..(row + 1) * size];
                    normalise_backward(
                        Level::detect(),
                        weight,
                        self.epsilon as f32,
                        gradient,
                        target,
                        &mut sums,
                    );
                }
                for (share, sum) in share.iter_mut().zip(&sums) {
                    *share += f64::from(*sum);
                }
            }
            share
        });
        let mut sums = vec![0.0_f64; 2 * size];
        for share in &shares {
            for (sum, share) in sums.iter_mut().zip(share) {
                *sum += share;
            }
        }
        (target, sums.into_iter().map(|sum| sum as f32).collect())
    }
}

impl Operation<2> for LayerNormOp {
    const LABEL: &'static str = "layer-norm";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 2]) -> Option<&dyn OnCuda<2>> {
        (self.size <= super::cuda::MOST).then_some(self)
    }

    fn compose(&self, [x, parameters]: [&Tensor; 2]) -> Result<Tensor> {
        self.composed(x, parameters)
    }

    fn forward(&self, [x, parameters]: [Input<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let target = self.run(x.values, None, parameters.values);
        Ok((target, x.dims.into()))
    }

    fn backward(
        &self,
        [x, parameters]: [Input<'_>; 2],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        let (x, parameters) = self.run_back(x.values, None, parameters.values, gradient);
        Ok([Some(x), Some(parameters)])
    }
}

impl Operation<3> for LayerNormOp {
    const LABEL: &'static str = "layer-norm-residual";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 3]) -> Option<&dyn OnCuda<3>> {
        (self.size <= super::cuda::MOST).then_some(self)
    }

    fn compose(&self, [x, branch, parameters]: [&Tensor; 3]) -> Result<Tensor> {
        self.composed(&(x + self.dropout.composed(branch)?)?, parameters)
    }

    fn forward(&self, [x, branch, parameters]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let target = self.run(x.values, Some(branch.values), parameters.values);
        Ok((target, x.dims.into()))
    }

    fn backward(
        &self,
        [x, branch, parameters]: [Input<'_>; 3],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let (x, branch) = (x.values, branch.values);
        let (sum, parameters) = self.run_back(x, Some(branch), parameters.values, gradient);
        let of_branch = (!self.dropout.is_none()).then(|| self.dropout.apply(&sum, self.size));
        Ok([Some(sum), of_branch, Some(parameters)])
    }

    fn shares_gradient(&self) -> bool {
        self.dropout.is_none()
    }
}

/// Mean and 1 / √(variance + ε) of a row.
#[inline(always)]
fn statistics(row: &[f32], epsilon: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mut values = Lanes::splat(0.0);
    for span in lanes(row.len()) {
        values = values + Lanes::load(row, span);
    }
    let mean = values.sum() / count;
    let mut squares = Lanes::splat(0.0);
    for span in lanes(row.len()) {
        // Lanes beyond the end of a row hold the mean, so that they deviate by nothing.
        let deviation = Lanes::load_or(row, span, mean) - Lanes::splat(mean);
        squares = squares + deviation * deviation;
    }
    (mean, 1.0 / (squares.sum() / count + epsilon).sqrt())
}

vectorised! {
    /// A row normalised in place.
    fn normalise(weight: &[f32], bias: &[f32], epsilon: f32, row: &mut [f32]) {
        let (mean, inverse) = statistics(row, epsilon);
        let (mean, inverse) = (Lanes::splat(mean), Lanes::splat(inverse));
        for span in lanes(row.len()) {
            let normalised = (Lanes::load(row, span) - mean) * inverse;
            (normalised * Lanes::load(weight, span) + Lanes::load(bias, span)).store(row, span);
        }
    }
}

vectorised! {
    /// From a row in front of the normalisation to its gradient, in place; adds to the sums of weight and bias.
    fn normalise_backward(weight: &[f32], epsilon: f32, gradient: &[f32], row: &mut [f32], sums: &mut [f32]) {
        let (mean, inverse) = statistics(row, epsilon);
        let (mean, inverse) = (Lanes::splat(mean), Lanes::splat(inverse));
        let (weight_sums, bias_sums) = sums.split_at_mut(weight.len());
        let (mut plain, mut weighted) = (Lanes::splat(0.0), Lanes::splat(0.0));
        for span in lanes(row.len()) {
            let normalised = (Lanes::load(row, span) - mean) * inverse;
            let gradient = Lanes::load(gradient, span);
            (Lanes::load(bias_sums, span) + gradient).store(bias_sums, span);
            (Lanes::load(weight_sums, span) + gradient * normalised).store(weight_sums, span);
            // Beyond the end of a row the gradient is 0.
            let inner = gradient * Lanes::load(weight, span);
            plain = plain + inner;
            weighted = weighted + inner * normalised;
            normalised.store(row, span);
        }
        let count = row.len() as f32;
        let (plain, weighted) = (Lanes::splat(plain.sum() / count), Lanes::splat(weighted.sum() / count));
        for span in lanes(row.len()) {
            let inner = Lanes::load(gradient, span) * Lanes::load(weight, span);
            (inverse * (inner - plain - Lanes::load(row, span) * weighted)).store(row, span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};

    impl Examples<2> for LayerNormOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 2>> {
            let mut example = |size| Example {
                operation: Self {
                    size,
                    epsilon: 1e-5,
                    dropout: Dropout::NONE,
                },
                inputs: [
                    draw.variable(&[3, 11, size]),
                    draw.between(0.2, 1.5, &[2 * size]),
                ],
            };
            [1, 7, 16, 37].map(&mut example).into()
        }
    }

    impl Examples<3> for LayerNormOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut example = |(size, rate)| Example {
                operation: Self {
                    size,
                    epsilon: 1e-5,
                    dropout: draw.dropout(rate),
                },
                inputs: [
                    draw.variable(&[3, 11, size]),
                    draw.variable(&[3, 11, size]),
                    draw.between(0.2, 1.5, &[2 * size]),
                ],
            };
            [(1, 0.25), (7, 0.0), (16, 0.25), (37, 0.1)]
                .map(&mut example)
                .into()
        }
    }
}
