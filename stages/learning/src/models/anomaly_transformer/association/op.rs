//! Anomaly attention as an operation. Its kernels compute series and prior associations again for the backward pass, head by
//! head, instead of keeping them.

use candle_core::{D, Result, Shape, Tensor};

use super::{Association, EPSILON, discrepancy, prior};
use numerics::attention::head::{HeadKernel, Sizes};
use numerics::attention::{combine, weights};
use numerics::chunks::{chunks, fill_rows};
use numerics::elementary::{exp, ln};
use numerics::elementwise::{Lanes, lanes};
use numerics::operation::{Input, Operation};
use numerics::simd::{Level, vectorised};

/// The two inputs of [`Association::forward`] to its two outputs, flat and one after the other.
pub(crate) struct AssociationOp(pub Association);

/// Memory of one thread.
struct Scratch {
    kernel: HeadKernel,
    /// `[length, length]`: attention weights, the prior, and gradients of the former.
    series: Vec<f32>,
    prior: Vec<f32>,
    dropped: Vec<f32>,
    slopes: Vec<f32>,
    /// `[length]`: the prior of a row times squared distances; factors of dropout.
    squares: Vec<f32>,
    factors: Vec<f32>,
}

impl Scratch {
    fn new(sizes: Sizes) -> Self {
        let square = vec![0.0; sizes.length * sizes.length];
        Self {
            kernel: HeadKernel::new(Level::detect(), sizes),
            series: square.clone(),
            prior: square.clone(),
            dropped: square.clone(),
            slopes: square,
            squares: vec![0.0; sizes.length],
            factors: vec![0.0; sizes.length],
        }
    }

    /// Computes both associations of a head; `sigma` is the sample's, `[length, heads]`.
    fn associate(&mut self, sample: &[f32], sigma: &[f32], head: usize, sizes: Sizes) {
        self.kernel.weights(sample, head, &mut self.series);
        for (row, prior) in self.prior.chunks_exact_mut(sizes.length).enumerate() {
            prior_row(Level::detect(), row, sigma[row * sizes.heads + head], prior);
        }
    }
}

impl AssociationOp {
    /// Multiplies the rows of a head's weights, or of their gradient, by the mask of dropout.
    fn drop(&self, head: usize, factors: &mut [f32], weights: &mut [f32]) {
        let length = factors.len();
        for (row, weights) in weights.chunks_exact_mut(length).enumerate() {
            self.0.dropout.fill(head * length + row, factors);
            for (weight, factor) in weights.iter_mut().zip(&*factors) {
                *weight *= factor;
            }
        }
    }

    fn run(&self, x: &[f32], sigma: &[f32], batch: usize, sizes: Sizes) -> Vec<f32> {
        let Sizes {
            length,
            width,
            heads,
        } = sizes;
        let widths = [length * width, length];
        let ([mut values, discrepancies], _) = fill_rows(
            &chunks(batch),
            widths,
            |samples, [values, discrepancies]| {
                let mut scratch = Scratch::new(sizes);
                let targets = values
                    .chunks_exact_mut(length * width)
                    .zip(discrepancies.chunks_exact_mut(length));
                for (sample, (values, discrepancies)) in samples.zip(targets) {
                    let x = &x[sample * 3 * length * width..][..3 * length * width];
                    let sigma = &sigma[sample * length * heads..][..length * heads];
                    for head in 0..heads {
                        scratch.associate(x, sigma, head, sizes);
                        let Scratch {
                            kernel,
                            series,
                            prior,
                            factors,
                            ..
                        } = &mut scratch;
                        discrepancy_rows(
                            Level::detect(),
                            length,
                            1.0 / heads as f32,
                            series,
                            prior,
                            discrepancies,
                        );
                        if !self.0.dropout.is_none() {
                            self.drop(sample * heads + head, factors, series);
                        }
                        kernel.combine(x, head, series, values);
                    }
                }
            },
        );
        values.extend(discrepancies);
        values
    }

