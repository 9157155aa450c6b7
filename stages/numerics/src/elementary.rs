//! Exponential, logarithm and the normal distribution in 32 bits, written so that loops over them become vector code.
//! They give the same bits at every vector width and on every system, which the C library's do not.

/// 1.5 · 2²³: a float of moderate size is rounded to an integer by adding it, and the sum's low bits hold that integer.
const ROUNDER: f32 = 12_582_912.0;

/// ln 2 in two parts, of which the first has so few bits that its product with an exponent is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// eˣ, within 2 units in the last place for x in ±87. Below that it is 0, above that it stays at e⁸⁷; NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LIMIT: f32 = 87.0;
    let bounded = if x > LIMIT { LIMIT } else { x };
    let bounded = if bounded < -LIMIT { -LIMIT } else { bounded };
    let rounded = bounded * std::f32::consts::LOG2_E + ROUNDER;
    let power = rounded - ROUNDER;
    let rest = (bounded - power * LN_2[0]) - power * LN_2[1];
    // Taylor's series: |rest| is at most ln 2 / 2, where the first term left out is below 6e-9.
    let mut series = 1.0 / 5040.0;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        series = series * rest + coefficient;
    }
    let scale = f32::from_bits(
        rounded
            .to_bits()
            .wrapping_sub(ROUNDER.to_bits())
            .wrapping_add(127)
            << 23,
    );
    if x < -LIMIT { 0.0 } else { series * scale }
}

/// ln x, within 3 units in the last place, for normal positive numbers; anything else gives a meaningless number.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // Exponent and mantissa, the latter between √½ and √2.
    let bits = x.to_bits() as i32;
    let exponent = (bits - 0x3f35_04f3) >> 23;
    let mantissa = f32::from_bits((bits - (exponent << 23)) as u32);
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    // ln m = 2 artanh((m - 1) / (m + 1)); |ratio| is at most 0.172, where the first term left out is below 1e-9.
    let mut series = 2.0 / 9.0;
    for coefficient in [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0] {
        series = series * square + coefficient;
    }
    let power = exponent as f32;
    let small = ratio * square * series + power * LN_2[1];
    (ratio + ratio + small) + power * LN_2[0]
}

/// The standard normal distribution at `x`: the probability of a value below it, and the density.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    // The tail beyond |x| is e^(-x²/2) times a function that is smooth in 1 / (1 + 0.42 |x|). This is a polynomial
    // fitted to it by relative error, at most 4e-8 before rounding.
    const TAIL: [f32; 10] = [
        0.032_518_1,
        -0.161_045_92,
        0.296_037_3,
        -0.198_211_91,
        -0.038_275_845,
        0.024_399_623,
        0.069_676_16,
        0.139_995_7,
        0.167_341_93,
        0.167_564_91,
    ];
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let bell = exp(-0.5 * x * x);
    let place = 1.0 / (1.0 + 0.42 * x.abs());
    let mut series = 0.0;
    for coefficient in TAIL {
        series = series * place + coefficient;
    }
    let tail = bell * (series * place);
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    (below, DENSITY_AT_ZERO * bell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |step| from + (to - from) * (step as f32 / 200_000.0))
    }

    #[test]
    fn exponentials_are_exact_to_a_few_units_and_bounded() {
        for x in steps(-87.0, 87.0) {
            let expected = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) / expected - 1.0).abs() < 2.5e-7,
                "{x}: {} {expected}",
                exp(x)
            );
        }
        assert_eq!(
            (exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)),
            (1.0, 0.0, 0.0)
        );
        assert!(exp(f32::NAN).is_nan() && exp(f32::INFINITY) == exp(87.0));
    }

    #[test]
    fn logarithms_are_exact_to_a_few_units() {
        for x in steps(1e-4, 3.0)
            .chain(steps(1.0, 1e6))
            .chain([f32::MIN_POSITIVE, f32::MAX])
        {
            let expected = f64::from(x).ln();
            assert!(
                (f64::from(ln(x)) - expected).abs() <= 3e-7 * expected.abs(),
                "{x}: {} {expected}",
                ln(x)
            );
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn the_normal_distribution_agrees_with_the_error_function() {
        for x in steps(-9.0, 9.0) {
            let (below, density) = normal(x);
            let x = f64::from(x);
            let expected = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
            assert!(
                (f64::from(below) - expected).abs() < 2.5e-7,
                "{x}: {below} {expected}"
            );
            assert!(
                x > 0.0 || (f64::from(below) / expected - 1.0).abs() < 6e-6,
                "{x}: {below} {expected}"
            );
            let expected = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
            assert!(
                (f64::from(density) / expected - 1.0).abs() < 6e-6,
                "{x}: {density} {expected}"
            );
        }
        assert!(normal(f32::NAN).0.is_nan());
    }
}
