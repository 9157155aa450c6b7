//! Exponential, logistic function and hyperbolic tangent of sixteen values at a time, within two units in the last place or so.
//! The same bits at every level of vector instructions. Derivatives are written from the outputs where they are needed.

use super::elementwise::Lanes;

/// Adding it rounds to a whole number, which is then in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 as a number with few bits, whose small multiples are exact, and what it lacks.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// 1 / k! from 7 down to 2. On |r| ≤ ln(2) / 2 what follows is below 6e-9.
const INVERSE_FACTORIALS: [f32; 6] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
];
/// Where the power of two that is split off would leave the normal numbers.
const LARGEST: f32 = 87.6;

impl Lanes {
    /// `(2^n, e^r - 1)` with `e^x = 2^n e^r`. Large arguments count as ±[`LARGEST`]; a NaN stays one.
    #[inline(always)]
    fn split_exponential(self) -> (Self, Self) {
        let x = self
            .map(|x| if x > LARGEST { LARGEST } else { x })
            .map(|x| if x < -LARGEST { -LARGEST } else { x });
        let shifted = x * Self::splat(std::f32::consts::LOG2_E) + Self::splat(ROUND);
        let whole = shifted - Self::splat(ROUND);
        let rest = x - whole * Self::splat(LN_2_HIGH) - whole * Self::splat(LN_2_LOW);
        let mut series = Self::splat(INVERSE_FACTORIALS[0]);
        for coefficient in &INVERSE_FACTORIALS[1..] {
            series = series * rest + Self::splat(*coefficient);
        }
        let power = shifted
            .map(|shifted| f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000)));
        (power, rest + rest * rest * series)
    }

    /// `e^x`; at most about 1e38, at least about 1e-38.
    #[inline(always)]
    pub fn exp(self) -> Self {
        let (power, rest) = self.split_exponential();
        power + power * rest
    }

    /// `1 / (1 + e^-x)`.
    #[inline(always)]
    pub fn sigmoid(self) -> Self {
        Self::splat(1.0) / (Self::splat(1.0) + (Self::splat(0.0) - self).exp())
    }

    /// `(e^2x - 1) / (e^2x + 1)`, with all digits near 0 as well.
    #[inline(always)]
    pub fn tanh(self) -> Self {
        let (power, rest) = (self + self).split_exponential();
        let less_one = power * rest + (power - Self::splat(1.0));
        less_one / (less_one + Self::splat(2.0))
    }
}

#[cfg(test)]
mod tests {
    use crate::elementwise::{Lanes, lanes};
    use crate::simd::{Level, vectorised};

    vectorised! {
        fn evaluate(x: &[f32], which: usize, target: &mut [f32]) {
            for span in lanes(x.len()) {
                let value = Lanes::load(x, span);
                let value = if which == 0 { value.exp() } else if which == 1 { value.sigmoid() } else { value.tanh() };
                value.store(target, span);
            }
        }
    }

    #[test]
    fn agree_with_64_bits_everywhere_and_at_every_level() {
        let mut x: Vec<f32> = (-40_000..=40_000).map(|step| step as f32 * 1e-3).collect();
        x.extend([
            0.0,
            -0.0,
            1e-30,
            -1e-20,
            1e-6,
            85.0,
            -85.0,
            300.0,
            -300.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ]);
        let functions: [fn(f64) -> f64; 3] = [f64::exp, |x| 1.0 / (1.0 + (-x).exp()), f64::tanh];
        for (which, function) in functions.into_iter().enumerate() {
            let all: Vec<Vec<f32>> = Level::available()
                .into_iter()
                .map(|level| {
                    let mut found = vec![0.0; x.len()];
                    evaluate(level, &x, which, &mut found);
                    found
                })
                .collect();
            assert!(all.iter().all(|found| found == &all[0]));
            for (x, found) in x
                .iter()
                .zip(&all[0])
                .filter(|(x, _)| which != 0 || x.abs() < 87.0)
            {
                let expected = function(f64::from(*x));
                let scale = expected.abs().max(1e-30);
                assert!(
                    (f64::from(*found) - expected).abs() <= 4e-7 * scale,
                    "{which} {x}: {found} {expected}"
                );
            }
        }
        for which in 0..3 {
            let mut found = [0.0];
            evaluate(Level::detect(), &[f32::NAN], which, &mut found);
            assert!(found[0].is_nan());
        }
    }
}
