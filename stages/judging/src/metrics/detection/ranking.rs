//! The rows by falling score, sorted once, and the places where the score changes.

use rayon::prelude::*;

/// A permutation of the rows by falling score; equal scores by row.
#[derive(Clone, Debug)]
pub struct Ranking {
    pub rows: Vec<u32>,
    /// How many rows have at least the score of the k-th distinct score, for all k: rising, ends with all rows.
    pub cuts: Vec<u32>,
}

impl Ranking {
    /// Ranks finite scores; the caller has made sure that rows fit into 32 bits.
    pub fn new(scores: &[f64]) -> Self {
        let mut pairs = Vec::with_capacity(scores.len());
        for (row, score) in scores.iter().enumerate() {
            pairs.push((falling_key(*score), row as u32));
        }
        // The row in the key makes the order one, however the threads share the work.
        pairs.par_sort_unstable();
        let mut cuts = Vec::new();
        for (at, (key, _)) in pairs.iter().enumerate() {
            if pairs.get(at + 1).is_none_or(|(next, _)| next != key) {
                cuts.push(at as u32 + 1);
            }
        }
        let rows = pairs.into_iter().map(|(_, row)| row).collect();
        Self { rows, cuts }
    }

    /// The rows of each distinct score, the highest first.
    pub fn ties(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.cuts.iter().map(move |cut| {
            let rows = &self.rows[start..*cut as usize];
            start = *cut as usize;
            rows
        })
    }

    /// A threshold above which lie exactly the first `count` rows; `count` is one of the cuts.
    pub fn threshold_below(&self, scores: &[f64], count: usize) -> f64 {
        let lowest_alarm = scores[self.rows[count - 1] as usize];
        let Some(next) = self.rows.get(count) else {
            return lowest_alarm.next_down();
        };
        let highest_rest = scores[*next as usize];
        let middle = highest_rest / 2.0 + lowest_alarm / 2.0;
        if middle > highest_rest && middle < lowest_alarm {
            middle
        } else {
            highest_rest
        }
    }
}

/// A key that rises as the score falls. Both zeros have one key.
fn falling_key(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    let rising = if bits >> 63 == 1 {
        !bits
    } else {
        bits | (1 << 63)
    };
    !rising
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn thresholds_cut_where_they_say(scores in prop::collection::vec(-3..3_i32, 1..40)) {
            let scores: Vec<f64> = scores.into_iter().map(|score| f64::from(score) * 0.1).collect();
            let ranking = Ranking::new(&scores);
            prop_assert!(ranking.rows.windows(2).all(|pair| scores[pair[0] as usize] >= scores[pair[1] as usize]));
            for cut in &ranking.cuts {
                let threshold = ranking.threshold_below(&scores, *cut as usize);
                prop_assert_eq!(scores.iter().filter(|score| **score > threshold).count(), *cut as usize);
            }
        }
    }
}
