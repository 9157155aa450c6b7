//! The dynamic convolution over patches: every patch has a kernel of its own, the base kernel with its output channels scaled
//! by the patch's weights. Where the weights come from is the block's business.
//!
//! To scale a kernel's output channels is to scale what it gives, so no kernel per patch is ever built. A patch is a plane of
//! two rows, `[2, width]`, with zeros around it: much of a 3x3 kernel lies outside, which is why the kernel is applied place by
//! place, to all patches at once, with those of its taps that lie inside.

use std::ops::Range;

use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

use numerics::Level;
use numerics::chunks::{chunks, fill_rows};
use numerics::conv::TAPS;
use numerics::elementwise::add;
use numerics::operation::{Input, Operation, apply};
use numerics::product::{Panels, Rows, Start, accumulate_outer, multiply};

/// `weights ⊙ (W * x)`: `x` is `[patches, 2 * width, input]`, the kernel `[output, input, 3, 3]`, weights
/// `[patches, output]`; the result is `[patches, 2 * width, output]`.
///
/// # Errors
/// If sizes disagree.
pub(super) fn dynamic_convolution(x: &Tensor, kernel: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let (patches, patch, channels) = x.dims3()?;
    let (output, input, _, _) = kernel.dims4()?;
    if patch == 0 || patch % 2 != 0 || input != channels || weights.dims() != [patches, output] {
        bail!(
            "a dynamic convolution {:?} weighted by {:?} cannot take {:?}",
            kernel.dims(),
            weights.dims(),
            x.dims()
        )
    }
    let op = DynamicOp {
        patch,
        input,
        output,
    };
    apply(op, [x, kernel, weights])
}

pub(crate) struct DynamicOp {
    /// Values of a patch, in two rows.
    patch: usize,
    input: usize,
    output: usize,
}

/// A place of the plane beside others: tap of the kernel, and place that it falls on.
type Neighbour = (usize, usize);

/// What is needed for one direction: for every place, its neighbours and the panels of their taps.
struct Direction {
    places: Vec<(Vec<Neighbour>, usize)>,
    panels: Vec<Panels>,
}

/// A chunk's share of the gradients.
struct Share {
    /// `[3, 3, input, output]`.
    kernel: Vec<f32>,
    /// `[patches, output]`.
    weights: Vec<f32>,
    /// `[patches, patch, input]`.
    x: Vec<f32>,
}

impl DynamicOp {
    /// Those of the nine taps that lie inside at a place.
    fn neighbours(&self, place: usize) -> Vec<Neighbour> {
        let width = self.patch / 2;
        let mut neighbours = Vec::new();
        for tap in 0..TAPS {
            // One more than where the tap falls, so that what lies before the plane is 0.
            let (row, column) = (place / width + tap / 3, place % width + tap % 3);
            if (1..=2).contains(&row) && (1..=width).contains(&column) {
                neighbours.push((tap, (row - 1) * width + column - 1));
            }
        }
        neighbours
    }

