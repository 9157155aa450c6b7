//! The local level model of one channel, y_t = μ_t + e_t with μ a random walk, by maximum likelihood (Durbin and Koopman,
//! chapter 2): the first observation starts the level, the scale of both variances is known in closed form, and what
//! remains is a search for their ratio.

/// Natural logarithms of the smallest and largest ratio of the level's variance to the irregular one.
const RATIOS: (f64, f64) = (-18.0, 8.0);
/// Ratios that are tried before the search narrows around the best.
const GRID: usize = 27;

/// The variances of a local level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalLevel {
    /// Of an observation around its level.
    pub irregular: f64,
    /// Of a step of the level.
    pub level: f64,
    /// Without the first observation of every section.
    pub log_likelihood: f64,
}

impl LocalLevel {
    /// The variances under which sections of a channel are most likely, at least `least` in all. `None` if there are no
    /// two rows in a row.
    pub fn fit(sections: &[Vec<f64>], least: f64) -> Option<Self> {
        if sections.iter().all(|section| section.len() < 2) {
            return None;
        }
        let concentrated =
            |ratio: f64| Concentrated::of(sections, libm::exp(ratio)).log_likelihood(least);
        let step = (RATIOS.1 - RATIOS.0) / (GRID - 1) as f64;
        let (mut best, mut most) = (RATIOS.0, f64::NEG_INFINITY);
        for index in 0..GRID {
            let point = RATIOS.0 + step * index as f64;
            let likelihood = concentrated(point);
            // The last of several equals, in the total order of floats.
            if likelihood.total_cmp(&most).is_ge() {
                (best, most) = (point, likelihood);
            }
        }
        let ratio = libm::exp(highest(best - step, best + step, concentrated));
        let found = Concentrated::of(sections, ratio);
        let scale = found.scale(least);
        Some(Self {
            irregular: scale,
            level: ratio * scale,
            log_likelihood: found.log_likelihood(least),
        })
    }
}

/// The likelihood for one ratio of the variances, all of it that the scale does not decide.
struct Concentrated {
    rows: f64,
    /// Σ v² / F and Σ ln F, with the irregular variance as unit.
    squares: f64,
    logarithms: f64,
}

impl Concentrated {
    fn of(sections: &[Vec<f64>], ratio: f64) -> Self {
        let mut sums = Self {
            rows: 0.0,
            squares: 0.0,
            logarithms: 0.0,
        };
        for section in sections {
            let Some((first, rest)) = section.split_first() else {
                continue;
            };
            // Nothing is known of the level before the first observation, which is therefore its estimate.
            let (mut level, mut variance) = (*first, 1.0 + ratio);
            for value in rest {
                let (error, spread) = (value - level, variance + 1.0);
                sums.rows += 1.0;
                sums.squares += error * error / spread;
                sums.logarithms += libm::log(spread);
                let gain = variance / spread;
                level += gain * error;
                variance = gain + ratio;
            }
        }
        sums
    }

    fn scale(&self, least: f64) -> f64 {
        (self.squares / self.rows).max(least)
    }

    fn log_likelihood(&self, least: f64) -> f64 {
        let scale = self.scale(least);
        let circle = libm::log(std::f64::consts::TAU * scale);
        -0.5 * (self.rows * circle + self.logarithms + self.squares / scale)
    }
}

/// Where a function with one hill is highest, by golden sections.
fn highest(mut low: f64, mut high: f64, function: impl Fn(f64) -> f64) -> f64 {
    const SECTION: f64 = 0.618_033_988_749_894_8;
    let (mut left, mut right) = (high - SECTION * (high - low), low + SECTION * (high - low));
    let (mut at_left, mut at_right) = (function(left), function(right));
    while high - low > 1e-6 {
        if at_left >= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - SECTION * (high - low);
            at_left = function(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + SECTION * (high - low);
            at_right = function(right);
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Matrix;
    use crate::statistics::state_space::StateSpace;
    use contract::Random;

    fn walk(rows: usize, level: f64, irregular: f64) -> Vec<f64> {
        let mut random = Random::new(2, "walk");
        let mut state = 3.0;
        let mut step = || {
            state += level * random.normal();
            state + irregular * random.normal()
        };
        (0..rows).map(|_| step()).collect()
    }

    #[test]
    fn the_variances_put_in_come_out() {
        let sections = [walk(4000, 0.5, 1.0), walk(50, 0.5, 1.0)];
        let found = LocalLevel::fit(&sections, 0.0).unwrap();
        assert!(
            (found.irregular - 1.0).abs() < 0.1 && (found.level / 0.25 - 1.0).abs() < 0.2,
            "{found:?}"
        );
    }

    #[test]
    fn likelihood_agrees_with_the_general_filter() {
        let section = walk(60, 0.5, 1.0);
        let found = LocalLevel::fit(std::slice::from_ref(&section), 0.0).unwrap();
        let one = |value: f64| Matrix::diagonal(&[value]);
        let model = StateSpace {
            observation: one(1.0),
            observation_intercept: vec![0.0],
            observation_noise: one(found.irregular),
            transition: one(1.0),
            state_intercept: vec![0.0],
            state_noise: one(found.level),
            initial_mean: vec![section[0]],
            initial_covariance: one(found.irregular + found.level),
        };
        let expected = model
            .filter(&Matrix::new(59, 1, section[1..].to_vec()))
            .unwrap()
            .log_likelihood();
        assert!((found.log_likelihood / expected - 1.0).abs() < 1e-10);
        for (irregular, level) in [(1.05, 1.0), (1.0, 1.05), (0.95, 1.0), (1.0, 0.95)] {
            let nearby = StateSpace {
                observation_noise: one(found.irregular * irregular),
                state_noise: one(found.level * level),
                initial_covariance: one(found.irregular * irregular + found.level * level),
                ..model.clone()
            };
            let other = nearby
                .filter(&Matrix::new(59, 1, section[1..].to_vec()))
                .unwrap()
                .log_likelihood();
            assert!(other < expected);
        }
    }

    #[test]
    fn channels_at_rest_get_the_least_variance() {
        let found = LocalLevel::fit(&[vec![2.0; 30]], 1e-6).unwrap();
        assert_eq!(found.irregular, 1e-6);
        assert!(found.log_likelihood.is_finite());
        assert!(LocalLevel::fit(&[vec![1.0]], 1e-6).is_none());
    }
}
