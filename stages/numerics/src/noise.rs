//! Gaussian noise on a tensor, from counters, so that each value is drawn by its place alone.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Shape, Tensor};

use super::chunks::{chunks, fill_rows};
use super::elementary::ln;
#[cfg(feature = "cuda")]
use super::operation::OnCuda;
use super::operation::{Input, Operation, apply};
use super::philox::{LANES, Purpose, words};
use super::simd::{Level, vectorised};
use contract::Random;

/// `x`, `[…, width]`, plus independent draws from N(0, `deviation`²). Nothing is drawn where the deviation is 0.
///
/// # Errors
/// If a tensor operation fails.
pub fn add_noise(x: &Tensor, deviation: f64, random: &mut Random) -> Result<Tensor> {
    if deviation == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let op = Noise {
        key: random.next_u64(),
        deviation: deviation as f32,
    };
    apply(op, [x])
}

/// One application of noise.
pub(crate) struct Noise {
    pub key: u64,
    pub deviation: f32,
}

impl Noise {
    fn added(&self, x: &[f32], width: usize) -> Vec<f32> {
        let ([target], _) = fill_rows(&chunks(x.len() / width), [width], |rows, [target]| {
            target.copy_from_slice(&x[rows.start * width..rows.end * width]);
            for (row, target) in rows.zip(target.chunks_exact_mut(width)) {
                let level = Level::detect();
                add_draws(level, self.key, row as u64, self.deviation, target);
            }
        });
        target
    }
}

impl Operation<1> for Noise {
    const LABEL: &'static str = "noise";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        Some(self)
    }

    fn compose(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        let draws = self.added(&vec![0.0; x.elem_count()], last(x.dims()));
        x + crate::upload(draws, x.shape(), x.device())?.to_dtype(x.dtype())?
    }

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        Ok((self.added(x.values, last(x.dims)), x.dims.into()))
    }

    fn backward(
        &self,
        _: [Input<'_>; 1],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        Ok([Some(gradient.to_vec())])
    }
}

/// The length of the last axis, at least 1.
fn last(dims: &[usize]) -> usize {
    dims.last().copied().unwrap_or(1).max(1)
}

/// Columns that one set of counters decides, two normal values from 64 bits.
const BLOCK: usize = LANES * 4;

vectorised! {
    /// Adds draws to a row. Of a block of columns, the ones that are 16 apart share a counter.
    fn add_draws(key: u64, row: u64, deviation: f32, target: &mut [f32]) {
        for (block, target) in target.chunks_mut(BLOCK).enumerate() {
            let words = words(key, Purpose::Noise, row, block as u32);
            for (pair, target) in target.chunks_mut(2 * LANES).enumerate() {
                let mut draws = [[0.0; LANES]; 2];
                for lane in 0..LANES {
                    let [one, other] = normal_pair(words[2 * pair][lane], words[2 * pair + 1][lane]);
                    draws[0][lane] = one;
                    draws[1][lane] = other;
                }
                for (target, draws) in target.chunks_mut(LANES).zip(&draws) {
                    for (target, draw) in target.iter_mut().zip(draws) {
                        *target += deviation * draw;
                    }
                }
            }
        }
    }
}

/// Two independent standard normal values from 32 random bits each (Box and Muller, 1958).
#[inline(always)]
fn normal_pair(radius: u32, angle: u32) -> [f32; 2] {
    // 24 bits in (0, 1], whose logarithm is finite.
    let uniform = ((radius >> 8) + 1) as f32 * 5.960_464_5e-8;
    let radius = (-2.0 * ln(uniform)).sqrt();
    let (sine, cosine) = sine_cosine(angle);
    [radius * cosine, radius * sine]
}

/// Sine and cosine of 2π · `angle` / 2³², within 3e-7. The octant is read off the bits, and the rest lies within ±π/4 of a
/// multiple of π/2, where Taylor's series needs few terms.
#[inline(always)]
fn sine_cosine(angle: u32) -> (f32, f32) {
    let quarter = angle.wrapping_add(0x2000_0000) >> 30;
    let rest = angle.wrapping_sub(quarter << 30).cast_signed() as f32;
    let rest = rest * 1.462_918_1e-9;
    let square = rest * rest;
    let mut sine = square * 2.755_731_9e-6 - 1.984_127e-4;
    sine = sine * square + 8.333_333e-3;
    sine = sine * square - 0.166_666_67;
    let sine = rest + rest * square * sine;
    let mut cosine = square * 2.480_158_7e-5 - 1.388_888_9e-3;
    cosine = cosine * square + 4.166_666_8e-2;
    cosine = cosine * square - 0.5;
    let cosine = 1.0 + square * cosine;
    let (s, c) = if quarter & 1 == 1 {
        (cosine, sine)
    } else {
        (sine, cosine)
    };
    let s = if quarter & 2 == 2 { -s } else { s };
    let c = if quarter.wrapping_add(1) & 2 == 2 {
        -c
    } else {
        c
    };
    (s, c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::{DType, Device};

    impl Examples<1> for Noise {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |dims: &[usize]| Example {
                operation: Self {
                    key: 0x0123_4567_89ab_cdef,
                    deviation: 0.3,
                },
                inputs: [draw.variable(dims)],
            };
            vec![example(&[1]), example(&[5, 7, 3]), example(&[50, 201])]
        }
    }

    #[test]
    fn angles_have_their_sine_and_cosine() {
        for step in 0..100_003_u64 {
            let angle = (step * 4_294_967_295 / 100_002) as u32;
            let exact = f64::from(angle) * (std::f64::consts::TAU / 4_294_967_296.0);
            let (sine, cosine) = sine_cosine(angle);
            let apart = (f64::from(sine) - exact.sin())
                .abs()
                .max((f64::from(cosine) - exact.cos()).abs());
            assert!(apart < 4e-7, "{angle}: {apart}");
        }
    }

    #[test]
    fn moments_are_those_asked_for_and_rows_differ() {
        let mut random = Random::new(3, "test");
        let zeros = Tensor::zeros((100, 2001), DType::F32, &Device::Cpu).unwrap();
        let noise = add_noise(&zeros, 0.5, &mut random).unwrap();
        let values: Vec<f64> = noise
            .flatten_all()
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap()
            .to_vec1()
            .unwrap();
        let moment =
            |power| values.iter().map(|value| value.powi(power)).sum::<f64>() / values.len() as f64;
        assert!(
            moment(1).abs() < 0.004 && (moment(2) - 0.25).abs() < 0.004,
            "{} {}",
            moment(1),
            moment(2)
        );
        assert!(
            (moment(4) - 3.0 / 16.0).abs() < 0.006 && moment(3).abs() < 0.006,
            "{} {}",
            moment(3),
            moment(4)
        );
        let neighbours: f64 =
            values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / values.len() as f64;
        assert!(neighbours.abs() < 0.002, "{neighbours}");
        assert_ne!(values[..2001], values[2001..4002]);
        let before = random.clone();
        assert_eq!(
            add_noise(&zeros, 0.0, &mut random)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap()[0][0],
            0.0
        );
        assert_eq!(random, before);
    }
}
