//! Dropout (Srivastava et al., JMLR 2014) whose masks are not kept but drawn again for the backward pass.
//! Fused operations draw the same masks for themselves, row by row.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Shape, Tensor};

use super::Mode;
use super::chunks::{chunks, fill_rows};
#[cfg(feature = "cuda")]
use super::operation::OnCuda;
use super::operation::{Input, Operation, apply};
use super::philox::{LANES, Purpose, words};
use super::simd::{Level, vectorised};
use contract::Random;

/// One application of dropout: with probability `rate` a value becomes 0, otherwise it is divided by `1 - rate`.
///
/// The mask of a row follows from the key and the row's number alone, so it does not depend on who works on the row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    key: u64,
    /// Of 65,536 equally likely draws, how many drop a value.
    dropped: u16,
}

impl Dropout {
    /// Values pass unchanged.
    pub const NONE: Self = Self { key: 0, dropped: 0 };

    /// Draws the masks of one application. In evaluation, and at a rate of 0, nothing is drawn and nothing dropped.
    /// Rates are taken to the next 65,536th; `rate` must lie in [0, 1).
    pub fn draw(rate: f64, mode: Mode, random: &mut Random) -> Self {
        let dropped = (rate * 65_536.0).round().clamp(0.0, 65_535.0) as u16;
        match mode {
            Mode::Train if dropped > 0 => Self {
                key: random.next_u64(),
                dropped,
            },
            _ => Self::NONE,
        }
    }

    /// Whether values pass unchanged.
    pub fn is_none(self) -> bool {
        self.dropped == 0
    }

    /// What a value that is not dropped is multiplied by.
    fn kept(self) -> f32 {
        (65_536.0 / (65_536.0 - f64::from(self.dropped))) as f32
    }

    /// What the values of a row are multiplied by.
    pub fn fill(self, row: usize, factors: &mut [f32]) {
        if self.is_none() {
            factors.fill(1.0);
            return;
        }
        let (row, dropped) = (row as u64, u32::from(self.dropped));
        draw_factors(
            Level::detect(),
            self.key,
            row,
            dropped,
            self.kept(),
            factors,
        );
    }

    /// `x`, `[…, width]`, with values dropped.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        if self.is_none() {
            return Ok(x.clone());
        }
        apply(self, [x])
    }

    /// `x` with values dropped, composed of Candle's own operations.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn composed(self, x: &Tensor) -> Result<Tensor> {
        if self.is_none() {
            return Ok(x.clone());
        }
        x * self.mask(x)?
    }

    /// The factors for a tensor of this shape, on its device.
    fn mask(self, x: &Tensor) -> Result<Tensor> {
        let width = last(x.dims());
        let (_, kept) = fill_rows(
            &chunks(x.elem_count() / width),
            [width],
            |rows, [factors]| {
                for (row, factors) in rows.zip(factors.chunks_exact_mut(width)) {
                    self.fill(row, factors);
                }
                // Bytes need a quarter of the time that floats take to a GPU.
                let kept = factors.iter().map(|factor| u8::from(*factor != 0.0));
                kept.collect::<Vec<u8>>()
            },
        );
        let kept = crate::upload(kept.concat(), x.shape(), x.device())?.to_dtype(x.dtype())?;
        kept * f64::from(self.kept())
    }

    pub(crate) fn apply(self, x: &[f32], width: usize) -> Vec<f32> {
        let ([target], _) = fill_rows(&chunks(x.len() / width), [width], |rows, [target]| {
            for (row, target) in rows.zip(target.chunks_exact_mut(width)) {
                self.fill(row, target);
                for (factor, x) in target.iter_mut().zip(&x[row * width..]) {
                    *factor *= x;
                }
            }
        });
        target
    }
}

impl Operation<1> for Dropout {
    const LABEL: &'static str = "dropout";

    #[cfg(feature = "cuda")]
    fn on_cuda(&self, _: [&[usize]; 1]) -> Option<&dyn OnCuda<1>> {
        Some(self)
    }

    fn compose(&self, [x]: [&Tensor; 1]) -> Result<Tensor> {
        self.composed(x)
    }

    fn forward(&self, [x]: [Input<'_>; 1]) -> Result<(Vec<f32>, Shape)> {
        Ok((self.apply(x.values, last(x.dims)), x.dims.into()))
    }

    fn backward(
        &self,
        [x]: [Input<'_>; 1],
        _: &[f32],
        gradient: &[f32],
    ) -> Result<[Option<Vec<f32>>; 1]> {
        Ok([Some(self.apply(gradient, last(x.dims)))])
    }
}

/// Columns that one set of counters decides, sixteen bits for each.
const BLOCK: usize = LANES * 8;

vectorised! {
    /// The factors of a row. Of a block of columns, the ones that are 16 apart share a counter.
    fn draw_factors(key: u64, row: u64, dropped: u32, kept: f32, factors: &mut [f32]) {
        for (block, factors) in factors.chunks_mut(BLOCK).enumerate() {
            let words = words(key, Purpose::Dropout, row, block as u32);
            for (part, factors) in factors.chunks_mut(LANES).enumerate() {
                let (word, shift) = (&words[part / 2], part % 2 * 16);
                for (factor, bits) in factors.iter_mut().zip(word) {
                    *factor = if (bits >> shift) & 0xffff < dropped { 0.0 } else { kept };
                }
            }
        }
    }
}

/// The length of the last axis, at least 1.
fn last(dims: &[usize]) -> usize {
    dims.last().copied().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Draw, Example, Examples};
    use candle_core::{DType, Device, Var};

    impl Examples<1> for Dropout {
        fn examples(draw: &mut Draw) -> Vec<Example<Self, 1>> {
            let mut example = |rate: f64, dims: &[usize]| Example {
                operation: draw.dropout(rate),
                inputs: [draw.variable(dims)],
            };
            vec![
                example(0.5, &[1]),
                example(0.3, &[5, 7, 3]),
                example(0.1, &[50, 201]),
            ]
        }
    }

    #[test]
    fn drops_its_share_keeps_the_mean_and_repeats_itself_backward() {
        let mut random = Random::new(1, "test");
        let dropout = Dropout::draw(0.3, Mode::Train, &mut random);
        let x = Var::ones((50, 2001), DType::F32, &Device::Cpu).unwrap();
        let y = dropout.forward(&x).unwrap();
        let values: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
        let dropped =
            values.iter().filter(|value| **value == 0.0).count() as f64 / values.len() as f64;
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
        assert!(
            (dropped - 0.3).abs() < 0.005 && (mean - 1.0).abs() < 0.01,
            "{dropped} {mean}"
        );
        let gradients = y.sum_all().unwrap().backward().unwrap();
        let gradient: Vec<f32> = gradients
            .get(&x)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        assert_eq!(gradient, values);
        assert_eq!(
            dropout
                .mask(&x)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap(),
            values
        );
        let other = Dropout::draw(0.3, Mode::Train, &mut random)
            .forward(&x)
            .unwrap();
        assert_ne!(
            other.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            values
        );
        assert_ne!(values[..2001], values[2001..4002]);
    }

    #[test]
    fn evaluation_and_a_rate_of_zero_draw_nothing() {
        let mut random = Random::new(1, "test");
        assert!(Dropout::draw(0.5, Mode::Evaluate, &mut random).is_none());
        assert!(Dropout::draw(0.0, Mode::Train, &mut random).is_none());
        assert_eq!(random, Random::new(1, "test"));
        let mut factors = [0.0; 3];
        Dropout::NONE.fill(5, &mut factors);
        assert_eq!(factors, [1.0; 3]);
    }
}
