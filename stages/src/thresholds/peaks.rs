//! The generalised Pareto distribution of excesses, fitted by maximum likelihood with Grimshaw's reduction to one
//! unknown (Grimshaw, Technometrics 1993; as in Siffer et al., KDD 2017, section 4.3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fitted tail.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    /// 0 for an exponential tail, above for a heavier one, below for one that ends.
    pub shape: f64,
    pub scale: f64,
    pub log_likelihood: f64,
}

impl Tail {
    /// The excess that is exceeded with this probability.
    pub fn excess_at(&self, probability: f64) -> f64 {
        let log = libm::log(probability);
        if self.shape == 0.0 { -self.scale * log } else { self.scale / self.shape * libm::expm1(-self.shape * log) }
    }

    fn exponential(mean: f64, count: f64) -> Self {
        Self { shape: 0.0, scale: mean, log_likelihood: -count * (1.0 + libm::log(mean)) }
    }

    /// The tail whose ratio of shape to scale solves the likelihood equation.
    fn at_root(ratio: f64, excesses: &[f64]) -> Self {
        let count = excesses.len() as f64;
        let shape = excesses.iter().map(|excess| libm::log1p(ratio * excess)).sum::<f64>() / count;
        let scale = shape / ratio;
        Self { shape, scale, log_likelihood: -count * (libm::log(scale) + shape + 1.0) }
    }
}

/// Where the likelihood equation is searched for positive roots, which stand for heavy tails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Search {
    /// Everywhere: the true maximum of the likelihood.
    #[default]
    Full,
    /// Only above the lower bound that Siffer et al. give. It misses heavy tails when the smallest excess is small, so
    /// that these are taken for exponential ones.
    Siffer,
}

/// The likeliest among the exponential tail and the roots of the likelihood equation. Excesses are above 0.
pub fn fit(excesses: &[f64], search: Search) -> Tail {
    let count = excesses.len() as f64;
    let mean = excesses.iter().sum::<f64>() / count;
    let lowest = excesses.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = excesses.iter().copied().fold(0.0, f64::max);
    let mut best = Tail::exponential(mean, count);
    let upper = 2.0 * (mean - lowest) / (lowest * lowest);
    let lower = match search {
        Search::Full => NEAREST / mean,
        Search::Siffer => 2.0 * (mean - lowest) / (mean * lowest),
    };
    let (negative, positive) = (negative_grid(highest), positive_grid(lower, upper));
    for ratio in roots(excesses, &negative).into_iter().chain(roots(excesses, &positive)) {
        let tail = Tail::at_root(ratio, excesses);
        if tail.log_likelihood.is_finite() && tail.log_likelihood > best.log_likelihood {
            best = tail;
        }
    }
    best
}

const GRID: usize = 400;
/// How near to 0, which is always a root, the search goes, relative to the scale of the excesses.
const NEAREST: f64 = 1e-5;

/// From just above `-1 / highest` to just below 0, dense at both ends.
fn negative_grid(highest: f64) -> Vec<f64> {
    let reach = -libm::log(NEAREST);
    let at = |step: usize| reach - 2.0 * reach * step as f64 / GRID as f64;
    (0..=GRID).map(|step| -1.0 / (highest * (1.0 + libm::exp(-at(step))))).collect()
}

/// From the lower bound to Grimshaw's upper bound, in equal ratios.
fn positive_grid(lower: f64, upper: f64) -> Vec<f64> {
    if !(upper.is_finite() && lower > 0.0 && upper > lower) {
        return Vec::new();
    }
    let spread = libm::log(upper / lower);
    (0..=GRID).map(|step| lower * libm::exp(spread * step as f64 / GRID as f64)).collect()
}

/// The zeros of the likelihood equation between neighbours of the grid.
fn roots(excesses: &[f64], grid: &[f64]) -> Vec<f64> {
    let values: Vec<f64> = grid.iter().map(|ratio| equation(*ratio, excesses)).collect();
    let changes = (1..grid.len()).filter(|at| values[at - 1].is_sign_negative() != values[*at].is_sign_negative());
    changes.map(|at| bisect(excesses, grid[at - 1], grid[at])).collect()
}

/// `u(x) v(x) - 1` with `u` the mean of `1 / (1 + x y)` and `v = 1 +` the mean of `log(1 + x y)`.
fn equation(ratio: f64, excesses: &[f64]) -> f64 {
    let count = excesses.len() as f64;
    let (mut inverse, mut logarithm) = (0.0, 0.0);
    for excess in excesses {
        inverse += 1.0 / (1.0 + ratio * excess);
        logarithm += libm::log1p(ratio * excess);
    }
    inverse / count * (1.0 + logarithm / count) - 1.0
}

fn bisect(excesses: &[f64], mut low: f64, mut high: f64) -> f64 {
    let negative_at_low = equation(low, excesses).is_sign_negative();
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if equation(middle, excesses).is_sign_negative() == negative_at_low {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Random;

    #[test]
    fn finds_the_parameters_of_samples() {
        let mut random = Random::new(3, "pareto");
        for (shape, scale) in [(0.3, 2.0), (-0.3, 0.01), (0.0, 50.0), (0.8, 1.0)] {
            let tail = Tail { shape, scale, log_likelihood: 0.0 };
            let excesses: Vec<f64> = (0..20_000).map(|_| tail.excess_at(1.0 - random.uniform()).max(1e-12)).collect();
            let fit = fit(&excesses, Search::Full);
            assert!((fit.shape - shape).abs() < 0.03, "{fit:?}");
            assert!((fit.scale / scale - 1.0).abs() < 0.04, "{fit:?}");
        }
    }

    #[test]
    fn does_not_depend_on_the_unit() {
        let excesses: Vec<f64> = (1..40).map(|i| f64::from(i * i) * 0.01).collect();
        let scaled: Vec<f64> = excesses.iter().map(|excess| excess * 1e-4).collect();
        let (one, other) = (fit(&excesses, Search::Full), fit(&scaled, Search::Full));
        assert!((one.shape - other.shape).abs() < 1e-9 && (one.scale * 1e-4 / other.scale - 1.0).abs() < 1e-9);
    }
}