    /// Places with the same taps share panels; `weight(tap, from, to)` is asked for what is in them.
    fn direction(
        &self,
        sizes: (usize, usize),
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Direction {
        let (mut known, mut panels): (Vec<Vec<usize>>, Vec<Panels>) = (Vec::new(), Vec::new());
        let mut places = Vec::with_capacity(self.patch);
        for place in 0..self.patch {
            let neighbours = self.neighbours(place);
            let taps: Vec<usize> = neighbours.iter().map(|(tap, _)| *tap).collect();
            let same = known.iter().position(|other| *other == taps);
            let index = same.unwrap_or(known.len());
            if same.is_none() {
                // All places away from the border have the same taps, so there are few panels.
                let mut new = Panels::new(Level::detect(), taps.len(), sizes.0, sizes.1);
                new.fill(|index, from, to| weight(taps[index], from, to));
                panels.push(new);
                known.push(taps);
            }
            places.push((neighbours, index));
        }
        Direction { places, panels }
    }

    fn ahead(&self, kernel: &[f32]) -> Direction {
        let input = self.input;
        self.direction((input, self.output), |tap, from, to| {
            kernel[(to * input + from) * TAPS + tap]
        })
    }

    /// From the gradient of the output to that of the input: the kernel turned round.
    fn back(&self, kernel: &[f32]) -> Direction {
        let input = self.input;
        self.direction((self.output, input), |tap, to, from| {
            kernel[(to * input + from) * TAPS + (TAPS - 1 - tap)]
        })
    }

    /// `W * x` of some patches, place by place: `[patch, count, output]`.
    fn convolve(&self, direction: &Direction, x: &[f32]) -> Vec<f32> {
        let count = x.len() / (self.patch * self.input);
        let starts: Vec<usize> = (0..count)
            .map(|patch| patch * self.patch * self.input)
            .collect();
        let zeros = vec![0.0; self.output];
        let mut target = vec![0.0; self.patch * count * self.output];
        let targets = target.chunks_exact_mut(count * self.output);
        for ((neighbours, panels), target) in direction.places.iter().zip(targets) {
            let taps: Vec<usize> = neighbours
                .iter()
                .map(|(_, place)| place * self.input)
                .collect();
            let rows = Rows {
                values: x,
                starts: &starts,
                taps: &taps,
            };
            multiply(
                rows,
                &direction.panels[*panels],
                Start::Bias(&zeros),
                target,
            );
        }
        target
    }

    /// What the forward pass gives for some patches.
    fn scaled(&self, direction: &Direction, x: &[f32], weights: &[f32], target: &mut [f32]) {
        let inner = self.convolve(direction, x);
        let (output, count) = (self.output, weights.len() / self.output);
        for (patch, target) in target.chunks_exact_mut(self.patch * output).enumerate() {
            let weights = &weights[patch * output..(patch + 1) * output];
            for (place, target) in target.chunks_exact_mut(output).enumerate() {
                let inner = &inner[(place * count + patch) * output..][..output];
                for ((target, z), weight) in target.iter_mut().zip(inner).zip(weights) {
                    *target = z * weight;
                }
            }
        }
    }

    /// All gradients of some patches.
    fn share(
        &self,
        (forward, backward): (&Direction, &Direction),
        (x, weights, gradient): (&[f32], &[f32], &[f32]),
    ) -> Share {
        let (input, output, count) = (self.input, self.output, weights.len() / self.output);
        let mut inner = self.convolve(forward, x);
        let mut of_weights = vec![0.0; weights.len()];
        // From here on, `inner` turns from what the kernel gave into the gradient of it.
        for (patch, of_weights) in of_weights.chunks_exact_mut(output).enumerate() {
            let weights = &weights[patch * output..(patch + 1) * output];
            for place in 0..self.patch {
                let inner = &mut inner[(place * count + patch) * output..][..output];
                let gradient = &gradient[(patch * self.patch + place) * output..][..output];
                let values = inner
                    .iter_mut()
                    .zip(gradient)
                    .zip(weights)
                    .zip(of_weights.iter_mut());
                for (((inner, gradient), weight), sum) in values {
                    *sum += *inner * gradient;
                    *inner = gradient * weight;
                }
            }
        }
        let kernel = self.kernel_share(forward, x, &inner);
        let x = self.input_share(backward, &inner, count);
        debug_assert_eq!(x.len(), count * self.patch * input);
        Share {
            kernel,
            weights: of_weights,
            x,
        }
    }

    fn kernel_share(&self, forward: &Direction, x: &[f32], inner: &[f32]) -> Vec<f32> {
        let (size, count) = (
            self.input * self.output,
            x.len() / (self.patch * self.input),
        );
        let starts: Vec<usize> = (0..count)
            .map(|patch| patch * self.patch * self.input)
            .collect();
        let mut sums = vec![0.0; TAPS * size];
        for ((neighbours, _), inner) in forward
            .places
            .iter()
            .zip(inner.chunks_exact(count * self.output))
        {
            for (tap, place) in neighbours {
                // A weight's gradient is what its tap saw times the gradient of what it gave.
                let rows = Rows {
                    values: x,
                    starts: &starts,
                    taps: &[place * self.input],
                };
                let sums = &mut sums[tap * size..(tap + 1) * size];
                accumulate_outer(Level::detect(), rows, self.input, inner, self.output, sums);
            }
        }
        sums
    }

    fn input_share(&self, backward: &Direction, inner: &[f32], count: usize) -> Vec<f32> {
        let starts: Vec<usize> = (0..count).map(|patch| patch * self.output).collect();
        let zeros = vec![0.0; self.input];
        let mut target = vec![0.0; count * self.patch * self.input];
        let mut rows = vec![0.0; count * self.input];
        for (place, (neighbours, panels)) in backward.places.iter().enumerate() {
            let taps: Vec<usize> = neighbours
                .iter()
                .map(|(_, place)| place * count * self.output)
                .collect();
            let source = Rows {
                values: inner,
                starts: &starts,
                taps: &taps,
            };
            multiply(
                source,
                &backward.panels[*panels],
                Start::Bias(&zeros),
                &mut rows,
            );
            let targets = target.chunks_exact_mut(self.patch * self.input);
            for (target, row) in targets.zip(rows.chunks_exact(self.input)) {
                target[place * self.input..(place + 1) * self.input].copy_from_slice(row);
            }
        }
        target
    }

    /// The gradients of `x`, kernel and weights; the chunks' shares are added in their order.
    fn gradients(&self, [kernel, x, weights, gradient]: [&[f32]; 4]) -> [Vec<f32>; 3] {
        let directions = (&self.ahead(kernel), &self.back(kernel));
        let parts = chunks(weights.len() / self.output);
        let shares: Vec<Share> = parts
            .into_par_iter()
            .map(|part| {
                let x = rows(x, &part, self.patch * self.input);
                let weights = rows(weights, &part, self.output);
                let gradient = rows(gradient, &part, self.patch * self.output);
                self.share(directions, (x, weights, gradient))
            })
            .collect();
        let mut sums = vec![0.0; TAPS * self.input * self.output];
        let (mut of_x, mut of_weights) = (Vec::with_capacity(x.len()), Vec::new());
        for share in &shares {
            add(Level::detect(), &share.kernel, &mut sums);
            of_x.extend_from_slice(&share.x);
            of_weights.extend_from_slice(&share.weights);
        }
        let mut of_kernel = vec![0.0; sums.len()];
        for (index, row) in sums.chunks_exact(self.output).enumerate() {
            let (tap, from) = (index / self.input, index % self.input);
            for (to, sum) in row.iter().enumerate() {
                of_kernel[(to * self.input + from) * TAPS + tap] = *sum;
            }
        }
        [of_x, of_kernel, of_weights]
    }
}

/// The rows of a range, `width` values each.
fn rows<'a>(values: &'a [f32], range: &Range<usize>, width: usize) -> &'a [f32] {
    &values[range.start * width..range.end * width]
}

