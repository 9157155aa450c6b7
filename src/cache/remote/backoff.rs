//! How long to wait before a request is tried again: twice as long each time, up to a limit, and never the same for two
//! that failed together, so that a server that comes back is not met by all at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Before the first retry, at most.
const FIRST: Duration = Duration::from_millis(100);

/// Before any retry, at most.
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses of one request.
#[derive(Debug)]
pub(super) struct Backoff {
    state: u64,
}

impl Backoff {
    /// Pauses that differ from those of every other request. They decide when something is asked, never what comes of it.
    pub fn new() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let place = std::ptr::from_ref(&since) as usize as u64;
        Self::seeded(
            u64::from(since.subsec_nanos())
                ^ since.as_secs().rotate_left(32)
                ^ place.rotate_left(17),
        )
    }

    fn seeded(state: u64) -> Self {
        Self { state }
    }

    /// The pause after so many failures, from half of the longest that is due to all of it.
    pub fn pause(&mut self, failures: u32) -> Duration {
        let due = FIRST
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
            .min(LONGEST);
        due.mul_f64(0.5 + 0.5 * self.fraction())
    }

    /// From 0 to 1 (Steele et al., `SplitMix64`).
    fn fraction(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let mut backoff = Backoff::seeded(7);
        for failures in 1..40 {
            let due = FIRST
                .saturating_mul(1 << (failures - 1).min(16))
                .min(LONGEST);
            let pause = backoff.pause(failures);
            assert!(
                pause >= due / 2 && pause <= due,
                "{pause:?} after {failures} failures"
            );
        }
        let first: Vec<Duration> = (0..8).map(|seed| Backoff::seeded(seed).pause(5)).collect();
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "{first:?}");
    }
}
