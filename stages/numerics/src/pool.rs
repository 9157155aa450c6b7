//! Poolings over channels-last planes: the maximum under a window, and the mean of a whole plane.
//! Padding of a maximum holds no values: it never wins.

#[cfg(feature = "cuda")]
mod cuda;

use std::sync::OnceLock;

use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::conv2d::Window2d;
use super::group_mean::group_mean;
#[cfg(feature = "cuda")]
use super::operation::OnCuda;
use super::operation::{Input, Kept, Operation, apply};
use super::simd::{Level, vectorised};
use super::unfolded::shifted;

/// The maximum under a window: `[batch, height, width, channels]` to `[batch, rows, columns, channels]`. Among equal
/// values the first one gets the gradient, as in PyTorch.
///
/// # Errors
/// If the window does not fit, or its padding reaches further than half of its kernel.
pub fn max_pool2d(x: &Tensor, window: Window2d) -> Result<Tensor> {
    let (_, height, width, _) = x.dims4()?;
    let Some([rows, columns]) = window.places([height, width]) else {
        bail!(
            "a window of {:?} does not fit on a plane of {height} by {width}",
            window.kernel
        )
    };
    if (0..2).any(|axis| 2 * window.padding[axis] > window.kernel[axis]) {
        bail!(
            "a pooling's padding of {:?} reaches over the middle of its kernel {:?}",
            window.padding,
            window.kernel
        )
    }
    if window.taps() > usize::from(u8::MAX) {
        bail!(
            "a pooling's kernel of {:?} has more than 255 positions",
            window.kernel
        )
    }
    let op = MaxPoolOp {
        window,
        plane: [height, width],
        map: [rows, columns],
        winners: OnceLock::new(),
        kept: Kept::default(),
    };
    apply(op, [x])
}

/// The mean over height and width: `[batch, height, width, channels]` to `[batch, channels]`.
///
/// # Errors
/// If the tensor has another number of axes.
pub fn global_mean(x: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    group_mean(&x.reshape((batch, height * width, channels))?)
}

/// `[batch, height, width, channels]` to `[batch, rows, columns, channels]`.
pub(crate) struct MaxPoolOp {
    window: Window2d,
    /// Height and width of the plane, and rows and columns of what becomes of it.
    plane: [usize; 2],
    map: [usize; 2],
    /// The position of the kernel that won, for every value of the output.
    winners: OnceLock<Vec<u8>>,
    /// The same on CUDA, as floats.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "kernels on CUDA alone keep something")
    )]
    kept: Kept,
}

impl MaxPoolOp {
    /// The number on the plane of position `tap` of the window at a place; `None` in the padding.
    fn position(&self, place: [usize; 2], tap: usize) -> Option<usize> {
        let Window2d {
            kernel,
            stride,
            padding,
            dilation,
        } = self.window;
        let taps = [tap / kernel[1], tap % kernel[1]];
        let row = (place[0] * stride[0] + taps[0] * dilation[0]).checked_sub(padding[0])?;
        let column = (place[1] * stride[1] + taps[1] * dilation[1]).checked_sub(padding[1])?;
        let [height, width] = self.plane;
        (row < height && column < width).then_some(row * width + column)
    }

    /// The largest values of a plane, `[height, width, channels]`, under the window at one place.
    fn pool(&self, plane: &[f32], place: [usize; 2], target: &mut [f32], winners: &mut [u8]) {
        let channels = target.len();
        target.fill(f32::NEG_INFINITY);
        for tap in 0..self.window.taps() {
            if let Some(position) = self.position(place, tap) {
                let values = &plane[position * channels..(position + 1) * channels];
                keep_larger(Level::detect(), values, tap as u8, target, winners);
            }
        }
    }

    /// Adds the gradient at one place to that of the plane.
    fn pass_back(&self, gradient: &[f32], place: [usize; 2], winners: &[u8], plane: &mut [f32]) {
        let channels = gradient.len();
        for tap in 0..self.window.taps() {
            if let Some(position) = self.position(place, tap) {
                let target = &mut plane[position * channels..(position + 1) * channels];
                add_won(Level::detect(), gradient, winners, tap as u8, target);
            }
        }
    }
}

vectorised! {
    /// Takes over the values that are larger than what is there; a NaN wins as well.
    fn keep_larger(values: &[f32], tap: u8, target: &mut [f32], winners: &mut [u8]) {
        for ((value, target), winner) in values.iter().zip(target.iter_mut()).zip(winners.iter_mut()) {
            // Only what is larger: among equals the first one stays.
            let wins = *value > *target || value.is_nan();
            *target = if wins { *value } else { *target };
            *winner = if wins { tap } else { *winner };
        }
    }
}