impl Operation<3> for DynamicOp {
    const LABEL: &'static str = "dynamic-convolution";

    fn compose(&self, [x, kernel, weights]: [&Tensor; 3]) -> Result<Tensor> {
        let (patches, patch, channels) = x.dims3()?;
        let planes = x
            .reshape((patches, 2, patch / 2, channels))?
            .permute((0, 3, 1, 2))?
            .contiguous()?;
        let convolved = planes
            .conv2d(kernel, 1, 1, 1, 1)?
            .permute((0, 2, 3, 1))?
            .contiguous()?;
        convolved
            .reshape((patches, patch, self.output))?
            .broadcast_mul(&weights.unsqueeze(1)?)
    }

    fn forward(&self, [x, kernel, weights]: [Input<'_>; 3]) -> Result<(Vec<f32>, Shape)> {
        let direction = self.ahead(kernel.values);
        let patches = weights.values.len() / self.output;
        let parts = chunks(patches);
        let ([target], _) = fill_rows(&parts, [self.patch * self.output], |part, [target]| {
            let x = rows(x.values, &part, self.patch * self.input);
            let weights = rows(weights.values, &part, self.output);
            self.scaled(&direction, x, weights, target);
        });
        Ok((target, (patches, self.patch, self.output).into()))
    }

    fn backward(
        &self,
        [x, kernel, weights]: [Input<'_>; 3],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let values = [kernel.values, x.values, weights.values, gradient];
        Ok(self.gradients(values).map(Some))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use contract::Random;
    use numerics::conformance::{Draw, Example, Examples};

    impl Examples<3> for DynamicOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 3>> {
            let mut example = |(patches, patch, input, output)| Example {
                operation: Self {
                    patch,
                    input,
                    output,
                },
                inputs: [
                    draw.variable(&[patches, patch, input]),
                    draw.variable(&[output, input, 3, 3]),
                    draw.variable(&[patches, output]),
                ],
            };
            [(3, 8, 2, 7), (37, 2, 5, 5), (1, 4, 33, 3), (20, 6, 16, 16)]
                .map(&mut example)
                .into()
        }
    }

    fn draws(shape: &[usize], random: &mut Random) -> Var {
        let values = (0..shape.iter().product())
            .map(|_| random.range(-1.0, 1.0) as f32)
            .collect::<Vec<_>>();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn patches_without_two_rows_are_refused() {
        let mut random = Random::new(10, "dynamic");
        let (x, kernel) = (
            draws(&[2, 5, 3], &mut random),
            draws(&[3, 3, 3, 3], &mut random),
        );
        let weights = draws(&[2, 3], &mut random);
        assert!(
            dynamic_convolution(&x, &kernel, &weights)
                .unwrap_err()
                .to_string()
                .contains("[2, 5, 3]")
        );
    }
}