    /// The gradients of both inputs; `gradient` is that of the flat output.
    fn run_back(
        &self,
        x: &[f32],
        sigma: &[f32],
        gradient: &[f32],
        batch: usize,
        sizes: Sizes,
    ) -> [Vec<f32>; 2] {
        let Sizes {
            length,
            width,
            heads,
        } = sizes;
        let (values, discrepancies) = gradient.split_at(batch * length * width);
        let widths = [3 * length * width, length * heads];
        let (targets, _) = fill_rows(
            &chunks(batch),
            widths,
            |samples, [x_target, sigma_target]| {
                let mut scratch = Scratch::new(sizes);
                let targets = x_target
                    .chunks_exact_mut(3 * length * width)
                    .zip(sigma_target.chunks_exact_mut(length * heads));
                for (sample, (x_target, sigma_target)) in samples.zip(targets) {
                    let x = &x[sample * 3 * length * width..][..3 * length * width];
                    let sigma = &sigma[sample * length * heads..][..length * heads];
                    let values = &values[sample * length * width..][..length * width];
                    let discrepancies = &discrepancies[sample * length..][..length];
                    for head in 0..heads {
                        scratch.associate(x, sigma, head, sizes);
                        self.combine_backward(
                            x,
                            head,
                            sample * heads + head,
                            values,
                            &mut scratch,
                            x_target,
                        );
                        self.discrepancy_backward(
                            sigma,
                            head,
                            heads,
                            discrepancies,
                            &mut scratch,
                            sigma_target,
                        );
                        let Scratch {
                            kernel,
                            series,
                            slopes,
                            ..
                        } = &mut scratch;
                        kernel.weights_backward(x, head, series, slopes, x_target);
                    }
                }
            },
        );
        targets
    }

    fn combine_backward(
        &self,
        x: &[f32],
        head: usize,
        number: usize,
        gradient: &[f32],
        scratch: &mut Scratch,
        target: &mut [f32],
    ) {
        let Scratch {
            kernel,
            series,
            dropped,
            slopes,
            factors,
            ..
        } = scratch;
        if self.0.dropout.is_none() {
            return kernel.combine_backward(x, head, series, gradient, slopes, target);
        }
        dropped.copy_from_slice(series);
        self.drop(number, factors, dropped);
        kernel.combine_backward(x, head, dropped, gradient, slopes, target);
        // The mask multiplied the weights, so it multiplies their gradient.
        self.drop(number, factors, slopes);
    }

    /// Adds the discrepancy's gradient to that of the series association, and gives that of σ.
    fn discrepancy_backward(
        &self,
        sigma: &[f32],
        head: usize,
        heads: usize,
        gradient: &[f32],
        scratch: &mut Scratch,
        target: &mut [f32],
    ) {
        let Scratch {
            series,
            prior,
            slopes,
            squares,
            ..
        } = scratch;
        let length = squares.len();
        let share = 1.0 / heads as f32;
        let pull = [
            self.0.pull.series as f32 * share,
            self.0.pull.prior as f32 * share,
        ];
        let rows = series
            .chunks_exact(length)
            .zip(prior.chunks_exact_mut(length))
            .zip(slopes.chunks_exact_mut(length));
        for (row, ((series, prior), slopes)) in rows.enumerate() {
            let at = row * heads + head;
            let pulls = pull.map(|pull| pull * gradient[row]);
            target[at] = discrepancy_row_backward(
                Level::detect(),
                row,
                sigma[at],
                pulls,
                series,
                prior,
                slopes,
                squares,
            );
        }
    }

    fn sizes(&self, dims: &[usize]) -> Result<(usize, Sizes)> {
        let (batch, length, triple) = Shape::from(dims).dims3()?;
        Ok((
            batch,
            Sizes {
                length,
                width: triple / 3,
                heads: self.0.heads,
            },
        ))
    }
}

impl Operation<2> for AssociationOp {
    const LABEL: &'static str = "anomaly-attention";

    fn compose(&self, [projected, sigma]: [&Tensor; 2]) -> Result<Tensor> {
        let Association {
            heads,
            dropout,
            pull,
        } = self.0;
        let series = weights(projected, heads)?;
        let found = combine(&dropout.composed(&series)?, projected, heads)?;
        let prior = prior(sigma)?;
        let prior = prior.broadcast_div(&prior.sum_keepdim(D::Minus1)?)?;
        let reached = discrepancy(&series, &prior.detach())?;
        let other = discrepancy(&series.detach(), &prior)?;
        // The value once, and the gradients of both sides: x - x.detach() is 0 with the gradient of x.
        let pulled = ((&reached - reached.detach())? * pull.series)?;
        let pulled = (pulled + ((&other - other.detach())? * pull.prior)?)?;
        let discrepancies = (reached.detach() + pulled)?;
        Tensor::cat(&[found.flatten_all()?, discrepancies.flatten_all()?], 0)
    }

