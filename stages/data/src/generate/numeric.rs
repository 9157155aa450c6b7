//! Sine and normal deviates from additions, multiplications, divisions and square roots alone.
//! The standard library's `sin` and `ln` differ between platforms in the last bit; these do not.

use contract::Random;

/// The sine of an angle given in turns: `sine(0.25)` is 1. Off by less than 1e-9.
pub(super) fn sine(turns: f64) -> f64 {
    // To [-0.5, 0.5), then to the quarter around 0 by symmetry.
    let turn = turns - (turns + 0.5).floor();
    let folded = if turn > 0.25 {
        0.5 - turn
    } else if turn < -0.25 {
        -0.5 - turn
    } else {
        turn
    };
    let angle = folded * std::f64::consts::TAU;
    let square = angle * angle;
    // The Taylor series; its next term is below 1e-9 for angles up to a quarter turn.
    let terms = [
        1.0 / 6_227_020_800.0,
        -1.0 / 39_916_800.0,
        1.0 / 362_880.0,
        -1.0 / 5_040.0,
        1.0 / 120.0,
        -1.0 / 6.0,
        1.0,
    ];
    angle * terms.iter().fold(0.0, |sum, term| sum * square + term)
}

/// The natural logarithm of a positive, normal number. Off by less than 1e-9 relative to 1.
fn logarithm(value: f64) -> f64 {
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // ln m = 2 artanh((m - 1) / (m + 1)), with m in [1, 2) and the argument below 1/3.
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = (0..10).rev().fold(0.0, |sum, index| {
        sum * square + 1.0 / f64::from(2 * index + 1)
    });
    2.0 * ratio * series + exponent as f64 * std::f64::consts::LN_2
}

/// A standard normal deviate (Marsaglia's polar method, 1964; one of the pair).
pub(super) fn normal(random: &mut Random) -> f64 {
    loop {
        let (x, y) = (random.range(-1.0, 1.0), random.range(-1.0, 1.0));
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * logarithm(square) / square).sqrt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for step in -5000..5000 {
            let turns = f64::from(step) * 0.000_731;
            assert!(
                (sine(turns) - (turns * std::f64::consts::TAU).sin()).abs() < 1e-9,
                "{turns}"
            );
        }
        for step in 1..5000 {
            let value = f64::from(step) * 0.013;
            assert!((logarithm(value) - value.ln()).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn deviates_have_the_moments_of_the_normal_distribution() {
        let mut random = Random::new(3, "test");
        let draws: Vec<f64> = (0..200_000).map(|_| normal(&mut random)).collect();
        let moment = |power: i32| draws.iter().map(|draw| draw.powi(power)).sum::<f64>() / 2e5;
        assert!(
            moment(1).abs() < 0.01
                && (moment(2) - 1.0).abs() < 0.02
                && (moment(4) - 3.0).abs() < 0.1
        );
    }
}
