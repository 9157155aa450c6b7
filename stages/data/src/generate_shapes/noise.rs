//! Stationary noise below all kinds of series: white, autoregressive, moving average, or both. Additions,
//! multiplications, square roots and `libm` alone, so that the bits are the same on every machine.

use contract::Random;

/// Rows that a process runs before it is looked at, so that its start is forgotten.
const WARM_UP: usize = 100;

/// A standard normal deviate (Marsaglia's polar method, 1964; one of the pair).
pub(super) fn normal(random: &mut Random) -> f64 {
    loop {
        let (x, y) = (random.range(-1.0, 1.0), random.range(-1.0, 1.0));
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * libm::log(square) / square).sqrt();
        }
    }
}

/// One of two signs.
pub(super) fn sign(random: &mut Random) -> f64 {
    if random.below(2) == 0 { -1.0 } else { 1.0 }
}

/// Stationary noise of mean 0 and standard deviation 1 with randomly drawn memory, at most two steps of it either way.
pub(super) fn stationary(rows: usize, random: &mut Random) -> Vec<f64> {
    let autoregressive = random.below(2) == 0;
    let moving = random.below(2) == 0;
    let phi = if autoregressive {
        partial(random)
    } else {
        [0.0; 2]
    };
    let theta = if moving {
        [random.range(-0.6, 0.6), random.range(-0.3, 0.3)]
    } else {
        [0.0; 2]
    };
    let (mut before, mut shocks) = ([0.0; 2], [0.0; 2]);
    let mut values = Vec::with_capacity(WARM_UP + rows);
    for _ in 0..WARM_UP + rows {
        let shock = normal(random);
        let value = phi[0] * before[0]
            + phi[1] * before[1]
            + shock
            + theta[0] * shocks[0]
            + theta[1] * shocks[1];
        before = [value, before[0]];
        shocks = [shock, shocks[0]];
        values.push(value);
    }
    standardised(values.split_off(WARM_UP))
}

/// Coefficients of a stationary second-order process by its partial autocorrelations (Barndorff-Nielsen and Schou, 1973).
fn partial(random: &mut Random) -> [f64; 2] {
    let (first, second) = (random.range(-0.5, 0.7), random.range(-0.4, 0.4));
    [first * (1.0 - second), second]
}

/// The values with mean 0 and standard deviation 1.
pub(super) fn standardised(mut values: Vec<f64>) -> Vec<f64> {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean) * (value - mean));
    let variance = squares.sum::<f64>() / count;
    let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    for value in &mut values {
        *value = (*value - mean) / deviation;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_standardised_and_does_not_wander_off() {
        for seed in 0..50 {
            let values = stationary(2000, &mut Random::new(seed, "noise"));
            let mean = values.iter().sum::<f64>() / 2000.0;
            let variance = values.iter().map(|value| value * value).sum::<f64>() / 2000.0;
            assert!(mean.abs() < 1e-9 && (variance - 1.0).abs() < 1e-9);
            let half = values[..1000].iter().sum::<f64>() / 1000.0;
            assert!(half.abs() < 0.4, "seed {seed}: {half}");
        }
    }
}