    fn forward(&self, [x, sigma]: [Input<'_>; 2]) -> Result<(Vec<f32>, Shape)> {
        let (batch, sizes) = self.sizes(x.dims)?;
        let target = self.run(x.values, sigma.values, batch, sizes);
        let shape = Shape::from(target.len());
        Ok((target, shape))
    }

    fn backward(
        &self,
        [x, sigma]: [Input<'_>; 2],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 2]> {
        let (batch, sizes) = self.sizes(x.dims)?;
        let gradients = self.run_back(x.values, sigma.values, gradient, batch, sizes);
        Ok(gradients.map(Some))
    }
}

vectorised! {
    /// The Gaussian of the distance to `row`, normalised. Its factor in front cancels.
    fn prior_row(row: usize, sigma: f32, prior: &mut [f32]) {
        let scale = -0.5 / (sigma * sigma);
        for (column, value) in prior.iter_mut().enumerate() {
            let distance = column as f32 - row as f32;
            *value = exp(distance * distance * scale);
        }
        let mut sum = Lanes::splat(0.0);
        for span in lanes(prior.len()) {
            sum = sum + Lanes::load(prior, span);
        }
        let share = 1.0 / sum.sum();
        for value in prior.iter_mut() {
            *value *= share;
        }
    }
}

vectorised! {
    /// Adds `share * Σ (s - p) (ln(s + ε) - ln(p + ε))` of every row to `sums`; leaves the terms in `prior`.
    fn discrepancy_rows(length: usize, share: f32, series: &[f32], prior: &mut [f32], sums: &mut [f32]) {
        let epsilon = EPSILON as f32;
        let rows = series.chunks_exact(length).zip(prior.chunks_exact_mut(length));
        for ((series, prior), target) in rows.zip(sums.iter_mut()) {
            for (prior, series) in prior.iter_mut().zip(series) {
                *prior = (series - *prior) * (ln(series + epsilon) - ln(*prior + epsilon));
            }
            let mut sum = Lanes::splat(0.0);
            for span in lanes(length) {
                sum = sum + Lanes::load(prior, span);
            }
            *target += share * sum.sum();
        }
    }
}

vectorised! {
    /// Of one row: adds the gradient of the series association to `slopes` and returns that of σ. `pulls` are what the
    /// discrepancy's gradient is multiplied by on either side; `prior` is overwritten.
    fn discrepancy_row_backward(
        row: usize,
        sigma: f32,
        pulls: [f32; 2],
        series: &[f32],
        prior: &mut [f32],
        slopes: &mut [f32],
        squares: &mut [f32],
    ) -> f32 {
        let epsilon = EPSILON as f32;
        let values = series.iter().zip(prior.iter_mut()).zip(slopes.iter_mut()).zip(squares.iter_mut());
        for (column, (((series, prior), slope), square)) in values.enumerate() {
            let difference = series - *prior;
            let logarithms = ln(series + epsilon) - ln(*prior + epsilon);
            *slope += pulls[0] * (logarithms + difference / (series + epsilon));
            // Left in place of the prior: itself times the discrepancy's slope there. Beside it: itself times the squared
            // distance, which is what σ scales.
            let distance = column as f32 - row as f32;
            *square = *prior * (distance * distance);
            *prior *= -logarithms - difference / (*prior + epsilon);
        }
        let mut mean = Lanes::splat(0.0);
        for span in lanes(series.len()) {
            mean = mean + Lanes::load(squares, span);
        }
        let mean = mean.sum();
        for (column, prior) in prior.iter_mut().enumerate() {
            let distance = column as f32 - row as f32;
            *prior *= distance * distance - mean;
        }
        let mut product = Lanes::splat(0.0);
        for span in lanes(series.len()) {
            product = product + Lanes::load(prior, span);
        }
        // dp/dσ = p (d² - Σ p d²) / σ³.
        pulls[1] * product.sum() / (sigma * sigma * sigma)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pull;
    use super::*;
    use numerics::conformance::{Draw, Example, Examples};

    impl Examples<2> for AssociationOp {
        const TOLERANCE: f32 = 5e-5;
        // Gradients are stopped.
        const HAS_SLOPES: bool = false;

        fn examples(draw: &mut Draw) -> Vec<Example<Self, 2>> {
            let both = |series: f64, prior: f64| Pull { series, prior };
            let mut examples = Vec::new();
            for (batch, length, width, heads, rate, pull) in [
                (1, 1, 2, 1, 0.0, both(1.0, 1.0)),
                (2, 5, 4, 2, 0.0, Pull::SERIES),
                (3, 9, 6, 3, 0.0, Pull::PRIOR),
                (17, 20, 8, 1, 0.0, both(-1.0, 1.0)),
                (2, 33, 10, 5, 0.3, both(-1.0, 1.0)),
            ] {
                examples.push(Example {
                    operation: Self(Association {
                        heads,
                        dropout: draw.dropout(rate),
                        pull,
                    }),
                    inputs: [
                        draw.between(-1.5, 1.5, &[batch, length, 3 * width]),
                        draw.between(0.05, 2.0, &[batch, length, heads]),
                    ],
                });
            }
            examples
        }
    }
}
