//! The tail of the scores above an initial threshold, and the threshold of a given risk that follows from it. The tail
//! can grow: that is the state of the streaming methods (Siffer et al., KDD 2017, sections 4.2 to 4.4).

use super::peaks::{self, Search};
use contract::{Fault, Trouble};

/// The probability that a normal score exceeds the threshold.
pub fn default_risk() -> f64 {
    1e-3
}

/// The share of scores in the tail.
pub fn default_level() -> f64 {
    0.02
}

/// Fewer peaks do not tell the two parameters of the tail.
const FEWEST_PEAKS: usize = 5;

/// The tail is fitted again when the peaks have grown by this share: at each peak while they are few.
const REFIT_SHARE: f64 = 1.0 / 512.0;
/// The likelihood is searched again, and not only followed, when the peaks have grown by this share.
const SEARCH_SHARE: f64 = 0.1;

/// What the schema cannot say of a risk and a level.
///
/// # Errors
/// If the risk is not below the level.
pub fn check(risk: f64, level: f64) -> Result<(), Fault> {
    if risk < level {
        return Ok(());
    }
    let reason = format!("must be below the `level` {level}, not {risk}");
    Err(Fault::new("risk", reason))
}

/// The score that starts the tail, and by how much the scores above exceed it.
pub fn split(mut scores: Vec<f64>, level: f64) -> (f64, Vec<f64>) {
    scores.sort_unstable_by(f64::total_cmp);
    let rank = ((1.0 - level) * scores.len() as f64) as usize;
    let initial = scores[rank.min(scores.len() - 1)];
    scores.retain(|score| *score > initial);
    for score in &mut scores {
        *score -= initial;
    }
    (initial, scores)
}

/// A fitted tail of all scores seen so far.
#[derive(Clone, Debug)]
pub struct Tail {
    /// Scores above it are peaks.
    pub initial: f64,
    excesses: Vec<f64>,
    /// All scores that were seen, those above the threshold excepted.
    count: usize,
    search: Search,
    fit: peaks::Tail,
    /// The number of peaks when the tail was fitted, and when the likelihood was searched.
    fitted_at: usize,
    searched_at: usize,
}

impl Tail {
    /// The tail of these scores, of which there is at least one.
    ///
    /// # Errors
    /// If too few scores lie above the initial threshold.
    pub fn calibrated(scores: Vec<f64>, level: f64, search: Search) -> Result<Self, Trouble> {
        let count = scores.len();
        let (initial, excesses) = split(scores, level);
        let peaks = excesses.len();
        if peaks < FEWEST_PEAKS {
            let message = format!(
                "only {peaks} of {count} scores lie above the initial threshold {initial}; a tail takes at least {FEWEST_PEAKS}"
            );
            return Err(
                Trouble::new(message).hint("raise `level`, or learn the threshold over more rows")
            );
        }
        let fit = peaks::fit(&excesses, search);
        Ok(Self {
            initial,
            excesses,
            count,
            search,
            fit,
            fitted_at: peaks,
            searched_at: peaks,
        })
    }

    /// The score that is exceeded with probability `risk`.
    pub fn threshold(&self, risk: f64) -> f64 {
        let exceeded = risk * self.count as f64 / self.excesses.len() as f64;
        self.initial + self.fit.excess_at(exceeded)
    }

    /// Takes in a score that is not an alarm. Whether it is a peak, so that the threshold changes.
    pub fn take(&mut self, score: f64) -> bool {
        self.count += 1;
        if score <= self.initial {
            return false;
        }
        self.excesses.push(score - self.initial);
        let peaks = self.excesses.len();
        if peaks as f64 >= self.searched_at as f64 * (1.0 + SEARCH_SHARE) {
            self.fit = peaks::fit(&self.excesses, self.search);
            self.searched_at = peaks;
            self.fitted_at = peaks;
        } else if peaks as f64 >= self.fitted_at as f64 * (1.0 + REFIT_SHARE) {
            self.fit = peaks::follow(&self.fit, &self.excesses)
                .unwrap_or_else(|| peaks::fit(&self.excesses, self.search));
            self.fitted_at = peaks;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Random;

    #[test]
    fn a_tail_that_grew_is_that_of_all_scores() {
        let mut random = Random::new(4, "scores");
        let mut draw = |count: usize| -> Vec<f64> {
            (0..count)
                .map(|_| -libm::log(1.0 - random.uniform()))
                .collect()
        };
        let (start, more) = (draw(2000), draw(6000));
        let mut grown = Tail::calibrated(start, 0.05, Search::Full).unwrap();
        more.iter().for_each(|score| {
            grown.take(*score);
        });
        let refitted = peaks::fit(&grown.excesses, Search::Full);
        assert!(grown.excesses.len() > 300 && grown.count == 8000);
        // The last fit is at most a share of the peaks old.
        assert!(
            (grown.fit.shape - refitted.shape).abs() < 0.02,
            "{:?} {refitted:?}",
            grown.fit
        );
        assert!(
            (grown.fit.scale / refitted.scale - 1.0).abs() < 0.02,
            "{:?} {refitted:?}",
            grown.fit
        );
        assert!(
            (grown.threshold(1e-3) - 1000.0_f64.ln()).abs() < 0.6,
            "{}",
            grown.threshold(1e-3)
        );
    }
}
