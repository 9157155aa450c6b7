//! Where the behaviour of a series changes: rows that lie well apart, drawn at random.

use contract::Random;

/// `count` rows in rising order, each at least a tenth of the series away from the next and from both ends.
pub(super) fn draw(rows: usize, count: usize, random: &mut Random) -> Vec<usize> {
    let gap = (rows / 10).max(2);
    let free = rows.saturating_sub((count + 1) * gap) as u64;
    let mut cuts: Vec<usize> = (0..count)
        .map(|_| random.below(free + 1) as usize)
        .collect();
    cuts.sort_unstable();
    for (index, cut) in cuts.iter_mut().enumerate() {
        *cut += (index + 1) * gap;
    }
    cuts
}

/// How many of the breaks lie at or before a row.
pub(super) fn passed(breaks: &[usize], row: usize) -> usize {
    breaks.iter().take_while(|start| **start <= row).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_lie_apart() {
        for seed in 0..200 {
            let breaks = draw(100, 3, &mut Random::new(seed, "breaks"));
            assert!(breaks[0] >= 10 && breaks[2] <= 90, "{breaks:?}");
            assert!(
                breaks.windows(2).all(|pair| pair[1] - pair[0] >= 10),
                "{breaks:?}"
            );
            assert_eq!(
                (passed(&breaks, breaks[1] - 1), passed(&breaks, breaks[1])),
                (1, 2)
            );
        }
    }
}
