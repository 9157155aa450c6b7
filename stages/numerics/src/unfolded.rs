//! Convolutions as one matrix product over the values under each place of the window, composed of Candle's operations.
//! It serves devices for which we have no kernel: the gradients of such a product are products, too, while those
//! of Candle's own convolution run through slow kernels on CUDA.

use candle_core::{Result, Tensor, bail};

use super::conv2d::Window2d;
use super::precision::matmul;

/// `x`, `[batch, height, width, input]`, by weight, `[output, input, kernel height, kernel width]`, without a bias:
/// `[batch, rows, columns, output]`.
///
/// # Errors
/// If the window does not fit on the plane, or a tensor operation fails.
pub fn convolve(x: &Tensor, weight: &Tensor, window: &Window2d) -> Result<Tensor> {
    let (batch, height, width, input) = x.dims4()?;
    let output = weight.dim(0)?;
    let Some([rows, columns]) = window.places([height, width]) else {
        bail!(
            "a window of {:?} does not fit on a plane of {height} by {width}",
            window.kernel
        )
    };
    let mut taps = shifted(x, window, [rows, columns], 0.0)?;
    let patches = if taps.len() == 1 {
        taps.swap_remove(0)
    } else {
        Tensor::cat(&taps, 3)?
    };
    let depth = window.taps() * input;
    let weight = weight.permute((2, 3, 1, 0))?.reshape((depth, output))?;
    matmul(&patches.reshape((batch * rows * columns, depth))?, &weight)?
        .reshape((batch, rows, columns, output))
}

/// What lies under each tap of the window at all of its places, `[batch, rows, columns, channels]` per tap, rows of the
/// kernel first. Around the plane lies `border`.
///
/// # Errors
/// If a tensor operation fails.
pub fn shifted(
    x: &Tensor,
    window: &Window2d,
    places: [usize; 2],
    border: f32,
) -> Result<Vec<Tensor>> {
    let ([rows, columns], stride) = (places, window.stride);
    let padded = pad(x, window, 0, rows, border)?;
    let padded = pad(&padded, window, 1, columns, border)?;
    let mut taps = Vec::with_capacity(window.taps());
    for down in 0..window.kernel[0] {
        let band = every(&padded, 1, down * window.dilation[0], stride[0], rows)?;
        for right in 0..window.kernel[1] {
            let first = right * window.dilation[1];
            taps.push(every(&band, 2, first, stride[1], columns)?);
        }
    }
    Ok(taps)
}

/// A border on both sides, and behind so much more that every tap of every place has a whole stride.
fn pad(x: &Tensor, window: &Window2d, axis: usize, places: usize, border: f32) -> Result<Tensor> {
    let before = window.padding[axis];
    let needed = places * window.stride[axis] + window.reach(axis);
    let after = needed.saturating_sub(x.dim(axis + 1)? + before);
    let side = |size: usize| {
        let mut shape = x.dims().to_vec();
        shape[axis + 1] = size;
        Tensor::full(border, shape, x.device())?.to_dtype(x.dtype())
    };
    // Nothing may be empty: CUDA launches no kernel over nothing.
    let mut parts = Vec::with_capacity(3);
    if before > 0 {
        parts.push(side(before)?);
    }
    parts.push(x.clone());
    if after > 0 {
        parts.push(side(after)?);
    }
    Tensor::cat(&parts, axis + 1)
}

/// `count` slices along an axis, from `first` on, one every `stride`.
fn every(x: &Tensor, axis: usize, first: usize, stride: usize, count: usize) -> Result<Tensor> {
    let covered = x.narrow(axis, first, count * stride)?;
    if stride == 1 {
        return Ok(covered);
    }
    let mut shape = x.dims().to_vec();
    shape[axis] = count;
    shape.insert(axis + 1, stride);
    covered
        .reshape(shape)?
        .narrow(axis + 1, 0, 1)?
        .squeeze(axis + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use contract::Random;

    fn largest(tensor: Tensor) -> f32 {
        tensor
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar()
            .unwrap()
    }

    #[test]
    fn agrees_with_the_convolution_of_candle_in_values_and_gradients() {
        let windows = [
            Window2d::square(1),
            Window2d::square(3).padding(1),
            Window2d::square(3).stride(2).padding(1),
            Window2d::square(2).stride(3),
            Window2d::square(3).dilation(2).padding(2),
            Window2d::square(1).stride(2),
        ];
        let mut random = Random::new(8, "unfolded");
        for window in windows {
            let mut draw = |shape: &[usize]| {
                let values: Vec<f32> = (0..shape.iter().product())
                    .map(|_| random.normal() as f32)
                    .collect();
                Var::from_vec(values, shape, &Device::Cpu).unwrap()
            };
            let x = draw(&[2, 7, 9, 3]);
            let weight = draw(&[4, 3, window.kernel[0], window.kernel[1]]);
            let own = convolve(&x, &weight, &window).unwrap();
            let planes = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let [padding, stride, dilation] =
                [window.padding[0], window.stride[0], window.dilation[0]];
            let theirs = planes
                .conv2d(&weight, padding, stride, dilation, 1)
                .unwrap()
                .permute((0, 2, 3, 1))
                .unwrap();
            assert_eq!(own.dims(), theirs.dims(), "{window:?}");
            assert!(largest((&own - &theirs).unwrap()) < 1e-4, "{window:?}");
            // The slope along a direction, which the gradient must give.
            let upstream = draw(own.dims());
            let value = |x: &Tensor, weight: &Tensor| {
                (convolve(x, weight, &window)? * upstream.as_tensor())?.sum_all()
            };
            let gradients = value(&x, &weight).unwrap().backward().unwrap();
            for parameter in [&x, &weight] {
                let direction = draw(parameter.dims());
                let moved = (parameter.as_tensor() + direction.as_tensor()).unwrap();
                let there = if parameter.id() == x.id() {
                    value(&moved, &weight)
                } else {
                    value(&x, &moved)
                };
                let rise = (there.unwrap() - value(&x, &weight).unwrap())
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap();
                let slope = (gradients.get(parameter).unwrap() * direction.as_tensor())
                    .unwrap()
                    .sum_all()
                    .unwrap();
                let slope = slope.to_scalar::<f32>().unwrap();
                // The value is linear in each operand.
                assert!(
                    (rise - slope).abs() < 1e-3 * (1.0 + slope.abs()),
                    "{window:?}: {rise} {slope}"
                );
            }
        }
    }
}
