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
        if self.shape == 0.0 {
            -self.scale * log
        } else {
            self.scale / self.shape * libm::expm1(-self.shape * log)
        }
    }

    fn exponential(excesses: &[f64]) -> Self {
        let count = excesses.len() as f64;
        let mean = excesses.iter().sum::<f64>() / count;
        Self {
            shape: 0.0,
            scale: mean,
            log_likelihood: -count * (1.0 + libm::log(mean)),
        }
    }

    /// The likelier of two; `other` may have none, where its ratio was not a root.
    fn likelier(self, other: Self) -> Self {
        let is_likelier =
            other.log_likelihood.is_finite() && other.log_likelihood > self.log_likelihood;
        if is_likelier { other } else { self }
    }

    /// The tail whose ratio of shape to scale solves the likelihood equation.
    fn at_root(ratio: f64, excesses: &[f64]) -> Self {
        let count = excesses.len() as f64;
        let logarithms = excesses.iter().map(|excess| libm::log1p(ratio * excess));
        let shape = logarithms.sum::<f64>() / count;
        let scale = shape / ratio;
        Self {
            shape,
            scale,
            log_likelihood: -count * (libm::log(scale) + shape + 1.0),
        }
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
    let mut best = Tail::exponential(excesses);
    let upper = 2.0 * (mean - lowest) / (lowest * lowest);
    let lower = match search {
        Search::Full => NEAREST / mean,
        Search::Siffer => 2.0 * (mean - lowest) / (mean * lowest),
    };
    let mut ratios = roots(excesses, &negative_grid(highest));
    ratios.extend(roots(excesses, &positive_grid(lower, upper)));
    for ratio in ratios {
        best = best.likelier(Tail::at_root(ratio, excesses));
    }
    best
}

/// The tail of somewhat more excesses than those that `tail` was fitted to: the root of the likelihood equation is
/// followed, which is much faster than the search. `None` if it got lost.
pub fn follow(tail: &Tail, excesses: &[f64]) -> Option<Tail> {
    let exponential = Tail::exponential(excesses);
    if tail.shape == 0.0 {
        return Some(exponential);
    }
    let ratio = tail.shape / tail.scale;
    let highest = excesses.iter().copied().fold(0.0, f64::max);
    for reach in [1.001, 1.01, 1.1] {
        let (near, far) = (ratio / reach, ratio * reach);
        // Below -1, the logarithm of the highest excess does not exist.
        let is_inside = near * highest > -1.0 && far * highest > -1.0;
        if is_inside && is_negative(near, excesses) != is_negative(far, excesses) {
            let followed = Tail::at_root(false_position(excesses, near, far), excesses);
            return Some(exponential.likelier(followed));
        }
    }
    None
}

/// Whether the likelihood equation is negative at this ratio: a root lies where that changes.
fn is_negative(ratio: f64, excesses: &[f64]) -> bool {
    equation(ratio, excesses).is_sign_negative()
}

/// The root between two ratios with values of different sign (Illinois variant of the false position).
fn false_position(excesses: &[f64], mut low: f64, mut high: f64) -> f64 {
    let (mut at_low, mut at_high) = (equation(low, excesses), equation(high, excesses));
    for _ in 0..60 {
        let middle = (low * at_high - high * at_low) / (at_high - at_low);
        if !middle.is_finite() || (high - low).abs() <= 1e-12 * middle.abs() {
            break;
        }
        let value = equation(middle, excesses);
        if value == 0.0 {
            return middle;
        }
        if value.is_sign_negative() == at_high.is_sign_negative() {
            at_low /= 2.0;
        } else {
            (low, at_low) = (high, at_high);
        }
        (high, at_high) = (middle, value);
        if at_high.abs() <= 1e-14 {
            break;
        }
    }
    high
}

const GRID: usize = 400;
/// How near to 0, which is always a root, the search goes, relative to the scale of the excesses.
const NEAREST: f64 = 1e-5;

/// From just above `-1 / highest` to just below 0, dense at both ends.
fn negative_grid(highest: f64) -> Vec<f64> {
    let reach = -libm::log(NEAREST);
    let mut grid = Vec::with_capacity(GRID + 1);
    for step in 0..=GRID {
        let at = reach - 2.0 * reach * step as f64 / GRID as f64;
        grid.push(-1.0 / (highest * (1.0 + libm::exp(-at))));
    }
    grid
}

/// From the lower bound to Grimshaw's upper bound, in equal ratios.
fn positive_grid(lower: f64, upper: f64) -> Vec<f64> {
    if !(upper.is_finite() && lower > 0.0 && upper > lower) {
        return Vec::new();
    }
    let spread = libm::log(upper / lower);
    (0..=GRID)
        .map(|step| lower * libm::exp(spread * step as f64 / GRID as f64))
        .collect()
}

/// The zeros of the likelihood equation between neighbours of the grid.
fn roots(excesses: &[f64], grid: &[f64]) -> Vec<f64> {
    let negative: Vec<bool> = grid
        .iter()
        .map(|ratio| is_negative(*ratio, excesses))
        .collect();
    let mut roots = Vec::new();
    for at in 1..grid.len() {
        if negative[at - 1] != negative[at] {
            roots.push(bisect(excesses, grid[at - 1], grid[at]));
        }
    }
    roots
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
    let negative_at_low = is_negative(low, excesses);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if is_negative(middle, excesses) == negative_at_low {
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
    use contract::Random;

    #[test]
    fn finds_the_parameters_of_samples() {
        let mut random = Random::new(3, "pareto");
        for (shape, scale) in [(0.3, 2.0), (-0.3, 0.01), (0.0, 50.0), (0.8, 1.0)] {
            let tail = Tail {
                shape,
                scale,
                log_likelihood: 0.0,
            };
            let excesses: Vec<f64> = (0..20_000)
                .map(|_| tail.excess_at(1.0 - random.uniform()).max(1e-12))
                .collect();
            let fit = fit(&excesses, Search::Full);
            assert!((fit.shape - shape).abs() < 0.03, "{fit:?}");
            assert!((fit.scale / scale - 1.0).abs() < 0.04, "{fit:?}");
        }
    }

    #[test]
    fn following_finds_what_searching_finds() {
        let mut random = Random::new(3, "pareto");
        for (shape, scale) in [(0.4, 2.0), (-0.3, 0.01)] {
            let tail = Tail {
                shape,
                scale,
                log_likelihood: 0.0,
            };
            let excesses: Vec<f64> = (0..600)
                .map(|_| tail.excess_at(1.0 - random.uniform()).max(1e-12))
                .collect();
            let before = fit(&excesses[..590], Search::Full);
            let (followed, searched) = (
                follow(&before, &excesses).unwrap(),
                fit(&excesses, Search::Full),
            );
            assert!(
                (followed.shape - searched.shape).abs() < 1e-9,
                "{followed:?} {searched:?}"
            );
            assert!(
                (followed.scale / searched.scale - 1.0).abs() < 1e-9,
                "{followed:?} {searched:?}"
            );
        }
    }

    #[test]
    fn does_not_depend_on_the_unit() {
        let excesses: Vec<f64> = (1..40).map(|i| f64::from(i * i) * 0.01).collect();
        let scaled: Vec<f64> = excesses.iter().map(|excess| excess * 1e-4).collect();
        let (one, other) = (fit(&excesses, Search::Full), fit(&scaled, Search::Full));
        assert!(
            (one.shape - other.shape).abs() < 1e-9
                && (one.scale * 1e-4 / other.scale - 1.0).abs() < 1e-9
        );
    }
}