vectorised! {
    /// Adds the gradients of the values that this position of the kernel won.
    fn add_won(gradient: &[f32], winners: &[u8], tap: u8, target: &mut [f32]) {
        for ((gradient, winner), target) in gradient.iter().zip(winners).zip(target) {
            *target += if *winner == tap { *gradient } else { 0.0 };
        }
    }
}

impl Operation<1> for MaxPoolOp {
    const LABEL: &'static str = "max-pool2d";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        Some(self)
    }

    /// The largest of all shifted copies, the first one among equals.
    fn compose(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        let mut largest: Option<Tensor> = None;
        for part in shifted(x, &self.window, self.map, f32::MIN)? {
            largest = Some(match largest {
                None => part,
                Some(largest) => part.gt(&largest)?.where_cond(&part, &largest)?,
            });
        }
        largest.ok_or_else(|| candle_core::Error::Msg("a pooling without a kernel".to_owned()))
    }

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        let (batch, height, width, channels) = Shape::from(x.dims).dims4()?;
        let ([rows, columns], size) = (self.map, height * width * channels);
        let mut target = vec![0.0; batch * rows * columns * channels];
        let mut winners = vec![0; target.len()];
        target
            .par_chunks_mut(columns * channels)
            .zip(winners.par_chunks_mut(columns * channels))
            .enumerate()
            .for_each(|(index, (target, winners))| {
                let plane = &x.values[index / rows * size..][..size];
                let places = target
                    .chunks_exact_mut(channels)
                    .zip(winners.chunks_exact_mut(channels));
                for (column, (target, winners)) in places.enumerate() {
                    self.pool(plane, [index % rows, column], target, winners);
                }
            });
        if self.winners.set(winners).is_err() {
            bail!("a pooling was applied twice")
        }
        Ok((target, (batch, rows, columns, channels).into()))
    }

    fn backward(
        &self,
        [x]: [Input<'_>; 1],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        let Some(winners) = self.winners.get() else {
            bail!("a pooling was differentiated before it was applied")
        };
        let (_, height, width, channels) = Shape::from(x.dims).dims4()?;
        let [rows, columns] = self.map;
        let mut target = vec![0.0; x.values.len()];
        target
            .par_chunks_exact_mut(height * width * channels)
            .zip(gradient.par_chunks_exact(rows * columns * channels))
            .zip(winners.par_chunks_exact(rows * columns * channels))
            .for_each(|((plane, gradient), winners)| {
                let places = gradient
                    .chunks_exact(channels)
                    .zip(winners.chunks_exact(channels));
                for (index, (gradient, winners)) in places.enumerate() {
                    let place = [index / columns, index % columns];
                    self.pass_back(gradient, place, winners, plane);
                }
            });
        Ok([Some(target)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::{DType, Device, Var};
    use contract::Random;

    impl Examples<1> for MaxPoolOp {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let windows = [
                Window2d::square(3).stride(2).padding(1),
                Window2d::square(2).stride(2),
                Window2d {
                    kernel: [2, 3],
                    stride: [3, 1],
                    padding: [1, 1],
                    dilation: [1, 2],
                },
            ];
            let mut examples = Vec::new();
            for (window, plane, channels) in windows
                .into_iter()
                .flat_map(|window| [(window, [7, 6], 5), (window, [5, 8], 17)])
            {
                let Some(map) = window.places(plane) else {
                    continue;
                };
                examples.push(Example {
                    operation: Self {
                        window,
                        plane,
                        map,
                        winners: OnceLock::new(),
                        kept: Kept::default(),
                    },
                    inputs: [draw.variable(&[3, plane[0], plane[1], channels])],
                });
            }
            examples
        }
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Among equal values the first one gets the gradient, on every device.
    #[test]
    fn the_first_of_equals_wins() {
        let window = Window2d::square(2).stride(1);
        let on = |device: &Device| {
            let x = Var::from_tensor(&Tensor::ones((1, 3, 3, 2), DType::F32, device).unwrap());
            let x = x.unwrap();
            let sum = max_pool2d(&x, window).unwrap().sum_all().unwrap();
            let gradient = sum.backward().unwrap().get(&x).unwrap().clone();
            gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let mut expected = vec![0.0; 18];
        for place in [0, 1, 3, 4] {
            expected[2 * place..2 * place + 2].fill(1.0);
        }
        assert_eq!(on(&Device::Cpu), expected);
        if let Ok(gpu) = crate::device(contract::Device::Cuda(0)) {
            assert_eq!(on(&gpu), expected);
        }
    }

    #[test]
    fn a_padded_maximum_and_its_gradient_are_those_of_the_definition() {
        let mut random = Random::new(1, "pool");
        let windows = [
            Window2d::square(3).stride(2).padding(1),
            Window2d::square(2).stride(2),
            Window2d::square(3),
            Window2d {
                kernel: [2, 3],
                stride: [3, 1],
                padding: [1, 1],
                dilation: [1, 2],
            },
        ];
        for (window, [height, width], channels) in windows
            .into_iter()
            .flat_map(|window| [(window, [7, 6], 5), (window, [5, 8], 17)])
        {
            // Many equal values, so that the choice among them is seen.
            let values = |random: &mut Random, count| {
                (0..count).map(|_| random.below(4) as f32 - 2.0).collect()
            };
            let x: Vec<f32> = values(&mut random, 2 * height * width * channels);
            let x = Var::from_vec(x, (2, height, width, channels), &Device::Cpu).unwrap();
            let y = max_pool2d(&x, window).unwrap();
            let places = window.places([height, width]).unwrap();
            assert_eq!(y.dims(), [2, places[0], places[1], channels]);
            let upstream: Vec<f32> = values(&mut random, y.elem_count());
            let upstream = Tensor::from_vec(upstream, y.shape(), &Device::Cpu).unwrap();
            let op = MaxPoolOp {
                window,
                plane: [height, width],
                map: places,
                winners: OnceLock::new(),
                kept: Kept::default(),
            };
            let composed = op.compose([&x]).unwrap();
            let gradient = |y: &Tensor| {
                let store = (y * &upstream)
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .backward()
                    .unwrap();
                flat(store.get(x.as_tensor()).unwrap())
            };
            let expected = definition(&x, window, &flat(&upstream));
            for y in [&y, &composed] {
                assert_eq!(flat(y), expected.0);
                assert_eq!(gradient(y), expected.1);
            }
        }
    }

    /// Maxima and the gradient of the inputs, written out.
    fn definition(x: &Tensor, window: Window2d, upstream: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (batch, height, width, channels) = x.dims4().unwrap();
        let [rows, columns] = window.places([height, width]).unwrap();
        let x = flat(x);
        let (mut maxima, mut gradient) = (Vec::new(), vec![0.0; x.len()]);
        assert_eq!(upstream.len(), batch * rows * columns * channels);
        for (output, upstream) in upstream.iter().enumerate() {
            let (channel, place) = (output % channels, output / channels);
            let (sample, row, column) = (
                place / columns / rows,
                place / columns % rows,
                place % columns,
            );
            let mut best: Option<usize> = None;
            for tap in 0..window.taps() {
                let down =
                    (row * window.stride[0] + tap / window.kernel[1] * window.dilation[0]) as isize;
                let right = (column * window.stride[1]
                    + tap % window.kernel[1] * window.dilation[1])
                    as isize;
                let (down, right) = (
                    down - window.padding[0] as isize,
                    right - window.padding[1] as isize,
                );
                if (0..height as isize).contains(&down) && (0..width as isize).contains(&right) {
                    let at = ((sample * height + down as usize) * width + right as usize)
                        * channels
                        + channel;
                    if best.is_none_or(|best| x[at] > x[best]) {
                        best = Some(at);
                    }
                }
            }
            maxima.push(x[best.unwrap()]);
            gradient[best.unwrap()] += upstream;
        }
        (maxima, gradient)
    }

    #[test]
    fn impossible_windows_are_refused() {
        let x = Tensor::zeros((1, 2, 2, 1), DType::F32, &Device::Cpu).unwrap();
        assert!(max_pool2d(&x, Window2d::square(3)).is_err());
        assert!(max_pool2d(&x, Window2d::square(2).padding(2)).is_err());
        assert!(max_pool2d(&x, Window2d::square(16).padding(8)).is_err());
    }

    #[test]
    fn the_mean_of_a_plane_passes_equal_shares_back() {
        let x = Var::from_vec(
            (0..24).map(|value| value as f32).collect(),
            (2, 2, 3, 2),
            &Device::Cpu,
        )
        .unwrap();
        let y = global_mean(&x).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), [[5.0, 6.0], [17.0, 18.0]]);
        let upstream = Tensor::new(&[[6_f32, 12.0], [18.0, 24.0]], &Device::Cpu).unwrap();
        let store = (y * upstream)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let gradient = flat(store.get(x.as_tensor()).unwrap());
        assert_eq!(gradient[..4], [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(gradient[20..], [3.0, 4.0, 3.0, 4.0]);
    }
}
